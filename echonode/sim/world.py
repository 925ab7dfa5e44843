"""A world of real nodes: simulated time, links and discovery, everything else the code that ships.

world = World(loop, seed=7)
a, b = [await world.add_node(name) for name in ("a", "b")]
world.introduce()                       everybody sights everybody
await world.settled(within_s=30)        all nodes of a network hold equal roots, and nobody is talking
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from echonode.errors import LocalError
from echonode.model.identity import Identity, Instance
from echonode.node.events import Event, SyncCompleted
from echonode.node.node import Announcement, Node, Settings
from echonode.sim.loop import SimClock, SimEntropy, SimLoop
from echonode.sim.network import SimListener, SimNetwork
from echonode.store.memory import MemoryStore
from echonode.store.port import Store

PORT = 22087
_STEP_S = 0.05


@dataclass(slots=True)
class Member:
    """One node of the world, with what a machine would hold for it."""

    name: str
    host: str
    node: Node
    store: Store
    events: list[Event] = field(default_factory=list)
    announcement: Announcement | None = None
    network_key: bytes | None = None
    listener: SimListener | None = None

    @property
    def conversations(self) -> list[SyncCompleted]:
        """Every conversation this node took part in."""
        return [event for event in self.events if isinstance(event, SyncCompleted)]

    def roots(self) -> dict[str, bytes]:
        """Root by context."""
        return {context: self.node.store.tree(context).root for context in self.node.store.contexts()}


class World:
    """N nodes on one simulated network. Every choice that is not given is drawn from `seed`."""

    def __init__(self, loop: SimLoop, *, seed: int) -> None:
        self.loop = loop
        self.network = SimNetwork(loop, seed=seed)
        self.members: dict[str, Member] = {}
        self._entropy = SimEntropy(f"world {seed}")
        self.key = self._entropy.random_bytes(32)

    async def add_node(
        self,
        name: str,
        *,
        key: bytes | str | None = "ours",
        skew_ms: int = 0,
        contexts: frozenset[str] | None = None,
        make_store: Callable[[Instance], Store] = MemoryStore,
        node_name: str | None = None,
    ) -> Member:
        """Start a node. `key`: the world's network unless another (or None, the open one) is given."""
        host = f"10.0.0.{len(self.members) + 1}"
        network_key = self.key if isinstance(key, str) else key
        entropy = SimEntropy(self._entropy.random_bytes(16).hex())
        identity = Identity.from_seeds(entropy.random_bytes(32), entropy.random_bytes(32))
        store = make_store(Instance(entropy.random_bytes(8)))
        events: list[Event] = []
        member: Member

        def announce(announcement: Announcement) -> None:
            member.announcement = announcement
            self._spread(member)

        def save(new_key: bytes) -> None:
            member.network_key = new_key

        node = Node(
            store,
            identity,
            Settings(name=node_name or name, network_key=network_key, contexts=contexts),
            clock=SimClock(self.loop, skew_ms=skew_ms),
            entropy=entropy,
            dial=self.network.dial(host),
            observe=events.append,
            announce=announce,
            save_network_key=save,
        )
        member = Member(name, host, node, store, events, network_key=network_key)
        self.members[name] = member
        address = f"{host}:{PORT}"
        member.listener = self.network.listen(address, node.accept)
        await node.start([address])
        return member

    def introduce(self) -> None:
        """Everybody sights everybody, as mDNS would have it."""
        for member in self.members.values():
            self._spread(member)

    async def stop(self) -> None:
        """Stop every node, one after another."""
        for member in self.members.values():
            if member.listener is not None:
                await member.listener.close()
            await member.node.stop()

    async def settled(self, *, within_s: float) -> float:
        """Wait until all nodes hold the same roots and no session is up; how long it took. Raises LocalError."""
        began = self.loop.time()
        while not self.is_settled():
            if self.loop.time() - began > within_s:
                roots = {m.name: {c: r.hex()[:8] for c, r in m.roots().items()} for m in self.members.values()}
                raise LocalError(f"not settled after {within_s} s of simulated time: {roots}")
            await asyncio.sleep(_STEP_S)
        return self.loop.time() - began

    def is_settled(self) -> bool:
        """Equal roots everywhere, and nobody talking."""
        states = [member.roots() for member in self.members.values()]
        quiet = not any(entry.sessions for m in self.members.values() for entry in m.node.scheduler.peers.values())
        return quiet and all(state == states[0] for state in states)

    def _spread(self, member: Member) -> None:
        announcement = member.announcement
        if announcement is None:
            return
        for other in self.members.values():
            if other is not member:
                other.node.sighted(
                    member.name,
                    [f"{member.host}:{PORT}"],
                    tag=announcement.tag,
                    group=announcement.group,
                    slot=announcement.slot,
                )
