"""The sending side of a link: tells a peer the changes of this node's log, in order (PROTOCOL.md §8.15).

Versions that the peer is known to have are left out. An eager link sends records whole, another one announces them.
Never more is sent than the peer's window holds.
"""

from collections import deque

from echonode.errors import Reason, RemoteError
from echonode.limits import BATCH_BYTES_MAX, FOLLOW_WINDOW_BYTES
from echonode.model.record import IDENTITIES
from echonode.store.port import Change
from echonode.sync.live.plumtree import short_id
from echonode.sync.live.send_queue import SendQueue, weight
from echonode.wire.messages import Bodies, Commits, ContextCursor, ContextRoot, Missing, Roots

_REQUESTS_MAX = 16  # Missing messages that wait for an answer


class LinkSender:
    """This side of a link as the one that is followed. `cursors`: how far the peer has followed each context."""

    def __init__(self, queue: SendQueue, cursors: tuple[ContextCursor, ...]) -> None:
        self._queue = queue
        self._store = queue.environment.store
        self._plumtree = queue.environment.plumtree
        self._transport = queue.environment.transport
        self._told: dict[str, int] = {}  # by context: the seq up to which the peer was told
        self._requests: deque[Missing] = deque()
        self._announced = 0  # versions that the peer may still ask for
        self._window_used = 0  # bytes that the peer has not taken yet
        self._offered: set[str] = set()  # contexts
        for cursor in cursors:
            self.add_context(cursor)

    def add_context(self, cursor: ContextCursor) -> None:
        """Tell the peer of one more context from now on. Raises RemoteError for a cursor that cannot be."""
        seq = self._store.seq(cursor.context)
        if cursor.since is not None and cursor.since > seq:
            raise RemoteError(Reason.PROTOCOL_ERROR, "it claims to have followed us further than we are")
        if cursor.context in self._told:
            raise RemoteError(Reason.PROTOCOL_ERROR, "it is told of that context already")
        self._told[cursor.context] = seq if cursor.since is None else cursor.since
        if cursor.context == IDENTITIES:  # keys travel before the records they sign
            self._told = {IDENTITIES: self._told.pop(IDENTITIES)} | self._told
        self._queue.wake.set()

    def behind(self) -> int:
        """Return how many log entries the peer was not told of yet, at most, over all contexts."""
        return sum(max(0, self._store.seq(context) - told) for context, told in self._told.items())

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
        """Note that the peer took `taken` bytes. Raises RemoteError when that is more than it was sent."""
        if taken > self._window_used:
            raise RemoteError(Reason.PROTOCOL_ERROR, "it took more than it was told")
        self._window_used -= taken
        self._queue.wake.set()

    def add_request(self, request: Missing) -> None:
        """Queue an answer: the peer asks for versions that were announced. Raises RemoteError for others, and for too
        many requests."""
        if len(self._requests) >= _REQUESTS_MAX:
            raise RemoteError(Reason.PROTOCOL_ERROR, "it asks without waiting for answers")
        if request.context not in self._told:
            raise RemoteError(Reason.PROTOCOL_ERROR, "nothing of that context was announced")
        self._announced -= len(request.seqs)
        if self._announced < 0:
            raise RemoteError(Reason.PROTOCOL_ERROR, "it asks for more than was announced")
        self._requests.append(request)
        self._queue.is_eager = True
        self._queue.wake.set()

    async def send_changes(self) -> None:
        """Send or announce every new change of every context."""
        for context in list(self._told):
            while not self.has_told_all(context):
                await self._send_batch(context)
        self._offer_other_contexts()

    async def _send_batch(self, context: str) -> None:
        entries, upto = await self._plumtree.tail.read(context, self._told[context])
        news = [entry for entry in entries if self._queue.known.pop(short_id(entry.version), self) is self]
        upto = max(upto, self._told[context])
        if not news:
            self._told[context] = upto
            return
        is_whole = self._queue.is_eager
        message = Commits(
            context,
            upto,
            tuple(entry.raw for entry in news if is_whole),
            tuple((entry.seq, short_id(entry.version)) for entry in news if not is_whole),
        )
        if self._is_too_much(message):
            await self._wait_for_window(message)
        self._window_used += weight(message)
        self._announced += len(message.announced)
        await self.send_queued()
        await self._transport.send(message)
        self._told[context] = upto  # only now: roots that include these changes must be sent behind them
        self._queue.tally.sent += len(message.records)
        self._queue.on_moved(context)

    def _is_too_much(self, message: Commits) -> bool:
        return self._window_used > 0 and self._window_used + weight(message) > FOLLOW_WINDOW_BYTES

    async def _wait_for_window(self, message: Commits) -> None:
        """Wait until `message` fits the peer's window. Send queued messages meanwhile: the peer may be waiting for one
        of them before it takes more."""
        while self._is_too_much(message):
            self._queue.wake.clear()
            await self.send_queued()
            if self._is_too_much(message):
                await self._queue.wake.wait()
        self._queue.wake.set()  # other causes of a wake are looked at behind this message

    async def send_queued(self) -> None:
        """Send all that goes before changes: queued messages, and answers to requests."""
        while self._queue.outbox:
            await self._transport.send(self._queue.outbox.popleft())
        await self._answer_requests()

    async def _answer_requests(self) -> None:
        while self._requests:
            request = self._requests.popleft()
            found: list[tuple[int, Change | None]] = []
            size = 0
            for seq in request.seqs:
                entry = await self._plumtree.tail.find(request.context, seq)
                size += 0 if entry is None else len(entry.raw)
                if found and size > BATCH_BYTES_MAX:
                    await self._send_bodies(request.context, found)
                    found, size = [], 0 if entry is None else len(entry.raw)
                found.append((seq, entry))
            await self._send_bodies(request.context, found)

    async def _send_bodies(self, context: str, found: list[tuple[int, Change | None]]) -> None:
        records = tuple(entry.raw for _, entry in found if entry is not None)
        await self._transport.send(Bodies(context, tuple(seq for seq, _ in found), records))
        self._queue.tally.sent += len(records)

    def _offer_other_contexts(self) -> None:
        """Send the roots of contexts that the peer is not told of: it may not know them."""
        store = self._store
        new = [name for name in store.contexts() if name not in self._told and name not in self._offered]
        new = [name for name in new if self._queue.environment.owner.takes(name)]
        if new:
            self._offered.update(new)
            roots = tuple(ContextRoot(name, store.tree(name).root, store.seq(name)) for name in new)
            self._queue.send_soon(Roots(roots))
