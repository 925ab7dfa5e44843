"""What the scheduler knows of targets and peers, and what it decides. Values only; times are a monotonic clock's."""

from dataclasses import dataclass

from echonode.model.identity import IdentityId


@dataclass(slots=True)
class Target:
    """Something to dial. `key` names it; `found_by` is "mdns", "static" or "peer"."""

    key: str
    found_by: str
    addresses: tuple[str, ...]
    peer: IdentityId | None = None
    is_ours: bool = True  # of our network; others are listed, never dialled
    tag: bytes = b""  # what it announced: its tag of this start, and whether who made that knows our network key
    group: bytes = b""
    slot: str | None = None  # it has an invitation open
    attempt: int = 0
    settled: int = 0  # dials in a row that it answered and did not want
    not_before_s: float = 0.0
    is_dialling: bool = False
    has_answered: bool = False  # a session came of it
    is_self: bool = False
    is_refused: bool = False  # who answers there keeps us out
    is_gone: bool = False  # withdrawn while it was dialled: forgotten when that is over
    reason: str = ""


@dataclass(slots=True)
class PeerEntry:
    """A peer's standing. `compare_at_s`: when to compare roots next."""

    id: IdentityId
    name: str = ""
    address: str = ""
    sessions: int = 0
    compare_at_s: float = 0.0
    changed_meanwhile: bool = False
    is_meeting: bool = False  # a session is being opened, and our hello may be made already
    seen_s: float = 0.0  # when its last session ended
    is_reachable: bool = False
    is_refused: bool = False  # it keeps us out
    rank: float = 0.0  # drawn; the lowest are followed
    can_follow: bool = False  # it speaks that mode
    is_following: bool = False  # a link is up
    is_leading: bool = False  # and we opened it
    link_losses: int = 0  # attempts in a row that led to no link that lasted
    follow_at_s: float = 0.0  # not before, when it is among those to follow
    linked_s: float = 0.0  # when the link began
    suspected_s: float = float("-inf")  # when its root last stayed another
    only_dials: bool = False  # it reaches us, and we do not reach it: a firewall, as a rule
    in_sync: bool | None = None
    last_sync_ms: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DialNow:
    """Open a session to this target, addresses in order of preference."""

    target: str
    addresses: tuple[str, ...]
