"""A session's beginning: handshake, AUTH, hello. From here on both ends know whom they speak with (PROTOCOL.md §5).

    initiator                                        responder
      message 1                             ->
                                            <-         message 2
      message 3, AUTH                       ->         verifies, admits
                                            <-         AUTH, Hello        (or Close)
      verifies, admits; Hello, then a turn  ->
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from echonode.clock import Entropy
from echonode.errors import PeerRefused, Reason, RemoteError, TransportError
from echonode.limits import AUTH_TIMEOUT_S, HANDSHAKE_TIMEOUT_S
from echonode.model.identity import PublicKey, SigningKey
from echonode.model.record import Record
from echonode.sync.streams import ByteStream
from echonode.sync.transport import StreamTransport
from echonode.wire import auth
from echonode.wire.channel import Channel, Handshake, NetworkSecret
from echonode.wire.messages import PROTOCOL_VERSION, Auth, Close, Hello, version_text

_M = TypeVar("_M")


@dataclass(frozen=True, slots=True)
class Session:
    """An authenticated connection. `id` is the same on both nodes; `hello` is the peer's."""

    id: bytes
    transport: StreamTransport
    peer: auth.Peer
    hello: Hello
    is_initiator: bool

    @property
    def address(self) -> str:
        """The other end of the connection."""
        return self.transport.stream.address

    @property
    def listens_at(self) -> str:
        """Where the peer can be dialled, as far as we know."""
        if self.is_initiator or not self.hello.port:
            return self.address
        return f"{self.address.rpartition(':')[0]}:{self.hello.port}"


@dataclass(frozen=True, slots=True)
class LocalSide:
    """What this node says of itself, and whom it lets in.

    `make_hello` tells the peer with that key what we hold; `suspect` hears of an AUTH that fails; `admit` raises
    PeerRefused for a peer that is kept out: called once its AUTH is known, and again with its hello; `foreign` hears
    of a peer with which there is no protocol major in common, and of its hello where that is known.
    """

    device: SigningKey
    statements: Callable[[], Sequence[Record]]
    make_hello: Callable[[PublicKey, bytes], Hello]
    suspect: Callable[[Auth, ByteStream], None]
    admit: Callable[[auth.Peer, Hello | None, StreamTransport], None]
    foreign: Callable[[auth.Peer, Hello | None, StreamTransport, PeerRefused], None]


async def shake_hands(stream: ByteStream, handshake: Handshake) -> Channel:
    """Run the handshake over `stream`. Raises TransportError, or RemoteError before which nothing was answered."""
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            await _flush(stream, handshake)
            while handshake.channel is None:
                data = await stream.read()
                if not data:
                    raise TransportError("it hung up during the handshake: perhaps it is of another network")
                handshake.receive_data(data)
                await _flush(stream, handshake)
            return handshake.channel
    except TimeoutError:
        raise TransportError("the handshake timed out") from None


async def initiate(stream: ByteStream, secret: NetworkSecret, local: LocalSide, entropy: Entropy) -> Session:
    """Open a session over a connected stream."""
    handshake = Handshake.initiator(secret, static=entropy.random_bytes(32), ephemeral=entropy.random_bytes(32))
    transport = StreamTransport(stream, await shake_hands(stream, handshake))
    async with introductions():
        return await _initiate(transport, local)


async def _initiate(transport: StreamTransport, local: LocalSide) -> Session:
    await transport.send(auth.offer(transport.channel, local.device, local.statements()))
    peer = await _identify(transport, local)
    hello = await _hear(transport, local, peer)
    await _admit(transport, local, peer, hello)
    await transport.send(local.make_hello(peer.key, hello.session))
    transport.is_introduced = True
    return Session(hello.session, transport, peer, hello, True)


async def answer(transport: StreamTransport, local: LocalSide, session_id: bytes) -> Session:
    """The responder's side, once the handshake is done; `session_id` is 16 fresh random bytes."""
    async with introductions():
        return await _answer(transport, local, session_id)


async def _answer(transport: StreamTransport, local: LocalSide, session_id: bytes) -> Session:
    peer = await _identify(transport, local)
    await transport.send(auth.offer(transport.channel, local.device, local.statements()))
    await transport.send(local.make_hello(peer.key, session_id))
    hello = await _hear(transport, local, peer)
    if hello.session != session_id:
        raise RemoteError(Reason.PROTOCOL_ERROR, "the hello names another session")
    await _admit(transport, local, peer, hello)
    transport.is_introduced = True
    return Session(session_id, transport, peer, hello, False)


@asynccontextmanager
async def introductions() -> AsyncIterator[None]:
    """The time a peer has to say who it is."""
    try:
        async with asyncio.timeout(AUTH_TIMEOUT_S):
            yield
    except TimeoutError:
        raise TransportError("the peer did not introduce itself in time") from None


async def receive(transport: StreamTransport, kind: type[_M]) -> _M:
    """The next message, which must be a `kind`. Raises RemoteError for another."""
    message = await transport.recv()
    if not isinstance(message, kind):
        raise RemoteError(Reason.PROTOCOL_ERROR, f"expected {kind.__name__}, not {type(message).__name__}")
    return message


async def _identify(transport: StreamTransport, local: LocalSide) -> auth.Peer:
    """Who is at the other end. Somebody whose proof fails gets no answer."""
    claimed = await receive(transport, Auth)
    try:
        peer = auth.check(transport.channel, claimed)
    except RemoteError:
        local.suspect(claimed, transport.stream)
        raise
    await _admit(transport, local, peer, None)
    return peer


async def _hear(transport: StreamTransport, local: LocalSide, peer: auth.Peer) -> Hello:
    """The hello of `peer`, of our protocol major; whoever sees first that it is another says so (§11)."""
    hello: Hello | None = None
    try:
        hello = await receive(transport, Hello)
        if hello.version[0] != PROTOCOL_VERSION[0]:
            ours, theirs = version_text(PROTOCOL_VERSION), version_text(hello.version)
            await transport.send(Close(Reason.UNSUPPORTED_PROTOCOL, (ours,)))
            raise PeerRefused(Reason.UNSUPPORTED_PROTOCOL, f"it speaks {theirs}", (ours,))
    except PeerRefused as refused:
        if refused.reason is Reason.UNSUPPORTED_PROTOCOL:
            local.foreign(peer, hello, transport, refused)
        raise
    return hello


async def _admit(
    transport: StreamTransport, local: LocalSide, peer: auth.Peer, hello: Hello | None
) -> None:
    """Tell a peer that is kept out why, before the refusal is raised here."""
    try:
        local.admit(peer, hello, transport)
    except PeerRefused as refusal:
        await transport.send(Close(refusal.reason, refusal.supported))
        raise


async def _flush(stream: ByteStream, handshake: Handshake) -> None:
    data = handshake.data_to_send()
    if data:
        await stream.write(data)

