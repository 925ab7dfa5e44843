"""A peer that follows a script, at the other end of one connection with a real node.

A script is a byte of options, and then bytes for the stream, or frames, each behind two bytes of length. The peer holds
an honest handshake and seals the frames, so that they reach the code behind the encryption.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from echonode.errors import EchonodeError, RemoteError, TransportError
from echonode.sync.streams import ByteStream
from echonode.wire import auth
from echonode.wire.channel import Channel, Handshake
from echonode.wire.codec import decode, encode
from echonode.wire.messages import Hello, Message
from tests.fuzz import mutate
from tests.fuzz.parties import parties

# The script stands for: bytes of the stream; bytes after a handshake; frames after a handshake; frames after a hello.
RAW, SHAKEN, SEALED, GREETED = range(4)
SILENT: Final = 4  # at the end the peer falls silent and does not close
SMALL: Final = 8  # links carry small fragments
INVITED: Final = 16  # the node has an open invitation, and the peer joins
PACED: Final = 32  # the peer waits for an answer to each frame
RESET: Final = 64  # at the end the peer drops the connection
OPTIONS: Final = (GREETED, GREETED, GREETED | PACED, GREETED | SILENT, GREETED | SMALL, GREETED | RESET, SEALED, 1, 0)

_PACE_S: Final = 0.05


@dataclass
class Peer:
    """The scripted end of `stream`."""

    stream: ByteStream
    script: bytes
    hello: Hello | None = None  # its hello, for scripts that greet
    channel: Channel | None = None
    is_leaving: bool = False
    sent: list[bytes] = field(default_factory=list)  # every payload, to make a script of them
    heard: list[Message] = field(default_factory=list)  # every message of the node

    @property
    def options(self) -> int:
        return options_of(self.script)

    async def follow(self, handshake: Handshake) -> None:
        """Send what the script says, and listen until the node falls silent."""
        listening = None
        try:
            if self.options & 3 != RAW:
                self.channel = await self._shake(handshake)
                if self.options & 3 == GREETED:
                    await self._greet(self.channel)
            listening = asyncio.create_task(self._listen())
            await self._recite(self.channel)
            self.is_leaving = True
            if self.options & RESET:
                self.stream.abort()
            elif not self.options & SILENT:
                await self.stream.close()
        except EchonodeError:
            pass  # the node broke off
        if listening is not None:
            await listening

    async def _shake(self, handshake: Handshake) -> Channel:
        while True:
            if data := handshake.data_to_send():
                await self.stream.write(data)
            if handshake.channel is not None:
                return handshake.channel
            handshake.receive_data(await self._read())

    async def _greet(self, channel: Channel) -> None:
        await self._send(channel, encode(auth.offer(channel, parties().peer.identity.device, parties().statements)))
        assert self.hello is not None, "a script that greets"
        session = await self._session(channel) if channel.is_initiator else self.hello.session
        await self._send(channel, encode(replace(self.hello, session=session)))

    async def _session(self, channel: Channel) -> bytes:
        """Return the session id of the node, from the hello behind its AUTH."""
        while True:
            for message in self.heard:
                if isinstance(message, Hello):
                    return message.session
            self._hear(channel, await self._read())

    async def _recite(self, channel: Channel | None) -> None:
        if channel is None or self.options & 3 == SHAKEN:
            await self.stream.write(self.script[1:])
            return
        for frame in mutate.frames_of(self.script):
            if frame:
                await self._send(channel, frame)
            if self.options & PACED:
                await asyncio.sleep(_PACE_S)

    async def _send(self, channel: Channel, payload: bytes) -> None:
        self.sent.append(payload)
        await self.stream.write(channel.send(payload))

    async def _read(self) -> bytes:
        data = await self.stream.read()
        if not data:
            raise TransportError("the node hung up")
        return data

    async def _listen(self) -> None:
        with suppress(TransportError):
            while data := await self.stream.read():
                if self.channel is not None and not self.is_leaving:  # closing drops bytes
                    self._hear(self.channel, data)

    def _hear(self, channel: Channel, data: bytes) -> None:
        try:
            self.heard += [decode(payload) for payload in channel.receive_data(data)]
        except RemoteError as error:
            raise AssertionError("the node sent bytes that are no message") from error


def options_of(script: bytes) -> int:
    return script[0] if script else 0
