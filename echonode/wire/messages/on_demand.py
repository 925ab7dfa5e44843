"""Messages of the modes that only a caller asks for: `pull`, `get` and `put` (PROTOCOL.md §8.11 to §8.13)."""

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class RecordId:
    """A version, by the record it is of and its own id."""

    author: bytes
    name: str
    version: bytes


@dataclass(frozen=True, slots=True)
class RecordRequest:
    """A record by its leaf key; one version of it, or all heads when `version` is None."""

    key: bytes
    version: bytes | None


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
    wanted: tuple[RecordRequest, ...]


@dataclass(frozen=True, slots=True)
class GetMore:
    """The next page of what is wanted."""

    code: ClassVar[int] = 77
    wanted: tuple[RecordRequest, ...]


@dataclass(frozen=True, slots=True)
class PutInit:
    """Opens `put`, with the first leaves offered (see `Offers`)."""

    code: ClassVar[int] = 80
    version: tuple[int, int]
    context: str
    leaves: tuple[tuple[bytes, bytes], ...]
