"""PeerTable: the one owner of what a node knows of targets and peers. Pure: callers pass the time.

A target is something that can be dialled: a sighting, a configured peer, an address that a peer told. A peer is an
identity that proved itself. A target becomes a peer's by the first session with it, or by the tag of the peer's hello.

    the store     loaded  then to_save  saved, when a session told something new
    discovery     sighted  withdrawn  forget  membership_changed
    a dial        dial_begun  then misled, dial_ended  to_report
    a session     hello_begun  then opened  met  closed, or hello_wasted
    a link        link_tried  then link_declined, or linked  link_equal  suspected  doubted  believed  unlinked
    a commit      store_changed  compare_soon
    a person      forget_peer

Only this module writes the fields of Target and PeerEntry. The scheduler, link selection and the views read them. Times
are seconds of a monotonic clock, but for those that end in _ms.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from echonode.clock import Entropy
from echonode.limits import (
    CANDIDATES_MAX,
    CHANGE_DELAY_S,
    COMPARE_INTERVAL_S,
    KNOWN_ADDRESSES_MAX,
    MEET_AT_ONCE,
    MEET_INTERVAL_S,
    MISLEADING_ADDRESS_S,
    STATIC_REPORT_S,
)
from echonode.model.identity import IdentityId
from echonode.node.backoff import Backoff
from echonode.node.peer_entries import NEVER as NEVER
from echonode.node.peer_entries import PeerEntry as PeerEntry
from echonode.node.peer_entries import Target as Target
from echonode.node.peer_index import PeerIndex
from echonode.store.port import KnownPeer
from echonode.text import nfc, to_base32

_CHANGED: Final = "not compared since the last change"
_SEEN_S: Final = 2 * COMPARE_INTERVAL_S[1]  # a peer that dials us compares at least this often
_LASTING_S: Final = 60.0  # a link of this age counts as one that lasted
_ASK_LOST_S: Final = 5.0  # after which a peer whose link was lost is asked, at the latest
_NOT_MET: Final = "not met in this run of the node"


class PeerTable(PeerIndex):
    """The peer index with the verbs that change it. Both kinds of entries are bounded by CANDIDATES_MAX."""

    def __init__(self, entropy: Entropy) -> None:
        super().__init__()
        self._changes = 0  # of the store, so far
        self._fruitless = 0  # comparisons in a row that found peers without a link equal
        self._entropy = entropy
        self._backoff = Backoff(entropy)

    # -- the store ---------------------------------------------------------------------------------------------------

    def loaded(self, now_s: float, known: Iterable[KnownPeer]) -> None:
        """Enter the peers that were met before this start, and dial them: the first at once, the rest bit by bit."""
        for number, peer in enumerate(known):
            if len(self.peers) >= CANDIDATES_MAX:
                return
            first, rank = peer.addresses[0] if peer.addresses else "", self._entropy.uniform(0, 1)
            self.peers[peer.id] = PeerEntry(
                peer.id, peer.name, first, peer.addresses, peer.seen_ms, peer, rank=rank, reason=_NOT_MET
            )
            if peer.addresses and self._keep(peer.id, peer.addresses) and number >= MEET_AT_ONCE:
                waits_s = (number - MEET_AT_ONCE + 1) * self._entropy.uniform(*MEET_INTERVAL_S)
                self.targets[_told_by(peer.id)].not_before_s = now_s + waits_s

    def saved(self, known: KnownPeer) -> None:
        """Note that the store keeps `known`."""
        if known.id in self.peers:
            self.peers[known.id].saved = known

    def forget_peer(self, peer: IdentityId) -> None:
        """Drop `peer` and the addresses that it told. Other targets that led to it are nobody's again."""
        entry = self.peers.pop(peer, None)
        if entry is not None:
            self._by_tag.pop(entry.tag, None)
        for target in self.targets_of(peer):
            if target.found_by == "peer":
                self.forget(target.key)
            target.peer = None

    # -- discovery ---------------------------------------------------------------------------------------------------

    def sighted(
        self,
        key: str,
        found_by: str,
        addresses: tuple[str, ...],
        *,
        is_ours: bool = True,
        slot: str | None = None,
        tag: bytes = b"",
        group: bytes = b"",
    ) -> bool:
        """Enter a target, or what changed of it. Return True when it is new.

        Past the bound nothing is entered, but for a target that may be dialled: one that may not makes room for it.
        """
        target, is_new = self.targets.get(key), False
        if target is None:
            if len(self.targets) >= CANDIDATES_MAX and not ((is_ours or slot) and self._forget_stranger()):
                return False
            target = self.targets[key] = Target(key, found_by, addresses, is_ours=is_ours, slot=slot)
            is_new = True
        elif (target.addresses, target.is_ours) != (addresses, is_ours):
            target.attempt, target.not_before_s, target.has_answered = 0, 0.0, False
            target.misleading = {}
        target.addresses, target.is_ours, target.slot, target.is_gone = addresses, is_ours, slot, False
        if tag:
            target.tag, target.group = tag, group
            self._tie(target)
        if target.peer is None and is_ours:
            target.peer = self._met_at(addresses)
        return is_new

    def _met_at(self, addresses: Iterable[str]) -> IdentityId | None:
        """Return the peer that was reached at one of `addresses`: a first guess until a session tells."""
        for entry in self.peers.values():
            if not entry.is_up and any(each in entry.addresses or each == entry.address for each in addresses):
                return entry.id
        return None

    def _forget_stranger(self) -> bool:
        """Drop a target that this node will not dial, if there is one. Return True when there was."""
        stranger = next((each.key for each in self.targets.values() if not each.is_ours and each.slot is None), None)
        return stranger is not None and self.targets.pop(stranger) is not None

    def _tie(self, target: Target) -> None:
        """Give `target` to the peer whose hello named its tag, and drop the address from that peer's own hello."""
        peer = self._by_tag.get(target.tag)
        if peer is not None:
            target.peer = peer
            self.forget(_told_by(peer))

    def withdrawn(self, key: str) -> PeerEntry | None:
        """Drop the sighting `key`. Return its peer if that is absent from now on.

        A withdrawal is a hint (mDNS): the address of a peer that was met is kept, and dialled to find out.
        """
        target = self.targets.get(key)
        peer = None if target is None else target.peer
        if target is not None and peer in self.peers and target.addresses and self._keep(peer, target.addresses):
            self.peers[peer].compare_at_s = 0.0
        return self.forget(key)

    def _keep(self, peer: IdentityId, addresses: tuple[str, ...]) -> bool:
        """Enter addresses at which `peer` was met. Return False where there is no room for them."""
        key = _told_by(peer)
        self.sighted(key, "peer", addresses)
        if key in self.targets:
            self.targets[key].peer = peer
        return key in self.targets

    def forget(self, key: str) -> PeerEntry | None:
        """Drop target `key`. Return its peer if that is absent from now on."""
        target = self.targets.get(key)
        if target is None:
            return None
        if target.is_dialling:
            target.is_gone = True  # should it come back meanwhile, there is one dial, not two
        else:
            del self.targets[key]
        return self._lose(target.peer, "it took its leave")

    def membership_changed(self, is_ours: Callable[[bytes, bytes], bool]) -> None:
        """Judge every sighting anew by its tag and group, and dial all at once: this node is of another network now."""
        for target in self.targets.values():
            target.is_ours = target.found_by != "mdns" or is_ours(target.tag, target.group)
            target.attempt, target.not_before_s = 0, 0.0

    # -- dials -------------------------------------------------------------------------------------------------------

    def dial_begun(self, key: str) -> None:
        """Note that target `key` is being dialled, until `dial_ended`."""
        self.targets[key].is_dialling = True

    def misled(self, now_s: float, key: str, address: str) -> None:
        """Note that this very node, or one that target `key` does not stand for, answered at `address`.

        That says nothing of the target's other addresses, and nothing of any other target: two machines may both have
        the address of a container bridge.
        """
        if key in self.targets:
            self.targets[key].misleading[address] = now_s + MISLEADING_ADDRESS_S

    def dial_ended(
        self,
        now_s: float,
        key: str,
        *,
        failure: str | None,
        is_refusal: bool = False,
        is_declined: bool = False,
        is_answered: bool = True,
        at: str = "",
    ) -> PeerEntry | None:
        """Note the end of a dial of target `key`. Return its peer if that is absent from now on.

        `failure`: why no session came of it, in words; `is_declined`: the peer was there, and did not want the session,
        as another one goes on, or as it is busy; `is_answered`: a machine accepted the connection, `at` HOST:PORT.
        """
        target = self.targets.get(key)
        if target is None:
            return None
        target.is_dialling = False
        target.reason, target.is_refused = failure or "", is_refusal
        if target.is_gone:
            del self.targets[key]
        if failure is None:
            target.attempt = 0
            target.declined += is_declined
            if is_declined:
                self._tie_declined(target, at)
                target.not_before_s = now_s + self._backoff.redial_declined_s(target.declined)
            return None
        target.attempt += 1
        entry = self.peers.get(target.peer) if target.peer else None
        if target.is_static:
            wait_s = self._backoff.redial_static_s(target.attempt, is_answered=is_answered)
        elif entry is not None and entry.was_met and not (entry.is_up or entry.only_dials or is_refusal):
            lost = sum(peer.was_met and not peer.is_reachable for peer in self.peers.values())
            wait_s = self._backoff.redial_lost_s(target.attempt, absence_s=now_s - entry.seen_s, lost=lost)
        else:
            wait_s = self._backoff.redial_s(target.attempt)
        target.not_before_s = now_s + wait_s
        if entry is not None and entry.only_dials and not is_refusal and now_s < entry.seen_s + _SEEN_S:
            return None
        return self._lose(target.peer, failure, is_refusal=is_refusal, at=target.addresses)

    def _tie_declined(self, target: Target, at: str) -> None:
        """Give `target` to the peer that is up at its address: its session is why the dial was not wanted."""
        if target.peer is None:
            for entry in self.peers.values():
                if entry.is_up and entry.address and (entry.address == at or entry.address in target.addresses):
                    target.peer = entry.id
                    return

    def to_report(self, now_s: float, key: str) -> int:
        """Return how often the configured target `key` failed in a row, if that is to be reported now, otherwise 0.

        It is reported at the first failure, then once in STATIC_REPORT_S.
        """
        target = self.targets.get(key)
        if target is None or not target.is_static or not target.attempt or target.is_misleading:
            return 0
        if target.attempt > 1 and now_s < target.reported_s + STATIC_REPORT_S:
            return 0
        target.reported_s = now_s
        return target.attempt

    def _lose(
        self, peer: IdentityId | None, why: str, *, is_refusal: bool = False, at: tuple[str, ...] = ()
    ) -> PeerEntry | None:
        """Make `peer` absent, unless a session is up or another of its targets answered when last dialled.

        `at`: the addresses that were tried, if any were. `why` is about the first of them. A peer that was met in this
        run keeps the reason why it went; of one that was not, the last failure says more. A peer that refuses is not
        known to be equal, even while it answers elsewhere.
        """
        entry = None if peer is None else self.peers.get(peer)
        if entry is None or entry.is_up or (entry.was_met and not entry.is_reachable):
            return None
        if self.answers(peer):
            entry.in_sync, entry.reason = (None, why) if is_refusal else (entry.in_sync, entry.reason)
            return None
        gone = entry if entry.is_reachable else None
        entry.is_reachable, entry.is_refused, entry.in_sync, entry.reason = False, is_refusal, None, why
        entry.address = at[0] if at else entry.address
        return gone

    # -- sessions ----------------------------------------------------------------------------------------------------

    def hello_begun(self, peer: IdentityId) -> None:
        """Note that a hello is about to be made for `peer`: it may not tell of what changes from now on."""
        if peer in self.peers:
            self.peers[peer].is_meeting = True
            self._note_told(self.peers[peer])

    def _note_told(self, entry: PeerEntry) -> None:
        """Note that our hello to `entry` tells of all changes so far."""
        entry.changes_told = self._changes - entry.changes_by

    def hello_wasted(self, now_s: float, peer: IdentityId) -> None:
        """Note that no session came of that hello."""
        entry = self.peers.get(peer)
        if entry is not None:
            entry.is_meeting = False
            if entry.changed_meanwhile and not entry.sessions:
                entry.changed_meanwhile = False
                entry.compare_at_s = min(entry.compare_at_s, now_s + CHANGE_DELAY_S)

    def opened(
        self,
        peer: IdentityId,
        name: str,
        address: str,
        *,
        target: str | None,
        is_initiator: bool = True,
        can_follow: bool = False,
        now_ms: int = 0,
        dialled: str = "",
    ) -> bool:
        """Note that a session with `peer` is up, by a dial of `target` or by its own. Return True if it was absent.

        `dialled`: the address at which it was reached, "" when the peer dialled.
        """
        if peer not in self.peers and len(self.peers) >= CANDIDATES_MAX and (oldest := self.oldest_absent()):
            self._by_tag.pop(self.peers.pop(oldest).tag, None)
        if peer not in self.peers:
            self.peers[peer] = PeerEntry(peer, rank=self._entropy.uniform(0, 1))
        entry = self.peers[peer]
        if not entry.is_meeting:
            self._note_told(entry)
        entry.is_meeting = False
        was_absent = not entry.is_reachable
        entry.name, entry.address, entry.seen_ms = nfc(name), address, now_ms
        entry.is_reachable, entry.is_refused = True, False
        if dialled:
            entry.addresses = (dialled, *(each for each in entry.addresses if each != dialled))[:KNOWN_ADDRESSES_MAX]
        elif address and address not in entry.addresses:
            entry.addresses = (*entry.addresses[: KNOWN_ADDRESSES_MAX - 1], address)
        entry.reason = entry.reason if entry.was_met else ""
        entry.was_met, entry.can_follow = True, can_follow
        entry.sessions += 1
        entry.only_dials = not is_initiator and not self.answers(peer)
        if target in self.targets:
            self.targets[target].peer, self.targets[target].has_answered = peer, True
        return was_absent

    def met(
        self, peer: IdentityId, *, tag: bytes, models: Mapping[str, tuple[int, int]], listens_at: str | None
    ) -> None:
        """Note the contents of the hello of `peer`: its tag, by which its sightings are known, and its record models.

        `listens_at`: where the peer can be dialled, None where that is known already by our having dialled it.
        """
        entry = self.peers[peer]
        self._by_tag.pop(entry.tag, None)
        self._by_tag[tag] = peer
        entry.tag, entry.models = tag, models
        for target in list(self.targets.values()):
            if target.tag == tag:
                self._tie(target)
        if listens_at is not None and not any(listens_at in each.addresses for each in self.targets_of(peer)):
            self._keep(peer, (listens_at,))

    def closed(
        self,
        now_s: float,
        now_ms: int,
        peer: IdentityId,
        *,
        in_sync: bool | None,
        reason: str,
        is_fruitless: bool = False,
    ) -> None:
        """Note the end of a session with `peer`. `in_sync` None: it ended before that was known; nothing changes.

        `is_fruitless`: nothing was to be moved, or nothing could be.
        """
        entry = self.peers[peer]
        entry.sessions -= 1
        entry.seen_s, entry.seen_ms = now_s, now_ms
        for target in self.targets.values():
            if target.peer == peer:
                target.declined = 0
        if in_sync is not None:
            if in_sync and self._changes - entry.changes_by > entry.changes_told:
                in_sync, reason = None, _CHANGED
            entry.fruitless = entry.fruitless + 1 if is_fruitless else 0
            entry.in_sync, entry.reason = in_sync, reason
            entry.last_sync_ms = now_ms if in_sync else entry.last_sync_ms
            self._compare_next(now_s, entry, is_fruitless=is_fruitless and bool(in_sync))
        if entry.changed_meanwhile:
            entry.changed_meanwhile = False
            entry.compare_at_s = now_s + CHANGE_DELAY_S

    def _compare_next(self, now_s: float, entry: PeerEntry, *, is_fruitless: bool) -> None:
        """Set when `entry` is compared with next.

        Beside links, that is a net: with one of the other peers at a time, ever more seldom while it finds all equal.
        """
        if entry.is_following:
            entry.compare_at_s = NEVER
            return
        others = self.unfollowed() if self.is_linked else [entry]
        entry.compare_at_s = now_s + self._backoff.compare_s(len(others))
        self._fruitless = self._fruitless + 1 if is_fruitless else 0
        if self._fruitless > 1:
            for other in others:
                if other.compare_at_s > now_s:
                    wait_s = self._backoff.stretched_s(other.compare_at_s - now_s, len(others))
                    other.compare_at_s = now_s + wait_s

    def missed(self, peer: IdentityId, why: str) -> None:
        """Note that `peer` did not answer when a person asked for a session with it."""
        entry = self.peers.get(peer)
        if entry is not None and not entry.is_up:
            entry.is_reachable, entry.in_sync, entry.reason = False, None, why

    def doubted(self, peer: IdentityId, why: str) -> None:
        """Note that `peer` does not answer, though its link looks up: it is not shown as connected."""
        entry = self.peers[peer]
        entry.is_doubted, entry.in_sync, entry.reason = True, None, why

    def believed(self, peer: IdentityId) -> None:
        """Note that `peer` answered over its link after all."""
        self.peers[peer].is_doubted = False

    # -- links -------------------------------------------------------------------------------------------------------

    def link_tried(self, now_s: float, peer: IdentityId) -> None:
        """Note an attempt at a link with `peer`: the next one comes later."""
        entry = self.peers[peer]
        entry.link_losses += 1
        entry.follow_at_s = now_s + self._backoff.relink_s(entry.link_losses)

    def link_declined(self, peer: IdentityId) -> None:
        """Note that `peer` would not be followed, or has followers enough: others come first."""
        self.peers[peer].rank = 1 + self._entropy.uniform(0, 1)

    def rank_anew(self, peer: IdentityId) -> None:
        """Draw the rank of `peer` once more."""
        self.peers[peer].rank = self._entropy.uniform(0, 1)

    def linked(self, now_s: float, peer: IdentityId, *, is_leading: bool) -> None:
        """Note that a link with `peer` is up, opened by this node if `is_leading`."""
        entry = self.peers[peer]
        entry.is_following, entry.is_leading, entry.is_reachable = True, is_leading, True
        entry.is_doubted = False
        entry.compare_at_s, entry.linked_s = NEVER, now_s

    def link_equal(self, now_ms: int, peer: IdentityId) -> None:
        """Note that the link with `peer` found all that it follows equal."""
        entry = self.peers[peer]
        entry.in_sync, entry.reason, entry.last_sync_ms, entry.fruitless = True, "", now_ms, 0

    def suspected(self, now_s: float, peer: IdentityId) -> None:
        """Note that the root of `peer`, which is followed, stays another: compare, but not all the time."""
        entry = self.peers[peer]
        if now_s >= entry.suspected_s + self._backoff.suspect_s(entry.fruitless):
            entry.suspected_s = now_s
            entry.compare_at_s = min(entry.compare_at_s, now_s + CHANGE_DELAY_S)
            entry.changed_meanwhile |= entry.sessions > 0

    def unlinked(
        self, now_s: float, peer: IdentityId, *, now_ms: int = 0, silent: str | None = None
    ) -> PeerEntry | None:
        """Note the end of the link with `peer`, and find out soon whether it is still there.

        `silent`: why it is taken to be away, when it fell silent. Return it if it is absent from now on.
        """
        entry = self.peers[peer]
        entry.is_following, entry.is_doubted = False, False
        entry.seen_s, entry.seen_ms = now_s, max(entry.seen_ms, now_ms)
        if now_s - entry.linked_s > _LASTING_S:
            entry.link_losses = 0
        entry.follow_at_s = now_s + self._backoff.relink_s(entry.link_losses)
        entry.compare_at_s = min(entry.follow_at_s, now_s + _ASK_LOST_S)
        if silent is None or entry.sessions or not entry.is_reachable:
            return None
        entry.is_reachable, entry.in_sync, entry.reason = False, None, silent
        return entry

    # -- commits -----------------------------------------------------------------------------------------------------

    def store_changed(self, source: IdentityId | None, now_s: float) -> None:
        """Note that no peer is known to be equal any more, but for `source` where it sent what was stored in a session:
        that ends with a comparison. Over a link more may follow. Comparisons may be of use again."""
        self._changes += 1
        if source in self.peers:
            self.peers[source].changes_by += 1
        others = self.unfollowed() if self._fruitless > 1 else []
        for other in others:
            soon_s = now_s + self._backoff.compare_s(len(others) if self.is_linked else 1)
            other.compare_at_s = min(other.compare_at_s, soon_s)
        self._fruitless = 0
        for peer in self.peers.values():
            peer.fruitless = 0
            if peer.in_sync and (peer.id != source or peer.is_following):
                peer.in_sync, peer.reason = None, _CHANGED

    def compare_soon(self, now_s: float, peers: Iterable[IdentityId]) -> None:
        """Compare with `peers` in a moment, or right behind a session whose hello describes an earlier state."""
        for peer in peers:
            entry = self.peers[peer]
            entry.changed_meanwhile |= entry.sessions > 0 or entry.is_meeting
            entry.compare_at_s = min(entry.compare_at_s, now_s + CHANGE_DELAY_S)


def _told_by(peer: IdentityId) -> str:
    """Return the key of the target whose address came with the hello of `peer`."""
    return f"peer:{to_base32(peer)}"
