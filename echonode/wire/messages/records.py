"""Messages that move records in several modes (PROTOCOL.md §8.3, §8.4, §8.13).

    Fetch    ->    Records    heads of leaves that the initiator lacks
    Put      ->    Stored     heads of leaves that the responder lacks
    Offers   ->    Heads      leaves that the responder may lack, before they are put
    Credit   ->    Page or Changes    room for one message more
"""

from dataclasses import dataclass
from typing import ClassVar, Final

OFFERED_STATE_BYTES: Final = 16  # the part of a leaf's state that travels in an offer


@dataclass(frozen=True, slots=True)
class LeafRequest:
    """Leaves below `prefix`, as a part of Fetch and Records.

    `leaves` holds their digests, one behind the other; None means all leaves, or all behind the leaf key `after`.
    """

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
    """Versions as the sender received them, and in `rest` the part of the request that did not fit.

    An answer may take several messages: all but the last have `more` set and an empty `rest`.
    """

    code: ClassVar[int] = 33
    records: tuple[bytes, ...]
    rest: tuple[LeafRequest, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """A version that was put and refused, as a part of Stored."""

    version: bytes
    reason: int


@dataclass(frozen=True, slots=True)
class Put:
    """Versions that the receiver lacks."""

    code: ClassVar[int] = 34
    records: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """Answers Put: the number of versions that became heads, the number already known, and those refused."""

    code: ClassVar[int] = 35
    stored: int
    had: int
    refused: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class Offers:
    """Leaves of the sender in key order: the key and the first 16 bytes of the state of each."""

    code: ClassVar[int] = 67
    leaves: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Heads:
    """Answers Offers and PutInit.

    `lacking` numbers, from 0, the offered leaves that the sender does not hold. `records` are all heads of those that
    differ here. An answer may take several messages: all but the last have `more` set.
    """

    code: ClassVar[int] = 68
    lacking: tuple[int, ...]
    records: tuple[bytes, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class Credit:
    """Allows the receiver to send `pages` more messages of its stream, pages of a snapshot or changes of a log."""

    code: ClassVar[int] = 25
    pages: int
