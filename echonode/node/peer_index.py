"""PeerIndex: the entries of the peer table, and questions about them. It changes none: see node/peer_table.py."""

from typing import Final

from echonode.limits import CANDIDATES_MAX, PEER_GONE_DAYS, SEEN_SAVED_S
from echonode.model.identity import IdentityId
from echonode.node.pauses import Pauses
from echonode.node.peer_entries import PeerEntry, Target
from echonode.node.trust import Trust
from echonode.store.port import KnownPeer

_GONE_MS: Final = PEER_GONE_DAYS * 24 * 3600 * 1000


class PeerIndex:
    """Targets by key, and peers by identity."""

    def __init__(self) -> None:
        self.targets: dict[str, Target] = {}
        self.peers: dict[IdentityId, PeerEntry] = {}
        self._by_tag: dict[bytes, IdentityId] = {}
        self.pauses = Pauses()
        self.trust = Trust()

    @property
    def is_linked(self) -> bool:
        """True while any link is up."""
        return any(peer.is_following for peer in self.peers.values())

    def tagged(self, tag: bytes) -> IdentityId | None:
        """Return the peer whose hello named `tag`."""
        return self._by_tag.get(tag)

    def is_unwanted(self, peer: IdentityId | None) -> bool:
        """Return whether no session with `peer` is wanted, by a pause or because it was rejected."""
        return self.pauses.of(peer) is not None or (peer is not None and self.trust.is_rejected(peer))

    def has_session(self, peer: IdentityId | None) -> bool:
        """Return whether a working session with `peer` is up."""
        return peer in self.peers and self.peers[peer].sessions > 0

    def is_full(self, peer: IdentityId) -> bool:
        """Return whether `peer` is new, and there is no room for one more. A peer that is absent makes room."""
        return peer not in self.peers and len(self.peers) >= CANDIDATES_MAX and self.oldest_absent() is None

    @property
    def reachable_count(self) -> int:
        """The number of peers that answer."""
        return sum(peer.is_reachable for peer in self.peers.values())

    def is_lost(self, peer: IdentityId, now_ms: int) -> bool:
        """Return True for a peer that was not seen for PEER_GONE_DAYS and has no address but those of that time."""
        entry = self.peers.get(peer)
        if entry is None or entry.is_reachable or entry.is_up or now_ms - entry.seen_ms < _GONE_MS:
            return False
        return all(target.found_by == "peer" for target in self.targets_of(peer))

    def targets_of(self, peer: IdentityId) -> list[Target]:
        """Return the targets that lead to `peer`."""
        return [target for target in self.targets.values() if target.peer == peer]

    def answers(self, peer: IdentityId | None) -> bool:
        """Return whether a target of `peer` answered when last dialled, or was not dialled yet."""
        return any(other.peer == peer and other.attempt == 0 and not other.is_gone for other in self.targets.values())

    def oldest_absent(self) -> IdentityId | None:
        """Return the peer that is absent for the longest time; None when none is."""
        absent = [entry for entry in self.peers.values() if not entry.is_reachable and not entry.is_up]
        return min(absent, key=lambda entry: (entry.seen_ms, entry.seen_s)).id if absent else None

    def to_save(self, peer: IdentityId) -> KnownPeer | None:
        """Return what the store should keep of `peer`, None when it has that already. Tell of the save by `saved`."""
        entry = self.peers[peer]
        known = KnownPeer(peer, entry.name, entry.addresses, entry.seen_ms)
        if entry.saved is None or known.seen_ms - entry.saved.seen_ms >= SEEN_SAVED_S * 1000:
            return known
        return None if (entry.saved.name, entry.saved.addresses) == (known.name, known.addresses) else known

    def casts_doubt(self, key: str) -> IdentityId | None:
        """Return the linked peer of target `key` when a failed dial of that is a sign that the peer is not there."""
        target = self.targets.get(key)
        entry = self.peers.get(target.peer) if target is not None and target.peer is not None else None
        if entry is None or not entry.is_following or entry.only_dials or self.answers(entry.id):
            return None
        return entry.id

    def unfollowed(self) -> list[PeerEntry]:
        """Return the peers that are there and not followed."""
        return [peer for peer in self.peers.values() if peer.is_reachable and not peer.is_following]
