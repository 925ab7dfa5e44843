"""Telling a peer what is new in our log (PROTOCOL.md §8.15): in order, what it is known to have left out.

Whole on a link that is eager, announced on one that is not, and never more than the peer's window holds.
"""

from collections import deque

from echonode.errors import Reason, RemoteError
from echonode.limits import BATCH_BYTES_MAX, FOLLOW_WINDOW_BYTES
from echonode.model.record import IDENTITIES
from echonode.store.port import Change
from echonode.sync.live.plumtree import short
from echonode.sync.live.send_queue import SendQueue, weight
from echonode.wire.messages import Bodies, Commits, ContextCursor, ContextRoot, Missing, Roots

_WANTS_MAX = 16  # requests waiting for an answer; each is a message


class LinkSender:
    """Our side as the one that is followed."""

    def __init__(self, lane: SendQueue, places: tuple[ContextCursor, ...]) -> None:
        self._lane = lane
        self._told: dict[str, int] = {}
        self._wants: deque[Missing] = deque()
        self._announced = 0  # and not asked for, as far as it may be
        self._open = 0  # of the peer's window, what is told and not taken
        self._offered: set[str] = set()
        for place in places:
            self.begin(place)

    def begin(self, place: ContextCursor) -> None:
        """The peer wants to be told of one more context."""
        seq = self._lane.ends.store.seq(place.context)
        if place.since is not None and place.since > seq:
            raise RemoteError(Reason.PROTOCOL_ERROR, "it claims to have followed us further than we are")
        if place.context in self._told:
            raise RemoteError(Reason.PROTOCOL_ERROR, "it is told of that context already")
        self._told[place.context] = seq if place.since is None else place.since
        if place.context == IDENTITIES:  # keys travel before what they sign
            self._told = {IDENTITIES: self._told.pop(IDENTITIES)} | self._told
        self._lane.wake.set()

    def behind(self) -> int:
        """How far the log is ahead of what was told, over all contexts."""
        store = self._lane.ends.store
        return sum(max(0, store.seq(context) - told) for context, told in self._told.items())

    @property
    def has_questions(self) -> bool:
        """Whether announced versions that the peer asked for are still to be sent."""
        return bool(self._wants)

    def leads(self, context: str) -> bool:
        """Whether the peer is told of `context`."""
        return context in self._told

    def is_told(self, context: str) -> bool:
        """Whether the peer was told of all there is."""
        return self._told.get(context, -1) >= self._lane.ends.store.seq(context)

    def roots(self, contexts: list[str] | None = None) -> Roots | None:
        """Where those contexts stand (None: all of which the peer is told), as far as all of them was told."""
        store = self._lane.ends.store
        names = list(self._told) if contexts is None else contexts
        roots = [ContextRoot(name, store.tree(name).root, store.seq(name)) for name in names if self.is_told(name)]
        return Roots(tuple(roots)) if roots else None

    def taken(self, taken: int) -> None:
        """The peer has room again."""
        if taken > self._open:
            raise RemoteError(Reason.PROTOCOL_ERROR, "it took more than it was told")
        self._open -= taken
        self._lane.wake.set()

    def want(self, want: Missing) -> None:
        """The peer asks for what was announced."""
        if len(self._wants) >= _WANTS_MAX:
            raise RemoteError(Reason.PROTOCOL_ERROR, "it asks without waiting for answers")
        if want.context not in self._told:
            raise RemoteError(Reason.PROTOCOL_ERROR, "nothing of that context was announced")
        self._announced -= len(want.seqs)
        if self._announced < 0:
            raise RemoteError(Reason.PROTOCOL_ERROR, "it asks for more than was announced")
        self._wants.append(want)
        self._lane.is_eager = True
        self._lane.wake.set()

    async def tell(self) -> None:
        """Send what is new in every context."""
        for context in list(self._told):
            while not self.is_told(context):
                await self._tell_some(context)
        self._offer_others()

    async def _tell_some(self, context: str) -> None:
        entries, upto = await self._lane.ends.spread.tail.read(context, self._told[context])
        news = [entry for entry in entries if self._lane.known.pop(short(entry.version), self) is self]
        upto = max(upto, self._told[context])
        if not news:
            self._told[context] = upto
            return
        is_whole = self._lane.is_eager
        message = Commits(
            context,
            upto,
            tuple(entry.raw for entry in news if is_whole),
            tuple((entry.seq, short(entry.version)) for entry in news if not is_whole),
        )
        if self._is_full(message):
            await self._wait_for_room(message)
        self._open += weight(message)
        self._announced += len(message.announced)
        await self.flush()
        await self._lane.ends.transport.send(message)
        self._told[context] = upto  # not before: what is said of it must come behind it
        self._lane.figures.sent += len(message.records)
        self._lane.on_moved(context)

    def _is_full(self, message: Commits) -> bool:
        return self._open > 0 and self._open + weight(message) > FOLLOW_WINDOW_BYTES

    async def _wait_for_room(self, message: Commits) -> None:
        """What there is to say goes on meanwhile: the peer may be waiting for our word that we took."""
        while self._is_full(message):
            self._lane.wake.clear()
            await self.flush()
            if self._is_full(message):
                await self._lane.wake.wait()
        self._lane.wake.set()  # whatever else it was about, is looked at behind this

    async def flush(self) -> None:
        """Send what is to be said before anything more is told."""
        while self._lane.outbox:
            await self._lane.ends.transport.send(self._lane.outbox.popleft())
        await self._answer_wants()

    async def _answer_wants(self) -> None:
        while self._wants:
            want = self._wants.popleft()
            found: list[tuple[int, Change | None]] = []
            size = 0
            for seq in want.seqs:
                entry = await self._lane.ends.spread.tail.find(want.context, seq)
                size += 0 if entry is None else len(entry.raw)
                if found and size > BATCH_BYTES_MAX:
                    await self._send_bodies(want.context, found)
                    found, size = [], 0 if entry is None else len(entry.raw)
                found.append((seq, entry))
            await self._send_bodies(want.context, found)

    async def _send_bodies(self, context: str, found: list[tuple[int, Change | None]]) -> None:
        records = tuple(entry.raw for _, entry in found if entry is not None)
        await self._lane.ends.transport.send(Bodies(context, tuple(seq for seq, _ in found), records))
        self._lane.figures.sent += len(records)

    def _offer_others(self) -> None:
        """Contexts that the peer is not told of: it may not have known that there are any."""
        store = self._lane.ends.store
        new = [name for name in store.contexts() if name not in self._told and name not in self._offered]
        new = [name for name in new if self._lane.ends.takes(name)]
        if new:
            self._offered.update(new)
            self._lane.say(Roots(tuple(ContextRoot(name, store.tree(name).root, store.seq(name)) for name in new)))
