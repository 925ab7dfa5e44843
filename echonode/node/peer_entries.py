"""The two kinds of entries of the peer table. Only node/peer_table.py writes their fields; all others read them.

    Target      something that can be dialled: a sighting, a configured address, an address that a peer told
    PeerEntry   an identity that proved itself, now or before this start

Times are seconds of a monotonic clock, but for those that end in _ms.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from echonode.model.identity import IdentityId
from echonode.store.port import KnownPeer

NEVER: Final = float("inf")


@dataclass(slots=True)
class Target:
    """Something to dial. `key` names it; `found_by` is "mdns", "static" or "peer"."""

    key: str
    found_by: str
    addresses: tuple[str, ...]
    peer: IdentityId | None = None
    is_ours: bool = True  # of our network; others are listed, never dialled
    tag: bytes = b""  # announced: the tag of the node's present start
    group: bytes = b""  # announced: a proof, for members, that the announcing node knows our network key
    slot: str | None = None  # the number of the invitation that is open there
    attempt: int = 0  # failed dials in a row
    declined: int = 0  # dials in a row that were answered and not wanted
    not_before_s: float = 0.0
    is_dialling: bool = False
    has_answered: bool = False  # a session came of it
    misleading: dict[str, float] = field(default_factory=dict)  # address -> until when it is not dialled
    is_refused: bool = False  # the node that answers there keeps us out
    is_gone: bool = False  # withdrawn during a dial: forgotten at the end of that
    reason: str = ""
    reported_s: float = -NEVER  # when its failures were last reported

    @property
    def is_static(self) -> bool:
        """True when the configuration or a person named it."""
        return self.found_by == "static"

    def addresses_at(self, now_s: float) -> tuple[str, ...]:
        """Return the addresses to dial: not those that led to another node a while ago, or to this very node."""
        return tuple(each for each in self.addresses if self.misleading.get(each, 0.0) <= now_s)

    @property
    def free_at_s(self) -> float:
        """The time from which on an address may be dialled."""
        return min((self.misleading.get(each, 0.0) for each in self.addresses), default=0.0)

    @property
    def is_misleading(self) -> bool:
        """True when every address led elsewhere when last dialled."""
        return bool(self.addresses) and all(each in self.misleading for each in self.addresses)


@dataclass(slots=True)
class PeerEntry:
    """One peer. `compare_at_s`: when to compare roots next."""

    id: IdentityId
    name: str = ""
    address: str = ""
    addresses: tuple[str, ...] = ()  # at which it was reached, the latest first; the last may be one that it told
    seen_ms: int = 0  # wall clock: when its last session began or ended, or its link ended
    saved: KnownPeer | None = None  # what the store has of it
    tag: bytes = b""  # of its present start, as its hello gave it
    models: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # the record models that are read there
    full_in: tuple[str, ...] = ()  # contexts in which it takes no more records of this node: its quota is used up
    sessions: int = 0  # that go on
    was_met: bool = False  # in this run of the node
    changes_told: int = 0  # of our store, when our hello to it was made
    changes_by: int = 0  # of our store, by records that it sent
    compare_at_s: float = 0.0
    changed_meanwhile: bool = False  # during a session, so that this one may not have seen it
    is_meeting: bool = False  # a session is being opened, and our hello may be made already
    seen_s: float = 0.0  # when its last session ended
    is_reachable: bool = False
    is_refused: bool = False  # it keeps us out
    rank: float = 0.0  # drawn; the lowest are followed
    can_follow: bool = False  # both sides speak that mode
    is_following: bool = False  # a link is up
    is_leading: bool = False  # this node opened the link
    link_losses: int = 0  # attempts in a row that led to no link that lasted
    follow_at_s: float = 0.0  # not before, when it is among those to follow
    linked_s: float = 0.0  # when the link began
    is_doubted: bool = False  # it failed to answer elsewhere; its link has to show that it is there
    suspected_s: float = -NEVER  # when its root last stayed another
    fruitless: int = 0  # comparisons in a row that changed nothing
    only_dials: bool = False  # it reaches us, and we do not reach it: a firewall, as a rule
    in_sync: bool | None = None
    last_sync_ms: int | None = None
    reason: str = ""

    @property
    def is_up(self) -> bool:
        """True while a session or a link is up."""
        return self.sessions > 0 or self.is_following
