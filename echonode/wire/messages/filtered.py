"""Messages by which a node says what it wants and from whom (PROTOCOL.md §8.10 on). A part of `messages`, which names
them.

    reconcile   ReconcileInit  Reconcile  Want             the differences of two filtered sets, and the records
    offers      Offers  Heads                              leaves the sender holds, and what the receiver makes of them
    pull        PullInit  PullMore  Ids                    which versions there are
    get         GetInit  GetMore                           these versions; answered by Records
    put         PutInit                                    take these, if you will; then Offers, Put
"""

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class RecordId:
    """A version, by the record it is of and its own id."""

    author: bytes
    name: str
    version: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """A record by its leaf key; one version of it, or all heads when `version` is None."""

    key: bytes
    version: bytes | None


@dataclass(frozen=True, slots=True)
class ReconcileInit:
    """Opens `reconcile` about what `filter` takes. `message` is the first one of the Negentropy protocol."""

    code: ClassVar[int] = 64
    version: tuple[int, int]
    context: str
    direction: int
    filter: dict[int, Any]
    message: bytes


@dataclass(frozen=True, slots=True)
class Reconcile:
    """The next message of the Negentropy protocol, either way."""

    code: ClassVar[int] = 65
    message: bytes


@dataclass(frozen=True, slots=True)
class Want:
    """Asks for these versions; the answer is Records, without those that are no heads any more."""

    code: ClassVar[int] = 66
    versions: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Offers:
    """Leaves the sender holds, in key order: the key and the first 16 bytes of the state of each."""

    code: ClassVar[int] = 67
    leaves: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Heads:
    """Of the leaves offered: by number those of which the sender holds nothing, and all heads of those that differ. May
    take several messages; all but the last have `more` set."""

    code: ClassVar[int] = 68
    lacking: tuple[int, ...]
    records: tuple[bytes, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class PullInit:
    """Opens `pull`: ids of what `filter` takes, from behind `after` in the responder's log."""

    code: ClassVar[int] = 72
    version: tuple[int, int]
    context: str
    filter: dict[int, Any]
    after: int


@dataclass(frozen=True, slots=True)
class PullMore:
    """The next page, from behind `after`."""

    code: ClassVar[int] = 73
    after: int


@dataclass(frozen=True, slots=True)
class Ids:
    """A page of ids in log order, and how far the log was read for it. There may be none, and more to come."""

    code: ClassVar[int] = 74
    ids: tuple[RecordId, ...]
    after: int
    is_last: bool


@dataclass(frozen=True, slots=True)
class GetInit:
    """Opens `get`; the answer is Records."""

    code: ClassVar[int] = 76
    version: tuple[int, int]
    context: str
    wanted: tuple[Asked, ...]


@dataclass(frozen=True, slots=True)
class GetMore:
    """The next page of what is wanted."""

    code: ClassVar[int] = 77
    wanted: tuple[Asked, ...]


@dataclass(frozen=True, slots=True)
class PutInit:
    """Opens `put`, with the first leaves offered (see `Offers`)."""

    code: ClassVar[int] = 80
    version: tuple[int, int]
    context: str
    leaves: tuple[tuple[bytes, bytes], ...]
