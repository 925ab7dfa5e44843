"""Messages of the modes that run only when a caller asks for them (PROTOCOL.md §8.11 to §8.13).

    pull    PullInit PullMore   ->    Ids        the ids of records that a filter takes
    get     GetInit GetMore     ->    Records    records by name
    put     PutInit             ->    Heads      then Offers and Put, as in records.py
"""

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class RecordId:
    """A version, named by its record (author, name) and its own id, as a part of Ids."""

    author: bytes
    name: str
    version: bytes


@dataclass(frozen=True, slots=True)
class RecordRequest:
    """A record by its leaf key, as a part of GetInit and GetMore: one version of it, or all heads for None."""

    key: bytes
    version: bytes | None


@dataclass(frozen=True, slots=True)
class PullInit:
    """Opens `pull`: asks for ids of what `filter` takes, from behind the seq `after` in the responder's log."""

    code: ClassVar[int] = 72
    version: tuple[int, int]
    context: str
    filter: dict[int, Any]
    after: int


@dataclass(frozen=True, slots=True)
class PullMore:
    """Asks for the next page of ids, from behind `after`."""

    code: ClassVar[int] = 73
    after: int


@dataclass(frozen=True, slots=True)
class Ids:
    """A page of ids in log order. `after` is the last seq that the responder looked at.

    A page may be empty before the last one: the responder looks at a bounded piece of its log for each.
    """

    code: ClassVar[int] = 74
    ids: tuple[RecordId, ...]
    after: int
    is_last: bool


@dataclass(frozen=True, slots=True)
class GetInit:
    """Opens `get`. The answer is Records."""

    code: ClassVar[int] = 76
    version: tuple[int, int]
    context: str
    wanted: tuple[RecordRequest, ...]


@dataclass(frozen=True, slots=True)
class GetMore:
    """Asks for more records."""

    code: ClassVar[int] = 77
    wanted: tuple[RecordRequest, ...]


@dataclass(frozen=True, slots=True)
class PutInit:
    """Opens `put` with the first leaves offered (see `Offers`)."""

    code: ClassVar[int] = 80
    version: tuple[int, int]
    context: str
    leaves: tuple[tuple[bytes, bytes], ...]
