"""Scheduler: when to dial, and which targets. Pure: it reads the peer table and `now`, draws, and returns decisions.

There is one working session with a peer at a time. A few of them become links, in which both follow each other:

    sighted ──dial──> session ──closed well──> compare again in 45-75 s, or 5 ms after a change
                         │└───failed─────────> back off (node/backoff.py)
                         └────link ──lost────> again, soon

Where a link is up, changes travel along it (node/link_selection.py). Then no comparison is due with that peer, and one
at a time with the others, at random.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from echonode.clock import Entropy
from echonode.limits import (
    CONNECTIONS_MAX,
    DIALS_MAX,
    MEET_AT_ONCE,
    MEET_INTERVAL_S,
    RELAY_FANOUT,
    STATIC_DIALS_MAX,
    WRITE_FANOUT,
)
from echonode.model.identity import IdentityId
from echonode.node.link_selection import LinkSelection
from echonode.node.peer_table import NEVER, PeerEntry, PeerTable, Target

_LED_MAX: Final = CONNECTIONS_MAX // 2  # of our connections, those that we opened: others want to reach us too


@dataclass(frozen=True, slots=True)
class DialNow:
    """A decision: open a session to this target, addresses in order of preference."""

    target: str
    addresses: tuple[str, ...]


@dataclass(slots=True)
class Scheduler:
    """Decides over `table`. Times are seconds of a monotonic clock."""

    table: PeerTable
    entropy: Entropy
    links: LinkSelection = field(init=False)
    _meet_at_s: float = 0.0  # when to meet the next stranger, among many peers

    def __post_init__(self) -> None:
        self.links = LinkSelection(self.table, self.entropy)

    def due(self, now_s: float) -> list[DialNow]:
        """Return the dials to begin now. The caller must begin them all (`PeerTable.dial_begun`)."""
        dials: list[DialNow] = []
        room = self._room()
        reaching = self._being_reached()
        is_among_many = self._is_among_many()
        # Targets that answered before, then the longest due: many that never answer must not keep back one that would.
        for target, _ in sorted([each for each in self._waiting(reaching) if each[1] <= now_s], key=_urgency):
            if room[target.is_static] <= 0 or target.peer in reaching:
                continue
            if target.peer is None and is_among_many:
                if now_s < self._meet_at_s:
                    continue  # another stranger was first
                self._meet_at_s = now_s + self.entropy.uniform(*MEET_INTERVAL_S)
            if target.peer is not None:
                reaching.add(target.peer)
            room[target.is_static] -= 1
            dials.append(DialNow(target.key, target.addresses_at(now_s)))
        return dials

    def next_due_s(self) -> float:
        """Return when `due` has something next, infinity when only an event can change that."""
        room, reaching = self._room(), self._being_reached()
        return min((at_s for target, at_s in self._waiting(reaching) if room[target.is_static] > 0), default=NEVER)

    def next_dial_s(self, peer: IdentityId | None, key: str = "") -> float | None:
        """Return when `peer`, or the target `key`, is dialled next; None when nothing is due with it."""
        waiting = self._waiting(self._being_reached())
        found = [at_s for target, at_s in waiting if target.key == key or (peer is not None and target.peer == peer)]
        return min((at_s for at_s in found if at_s < NEVER), default=None)

    def to_tell(self, source: IdentityId | None) -> list[IdentityId]:
        """Return some peers to tell of a change of our store, by our own write or by what `source` sent.

        Peers that hear of it along a link, from us or from the peers that they follow, need no dial.
        """
        is_linked = self.table.is_linked
        others: list[PeerEntry] = []
        for peer in self.table.peers.values():
            hears = peer.is_following or (is_linked and peer.can_follow)
            if peer.id != source and not hears and peer.is_reachable:
                others.append(peer)
        if others:
            known = {target.peer for target in self.table.targets.values() if target.is_ours and not target.is_gone}
            others = [peer for peer in others if peer.id in known]
        fanout = WRITE_FANOUT if source is None else RELAY_FANOUT
        while len(others) > fanout:
            others.pop(int(self.entropy.uniform(0, len(others))) % len(others))
        return [peer.id for peer in others]

    def _is_among_many(self) -> bool:
        """Return whether so many peers answer that others can wait."""
        return self.table.reachable_count >= MEET_AT_ONCE

    def _being_reached(self) -> set[IdentityId]:
        """Return the peers that a dial under way leads to."""
        return {target.peer for target in self.table.targets.values() if target.is_dialling and target.peer}

    def _room(self) -> dict[bool, int]:
        """Return how many dials may begin: of configured addresses (True), which may long be silent, and of others.

        A dial that led to a session counts only within the bound on all.
        """
        begun = [target for target in self.table.targets.values() if target.is_dialling]
        reaching = Counter(target.is_static for target in begun if not self.table.has_session(target.peer))
        led_max = _LED_MAX - len(begun)
        return {
            True: min(STATIC_DIALS_MAX - reaching[True], led_max),
            False: min(DIALS_MAX - reaching[False], led_max),
        }

    def _waiting(self, reaching: set[IdentityId]) -> Iterator[tuple[Target, float]]:
        """Yield the targets that may be dialled, and from when on."""
        chosen = self.links.chosen()
        meet_at_s = self._meet_at_s if self._is_among_many() else 0.0
        for target in self.table.targets.values():
            if target.is_dialling or not target.is_ours or self.table.is_unwanted(target.peer):
                continue
            not_before_s = max(target.not_before_s, target.free_at_s)
            if target.peer is None:
                yield target, max(meet_at_s if not target.is_static else 0.0, not_before_s)
                continue
            if target.peer in reaching or self.table.has_session(target.peer):
                continue
            entry = self.table.peers.get(target.peer)
            wanted_s = 0.0 if entry is None or not entry.is_reachable else entry.compare_at_s
            if entry is not None and entry.id in chosen and not entry.is_following:
                wanted_s = min(wanted_s, entry.follow_at_s)
            yield target, max(wanted_s, not_before_s)


def _urgency(waiting: tuple[Target, float]) -> tuple[bool, float, float]:
    target, at_s = waiting
    return not target.has_answered, at_s, target.not_before_s
