"""What happens in a node, as values. Log lines, metrics, API events and the simulator's trace are readings of these.

An event's `name` is its stable dotted name in the log, `level` the severity there, its fields the log's keys. Nothing
here formats or writes. Bytes are ids; whoever shows them uses `text.to_base32`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from echonode.model.identity import IdentityId
from echonode.model.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStarted:
    name: ClassVar[str] = "node.started"
    level: ClassVar[str] = "info"
    id: bytes
    node_name: str
    network: str
    listen: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStopped:
    name: ClassVar[str] = "node.stopped"
    level: ClassVar[str] = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRenewed:
    """The store was restored, cloned or rolled back: a peer knew more of our writer than we do."""

    name: ClassVar[str] = "node.instance_renewed"
    level: ClassVar[str] = "warning"
    instance: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSighted:
    name: ClassVar[str] = "peer.sighted"
    level: ClassVar[str] = "info"
    address: str
    found_by: str
    same_network: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConnected:
    """The first session since a peer was absent."""

    name: ClassVar[str] = "peer.connected"
    level: ClassVar[str] = "info"
    peer: bytes
    peer_name: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAbsent:
    name: ClassVar[str] = "peer.absent"
    level: ClassVar[str] = "info"
    peer: bytes
    peer_name: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PinViolated:
    """Somebody came under a name or address pinned to another identity. A person decides."""

    name: ClassVar[str] = "peer.identity_changed"
    level: ClassVar[str] = "warning"
    kind: str
    value: str
    pinned: bytes
    offered: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFailed:
    name: ClassVar[str] = "session.failed"
    level: ClassVar[str] = "warning"
    session: bytes
    peer: bytes
    address: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncCompleted:
    """One conversation, one outcome; the same session id stands on both nodes."""

    name: ClassVar[str] = "sync.completed"
    level: ClassVar[str] = "info"
    session: bytes
    peer: bytes
    context: str
    mode: str
    reason: str
    role: str
    outcome: str
    verified: bool
    sent: int
    received: int
    refused: int
    bytes_sent: int
    bytes_received: int
    round_trips: int
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncProgress:
    """A long conversation moved on; for progress bars, never for the log at its usual level."""

    name: ClassVar[str] = "sync.progress"
    level: ClassVar[str] = "debug"
    session: bytes
    peer: bytes
    context: str
    mode: str
    received: int
    sent: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowBegan:
    """A session goes on as a link: each tells the other what it stores."""

    name: ClassVar[str] = "follow.began"
    level: ClassVar[str] = "info"
    session: bytes
    peer: bytes
    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowEnded:
    """A link is over. Of what was `announced`, most came by other links; the rest was `fetched`."""

    name: ClassVar[str] = "follow.ended"
    level: ClassVar[str] = "info"
    session: bytes
    peer: bytes
    why: str
    sent: int
    received: int
    had: int
    announced: int
    fetched: int
    refused: int
    bytes_sent: int
    bytes_received: int
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEqual:
    """The peer of a link says that all it tells of is equal. For parts of the node; neither logged nor shown."""

    peer: IdentityId


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRefused:
    name: ClassVar[str] = "record.refused"
    level: ClassVar[str] = "warning"
    peer: bytes
    context: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsApplied:
    """Versions that became heads, in the order they were applied. `source` is a peer's id, or empty for our own."""

    name: ClassVar[str] = "records.applied"
    level: ClassVar[str] = "debug"
    context: str
    source: bytes
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordForked:
    """One writer gave one counter to two versions: its store was put back, or it lies. Both are kept, as a conflict."""

    name: ClassVar[str] = "record.forked"
    level: ClassVar[str] = "warning"
    peer: bytes
    context: str
    author: bytes
    record: str
    version: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TimestampAhead:
    """A record's timestamp lies further ahead than clocks honestly differ: the peer's clock is wrong, or ours is. The
    record is kept; our clock does not follow it."""

    name: ClassVar[str] = "record.timestamp_ahead"
    level: ClassVar[str] = "warning"
    peer: bytes
    context: str
    record: str
    ahead_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InvitationOpened:
    name: ClassVar[str] = "invitation.opened"
    level: ClassVar[str] = "info"
    slot: str
    uses: int
    expires_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InvitationUsed:
    name: ClassVar[str] = "invitation.used"
    level: ClassVar[str] = "info"
    slot: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InvitationRefused:
    name: ClassVar[str] = "invitation.refused"
    level: ClassVar[str] = "warning"
    address: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkJoined:
    name: ClassVar[str] = "network.joined"
    level: ClassVar[str] = "info"
    network: str


Event: TypeAlias = (
    NodeStarted
    | NodeStopped
    | InstanceRenewed
    | PeerSighted
    | PeerConnected
    | PeerAbsent
    | PinViolated
    | SessionFailed
    | SyncCompleted
    | SyncProgress
    | FollowBegan
    | FollowEnded
    | RecordRefused
    | RecordsApplied
    | RecordForked
    | TimestampAhead
    | InvitationOpened
    | InvitationUsed
    | InvitationRefused
    | NetworkJoined
)
Observer: TypeAlias = Callable[[Event], None]
