"""Admission: which peers are let in, by key, trust and protocol version (SECURITY.md H7), and what their hellos tell.

    revoked key              refused
    never met, or rejected   refused, as the policy and a person say (node/trust.py); listed until somebody decides
    this node's own id       refused: this very node, or a copy of it, which is listed and reported
    claim without a proof    refused, and reported when it concerns an identity that is known here
    another protocol major   refused on both sides, and listed

An identity is pinned to its root key by its very id. Its name is a label, and never a reason to refuse it. What a hello
tells of a peer is kept in the store, so that peers are known over a restart.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from echonode.clock import Clock
from echonode.errors import PeerRefused, Reason
from echonode.limits import CANDIDATES_MAX, CONNECTIONS_MAX, COPIES_MAX, COPY_SHOWN_S, STATIC_REPORT_S
from echonode.model.identity import IdentityId
from echonode.model.keys import KeyState
from echonode.model.record import IDENTITIES
from echonode.node.event_bus import EventBus
from echonode.node.events import CopySeen, PeerPending, PinViolated, RecordsApplied, RecordVoided
from echonode.node.failures import has_own_event
from echonode.node.handshake import KeptOut, PausedHere, Session
from echonode.node.other_lives import OtherLives
from echonode.node.peer_table import PeerTable
from echonode.node.record_book import RecordBook
from echonode.node.remembered import remember
from echonode.node.rotations import Rotations
from echonode.node.session_registry import SessionRegistry
from echonode.node.trust import Pending, Standing
from echonode.sync.streams import ByteStream
from echonode.sync.transport import StreamTransport
from echonode.text import nfc
from echonode.wire.auth import Peer
from echonode.wire.messages import Auth, Close, Hello, Rotated, version_text

WHAT_TO_DO_ABOUT_A_COPY: Final = (
    "a copy of this node runs there: it has the same keys, and the two cannot sync with each other. Stop one of them; "
    "a machine that is to be a node of its own starts with an empty home and joins by an invitation"
)


@dataclass(slots=True)
class PeerAdmission:
    """Judges peers. What it lists of those that it refused is bounded.

    `foreign`: name, address and protocol version of peers that speak another major; `impostors`: identities that were
    claimed without a proof, and the address where; `revoked_at`: where this node was kept out because of its key.
    """

    records: RecordBook
    table: PeerTable
    registry: SessionRegistry
    bus: EventBus
    clock: Clock
    rotations: Rotations
    lives: OtherLives
    foreign: dict[IdentityId, tuple[str, str, str]] = field(default_factory=dict)
    impostors: dict[IdentityId, str] = field(default_factory=dict)
    revoked_at: set[str] = field(default_factory=set)
    # Handshakes that this process opened, by their hash: True once they turned out to end in this process too.
    _dialled: "OrderedDict[bytes, bool]" = field(default_factory=OrderedDict)
    _kept_out_s: "OrderedDict[str, float]" = field(default_factory=OrderedDict)  # host -> when a line said so
    _copies: dict[str, float] = field(default_factory=dict)  # address -> when a copy of this node was last met there

    async def load(self) -> None:
        """Read the peers that were met from the store."""
        known = [peer for peer in await self.records.store.peers() if peer.id != self.records.id]
        self.table.loaded(self.clock.monotonic_s(), known)

    # -- during the handshake ----------------------------------------------------------------------------------------

    def dialled(self, transport: StreamTransport) -> None:
        """Note a handshake that this node opened, so that it knows itself when it is at the other end too."""
        self._dialled[transport.channel.handshake_hash] = False
        while len(self._dialled) > CONNECTIONS_MAX:
            self._dialled.popitem(last=False)

    def admit(self, peer: Peer, hello: Hello | None, transport: StreamTransport) -> None:
        """Let `peer` in. Called when its AUTH is known, and again with its hello. Raises PeerRefused to keep it out."""
        if hello is not None:
            self.foreign.pop(peer.id, None)
            if self._judge(peer, hello, transport) and not self.registry.has(transport.stream):
                self._enter(peer, transport)  # it was approved after its AUTH
            return
        if peer.id == self.records.id:
            self._meet_self(transport)
            raise PeerRefused(Reason.SELF, "that is this very node, or a copy of it")
        if self.table.pauses.of(peer.id) is not None:
            raise PausedHere
        state = self.records.store.keyring.state_of(peer.id, peer.key)
        if state is not None and state is not KeyState.ACTIVE:
            raise PeerRefused(Reason.KEY_REVOKED, f"its key is {state.name.lower()}")
        if self._judge(peer, None, transport):
            self._enter(peer, transport)

    def _enter(self, peer: Peer, transport: StreamTransport) -> None:
        if self.table.is_full(peer.id):
            raise PeerRefused(Reason.BUSY, "too many peers are known already")
        self.registry.enter(peer.id, transport)
        self.table.hello_begun(peer.id)

    def _judge(self, peer: Peer, hello: Hello | None, transport: StreamTransport) -> bool:
        """Return True for a peer that is let in. Raises KeptOut for one that is not, at its hello if possible.

        The hello tells the name, by which a person knows the node. A peer that we dialled sends it unasked, before it
        learns anything of us.
        """
        trust = self.table.trust
        match trust.standing(peer.id, is_met=peer.id in self.table.peers):
            case Standing.LET_IN:
                return True
            case Standing.REJECTED:
                raise KeptOut("a person has rejected it")
            case Standing.PENDING:
                now_ms, address = self.clock.now_ms(), transport.stream.address
                is_dialled, name = transport.channel.is_initiator, "" if hello is None else nfc(hello.name)
                if is_dialled and hello is None:
                    return False
                if not is_dialled:
                    address = address.rpartition(":")[0]  # the port is that of one connection
                if trust.note_pending(Pending(peer.id, name, address, is_dialled, now_ms, now_ms)):
                    self.bus.publish(PeerPending(peer=peer.id, peer_name=name, address=address))
                raise KeptOut("it waits until a person approves it")

    def _meet_self(self, transport: StreamTransport) -> None:
        """Find out whether this process opened the handshake itself. If not, a copy of this node did."""
        handshake = transport.channel.handshake_hash
        if handshake in self._dialled:
            self._dialled[handshake] = True
        elif not transport.channel.is_initiator:
            self.note_copy(transport.stream.address.rpartition(":")[0])

    def is_own(self, transport: StreamTransport) -> bool:
        """Return True when this process is at both ends of a handshake that it opened."""
        return self._dialled.get(transport.channel.handshake_hash, False)

    def note_copy(self, address: str) -> None:
        """List and report a copy of this node at `address`: HOST:PORT, or the host alone where it dialled us."""
        now_s = self.clock.monotonic_s()
        is_new = address not in self.copies()
        self._copies[address] = now_s
        while len(self._copies) > COPIES_MAX:
            del self._copies[min(self._copies, key=lambda each: self._copies[each])]
        if is_new:
            self.bus.publish(CopySeen(address=address, what_to_do=WHAT_TO_DO_ABOUT_A_COPY))

    def note_revoked(self, address: str) -> None:
        """Note that the node at `address` keeps this one out because of its key."""
        if len(self.revoked_at) < COPIES_MAX:
            self.revoked_at.add(address)

    def is_told(self, error: BaseException, stream: ByteStream) -> bool:
        """Return True for an end that needs no line: another event tells of it, or a line did in the last hour.

        A node that waits to be let in elsewhere is refused again and again, by dials of both sides."""
        if has_own_event(error) or not (isinstance(error, PeerRefused) and error.reason is Reason.UNAPPROVED):
            return has_own_event(error)
        host, now_s = stream.address.rpartition(":")[0], self.clock.monotonic_s()
        is_recent = now_s < self._kept_out_s.get(host, -STATIC_REPORT_S) + STATIC_REPORT_S
        if not is_recent:
            remember(self._kept_out_s, host, now_s)
        return is_recent

    def copies(self) -> list[str]:
        """Return where copies of this node were met lately. A host alone is left out when its port is known too."""
        now_s = self.clock.monotonic_s()
        found = [address for address, seen_s in self._copies.items() if now_s < seen_s + COPY_SHOWN_S]
        hosts = {address.rpartition(":")[0] for address in found}
        return [address for address in found if address not in hosts]

    def suspect(self, claimed: Auth, stream: ByteStream) -> None:
        """Report an AUTH that claims an identity and proves nothing, when that identity is known here."""
        identity = IdentityId(claimed.offers[0].identity)
        if self.records.store.keyring.has_author(identity) and len(self.impostors) < CANDIDATES_MAX:
            self.impostors[identity] = stream.address
            self.bus.publish(
                PinViolated(kind="identity", value=stream.address, pinned=identity, offered=claimed.offers[0].key)
            )

    async def hear_rotations(self, peer: Peer, transport: StreamTransport, first: Rotated) -> None:
        """Hear of rotations of the network, of which `first` came. Raises RemoteError."""
        await self.rotations.hear(peer, transport, first)

    def note_left_out(self, peer: Peer) -> None:
        """Hear from `peer` that the network was rotated without this node."""
        self.rotations.note_left_out(peer.id)

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
        if store.keyring.state_of(peer.id, peer.key) is None:
            applied = await store.apply(IDENTITIES, peer.statements)
            if applied.records:  # other peers are to hear of them
                self.bus.publish(RecordsApplied(context=IDENTITIES, source=peer.id, records=applied.records))
            for voided in applied.voided:
                self.bus.publish(RecordVoided.of(voided, peer=peer.id))
        self.table.met(
            peer.id,
            tag=hello.tag,
            models=hello.models,
            listens_at=session.listens_at if hello.port and not session.is_initiator else None,
        )
        self.table.peers[peer.id].full_in = tuple(each.context for each in hello.contexts if each.is_full)
        store.set_back(peer.id, {summary.context: summary.seq for summary in hello.contexts})
        known = self.table.to_save(peer.id)
        if known is not None:
            await store.save_peer(known)
            self.table.saved(known)
        if await self.lives.hear(hello, peer.id) and not session.is_initiator:
            self.lives.receive_first(peer.id)
            await session.transport.send(Close(Reason.BUSY))
            raise PeerRefused(Reason.BUSY, "it is asked first what it holds of another life of this store")
