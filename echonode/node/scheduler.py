"""When to speak, and with whom: pure. Events and `now` go in, decisions come out (seconds of a monotonic clock).

A target is something that can be dialled: a sighting, a configured peer, an address a peer told us. A peer is an
identity that proved itself; a target becomes a peer's by the first session with it. One working session with a peer at
a time, and a few of them become links, in which both follow each other:

    sighted ──dial──> session ──closed well──> compare again in 45-75 s, or 5 ms after a change
                         │└───failed─────────> back off: uniform(0, min(300 s, 1 s * 2^attempt))
                         └────link ──lost────> again, soon

Whom to follow is drawn: every peer gets a rank, those with the lowest are followed. Where a link is up, changes travel
along it; no comparison is due with that peer, and one at a time with the others, at random.
Two nodes that dial each other at once keep the session whose initiator has the greater id (`survives`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from echonode.clock import Entropy
from echonode.limits import (
    BACKOFF_S,
    CANDIDATES_MAX,
    CHANGE_DELAY_S,
    COMPARE_INTERVAL_S,
    CONNECTIONS_MAX,
    DIALS_MAX,
    MEET_AT_ONCE,
    MEET_INTERVAL_S,
    RELAY_FANOUT,
    WRITE_FANOUT,
)
from echonode.model.identity import IdentityId
from echonode.node.link_selection import LinkSelection
from echonode.node.peer_table import DialNow, PeerEntry, Target

_NEVER = float("inf")
_SEEN_S = 2 * COMPARE_INTERVAL_S[1]  # who dials us compares at least this often
_LED_MAX = CONNECTIONS_MAX // 2  # of our connections, those that we opened: others want to reach us too


@dataclass(slots=True)
class Scheduler:
    """The peer table and its clock-work."""

    me: IdentityId
    entropy: Entropy
    targets: dict[str, Target] = field(default_factory=dict)
    peers: dict[IdentityId, PeerEntry] = field(default_factory=dict)
    _meet_at_s: float = 0.0  # when to meet the next stranger, being among many
    links: LinkSelection = field(init=False)

    def __post_init__(self) -> None:
        self.links = LinkSelection(self.entropy, self.peers)

    # -- what is known of the surroundings ---------------------------------------------------------------------------

    def sighted(
        self,
        key: str,
        found_by: str,
        addresses: tuple[str, ...],
        *,
        is_ours: bool = True,
        slot: str | None = None,
    ) -> bool:
        """A target appeared, or changed. True when it is new; nothing happens when there are too many already, but for
        one that may be dialled: a stranger makes room for it."""
        target = self.targets.get(key)
        if target is None:
            if len(self.targets) >= CANDIDATES_MAX and not ((is_ours or slot) and self._forget_stranger()):
                return False
            self.targets[key] = Target(key, found_by, addresses, is_ours=is_ours, slot=slot)
            return True
        if (target.addresses, target.is_ours) != (addresses, is_ours):
            target.attempt, target.not_before_s, target.is_self, target.has_answered = 0, 0.0, False, False
        target.addresses, target.is_ours, target.slot, target.is_gone = addresses, is_ours, slot, False
        return False

    def _forget_stranger(self) -> bool:
        """Drop one of those that nobody will dial, if there is one."""
        stranger = next((each.key for each in self.targets.values() if not each.is_ours and each.slot is None), None)
        return stranger is not None and self.targets.pop(stranger) is not None

    def gone(self, key: str) -> bool:
        """A sighting was withdrawn; what is known of the peer behind it stays. True when it is absent from now on."""
        target = self.targets.get(key)
        if target is None:
            return False
        if target.is_dialling:
            target.is_gone = True  # should it come back meanwhile, there is one dial, not two
        else:
            del self.targets[key]
        return self._lost(target.peer, "it took its leave")

    def changed(self, now_s: float, source: IdentityId | None) -> bool:
        """Our store changed, by our own write or by what `source` sent: tell some peers soon. True when there are such,
        so that something may be due sooner."""
        is_linked = self.links.is_linked
        others: list[PeerEntry] = []
        for peer in self.peers.values():
            if peer.id == source:
                continue
            if peer.in_sync:
                peer.in_sync, peer.reason = None, "not compared since the last change"
            hears = peer.is_following or (is_linked and peer.can_follow)  # of it, from us or from whom it follows
            if not hears and peer.is_reachable:
                others.append(peer)
        if others:
            known = {target.peer for target in self.targets.values() if target.is_ours and not target.is_gone}
            others = [peer for peer in others if peer.id in known]
        fanout = WRITE_FANOUT if source is None else RELAY_FANOUT
        while len(others) > fanout:
            others.pop(int(self.entropy.uniform(0, len(others))) % len(others))
        for peer in others:
            peer.changed_meanwhile |= peer.sessions > 0 or peer.is_meeting
            peer.compare_at_s = min(peer.compare_at_s, now_s + CHANGE_DELAY_S)
        return bool(others)

    # -- sessions ----------------------------------------------------------------------------------------------------

    def is_full(self, peer: IdentityId) -> bool:
        """Whether there is no room to know one more peer, `peer` being a new one. Absent ones make room."""
        return peer not in self.peers and len(self.peers) >= CANDIDATES_MAX and self._oldest_absent() is None

    def meeting(self, peer: IdentityId) -> None:
        """A hello is about to be made for `peer`: what changes from now on may not be in it."""
        if peer in self.peers:
            self.peers[peer].is_meeting = True

    def not_met(self, now_s: float, peer: IdentityId) -> None:
        """The session for which that hello was made did not come about."""
        entry = self.peers.get(peer)
        if entry is not None:
            entry.is_meeting = False
            if entry.changed_meanwhile and not entry.sessions:
                entry.changed_meanwhile = False
                entry.compare_at_s = min(entry.compare_at_s, now_s + CHANGE_DELAY_S)

    def missed(self, peer: IdentityId, why: str) -> None:
        """Somebody asked for a session with `peer`, and it did not answer."""
        if peer in self.peers and not self._is_up(peer):
            entry = self.peers[peer]
            entry.is_reachable, entry.in_sync, entry.reason = False, None, why

    def _oldest_absent(self) -> IdentityId | None:
        absent = [entry for entry in self.peers.values() if not entry.is_reachable and not self._is_up(entry.id)]
        return min(absent, key=lambda entry: entry.seen_s).id if absent else None

    def survives(self, peer: IdentityId, *, is_initiator: bool) -> bool:
        """Whether a session of ours with `peer` outlives one in the other direction. Both ends decide alike."""
        return (self.me > peer) == is_initiator

    def opened(
        self,
        peer: IdentityId,
        name: str,
        address: str,
        *,
        target: str | None,
        is_initiator: bool = True,
        can_follow: bool = False,
    ) -> bool:
        """A session with `peer` is up. True when the peer was absent until now."""
        if peer not in self.peers and len(self.peers) >= CANDIDATES_MAX and (oldest := self._oldest_absent()):
            del self.peers[oldest]
        if peer not in self.peers:
            self.peers[peer] = PeerEntry(peer, rank=self.entropy.uniform(0, 1))
        entry = self.peers[peer]
        entry.is_meeting = False
        was_absent = not entry.is_reachable
        entry.name, entry.address, entry.is_reachable, entry.is_refused = name, address, True, False
        entry.sessions += 1
        entry.can_follow = can_follow
        entry.only_dials = not is_initiator and not self._answers(peer)
        if target in self.targets:
            self.targets[target].peer, self.targets[target].has_answered = peer, True
        return was_absent

    def closed(
        self, now_s: float, now_ms: int, peer: IdentityId, *, in_sync: bool | None, reason: str
    ) -> None:
        """A session with `peer` ended. `in_sync` None: it ended before that was known, and changes nothing."""
        entry = self.peers[peer]
        entry.sessions -= 1
        entry.seen_s = now_s
        for target in self.targets.values():
            if target.peer == peer:
                target.settled = 0
        if in_sync is not None:
            entry.in_sync, entry.reason = in_sync, reason
            entry.last_sync_ms = now_ms if in_sync else entry.last_sync_ms
            entry.compare_at_s = self.links.compare_next_s(entry, now_s)
        if entry.changed_meanwhile:
            entry.changed_meanwhile = False
            entry.compare_at_s = now_s + CHANGE_DELAY_S

    def dialled(
        self, now_s: float, key: str, *, failure: str | None, is_refusal: bool = False, is_settled: bool = False
    ) -> bool:
        """The attempt to reach target `key` is over. True when its peer is absent from now on. `is_settled`: it was
        there, and did not want the session: another goes on, or it is busy."""
        target = self.targets.get(key)
        if target is None:
            return False
        target.is_dialling = False
        target.reason, target.is_refused = failure or "", is_refusal
        if target.is_gone:
            del self.targets[key]
        if failure is None:
            target.attempt = 0
            target.settled += is_settled
            if is_settled:
                # As a rule the other session is seen in a moment. If not, it only exists at the other end.
                bound_s = min(BACKOFF_S[1], CHANGE_DELAY_S * 2.0**target.settled)
                target.not_before_s = now_s + self.entropy.uniform(0, bound_s)
            return False
        base_s, cap_s = BACKOFF_S
        target.attempt += 1
        target.not_before_s = now_s + self.entropy.uniform(0, min(cap_s, base_s * 2.0**target.attempt))
        entry = self.peers.get(target.peer) if target.peer else None
        if entry is not None and entry.only_dials and now_s < entry.seen_s + _SEEN_S:
            return False
        return self._lost(target.peer, failure, is_refusal=is_refusal)

    def is_self(self, key: str) -> None:
        """Target `key` turned out to be this very node."""
        if key in self.targets:
            self.targets[key].is_self = True
            self.targets[key].is_dialling = False

    # -- decisions ---------------------------------------------------------------------------------------------------

    def due(self, now_s: float) -> list[DialNow]:
        """The dials to begin now. Each is marked as begun: answer it with `dialled`."""
        self.links.mix(now_s)
        dials: list[DialNow] = []
        room = self._room()
        reaching = {target.peer for target in self.targets.values() if target.is_dialling and target.peer}
        # Those that answered before, then the longest due: many that never answer must not keep back one that would.
        for target, _ in sorted([each for each in self._waiting(reaching) if each[1] <= now_s], key=_urgency):
            if len(dials) >= room:
                break
            if target.peer in reaching:
                continue
            if target.peer is None and self._is_among_many():
                if now_s < self._meet_at_s:
                    continue  # another stranger was first
                self._meet_at_s = now_s + self.entropy.uniform(*MEET_INTERVAL_S)
            target.is_dialling = True
            if target.peer is not None:
                reaching.add(target.peer)
            dials.append(DialNow(target.key, target.addresses))
        return dials

    def next_due_s(self) -> float:
        """When `due` has something next, infinity when only an event can change that."""
        if self._room() <= 0:
            return _NEVER
        reaching = {target.peer for target in self.targets.values() if target.is_dialling and target.peer}
        return min((at_s for _, at_s in self._waiting(reaching)), default=_NEVER)

    def _is_among_many(self) -> bool:
        """Whether so many peers are known that others can wait."""
        return len(self.peers) >= MEET_AT_ONCE

    def _room(self) -> int:
        """How many dials may begin. Those that led to a session keep no others waiting, within the bound on all."""
        begun = [target for target in self.targets.values() if target.is_dialling]
        reaching = sum(not self._has_session(target.peer) for target in begun)
        return min(DIALS_MAX - reaching, _LED_MAX - len(begun))

    def _has_session(self, peer: IdentityId | None) -> bool:
        return peer in self.peers and self.peers[peer].sessions > 0

    def _is_up(self, peer: IdentityId | None) -> bool:
        return self._has_session(peer) or (peer in self.peers and self.peers[peer].is_following)

    def _lost(self, peer: IdentityId | None, why: str, *, is_refusal: bool = False) -> bool:
        """Make `peer` absent, unless a session is up or another of its targets answered when last dialled."""
        if peer not in self.peers or not self.peers[peer].is_reachable or self._is_up(peer):
            return False
        if self._answers(peer):
            return False
        entry = self.peers[peer]
        entry.is_reachable, entry.is_refused, entry.in_sync, entry.reason = False, is_refusal, None, why
        return True

    def _answers(self, peer: IdentityId | None) -> bool:
        """Whether a target of `peer` answered when last dialled, or was not dialled yet."""
        return any(other.peer == peer and other.attempt == 0 and not other.is_gone for other in self.targets.values())

    def _waiting(self, reaching: set[IdentityId]) -> Iterator[tuple[Target, float]]:
        chosen = self.links.chosen()
        meet_at_s = self._meet_at_s if self._is_among_many() else 0.0
        for target in self.targets.values():
            if target.is_dialling or target.is_self or not target.is_ours:
                continue
            if target.peer is None:
                yield target, max(meet_at_s, target.not_before_s)
                continue
            if target.peer in reaching or self._has_session(target.peer):
                continue
            entry = self.peers.get(target.peer)
            wanted_s = 0.0 if entry is None or not entry.is_reachable else entry.compare_at_s
            if entry is not None and entry.id in chosen and not entry.is_following:
                wanted_s = min(wanted_s, entry.follow_at_s)
            yield target, max(wanted_s, target.not_before_s)


def _urgency(waiting: tuple[Target, float]) -> tuple[bool, float, float]:
    target, at_s = waiting
    return not target.has_answered, at_s, target.not_before_s
