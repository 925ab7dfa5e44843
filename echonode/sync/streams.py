"""The ports between protocol code and a network. Each has two implementations: asyncio streams and the simulation."""

from typing import Protocol


class ByteStream(Protocol):
    """An ordered, reliable stream of bytes to one peer, as TCP gives it."""

    @property
    def address(self) -> str:
        """HOST:PORT of the other end ([HOST]:PORT for IPv6)."""
        ...

    async def read(self) -> bytes:
        """Return the bytes that have come, at least one; b"" once the peer ended its side. Raises TransportError."""
        ...

    async def write(self, data: bytes) -> None:
        """Queue `data`, and wait while the send queue is over its limit. Raises TransportError."""
        ...

    async def close(self) -> None:
        """Flush what was written and end both sides. Never raises; safe to call twice."""
        ...

    def abort(self) -> None:
        """Drop the connection now, and unsent bytes with it. Wake a waiting read or write. Never raises."""
        ...


class Dial(Protocol):
    """Opens a stream to HOST:PORT."""

    async def __call__(self, address: str) -> ByteStream:
        """Return a connected stream. Raises TransportError."""
        ...
