"""One conversation, one outcome: what log line, metric, API event and trace derive from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from echonode.model.record import Record
from echonode.store.port import Refused, Store
from echonode.sync.transport import SyncTransport


class Result(Enum):
    """How a conversation ended."""

    EQUAL = "equal"  # both roots recomputed and the same, or one way nothing missing: verified
    MOVED = "moved"  # writes kept moving a root; repeat
    DIFFERENT = "different"  # records were refused, or the peer's state cannot be reached
    REFUSED = "refused"  # the peer would not hold this conversation


@dataclass(slots=True)
class Tally:
    """What a conversation moved, counted as it goes."""

    sent: int = 0
    received: int = 0
    had: int = 0
    round_trips: int = 0
    total: int = 0  # records expected, when known
    refused: list[Refused] = field(default_factory=list)  # by us
    refused_there: int = 0


@dataclass(frozen=True, slots=True)
class Conversation:
    """What an executor works with: the other end, our store, one context, and where to tell of progress."""

    transport: SyncTransport
    store: Store
    context: str
    on_applied: Callable[[Sequence[Record]], None]
    on_progress: Callable[[Tally], None]
    tally: Tally = field(default_factory=Tally)
