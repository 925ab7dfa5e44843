"""Node: one running echonode, put together from its parts. All I/O comes in through ports.

    records ──> store          the record book: what is written here, and read
    bus                        the one way in which parts hear of each other
    peer_table <── scheduler   what is known of peers; when to dial which
    connections ──> admission  streams in and out; which peers are let in
    conversations              what happens in a session
    live_links                 sessions that stay open, over which news travels
    subscriptions, invitations, membership, pools, on_demand, echo_sync

The way of a record from its commit to the peers that follow us: the commit is a `store.write` or `store.apply`, after
which the record book, a conversation or a link publishes one RecordsApplied on the bus. The bus tells the log, the
streams of the API, and then these, in this order (`Node._hear_of_records`):

    RecordBook.note_applied    the clock follows those of peers; forks and copies of this store are found
    OtherLives.note_applied    versions are signed again that another life of this store took the place of
    KeptContexts.note_applied  who introduced a context is kept
    LiveLinks.pass_on          links whose key was revoked end; the others wake (Plumtree.stored), and send
    Connections.tell_some      some peers without a link are dialled soon, to compare

The shell hands in streams (`accept`, once the node is started), sightings (`sighted`, `gone`) and a way to dial. It
gets from `announce` what to make known; `save_secret`, `save_name` and `safe` keep what is to outlive the process. The
same Node runs over TCP and in simulation.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any

from echonode.clock import Clock, Entropy
from echonode.errors import LocalError
from echonode.limits import NODE_NAME_BYTES_MAX
from echonode.model.address import distinct_label
from echonode.model.identity import Identity, IdentityId
from echonode.model.member_secret import MemberSecret
from echonode.node.addresses import Addresses
from echonode.node.admission import PeerAdmission
from echonode.node.audits import Audits
from echonode.node.backlog import Backlog
from echonode.node.catch_up import CatchUp
from echonode.node.changes import Changes
from echonode.node.conflicts import Conflicts
from echonode.node.connections import Connections
from echonode.node.conversations import Conversations
from echonode.node.device_keys import DeviceKeys
from echonode.node.echo_sync import EchoSync
from echonode.node.event_bus import EventBus
from echonode.node.events import (
    ContextShown,
    InstanceRenewed,
    NodeRenamed,
    NodeStarted,
    NodeStopped,
    Observer,
    OtherLifeMet,
    PeerAbsent,
    PeerForgotten,
    PeerSighted,
    RecordsApplied,
    RecordsStaged,
    RecordVoided,
)
from echonode.node.explanation import Explanations
from echonode.node.handshake import LocalSide
from echonode.node.hello import HelloMaker
from echonode.node.intake import Intake
from echonode.node.invitations import Invitations
from echonode.node.live_links import LiveLinks
from echonode.node.membership import Membership, SaveSecret
from echonode.node.network_moves import NetworkMoves
from echonode.node.on_demand import OnDemand
from echonode.node.other_lives import OtherLives
from echonode.node.pause_control import PauseControl
from echonode.node.peer_table import PeerTable
from echonode.node.peer_views import PeerViews
from echonode.node.pools import Pools
from echonode.node.record_book import RecordBook
from echonode.node.record_files import RecordFiles
from echonode.node.rotations import Rotations
from echonode.node.scheduler import Scheduler
from echonode.node.session_registry import SessionRegistry
from echonode.node.session_traces import SessionTraces
from echonode.node.settings import Presence as Presence
from echonode.node.settings import Safe as Safe
from echonode.node.settings import Settings as Settings
from echonode.node.settings import group_tag as group_tag
from echonode.node.subscriptions import Subscriptions
from echonode.node.trust_control import TrustControl
from echonode.node.views import LeftBehind, NodeStatus, PeerView, SyncReport
from echonode.node.work_budgets import WorkBudgets
from echonode.store.port import Store
from echonode.sync.sketch_cache import SketchCache
from echonode.sync.streams import ByteStream, Dial
from echonode.text import escape, is_node_name, nfc
from echonode.wire.messages import Direction


class Node:
    """One running echonode. Call `start` before anything else, and `stop` at the end."""

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
        save_secret: SaveSecret,
        save_name: Callable[[str], None],
        safe: Safe,
    ) -> None:
        tag, wake, self.store = entropy.random_bytes(8), asyncio.Event(), store
        self.bus = bus = EventBus(observe)
        self.audits = Audits(store, bus, clock, self._fetch_again)
        self.records = book = RecordBook(store, identity, clock, entropy, self.bus, settings.contexts)
        self.conflicts, self.changes = Conflicts(book, bus), Changes(book, bus)
        self.budgets = WorkBudgets(clock, settings.quotas.peer_rate)
        self.intake = Intake(store, book.kept, identity.id, settings.quotas, self._acquainted)
        self.subscriptions = Subscriptions(store, self.records.kept, closed=self.intake.closed)
        self.membership = member = Membership(settings, tag, clock.now_ms, announce=announce, save=save_secret)
        self.pools = Pools(self.records, settings.pools, entropy, safe.write_pools)
        self.device_keys = DeviceKeys(self.records, self.pools, safe, entropy, self.bus, self._key_changed)
        self.invitations = joining = Invitations(self.membership, self.pools, clock, entropy, self.bus)
        self.peer_table = table = PeerTable(entropy)
        self.addresses = Addresses(self.records, self.peer_table, self.pools, settings.name)
        self.scheduler, self.registry = Scheduler(table, entropy), SessionRegistry(identity.id, clock)
        self.hello = HelloMaker(self.records, self.subscriptions, settings.name, tag, settings.models)
        self.live_links = links = LiveLinks(
            store, clock, entropy, bus, table, self.scheduler.links, self.subscriptions, self.intake, self.budgets, wake
        )
        self.moves = NetworkMoves(
            member, book, joining, table, self.registry, links, bus, clock, wake, self._subscribe, self._spawn
        )
        self.rotations = Rotations(member, book, bus, clock, entropy, self.moves, self._spawn)
        self.other_lives = lives = OtherLives(book, self._spawn, self._receive_from)
        self.admission = PeerAdmission(book, table, self.registry, bus, clock, self.rotations, lives)
        wanted, intake, sketches = self.subscriptions, self.intake, SketchCache(lambda: member.secret.netid)
        self.conversations = Conversations(store, clock, bus, wanted, links, intake, self.budgets, lives, sketches)
        self.connections = Connections(
            dial=dial,
            clock=clock,
            entropy=entropy,
            bus=self.bus,
            table=self.peer_table,
            scheduler=self.scheduler,
            registry=self.registry,
            local=LocalSide(self.hello, self.admission),
            admission=self.admission,
            invitations=self.invitations,
            rotations=self.rotations,
            runner=self.conversations,
            links=self.live_links,
            wake=wake,
        )
        self.on_demand = OnDemand(self.connections, self.conversations, self.addresses)
        self.files = RecordFiles(store, bus, identity.id, self.addresses, member, intake, wanted, links.refusals)
        self.pause_control = pausing = PauseControl(self.connections, self.addresses)
        self.trust_control = TrustControl(self.connections, self.addresses, book, safe.write_trust)
        self.echo_sync = EchoSync(book, self.conflicts, self.on_demand, pausing, clock, entropy, settings.echo_author)
        self._hear_of_records()
        self._settings, self._wake, self._clock, self._save_name = settings, wake, clock, save_name
        labels, denials = self.addresses, book.denials
        self.views = PeerViews(table, self.admission, links, self.registry, labels, denials, clock, settings.models)
        self.explanations = Explanations(book, wanted, self.addresses, self.on_demand, self.views, self.trust_control)
        self._listen: tuple[str, ...] = ()
        self._runner: asyncio.Task[None] | None = None

    def _hear_of_records(self) -> None:
        """Let the parts of the node hear of every record that is applied, in this order."""
        self.bus.on(RecordsApplied, self.records.note_applied)
        self.bus.on(RecordsApplied, self.conflicts.note_applied)
        self.bus.on(RecordVoided, self.conflicts.note_voided)
        self.bus.on(RecordsApplied, self.device_keys.note_applied)
        self.bus.on(RecordsApplied, self._note_contexts)
        self.bus.on(ContextShown, self._note_contexts)
        self.bus.on(RecordsApplied, self.other_lives.note_applied)
        self.bus.on(OtherLifeMet, self.other_lives.note_strangers)
        self.bus.on(RecordsApplied, self.live_links.pass_on)
        self.bus.on(RecordsApplied, self.connections.tell_some)
        self.bus.on(RecordsStaged, self.records.note_staged)
        self.bus.on(RecordsStaged, self.other_lives.note_staged)
        self.bus.on(ContextShown, lambda event: self.connections.spawn(self.conflicts.note_shown(event)))
        self.bus.on(ContextShown, self.live_links.pass_on_shown)
        self.bus.on(ContextShown, self.connections.tell_some)

    @property
    def traces(self) -> SessionTraces:
        """The messages of the last sessions."""
        return self.connections.traces

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self, listen: Sequence[str] = ()) -> None:
        """State our keys in our own store, and begin to dial. `listen`: HOST:PORT where streams come in."""
        self._listen = tuple(listen)
        self.hello.port = int(listen[0].rpartition(":")[2]) if listen else 0
        await self.admission.load()
        await self.records.kept.load()
        if self.store.second_life is not None:
            self.bus.publish(InstanceRenewed(instance=self.store.instance, why=self.store.second_life))
        is_provisional = self._settings.is_provisional
        await self.records.introduce(None if is_provisional else self.membership.member_secret)
        await self.pools.begin()
        self.moves.name_past_pools()
        if not is_provisional:  # `shared` means something only in a network
            self._subscribe()
        self.pause_control.load(self._settings.pauses)
        self.trust_control.load(self._settings.trust)
        self._runner = asyncio.create_task(self.connections.run())
        if not all(each.is_copied for each in self.membership.past):
            self.connections.spawn(self.rotations.resume())
        if self._settings.is_restored:
            self.connections.spawn(CatchUp(self.bus, self.peer_table, self.records.may_write).run())
        elif self.peer_table.peers:
            self.other_lives.hold_first_write()
        self.invitations.announce()
        self.bus.publish(NodeStarted(id=self.id, node_name=self.name, network=self.network, listen=self._listen))

    async def stop(self) -> None:
        """Close every session with a Close, and the store."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait([self._runner])
            await self.connections.close()
            self.bus.publish(NodeStopped())
        await self.store.close()

    async def run(self) -> None:
        """Return when the node was stopped. Raises the fault of ours that made it stop dialling."""
        assert self._runner is not None, "a node is started first"
        try:
            await asyncio.shield(self._runner)
        except asyncio.CancelledError:
            if not self._runner.cancelled():
                raise

    # -- what the shell hands in -------------------------------------------------------------------------------------

    async def accept(self, stream: ByteStream) -> None:
        """Serve a stream that was opened to us, to its end."""
        await self.connections.accept(stream)

    def sighted(self, key: str, addresses: Sequence[str], *, tag: bytes, group: bytes, slot: str | None = None) -> None:
        """Note that discovery saw a node: a hint, never a decision."""
        if tag == self.membership.tag:
            return
        is_ours = self.moves.may_be_member(tag, group)
        is_new = self.peer_table.sighted(
            key, "mdns", tuple(addresses), is_ours=is_ours, slot=slot, tag=tag, group=group
        )
        if is_new:
            address = addresses[0] if addresses else ""
            self.bus.publish(PeerSighted(address=address, found_by="mdns", same_network=is_ours))
        self._wake.set()

    def is_of_our_network(self, tag: bytes, group: bytes) -> bool:
        """Return whether the node that announces `tag` and `group` may be a member of our network."""
        return self.moves.may_be_member(tag, group)

    def gone(self, key: str) -> None:
        """Note that discovery saw a node take its leave."""
        absent = self.peer_table.withdrawn(key)
        if absent is not None:
            self.bus.publish(PeerAbsent(peer=absent.id, peer_name=absent.name, why=absent.reason))
        self._wake.set()

    def add_peer(self, address: str) -> None:
        """Dial the peer at that HOST:PORT, which the configuration or a person names."""
        self.peer_table.sighted(f"static:{address}", "static", (address,))
        self._wake.set()

    def remove_peer(self, address: str) -> None:
        """Dial the peer at that HOST:PORT no more, unless it is known by other means too."""
        self.gone(f"static:{address}")

    def reconfigure(self, models: Mapping[str, tuple[int, int]], subscriptions: Mapping[str, Sequence[str]]) -> None:
        """Read these models and want these parts of contexts from now on, as Settings has them. Raises LocalError.

        Sessions end, because their hello says something else; peers are compared with at once.
        """
        self.subscriptions.subscribe(subscriptions, self.addresses.resolve_in_filter)
        self._settings = replace(self._settings, models=models, subscriptions=subscriptions)
        self.hello.models = self.views.models = models
        self._compare_anew()

    # -- what people ask ---------------------------------------------------------------------------------------------

    @property
    def id(self) -> IdentityId:
        """The node id."""
        return self.records.id

    @property
    def name(self) -> str:
        """The name of this node, for people."""
        return self.addresses.name

    @property
    def label(self) -> str:
        """The name, with the beginning of the id where a peer has the same name."""
        return distinct_label(self.id, self.addresses.node_labels())

    @property
    def listening(self) -> tuple[str, ...]:
        """HOST:PORT of every address on which streams come in."""
        return self._listen

    @property
    def models(self) -> Mapping[str, tuple[int, int]]:
        """The record models that are read here, as the configuration says."""
        return self._settings.models

    @property
    def network(self) -> str:
        """A short public name of the network."""
        return self.membership.name

    async def status(self) -> NodeStatus:
        """Return this node, its contexts and its peers as people see them."""
        return NodeStatus(
            id=self.id,
            name=self.name,
            label=self.label,
            instance=self.store.instance,
            network=self.network,
            listen=self._listen,
            contexts=tuple([await self.store.info(name) for name in self.store.contexts()]),
            history=self.store.history(),
            peers=tuple(self.peers()),
            invitation=self.invitations.slot,
            handshakes_dropped=self.connections.dropped.total,
            joining=self.is_joining,
            key_problem=self.device_keys.problem(self.admission.revoked_at),
            pause=self.peer_table.pauses.of(None),
            left_out_by=tuple(sorted(self.addresses.author_text(peer) for peer in self.moves.left_out_by)),
        )

    def peers(self) -> list[PeerView]:
        """Return every peer that was met or seen, nodes of other networks included."""
        return self.views.views()

    def pending(self) -> Backlog:
        """Return the work that this node still has to do."""
        peers, targets, links = self.peer_table.peers, self.peer_table.targets, self.live_links.pending()
        return Backlog(
            sessions=sum(entry.sessions for entry in peers.values()),
            handshakes=self.connections.handshakes,
            streams=self.registry.streams - len(links),
            partings=self.registry.partings,
            fills=self.conversations.bulk_gate.fills,
            versions_asked=self.live_links.plumtree.asked_count,
            comparisons=sum(entry.changed_meanwhile for entry in peers.values()),
            dials=tuple(len(target.addresses) for target in targets.values() if target.is_dialling),
            links=links,
        )

    async def sync(
        self, peers: Sequence[IdentityId] | None, direction: Direction, timeout_s: float
    ) -> list[SyncReport]:
        """Sync with `peers` now (None: all that are known, and configured addresses). Return one report for each."""
        known, targets = self.views.to_sync() if peers is None else (peers, ())
        self.pause_control.check(known)
        return await self.on_demand.sync(known, direction, timeout_s, targets=targets)

    def resolve_peer(self, text: str) -> IdentityId:
        """Return a peer by id, id prefix or name. Raises LocalError."""
        return self.addresses.resolve_peer(text)

    async def forget_peer(self, text: str) -> str:
        """Forget the peer with that name or id until it comes again, and whether it was let in. Return its label.

        Its records stay. Raises LocalError for no such peer, and for one that is connected and would come again.
        """
        peer = self.trust_control.resolve(text)
        entry, label = self.peer_table.peers.get(peer), self.trust_control.label(peer)
        if entry is not None and entry.is_up:
            raise LocalError(f"{escape(label)} is connected now: stop it first, or it comes again")
        if not self.trust_control.forget(peer) and entry is None:
            raise LocalError(f"no peer {escape(text)}")
        self.peer_table.forget_peer(peer)
        await self.store.forget_peer(peer)
        self.bus.publish(PeerForgotten(peer=peer, peer_name="" if entry is None else entry.name))
        self._wake.set()
        return label

    async def forget_context(self, context: str, *, own_too: bool) -> int:
        """Delete all that is held of `context`, and take it no more until it is written here. Return how many records.

        Raises LocalError for a context that is always kept or not there, and, unless `own_too`, for one that was
        written here: no other node may have its records.
        """
        kept = self.records.kept
        if kept.is_own(context) and not own_too:
            raise LocalError(f"{escape(context)} was written here, and other nodes may not have its records")
        await kept.forget(context)
        self.live_links.end_all()  # they follow the context
        self.registry.drop_all()
        forgotten = await self.subscriptions.drop(context)
        self.connections.compare_with_all()
        return forgotten

    async def rename(self, text: str) -> str:
        """Give this node another name, and keep it. Peers hear of it in a moment. Return the name in NFC.

        Raises LocalError for a text that is no name of a node.
        """
        name = nfc(text)
        if not is_node_name(name):
            raise LocalError(f"a name is 1 to {NODE_NAME_BYTES_MAX} bytes of text without control characters")
        self._save_name(name)
        self.addresses.name = self.hello.name = name
        self.bus.publish(NodeRenamed(node_name=name))
        reachable = [entry.id for entry in self.peer_table.peers.values() if entry.is_reachable]
        self.peer_table.compare_soon(self._clock.monotonic_s(), reachable)
        self._wake.set()
        return name

    # -- the network -------------------------------------------------------------------------------------------------

    def network_secret(self) -> MemberSecret | None:
        """Return the network secret; None on the open network. Raises LocalError while that is still to come."""
        if self._settings.is_provisional:
            raise LocalError("this node is joining a network: it has no secret of its own to show")
        return self.membership.member_secret

    async def set_network(self, secret: MemberSecret) -> LeftBehind | None:
        """Become a member of another network; records stay. Return what was left behind, None where nothing was."""
        left = await self.moves.leave_for(secret, is_first=self._settings.is_provisional)
        self._settings = replace(self._settings, is_provisional=False)
        return left

    @property
    def is_joining(self) -> bool:
        """True while this node looks for the network that it is to join."""
        return self.invitations.is_joining

    async def invite(self, *, uses: int, expires_s: float, pool: str | None = None) -> str:
        """Open an invitation, with `pool` into that pool too. Return the code to type on the other machine.

        Raises LocalError."""
        known = None if pool is None else self.pools.resolve(pool)
        return self.invitations.open(uses=uses, expires_s=expires_s, pool=known)

    async def join(self, code: str, at: str | None = None, timeout_s: float = 60.0) -> str:
        """Join the network that `code` invites into. Return its short name.

        The inviter is found by discovery, or is `at` HOST:PORT. Raises ConfigError for a text that is no code,
        LocalError, RemoteError or PeerRefused for a wrong code, TransportError when no node with an open invitation of
        that number is found in time.
        """
        secret, pool = await self.invitations.join(code, at, timeout_s, self.connections.dial, self.views.inviters)
        await self.set_network(secret)
        if pool is not None:
            await self.pools.accept(pool)
        if at is not None:
            self.add_peer(at)  # where discovery does not reach, this is how we found it
        return self.network

    # -- inside ------------------------------------------------------------------------------------------------------

    def _key_changed(self) -> None:
        """Meet all peers again under the key that this device signs with now."""
        self.admission.revoked_at.clear()
        self._compare_anew()
        self._wake.set()

    def _fetch_again(self) -> None:
        """Let peers bring versions back that were dropped here."""
        self._compare_anew()
        self._wake.set()

    def _compare_anew(self) -> None:
        """End every session and compare with all peers, as if they were met for the first time."""
        self.live_links.end_all()
        self.registry.drop_all()
        self.connections.compare_with_all()

    def _acquainted(self) -> Collection[IdentityId] | None:
        return self.trust_control.acquainted()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.connections.spawn(work)

    async def _receive_from(self, peer: IdentityId, timeout_s: float) -> None:
        await self.on_demand.sync([peer], Direction.RECEIVE, timeout_s)

    def _subscribe(self) -> None:
        self.subscriptions.subscribe(self._settings.subscriptions, self.addresses.resolve_in_filter)

    def _note_contexts(self, event: RecordsApplied | ContextShown) -> None:
        """Keep who introduced a context that has just come, and look into those in which records were deleted."""
        kept = self.records.kept
        if kept.note_shown(event) if isinstance(event, ContextShown) else kept.note_applied(event):
            self.connections.spawn(self.records.kept.refresh())
