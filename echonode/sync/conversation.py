"""One conversation, one outcome: what log line, metric, API event and trace derive from."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from echonode.errors import Reason
from echonode.limits import REFUSALS_KEPT
from echonode.model.record import Record
from echonode.store.port import Cursor, RefusedVersion, Store
from echonode.sync.filtered_set import FilteredSets
from echonode.sync.sketch_cache import SketchCache
from echonode.sync.transport import SyncTransport


class Result(Enum):
    """How a conversation ended."""

    EQUAL = "equal"  # both roots recomputed and the same, or one way nothing missing: verified
    MOVED = "moved"  # writes kept moving a root; repeat
    ONE_WAY = "one_way"  # the responder of a one-way conversation cannot tell; its initiator can
    DIFFERENT = "different"  # records were refused, or the peer's state cannot be reached
    ANSWERED = "answered"  # what was asked for was done, and nothing said of what else differs
    REFUSED = "refused"  # the peer would not hold this conversation


@dataclass(slots=True)
class Tally:
    """What a conversation moved, counted as it goes.

    Round trips are those that had to follow one another: requests that were in flight together count once. The
    responder asks nothing and counts none.
    """

    sent: int = 0
    received: int = 0
    had: int = 0
    round_trips: int = 0
    total: int = 0  # records expected, when known
    refused: list[RefusedVersion] = field(default_factory=list)  # by us: the first REFUSALS_KEPT of
    refused_here: int = 0  # so many
    lacks_key: bool = False  # of one of them the key is unknown here
    refused_there: int = 0
    followed: int | None = None  # the seq up to which nothing of the peer's log is missing here, once that is known
    note: str = ""  # what became of the mode, when it had to go another way
    _asked: deque[int] = field(default_factory=deque)

    def refuse(self, refused: Sequence[RefusedVersion]) -> None:
        """These were not taken. A peer may go on sending such for as long as a session lasts."""
        self.refused_here += len(refused)
        self.lacks_key |= any(one.reason is Reason.UNKNOWN_KEY for one in refused)
        self.refused += refused[: REFUSALS_KEPT - len(self.refused)]

    def ask(self) -> None:
        """A request went out."""
        self._asked.append(self.round_trips)

    def answered(self) -> None:
        """The oldest request's answer is complete."""
        self.round_trips = max(self.round_trips, self._asked.popleft() + 1)

    def forget_asked(self) -> None:
        """What was asked for will not come: credit that was left over."""
        self._asked.clear()


@dataclass(frozen=True, slots=True)
class Conversation:
    """What an executor works with: the other end, our store, one context, and where to tell of progress.

    `wants`: whether a record of the peer's is to be kept here, where only a part of the context is. `cursor`: how far
    this store has followed the peer's log of the context, None where it has not."""

    transport: SyncTransport
    store: Store
    context: str
    on_applied: Callable[[Sequence[Record]], None]
    on_progress: Callable[[Tally], None]
    tally: Tally = field(default_factory=Tally)
    wants: Callable[[Record], bool] | None = None
    cursor: Cursor | None = None
    sketches: SketchCache = field(default_factory=SketchCache)
    surveys: FilteredSets = field(default_factory=FilteredSets)
    session: bytes = b""  # random bytes that both ends know and nobody knew before
