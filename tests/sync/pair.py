"""Two real stores and a transport between them, for tests of executors. Every message passes the codec."""

import asyncio
from collections.abc import Callable, Sequence

from echonode.clock import HybridClock
from echonode.errors import PeerRefused, Reason, TransportError
from echonode.limits import FRAME_BYTES_MAX
from echonode.model.identity import Identity, Instance
from echonode.model.keys import KeyState, statement_draft
from echonode.model.record import MAIN, Draft, Record
from echonode.store.memory import MemoryStore
from echonode.store.port import Store
from echonode.sync.conversation import Conversation
from echonode.wire.codec import decode, encode
from echonode.wire.messages import Close, Message, Ping, Pong


class PairedTransport:
    """One end of a pair of queues. The pair breaks when `cut` says so."""

    def __init__(self, inbox: "asyncio.Queue[bytes]", outbox: "asyncio.Queue[bytes]", cut: "Cut") -> None:
        self._inbox, self._outbox, self._cut = inbox, outbox, cut
        self.bytes_sent = self.bytes_received = 0
        self.sent: list[Message] = []
        self.is_hung = False  # answers no Ping

    async def send(self, message: Message) -> None:
        if self._cut.is_due():
            self._outbox.put_nowait(b"")
            self._inbox.put_nowait(b"")
            raise TransportError("cut")
        payload = encode(message)
        assert len(payload) <= FRAME_BYTES_MAX
        assert decode(payload) == message, message
        self.sent.append(message)
        self.bytes_sent += len(payload)
        self._outbox.put_nowait(payload)

    async def recv(self) -> Message:
        while True:
            payload = await self._inbox.get()
            if not payload:
                raise TransportError("cut")
            self.bytes_received += len(payload)
            match decode(payload):
                case Close(reason):
                    raise PeerRefused(Reason(reason))
                case Ping() if not self.is_hung:
                    self.bytes_sent += len(encode(Pong()))
                    self._outbox.put_nowait(encode(Pong()))
                case Ping() | Pong():
                    pass
                case message:
                    return message

    def end(self) -> None:
        self._outbox.put_nowait(b"")


class Cut:
    """Breaks the pair after so many messages, of both ends together."""

    def __init__(self, after: int | None = None) -> None:
        self._left = after

    def is_due(self) -> bool:
        if self._left is None:
            return False
        self._left -= 1
        return self._left < 0


def paired(cut: Cut | None = None) -> tuple[PairedTransport, PairedTransport]:
    there: asyncio.Queue[bytes] = asyncio.Queue()
    back: asyncio.Queue[bytes] = asyncio.Queue()
    cut = cut or Cut()
    return PairedTransport(back, there, cut), PairedTransport(there, back, cut)


def ignore(_: object) -> None:
    """Do nothing, as a listener."""


def conversation(transport: PairedTransport, store: Store, context: str = MAIN) -> Conversation:
    return Conversation(transport, store, context, ignore, ignore)


class Author:
    """The keys, clock and store of a node, without the node."""

    def __init__(self, number: int, store: Store | None = None) -> None:
        seed = number.to_bytes(4, "big")
        self.identity = Identity.from_seeds(b"root" * 7 + seed, b"devi" * 7 + seed)
        self.store = store or MemoryStore(Instance(seed * 2))
        self.clock = HybridClock()
        self._now_ms = 1_700_000_000_000 + number

    def tick(self):
        self._now_ms += 1
        return self.clock.tick(self._now_ms)

    async def introduce(self, *others: "Author") -> None:
        """State this author's device key in every store given, its own first."""
        draft = statement_draft(self.identity.id, self.identity.device.public, KeyState.ACTIVE)
        (statement,), _ = await self.store.write([draft], self.identity.root, self.tick)
        assert statement is not None
        for other in others:
            await other.store.apply(statement.context, [statement])

    async def put(self, name: str, body: bytes = b"", *, context: str = MAIN, author: bytes | None = None) -> Record:
        return (await self.put_all([(name, body)], context=context, author=author))[0]

    async def put_all(
        self, items: Sequence[tuple[str, bytes]], *, context: str = MAIN, author: bytes | None = None
    ) -> list[Record]:
        drafts = [
            Draft(context=context, author=author or self.identity.id, name=name, body=body) for name, body in items
        ]
        written, applied = await self.store.write(drafts, self.identity.device, self.tick)
        assert not applied.refused, applied.refused
        return [record for record in written if record is not None]

    async def delete(self, name: str, *, context: str = MAIN) -> None:
        draft = Draft(context=context, author=self.identity.id, name=name, is_tombstone=True)
        await self.store.write([draft], self.identity.device, self.tick)


async def acquainted(count: int, make_store: Callable[[int], Store] | None = None) -> list[Author]:
    """Return authors that hold each other's key statements."""
    authors = [Author(number, make_store(number) if make_store else None) for number in range(1, count + 1)]
    for author in authors:
        await author.introduce(*[other for other in authors if other is not author])
    return authors


def all_heads(store: Store, context: str = MAIN) -> bytes:
    return store.tree(context).root
