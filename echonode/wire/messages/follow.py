"""Messages of a link, which the mode `follow` opens (PROTOCOL.md §8.15).

    FollowInit     ->
                   <-     Follow, or Refused
    then either way:
    Commits                what the sender's log has gained, whole or announced
    Missing  ->  Bodies    announced versions, asked for and sent
    Taken                  window given back
    Lazy                   a request to announce instead of sending whole
    Roots                  the state of contexts without further news
    Follow                 one context more
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class ContextCursor:
    """The sender's cursor of the receiver's log of `context`, as a part of FollowInit and Follow.

    `since` None: the sender has no cursor and takes what comes from now on.
    """

    context: str
    since: int | None


@dataclass(frozen=True, slots=True)
class ContextRoot:
    """The root of one of the sender's contexts, as a part of Roots. Everything up to `seq` in its log has been sent."""

    context: str
    root: bytes
    seq: int


@dataclass(frozen=True, slots=True)
class FollowInit:
    """Opens a link. `places` has a cursor for each context; they refer to the log of `instance`, the receiver's."""

    code: ClassVar[int] = 56
    version: tuple[int, int]
    instance: bytes
    places: tuple[ContextCursor, ...]


@dataclass(frozen=True, slots=True)
class Follow:
    """Answers FollowInit with the responder's cursors. Later, from either side, it adds contexts to the link."""

    code: ClassVar[int] = 57
    places: tuple[ContextCursor, ...]


@dataclass(frozen=True, slots=True)
class Commits:
    """News of the sender's log of `context` up to `seq`, without what the receiver is known to have.

    `records` are versions sent whole; `announced` are (seq, first 16 bytes of the id) of the others.
    """

    code: ClassVar[int] = 58
    context: str
    seq: int
    records: tuple[bytes, ...]
    announced: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Missing:
    """Asks for the versions announced under `seqs`, and for whole versions from now on."""

    code: ClassVar[int] = 59
    context: str
    seqs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bodies:
    """Answers a Missing, in one or more messages: the versions under `seqs` that are still in the log.

    The others have been superseded by versions that the sender sent or will send.
    """

    code: ClassVar[int] = 60
    context: str
    seqs: tuple[int, ...]
    records: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Roots:
    """The roots of contexts of which the sender has sent everything."""

    code: ClassVar[int] = 61
    roots: tuple[ContextRoot, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """Gives `weight` bytes of the window back: what came is stored or was known."""

    code: ClassVar[int] = 62
    weight: int


@dataclass(frozen=True, slots=True)
class Lazy:
    """Asks the receiver to announce versions instead of sending them whole: another link brings them first."""

    code: ClassVar[int] = 63
