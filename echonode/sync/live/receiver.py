"""The receiving side of a link: verifies the peer's changes and stores them with the cursor, in order.

The cursor passes an announced version only when that is stored. Once a version was refused that may be admitted later,
the cursor stays: then trees are compared, and equal roots move it on (PROTOCOL.md §8.15).
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
from echonode.sync.live.plumtree import PlumtreeLink, ShortId, remember, short_id
from echonode.sync.live.send_queue import SendQueue, weight
from echonode.sync.tasks import uninterrupted
from echonode.sync.verify_apply import verify_all
from echonode.wire.messages import Bodies, Commits, ContextCursor, ContextRoot, Follow, Lazy, Missing, Roots, Taken

_Incoming: TypeAlias = Commits | Bodies | Roots

_INBOX_MAX = 16  # messages
_TAKEN_AT = FOLLOW_WINDOW_BYTES // 4  # bytes taken that the peer is told of at once
_EMPTY = Tree().root


@dataclass(slots=True)
class _ContextProgress:
    """The progress in one context of the peer's log: `told` is the seq it told us up to, `stored` the seq we stored."""

    told: int
    is_whole: bool  # nothing up to `stored` is missing but the announced versions that are waited for
    stored: int = field(init=False)
    waiting: int = 0  # announced versions that are not here yet
    equal_at: bytes = b""  # our root when it last was the peer's

    def __post_init__(self) -> None:
        self.stored = self.told


class LinkReceiver:
    """This side of a link as the one that follows.

    `cursors`: how far each context has been followed; `link`: the link itself, as the other links know it;
    `has_told_all`: returns True when the peer was told of every change of a context.
    """

    def __init__(
        self,
        queue: SendQueue,
        cursors: Sequence[ContextCursor],
        link: PlumtreeLink,
        has_told_all: Callable[[str], bool],
    ) -> None:
        self._queue = queue
        self._environment = queue.environment
        self._plumtree = queue.environment.plumtree
        self._store = queue.environment.store
        self._link = link
        self._has_told_all = has_told_all
        self._progress = {each.context: _ContextProgress(each.since or 0, each.since is not None) for each in cursors}
        self._inbox: deque[_Incoming] = deque()
        self._has_message = asyncio.Event()
        self._has_room = asyncio.Event()
        self._announced: dict[ShortId, tuple[str, int]] = {}  # versions that are not here: their context and seq
        self._requested: dict[tuple[str, int], tuple[ShortId, float]] = {}  # and when the peer was asked for them
        self._window_used = 0  # bytes received and not taken yet
        self._window_freed = 0  # bytes taken that the peer was not told of yet
        self._replays = 0  # records in a row that were no news
        self._retry_timer: asyncio.TimerHandle | None = None
        self.last_moved_s = 0.0  # when records were last sent or received

    # -- messages ----------------------------------------------------------------------------------------------------

    async def enqueue(self, message: _Incoming) -> None:
        """Queue `message` to be stored in its turn. Wait while the queue is full. Raises RemoteError when the peer
        overruns the window."""
        if isinstance(message, Commits):
            if self._window_used > FOLLOW_WINDOW_BYTES:
                raise RemoteError(Reason.PROTOCOL_ERROR, "it tells more than was taken of it")
            self._window_used += weight(message)
        while len(self._inbox) >= _INBOX_MAX:
            self._has_room.clear()
            await self._has_room.wait()
        self._inbox.append(message)
        self._has_message.set()

    async def run(self) -> None:
        """Process queued messages, for ever. Raises RemoteError for what is wrong with them, and StoreError."""
        while True:
            while not self._inbox:
                self._has_message.clear()
                await self._has_message.wait()
            message = self._inbox.popleft()
            self._has_room.set()
            match message:
                case Commits():
                    await self._store_commits(*self._join_queued(message))
                case Bodies():
                    await self._store_bodies(message)
                case Roots(roots):
                    for root in roots:
                        self._compare_root(root)
                    self._environment.owner.compared(self.is_equal())

    def _join_queued(self, first: Commits) -> tuple[Commits, int]:
        """Join `first` with the Commits queued right behind it, so that they share a transaction. Return them as one,
        and their weight."""
        records, size, last = list(first.records), sum(map(len, first.records)), first
        self._check_commits(first)
        total_weight = weight(first)
        while self._inbox and not last.announced:
            following = self._inbox[0]
            if not isinstance(following, Commits) or following.context != first.context:
                break
            size += sum(map(len, following.records))
            if len(records) + len(following.records) > BATCH_RECORDS_MAX or size > BATCH_BYTES_MAX:
                break
            self._inbox.popleft()
            self._check_commits(following)
            records += following.records
            total_weight += weight(following)
            last = following
        self._has_room.set()
        return Commits(first.context, last.seq, tuple(records), last.announced), total_weight

    def _check_commits(self, message: Commits) -> None:
        """Raise RemoteError for changes that no log can hold, or of a context that was not asked for."""
        progress = self._progress.get(message.context)
        if progress is None:
            raise RemoteError(Reason.PROTOCOL_ERROR, "it tells of a context that was not asked for")
        seqs = [progress.told, *(seq for seq, _ in message.announced)]
        is_ascending = all(one < other for one, other in pairwise(seqs))
        room = message.seq - progress.told
        if not is_ascending or seqs[-1] > message.seq or room < len(message.records) + len(message.announced):
            raise RemoteError(Reason.PROTOCOL_ERROR, "commits that cannot stand in a log like that")
        if not message.records and not message.announced:
            raise RemoteError(Reason.PROTOCOL_ERROR, "commits of nothing")
        progress.told = message.seq

    async def _store_commits(self, message: Commits, total_weight: int) -> None:
        progress = self._progress[message.context]
        may_move_cursor = progress.is_whole and not progress.waiting and not message.announced
        records = await verify_all(message.records, message.context)
        applied = await self._apply(message.context, records, message.seq if may_move_cursor else None)
        if records and not applied.records and all(self._came_by_another(record) for record in records):
            self._queue.is_eager = False
            self._queue.send_soon(Lazy())
        self._note_announced(message.context, progress, message.announced)
        progress.stored = message.seq
        self._save_cursor(message.context, progress)
        # The weight of announced versions is freed when they are here.
        self._free_window(total_weight - ANNOUNCEMENT_WEIGHT * len(message.announced))
        self._queue.on_moved(message.context)

    async def _apply(self, context: str, records: Sequence[Record], seq: int | None) -> Applied:
        """Store verified records, with the cursor at `seq` if there is one, and count them. Raises RemoteError for a
        peer that brings no news without end."""
        environment, tally = self._environment, self._queue.tally
        remember(self._queue.known, [short_id(record.id) for record in records])
        if not records:
            return Applied()
        applied = await uninterrupted(self._apply_and_report(context, records, seq))
        tally.received += len(applied.records)
        tally.had += applied.had
        tally.refused += len(applied.refused)
        if len(applied.records) < len(records):
            self._note_not_stored(records, applied)
        self._replays = 0 if applied.records else self._replays + len(records)
        if self._replays > REPLAYS_MAX + 2 * len(self._store.tree(context)):
            raise RemoteError(Reason.PROTOCOL_ERROR, "it tells nothing new, without end")
        if applied.is_gap:
            self._progress[context].is_whole = False
            environment.owner.suspect()
        return applied

    def _note_not_stored(self, records: Sequence[Record], applied: Applied) -> None:
        """Tell other links, which may wait for them, of `records` that did not become heads."""
        refused = [one.version for one in applied.refused]
        seen = {*refused, *[record.id for record in applied.records]}
        had = [short_id(record.id) for record in records if record.id not in seen]
        self._plumtree.note_arrived(had, self._environment.peer)
        self._plumtree.note_unanswered([short_id(version) for version in refused], self._link)

    async def _apply_and_report(self, context: str, records: Sequence[Record], seq: int | None) -> Applied:
        """Apply and report in one task: a link that ends in between must not leave stored records unreported."""
        environment = self._environment
        cursor = None if seq is None else environment.cursor(context, seq)
        applied = await self._store.apply(context, records, cursor)
        if applied.records:
            environment.owner.applied(context, applied.records)
        if applied.outranked:
            environment.owner.outranked(context, applied.outranked)
        return applied

    def _came_by_another(self, record: Record) -> bool:
        return self._plumtree.was_brought_by_another(short_id(record.id), self._environment.peer)

    # -- announcements -----------------------------------------------------------------------------------------------

    def _note_announced(
        self, context: str, progress: _ContextProgress, announced: Sequence[tuple[int, ShortId]]
    ) -> None:
        """Wait for announced versions that are not here, and ask for those that no link is asked for."""
        remember(self._queue.known, [version for _, version in announced])
        self._queue.tally.announced += len(announced)
        wanted: list[ShortId] = []
        for seq, version in announced:
            if self._plumtree.has_arrived(version) or version in self._announced:
                self._free_window(ANNOUNCEMENT_WEIGHT)
                continue
            self._announced[version] = context, seq
            progress.waiting += 1
            if not self._plumtree.is_asked(version):
                wanted.append(version)
        self._request(wanted)

    def close(self) -> None:
        """Cancel the timer: the link has ended."""
        if self._retry_timer is not None:
            self._retry_timer.cancel()

    def ask_again(self, ids: Sequence[ShortId]) -> None:
        """Ask the peer for those of `ids` that it announced: no other link is asked for them now."""
        self._request([version for version in ids if version in self._announced])

    def _request(self, ids: Sequence[ShortId]) -> None:
        by_context: dict[str, list[int]] = {}
        now_s = asyncio.get_running_loop().time()
        for version in ids:
            context, seq = self._announced[version]
            if (context, seq) not in self._requested:
                self._requested[context, seq] = version, now_s
                self._plumtree.ask(version, self._link)
                by_context.setdefault(context, []).append(seq)
        for context, seqs in by_context.items():
            self._queue.is_eager = True
            for at in range(0, len(seqs), BATCH_RECORDS_MAX):
                self._queue.send_soon(Missing(context, tuple(seqs[at : at + BATCH_RECORDS_MAX])))
        self._start_retry_timer()

    def _start_retry_timer(self) -> None:
        if self._requested and self._retry_timer is None:
            self._retry_timer = asyncio.get_running_loop().call_later(REQUEST_RETRY_S, self._let_others_ask)

    def _let_others_ask(self) -> None:
        """Let other links that announced the late versions ask for them. The late ones may still come by this link."""
        self._retry_timer = None
        asked_before_s = asyncio.get_running_loop().time() - REQUEST_RETRY_S
        late = [version for version, asked_s in self._requested.values() if asked_s <= asked_before_s]
        if late:
            self._plumtree.note_late(late, self._link)
        self._start_retry_timer()

    def on_arrived(self, ids: Sequence[ShortId]) -> None:
        """Wait no more for these versions: they are stored, by whichever link they came."""
        for version in ids:
            self._stop_waiting(version)

    def _stop_waiting(self, version: ShortId) -> None:
        found = self._announced.pop(version, None)
        if found is not None:
            progress = self._progress[found[0]]
            progress.waiting -= 1
            self._free_window(ANNOUNCEMENT_WEIGHT)
            self._save_cursor(found[0], progress)

    async def _store_bodies(self, message: Bodies) -> None:
        """Store versions that this side asked for. Raises RemoteError for others."""
        requested = [self._requested.pop((message.context, seq), None) for seq in message.seqs]
        ids = {found[0] for found in requested if found is not None}
        records = await verify_all(message.records, message.context)
        brought = {short_id(record.id) for record in records}
        if len(ids) < len(message.seqs) or not brought <= ids or len(brought) < len(records):
            raise RemoteError(Reason.PROTOCOL_ERROR, "it sends what was not asked for")
        self._queue.tally.fetched += len(records)
        await self._apply(message.context, records, None)
        for version in ids:
            self._stop_waiting(version)
        # A version that has left the peer's log was superseded there. Other peers that announced it may still have it.
        self._plumtree.note_unanswered([version for version in ids if version not in brought], self._link)
        self._queue.on_moved(message.context)

    def check_answers(self) -> None:
        """Raise TransportError when the peer does not send what it was asked for."""
        now_s = asyncio.get_running_loop().time()
        if any(now_s - asked_s > FRAME_TIMEOUT_S for _, asked_s in self._requested.values()):
            raise TransportError("the peer does not deliver what it announced")

    def pending(self) -> Iterator[str]:
        """Yield what is still to be done with what the peer told, in words."""
        left = {
            "messages to take": self._inbox,
            "versions announced": self._announced,
            "versions wanted": self._requested,
        }
        yield from (words for words, there in left.items() if there)

    # -- progress ----------------------------------------------------------------------------------------------------

    def _free_window(self, taken: int) -> None:
        """Count bytes as taken, and tell the peer when they are many."""
        self._window_used -= taken
        self._window_freed += taken
        if self._window_freed >= _TAKEN_AT:
            self._queue.send_soon(Taken(min(self._window_freed, FOLLOW_WINDOW_BYTES)))
            self._window_freed -= min(self._window_freed, FOLLOW_WINDOW_BYTES)

    def _save_cursor(self, context: str, progress: _ContextProgress) -> None:
        if progress.is_whole and not progress.waiting:
            self._environment.note_followed(context, progress.stored)

    def is_equal(self) -> bool:
        """Return True when every context that is wanted here is followed, and has the root it had when the peer's root
        was the same."""
        store, takes = self._store, self._environment.owner.takes
        if any(context not in self._progress and takes(context) for context in store.contexts()):
            return False  # a context that is new here: the peer has told nothing of it yet
        return all(store.tree(context).root == progress.equal_at for context, progress in self._progress.items())

    def _compare_root(self, theirs: ContextRoot) -> None:
        """Compare roots of one context, of which no change is on its way to us."""
        progress = self._progress.get(theirs.context)
        if progress is None:
            self._follow_offered(theirs)
            return
        if theirs.seq < progress.told:
            raise RemoteError(Reason.PROTOCOL_ERROR, "its log has gone back")
        progress.told = progress.stored = theirs.seq
        ours = self._store.tree(theirs.context).root
        if ours == theirs.root:
            progress.equal_at = ours
            progress.is_whole = True
        elif not progress.waiting and self._is_quiet() and self._has_told_all(theirs.context):
            self._environment.owner.suspect()
        self._save_cursor(theirs.context, progress)

    def _is_quiet(self) -> bool:
        """Return True when the peer has had time to store what it was sent. If not, it will tell its roots again."""
        return asyncio.get_running_loop().time() - self.last_moved_s >= ROOTS_DELAY_S[0]

    def _follow_offered(self, theirs: ContextRoot) -> None:
        """Follow a context of the peer that was not known to be there, if it is wanted here."""
        environment = self._environment
        if not environment.owner.takes(theirs.context) or len(self._progress) > CONTEXTS_MAX:
            return
        ours = self._store.tree(theirs.context).root
        since = {_EMPTY: 0, theirs.root: theirs.seq}.get(ours)
        self._progress[theirs.context] = _ContextProgress(since or 0, since is not None)
        self._queue.send_soon(Follow((ContextCursor(theirs.context, since),)))
        if since is None:
            environment.owner.suspect()
