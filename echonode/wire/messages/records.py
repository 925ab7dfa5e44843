"""Messages that move records, in several modes (PROTOCOL.md §8.3, §8.4, §8.13)."""

from dataclasses import dataclass
from typing import ClassVar, Final

OFFERED_STATE_BYTES: Final = 16  # so many of the state of a leaf that is offered


@dataclass(frozen=True, slots=True)
class LeafRequest:
    """Leaves to fetch below `prefix`: those whose digests stand concatenated in `leaves`, or all of them when it is
    None; all of them starts behind the key `after`, when given."""

    prefix: bytes
    leaves: bytes | None
    after: bytes | None = None


@dataclass(frozen=True, slots=True)
class Fetch:
    """Asks for all heads of these leaves."""

    code: ClassVar[int] = 32
    wanted: tuple[LeafRequest, ...]


@dataclass(frozen=True, slots=True)
class Records:
    """Versions as received by the sender, and what of the request did not fit: ask for that next. An answer may take
    several messages; all but its last have `more` set and an empty `rest`."""

    code: ClassVar[int] = 33
    records: tuple[bytes, ...]
    rest: tuple[LeafRequest, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """A record that was offered and not taken."""

    version: bytes
    reason: int


@dataclass(frozen=True, slots=True)
class Put:
    """Versions the receiver lacks."""

    code: ClassVar[int] = 34
    records: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a Put: how many are heads now, how many were not new, and which were refused and why."""

    code: ClassVar[int] = 35
    stored: int
    had: int
    refused: tuple[Refusal, ...]


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
class Credit:
    """So many pages more may be sent."""

    code: ClassVar[int] = 25
    pages: int
