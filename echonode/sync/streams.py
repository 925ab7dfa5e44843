"""The ports through which protocol code meets a network. Each has two implementations: asyncio streams, simulation."""

from typing import Protocol


class ByteStream(Protocol):
    """An ordered, reliable stream of bytes to one peer, as TCP gives it."""

    @property
    def address(self) -> str:
        """HOST:PORT of the other end ([HOST]:PORT for IPv6)."""
        ...

    async def read(self) -> bytes:
        """Whatever has come, at least one byte; b"" once the peer ended its side. Raises TransportError."""
        ...

    async def write(self, data: bytes) -> None:
        """Queue `data`, and wait while the send queue is over its limit. Raises TransportError."""
        ...

    async def close(self) -> None:
        """Flush what was written, end both sides. Never raises; safe to call twice."""
        ...

    def abort(self) -> None:
        """Drop the connection now, unsent bytes with it. Never raises; wakes a waiting read or write."""
        ...


class Dial(Protocol):
    """Opens a stream to HOST:PORT."""

    async def __call__(self, address: str) -> ByteStream:
        """A connected stream. Raises TransportError."""
        ...
