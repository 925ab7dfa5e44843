"""Link selection: which peers to follow. Pure: it reads the peer table, and decides.

Up to LINKS_ALL_MAX known peers, all are followed. Among more, every peer has a rank, drawn when it was met, and the
LINKS_CHOSEN reachable ones with the lowest are followed, whichever side opens the link. So each node's choice is random
among all that are there, the graph of links is connected with near certainty, and a lost peer's place is taken by the
next in rank.
"""

from dataclasses import dataclass
from heapq import nsmallest
from itertools import chain, islice

from echonode.clock import Entropy
from echonode.limits import LINK_RENEWAL_S, LINKS_ALL_MAX, LINKS_CHOSEN, LINKS_MAX
from echonode.model.identity import IdentityId
from echonode.node.peer_table import PeerTable


@dataclass(slots=True)
class LinkSelection:
    """Decides over `table`."""

    table: PeerTable
    entropy: Entropy
    _mix_at_s: float = 0.0

    def chosen(self) -> set[IdentityId]:
        """Return the peers to follow."""
        able = [entry for entry in self.table.peers.values() if entry.is_reachable and entry.can_follow]
        if not self.has_many():
            return {entry.id for entry in able}
        return {entry.id for entry in nsmallest(LINKS_CHOSEN, able, key=lambda entry: entry.rank)}

    def has_many(self) -> bool:
        """Return whether more than LINKS_ALL_MAX peers are known: those that answer, and sightings not yet dialled."""
        reachable = (True for entry in self.table.peers.values() if entry.is_reachable)
        fresh = (
            True
            for each in self.table.targets.values()
            if each.peer is None and each.is_ours and not each.is_misleading and not each.attempt
        )
        return sum(islice(chain(reachable, fresh), LINKS_ALL_MAX + 1)) > LINKS_ALL_MAX

    def wants_link(self, peer: IdentityId, now_s: float) -> bool:
        """Return whether the session with `peer` should become a link. If so, note the attempt (`link_tried`)."""
        entry = self.table.peers[peer]
        return not entry.is_following and now_s >= entry.follow_at_s and peer in self.chosen()

    def has_room_for_link(self) -> bool:
        """Return whether one more peer may follow us."""
        return sum(entry.is_following for entry in self.table.peers.values()) < LINKS_MAX

    def superfluous(self) -> list[IdentityId]:
        """Return the peers of links that we opened and need no more, as others are followed in their place."""
        chosen, peers = self.chosen(), self.table.peers
        if not all(peers[peer].is_following for peer in chosen):
            return []
        opened_here = [entry.id for entry in peers.values() if entry.is_leading and entry.is_following]
        return [peer for peer in opened_here if peer not in chosen]

    def to_rank_anew(self, now_s: float) -> IdentityId | None:
        """Return now and then a chosen peer to rank anew: graphs of links that grew apart would stay so."""
        if now_s < self._mix_at_s:
            return None
        chosen, peer = sorted(self.chosen()), None
        if self._mix_at_s and self.has_many() and len(chosen) == LINKS_CHOSEN:
            peer = chosen[int(self.entropy.uniform(0, LINKS_CHOSEN)) % LINKS_CHOSEN]
        self._mix_at_s = now_s + self.entropy.uniform(0.5, 1.5) * LINK_RENEWAL_S
        return peer
