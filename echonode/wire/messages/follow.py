"""Messages of a link, which the mode `follow` opens (PROTOCOL.md §8.15)."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class ContextCursor:
    """How far the sender has followed the receiver's log of a context; `since` null: it does not know, and takes what
    comes from now on."""

    context: str
    since: int | None


@dataclass(frozen=True, slots=True)
class ContextRoot:
    """A context of the sender's: its root, and the seq its log is at, all of which has been told by now."""

    context: str
    root: bytes
    seq: int


@dataclass(frozen=True, slots=True)
class FollowInit:
    """Opens `follow`: from here on each tells the other what it stores, until one closes. `instance`: the responder's,
    whose log the cursors are of."""

    code: ClassVar[int] = 56
    version: tuple[int, int]
    instance: bytes
    places: tuple[ContextCursor, ...]


@dataclass(frozen=True, slots=True)
class Follow:
    """The responder's places, in answer to FollowInit; later, from either, a context more."""

    code: ClassVar[int] = 57
    places: tuple[ContextCursor, ...]


@dataclass(frozen=True, slots=True)
class Commits:
    """What is new in the sender's log of `context`, in its order, up to `seq`: whole, or announced by (seq, the first
    16 bytes of its id); what the receiver is known to have is left out."""

    code: ClassVar[int] = 58
    context: str
    seq: int
    records: tuple[bytes, ...]
    announced: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Missing:
    """Send what was announced under these seqs, and tell whole from now on."""

    code: ClassVar[int] = 59
    context: str
    seqs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bodies:
    """Answers a Missing, in one or more messages: of `seqs`, what still stands in the log; the rest was superseded, by
    what comes or came."""

    code: ClassVar[int] = 60
    context: str
    seqs: tuple[int, ...]
    records: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Roots:
    """Where the sender's contexts stand, now that it has nothing more to tell of them."""

    code: ClassVar[int] = 61
    roots: tuple[ContextRoot, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """So many bytes of what was told are stored or known, and may be told anew (PROTOCOL.md §8.15)."""

    code: ClassVar[int] = 62
    weight: int


@dataclass(frozen=True, slots=True)
class Lazy:
    """What you tell me whole, others told me before: announce it instead."""

    code: ClassVar[int] = 63
