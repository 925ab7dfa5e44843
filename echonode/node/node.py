"""Node: the facade. A record book, a peer table, and the sessions between them; all I/O comes in through ports.

The shell hands in streams (`accept`), sightings (`sighted`, `gone`) and a way to dial; through `announce` it is told
what to make known, through `save_network_key` what to keep. The same Node runs over TCP and in simulation.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

from echonode.clock import Clock, Entropy
from echonode.errors import LocalError
from echonode.model.identity import Identity, IdentityId
from echonode.model.record import IDENTITIES, Record
from echonode.node.connections import Connections
from echonode.node.conversations import Conversations
from echonode.node.event_bus import EventBus
from echonode.node.events import Event, NodeStarted, NodeStopped, Observer, PeerAbsent, PeerSighted
from echonode.node.handshake import LocalSide, Session
from echonode.node.hello import Greeter
from echonode.node.invitations import Invitations
from echonode.node.live_links import LiveLinks
from echonode.node.on_demand import SyncRequests
from echonode.node.peer_requests import Asking
from echonode.node.peer_table import PeerTable
from echonode.node.peer_views import PeerViews
from echonode.node.pending import Pending
from echonode.node.record_book import RecordBook
from echonode.node.scheduler import Scheduler
from echonode.node.session_registry import SessionRegistry
from echonode.node.settings import Presence as Presence
from echonode.node.settings import Settings as Settings
from echonode.node.settings import group_tag as group_tag
from echonode.node.views import NodeStatus, PeerView, SyncReport
from echonode.store.port import Store
from echonode.sync.sketch_cache import SketchCache
from echonode.sync.streams import ByteStream, Dial
from echonode.sync.transport import StreamTransport
from echonode.text import to_base32
from echonode.wire.channel import NetworkSecret
from echonode.wire.messages import Direction

OPEN: str = "open"


class Node(RecordBook):
    """One running echonode. `start` before anything else, `stop` at the end."""

    def __init__(
        self,
        store: Store,
        identity: Identity,
        settings: Settings,
        *,
        clock: Clock,
        entropy: Entropy,
        dial: Dial,
        observe: Observer,
        announce: Callable[[Presence], None],
        save_network_key: Callable[[bytes], None],
    ) -> None:
        self.bus = EventBus(observe)
        super().__init__(store, identity, clock, entropy, self.bus.publish)
        self.name = settings.name
        self._key = settings.network_key
        self._is_provisional = settings.is_provisional
        self._tag = entropy.random_bytes(8)
        self._announce = announce
        self._save_network_key = save_network_key
        self._listen: tuple[str, ...] = ()
        self._runner: asyncio.Task[None] | None = None
        self.peer_table = PeerTable(entropy)
        self.scheduler = Scheduler(self.peer_table, entropy)
        live = SessionRegistry(identity.id, clock)
        self._greeter = Greeter(
            book=self,
            live=live,
            observe=self.observe,
            name=settings.name,
            tag=self._tag,
            contexts=settings.contexts,
            models=settings.models,
            first_instance=store.instance,
            is_full=self.peer_table.is_full,
            meeting=self.peer_table.hello_begun,
            is_partial=lambda context: self.partial.of(context) is not None,
            wants_all=self._wants_all,
        )
        self._inviting = Invitations(clock, entropy, self.observe, self._reannounce)
        told = (self._greeter.takes, self.on_received, self._wake, self._wants_all)
        self._links = LiveLinks(store, clock, entropy, self.bus, self.peer_table, self.scheduler.links, *told)
        sketches = SketchCache(lambda: self._secrets()[0].netid)
        manager = Conversations(store, clock, self.observe, *told[:2], self._links, sketches=sketches)
        self.connections = Connections(
            dial=dial,
            clock=clock,
            entropy=entropy,
            observe=self.observe,
            table=self.peer_table,
            scheduler=self.scheduler,
            manager=manager,
            local=LocalSide(
                device=identity.device,
                statements=lambda: self.own_statements,
                make_hello=self._greeter.hello,
                suspect=self._greeter.suspect,
                admit=self._greeter.admit,
                foreign=self._greeter.keep_foreign,
            ),
            live=live,
            secrets=self._secrets,
            pair=self._pair,
            greeted=self._greeted,
        )
        self._views = PeerViews(self.peer_table, self._greeter, self._links.behind)
        self._requests = SyncRequests(self.connections, dial)
        self._subscriptions = settings.subscriptions
        self.partial = self.connections.manager.partial
        self.asking = Asking(self._requests, self.connections.manager)

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self, listen: Sequence[str] = ()) -> None:
        """Introduce ourselves in our own store, and begin to follow the scheduler. `listen`: where streams come in."""
        self._listen = tuple(listen)
        self._greeter.port = int(listen[0].rpartition(":")[2]) if listen else 0
        self._greeter.pins.update(await self.store.pins())
        await self.introduce(None if self._is_provisional else self._key)
        if not self._is_provisional:  # `shared` means something only in a network
            self.partial.subscribe(self._subscriptions, self.identity_of)
        self._runner = asyncio.create_task(self.connections.run())
        self._reannounce()
        self.observe(NodeStarted(id=self.id, node_name=self.name, network=self.network, listen=self._listen))

    async def stop(self) -> None:
        """Close every session with a word, and the store."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait([self._runner])
            await self.connections.close()
            self.observe(NodeStopped())
        await self.store.close()
        self.bus.end()

    async def run(self) -> None:
        """Return when the node was stopped. Raises what made it stop speaking to peers: a fault of ours."""
        assert self._runner is not None, "a node is started first"
        try:
            await asyncio.shield(self._runner)
        except asyncio.CancelledError:
            if not self._runner.cancelled():
                raise

    def subscribe(self) -> "AbstractContextManager[asyncio.Queue[Event | None]]":
        """Every event from now on, None at the end."""
        return self.bus.stream()

    # -- what the shell hands in -------------------------------------------------------------------------------------

    async def accept(self, stream: ByteStream) -> None:
        """Serve a stream that somebody opened to us, to its end."""
        await self.connections.accept(stream)

    def sighted(self, key: str, addresses: Sequence[str], *, tag: bytes, group: bytes, slot: str | None = None) -> None:
        """Discovery saw a node; a hint, never a decision."""
        is_ours = self.is_of_our_network(tag, group)
        if tag == self._tag:
            return
        is_new = self.peer_table.sighted(
            key, "mdns", tuple(addresses), is_ours=is_ours, slot=slot, tag=tag, group=group
        )
        if is_new:
            self.observe(PeerSighted(address=addresses[0] if addresses else "", found_by="mdns", same_network=is_ours))
        self.connections.wake()

    def is_of_our_network(self, tag: bytes, group: bytes) -> bool:
        """Whether who announces `tag` and `group` knows our network key."""
        return group == group_tag(self._key, tag)

    def gone(self, key: str) -> None:
        """Discovery says that a node took its leave."""
        absent = self.peer_table.withdrawn(key)
        if absent is not None:
            self.observe(PeerAbsent(peer=absent.id, peer_name=absent.name, why=absent.reason))
        self.connections.wake()

    def add_peer(self, address: str) -> None:
        """A peer that the configuration names."""
        self.peer_table.sighted(f"static:{address}", "static", (address,))
        self.connections.wake()

    # -- what people ask ---------------------------------------------------------------------------------------------

    @property
    def listening(self) -> tuple[str, ...]:
        """HOST:PORT of every address on which streams come in."""
        return self._listen

    @property
    def models(self) -> Mapping[str, tuple[int, int]]:
        """The record models that are read here, as the configuration says."""
        return self._greeter.models

    @property
    def network(self) -> str:
        """A short public name of the network."""
        return OPEN if self._key is None else to_base32(NetworkSecret.private(self._key).netid[:8])

    async def status(self) -> NodeStatus:
        """Who we are, who is there, and whether we are equal."""
        return NodeStatus(
            id=self.id,
            name=self.name,
            instance=self.store.instance,
            network=self.network,
            listen=self._listen,
            contexts=tuple([await self.store.info(name) for name in self.store.contexts()]),
            peers=tuple(self.peers()),
            invitation=self._inviting.slot,
        )

    def peers(self) -> list[PeerView]:
        """Everybody met or seen, other networks' nodes included."""
        return self._views.views()

    def pending(self) -> Pending:
        """Return the work that this node still has to do."""
        peers, targets = self.peer_table.peers.values(), self.peer_table.targets.values()
        links, registry = self._links.pending(), self.connections.live
        return Pending(
            sessions=sum(entry.sessions for entry in peers),
            handshakes=self.connections.handshakes,
            streams=registry.streams - len(links),
            partings=registry.partings,
            fills=self.connections.manager.filling.fills,
            versions_asked=self._links.spread.asked_count,
            comparisons=sum(entry.changed_meanwhile for entry in peers),
            dials=tuple(len(target.addresses) for target in targets if target.is_dialling),
            links=links,
        )

    async def sync(
        self, peers: Sequence[IdentityId] | None, direction: Direction, timeout_s: float
    ) -> list[SyncReport]:
        """Converse with `peers` now (None: all that are known), and say how it went with each."""
        wanted = [entry.id for entry in self.peer_table.peers.values()] if peers is None else list(peers)
        return await self._requests.run(wanted, direction, timeout_s)

    def resolve_author(self, text: str) -> IdentityId:
        """As a record book does, and by the name of a node: ours, or a peer's that was met."""
        if text == self.name:
            return self.id
        try:
            return super().resolve_author(text)
        except LocalError:
            named = [entry.id for entry in self.peer_table.peers.values() if entry.name == text]
            if len(named) != 1:
                raise
            return named[0]

    def keeps(self, context: str) -> bool:
        contexts = self._greeter.contexts
        return super().keeps(context) and (contexts is None or context in contexts)

    def resolve_peer(self, text: str) -> IdentityId:
        """A peer by id, id prefix or name. Raises LocalError."""
        return self._views.resolve(text)

    async def trust(self, text: str) -> None:
        """Accept that a name now belongs to the peer that was kept out: a person's decision."""
        peer, name = self._views.find_kept_out(text)
        await self._greeter.pin(peer, name)
        self._greeter.kept_out.pop(peer, None)
        self._links.end_named(name, peer)
        self.peer_table.retry_now()
        self.connections.wake()

    # -- the network -------------------------------------------------------------------------------------------------

    def network_key(self) -> bytes | None:
        """The network key; None on the open network."""
        return self._key

    async def set_network_key(self, key: bytes) -> None:
        """Become a member of another network. Records stay; sessions of the old network end."""
        if key == self._key:
            return
        self._save_network_key(key)
        self._key = key
        await self.introduce(key)
        self.partial.subscribe(self._subscriptions, self.identity_of)
        self._links.end_all()
        self.connections.live.drop_all()
        self.peer_table.membership_changed(self.is_of_our_network)
        self._reannounce()
        self._inviting.joined(self.network)
        self.connections.wake()

    async def invite(self, *, uses: int, expires_s: float) -> str:
        """Open an invitation; the code to type on the other machine."""
        if self._key is None:
            raise LocalError("the open network needs no invitation: anyone may take part")
        return self._inviting.open(uses=uses, expires_s=expires_s)

    async def join(self, code: str, at: str | None = None, timeout_s: float = 60.0) -> str:
        """Join the network of whoever gave `code`, found by itself or `at` HOST:PORT; the network's short name.

        Raises ConfigError for what is no code, RemoteError or PeerRefused for a wrong one, TransportError when nobody
        with an open invitation of that number is found in time.
        """
        key = await self._inviting.join(code, at, timeout_s, self.connections.dial, self._views.inviters)
        await self.set_network_key(key)
        if at is not None:
            self.add_peer(at)  # where discovery does not reach, this is how we found it
        return self.network

    # -- inside ------------------------------------------------------------------------------------------------------

    def on_written(self, records: Sequence[Record]) -> None:
        self._changed(records, None)

    def on_received(self, source: IdentityId, records: Sequence[Record]) -> None:
        super().on_received(source, records)
        if self.is_copied:
            self.connections.spawn(self.renew_if_copied())
        self._changed(records, source)

    def _changed(self, records: Sequence[Record], source: IdentityId | None) -> None:
        if any(record.context == IDENTITIES for record in records):
            self._links.end_revoked()
        self._links.spread.stored(records, source)
        self.peer_table.store_changed(source)
        to_tell = self.scheduler.to_tell(source)
        if to_tell:
            self.peer_table.compare_soon(self.clock.monotonic_s(), to_tell)
            self.connections.wake()

    def _wants_all(self) -> bool:
        return not self.partial.filters

    def _wake(self) -> None:
        self.connections.wake()

    def _secrets(self) -> tuple[NetworkSecret, ...]:
        if self._key is None:
            return (NetworkSecret.public(),)
        own = NetworkSecret.private(self._key)
        return (own, NetworkSecret.public()) if self._inviting.slot is not None else (own,)

    async def _pair(self, transport: StreamTransport) -> None:
        assert self._key is not None, "only a private network has invitations"
        await self._inviting.serve(transport, self._key)

    async def _greeted(self, session: Session) -> None:
        """The first thing in every session: what its hello tells about the peer, and about ourselves."""
        hello, peer = session.hello, session.peer
        await self._greeter.meet(peer.id, hello.name)
        if self.store.keyring.state_of(peer.id, peer.key) is None:
            await self.store.apply(IDENTITIES, peer.statements)
        self.peer_table.met(
            peer.id,
            tag=hello.tag,
            models=hello.models,
            listens_at=session.listens_at if hello.port and not session.is_initiator else None,
        )
        self.store.set_back(peer.id, {summary.context: summary.seq for summary in hello.contexts})
        if self._greeter.is_rolled_back(hello):
            await self.renew_instance()

    def _reannounce(self) -> None:
        self._announce(Presence(self._tag, group_tag(self._key, self._tag), self._inviting.slot))
