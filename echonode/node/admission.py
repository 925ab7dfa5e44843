"""Admission: which peers are let in, by key, name and protocol version (SECURITY.md H7), and what their hellos tell.

    revoked key              refused
    name of another peer     refused, and listed until a person decides (`trust`)
    claim without a proof    refused, and reported when it concerns an identity that is known here
    another protocol major   refused on both sides, and listed

A name is pinned to the first identity that comes with it. An identity is pinned to its root key by its very id.
"""

from dataclasses import dataclass, field
from typing import Final

from echonode.errors import LocalError, PeerRefused, Reason
from echonode.limits import CANDIDATES_MAX
from echonode.model.identity import IdentityId, Instance
from echonode.model.keys import KeyState
from echonode.model.record import IDENTITIES
from echonode.node.event_bus import EventBus
from echonode.node.events import PinViolated, RecordsApplied
from echonode.node.handshake import Session
from echonode.node.peer_table import PeerTable
from echonode.node.record_book import RecordBook
from echonode.node.session_registry import SessionRegistry
from echonode.sync.streams import ByteStream
from echonode.sync.transport import StreamTransport
from echonode.text import escape, to_base32
from echonode.wire.auth import Peer
from echonode.wire.messages import Auth, Hello, version_text

_NAMES_PER_PEER_MAX: Final = 8
_PREFIX_CHARS_MIN: Final = 4


@dataclass(slots=True)
class Admission:
    """Judges peers. What it lists of those that it refused is bounded by CANDIDATES_MAX each.

    `kept_out`: the name and address of peers whose name is pinned to another identity; `foreign`: name, address and
    protocol version of peers that speak another major; `impostors`: identities that were claimed without a proof, and
    the address where.
    """

    records: RecordBook
    table: PeerTable
    registry: SessionRegistry
    bus: EventBus
    first_instance: Instance  # of the store, at the start of this process
    pins: dict[tuple[str, str], IdentityId] = field(default_factory=dict)
    kept_out: dict[IdentityId, tuple[str, str]] = field(default_factory=dict)
    foreign: dict[IdentityId, tuple[str, str, str]] = field(default_factory=dict)
    impostors: dict[IdentityId, str] = field(default_factory=dict)

    async def load(self) -> None:
        """Read the pins from the store."""
        self.pins.update(await self.records.store.pins())

    # -- during the handshake ----------------------------------------------------------------------------------------

    def admit(self, peer: Peer, hello: Hello | None, transport: StreamTransport) -> None:
        """Let `peer` in. Called when its AUTH is known, and again with its hello. Raises PeerRefused to keep it out."""
        if hello is not None:
            self.foreign.pop(peer.id, None)
            self._check_name(peer.id, hello.name, transport.stream.address)
            return
        if peer.id == self.records.shared:
            raise PeerRefused(Reason.NOT_ACCEPTED, "a pool is not a node")
        if self.table.is_full(peer.id):
            raise PeerRefused(Reason.BUSY, "too many peers are known already")
        if peer.id == self.records.id:
            raise PeerRefused(Reason.SELF, "that is this very node")
        state = self.records.store.keyring.state_of(peer.id, peer.key)
        if state is not None and state is not KeyState.ACTIVE:
            raise PeerRefused(Reason.KEY_REVOKED, f"its key is {state.name.lower()}")
        self.registry.enter(peer.id, transport)
        self.table.hello_begun(peer.id)

    def _check_name(self, peer: IdentityId, name: str, address: str) -> None:
        pinned = self.pins.get(("name", name))
        if pinned is None or pinned == peer:
            self.kept_out.pop(peer, None)
            return
        if len(self.kept_out) < CANDIDATES_MAX:
            self.kept_out[peer] = (name, address)
        self.bus.publish(PinViolated(kind="name", value=name, pinned=pinned, offered=peer))
        raise PeerRefused(Reason.IDENTITY_CHANGED, f"the name {escape(name)} belongs to another identity here")

    def suspect(self, claimed: Auth, stream: ByteStream) -> None:
        """Report an AUTH that claims an identity and proves nothing, when that identity is known here."""
        identity = IdentityId(claimed.offers[0].identity)
        if identity in self.records.store.authors() and len(self.impostors) < CANDIDATES_MAX:
            self.impostors[identity] = stream.address
            self.bus.publish(
                PinViolated(kind="identity", value=stream.address, pinned=identity, offered=claimed.offers[0].key)
            )

    def note_foreign(self, peer: Peer, hello: Hello | None, transport: StreamTransport, refused: PeerRefused) -> None:
        """List a peer with which no protocol major is shared: a person should see that on both sides."""
        if peer.id not in self.foreign and len(self.foreign) >= CANDIDATES_MAX:
            return
        if hello is not None:
            self.foreign[peer.id] = (hello.name, transport.stream.address, version_text(hello.version))
        else:  # the peer saw it first, and only its Close came; its name may be known from another time
            name, address, _ = self.foreign.get(peer.id, ("", transport.stream.address, ""))
            self.foreign[peer.id] = (name, address, ", ".join(refused.supported))

    # -- at the beginning of each session ----------------------------------------------------------------------------

    async def learn(self, session: Session) -> None:
        """Take in what the hello of a new session tells of its peer, and of this node's own store."""
        hello, peer, store = session.hello, session.peer, self.records.store
        await self._meet(peer.id, hello.name)
        if store.keyring.state_of(peer.id, peer.key) is None:
            applied = await store.apply(IDENTITIES, peer.statements)
            if applied.records:  # other peers are to hear of them
                self.bus.publish(RecordsApplied(context=IDENTITIES, source=peer.id, records=applied.records))
        self.table.met(
            peer.id,
            tag=hello.tag,
            models=hello.models,
            listens_at=session.listens_at if hello.port and not session.is_initiator else None,
        )
        store.set_back(peer.id, {summary.context: summary.seq for summary in hello.contexts})
        if self._is_rolled_back(hello):
            await self.records.renew_instance()

    async def _meet(self, peer: IdentityId, name: str) -> None:
        """Pin `name` to `peer` on first use. A peer that goes through names gets few."""
        if sum(owner == peer for owner in self.pins.values()) < _NAMES_PER_PEER_MAX:
            await self._pin(peer, name)

    async def _pin(self, peer: IdentityId, name: str) -> None:
        if self.pins.get(("name", name)) != peer:
            self.pins["name", name] = peer
            await self.records.store.pin("name", name, peer)

    def _is_rolled_back(self, hello: Hello) -> bool:
        """Return whether the peer claims to hold more of what this instance wrote than our own store does.

        The peer need not prove its claim, so it counts only for the instance with which this process began. No peer
        can honestly know more of an instance that began later. So a liar makes us renew once a start, and no more.
        """
        store = self.records.store
        instance = store.instance
        if instance != self.first_instance:
            return False
        ours = store.seen(self.records.identity.device.public).get(Instance(instance), 0)
        return hello.seen.get(instance, 0) > ours

    # -- a person's decision -----------------------------------------------------------------------------------------

    async def trust(self, text: str) -> tuple[IdentityId, str]:
        """Pin the name of a peer that is kept out to that peer. Return its id and the name.

        `text` is its name, its id, or the beginning of its id. Raises LocalError where no such peer is kept out.
        """
        for peer, (name, _) in self.kept_out.items():
            if name == text or (len(text) >= _PREFIX_CHARS_MIN and to_base32(peer).startswith(text)):
                await self._pin(peer, name)
                self.kept_out.pop(peer, None)
                return peer, name
        raise LocalError(f"nobody called {escape(text)} is kept out")
