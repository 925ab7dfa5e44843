"""Messages over a secured stream: the SyncTransport, the same over TCP and in simulation.

The transport answers pings and drops pongs, so executors never see them. A session ends with a Close; a stream that
ends without one has failed (SECURITY.md H10).
"""

import asyncio
from collections import deque
from typing import Final, Protocol

from echonode.errors import EchonodeError, PeerRefused, Reason, RemoteError, TransportError
from echonode.limits import FRAME_TIMEOUT_S, IDLE_TIMEOUT_S
from echonode.sync.message_trace import MessageTrace
from echonode.sync.streams import ByteStream
from echonode.wire.channel import Channel
from echonode.wire.codec import decode, encode
from echonode.wire.messages import Close, Message, Ping, Pong

_GOODBYE_S: Final = 1.0


def unexpected(message: Message) -> RemoteError:
    """Return the error for a message that has no place here."""
    return RemoteError(Reason.PROTOCOL_ERROR, f"unexpected {type(message).__name__}")


class SyncTransport(Protocol):
    """One session's messages, in order."""

    @property
    def bytes_sent(self) -> int:
        """Bytes of frames sent so far, encryption included."""
        ...

    @property
    def bytes_received(self) -> int:
        """Bytes of frames received so far."""
        ...

    async def send(self, message: Message) -> None:
        """Send one message. Wait while the send queue is full. Raises TransportError."""
        ...

    async def recv(self) -> Message:
        """Return the next message. Raises PeerRefused for a Close, TransportError when the stream fails or stays
        silent too long, RemoteError for bytes that are no message."""
        ...


class StreamTransport:
    """A SyncTransport over a ByteStream and a Channel."""

    def __init__(self, stream: ByteStream, channel: Channel) -> None:
        self.stream = stream
        self.channel = channel
        self.trace = MessageTrace()
        self.is_introduced = False  # pings have no place before both ends are known
        self._loop = asyncio.get_running_loop()
        self.heard_s = self._loop.time()  # when anything came last, in seconds of the loop
        # Bytes that came behind the handshake in the same read wait inside the channel.
        self._payloads = deque(channel.receive_data(b""))

    @property
    def bytes_sent(self) -> int:
        return self.channel.bytes_sent

    @property
    def bytes_received(self) -> int:
        return self.channel.bytes_received

    async def send(self, message: Message) -> None:
        payload = encode(message)
        self.trace.add(self._loop.time(), message, len(payload), is_sent=True)
        await self.stream.write(self.channel.send(payload))

    async def recv(self) -> Message:
        while True:
            payload = await self._payload()
            message = decode(payload)
            self.trace.add(self._loop.time(), message, len(payload), is_sent=False)
            match message:
                case Ping() if self.is_introduced:
                    await self.send(Pong())
                case Pong() if self.is_introduced:
                    pass
                case Close(reason, supported):
                    raise PeerRefused(Reason.from_wire(reason), supported=supported)
                case _:
                    return message

    async def part(self, reason: Reason) -> None:
        """Send a Close with `reason`, if it gets through within _GOODBYE_S, and drop the connection. Never raises."""
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await self.send(Close(reason))
                await self.stream.close()
        except (EchonodeError, TimeoutError):
            pass
        self.stream.abort()

    async def _payload(self) -> bytes:
        while not self._payloads:
            timeout_s = IDLE_TIMEOUT_S
            if self.channel.has_partial_frame:
                timeout_s = FRAME_TIMEOUT_S
            try:
                # The limit is for a whole frame, not for each read: a peer that sends byte by byte gains no time.
                async with asyncio.timeout(timeout_s):
                    await self._fill()
            except TimeoutError:
                raise TransportError("the peer fell silent") from None
        return self._payloads.popleft()

    async def _fill(self) -> None:
        """Read until a frame is whole, or until one has begun: its own time limit starts then."""
        began = self.channel.has_partial_frame
        while not self._payloads:
            data = await self.stream.read()
            if not data:
                raise TransportError("the stream ended without a close")
            self.heard_s = self._loop.time()
            self._payloads.extend(self.channel.receive_data(data))
            if not began and self.channel.has_partial_frame:
                return
