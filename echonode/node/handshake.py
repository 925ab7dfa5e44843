"""A session's beginning: handshake, AUTH, hello. From here on both ends know their peer (PROTOCOL.md §5).

    initiator                                        responder
      message 1                             ->
                                            <-         message 2
      message 3, AUTH                       ->         verifies, admits
                                            <-         AUTH, Hello        (or Close)
      verifies, admits; Hello, then a turn  ->
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from echonode.clock import Entropy
from echonode.errors import PeerRefused, Reason, RemoteError, TransportError
from echonode.limits import AUTH_TIMEOUT_S, HANDSHAKE_TIMEOUT_S
from echonode.model.identity import PublicKey, SigningKey
from echonode.model.record import Record
from echonode.sync.streams import ByteStream
from echonode.sync.transport import StreamTransport
from echonode.wire import auth
from echonode.wire.channel import Channel, Handshake, NetworkSecret
from echonode.wire.messages import PROTOCOL_VERSION, Auth, Close, Hello, Rotated, version_text

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
        """The other end of the connection, HOST:PORT."""
        return self.transport.stream.address

    @property
    def listens_at(self) -> str:
        """The address at which the peer can be dialled, as far as we know."""
        if self.is_initiator or not self.hello.port:
            return self.address
        return f"{self.address.rpartition(':')[0]}:{self.hello.port}"


class Introduction(Protocol):
    """The part of a node that introduces it to peers (node/hello.py)."""

    @property
    def device(self) -> SigningKey:
        """The key with which the node proves its identity."""
        ...

    def statements(self) -> Sequence[Record]:
        """Return the key statements that prove `device` to be the node's."""
        ...

    def make(self, peer: PublicKey, session: bytes, instance: bytes = b"") -> Hello:
        """Return the hello to the peer with that device key, in the session with that id.

        `instance`: the peer's, where it has told it."""
        ...


class Gate(Protocol):
    """The part of a node that lets peers in (node/admission.py)."""

    def dialled(self, transport: StreamTransport) -> None:
        """Hear of a handshake that this node opened."""
        ...

    def is_own(self, transport: StreamTransport) -> bool:
        """Return True when this process is at both ends of a handshake that it opened."""
        ...

    def admit(self, peer: auth.Peer, hello: Hello | None, transport: StreamTransport) -> None:
        """Let `peer` in. Called when its AUTH is known, and again with its hello. Raises PeerRefused to keep it out."""
        ...

    def suspect(self, claimed: Auth, stream: ByteStream) -> None:
        """Hear of an AUTH that proves nothing."""
        ...

    async def hear_rotations(self, peer: auth.Peer, transport: StreamTransport, first: Rotated) -> None:
        """Hear of rotations of the network, of which `first` came. Raises RemoteError."""
        ...

    def note_left_out(self, peer: auth.Peer) -> None:
        """Hear from `peer` that the network was rotated without this node."""
        ...

    def note_foreign(
        self, peer: auth.Peer, hello: Hello | None, transport: StreamTransport, refused: PeerRefused
    ) -> None:
        """Hear of a peer with which no protocol major is shared, and of its hello where that came."""
        ...


class NotOurNetwork(TransportError):
    """The other end does not know the network secret of the handshake, or hung up for another reason."""


class SaidNothing(TransportError):
    """The other end went before a byte was exchanged: another address was quicker, or it looks for open ports."""

    def __init__(self) -> None:
        super().__init__("it went without a word")


class HeardOfRotation(PeerRefused):
    """The peer told of a rotation of the network instead of opening a session."""

    def __init__(self) -> None:
        super().__init__(Reason.FINISHED, "it told of a rotation of the network")


ROTATED_WITHOUT_IT: Final = "this network was rotated without it"


class LeftOut(PeerRefused):
    """The peer came with a secret that a rotation replaced, and no rotation names it."""

    def __init__(self) -> None:
        super().__init__(Reason.LEFT_OUT)
        self.args = (ROTATED_WITHOUT_IT,)


class PausedHere(PeerRefused):
    """This node is paused with the peer that connected, or with all."""

    def __init__(self) -> None:
        super().__init__(Reason.PAUSED, "this node is paused with it")


class KeptOut(PeerRefused):
    """This node does not let the peer in: a person rejected it, or has not approved it yet."""

    def __init__(self, why: str) -> None:
        super().__init__(Reason.UNAPPROVED, why)
        self.args = (why,)


class FoundSelf(PeerRefused):
    """This node's own identity is at the other end: in this very process, or with `is_copy` in another one."""

    def __init__(self, *, is_copy: bool) -> None:
        super().__init__(Reason.SELF, "a copy of this node runs there" if is_copy else "that is this very node")
        self.is_copy = is_copy


@dataclass(frozen=True, slots=True)
class LocalSide:
    """This node in a handshake: what it says of itself, and which peers it lets in."""

    introduction: Introduction
    gate: Gate


async def shake_hands(stream: ByteStream, handshake: Handshake) -> Channel:
    """Run the handshake over `stream`.

    Raises SaidNothing, another TransportError, or RemoteError before anything was answered."""
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            has_begun = await _flush(stream, handshake)
            while handshake.channel is None:
                why = "it hung up during the handshake: perhaps it is of another network"
                try:
                    data = await stream.read()
                except TransportError as error:  # a reset; a stranger's bytes that were not read cause it
                    data, why = b"", str(error)
                if not data:
                    raise NotOurNetwork(why) if has_begun else SaidNothing
                has_begun = True
                handshake.receive_data(data)
                await _flush(stream, handshake)
            return handshake.channel
    except TimeoutError:
        raise TransportError("the handshake timed out") from None


async def initiate(stream: ByteStream, secret: NetworkSecret, local: LocalSide, entropy: Entropy) -> Session:
    """Open a session over a connected stream. Raises FoundSelf, PeerRefused, RemoteError or TransportError."""
    handshake = Handshake.initiator(secret, static=entropy.random_bytes(32), ephemeral=entropy.random_bytes(32))
    transport = StreamTransport(stream, await shake_hands(stream, handshake))
    local.gate.dialled(transport)
    try:
        async with introductions():
            return await _initiate(transport, local)
    except PeerRefused as refused:
        if refused.reason is Reason.SELF:
            raise FoundSelf(is_copy=not local.gate.is_own(transport)) from None
        raise


async def _initiate(transport: StreamTransport, local: LocalSide) -> Session:
    ours = local.introduction
    await transport.send(auth.offer(transport.channel, ours.device, ours.statements()))
    peer = await _identify(transport, local.gate)
    hello = await _hear(transport, local.gate, peer)
    await _admit(transport, local.gate, peer, hello)
    await transport.send(ours.make(peer.key, hello.session, hello.instance))
    transport.is_introduced = True
    return Session(hello.session, transport, peer, hello, True)


async def answer(transport: StreamTransport, local: LocalSide, session_id: bytes) -> Session:
    """Run the responder's side behind the handshake. `session_id` is 16 fresh random bytes. Raises as `initiate`."""
    async with introductions():
        return await _answer(transport, local, session_id)


async def _answer(transport: StreamTransport, local: LocalSide, session_id: bytes) -> Session:
    ours = local.introduction
    peer = await _identify(transport, local.gate)
    await transport.send(auth.offer(transport.channel, ours.device, ours.statements()))
    await transport.send(ours.make(peer.key, session_id))
    hello = await _hear(transport, local.gate, peer)
    if hello.session != session_id:
        raise RemoteError(Reason.PROTOCOL_ERROR, "the hello names another session")
    await _admit(transport, local.gate, peer, hello)
    transport.is_introduced = True
    return Session(session_id, transport, peer, hello, False)


@asynccontextmanager
async def introductions() -> AsyncIterator[None]:
    """Bound the time that a peer has to prove its identity. Raises TransportError past it."""
    try:
        async with asyncio.timeout(AUTH_TIMEOUT_S):
            yield
    except TimeoutError:
        raise TransportError("the peer did not introduce itself in time") from None


async def receive(transport: StreamTransport, kind: type[_M]) -> _M:
    """Return the next message, which must be a `kind`. Raises RemoteError for another."""
    message = await transport.recv()
    if not isinstance(message, kind):
        raise RemoteError(Reason.PROTOCOL_ERROR, f"expected {kind.__name__}, not {type(message).__name__}")
    return message


async def _identify(transport: StreamTransport, gate: Gate) -> auth.Peer:
    """Return the peer at the other end. A peer whose proof fails gets no answer."""
    claimed = await receive(transport, Auth)
    try:
        peer = auth.check(transport.channel, claimed)
    except RemoteError:
        gate.suspect(claimed, transport.stream)
        raise
    await _admit(transport, gate, peer, None)
    return peer


async def _hear(transport: StreamTransport, gate: Gate, peer: auth.Peer) -> Hello:
    """Return the hello of `peer`, of our protocol major. The end that first sees another major says so (§11)."""
    hello: Hello | None = None
    try:
        message = await transport.recv()
        if isinstance(message, Rotated):
            await gate.hear_rotations(peer, transport, message)
            raise HeardOfRotation
        if not isinstance(message, Hello):
            raise RemoteError(Reason.PROTOCOL_ERROR, f"expected Hello, not {type(message).__name__}")
        hello = message
        if hello.version[0] != PROTOCOL_VERSION[0]:
            ours, theirs = version_text(PROTOCOL_VERSION), version_text(hello.version)
            await transport.send(Close(Reason.UNSUPPORTED_PROTOCOL, (ours,)))
            raise PeerRefused(Reason.UNSUPPORTED_PROTOCOL, f"it speaks {theirs}", (ours,))
    except PeerRefused as refused:
        if refused.reason is Reason.UNSUPPORTED_PROTOCOL:
            gate.note_foreign(peer, hello, transport, refused)
        if refused.reason is Reason.LEFT_OUT:
            gate.note_left_out(peer)
        raise
    return hello


async def _admit(transport: StreamTransport, gate: Gate, peer: auth.Peer, hello: Hello | None) -> None:
    """Let `peer` in. Tell a peer that is kept out why, before its PeerRefused is raised here."""
    try:
        gate.admit(peer, hello, transport)
    except PeerRefused as refusal:
        await transport.send(Close(refusal.reason, refusal.supported))
        raise


async def _flush(stream: ByteStream, handshake: Handshake) -> bool:
    """Send what is to be sent. Return True if that was anything."""
    data = handshake.data_to_send()
    if data:
        await stream.write(data)
    return bool(data)
