"""PeerViews: the peers that were met or seen, as people read about them. It only reads.

    connected  reachable  absent  gone     peers that were met
    pending  rejected                      nodes that are not let in: nobody decided yet, or a person did
    sighted  refused  other network        targets that are no peer's yet, and peers with which no session came about
    copy                                   this node's own identity in another process
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from echonode.clock import Clock
from echonode.limits import SILENT_S
from echonode.model.address import distinct_label, is_easy
from echonode.model.identity import IdentityId
from echonode.node.addresses import Addresses
from echonode.node.admission import WHAT_TO_DO_ABOUT_A_COPY, PeerAdmission
from echonode.node.denials import Denials
from echonode.node.handshake import ROTATED_WITHOUT_IT
from echonode.node.live_links import LiveLinks
from echonode.node.peer_table import NEVER, PeerEntry, PeerTable, Target
from echonode.node.session_registry import SessionRegistry
from echonode.node.views import PeerState, PeerView, on_the_way
from echonode.text import escape, to_base32
from echonode.wire.messages import PROTOCOL_VERSION, version_text

_DAY_MS: Final = 24 * 3600 * 1000
_APPROVE: Final = "echonode peers approve"
_ID_CHARS: Final = 8


class PeerViews:
    """Reads the peer table, the peers that admission refused, links and sessions. `models`: those read here."""

    def __init__(
        self,
        table: PeerTable,
        admission: PeerAdmission,
        links: LiveLinks,
        registry: SessionRegistry,
        addresses: Addresses,
        denials: Denials,
        clock: Clock,
        models: Mapping[str, tuple[int, int]],
    ) -> None:
        self._table = table
        self._admission = admission
        self._links = links
        self._registry = registry
        self._addresses = addresses
        self._denials = denials
        self._clock = clock
        self.models = models
        self._left_out: set[IdentityId] = set()
        self._times: dict[IdentityId, tuple[float, int]] = {}  # by peer: seconds of the clock, and what they are in ms

    def inviters(self, slot: str) -> list[Sequence[str]]:
        """Return addresses to join at: those that a person named, then every node sighted with that invitation open."""
        targets = self._table.targets.values()
        named: list[Sequence[str]] = [target.addresses for target in targets if target.found_by == "static"]
        return named + [target.addresses for target in targets if target.slot == slot]

    def to_sync(self) -> tuple[list[IdentityId], list[str]]:
        """Return the peers that a sync with all asks, and the keys of configured targets that are no peer's yet."""
        now_ms = self._clock.now_ms()
        left_out = self._admission.rotations.left_out()
        kept_out = {*left_out, *self._table.trust.rejected}
        peers = [peer for peer in self._table.peers if not self._table.is_lost(peer, now_ms) and peer not in kept_out]
        unknown = [
            target.key
            for target in self._table.targets.values()
            if target.is_static and target.peer is None and not target.is_misleading
        ]
        return peers, unknown

    def views(self) -> list[PeerView]:
        """Return one view a peer, then one for each target that is no peer's yet."""
        by_peer: dict[IdentityId, list[Target]] = {}
        for target in self._table.targets.values():
            if target.peer is not None:
                by_peer.setdefault(target.peer, []).append(target)
        self._times = {peer: each for peer, each in self._times.items() if peer in self._table.peers}
        labels = self._addresses.node_labels()
        self._left_out = self._admission.rotations.left_out()
        foreign, copies = self._admission.foreign, self._admission.copies()
        views = [_copy(address, self._addresses.name) for address in copies]
        met = [entry for entry in self._table.peers.values() if entry.id not in foreign]
        views += [self._met(entry, by_peer.get(entry.id, []), distinct_label(entry.id, labels)) for entry in met]
        views += self._kept_out(labels)
        views += [_foreign(peer, *shown) for peer, shown in foreign.items()]
        views += [_impostor(peer, address) for peer, address in self._admission.impostors.items()]
        shown_at = {address for _, address, _ in foreign.values()}.union(copies)
        shown_at.update(entry.address for entry in met if entry.is_up)
        shown_at.update(pending.address for pending in self._table.trust.pending)
        for target in self._table.targets.values():
            is_shown = target.peer in self._table.peers or not shown_at.isdisjoint(target.addresses)
            if not is_shown and not target.is_misleading:
                views.append(_sighted(target))
        return views

    def _kept_out(self, labels: Mapping[IdentityId, str]) -> Iterator[PeerView]:
        """Yield the nodes that were never met, and are not let in."""
        trust = self._table.trust
        labels = {**dict(trust.names()), **labels}
        for pending in trust.pending:
            label = distinct_label(pending.id, labels)
            yield _outside(
                pending.id,
                pending.name,
                label,
                PeerState.PENDING,
                address=pending.address,
                seen_ms=pending.seen_ms,
                since_ms=pending.since_ms,
                reason=f"it waits to be let in; to do that, type: {_APPROVE} {_typed(pending.id, label)}",
            )
        for peer, name in trust.rejected.items():
            if peer not in self._table.peers:
                label = distinct_label(peer, labels)
                yield _outside(peer, name, label, PeerState.REJECTED, reason=_rejected(peer, label))

    def _met(self, entry: PeerEntry, targets: Sequence[Target], label: str) -> PeerView:
        ours = self.models
        unlike = sorted(name for name, (major, _) in entry.models.items() if major != ours.get(name, (major, 0))[0])
        silence_s, lag = self._registry.silence_s(entry.id), self._links.behind(entry.id)
        is_silent = entry.is_up and (entry.is_doubted or SILENT_S < silence_s < NEVER)  # NEVER: it is ending
        is_in_step = not is_silent and self._links.is_in_step(entry.id)
        state, in_sync, reason = self._stand(entry, silence_s if is_silent else None, label)
        if is_in_step and not in_sync:
            in_sync, reason = None, f"in step, {on_the_way(lag)}" if lag else "in step, and not compared yet"
        if entry.full_in and state in (PeerState.CONNECTED, PeerState.REACHABLE):
            full = f"its quota for records of this node is used up in {escape(', '.join(entry.full_in))}"
            in_sync, is_in_step = False, False  # what it refused is not there
            reason = f"{reason}; {full}" if reason else full
        is_denied = entry.id in self._denials
        if is_denied:
            hidden = f"its records are hidden here (echonode allow {_typed(entry.id, label)} shows them)"
            reason = f"{hidden}; {reason}" if reason else hidden
        static = [target for target in targets if target.is_static]
        return PeerView(
            id=entry.id,
            name=entry.name,
            label=label,
            state=state,
            address=entry.address,
            found_by=(static or targets)[0].found_by if targets else "peer",
            in_sync=in_sync,
            last_sync_ms=entry.last_sync_ms,
            last_seen_ms=self._clock.now_ms() if entry.is_up and not is_silent else entry.seen_ms,
            reason=reason,
            following=entry.is_following and not is_silent,
            lag=lag,
            models=entry.models,
            unreadable=tuple(unlike),
            in_step=is_in_step,
            since_ms=self._since_ms(entry, silence_s if is_silent else None),
            is_denied=is_denied,
        )

    def _stand(self, entry: PeerEntry, silence_s: float | None, label: str) -> tuple[PeerState, bool | None, str]:
        """Return the state of `entry`, whether it is equal, and why not. `silence_s`: how long its session is mute."""
        now_ms = self._clock.now_ms()
        if entry.id in self._left_out and not entry.is_up:
            return PeerState.LEFT_OUT, None, ROTATED_WITHOUT_IT
        if self._admission.rotations.is_left_out_by(entry.id) and not entry.is_up:
            return PeerState.REFUSED, None, "it says that the network was rotated without this node"
        if self._table.trust.is_rejected(entry.id):
            return PeerState.REJECTED, None, _rejected(entry.id, label)
        if (pause := self._table.pauses.of(entry.id)) is not None:
            until = "" if pause.until_ms is None else f" until {_moment(pause.until_ms)}"
            which = "" if pause.peer is None else f" --peer {to_base32(entry.id)[:8]}"
            return PeerState.PAUSED, None, f"paused here{until}; to end that, type: echonode resume{which}"
        if silence_s is not None:
            why = entry.reason if entry.is_doubted else f"nothing was heard of it for {silence_s:.0f} s"
            return PeerState.ABSENT, None, why
        if self._table.is_lost(entry.id, now_ms):
            days = (now_ms - entry.seen_ms) // _DAY_MS
            why = f"not seen for {days} days; to remove it, type: echonode peers forget {to_base32(entry.id)[:8]}"
            return PeerState.GONE, entry.in_sync, why
        return _state_of(entry), entry.in_sync, entry.reason

    def _since_ms(self, entry: PeerEntry, silence_s: float | None) -> int | None:
        """Return since when `entry` is linked, or when it was last heard of; None when that is not known."""
        now_s = self._clock.monotonic_s()
        at_s = entry.linked_s if entry.is_following else entry.seen_s
        if silence_s is not None and silence_s < NEVER:
            at_s = round(now_s - silence_s, 1)
        if entry.sessions and not entry.is_following and silence_s is None:
            return None
        if not at_s:
            return entry.seen_ms or None  # it was met before this node started
        if self._times.get(entry.id, (0.0, 0))[0] != at_s:  # so that two looks tell the same time
            self._times[entry.id] = at_s, self._clock.now_ms() - round((now_s - at_s) * 1000)
        return self._times[entry.id][1]


def _typed(peer: IdentityId, label: str) -> str:
    """Return how a person types that node on a command line."""
    return escape(label) if is_easy(label) else to_base32(peer)[:_ID_CHARS]


def _rejected(peer: IdentityId, label: str) -> str:
    return f"rejected here; to let it in, type: {_APPROVE} {_typed(peer, label)}"


def _moment(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def _state_of(entry: PeerEntry) -> PeerState:
    if entry.is_up:
        return PeerState.CONNECTED
    if entry.is_reachable:
        return PeerState.REACHABLE
    return PeerState.REFUSED if entry.is_refused else PeerState.ABSENT


def _copy(address: str, name: str) -> PeerView:
    return PeerView(
        id=None,
        name=name,
        state=PeerState.COPY,
        address=address,
        found_by="",
        in_sync=None,
        last_sync_ms=None,
        reason=WHAT_TO_DO_ABOUT_A_COPY,
    )


def _outside(
    peer: IdentityId,
    name: str,
    label: str,
    state: PeerState,
    *,
    reason: str,
    address: str = "",
    seen_ms: int | None = None,
    since_ms: int | None = None,
) -> PeerView:
    return PeerView(
        id=peer,
        name=name,
        label=label,
        state=state,
        address=address,
        found_by="",
        in_sync=None,
        last_sync_ms=None,
        last_seen_ms=seen_ms,
        since_ms=since_ms,
        reason=reason,
    )


def _foreign(peer: IdentityId, name: str, address: str, spoken: str) -> PeerView:
    return PeerView(
        id=peer,
        name=name,
        state=PeerState.REFUSED,
        address=address,
        found_by="",
        in_sync=None,
        last_sync_ms=None,
        reason=f"it speaks protocol {escape(spoken) or 'of another version'}, "
        f"and this node {version_text(PROTOCOL_VERSION)}",
    )


def _impostor(peer: IdentityId, address: str) -> PeerView:
    return PeerView(
        id=peer,
        name="",
        state=PeerState.REFUSED,
        address=address,
        found_by="peer",
        in_sync=None,
        last_sync_ms=None,
        reason="a node there claims this id with a key that its root never stated; nothing from it is kept",
    )


def _sighted(target: Target) -> PeerView:
    reason, state = target.reason, PeerState.REFUSED if target.is_refused else PeerState.SIGHTED
    if target.is_static and target.attempt and not target.is_refused:
        state = PeerState.ABSENT  # it was named, so it should be there
    if target.reason == ROTATED_WITHOUT_IT:
        state = PeerState.LEFT_OUT
    if not target.is_ours:
        state = PeerState.OTHER_NETWORK
        reason = "of another network; to join it, type `echonode invite` there and `echonode join CODE` here"
    return PeerView(
        id=target.peer,
        name="",
        state=state,
        address=target.addresses[0] if target.addresses else "",
        found_by=target.found_by,
        in_sync=None,
        last_sync_ms=None,
        reason=reason,
    )
