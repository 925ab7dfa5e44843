"""The receiving side of a link: verifies the peer's changes and stores them with the cursor, in order.

The cursor passes an announced version only when that is stored. Once a version was refused that may be admitted later,
the cursor stays: then trees are compared, and equal roots move it on (PROTOCOL.md §8.15).
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, TypeAlias

from echonode.errors import Reason, RemoteError
from echonode.limits import (
    ANNOUNCEMENT_WEIGHT,
    BATCH_BYTES_MAX,
    COMMITS_RECORDS_MAX,
    CONTEXTS_TOLD_MAX,
    FOLLOW_WINDOW_BYTES,
    REPLAYS_MAX,
    SUSPECT_S,
    TAKEN_RECORDS,
)
from echonode.model.merkle import Tree
from echonode.model.record import IDENTITIES, Record
from echonode.store.port import Applied
from echonode.sync.live.plumtree import PlumtreeLink, ShortId, remember, short_id
from echonode.sync.live.requests import Requests
from echonode.sync.live.send_queue import SendQueue, weight
from echonode.sync.live.sender import LinkSender
from echonode.sync.tasks import all_ended
from echonode.sync.verify_apply import verify_all, within_bounds
from echonode.sync.work import RECORD_REFUSED_S
from echonode.wire.messages import Bodies, Commits, ContextCursor, ContextRoot, Follow, Lazy, Roots, Taken

_Incoming: TypeAlias = Commits | Bodies | ContextRoot

_INBOX_BYTES_MAX = 2 * FOLLOW_WINDOW_BYTES  # beyond it no message is read; the window alone bounds what is sent unasked
_ROOT_BYTES = 256  # what a root counts in that
_JOINED_MAX = 2 * COMMITS_RECORDS_MAX  # records in one transaction; a context that comes then waits for these
_FEW = 16  # records: more are a bulk, which is processed beside messages of other contexts
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
    their_root: bytes = b""  # the latest that the peer told
    replays: int = 0  # records in a row that were no news
    moved_s: float = 0.0  # when records of it were last sent or received

    def __post_init__(self) -> None:
        self.stored = self.told


class LinkReceiver:
    """This side of a link as the one that follows.

    `cursors`: how far each context has been followed; `link`: the link itself, as the other links know it; `sender`:
    the other side of the link, which knows of what the peer was told.
    """

    def __init__(
        self, queue: SendQueue, cursors: Sequence[ContextCursor], link: PlumtreeLink, sender: LinkSender
    ) -> None:
        self._queue = queue
        self._environment = queue.environment
        self._plumtree = queue.environment.plumtree
        self._store = queue.environment.store
        self._link = link
        self._sender = sender
        self._progress = {each.context: _ContextProgress(each.since or 0, each.since is not None) for each in cursors}
        self._inbox: dict[str, deque[_Incoming]] = {}  # by context, of which the first has the next turn
        self._inbox_bytes = 0
        self._has_message = asyncio.Event()
        self._has_room = asyncio.Event()
        self._announced: dict[ShortId, tuple[str, int]] = {}  # versions that are not here: their context and seq
        self._requests = Requests(queue, link)
        self._window_used = 0  # bytes received and not taken yet
        self._window_freed = 0  # bytes taken that the peer was not told of yet
        self._records_freed = 0  # records of these
        self._bulk: asyncio.Task[None] | None = None  # the work on a bulk, and
        self._bulk_context = ""  # its context, of which nothing else is processed meanwhile

    # -- messages ----------------------------------------------------------------------------------------------------

    async def enqueue(self, message: Commits | Bodies | Roots) -> None:
        """Queue `message` to be stored in its turn. Wait while the queue is full. Raises RemoteError when the peer
        overruns the window."""
        if isinstance(message, Commits):
            if self._window_used > FOLLOW_WINDOW_BYTES:
                raise RemoteError(Reason.PROTOCOL_ERROR, "it tells more than was taken of it")
            self._window_used += weight(message)
        while self._inbox_bytes > _INBOX_BYTES_MAX:
            self._has_room.clear()
            await self._has_room.wait()
        for item in message.roots if isinstance(message, Roots) else (message,):
            self._inbox.setdefault(item.context, deque()).append(item)
            self._inbox_bytes += _size(item)
        self._has_message.set()

    @property
    def is_full(self) -> bool:
        """True while no message is read, because what was read waits to be stored."""
        return self._inbox_bytes > _INBOX_BYTES_MAX

    async def run(self) -> None:
        """Process queued messages, one of each context in turn, for ever. While a bulk of one context is verified and
        stored, messages of the others are. Raises RemoteError for what is wrong with them, and StoreError."""
        try:
            while True:
                context = self._next_context()
                if context is None:
                    self._has_message.clear()
                    await self._has_message.wait()
                else:
                    await self._process(context)
                if self._bulk is not None and self._bulk.done():
                    await self._end_bulk()
        finally:
            if self._bulk is not None:
                self._bulk.cancel()
                await all_ended((self._bulk,))

    def _next_context(self) -> str | None:
        """Return the context whose turn it is; None when no message waits but behind the bulk in work."""
        if IDENTITIES in self._inbox:
            return IDENTITIES
        return next((context for context in self._inbox if context != self._bulk_context), None)

    async def _process(self, context: str) -> None:
        """Process the next message of `context`, or begin with it when it is a bulk."""
        message = self._take(context)
        match message:
            case Commits():
                joined, total_weight = self._join_queued(message)
                work = self._store_commits(joined, total_weight)
                if len(joined.records) > _FEW and context != IDENTITIES:
                    await self._begin_bulk(context, work)
                else:
                    await work
            case Bodies():
                await self._store_bodies(message)
            case ContextRoot():
                self._compare_root(message)
                self._queue.progress.compared(self.is_equal())
        if context in self._inbox:
            self._inbox[context] = self._inbox.pop(context)  # the others come first

    async def _begin_bulk(self, context: str, work: Coroutine[Any, Any, None]) -> None:
        """Have `work`, that of a bulk of `context`, done beside other messages, once the bulk before it is done."""
        try:
            await self._end_bulk()
        except BaseException:
            work.close()
            raise
        self._bulk, self._bulk_context = asyncio.create_task(work), context
        self._bulk.add_done_callback(lambda _: self._has_message.set())

    async def _end_bulk(self) -> None:
        """Wait for the end of the bulk in work. Raises what it raised."""
        if self._bulk is not None:
            await asyncio.wait((self._bulk,))
            ended, self._bulk, self._bulk_context = self._bulk, None, ""
            ended.result()

    def _take(self, context: str) -> _Incoming:
        """Return the next queued message of `context`."""
        waiting = self._inbox[context]
        message = waiting.popleft()
        if not waiting:
            del self._inbox[context]
        self._inbox_bytes -= _size(message)
        self._has_room.set()
        return message

    def _join_queued(self, first: Commits) -> tuple[Commits, int]:
        """Join `first` with the Commits queued right behind it, so that they share a transaction, unless another
        context waits. Return them as one, and their weight."""
        records, size, last = list(first.records), sum(map(len, first.records)), first
        self._check_commits(first)
        total_weight = weight(first)
        while not last.announced and self._inbox.keys() == {first.context}:
            waiting = self._inbox[first.context]
            following = waiting[0]
            if not isinstance(following, Commits):
                break
            size += sum(map(len, following.records))
            if len(records) + len(following.records) > _JOINED_MAX or size > BATCH_BYTES_MAX:
                break
            self._take(first.context)
            self._check_commits(following)
            records += following.records
            total_weight += weight(following)
            last = following
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
        self._free_window(total_weight - ANNOUNCEMENT_WEIGHT * len(message.announced), len(message.records))
        self._queue.progress.moved(message.context)

    async def _apply(self, context: str, records: Sequence[Record], seq: int | None) -> Applied:
        """Store verified records, with the cursor at `seq` if there is one, and count them. Raises RemoteError for a
        peer that brings no news without end."""
        tally = self._queue.tally
        remember(self._queue.known, [short_id(record.id) for record in records])
        if not records:
            return Applied()
        await self._environment.owner.pace(len(records))
        applied = await self._apply_and_report(context, records, seq)
        tally.received += len(applied.records)
        tally.had += applied.had
        tally.refused += len(applied.refused)
        if len(applied.records) < len(records):
            self._note_not_stored(records, applied)
        if not_news := len(records) - len(applied.records):
            await self._environment.owner.charge(RECORD_REFUSED_S * not_news)
        progress = self._progress[context]
        replayed = len(records) - sum(one.reason is Reason.QUOTA for one in applied.refused)
        progress.replays = 0 if applied.records else progress.replays + replayed
        if progress.replays > REPLAYS_MAX + 2 * len(self._store.tree(context)):
            raise RemoteError(Reason.PROTOCOL_ERROR, "it tells nothing new, without end")
        if applied.is_gap:
            progress.is_whole = False
            self._queue.progress.suspect()
        return applied

    def _note_not_stored(self, records: Sequence[Record], applied: Applied) -> None:
        """Tell other links, which may wait for them, of `records` that did not become heads."""
        refused = [one.version for one in applied.refused]
        seen = {*refused, *[record.id for record in applied.records]}
        had = [short_id(record.id) for record in records if record.id not in seen]
        self._plumtree.note_arrived(had, self._environment.peer)
        self._plumtree.note_unanswered([short_id(version) for version in refused], self._link)

    async def _apply_and_report(self, context: str, records: Sequence[Record], seq: int | None) -> Applied:
        """Apply `records` and report what became of them, if the link ends meanwhile too."""
        environment, owner = self._environment, self._environment.owner
        cursor = None if seq is None else environment.cursor(context, seq)
        kept, excess = within_bounds(records, lambda each: owner.judge(context, each))

        def outcome(applied: Applied) -> Applied:
            return replace(applied, refused=(*applied.refused, *excess)) if excess else applied

        def report(applied: Applied) -> None:
            if applied.records:
                owner.applied(context, applied.records)
            if applied.strangers:
                owner.strangers(applied.strangers)
            if applied.outranked:
                owner.outranked(context, applied.outranked)
            if applied.voided:
                owner.voided(applied.voided)
            if refused := outcome(applied).refused:
                owner.refused(context, records, refused)

        return outcome(await self._store.apply(context, kept, cursor, report=report))

    def _came_by_another(self, record: Record) -> bool:
        return self._plumtree.was_brought_by_another(short_id(record.id), self._environment.peer)

    # -- announcements -----------------------------------------------------------------------------------------------

    def _note_announced(
        self, context: str, progress: _ContextProgress, announced: Sequence[tuple[int, ShortId]]
    ) -> None:
        """Wait for announced versions that are not here, and ask for those that no link is asked for."""
        remember(self._queue.known, [version for _, version in announced])
        self._queue.tally.announced += len(announced)
        wanted: dict[ShortId, tuple[str, int]] = {}
        for seq, version in announced:
            if self._plumtree.has_arrived(version) or version in self._announced:
                self._free_window(ANNOUNCEMENT_WEIGHT, 1)
                continue
            self._announced[version] = context, seq
            progress.waiting += 1
            if not self._plumtree.is_asked(version):
                wanted[version] = context, seq
        self._requests.ask(wanted)

    def close(self) -> None:
        """Cancel the timer: the link has ended."""
        self._requests.close()

    def ask_again(self, ids: Sequence[ShortId]) -> None:
        """Ask the peer for those of `ids` that it announced: no other link is asked for them now."""
        self._requests.ask({version: self._announced[version] for version in ids if version in self._announced})

    def on_arrived(self, ids: Sequence[ShortId]) -> None:
        """Wait no more for these versions: they are stored, by whichever link they came."""
        for version in ids:
            self._stop_waiting(version)

    def _stop_waiting(self, version: ShortId) -> None:
        found = self._announced.pop(version, None)
        if found is not None:
            self._requests.drop(*found)
            progress = self._progress[found[0]]
            progress.waiting -= 1
            self._free_window(ANNOUNCEMENT_WEIGHT, 1)
            self._save_cursor(found[0], progress)

    async def _store_bodies(self, message: Bodies) -> None:
        """Store versions that this side asked for. Raises RemoteError for others."""
        ids = self._requests.answered(message.context, message.seqs)
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
        self._queue.progress.moved(message.context)

    def check_answers(self) -> None:
        """Raise TransportError when the peer does not send what it was asked for."""
        self._requests.check()

    def pending(self) -> Iterator[str]:
        """Yield what is still to be done with what the peer told, in words."""
        left = {
            "messages to take": self._inbox or self._bulk,
            "versions announced": self._announced,
            "versions wanted": self._requests.is_waiting,
        }
        yield from (words for words, there in left.items() if there)

    # -- progress ----------------------------------------------------------------------------------------------------

    def _free_window(self, taken: int, records: int) -> None:
        """Count bytes and records as taken, and tell the peer when they are many."""
        self._window_used -= taken
        self._window_freed += taken
        self._records_freed += records
        if self._window_freed >= _TAKEN_AT or self._records_freed >= TAKEN_RECORDS:
            self.tell_taken()

    def tell_taken(self) -> None:
        """Tell the peer of everything that was taken."""
        self._records_freed = 0
        while self._window_freed > 0:
            self._queue.send_soon(Taken(min(self._window_freed, FOLLOW_WINDOW_BYTES)))
            self._window_freed -= min(self._window_freed, FOLLOW_WINDOW_BYTES)

    def note_moved(self, context: str) -> None:
        """Note that records of `context` were sent or received."""
        if context in self._progress:
            self._progress[context].moved_s = asyncio.get_running_loop().time()

    def _save_cursor(self, context: str, progress: _ContextProgress) -> None:
        if progress.is_whole and not progress.waiting:
            self._environment.note_followed(context, progress.stored)

    def is_equal(self) -> bool:
        """Return True when every context that is wanted here is followed, and has the root it had when the peer's root
        was the same."""
        store, takes = self._store, self._environment.owner.takes
        if any(context not in self._progress and takes(context) for context in store.contexts()):
            return False  # a context that is new here: the peer has told nothing of it yet
        return all(self._is_equal_in(context, progress) for context, progress in self._progress.items())

    def _is_equal_in(self, context: str, progress: _ContextProgress) -> bool:
        """Return True when our root is the one of the last equality, or the one that the peer told last."""
        ours = self._store.tree(context).root
        if ours == progress.their_root and ours != progress.equal_at:  # another link brought what the peer had told of
            progress.equal_at = ours
            self._sender.note_equal(context)
        return ours == progress.equal_at

    @property
    def is_whole(self) -> bool:
        """True when every context is followed without a gap, so that only what is in flight can be missing here."""
        return all(progress.is_whole for progress in self._progress.values())

    def _compare_root(self, theirs: ContextRoot) -> None:
        """Compare roots of one context, of which no change is on its way to us."""
        progress = self._progress.get(theirs.context)
        if progress is None:
            self._follow_offered(theirs)
            return
        if theirs.seq < progress.told:
            raise RemoteError(Reason.PROTOCOL_ERROR, "its log has gone back")
        progress.told = progress.stored = theirs.seq
        progress.their_root = self._queue.latest_roots[theirs.context] = theirs.root
        ours = self._store.tree(theirs.context).root
        if ours == theirs.root:
            progress.equal_at = ours
            progress.is_whole = True
            self._sender.note_equal(theirs.context)
        elif not self._is_quiet(progress):
            self._queue.progress.unequal(theirs.context)
        elif not progress.waiting and self._sender.has_told_all(theirs.context):
            self._queue.progress.suspect()
        self._save_cursor(theirs.context, progress)

    def _is_quiet(self, progress: _ContextProgress) -> bool:
        """Return True when the peer has had time to store what it was sent. If not, roots are told once more."""
        return asyncio.get_running_loop().time() - progress.moved_s >= SUSPECT_S

    def _follow_offered(self, theirs: ContextRoot) -> None:
        """Follow a context of the peer that was not known to be there, if it is wanted here."""
        environment = self._environment
        if not environment.owner.takes(theirs.context) or len(self._progress) >= CONTEXTS_TOLD_MAX:
            return
        ours = self._store.tree(theirs.context).root
        since = {_EMPTY: 0, theirs.root: theirs.seq}.get(ours)
        self._progress[theirs.context] = _ContextProgress(since or 0, since is not None)
        self._queue.send_soon(Follow((ContextCursor(theirs.context, since),)))
        if since is None:
            self._queue.progress.suspect()


def _size(item: _Incoming) -> int:
    """Return what `item` takes of the inbox, in bytes."""
    match item:
        case Commits():
            return weight(item)
        case Bodies(_, seqs, records):
            return sum(map(len, records)) + _ROOT_BYTES * len(seqs)
    return _ROOT_BYTES
