"""The sending side of a link: tells a peer the changes of this node's log, context by context (PROTOCOL.md §8.15).

Contexts take turns, one message each. Versions that the peer is known to have are left out. An eager link sends records
whole, another one announces them. Never more is sent than the peer's window holds, nor more of one context than
UNTAKEN_RECORDS_MAX: so news of another context never waits long.
"""

from collections import Counter, deque
from dataclasses import dataclass

from echonode.errors import Reason, RemoteError
from echonode.limits import (
    BATCH_BYTES_MAX,
    COMMITS_RECORDS_MAX,
    CONTEXTS_TOLD_MAX,
    FOLLOW_WINDOW_BYTES,
    REQUESTS_MAX,
    UNTAKEN_RECORDS_MAX,
)
from echonode.model.record import IDENTITIES
from echonode.store.port import Change
from echonode.sync.live.plumtree import short_id
from echonode.sync.live.send_queue import SendQueue, weight
from echonode.wire.messages import Bodies, Commits, ContextCursor, ContextRoot, Missing, Roots


@dataclass(slots=True)
class _Untaken:
    """A Commits, or the rest of one, that the peer has not taken. `weight`: in bytes of the window."""

    context: str
    weight: int
    records: int


class LinkSender:
    """This side of a link as the one that is followed. `cursors`: how far the peer has followed each context."""

    def __init__(self, queue: SendQueue, cursors: tuple[ContextCursor, ...]) -> None:
        self._queue = queue
        self._store = queue.environment.store
        self._transport = queue.environment.transport
        self._told: dict[str, int] = {}  # by context: the seq up to which the peer was told
        self._equal_at: dict[str, bytes] = {}  # by context: our root when the peer last had the same
        self._requests: deque[Missing] = deque()
        self._announced = 0  # versions that the peer may still ask for
        self._window_used = 0  # bytes that the peer has not taken yet
        self._untaken: deque[_Untaken] = deque()  # oldest first
        self._untaken_records: Counter[str] = Counter()  # by context
        self._offered: set[str] = set()  # contexts
        self.is_from_cursors = all(cursor.since is not None for cursor in cursors)
        for cursor in cursors:
            self.add_context(cursor)

    def add_context(self, cursor: ContextCursor) -> None:
        """Tell the peer of one more context from now on. Raises RemoteError for a cursor that cannot be, and for more
        contexts than a link may have."""
        seq = self._store.seq(cursor.context)
        if cursor.since is not None and cursor.since > seq:
            raise RemoteError(Reason.PROTOCOL_ERROR, "it claims to have followed us further than we are")
        if cursor.context in self._told:
            raise RemoteError(Reason.PROTOCOL_ERROR, "it is told of that context already")
        if len(self._told) >= CONTEXTS_TOLD_MAX:
            raise RemoteError(Reason.PROTOCOL_ERROR, "it asks for more contexts than a link may have")
        self._told[cursor.context] = seq if cursor.since is None else cursor.since
        if cursor.context == IDENTITIES:  # keys travel before the records they sign
            self._told = {IDENTITIES: self._told.pop(IDENTITIES)} | self._told
        self._queue.wake.set()

    def behind(self) -> int:
        """Return how many log entries the peer has not taken yet, at most, over all contexts; 0 when it is equal."""
        return sum(
            max(0, self._store.seq(context) - told) + self._untaken_records[context]
            for context, told in self._told.items()
            if self._store.tree(context).root != self._equal_at.get(context)
        ) + sum(len(self._store.tree(context)) for context in self.not_asked_for())

    def not_asked_for(self) -> list[str]:
        """Return the contexts held here that the peer has not asked to be told of."""
        takes = self._queue.environment.owner.takes
        return [context for context in self._store.contexts() if context not in self._told and takes(context)]

    def has_untold(self) -> bool:
        """Return True when there are changes that the peer was not told of."""
        return any(not self.has_told_all(context) for context in self._told)

    @property
    def has_questions(self) -> bool:
        """True while versions that the peer asked for are to be sent."""
        return bool(self._requests)

    def covers(self, context: str) -> bool:
        """Return True when the peer is told of `context`."""
        return context in self._told

    def has_told_all(self, context: str) -> bool:
        """Return True when the peer was told of every change of `context`."""
        return self._told.get(context, -1) >= self._store.seq(context)

    def note_equal(self, context: str) -> None:
        """Note that the peer holds all that is held here of `context`: there is nothing to tell of it."""
        if context in self._told:
            self._equal_at[context] = self._store.tree(context).root
            self._told[context] = max(self._told[context], self._store.seq(context))

    def roots(self, contexts: list[str] | None = None) -> Roots | None:
        """Return the roots of `contexts` (None: of all that the peer is told of) whose every change was told. None when
        there is no such context."""
        names = list(self._told) if contexts is None else contexts
        roots = [
            ContextRoot(name, self._store.tree(name).root, self._store.seq(name))
            for name in names
            if self.has_told_all(name)
        ]
        return Roots(tuple(roots)) if roots else None

    def free_window(self, taken: int) -> None:
        """Note that the peer took `taken` bytes. Raises RemoteError when that is more than it was sent.

        The peer takes contexts in turn and does not say which: the oldest count as taken first.
        """
        if taken > self._window_used:
            raise RemoteError(Reason.PROTOCOL_ERROR, "it took more than it was told")
        self._window_used -= taken
        while taken and self._untaken:
            oldest = self._untaken[0]
            share = min(taken, oldest.weight)
            records = oldest.records * share // oldest.weight
            self._untaken_records[oldest.context] -= records
            oldest.weight, oldest.records, taken = oldest.weight - share, oldest.records - records, taken - share
            if not oldest.weight:
                self._untaken.popleft()
        self._queue.wake.set()

    def add_request(self, request: Missing) -> None:
        """Queue an answer: the peer asks for versions that were announced. Raises RemoteError for others, and for too
        many requests."""
        if len(self._requests) >= REQUESTS_MAX:
            raise RemoteError(Reason.PROTOCOL_ERROR, "it asks without waiting for answers")
        if request.context not in self._told:
            raise RemoteError(Reason.PROTOCOL_ERROR, "nothing of that context was announced")
        self._announced -= len(request.seqs)
        if self._announced < 0:
            raise RemoteError(Reason.PROTOCOL_ERROR, "it asks for more than was announced")
        self._requests.append(request)
        self._queue.is_eager = True
        self._queue.wake.set()

    async def send_round(self, *, with_changes: bool) -> bool:
        """Send what is queued, one answer, and `with_changes` one message of each context that has news and room.

        Return True when there may be more to send.
        """
        has_more = False
        await self._send_queued()
        if self._requests:
            await self._answer(self._requests.popleft())
        if with_changes:
            for context in list(self._told):
                if context != IDENTITIES in self._told and not self.has_told_all(IDENTITIES):
                    break  # keys travel before the records they sign
                if not self.has_told_all(context):
                    has_more |= await self._send_batch(context)
                    await self._send_queued()
            self._offer_other_contexts()
        return has_more or bool(self._queue.outbox or self._requests)

    async def _send_batch(self, context: str) -> bool:
        """Send the next changes of `context`. Return False when there are no more, or no room for them."""
        before = self._told[context]
        if self._has_enough_untaken(context):
            return False
        entries, upto = await self._store.changes(
            context, before, records_max=COMMITS_RECORDS_MAX, bytes_max=BATCH_BYTES_MAX
        )
        if self._told[context] != before:
            return True  # the peer turned out to be equal meanwhile
        known, roots = self._queue.known, self._queue.roots_of(context)
        is_held = self._queue.environment.plumtree.is_held_in
        news = [
            entry
            for entry in entries
            if (version := short_id(entry.version)) not in known and not is_held(version, roots)
        ]
        is_whole = self._queue.is_eager
        message = Commits(
            context,
            max(upto, before),
            tuple(entry.raw for entry in news if is_whole),
            tuple((entry.seq, short_id(entry.version)) for entry in news if not is_whole),
        )
        if news and 0 < self._window_used > FOLLOW_WINDOW_BYTES - weight(message):
            return False
        for entry in entries:
            known.pop(short_id(entry.version), None)
        if news:
            await self._send_commits(message)
        self._told[context] = max(self._told[context], message.seq)  # only now: roots with these changes come behind
        return not self.has_told_all(context)

    def _has_enough_untaken(self, context: str) -> bool:
        return self._untaken_records[context] > UNTAKEN_RECORDS_MAX - COMMITS_RECORDS_MAX

    async def _send_commits(self, message: Commits) -> None:
        records = len(message.records) + len(message.announced)
        self._window_used += weight(message)
        self._untaken.append(_Untaken(message.context, weight(message), records))
        self._untaken_records[message.context] += records
        self._announced += len(message.announced)
        await self._transport.send(message)
        self._queue.tally.sent += len(message.records)
        self._queue.progress.moved(message.context)

    async def _send_queued(self) -> None:
        while self._queue.outbox:
            await self._transport.send(self._queue.outbox.popleft())

    async def _answer(self, request: Missing) -> None:
        found: list[tuple[int, Change | None]] = []
        size = 0
        for seq in request.seqs:
            entry = await self._entry(request.context, seq)
            size += 0 if entry is None else len(entry.raw)
            if found and size > BATCH_BYTES_MAX:
                await self._send_bodies(request.context, found)
                found, size = [], 0 if entry is None else len(entry.raw)
            found.append((seq, entry))
        await self._send_bodies(request.context, found)

    async def _entry(self, context: str, seq: int) -> Change | None:
        """Return the log entry of that seq, None when it has left the log."""
        if not 0 < seq <= self._store.seq(context):
            return None
        entries, _ = await self._store.changes(context, seq - 1, records_max=1, bytes_max=1)
        return entries[0] if entries and entries[0].seq == seq else None

    async def _send_bodies(self, context: str, found: list[tuple[int, Change | None]]) -> None:
        records = tuple(entry.raw for _, entry in found if entry is not None)
        await self._transport.send(Bodies(context, tuple(seq for seq, _ in found), records))
        self._queue.tally.sent += len(records)

    def _offer_other_contexts(self) -> None:
        """Send the roots of contexts that the peer is not told of: it may not know them."""
        store = self._store
        new = [name for name in self.not_asked_for() if name not in self._offered]
        if new := new[:CONTEXTS_TOLD_MAX]:
            self._offered.update(new)
            roots = tuple(ContextRoot(name, store.tree(name).root, store.seq(name)) for name in new)
            self._queue.send_soon(Roots(roots))
