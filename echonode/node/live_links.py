"""LiveLinks: the sessions of a node that go on as links (sync/live), over which each side tells what it stores.

A session becomes a link when one side asks (FollowInit) and the other agrees (Follow). The peer table is told when a
link comes, goes, or finds all equal. Link selection decides with which peers to have one.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from echonode.clock import Clock, Entropy
from echonode.errors import EchonodeError, PeerRefused, Reason
from echonode.limits import CONTEXTS_TOLD_MAX, RECENT_VERSIONS_MAX, SESSION_AGE_S_MAX
from echonode.model.identity import IdentityId, Instance, PublicKey
from echonode.model.keys import KeyState
from echonode.model.record import IDENTITIES, Record
from echonode.node.event_bus import EventBus
from echonode.node.events import (
    ContextShown,
    FollowBegan,
    FollowEnded,
    LinkEqual,
    OtherLifeMet,
    PeerAbsent,
    RecordOutranked,
    RecordsApplied,
    RecordVoided,
)
from echonode.node.handshake import Session
from echonode.node.hello import FOLLOW, NAMES_IN_PART
from echonode.node.intake import Intake
from echonode.node.link_selection import LinkSelection
from echonode.node.log_cursor import LogCursor
from echonode.node.peer_table import PeerTable
from echonode.node.refusal_book import RefusalBook
from echonode.node.subscriptions import Subscriptions
from echonode.node.work_budgets import WorkBudgets
from echonode.store.port import Outranked, RefusedVersion, Store, VoidedVersion
from echonode.sync.live.link import Link, PeerSilentError
from echonode.sync.live.plumtree import Plumtree
from echonode.sync.live.send_queue import LinkEnvironment
from echonode.sync.transport import unexpected
from echonode.wire.messages import PROTOCOL_VERSION, ContextCursor, Follow, FollowInit, Hello, Refused, version_text

# Ends of a link that are no fault of the peer.
_IN_ORDER: Final = (Reason.FINISHED, Reason.SHUTTING_DOWN, Reason.DUPLICATE_SESSION)


@dataclass(slots=True)
class LiveLinks:
    """All links of a node, at most one with each peer. `wake` is set when the scheduler may decide anew."""

    store: Store
    clock: Clock
    entropy: Entropy
    bus: EventBus
    table: PeerTable
    selection: LinkSelection
    subscriptions: Subscriptions
    intake: Intake
    budgets: WorkBudgets
    wake: asyncio.Event
    plumtree: Plumtree = field(init=False)
    refusals: RefusalBook = field(init=False)
    _links: dict[IdentityId, Link] = field(default_factory=dict)
    _keys: dict[IdentityId, PublicKey] = field(default_factory=dict)  # with which the peers of links proved themselves

    def __post_init__(self) -> None:
        self.plumtree = Plumtree(self.store)
        self.refusals = RefusalBook(self.clock)

    def behind(self, peer: IdentityId) -> int | None:
        """Return how many entries of our log `peer`, which follows us, has not taken yet; None without a link."""
        link = self._links.get(peer)
        return None if link is None else link.behind()

    def is_in_step(self, peer: IdentityId) -> bool:
        """Return whether a link is up with `peer`, and nothing differs but what is in flight over it."""
        link = self._links.get(peer)
        return link is not None and link.is_in_step

    def doubt(self, peer: IdentityId, why: str) -> None:
        """Do not show `peer` as connected by its link until it answers over that; end the link when it does not."""
        link = self._links.get(peer)
        if link is not None:
            self.table.doubted(peer, why)
            link.probe()

    def pending(self) -> dict[IdentityId, list[str]]:
        """Return what each link has still to do, in words."""
        return {peer: link.pending() for peer, link in self._links.items()}

    def may_link(self, hello: Hello) -> bool:
        """Return whether both sides speak the mode of links: a node that wants a part of a context does not."""
        return FOLLOW in hello.modes and self.subscriptions.wants_all

    def pass_on(self, event: RecordsApplied) -> None:
        """Wake the links to pass on what was applied. End those whose peer's key it revoked."""
        if any(record.context == IDENTITIES for record in event.records):
            self._end_revoked()
        ids = [record.id for record in event.records[-RECENT_VERSIONS_MAX:]]
        self.plumtree.stored(ids, IdentityId(event.source) if event.source else None)

    def pass_on_shown(self, event: ContextShown) -> None:
        """Wake the links to pass on a context that came by snapshot."""
        self.plumtree.stored(event.latest, IdentityId(event.source))

    # -- how a session becomes one -----------------------------------------------------------------------------------

    async def open(self, session: Session) -> Link | None:
        """Ask the peer of `session` to go on as a link, if it is one to follow. None when it is not, or declines."""
        peer, now_s = session.peer.id, self.clock.monotonic_s()
        if not self.selection.wants_link(peer, now_s):
            return None
        self.table.link_tried(now_s, peer)
        ours = self._places(session)
        await session.transport.send(FollowInit(PROTOCOL_VERSION, session.hello.instance, ours))
        match await session.transport.recv():
            case Follow(theirs):
                return self._link(session, ours, theirs)
            case Refused(Reason.STALE_CURSOR):
                return None  # its store took another instance since its hello; the next hello names that
            case Refused():
                self.table.link_declined(peer)
                return None
            case other:
                raise unexpected(other)

    async def answer(self, session: Session, init: FollowInit) -> Link | None:
        """Go on as a link, as the peer asks. None when that was refused."""
        refusal = self._refusal(init)
        if refusal is not None:
            await session.transport.send(refusal)
            return None
        ours = self._places(session)
        link = self._link(session, ours, init.places)
        await session.transport.send(Follow(ours))
        return link

    def _refusal(self, init: FollowInit) -> Refused | None:
        if init.version[0] != PROTOCOL_VERSION[0]:
            return Refused(Reason.UNSUPPORTED_PROTOCOL, (version_text(PROTOCOL_VERSION),))
        if not self.subscriptions.wants_all:
            return Refused(Reason.UNSUPPORTED_MODE, NAMES_IN_PART)
        if not self.selection.has_room_for_link():
            return Refused(Reason.BUSY)
        cursors = [(place.context, place.since) for place in init.places if place.since is not None]
        is_ahead = any(since > self.store.seq(context) for context, since in cursors)
        if init.instance != self.store.instance or is_ahead:
            return Refused(Reason.STALE_CURSOR)
        return None

    def _places(self, session: Session) -> tuple[ContextCursor, ...]:
        """Return the contexts that this node wants to follow, each with the place in the peer's log."""
        cursor = LogCursor.of(self.store, session)
        theirs = [summary.context for summary in session.hello.contexts]
        names = dict.fromkeys((IDENTITIES, *self.store.contexts(), *theirs))
        wanted = [name for name in names if self.subscriptions.takes(name)]
        return tuple(ContextCursor(name, cursor.seq(name)) for name in wanted[:CONTEXTS_TOLD_MAX])

    def _link(self, session: Session, ours: Sequence[ContextCursor], theirs: Sequence[ContextCursor]) -> Link:
        peer = session.peer.id
        environment = LinkEnvironment(
            transport=session.transport,
            plumtree=self.plumtree,
            peer=peer,
            instance=Instance(session.hello.instance),
            owner=_LinkOwner(self, peer),
            entropy=self.entropy,
            roots={summary.context: summary.root for summary in session.hello.contexts},
        )
        return Link(environment, ours, theirs)

    # -- its life ----------------------------------------------------------------------------------------------------

    async def keep(self, session: Session, link: Link) -> None:
        """Run `link` to its end. Raises what was wrong with the peer, or with this node."""
        peer, began_s = session.peer.id, self.clock.monotonic_s()
        self._links[peer], self._keys[peer] = link, session.peer.key
        self.table.linked(began_s, peer, is_leading=session.is_initiator)
        role = "initiator" if session.is_initiator else "responder"
        self.bus.publish(FollowBegan(session=session.id, peer=peer, role=role))
        self._end_superfluous()
        why, is_silent = "broken off here", False
        try:
            await link.run(SESSION_AGE_S_MAX * self.entropy.uniform(0.8, 1.0))
            why = Reason.FINISHED.text
        except PeerRefused as refused:
            why = refused.reason.text
            if refused.reason not in _IN_ORDER:
                raise
        except EchonodeError as error:
            why, is_silent = str(error), isinstance(error, PeerSilentError)
            raise
        finally:
            if self._links.get(peer) is link:
                del self._links[peer], self._keys[peer]
                now_s, now_ms = self.clock.monotonic_s(), self.clock.now_ms()
                absent = self.table.unlinked(now_s, peer, now_ms=now_ms, silent=why if is_silent else None)
                if absent is not None:
                    self.bus.publish(PeerAbsent(peer=absent.id, peer_name=absent.name, why=absent.reason))
                self.wake.set()
            self.bus.publish(self._ended(session, link, why, began_s))

    def end_all(self) -> None:
        """End every link; from now on nothing that comes by one is taken."""
        self.end(None)

    def end(self, peer: IdentityId | None) -> None:
        """End the link with `peer`, or with None every link; from now on nothing that comes by it is taken."""
        for each, link in self._links.items():
            if peer is None or each == peer:
                link.stop()

    def _end_revoked(self) -> None:
        """End the links with peers whose key is not active any more, as admission would refuse them now."""
        for peer, key in self._keys.items():
            if self.store.keyring.state_of(peer, key) in (KeyState.RETIRED, KeyState.COMPROMISED):
                self._links[peer].stop()

    def _end_superfluous(self) -> None:
        """End the links that we opened and need no more."""
        for peer in self.selection.superfluous():
            if peer in self._links:
                self._links[peer].stop()

    def _ended(self, session: Session, link: Link, why: str, began_s: float) -> FollowEnded:
        figures, transport = link.tally, session.transport
        return FollowEnded(
            session=session.id,
            peer=session.peer.id,
            why=why,
            sent=figures.sent,
            received=figures.received,
            had=figures.had,
            announced=figures.announced,
            fetched=figures.fetched,
            refused=figures.refused,
            bytes_sent=transport.bytes_sent,
            bytes_received=transport.bytes_received,
            duration_s=round(self.clock.monotonic_s() - began_s, 6),
        )


@dataclass(frozen=True, slots=True)
class _LinkOwner:
    """The node, as its link with `peer` needs it."""

    links: LiveLinks
    peer: IdentityId

    @property
    def wants_all(self) -> bool:
        """True while this node wants all contexts whole."""
        return self.links.subscriptions.wants_all

    def takes(self, context: str) -> bool:
        """Return whether `context` is kept here."""
        return self.links.subscriptions.takes(context)

    def judge(self, context: str, records: Sequence[Record]) -> Sequence[RefusedVersion]:
        """Return those of `records` that are too much for this node."""
        return self.links.intake.judge(context, self.peer, records)

    async def pace(self, records: int) -> None:
        """Count records that the peer brings; return when so many may come."""
        await self.links.budgets.receive(self.peer, records)

    async def charge(self, cost_s: float) -> None:
        """Charge work that the peer asked for."""
        await self.links.budgets.charge(self.peer, cost_s)

    def applied(self, context: str, records: Sequence[Record]) -> None:
        """Publish that records of the peer became heads here."""
        self.links.bus.publish(RecordsApplied(context=context, source=self.peer, records=tuple(records)))

    def strangers(self, strangers: Sequence[Record]) -> None:
        """Publish that another life of this store signed versions of the peer's."""
        self.links.bus.publish(OtherLifeMet(strangers=strangers))

    def outranked(self, context: str, outranked: Sequence[Outranked]) -> None:
        """Publish which versions do not fit beside the other heads of their records."""
        for of_record in outranked:
            self.links.bus.publish(RecordOutranked.of(of_record, peer=self.peer, context=context))

    def voided(self, voided: Sequence[VoidedVersion]) -> None:
        """Publish which versions are no heads any more by a statement of the peer's."""
        for version in voided:
            self.links.bus.publish(RecordVoided.of(version, peer=self.peer))

    def refused(self, context: str, records: Sequence[Record], refused: Sequence[RefusedVersion]) -> None:
        """Note which records of the peer were refused here."""
        self.links.refusals.note(self.peer, context, records, refused)

    def compared(self, is_equal: bool) -> None:
        """Note in the peer table, and publish, that all is equal."""
        if is_equal and not self.links.table.peers[self.peer].is_doubted:
            self.links.table.link_equal(self.links.clock.now_ms(), self.peer)
            self.links.bus.publish(LinkEqual(peer=self.peer))

    def suspect(self) -> None:
        """Have trees compared soon."""
        self.links.table.suspected(self.links.clock.monotonic_s(), self.peer)
        self.links.wake.set()

    def answered(self) -> None:
        """Note in the peer table that the peer answered over its link."""
        self.links.table.believed(self.peer)

    @property
    def has_many_peers(self) -> bool:
        """True when too many peers are known to be linked with all of them."""
        return self.links.selection.has_many()
