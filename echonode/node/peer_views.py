"""Everybody met or seen, as people ask about them: views over the scheduler's tables, and look-ups by id or name."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from echonode.errors import LocalError
from echonode.model.identity import IdentityId
from echonode.node.handshake import Session
from echonode.node.hello import Greeter
from echonode.node.peer_table import PeerEntry, Target
from echonode.node.scheduler import Scheduler
from echonode.node.views import PeerState, PeerView
from echonode.text import escape, to_base32
from echonode.wire.messages import PROTOCOL_VERSION, version_text


class PeerTable:
    """`groups` remembers what each sighting announced, so that joining a network can judge them anew."""

    def __init__(
        self, scheduler: Scheduler, greeter: Greeter, behind: Callable[[IdentityId], int | None]
    ) -> None:
        self._scheduler = scheduler
        self._greeter = greeter
        self._behind = behind
        self._tags: dict[bytes, IdentityId] = {}  # each peer's tag of this start, as its hello gave it
        self._models: dict[IdentityId, dict[str, tuple[int, int]]] = {}

    def met(self, session: Session) -> None:
        """Tie what was sighted to who it proved to be; keep where it listens when nothing was sighted."""
        peer, hello = session.peer.id, session.hello
        self._models = {id: read for id, read in self._models.items() if id in self._scheduler.peers}
        self._models[peer] = hello.models
        self._tags = {tag: other for tag, other in self._tags.items() if other != peer} | {hello.tag: peer}
        for target in list(self._scheduler.targets.values()):
            if target.tag == hello.tag:
                self.sighted(target.key, target.tag, target.group)
        known = any(
            target.peer == peer and session.listens_at in target.addresses
            for target in self._scheduler.targets.values()
        )
        if not known and hello.port and not session.is_initiator:
            key = f"peer:{to_base32(peer)}"
            self._scheduler.sighted(key, "peer", (session.listens_at,))
            if key in self._scheduler.targets:
                self._scheduler.targets[key].peer = peer

    def sighted(self, key: str, tag: bytes, group: bytes) -> None:
        """Keep what the sighting `key` announced, and whose it is once that peer's hello has named its tag."""
        target = self._scheduler.targets.get(key)
        if target is None:
            return
        target.tag, target.group = tag, group
        peer = self._tags.get(tag)
        if peer is not None:
            target.peer = peer
            self._scheduler.gone(f"peer:{to_base32(peer)}")

    def gone(self, key: str) -> None:
        """A sighting was withdrawn. That says nothing about who was met there: dialling will tell (mDNS is a hint)."""
        target = self._scheduler.targets.get(key)
        if target is not None and target.peer in self._scheduler.peers and target.addresses:
            own = f"peer:{to_base32(target.peer)}"
            self._scheduler.sighted(own, "peer", target.addresses)
            if own in self._scheduler.targets:
                self._scheduler.targets[own].peer = target.peer
                self._scheduler.peers[target.peer].compare_at_s = 0.0

    def inviters(self, slot: str) -> list[Sequence[str]]:
        """Addresses to join at: those that a person named, then every node sighted with that invitation open."""
        targets = self._scheduler.targets.values()
        named: list[Sequence[str]] = [target.addresses for target in targets if target.found_by == "static"]
        return named + [target.addresses for target in targets if target.slot == slot]

    def resolve(self, text: str) -> IdentityId:
        """A peer by id, id prefix or name. Raises LocalError."""
        found = {
            entry.id
            for entry in self._scheduler.peers.values()
            if entry.name == text or (len(text) >= 4 and to_base32(entry.id).startswith(text))
        }
        if len(found) == 1:
            return found.pop()
        raise LocalError(
            f"{escape(text)} could be {len(found)} peers: use more of the id" if found else f"no peer {escape(text)}"
        )

    def find_kept_out(self, text: str) -> tuple[IdentityId, str]:
        """(id, name) of somebody kept out, by either. Raises LocalError."""
        for peer, (name, _) in self._greeter.kept_out.items():
            if name == text or (len(text) >= 4 and to_base32(peer).startswith(text)):
                return peer, name
        raise LocalError(f"nobody called {escape(text)} is kept out")

    def views(self) -> list[PeerView]:
        """One view a peer, then one a target that is not anybody's yet."""
        by_peer: dict[IdentityId, list[Target]] = {}
        for target in self._scheduler.targets.values():
            if target.peer is not None:
                by_peer.setdefault(target.peer, []).append(target)
        kept_out, foreign = self._greeter.kept_out, self._greeter.foreign
        met = [entry for entry in self._scheduler.peers.values() if entry.id not in {*kept_out, *foreign}]
        views = [self._reading(_met(entry, by_peer.get(entry.id, []), self._behind(entry.id))) for entry in met]
        views += [_kept_out(peer, name, address) for peer, (name, address) in kept_out.items()]
        views += [_foreign(peer, *shown) for peer, shown in foreign.items()]
        kept_out_at = {address for _, address, *_ in (*kept_out.values(), *foreign.values())}
        views += [_impostor(peer, address) for peer, address in self._greeter.impostors.items()]
        for target in self._scheduler.targets.values():
            is_known = target.peer in self._scheduler.peers or not kept_out_at.isdisjoint(target.addresses)
            if not is_known and not target.is_self:
                views.append(_sighted(target))
        return views

    def _reading(self, view: PeerView) -> PeerView:
        """`view`, and which models are read there."""
        theirs, ours = self._models.get(view.id or IdentityId(b""), {}), self._greeter.models
        unlike = sorted(name for name, (major, _) in theirs.items() if major != ours.get(name, (major, 0))[0])
        return replace(view, models=theirs, unreadable=tuple(unlike))


def _met(entry: PeerEntry, targets: Sequence[Target], lag: int | None) -> PeerView:
    if entry.sessions or entry.is_following:
        state = PeerState.CONNECTED
    elif entry.is_reachable:
        state = PeerState.REACHABLE
    elif entry.is_refused:
        state = PeerState.REFUSED
    else:
        state = PeerState.ABSENT
    return PeerView(
        id=entry.id,
        name=entry.name,
        state=state,
        address=entry.address,
        found_by=targets[0].found_by if targets else "peer",
        in_sync=entry.in_sync,
        last_sync_ms=entry.last_sync_ms,
        reason=entry.reason,
        following=entry.is_following,
        lag=lag,
    )


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
