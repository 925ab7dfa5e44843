"""PeerViews: the peers that were met or seen, as people read about them, and look-ups by id or name. It only reads."""

from collections.abc import Mapping, Sequence

from echonode.clock import Clock
from echonode.errors import LocalError
from echonode.limits import SILENT_S
from echonode.model.identity import IdentityId
from echonode.node.admission import Admission
from echonode.node.live_links import LiveLinks
from echonode.node.peer_table import NEVER, PeerEntry, PeerTable, Target
from echonode.node.session_registry import SessionRegistry
from echonode.node.views import PeerState, PeerView
from echonode.text import escape, to_base32
from echonode.wire.messages import PROTOCOL_VERSION, version_text


class PeerViews:
    """Reads the peer table, the peers that admission refused, links and sessions. `models`: those read here."""

    def __init__(
        self,
        table: PeerTable,
        admission: Admission,
        links: LiveLinks,
        registry: SessionRegistry,
        clock: Clock,
        models: Mapping[str, tuple[int, int]],
    ) -> None:
        self._table = table
        self._admission = admission
        self._links = links
        self._registry = registry
        self._clock = clock
        self._models = models
        self._times: dict[IdentityId, tuple[float, int]] = {}  # by peer: seconds of the clock, and what they are in ms

    def inviters(self, slot: str) -> list[Sequence[str]]:
        """Return addresses to join at: those that a person named, then every node sighted with that invitation open."""
        targets = self._table.targets.values()
        named: list[Sequence[str]] = [target.addresses for target in targets if target.found_by == "static"]
        return named + [target.addresses for target in targets if target.slot == slot]

    def resolve(self, text: str) -> IdentityId:
        """Return a peer by id, id prefix or name. Raises LocalError."""
        found = {
            entry.id
            for entry in self._table.peers.values()
            if entry.name == text or (len(text) >= 4 and to_base32(entry.id).startswith(text))
        }
        if len(found) == 1:
            return found.pop()
        raise LocalError(
            f"{escape(text)} could be {len(found)} peers: use more of the id" if found else f"no peer {escape(text)}"
        )

    def views(self) -> list[PeerView]:
        """Return one view a peer, then one for each target that is no peer's yet."""
        by_peer: dict[IdentityId, list[Target]] = {}
        for target in self._table.targets.values():
            if target.peer is not None:
                by_peer.setdefault(target.peer, []).append(target)
        self._times = {peer: each for peer, each in self._times.items() if peer in self._table.peers}
        kept_out, foreign = self._admission.kept_out, self._admission.foreign
        met = [entry for entry in self._table.peers.values() if entry.id not in {*kept_out, *foreign}]
        views = [self._met(entry, by_peer.get(entry.id, [])) for entry in met]
        views += [_kept_out(peer, name, address) for peer, (name, address) in kept_out.items()]
        views += [_foreign(peer, *shown) for peer, shown in foreign.items()]
        kept_out_at = {address for _, address, *_ in (*kept_out.values(), *foreign.values())}
        views += [_impostor(peer, address) for peer, address in self._admission.impostors.items()]
        for target in self._table.targets.values():
            is_known = target.peer in self._table.peers or not kept_out_at.isdisjoint(target.addresses)
            if not is_known and not target.is_self:
                views.append(_sighted(target))
        return views

    def _met(self, entry: PeerEntry, targets: Sequence[Target]) -> PeerView:
        ours = self._models
        unlike = sorted(name for name, (major, _) in entry.models.items() if major != ours.get(name, (major, 0))[0])
        silence_s, lag = self._registry.silence_s(entry.id), self._links.behind(entry.id)
        is_silent = entry.is_up and (entry.is_doubted or SILENT_S < silence_s < NEVER)  # NEVER: it is ending
        is_in_step = not is_silent and self._links.is_in_step(entry.id)
        in_sync, reason = None if is_silent else entry.in_sync, entry.reason
        if is_silent and not entry.is_doubted:
            reason = f"nothing was heard of it for {silence_s:.0f} s"
        elif is_in_step and not in_sync:
            in_sync, reason = None, f"in step, {lag} changes on their way" if lag else "in step, and not compared yet"
        return PeerView(
            id=entry.id,
            name=entry.name,
            state=PeerState.ABSENT if is_silent else _state_of(entry),
            address=entry.address,
            found_by=targets[0].found_by if targets else "peer",
            in_sync=in_sync,
            last_sync_ms=entry.last_sync_ms,
            reason=reason,
            following=entry.is_following and not is_silent,
            lag=lag,
            models=entry.models,
            unreadable=tuple(unlike),
            in_step=is_in_step,
            since_ms=self._since_ms(entry, silence_s if is_silent else None),
        )

    def _since_ms(self, entry: PeerEntry, silence_s: float | None) -> int | None:
        """Return since when `entry` is linked, or when it was last heard of; None when that is not known."""
        now_s = self._clock.monotonic_s()
        at_s = entry.linked_s if entry.is_following else entry.seen_s
        if silence_s is not None:
            at_s = round(now_s - silence_s, 1)
        if entry.sessions and not entry.is_following and silence_s is None:
            return None
        if not at_s:
            return None
        if self._times.get(entry.id, (0.0, 0))[0] != at_s:  # so that two looks tell the same time
            self._times[entry.id] = at_s, self._clock.now_ms() - round((now_s - at_s) * 1000)
        return self._times[entry.id][1]


def _state_of(entry: PeerEntry) -> PeerState:
    if entry.is_up:
        return PeerState.CONNECTED
    if entry.is_reachable:
        return PeerState.REACHABLE
    return PeerState.REFUSED if entry.is_refused else PeerState.ABSENT


def _kept_out(peer: IdentityId, name: str, address: str) -> PeerView:
    reason = (
        f"the name {escape(name)} is pinned to another identity; "
        f"if this is right, type: echonode peers trust {to_base32(peer)[:16]}"
    )
    return PeerView(
        id=peer,
        name=name,
        state=PeerState.REFUSED,
        address=address,
        found_by="",
        in_sync=None,
        last_sync_ms=None,
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
        reason="somebody there claims this id with a key that its root never stated; nothing from it is kept",
    )


def _sighted(target: Target) -> PeerView:
    reason, state = target.reason, PeerState.REFUSED if target.is_refused else PeerState.SIGHTED
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
