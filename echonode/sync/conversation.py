"""One conversation: the ends it joins, the tally of what it moved, and the result that log and API show."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from echonode.errors import PeerRefused, Reason
from echonode.limits import REFUSALS_KEPT
from echonode.model.merkle import Tree
from echonode.model.record import Record, VersionId
from echonode.store.port import Cursor, Outranked, RefusedVersion, Store, VoidedVersion
from echonode.sync.filtered_set import FilteredSets
from echonode.sync.sketch_cache import SketchCache
from echonode.sync.transport import SyncTransport, unexpected
from echonode.sync.work import Charge, free
from echonode.wire.messages import Message, Refused

_M = TypeVar("_M")


class Result(Enum):
    """The end of a conversation."""

    EQUAL = "equal"  # both roots recomputed and the same, or one way nothing missing: verified
    MOVED = "moved"  # writes kept moving a root; repeat
    ONE_WAY = "one_way"  # the responder of a one-way conversation cannot tell; its initiator can
    DIFFERENT = "different"  # records were refused, or the peer's state cannot be reached
    ANSWERED = "answered"  # the question was answered; nothing is known of other differences
    REFUSED = "refused"  # the peer declined the conversation


@dataclass(slots=True)
class Tally:
    """One conversation's counters, of records unless their comment says otherwise.

    Round trips are those that had to follow one another: requests that were in flight together count once. The
    responder asks nothing and counts none.
    """

    sent: int = 0
    received: int = 0  # and stored
    had: int = 0  # received, and known or superseded here already
    round_trips: int = 0
    total: int = 0  # expected, when known
    refused: list[RefusedVersion] = field(default_factory=list)  # here: the first REFUSALS_KEPT
    refused_here: int = 0
    lacks_key: bool = False  # one was refused because its key is unknown here
    refused_there: int = 0
    followed: int | None = None  # the seq up to which nothing of the peer's log is missing here, once that is known
    note: str = ""  # for the log: why the mode did not work and another way was taken
    _asked: deque[int] = field(default_factory=deque)  # for each request in flight: the round trips when it was sent

    def refuse(self, refused: Sequence[RefusedVersion]) -> None:
        """Count versions that were refused here, and keep the first of them: a peer may send such without end."""
        self.refused_here += len(refused)
        self.lacks_key |= any(one.reason is Reason.UNKNOWN_KEY for one in refused)
        self.refused += refused[: REFUSALS_KEPT - len(self.refused)]

    @property
    def moved(self) -> tuple[int, int, int]:
        """Records that moved so far: (new here, known here already, taken by the peer)."""
        return self.received, self.had, self.sent - self.refused_there

    def ask(self) -> None:
        """Count a request that is sent."""
        self._asked.append(self.round_trips)

    def answered(self) -> None:
        """Count the oldest request as answered."""
        self.round_trips = max(self.round_trips, self._asked.popleft() + 1)

    def forget_asked(self) -> None:
        """Drop the requests in flight: no answer to them will come."""
        self._asked.clear()


@dataclass(frozen=True, slots=True)
class Conversation:
    """An executor's surroundings: the transport to the peer, this node's store, one context, and listeners.

    `on_applied`   is told of records that became heads here
    `on_staged`    is told of records that wait, verified, for the rest of their snapshot
    `on_shown`     is told that a snapshot is shown, with the ids of its last heads, and the number of all
    `is_listened`  returns True while every head is to be told one by one; else `on_shown` tells of a snapshot's
    `on_strangers` is told of versions in this store's name that it never signed (PROTOCOL.md §5.6)
    `on_outranked` is told of versions that do not fit beside the other heads of their records
    `on_voided`    is told of versions that are no heads any more, because their key is void
    `on_refused`   is told of records of which some versions were refused here, and which
    `on_progress`  is told when records have moved
    `judge`        returns those of some records that are too much for this node, each with the reason
    `pace`         counts records that the peer brings; it returns when so many may come
    `charge`       charges work that the peer asked for (sync/work.py)
    `wants`        returns True for a record to keep, where a node keeps only a part of the context
    `cursor`       how far this store has followed the peer's log of the context, None where it has not
    """

    transport: SyncTransport
    store: Store
    context: str
    on_applied: Callable[[Sequence[Record]], None]
    on_progress: Callable[[Tally], None]
    on_strangers: Callable[[Sequence[Record]], None] = field(default=lambda _: None, kw_only=True)
    on_outranked: Callable[[Sequence[Outranked]], None] = field(default=lambda _: None, kw_only=True)
    on_voided: Callable[[Sequence[VoidedVersion]], None] = field(default=lambda _: None, kw_only=True)
    on_staged: Callable[[Sequence[Record]], None] = field(default=lambda _: None, kw_only=True)
    on_shown: Callable[[Sequence[VersionId], int], None] = field(default=lambda _, __: None, kw_only=True)
    is_listened: Callable[[], bool] = field(default=lambda: True, kw_only=True)
    on_refused: Callable[[Sequence[Record], Sequence[RefusedVersion]], None] = field(
        default=lambda _, __: None, kw_only=True
    )
    tally: Tally = field(default_factory=Tally)
    judge: Callable[[Sequence[Record]], Sequence[RefusedVersion]] = field(default=lambda _: (), kw_only=True)
    pace: Charge = field(default=free, kw_only=True)
    charge: Charge = field(default=free, kw_only=True)
    wants: Callable[[Record], bool] | None = None
    cursor: Cursor | None = None
    sketches: SketchCache = field(default_factory=SketchCache)
    filtered_sets: FilteredSets = field(default_factory=FilteredSets)
    session: bytes = b""  # random bytes that both ends know, and that no peer could know before

    @property
    def tree(self) -> Tree:
        """The context's tree. After an await it may be another object."""
        return self.store.tree(self.context)

    async def ask(self, message: Message) -> None:
        """Send a request, and count it. Raises TransportError."""
        self.tally.ask()
        await self.transport.send(message)

    async def receive(self, *kinds: type[_M]) -> _M:
        """Return the next message, which must be one of `kinds`. Raises PeerRefused for a Refused, RemoteError for
        another kind, and what the transport raises."""
        message = await self.transport.recv()
        if isinstance(message, kinds):
            return message
        if isinstance(message, Refused):
            raise PeerRefused(Reason.from_wire(message.reason), supported=message.supported)
        raise unexpected(message)

    async def receive_answer(self, *kinds: type[_M]) -> _M:
        """Return the next message as `receive` does; it completes the answer to the oldest request."""
        message = await self.receive(*kinds)
        self.tally.answered()
        return message

    async def request(self, message: Message, *kinds: type[_M]) -> _M:
        """Send a request and return its answer, one message of these kinds. No other request may be in flight."""
        await self.ask(message)
        return await self.receive_answer(*kinds)

    def count_sent(self, records: int) -> None:
        """Count records that were sent, and report the progress."""
        self.tally.sent += records
        self.on_progress(self.tally)
