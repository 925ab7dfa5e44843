"""What a node says of itself to a peer, and whom it lets in: hello, pins, revoked keys (SECURITY.md H7)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from echonode.errors import PeerRefused, Reason
from echonode.limits import CANDIDATES_MAX, CONTEXTS_MAX
from echonode.model.identity import IdentityId, Instance, PublicKey
from echonode.model.keys import KeyState
from echonode.model.record import IDENTITIES
from echonode.node.events import Observer, PinViolated
from echonode.node.live_links import NAMES, NAMES_IN_PART
from echonode.node.record_book import RecordBook
from echonode.node.session_registry import SessionRegistry
from echonode.node.summaries import summarise
from echonode.sync.streams import ByteStream
from echonode.sync.transport import StreamTransport
from echonode.text import escape
from echonode.wire.auth import Peer
from echonode.wire.messages import PROTOCOL_VERSION, Auth, Hello, version_text

_NAMES_PER_PEER_MAX: Final = 8
_SEEN_INSTANCES_MAX: Final = 16


@dataclass(slots=True)
class Greeter:
    """Makes our hello and judges theirs. `contexts` None: whatever peers offer is taken."""

    book: RecordBook
    live: SessionRegistry
    observe: Observer
    name: str
    tag: bytes
    contexts: frozenset[str] | None
    models: Mapping[str, tuple[int, int]]
    first_instance: Instance
    is_full: Callable[[IdentityId], bool]
    meeting: Callable[[IdentityId], None]
    is_partial: Callable[[str], bool]
    wants_all: Callable[[], bool]
    port: int = 0  # until it is known where streams come in
    pins: dict[tuple[str, str], IdentityId] = field(default_factory=dict)
    # Who was kept out, under which name and at which address: for `peers`, until a person decides.
    kept_out: dict[IdentityId, tuple[str, str]] = field(default_factory=dict)
    # Who speaks another protocol major: its name and address, and which.
    foreign: dict[IdentityId, tuple[str, str, str]] = field(default_factory=dict)
    # Identities that somebody claimed and could not prove, and from where.
    impostors: dict[IdentityId, str] = field(default_factory=dict)

    def takes(self, context: str) -> bool:
        """Whether `context` is kept here."""
        if context == IDENTITIES:
            return True
        if self.contexts is not None:
            return context in self.contexts
        known = self.book.store.contexts()
        return context in known or len(known) < CONTEXTS_MAX

    def hello(self, peer: PublicKey, session: bytes) -> Hello:
        """Our hello to the peer with that device key."""
        store = self.book.store
        seen = sorted(store.seen(peer).items(), key=lambda item: -item[1])[:_SEEN_INSTANCES_MAX]
        names = list(dict.fromkeys((IDENTITIES, *[name for name in store.contexts() if self.takes(name)])))
        return Hello(
            version=PROTOCOL_VERSION,
            session=session,
            name=self.name,
            tag=self.tag,
            instance=store.instance,
            port=self.port,
            models=dict(self.models),
            modes=NAMES if self.wants_all() else NAMES_IN_PART,
            contexts=tuple(
                summarise(store, name, is_partial=self.is_partial(name)) for name in names[:CONTEXTS_MAX]
            ),
            seen={bytes(instance): counter for instance, counter in seen},
        )

    def admit(self, peer: Peer, hello: Hello | None, transport: StreamTransport) -> None:
        """Raises PeerRefused for a peer that is kept out. Called when its AUTH is known, and again with its hello."""
        if hello is not None:
            self.foreign.pop(peer.id, None)
            self._check_name(peer.id, hello.name, transport.stream.address)
            return
        if peer.id == self.book.shared:
            raise PeerRefused(Reason.NOT_ACCEPTED, "a pool is not a node")
        if self.is_full(peer.id):
            raise PeerRefused(Reason.BUSY, "too many peers are known already")
        if peer.id == self.book.id:
            raise PeerRefused(Reason.SELF, "that is this very node")
        state = self.book.store.keyring.state_of(peer.id, peer.key)
        if state is not None and state is not KeyState.ACTIVE:
            raise PeerRefused(Reason.KEY_REVOKED, f"its key is {state.name.lower()}")
        self.live.enter(peer.id, transport)
        self.meeting(peer.id)

    def suspect(self, claimed: Auth, stream: ByteStream) -> None:
        """Somebody claimed an identity and could not prove it. If that is one we know, a person should hear of it."""
        identity = IdentityId(claimed.offers[0].identity)
        if identity in self.book.store.authors() and len(self.impostors) < CANDIDATES_MAX:
            self.impostors[identity] = stream.address
            self.observe(
                PinViolated(kind="identity", value=stream.address, pinned=identity, offered=claimed.offers[0].key)
            )

    def keep_foreign(self, peer: Peer, hello: Hello | None, transport: StreamTransport, refused: PeerRefused) -> None:
        """There is no protocol major that both speak: a person should see that on both sides."""
        if peer.id not in self.foreign and len(self.foreign) >= CANDIDATES_MAX:
            return
        if hello is not None:
            self.foreign[peer.id] = (hello.name, transport.stream.address, version_text(hello.version))
        else:  # it was first to see it, and its Close is all we have; perhaps we heard more at another time
            name, address, _ = self.foreign.get(peer.id, ("", transport.stream.address, ""))
            self.foreign[peer.id] = (name, address, ", ".join(refused.supported))

    def _check_name(self, peer: IdentityId, name: str, address: str) -> None:
        pinned = self.pins.get(("name", name))
        if pinned is None or pinned == peer:
            self.kept_out.pop(peer, None)
            return
        if len(self.kept_out) < CANDIDATES_MAX:
            self.kept_out[peer] = (name, address)
        self.observe(PinViolated(kind="name", value=name, pinned=pinned, offered=peer))
        raise PeerRefused(Reason.IDENTITY_CHANGED, f"the name {escape(name)} belongs to another identity here")

    async def meet(self, peer: IdentityId, name: str) -> None:
        """Tie `name` to `peer` on first use. A peer that goes through names gets few."""
        if sum(owner == peer for owner in self.pins.values()) < _NAMES_PER_PEER_MAX:
            await self.pin(peer, name)

    async def pin(self, peer: IdentityId, name: str) -> None:
        """Tie `name` to `peer`."""
        if self.pins.get(("name", name)) != peer:
            self.pins["name", name] = peer
            await self.book.store.pin("name", name, peer)

    def is_rolled_back(self, hello: Hello) -> bool:
        """Whether the peer claims more of what this instance wrote than this store holds.

        It need not prove it, so it is heard only about the instance we started with: nobody can honestly know more of
        one that began under our eyes, and a liar gains one new instance a start and no more.
        """
        instance = self.book.store.instance
        if instance != self.first_instance:
            return False
        ours = self.book.store.seen(self.book.identity.device.public).get(Instance(instance), 0)
        return hello.seen.get(instance, 0) > ours
