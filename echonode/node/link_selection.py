"""Whom to follow, and what follows for comparing: pure, a part of the scheduler.

Every peer gets a rank, drawn when it is met; the LINKS_CHOSEN reachable ones with the lowest are followed, whichever
side opens the link. So each node's choice is random among all that are there, the graph of links is connected with near
certainty, a lost peer's place is taken by the next in rank, and small networks are followed whole.
"""

from dataclasses import dataclass
from heapq import nsmallest
from typing import Final

from echonode.clock import Entropy
from echonode.limits import (
    CHANGE_DELAY_S,
    COMPARE_INTERVAL_S,
    LINK_RENEWAL_S,
    LINK_RETRY_S,
    LINKS_CHOSEN,
    LINKS_MAX,
    UNEQUAL_COMPARE_INTERVAL_S,
)
from echonode.model.identity import IdentityId
from echonode.node.peer_table import PeerEntry

_NEVER: Final = float("inf")
_LASTING_S: Final = 60.0  # a link that lasted so long was one


@dataclass(slots=True)
class LinkSelection:
    """Works on the scheduler's own table of peers."""

    entropy: Entropy
    peers: dict[IdentityId, PeerEntry]
    mix_at_s: float = 0.0

    @property
    def is_linked(self) -> bool:
        """Whether any link is up."""
        return any(peer.is_following for peer in self.peers.values())

    def compare_next_s(self, entry: PeerEntry, now_s: float) -> float:
        """Where links bring what is new, comparing is a safety net: with one of the other peers at a time."""
        if entry.is_following:
            return _NEVER
        others = sum(peer.is_reachable and not peer.is_following for peer in self.peers.values())
        return now_s + self.entropy.uniform(*COMPARE_INTERVAL_S) * (max(1, others) if self.is_linked else 1)

    def wants_link(self, peer: IdentityId, now_s: float) -> bool:
        """Whether the session with `peer` should become a link. True is an attempt: the next one comes later."""
        entry = self.peers[peer]
        if entry.is_following or now_s < entry.follow_at_s or peer not in self.chosen():
            return False
        entry.link_losses += 1
        base_s, cap_s = LINK_RETRY_S
        entry.follow_at_s = now_s + self.entropy.uniform(0, min(cap_s, base_s * 2.0**entry.link_losses))
        return True

    def has_room_for_link(self) -> bool:
        """Whether one more peer may follow us."""
        return sum(entry.is_following for entry in self.peers.values()) < LINKS_MAX

    def declined(self, peer: IdentityId) -> None:
        """`peer` would not be followed, or has enough who do: others come first."""
        self.peers[peer].rank = 1 + self.entropy.uniform(0, 1)

    def linked(self, now_s: float, peer: IdentityId, *, is_leading: bool) -> None:
        """A link with `peer` is up."""
        entry = self.peers[peer]
        entry.is_following, entry.is_leading, entry.is_reachable = True, is_leading, True
        entry.compare_at_s, entry.linked_s = _NEVER, now_s

    def equal(self, now_ms: int, peer: IdentityId) -> None:
        """The link with `peer` says that all is equal."""
        entry = self.peers[peer]
        entry.in_sync, entry.reason, entry.last_sync_ms = True, "", now_ms

    def suspected(self, now_s: float, peer: IdentityId) -> None:
        """The root of a peer that is followed stays another: compare."""
        entry = self.peers[peer]
        if now_s >= entry.suspected_s + UNEQUAL_COMPARE_INTERVAL_S:
            entry.suspected_s = now_s
            entry.compare_at_s = min(entry.compare_at_s, now_s + CHANGE_DELAY_S)
            entry.changed_meanwhile |= entry.sessions > 0

    def unlinked(self, now_s: float, peer: IdentityId) -> None:
        """The link with `peer` is over: find out whether it is still there."""
        entry = self.peers[peer]
        entry.is_following, entry.seen_s = False, now_s
        if now_s - entry.linked_s > _LASTING_S:
            entry.link_losses = 0
        base_s, cap_s = LINK_RETRY_S
        delay_s = self.entropy.uniform(0, min(cap_s, base_s * 2.0**entry.link_losses))
        entry.follow_at_s = entry.compare_at_s = now_s + delay_s

    def superfluous(self) -> list[IdentityId]:
        """Peers whose links we opened and need no more, as others are followed in their place."""
        chosen = self.chosen()
        if not all(self.peers[peer].is_following for peer in chosen):
            return []
        ours = [entry.id for entry in self.peers.values() if entry.is_leading and entry.is_following]
        return [peer for peer in ours if peer not in chosen]

    def chosen(self) -> set[IdentityId]:
        """The peers to follow."""
        able = [entry for entry in self.peers.values() if entry.is_reachable and entry.can_follow]
        return {entry.id for entry in nsmallest(LINKS_CHOSEN, able, key=lambda entry: entry.rank)}

    def mix(self, now_s: float) -> None:
        """Now and then choose one of those to follow anew: graphs that grew apart would stay so."""
        if now_s < self.mix_at_s:
            return
        chosen = sorted(self.chosen())
        if self.mix_at_s and len(chosen) == LINKS_CHOSEN:
            entry = self.peers[chosen[int(self.entropy.uniform(0, LINKS_CHOSEN)) % LINKS_CHOSEN]]
            entry.rank = self.entropy.uniform(0, 1)
        self.mix_at_s = now_s + self.entropy.uniform(0.5, 1.5) * LINK_RENEWAL_S
