"""What a person asks of a node, as values: the API and the CLI show these."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from echonode.model.identity import IdentityId, Instance
from echonode.node.events import SyncCompleted
from echonode.store.port import ContextInfo


class PeerState(Enum):
    """Where a peer stands. The value is what is shown."""

    CONNECTED = "connected"  # a session is open now
    REACHABLE = "reachable"  # it answered when last asked
    ABSENT = "absent"  # it was met and does not answer
    SIGHTED = "sighted"  # seen, never spoken to
    OTHER_NETWORK = "other network"
    REFUSED = "refused"  # kept out, or keeps us out; `reason` says why


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerView:
    """One peer. `in_sync` is None when unknown; `reason` says in a plain sentence why not equal or not connected, about
    `address`. `following`: a link is up, and each tells the other what it stores; `lag`: how many changes here it has
    not taken yet, None without a link; `in_step`: nothing differs but what is in flight over the link. `since_ms`: when
    the link began, or when the peer was last heard of. `models`: those that are read there; `unreadable`: which of them
    are known here in another major, so that what is written for one reader is not for the other."""

    id: IdentityId | None
    name: str
    state: PeerState
    address: str
    found_by: str
    in_sync: bool | None
    last_sync_ms: int | None
    reason: str
    following: bool = False
    lag: int | None = None
    models: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    in_step: bool = False
    since_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """The node itself. `network` is a short public name of the network, or "open"; `invitation` the open one's slot."""

    id: IdentityId
    name: str
    instance: Instance
    network: str
    listen: tuple[str, ...]
    contexts: tuple[ContextInfo, ...]
    peers: tuple[PeerView, ...]
    invitation: str | None


class SyncStatus(Enum):
    """How a sync that somebody asked for ended with one peer."""

    VERIFIED = "verified"
    PARTIAL = "partial"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """One peer's part in a sync that somebody asked for. No conversations: there was nothing to do, or `error` says.
    `peer` is None for an address that is configured and where no peer was met; `name` is that address then."""

    peer: IdentityId | None
    name: str
    status: SyncStatus
    conversations: tuple[SyncCompleted, ...]
    error: str
