"""Views: what a node shows to people, as values. The API and the command line read these."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from echonode.model.identity import IdentityId, Instance
from echonode.node.events import SyncCompleted
from echonode.node.pauses import Pause
from echonode.store.port import ContextInfo, HistoryInfo


def on_the_way(changes: int) -> str:
    """Return `1 change is on its way`, `2 changes are on their way`."""
    return "1 change is on its way" if changes == 1 else f"{changes:,} changes are on their way"


class PeerState(Enum):
    """The state of a peer. The value is the word that is shown."""

    CONNECTED = "connected"  # a session is open now
    REACHABLE = "reachable"  # it answered when last asked
    ABSENT = "absent"  # it was met, or is configured, and does not answer
    GONE = "gone"  # it was met, and not seen for PEER_GONE_DAYS
    SIGHTED = "sighted"  # announced, never spoken with
    OTHER_NETWORK = "other network"
    LEFT_OUT = "left out"  # the network was rotated without it
    COPY = "copy"  # another process with the identity of this node; `reason` says what to do
    PENDING = "pending"  # never met, and not let in until a person decides
    REJECTED = "rejected"  # kept out, as a person decided
    PAUSED = "paused"  # no session is wanted here for a while; `reason` says until when
    REFUSED = "refused"  # kept out here, or keeps this node out; `reason` says why


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerView:
    """One peer.

    `label`        the name, with the beginning of the id where another node has the same
    `in_sync`      None when unknown
    `last_seen_ms` when a session with it was last up, None if there was none
    `reason`       why it is not equal or not connected, in a plain sentence, about `address`
    `following`    a link is up, over which each side tells the other what it stores
    `lag`          how many changes here it has not taken yet, None without a link
    `in_step`      nothing differs but what is in flight over the link
    `since_ms`     when the link began, or when the peer was last heard of
    `models`       the record models that are read there
    `unreadable`   of these, those that are read here in another major: a record for one reader is none for the other
    `is_denied`    its records are hidden here
    """

    id: IdentityId | None
    name: str
    state: PeerState
    address: str
    found_by: str
    in_sync: bool | None
    last_sync_ms: int | None
    reason: str
    label: str = ""
    last_seen_ms: int | None = None
    following: bool = False
    lag: int | None = None
    models: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    in_step: bool = False
    since_ms: int | None = None
    is_denied: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """The node itself. `network`: a short public name, or "open"; `invitation`: the number of the open invitation.

    `label`: the name, with the beginning of the id where a peer has the same; `handshakes_dropped`: as too many were
    under way, since the start; `key_problem`: what is the matter with this device's key, and what to do, "" if nothing
    is; `joining`: it looks for the network that it is to join; `left_out_by`: peers that say that the network was
    rotated without this node.
    """

    id: IdentityId
    name: str
    label: str
    instance: Instance
    network: str
    listen: tuple[str, ...]
    contexts: tuple[ContextInfo, ...]
    history: HistoryInfo
    peers: tuple[PeerView, ...]
    invitation: str | None
    handshakes_dropped: int
    key_problem: str
    joining: bool
    pause: Pause | None = None  # of this node with every peer
    left_out_by: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftBehind:
    """The network that this node left for another one.

    `peers`: how many of it could be reached; `past_pool`: the label of its `shared`, "" where the new one is the same.
    """

    network: str
    peers: int
    past_pool: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationReport:
    """A rotation that was made here: the short name of the network now, and which nodes get the new secret.

    `copied`: how many records of `shared` were copied into the new one; `past_pool`: the label of the one before, ""
    where it is the same.
    """

    network: str
    members: tuple[IdentityId, ...]
    copied: int
    past_pool: str


class SyncStatus(Enum):
    """The end of a sync on demand with one peer. The value is the word that is shown."""

    VERIFIED = "verified"
    PARTIAL = "partial"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """One peer's part in a sync on demand. No conversations: nothing differed, or `error` says why there is none.

    `peer` None: a configured address, in `name`, that led to no peer."""

    peer: IdentityId | None
    name: str
    status: SyncStatus
    conversations: tuple[SyncCompleted, ...]
    error: str
