"""Simulated hosts, and the faults of the links between them. A host is the part of an address before its port.

    cut         a connection breaks at both ends, at once or after any number of bytes; an end sees an error, or an
                early end of file as after a forged FIN
    block       bytes of one direction wait, as TCP's do, and so do the acknowledgements of the other; dials time out;
                `partition` blocks between groups of hosts, `heal` lifts all blocks
    half_open   bytes of the connections that exist vanish for ever, and no end notices
    corrupt     one bit of the next fragment is flipped
    crash       a host's listeners and connections are gone

The behaviour of a single connection is in sim/tcp_link.py.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from contextvars import copy_context
from itertools import permutations
from typing import Final, TypeAlias

from echonode.errors import TransportError
from echonode.limits import CONNECTIONS_MAX, DIAL_TIMEOUT_S
from echonode.sim.event_loop import SimLoop
from echonode.sim.tcp_link import LAN, Connection, LinkConditions, NetworkState, SimStream, host_of
from echonode.sync.streams import ByteStream, Dial

OnStream: TypeAlias = Callable[[ByteStream], Awaitable[None]]

_EPHEMERAL_PORT: Final = 32_768
_RETRANSMIT_S: Final = 3.0  # at most, from the end of a block to TCP's next retransmission


class SimNetwork(NetworkState):
    """Hosts, the links between them, and the faults of those links."""

    def __init__(self, loop: SimLoop, *, seed: int | str, link: LinkConditions = LAN) -> None:
        super().__init__(loop, seed=seed, link=link)
        self.connections = 0  # opened so far
        self._listeners: dict[str, SimListener] = {}
        self._ports: Counter[str] = Counter()
        self._hosts: set[str] = set()  # every host that has ever listened
        self._shared: set[str] = set()  # addresses that every host has, as that of a container bridge

    def listen(self, address: str, on_stream: OnStream) -> "SimListener":
        """Listen at `address`; port 0 takes a free one. Call `on_stream` for each connection, in a task of its own.

        Raises TransportError if the address is taken.
        """
        host, _, port = address.rpartition(":")
        address = address if port != "0" else self._free_address(host)
        if address in self._listeners:
            raise TransportError(f"{address} is taken")
        self._hosts.add(host_of(address))
        self._listeners[address] = listener = SimListener(self, address, on_stream)
        return listener

    def share_address(self, address: str) -> None:
        """Give every host the IP address `address` too. Dialled from a host, it is that host."""
        self._shared.add(address)

    def dial(self, host: str) -> Dial:
        """Return the Dial port of `host`."""

        async def dial(address: str) -> ByteStream:
            return await self._connect(host, address)

        return dial

    def cut(self, a: str, b: str, *, after_bytes: int = 0) -> None:
        """Break every connection between two hosts once it has delivered `after_bytes` more bytes."""
        for connection in self._between(a, b):
            connection.bytes_left = after_bytes
            if after_bytes == 0:
                connection.cut()

    def half_open(self, a: str, b: str) -> None:
        """Lose all further bytes of every connection between two hosts. New connections work."""
        for connection in self._between(a, b):
            connection.is_half_open = True

    def corrupt(self, source: str, target: str) -> None:
        """Flip a bit in the next fragment that each connection carries from `source` to `target`."""
        for connection in self._between(source, target):
            for pipe in connection.pipes:
                pipe.corrupts_next = pipe.corrupts_next or pipe.source == source

    def crash(self, host: str) -> None:
        """Remove a host's listeners and drop its connections, as the death of its process does."""
        self._listeners = {a: each for a, each in self._listeners.items() if host_of(a) != host}
        for connection in list(self.live_of[host]):
            for stream in connection.streams:
                if stream.host == host:
                    stream.abort()

    def block(self, source: str, target: str) -> None:
        """Let nothing through in this direction until `heal`."""
        self.blocked |= {(source, target)}

    def partition(self, *groups: Collection[str]) -> None:
        """Block every direction between hosts of different groups."""
        for group, other in permutations(groups, 2):
            self.blocked |= {(source, target) for source in group for target in other}

    def heal(self) -> None:
        """Lift every block. Bytes that waited arrive with the next retransmission."""
        self.blocked = frozenset()
        for connection in self.live:
            for pipe in connection.pipes:
                self.loop.call_later(self.random.uniform(0, _RETRANSMIT_S), pipe.resume)

    def cancel_scheduled_faults(self) -> None:
        """Cancel cuts and corruptions that wait for bytes: else a heartbeat would trigger them long afterwards."""
        for connection in self.live:
            connection.bytes_left = None
            for pipe in connection.pipes:
                pipe.corrupts_next = False

    def connected_hosts(self) -> list[tuple[str, str]]:
        """Return (dialling host, listening host) of every connection, oldest first."""
        return [(each.streams[0].host, each.streams[1].host) for each in self.live]

    def connections_of(self, host: str) -> int:
        """Return the number of open connections of `host`."""
        return sum(stream.host == host and not stream.gone for each in self.live_of[host] for stream in each.streams)

    def _between(self, a: str, b: str) -> list[Connection]:
        return [each for each in self.live_of[a] if {stream.host for stream in each.streams} == {a, b}]

    def _free_address(self, host: str) -> str:
        self._ports[host] += 1
        return f"{host}:{_EPHEMERAL_PORT + self._ports[host]}"

    async def _connect(self, host: str, address: str) -> ByteStream:
        target = host_of(address)
        if target in self._shared:
            target, address = host, f"{host}:{address.rpartition(':')[2]}"
        await asyncio.sleep(self.draw_delay_s(host, target))
        if target not in self._hosts or self.is_blocked(host, target) or self.is_blocked(target, host):
            await asyncio.sleep(DIAL_TIMEOUT_S)
            raise TransportError(f"{address} did not answer within {DIAL_TIMEOUT_S:.0f} s")
        listener = self._listeners.get(address)
        if listener is None:
            await asyncio.sleep(self.draw_delay_s(target, host))
            raise TransportError(f"cannot connect to {address}: connection refused")
        self.connections += 1
        connection = Connection(self, self._free_address(host), address)
        self.add(connection)
        ours, theirs = connection.streams
        listener.accept(theirs)
        try:
            await asyncio.sleep(self.draw_delay_s(target, host))
        except asyncio.CancelledError:
            ours.abort()
            raise
        return ours


class SimListener:
    """A listener that behaves as that of host/tcp.py: it drops a connection when the handler returns."""

    def __init__(self, network: SimNetwork, address: str, on_stream: OnStream) -> None:
        self.address = address
        self._network = network
        self._on_stream = on_stream
        self._context = copy_context()  # a handler's tasks have the owner of the listener, not of the dialling node
        self._handlers: dict[asyncio.Task[None], SimStream] = {}

    def accept(self, stream: SimStream) -> None:
        """Start a handler for a new connection; drop the connection if there are too many."""
        if len(self._handlers) >= CONNECTIONS_MAX:
            stream.abort()
            return
        handler = self._network.loop.create_task(self._handle(stream), context=self._context.copy())
        self._handlers[handler] = stream
        handler.add_done_callback(lambda done: self._handlers.pop(done).abort())

    async def close(self) -> None:
        """Stop accepting, then cancel and await every handler."""
        self._network._listeners.pop(self.address, None)
        for handler in self._handlers:
            handler.cancel()
        if self._handlers:
            await asyncio.wait(self._handlers)

    async def _handle(self, stream: SimStream) -> None:
        await self._on_stream(stream)
