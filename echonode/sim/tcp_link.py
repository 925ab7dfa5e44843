"""One simulated TCP connection: two streams, and a pipe between them for each direction.

    write -> send queue (at most SEND_QUEUE_BYTES_MAX) -> in flight (fragments of any size; bandwidth, latency, jitter)
          -> unread at the other end (with the bytes in flight at most `window_bytes`) -> read

The semantics of TCP are kept. Bytes stay in order and none is lost inside a stream. A host answers bytes for a closed
socket with a reset, and a reset may cost the other end bytes that it had not read. `SimStream` behaves as the TcpStream
of host/tcp.py does, its timeouts included; one contract suite holds both to it (tests/contracts/byte_stream.py).
"""

import asyncio
import random
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from math import inf
from typing import Final
from zlib import crc32

from echonode.errors import TransportError
from echonode.limits import FRAME_TIMEOUT_S, KIB, SEND_QUEUE_BYTES_MAX
from echonode.sim.event_loop import SimLoop

_FIN: Final = b""  # the fragment that ends a stream
_CLOSE_TIMEOUT_S: Final = 5.0  # for the other end to end its side


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkConditions:
    """The properties of one direction between two hosts. A change takes effect with the next fragment."""

    latency_s: float = 0.001
    jitter_s: float = 0.0  # each fragment takes up to this much more
    bandwidth_bytes_s: float = inf  # shared by all connections between the two hosts
    fragment_bytes_max: int = 64 * KIB  # sizes are drawn evenly on a logarithmic scale, from one byte up
    window_bytes: int = 256 * KIB  # bytes that may be in flight or unread
    cut_after_bytes: int | None = None  # a connection dialled over this link breaks after so many, both ways together


LAN: Final = LinkConditions()


class NetworkState:
    """The state that all connections of a network share: loop, draws, links, blocks, counts of delivered bytes."""

    def __init__(self, loop: SimLoop, *, seed: int | str, link: LinkConditions) -> None:
        self.loop = loop
        self.random = random.Random(f"network/{seed}")
        self.delivered: Counter[tuple[str, str]] = Counter()  # bytes by (from host, to host)
        self.live: dict[Connection, None] = {}  # connections of which an end is open; a dict keeps their order
        self.live_of: defaultdict[str, dict[Connection, None]] = defaultdict(dict)  # the same, by each end's host
        self.uplink_bytes_s = inf  # of each host, for everything that it sends
        self._free_at_s: defaultdict[tuple[str, str], float] = defaultdict(float)  # per direction
        self.blocked: frozenset[tuple[str, str]] = frozenset()
        self._default = link
        self._links: dict[tuple[str, str], LinkConditions] = {}

    def link(self, source: str, target: str) -> LinkConditions:
        """Return the conditions of the direction from one host to another."""
        return self._links.get((source, target), self._default)

    def set_link(self, source: str, target: str, link: LinkConditions) -> None:
        """Set the conditions of one direction."""
        self._links[source, target] = link

    def is_blocked(self, source: str, target: str) -> bool:
        """Return True if nothing gets through in this direction."""
        return (source, target) in self.blocked

    def occupy(self, source: str, target: str, size: int) -> float:
        """Send `size` more bytes from `source` behind all others; return the time at which they have left.

        They wait for the link to `target`, and for the uplink that `source` has for all its links.
        """
        on_link = self._occupy_way((source, target), size / self.link(source, target).bandwidth_bytes_s)
        return max(on_link, self._occupy_way((source, ""), size / self.uplink_bytes_s))

    def _occupy_way(self, way: tuple[str, str], duration_s: float) -> float:
        self._free_at_s[way] = max(self._free_at_s[way], self.loop.time()) + duration_s
        return self._free_at_s[way]

    def add(self, connection: "Connection") -> None:
        """Add a new connection."""
        for connections in self._lists_of(connection):
            connections[connection] = None

    def remove(self, connection: "Connection") -> None:
        """Remove a connection that is closed at both ends."""
        for connections in self._lists_of(connection):
            connections.pop(connection, None)

    def _lists_of(self, connection: "Connection") -> "list[dict[Connection, None]]":
        return [self.live, *[self.live_of[stream.host] for stream in connection.streams]]

    def draw_delay_s(self, source: str, target: str) -> float:
        """Draw the time that a packet takes, in seconds."""
        link = self.link(source, target)
        return link.latency_s + self.random.uniform(0, link.jitter_s)


class Connection:
    """Two streams and the two pipes between them. A cut is reported to both ends; all else they learn from bytes."""

    def __init__(self, network: NetworkState, dialler: str, listener: str) -> None:
        self.network = network
        self.is_half_open = False  # all bytes vanish
        self.bytes_left = network.link(host_of(dialler), host_of(listener)).cut_after_bytes
        forward = _Pipe(self, host_of(dialler), host_of(listener))
        backward = _Pipe(self, host_of(listener), host_of(dialler))
        self.pipes = (forward, backward)
        self.streams = (
            SimStream(self, dialler, listener, backward, forward),
            SimStream(self, listener, dialler, forward, backward),
        )
        backward.reader = forward.writer = self.streams[0]
        forward.reader = backward.writer = self.streams[1]

    def cut(self) -> None:
        """Break the connection now, at both ends."""
        for stream in self.streams:
            stream.fail("the connection was reset", as_eof=self.network.random.random() < 0.25)

    def reset_peer_of(self, stream: "SimStream") -> None:
        """Send a reset from the end of `stream`, which may be gone. It is lost where bytes are lost."""
        (peer,) = (each for each in self.streams if each is not stream)
        if not self.is_half_open and not self.network.is_blocked(stream.host, peer.host):
            delay_s = self.network.draw_delay_s(stream.host, peer.host)
            self.network.loop.call_later(delay_s, peer.fail, "the connection was reset by the peer")

    def remove_if_gone(self) -> None:
        """Remove the connection from the network if both ends are gone."""
        if all(stream.gone for stream in self.streams):
            self.network.remove(self)


class _Pipe:
    """One direction: bytes in the send queue, bytes in flight, and bytes that arrived and are not read."""

    reader: "SimStream"
    writer: "SimStream"

    def __init__(self, connection: Connection, source: str, target: str) -> None:
        self.source, self.target = source, target
        self.unsent: deque[memoryview] = deque()
        self.unsent_bytes = 0
        self.arrived: deque[bytes] = deque()
        self.has_ended = False  # the end of the stream arrived
        self.corrupts_next = False  # a bit of the next fragment is flipped
        self._connection = connection
        self._network = connection.network
        self._in_flight: deque[memoryview] = deque()
        self._landed = 0  # fragments in flight that would have arrived, but for a block
        self._unacknowledged = 0  # bytes in flight or unread
        self._unreported = 0  # bytes read and not acknowledged yet

    @property
    def is_busy(self) -> bool:
        """True while there are bytes to be sent, in flight or unread."""
        return bool(self.unsent or self._in_flight or self.arrived)

    def send(self, data: bytes) -> None:
        """Queue bytes, or _FIN."""
        self.unsent.append(memoryview(data))
        self.unsent_bytes += len(data)
        self._pump()

    def _pump(self) -> None:
        """Send as much as the window allows, in fragments."""
        link, draw = self._network.link(self.source, self.target), self._network.random
        while self.unsent and (self._unacknowledged < link.window_bytes or not self.unsent[0]):
            head = self.unsent.popleft()
            size = min(
                len(head), int(link.fragment_bytes_max ** draw.random()), link.window_bytes - self._unacknowledged
            )
            fragment = head[:size]
            if len(head) > size:
                self.unsent.appendleft(head[size:])
            self.unsent_bytes -= len(fragment)
            self._unacknowledged += len(fragment)
            sent_at_s = self._network.occupy(self.source, self.target, len(fragment))
            self._in_flight.append(fragment)
            self._network.loop.call_at(sent_at_s + self._network.draw_delay_s(self.source, self.target), self._land)

    def _land(self) -> None:
        """Let the oldest fragment arrive. Timers may fire in another order; bytes keep theirs."""
        if self._connection.is_half_open:
            return
        self._landed += 1
        if not self._network.is_blocked(self.source, self.target):
            self.resume()

    def resume(self) -> None:
        """Deliver the fragments that have come and acknowledge the bytes that were read, unless blocked."""
        if not self._network.is_blocked(self.source, self.target):
            while self._landed and not self._connection.is_half_open:
                self._landed -= 1
                self._deliver(self._in_flight.popleft())
        if self._unreported:
            self.acknowledge(0)

    def acknowledge(self, size: int) -> None:
        """Note that the reader took `size` bytes, and acknowledge them once they make half a window.

        Half a window at a time (RFC 9293 §3.8.6.2.2): otherwise fragments would shrink to the bytes just read.
        """
        self._unreported += size
        if 2 * self._unreported < self._network.link(self.source, self.target).window_bytes:
            return
        if not self._network.is_blocked(self.target, self.source) and not self._connection.is_half_open:
            self._unacknowledged -= self._unreported
            self._unreported = 0
            self._pump()
            self.writer.wake()

    def _deliver(self, fragment: memoryview) -> None:
        if self.reader.gone:
            if fragment:  # the host answers bytes for a closed socket with a reset
                self._connection.reset_peer_of(self.reader)
            return
        if not fragment:
            self.has_ended = True
            self.reader.wake()
            return
        data, left = bytes(fragment), self._connection.bytes_left
        if left is not None:
            data = data[:left]
            self._connection.bytes_left = left - len(data)
        if self.corrupts_next and data:
            self.corrupts_next = False
            at = self._network.random.randrange(len(data))
            data = data[:at] + bytes([data[at] ^ 1 << self._network.random.randrange(8)]) + data[at + 1 :]
        self._network.delivered[self.source, self.target] += len(data)
        self._network.loop.trace.note(f"{self.source} > {self.target} {len(data)} {crc32(data):08x}")
        self.arrived += [data] if data else []
        self.reader.wake()
        if self._connection.bytes_left == 0:
            self._connection.cut()

    def drop(self) -> None:
        """Forget the bytes that were not sent yet."""
        self.unsent.clear()
        self.unsent_bytes = 0


class SimStream:
    """One end of a connection, as a ByteStream. `host` is the host of this end, `address` that of the other end."""

    def __init__(self, connection: Connection, here: str, there: str, incoming: _Pipe, outgoing: _Pipe) -> None:
        self.address = there
        self.host = host_of(here)
        self.gone = False  # the socket is closed: no byte goes out or comes in
        self._connection = connection
        self._incoming = incoming
        self._outgoing = outgoing
        self._closing = False
        self._reason = "the connection was dropped at this end"
        self._ends_as_eof = False
        self._waiters: list[asyncio.Future[None]] = []

    async def read(self) -> bytes:
        """Return one fragment, or all that have arrived; b"" once the peer ended its side. Raises TransportError."""
        arrived = self._incoming.arrived
        while not arrived:
            if self.gone and not self._ends_as_eof:
                raise TransportError(self._reason)
            if self.gone or self._incoming.has_ended:
                return b""
            await self._wait_for_change()
        data = arrived.popleft()
        if arrived and self._connection.network.random.random() < 0.5:
            data += b"".join(arrived)
            arrived.clear()
        self._incoming.acknowledge(len(data))
        return data

    async def write(self, data: bytes) -> None:
        """Queue `data`, and wait while the send queue is above its limit. Raises TransportError."""
        if self._closing or self.gone:
            raise TransportError(self._reason if self.gone else "the connection is closed")
        if data:
            self._outgoing.send(data)
        if self._outgoing.unsent_bytes > SEND_QUEUE_BYTES_MAX:
            try:
                async with asyncio.timeout(FRAME_TIMEOUT_S):
                    while self._outgoing.unsent_bytes > SEND_QUEUE_BYTES_MAX:
                        await self._wait_for_change()
            except TimeoutError:
                self.abort()
                raise TransportError(f"the peer took nothing for {FRAME_TIMEOUT_S:.0f} s") from None
        if self.gone:
            raise TransportError(self._reason)

    async def close(self) -> None:
        """Send what was written and end both sides. Never raises; may be called twice."""
        if self._closing or self.gone:
            return
        self._closing = True
        self._outgoing.send(_FIN)
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                while not self.gone and (self._outgoing.unsent or not self._incoming.has_ended):
                    while self._incoming.arrived:
                        self._incoming.acknowledge(len(self._incoming.arrived.popleft()))
                    await self._wait_for_change()
        except TimeoutError:
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Drop the connection and its unsent bytes now. Never raises; wakes a waiting read or write.

        The peer sees an end of file or a reset, as with a real kernel; here the draw decides.
        """
        if not self.gone:
            ended = self._closing and not self._outgoing.unsent
            self._end("the connection was dropped at this end", unread_kept=0.0)
            if not ended and self._connection.network.random.random() < 0.5:
                self._outgoing.send(_FIN)
            elif not ended:
                self._connection.reset_peer_of(self)

    def fail(self, reason: str, *, as_eof: bool = False) -> None:
        """Break this end. With `as_eof` reads see an end of file, as if the peer had ended its side."""
        if not self.gone:
            self._ends_as_eof = as_eof
            self._end(reason, unread_kept=0.5)

    def wake(self) -> None:
        """Wake the tasks that wait in read, write or close."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def _end(self, reason: str, *, unread_kept: float) -> None:
        self.gone = True
        self._reason = reason
        self._outgoing.drop()
        if self._connection.network.random.random() >= unread_kept:
            self._incoming.arrived.clear()
        self.wake()
        self._connection.remove_if_gone()

    async def _wait_for_change(self) -> None:
        waiter: asyncio.Future[None] = self._connection.network.loop.create_future()
        self._waiters.append(waiter)
        await waiter


def host_of(address: str) -> str:
    """Return the part of an address before its port."""
    return address.rpartition(":")[0]
