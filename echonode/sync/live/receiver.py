"""Being told what is new in a peer's log (PROTOCOL.md §8.15): verified, stored with the cursor it leads to, in order.

A cursor passes an announcement only when what it announces is stored, and nothing at all once a version was refused
that may be admitted later: then trees are compared, and equal roots say where the cursor stands.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

from echonode.errors import Reason, RemoteError, TransportError
from echonode.limits import (
    ANNOUNCEMENT_WEIGHT,
    BATCH_BYTES_MAX,
    BATCH_RECORDS_MAX,
    CONTEXTS_MAX,
    FOLLOW_WINDOW_BYTES,
    FRAME_TIMEOUT_S,
    REPLAYS_MAX,
    REQUEST_RETRY_S,
    ROOTS_DELAY_S,
)
from echonode.model.merkle import Tree
from echonode.model.record import Record
from echonode.store.port import Applied
from echonode.sync.live.plumtree import Linked, ShortId, remember, short
from echonode.sync.live.send_queue import SendQueue, weight
from echonode.sync.tasks import uninterrupted
from echonode.sync.verify_apply import verify_all
from echonode.wire.messages import Bodies, Commits, ContextCursor, ContextRoot, Follow, Lazy, Missing, Roots, Taken

_Told: TypeAlias = Commits | Bodies | Roots

_INBOX_MAX = 16
_TAKEN_AT = FOLLOW_WINDOW_BYTES // 4
_EMPTY = Tree().root


@dataclass(slots=True)
class _Place:
    """One context of the peer's log: told up to `told`, stored up to `taken`. `is_whole`: nothing before that is
    missing, but for the `waiting` ones that were announced. `equal_at`: the root at which it last was equal."""

    told: int
    is_whole: bool
    taken: int = field(init=False)
    waiting: int = 0
    equal_at: bytes = b""

    def __post_init__(self) -> None:
        self.taken = self.told


class LinkReceiver:
    """Our side as the one that follows."""

    def __init__(
        self, lane: SendQueue, places: Sequence[ContextCursor], link: Linked, is_told: Callable[[str], bool]
    ) -> None:
        self._lane = lane
        self._link = link
        self._is_told = is_told  # whether the peer was told of all there is of a context
        self._places = {place.context: _Place(place.since or 0, place.since is not None) for place in places}
        self._inbox: deque[_Told] = deque()
        self._arrived = asyncio.Event()
        self._has_room = asyncio.Event()
        self._pending: dict[ShortId, tuple[str, int]] = {}
        self._wanted: dict[tuple[str, int], tuple[ShortId, float]] = {}  # and when it was asked for
        self._untaken = 0
        self._to_take = 0
        self._replays = 0
        self._overdue: asyncio.TimerHandle | None = None
        self.moved_s = 0.0

    # -- what comes --------------------------------------------------------------------------------------------------

    async def put(self, message: _Told) -> None:
        """Take `message` in its turn; waits while too many wait. Raises RemoteError when the window is overrun."""
        if isinstance(message, Commits):
            if self._untaken > FOLLOW_WINDOW_BYTES:
                raise RemoteError(Reason.PROTOCOL_ERROR, "it tells more than was taken of it")
            self._untaken += weight(message)
        while len(self._inbox) >= _INBOX_MAX:
            self._has_room.clear()
            await self._has_room.wait()
        self._inbox.append(message)
        self._arrived.set()

    async def run(self) -> None:
        """Take what comes, for ever. Raises what is wrong with it."""
        while True:
            while not self._inbox:
                self._arrived.clear()
                await self._arrived.wait()
            message = self._inbox.popleft()
            self._has_room.set()
            match message:
                case Commits():
                    await self._take(*self._joined(message))
                case Bodies():
                    await self._take_bodies(message)
                case Roots(roots):
                    for root in roots:
                        self._compare(root)
                    self._lane.ends.on_equal(self.is_equal())

    def _joined(self, first: Commits) -> tuple[Commits, int]:
        """`first` and those that wait right behind it, as one: they share a transaction. And what they weigh."""
        records, size, last = list(first.records), sum(map(len, first.records)), first
        self._check(first)
        weighs = weight(first)
        while self._inbox and not last.announced:
            following = self._inbox[0]
            if not isinstance(following, Commits) or following.context != first.context:
                break
            size += sum(map(len, following.records))
            if len(records) + len(following.records) > BATCH_RECORDS_MAX or size > BATCH_BYTES_MAX:
                break
            self._inbox.popleft()
            self._check(following)
            records += following.records
            weighs += weight(following)
            last = following
        self._has_room.set()
        return Commits(first.context, last.seq, tuple(records), last.announced), weighs

    def _check(self, message: Commits) -> None:
        """Raises RemoteError for what cannot stand in a log like that."""
        place = self._places.get(message.context)
        if place is None:
            raise RemoteError(Reason.PROTOCOL_ERROR, "it tells of a context that was not asked for")
        seqs = [place.told, *(seq for seq, _ in message.announced)]
        is_ascending = all(one < other for one, other in pairwise(seqs))
        room = message.seq - place.told
        if not is_ascending or seqs[-1] > message.seq or room < len(message.records) + len(message.announced):
            raise RemoteError(Reason.PROTOCOL_ERROR, "commits that cannot stand in a log like that")
        if not message.records and not message.announced:
            raise RemoteError(Reason.PROTOCOL_ERROR, "commits of nothing")
        place.told = message.seq

    async def _take(self, message: Commits, weighs: int) -> None:
        place = self._places[message.context]
        is_passed = place.is_whole and not place.waiting and not message.announced
        records = await verify_all(message.records, message.context)
        applied = await self._apply(message.context, records, message.seq if is_passed else None)
        if records and not applied.records and all(self._came_by_another(record) for record in records):
            self._lane.is_eager = False
            self._lane.say(Lazy())
        self._take_announced(message.context, place, message.announced)
        place.taken = message.seq
        self._settle(message.context, place)
        self._took(weighs - ANNOUNCEMENT_WEIGHT * len(message.announced))  # those count when they are here
        self._lane.on_moved(message.context)

    async def _apply(self, context: str, records: Sequence[Record], seq: int | None) -> Applied:
        ends, figures = self._lane.ends, self._lane.figures
        remember(self._lane.known, [short(record.id) for record in records])
        if not records:
            return Applied()
        applied = await uninterrupted(self._store(context, records, seq))
        figures.received += len(applied.records)
        figures.had += applied.had
        figures.refused += len(applied.refused)
        if len(applied.records) < len(records):
            self._account_for(records, applied)
        self._replays = 0 if applied.records else self._replays + len(records)
        if self._replays > REPLAYS_MAX + 2 * len(ends.store.tree(context)):
            raise RemoteError(Reason.PROTOCOL_ERROR, "it tells nothing new, without end")
        if applied.is_gap:
            self._places[context].is_whole = False
            ends.on_suspect()
        return applied

    def _account_for(self, records: Sequence[Record], applied: Applied) -> None:
        """Of `records` some did not become heads. Other links may wait for those, too."""
        spread = self._lane.ends.spread
        refused = [one.version for one in applied.refused]
        seen = {*refused, *[record.id for record in applied.records]}
        spread.came([short(record.id) for record in records if record.id not in seen], self._lane.ends.peer)
        spread.unanswered([short(version) for version in refused], self._link)

    async def _store(self, context: str, records: Sequence[Record], seq: int | None) -> Applied:
        """Apply, and say so: a link that ends in between must not leave others without word of what is stored."""
        ends = self._lane.ends
        applied = await ends.store.apply(context, records, None if seq is None else ends.cursor(context, seq))
        if applied.records:
            ends.on_applied(context, applied.records)
        return applied

    def _came_by_another(self, record: Record) -> bool:
        return self._lane.ends.spread.came_by_another(short(record.id), self._lane.ends.peer)

    # -- announcements -----------------------------------------------------------------------------------------------

    def _take_announced(self, context: str, place: _Place, announced: Sequence[tuple[int, ShortId]]) -> None:
        spread = self._lane.ends.spread
        remember(self._lane.known, [version for _, version in announced])
        self._lane.figures.announced += len(announced)
        wanted: list[ShortId] = []
        for seq, version in announced:
            if spread.is_here(version) or version in self._pending:
                self._took(ANNOUNCEMENT_WEIGHT)
                continue
            self._pending[version] = context, seq
            place.waiting += 1
            if not spread.is_asked(version):
                wanted.append(version)
        self._ask(wanted)

    def close(self) -> None:
        """Wait for nothing any more."""
        if self._overdue is not None:
            self._overdue.cancel()

    def ask_again(self, ids: Sequence[ShortId]) -> None:
        """Nobody is asked for these any more."""
        self._ask([version for version in ids if version in self._pending])

    def _ask(self, ids: Sequence[ShortId]) -> None:
        by_context: dict[str, list[int]] = {}
        now_s = asyncio.get_running_loop().time()
        for version in ids:
            context, seq = self._pending[version]
            if (context, seq) not in self._wanted:
                self._wanted[context, seq] = version, now_s
                self._lane.ends.spread.ask(version, self._link)
                by_context.setdefault(context, []).append(seq)
        for context, seqs in by_context.items():
            self._lane.is_eager = True
            for at in range(0, len(seqs), BATCH_RECORDS_MAX):
                self._lane.say(Missing(context, tuple(seqs[at : at + BATCH_RECORDS_MAX])))
        self._look_later()

    def _look_later(self) -> None:
        if self._wanted and self._overdue is None:
            self._overdue = asyncio.get_running_loop().call_later(REQUEST_RETRY_S, self._ask_others)

    def _ask_others(self) -> None:
        """What was asked for long ago may still come; until then whoever else announced it is asked."""
        self._overdue = None
        asked_before_s = asyncio.get_running_loop().time() - REQUEST_RETRY_S
        late = [version for version, asked_s in self._wanted.values() if asked_s <= asked_before_s]
        if late:
            self._lane.ends.spread.late(late, self._link)
        self._look_later()

    def arrived(self, ids: Sequence[ShortId]) -> None:
        """These are stored, whoever brought them."""
        for version in ids:
            self._resolve(version)

    def _resolve(self, version: ShortId) -> None:
        found = self._pending.pop(version, None)
        if found is not None:
            place = self._places[found[0]]
            place.waiting -= 1
            self._took(ANNOUNCEMENT_WEIGHT)
            self._settle(found[0], place)

    async def _take_bodies(self, message: Bodies) -> None:
        asked = [self._wanted.pop((message.context, seq), None) for seq in message.seqs]
        ids = {found[0] for found in asked if found is not None}
        records = await verify_all(message.records, message.context)
        brought = {short(record.id) for record in records}
        if len(ids) < len(message.seqs) or not brought <= ids or len(brought) < len(records):
            raise RemoteError(Reason.PROTOCOL_ERROR, "it sends what was not asked for")
        self._lane.figures.fetched += len(records)
        await self._apply(message.context, records, None)
        for version in ids:
            self._resolve(version)
        # What has left the peer's log was superseded there; where else it was announced, it may not be.
        self._lane.ends.spread.unanswered([version for version in ids if version not in brought], self._link)
        self._lane.on_moved(message.context)

    def check(self) -> None:
        """Raises TransportError when what was asked for does not come."""
        now_s = asyncio.get_running_loop().time()
        if any(now_s - asked_s > FRAME_TIMEOUT_S for _, asked_s in self._wanted.values()):
            raise TransportError("the peer does not deliver what it announced")

    def pending(self) -> Iterator[str]:
        """Yield what is still to be done with what the peer told, in words."""
        left = {
            "messages to take": self._inbox,
            "versions announced": self._pending,
            "versions wanted": self._wanted,
        }
        yield from (words for words, there in left.items() if there)

    # -- how far we are ----------------------------------------------------------------------------------------------

    def _took(self, taken: int) -> None:
        self._untaken -= taken
        self._to_take += taken
        if self._to_take >= _TAKEN_AT:
            self._lane.say(Taken(min(self._to_take, FOLLOW_WINDOW_BYTES)))
            self._to_take -= min(self._to_take, FOLLOW_WINDOW_BYTES)

    def _settle(self, context: str, place: _Place) -> None:
        if place.is_whole and not place.waiting:
            self._lane.ends.note(context, place.taken)

    def is_equal(self) -> bool:
        """Whether all that is held, and all that is followed, is what it was when the peer's root was the same."""
        ends = self._lane.ends
        if any(context not in self._places and ends.takes(context) for context in ends.store.contexts()):
            return False  # it came to be here, and the peer has said nothing of it yet
        return all(ends.store.tree(context).root == place.equal_at for context, place in self._places.items())

    def _compare(self, theirs: ContextRoot) -> None:
        """Nothing is on its way to us of that context: what does its root say?"""
        place = self._places.get(theirs.context)
        if place is None:
            self._offered(theirs)
            return
        if theirs.seq < place.told:
            raise RemoteError(Reason.PROTOCOL_ERROR, "its log has gone back")
        place.told = place.taken = theirs.seq
        ours = self._lane.ends.store.tree(theirs.context).root
        if ours == theirs.root:
            place.equal_at = ours
            place.is_whole = True
        elif not place.waiting and self._is_quiet() and self._is_told(theirs.context):
            self._lane.ends.on_suspect()
        self._settle(theirs.context, place)

    def _is_quiet(self) -> bool:
        """Whether what we told may be taken by now. If not, the peer will tell its roots once more."""
        return asyncio.get_running_loop().time() - self.moved_s >= ROOTS_DELAY_S[0]

    def _offered(self, theirs: ContextRoot) -> None:
        """The peer has a context that we did not know it has."""
        ends = self._lane.ends
        if not ends.takes(theirs.context) or len(self._places) > CONTEXTS_MAX:
            return
        ours = ends.store.tree(theirs.context).root
        since = {_EMPTY: 0, theirs.root: theirs.seq}.get(ours)
        self._places[theirs.context] = _Place(since or 0, since is not None)
        self._lane.say(Follow((ContextCursor(theirs.context, since),)))
        if since is None:
            ends.on_suspect()
