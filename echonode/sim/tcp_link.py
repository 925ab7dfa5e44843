"""One simulated connection: two streams, and the pipe between them in each direction.

    write -> send queue (bounded: SEND_QUEUE_BYTES_MAX) -> under way (fragments of any size; bandwidth, latency, jitter)
          -> unread at the other end (with what is under way at most `window_bytes`) -> read

TCP's semantics are kept: bytes stay in order, none is lost inside a stream, an end that is gone answers bytes with a
reset, and a reset may cost the other end what it had not read. `SimStream` behaves as host/tcp.py's TcpStream does,
its timeouts included; one contract suite holds both to it.
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

_FIN: Final = b""  # among the fragments: the end of the stream
_CLOSE_TIMEOUT_S: Final = 5.0  # how long the other end may take to end its side


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkConditions:
    """How one direction between two hosts behaves; a change counts from the next fragment on."""

    latency_s: float = 0.001
    jitter_s: float = 0.0  # up to this much more for each fragment
    bandwidth_bytes_s: float = inf  # of all connections between the two hosts together
    fragment_bytes_max: int = 64 * KIB  # sizes are drawn evenly over orders of magnitude, from one byte
    window_bytes: int = 256 * KIB  # what may be under way or unread; that it was read is known at once
    cut_after_bytes: int | None = None  # a connection dialled over this link is cut after as many, both ways together


LAN: Final = LinkConditions()


class Ether:
    """What the connections of a network share: the loop, the draws, the links, what is blocked, what was delivered."""

    def __init__(self, loop: SimLoop, *, seed: int | str, link: LinkConditions) -> None:
        self.loop = loop
        self.random = random.Random(f"network/{seed}")
        self.delivered: Counter[tuple[str, str]] = Counter()  # bytes, by (from host, to host)
        self.live: dict[Connection, None] = {}  # a set that keeps its order
        self.live_of: defaultdict[str, dict[Connection, None]] = defaultdict(dict)  # the same, by each end's host
        self.uplink_bytes_s = inf  # of each host, for all that it sends to anybody
        self._free_at_s: defaultdict[tuple[str, str], float] = defaultdict(float)  # when a link has sent all so far
        self.blocked: frozenset[tuple[str, str]] = frozenset()
        self._default = link
        self._links: dict[tuple[str, str], LinkConditions] = {}

    def link(self, source: str, target: str) -> LinkConditions:
        """The link that leads from one host to another."""
        return self._links.get((source, target), self._default)

    def set_link(self, source: str, target: str, link: LinkConditions) -> None:
        """Change one direction."""
        self._links[source, target] = link

    def is_blocked(self, source: str, target: str) -> bool:
        """Whether nothing gets through in this direction."""
        return (source, target) in self.blocked

    def sent_at_s(self, source: str, target: str, size: int) -> float:
        """When so many bytes more have left `source`, behind all that it sends: on this link, and on its uplink."""
        on_link = self._occupy((source, target), size / self.link(source, target).bandwidth_bytes_s)
        return max(on_link, self._occupy((source, ""), size / self.uplink_bytes_s))

    def _occupy(self, way: tuple[str, str], for_s: float) -> float:
        self._free_at_s[way] = max(self._free_at_s[way], self.loop.time()) + for_s
        return self._free_at_s[way]

    def carry(self, connection: "Connection") -> None:
        """It begins."""
        for of in (self.live, *[self.live_of[stream.host] for stream in connection.streams]):
            of[connection] = None

    def drop(self, connection: "Connection") -> None:
        """It is over, at both ends."""
        for of in (self.live, *[self.live_of[stream.host] for stream in connection.streams]):
            of.pop(connection, None)

    def delay_s(self, source: str, target: str) -> float:
        """How long a packet takes, drawn anew."""
        link = self.link(source, target)
        return link.latency_s + self.random.uniform(0, link.jitter_s)


class Connection:
    """Two streams and the two pipes between them. Ends are told of a cut; of anything else only by bytes."""

    def __init__(self, ether: Ether, dialler: str, listener: str) -> None:
        self.ether = ether
        self.vanished = False
        self.bytes_left = ether.link(host_of(dialler), host_of(listener)).cut_after_bytes
        there = _Pipe(self, host_of(dialler), host_of(listener))
        back = _Pipe(self, host_of(listener), host_of(dialler))
        self.pipes = (there, back)
        self.streams = (
            SimStream(self, dialler, listener, back, there),
            SimStream(self, listener, dialler, there, back),
        )
        back.reader = there.writer = self.streams[0]
        there.reader = back.writer = self.streams[1]

    def cut(self) -> None:
        """Break it now, at both ends."""
        for stream in self.streams:
            stream.fail("the connection was reset", quietly=self.ether.random.random() < 0.25)

    def reset_peer_of(self, stream: "SimStream") -> None:
        """Send a reset from the end that `stream` is, or was. It is lost where bytes are."""
        (peer,) = (each for each in self.streams if each is not stream)
        if not self.vanished and not self.ether.is_blocked(stream.host, peer.host):
            delay_s = self.ether.delay_s(stream.host, peer.host)
            self.ether.loop.call_later(delay_s, peer.fail, "the connection was reset by the peer")

    def settle(self) -> None:
        """Leave the network once neither end is there."""
        if all(stream.gone for stream in self.streams):
            self.ether.drop(self)


class _Pipe:
    """One direction: what waits to be sent, what is under way, what has come and is not read."""

    reader: "SimStream"
    writer: "SimStream"

    def __init__(self, connection: Connection, source: str, target: str) -> None:
        self.source, self.target = source, target
        self.unsent: deque[memoryview] = deque()
        self.unsent_bytes = 0
        self.arrived: deque[bytes] = deque()
        self.ended = False  # the reader has all there will ever be
        self.corrupted = False
        self._connection = connection
        self._ether = connection.ether
        self._flying: deque[memoryview] = deque()  # under way
        self._landed = 0  # of those under way, how many wait behind a block for the last part of their way
        self._unacknowledged = 0  # under way or unread
        self._unconfirmed = 0  # read, and the writer has not heard of it

    @property
    def is_busy(self) -> bool:
        """Whether there are bytes in it: to be sent, under way or unread."""
        return bool(self.unsent or self._flying or self.arrived)

    def send(self, data: bytes) -> None:
        """Queue bytes, or _FIN."""
        self.unsent.append(memoryview(data))
        self.unsent_bytes += len(data)
        self._pump()

    def _pump(self) -> None:
        """Send what the window allows, in fragments."""
        link, draw = self._ether.link(self.source, self.target), self._ether.random
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
            sent_at_s = self._ether.sent_at_s(self.source, self.target, len(fragment))
            self._flying.append(fragment)
            self._ether.loop.call_at(sent_at_s + self._ether.delay_s(self.source, self.target), self._land)

    def _land(self) -> None:
        """The oldest fragment arrives: timers fire in any order, bytes come in theirs."""
        if self._connection.vanished:
            return
        self._landed += 1
        if not self._ether.is_blocked(self.source, self.target):
            self.resume()

    def resume(self) -> None:
        """Deliver what has landed, acknowledge what was read, unless blocked."""
        if not self._ether.is_blocked(self.source, self.target):
            while self._landed and not self._connection.vanished:
                self._landed -= 1
                self._deliver(self._flying.popleft())
        if self._unconfirmed:
            self.acknowledge(0)

    def acknowledge(self, size: int) -> None:
        """The reader took `size` bytes: room for as many, once the writer hears of it.

        It hears of half a window at a time (RFC 9293 §3.8.6.2.2), or fragments would dwindle to what was just read.
        """
        self._unconfirmed += size
        if 2 * self._unconfirmed < self._ether.link(self.source, self.target).window_bytes:
            return
        if not self._ether.is_blocked(self.target, self.source) and not self._connection.vanished:
            self._unacknowledged -= self._unconfirmed
            self._unconfirmed = 0
            self._pump()
            self.writer.wake()

    def _deliver(self, fragment: memoryview) -> None:
        if self.reader.gone:
            if fragment:  # bytes for a socket that is not there: its host answers with a reset
                self._connection.reset_peer_of(self.reader)
            return
        if not fragment:
            self.ended = True
            self.reader.wake()
            return
        data, left = bytes(fragment), self._connection.bytes_left
        if left is not None:
            data = data[:left]
            self._connection.bytes_left = left - len(data)
        if self.corrupted and data:
            self.corrupted = False
            at = self._ether.random.randrange(len(data))
            data = data[:at] + bytes([data[at] ^ 1 << self._ether.random.randrange(8)]) + data[at + 1 :]
        self._ether.delivered[self.source, self.target] += len(data)
        self._ether.loop.trace.note(f"{self.source} > {self.target} {len(data)} {crc32(data):08x}")
        self.arrived += [data] if data else []
        self.reader.wake()
        if self._connection.bytes_left == 0:
            self._connection.cut()

    def drop(self) -> None:
        """Forget what was not sent yet."""
        self.unsent.clear()
        self.unsent_bytes = 0


class SimStream:
    """One end of a connection, as a ByteStream; `host` is whose end it is."""

    def __init__(self, connection: Connection, here: str, there: str, incoming: _Pipe, outgoing: _Pipe) -> None:
        self.address = there
        self.host = host_of(here)
        self.gone = False  # there is no socket any more: nothing goes out, nothing comes in
        self._connection = connection
        self._incoming = incoming
        self._outgoing = outgoing
        self._closing = False
        self._why = "the connection was dropped at this end"
        self._ends_quietly = False
        self._waiting: list[asyncio.Future[None]] = []

    async def read(self) -> bytes:
        """What has come: one fragment, or all there are. b"" once the peer ended its side. Raises TransportError."""
        arrived = self._incoming.arrived
        while not arrived:
            if self.gone and not self._ends_quietly:
                raise TransportError(self._why)
            if self.gone or self._incoming.ended:
                return b""
            await self._changed()
        data = arrived.popleft()
        if arrived and self._connection.ether.random.random() < 0.5:
            data += b"".join(arrived)
            arrived.clear()
        self._incoming.acknowledge(len(data))
        return data

    async def write(self, data: bytes) -> None:
        """Queue `data`, and wait while the send queue is over its limit. Raises TransportError."""
        if self._closing or self.gone:
            raise TransportError(self._why if self.gone else "the connection is closed")
        if data:
            self._outgoing.send(data)
        if self._outgoing.unsent_bytes > SEND_QUEUE_BYTES_MAX:
            try:
                async with asyncio.timeout(FRAME_TIMEOUT_S):
                    while self._outgoing.unsent_bytes > SEND_QUEUE_BYTES_MAX:
                        await self._changed()
            except TimeoutError:
                self.abort()
                raise TransportError(f"the peer took nothing for {FRAME_TIMEOUT_S:.0f} s") from None
        if self.gone:
            raise TransportError(self._why)

    async def close(self) -> None:
        """Flush what was written, end both sides. Never raises; safe to call twice."""
        if self._closing or self.gone:
            return
        self._closing = True
        self._outgoing.send(_FIN)
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                while not self.gone and (self._outgoing.unsent or not self._incoming.ended):
                    while self._incoming.arrived:
                        self._incoming.acknowledge(len(self._incoming.arrived.popleft()))
                    await self._changed()
        except TimeoutError:
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Drop the connection now, unsent bytes with it. Never raises; wakes a waiting read or write.

        The peer sees an end or a reset: which one is up to how much its kernel had taken.
        """
        if not self.gone:
            ended = self._closing and not self._outgoing.unsent
            self._leave("the connection was dropped at this end", unread_kept=0.0)
            if not ended and self._connection.ether.random.random() < 0.5:
                self._outgoing.send(_FIN)
            elif not ended:
                self._connection.reset_peer_of(self)

    def fail(self, why: str, *, quietly: bool = False) -> None:
        """The connection broke; `quietly` as if the peer had ended its side."""
        if not self.gone:
            self._ends_quietly = quietly
            self._leave(why, unread_kept=0.5)

    def wake(self) -> None:
        """Something changed for whoever waits in read, write or close."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()

    def _leave(self, why: str, *, unread_kept: float) -> None:
        self.gone = True
        self._why = why
        self._outgoing.drop()
        if self._connection.ether.random.random() >= unread_kept:
            self._incoming.arrived.clear()
        self.wake()
        self._connection.settle()

    async def _changed(self) -> None:
        waiting: asyncio.Future[None] = self._connection.ether.loop.create_future()
        self._waiting.append(waiting)
        await waiting


def host_of(address: str) -> str:
    """The part of an address before its port."""
    return address.rpartition(":")[0]
