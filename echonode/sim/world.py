"""A world of real nodes. Time, links, multicast and disks are simulated; everything else is the code that ships.

world = World(loop, seed=7)
a, b = [await world.add_node(name) for name in ("a", "b")]
world.introduce()                       every node sights every other
await world.settled(within_s=30)        all nodes hold equal roots, and no session is up

world.crash(a)                          its tasks, its connections and its uncommitted writes are gone
await world.start(a)                    another process over the same disk, at the same address
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field, replace

from echonode.errors import LocalError, TransportError
from echonode.model.identity import Identity, IdentityId, Instance, SigningKey
from echonode.model.known_pool import KnownPool
from echonode.model.member_secret import MemberSecret
from echonode.model.past_networks import PastNetwork
from echonode.node.events import Event, LinkEqual, SyncCompleted
from echonode.node.node import Node, Presence, Settings
from echonode.node.trust import Decisions
from echonode.sim.disk import SimStore
from echonode.sim.event_loop import OWNER, SimClock, SimEntropy, SimLoop
from echonode.sim.mdns import RELIABLE, MulticastConditions, SimDiscovery
from echonode.sim.network import SimListener, SimNetwork
from echonode.sim.tcp_link import LAN, LinkConditions
from echonode.store.memory import MemoryStore
from echonode.store.port import Store
from echonode.sync.streams import ByteStream

PORT = 22087
_STEP_S = 0.05


@dataclass(slots=True, eq=False)
class Member:
    """One node of the world, with its machine: identity, clock, disk and settings."""

    name: str
    host: str
    identity: Identity
    clock: SimClock
    entropy: SimEntropy
    settings: Settings
    store: Store
    node: Node = field(init=False)
    events: list[Event] = field(default_factory=list)
    observers: list[Callable[[Event], None]] = field(default_factory=list)
    on_equal: list[Callable[[IdentityId], None]] = field(default_factory=list)  # called when a link calls itself equal
    announcement: Presence | None = None
    member_secret: MemberSecret | None = None
    listener: SimListener | None = None
    starts: int = 0
    is_up: bool = False

    @property
    def address(self) -> str:
        """The address at which the node listens."""
        return f"{self.host}:{PORT}"

    @property
    def owner(self) -> str:
        """The owner of the tasks of its present process (sim/event_loop.py)."""
        return f"{self.name}/{self.starts}"

    @property
    def conversations(self) -> list[SyncCompleted]:
        """Every conversation that this node took part in and has finished."""
        return [event for event in self.events if isinstance(event, SyncCompleted)]

    def roots(self) -> dict[str, bytes]:
        """Return the root of each context."""
        return {context: self.node.store.tree(context).root for context in self.node.store.contexts()}


class _MemberSafe:
    """Keeps what a process has to find again when it starts anew."""

    def __init__(self, member: Member) -> None:
        self._member = member

    def write_pools(self, pools: Sequence[KnownPool]) -> None:
        self._member.settings = replace(self._member.settings, pools=tuple(pools))

    def write_trust(self, decisions: Decisions) -> None:
        trust = replace(self._member.settings.trust, decided=decisions)
        self._member.settings = replace(self._member.settings, trust=trust)

    def write_device_seed(self, seed: bytes) -> None:
        self._member.identity = replace(self._member.identity, device=SigningKey(seed))

    def write_root_seed(self, seed: bytes | None, public: bytes) -> None:
        root = None if seed is None else SigningKey(seed)
        self._member.identity = replace(self._member.identity, root=root)


class World:
    """Nodes on one simulated network. Every choice that no argument makes is drawn from `seed`."""

    def __init__(
        self,
        loop: SimLoop,
        *,
        seed: int | str,
        link: LinkConditions = LAN,
        multicast: MulticastConditions = RELIABLE,
    ) -> None:
        self.loop = loop
        self.network = SimNetwork(loop, seed=seed, link=link)
        self.discovery = SimDiscovery(loop, seed=seed, conditions=multicast, is_blocked=self.network.is_blocked)
        self.members: dict[str, Member] = {}
        self._by_identity: dict[IdentityId, Member] = {}
        self._entropy = SimEntropy(f"world {seed}")
        key = self._entropy.random_bytes(32)
        self.secret = MemberSecret(key, SimEntropy(f"pool {seed}").random_bytes(32))

    async def add_node(
        self,
        name: str,
        *,
        secret: MemberSecret | str | None = "ours",
        skew_ms: int = 0,
        contexts: frozenset[str] | None = None,
        subscriptions: Mapping[str, Sequence[str]] | None = None,
        make_store: Callable[[Instance], Store] = MemoryStore,
        node_name: str | None = None,
    ) -> Member:
        """Make a member and start its node. See `make_member`."""
        member = self.make_member(
            name,
            secret=secret,
            skew_ms=skew_ms,
            contexts=contexts,
            subscriptions=subscriptions,
            make_store=make_store,
            node_name=node_name,
        )
        await self.start(member)
        return member

    def make_member(
        self,
        name: str,
        *,
        secret: MemberSecret | str | None = "ours",
        skew_ms: int = 0,
        contexts: frozenset[str] | None = None,
        subscriptions: Mapping[str, Sequence[str]] | None = None,
        make_store: Callable[[Instance], Store] = MemoryStore,
        node_name: str | None = None,
    ) -> Member:
        """Make a machine with an empty store; its node is not started.

        `secret` is the network secret: by default that of the world's network, None for the open network.
        """
        member_secret = self.secret if isinstance(secret, str) else secret
        entropy = SimEntropy(self._entropy.random_bytes(16).hex())
        identity = Identity.from_seeds(entropy.random_bytes(32), entropy.random_bytes(32))
        store = make_store(Instance(entropy.random_bytes(8)))
        settings = Settings(
            name=node_name or name,
            member_secret=member_secret,
            contexts=contexts,
            subscriptions=subscriptions or {},
        )
        number = len(self.members) + 1
        member = Member(
            name,
            f"10.0.{number >> 8}.{number & 255}",
            identity,
            SimClock(self.loop, skew_ms=skew_ms),
            entropy,
            settings,
            store,
            member_secret=member_secret,
        )
        self.members[name] = self._by_identity[identity.id] = member
        return member

    async def start(self, member: Member) -> None:
        """Start a process over the member's store, at its address."""
        member.starts += 1
        started = member.starts
        network_dial = self.network.dial(member.host)

        def is_current() -> bool:
            return member.starts == started and member.is_up

        async def dial(address: str) -> ByteStream:
            if not is_current():
                raise TransportError("the process that dials is gone")
            return await network_dial(address)

        def observe(event: Event) -> None:
            if is_current():
                member.events.append(event)
                for observer in member.observers:
                    observer(event)

        def report_equal(event: LinkEqual) -> None:
            for on_equal in member.on_equal if is_current() else ():
                on_equal(event.peer)

        def announce(announcement: Presence) -> None:
            member.announcement = announcement
            self._announce(member)

        def save(new_secret: MemberSecret, past: Sequence[PastNetwork]) -> None:
            member.member_secret = new_secret
            member.settings = replace(
                member.settings, member_secret=new_secret, past=tuple(past), is_provisional=False
            )

        def save_name(name: str) -> None:
            member.settings = replace(member.settings, name=name)

        member.is_up = True
        member.node = Node(
            member.store,
            member.identity,
            member.settings,
            clock=member.clock,
            entropy=member.entropy,
            dial=dial,
            observe=observe,
            announce=announce,
            save_secret=save,
            save_name=save_name,
            safe=_MemberSafe(member),
        )
        member.node.bus.on(LinkEqual, report_equal)
        context = copy_context()
        context.run(OWNER.set, member.owner)
        node, is_started = member.node, asyncio.Event()

        async def accept(stream: ByteStream) -> None:
            await is_started.wait()  # as connections wait in the kernel (host/tcp.py)
            await node.accept(stream)

        member.listener = context.run(self.network.listen, member.address, accept)
        self.discovery.listen(member.host, member.node)
        await self.loop.create_task(member.node.start([member.address]), context=context)
        is_started.set()

    def crash(self, member: Member) -> None:
        """Let the process die between two instructions. Tasks, connections and uncommitted writes are lost, without a
        goodbye. A SimStore is opened anew; a MemoryStore keeps everything.
        """
        member.is_up = False
        self.network.crash(member.host)
        self.discovery.crash(member.host)
        self.loop.kill(member.owner)
        if isinstance(member.store, SimStore):
            member.store = member.store.reopen()

    async def wait_until_up(self, member: Member) -> None:
        """Wait until the member's process is up again."""
        while not member.is_up:  # noqa: ASYNC110  every way to go down would have to set an event
            await asyncio.sleep(1.0)

    async def leave(self, member: Member) -> None:
        """Stop one node in an orderly way, with a goodbye."""
        self.discovery.withdraw(member.host)
        if member.listener is not None:
            await member.listener.close()
        await member.node.stop()
        member.is_up = False

    def identified(self, identity: IdentityId) -> Member:
        """Return the member that has this identity."""
        return self._by_identity[identity]

    def introduce(self) -> None:
        """Announce every node to every other, as mDNS does."""
        for member in self.members.values():
            self._announce(member)

    async def stop(self, *, together: bool = False) -> None:
        """Stop every node, one after another; or all `together`, and then no node hears a goodbye."""
        up = [member for member in self.members.values() if member.is_up]
        if together:
            self.discovery.is_off = True
            await asyncio.gather(*map(self.leave, up))
            return
        for member in up:
            if member.is_up:
                await self.leave(member)

    async def settled(self, *, within_s: float) -> float:
        """Wait until all nodes hold the same roots and no session is up. Return the virtual seconds that it took.

        Raises LocalError after `within_s`.
        """
        began = self.loop.time()
        while not self.is_settled():
            if self.loop.time() - began > within_s:
                roots = {m.name: {c: r.hex()[:8] for c, r in m.roots().items()} for m in self.members.values()}
                raise LocalError(f"not settled after {within_s} s of simulated time: {roots}")
            await asyncio.sleep(_STEP_S)
        return self.loop.time() - began

    def is_settled(self) -> bool:
        """Return True if all nodes that are up hold the same roots and no session is up."""
        members = [member for member in self.members.values() if member.is_up]
        states = [member.roots() for member in members]
        quiet = not any(entry.sessions for m in members for entry in m.node.peer_table.peers.values())
        return quiet and all(state == states[0] for state in states)

    def _announce(self, member: Member) -> None:
        if member.announcement is not None:
            self.discovery.announce(member.host, member.announcement, member.address)
