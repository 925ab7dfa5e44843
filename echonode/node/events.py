"""Events: everything that happens in a node, as values. The log, API events and the simulator read the same ones.

`name` is the stable dotted name in the log, `level` the severity there; the fields are the keys of the log line.
Nothing here formats or writes. Bytes are ids; a reader shows them by `text.to_base32`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from echonode.model.identity import IdentityId
from echonode.model.record import Record, VersionId
from echonode.node.audit_events import StoreAudited as StoreAudited
from echonode.node.audit_events import StoreDamaged as StoreDamaged
from echonode.node.life_events import CaughtUp as CaughtUp
from echonode.node.life_events import InstanceRenewed as InstanceRenewed
from echonode.node.life_events import OtherLifeMet as OtherLifeMet
from echonode.node.life_events import RecordSignedAgain as RecordSignedAgain
from echonode.node.network_events import InvitationOpened as InvitationOpened
from echonode.node.network_events import InvitationRefused as InvitationRefused
from echonode.node.network_events import InvitationUsed as InvitationUsed
from echonode.node.network_events import NetworkJoined as NetworkJoined
from echonode.node.network_events import NetworkLeftOut as NetworkLeftOut
from echonode.node.network_events import NetworkRotated as NetworkRotated
from echonode.node.network_events import RotationRefused as RotationRefused
from echonode.node.pauses import NodePaused as NodePaused
from echonode.node.pauses import NodeResumed as NodeResumed
from echonode.node.trust import PeerPending as PeerPending
from echonode.node.trust import TrustChanged as TrustChanged
from echonode.store.port import Outranked, VoidedVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStarted:
    """The node is up. `listen`: HOST:PORT of every address on which streams come in."""

    name: ClassVar[str] = "node.started"
    level: ClassVar[str] = "info"
    id: bytes
    node_name: str
    network: str
    listen: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStopped:
    """The node is down, and every session with it."""

    name: ClassVar[str] = "node.stopped"
    level: ClassVar[str] = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSighted:
    """Discovery saw a node for the first time. `same_network`: it is of ours."""

    name: ClassVar[str] = "peer.sighted"
    level: ClassVar[str] = "info"
    address: str
    found_by: str
    same_network: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConnected:
    """A session with a peer that was absent until now, or is new."""

    name: ClassVar[str] = "peer.connected"
    level: ClassVar[str] = "info"
    session: bytes
    peer: bytes
    peer_name: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAbsent:
    """A peer does not answer any more, or took its leave. `why`: in a plain sentence."""

    name: ClassVar[str] = "peer.absent"
    level: ClassVar[str] = "info"
    peer: bytes
    peer_name: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PinViolated:
    """A peer claimed an identity that is known here with a key that its root never stated. Nothing of it is kept."""

    name: ClassVar[str] = "peer.identity_changed"
    level: ClassVar[str] = "warning"
    kind: str
    value: str
    pinned: bytes
    offered: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySeen:
    """Another process has this node's keys: a copy of its home runs at `address`."""

    name: ClassVar[str] = "node.copy_seen"
    level: ClassVar[str] = "warning"
    address: str
    what_to_do: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRenamed:
    """A person gave this node another name."""

    name: ClassVar[str] = "node.renamed"
    level: ClassVar[str] = "info"
    node_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerUnreachable:
    """A configured address does not lead to a session. Told at the first of `attempts`, then once an hour."""

    name: ClassVar[str] = "peer.unreachable"
    level: ClassVar[str] = "warning"
    address: str
    found_by: str
    attempts: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerForgotten:
    """A person had this node forget a peer."""

    name: ClassVar[str] = "peer.forgotten"
    level: ClassVar[str] = "info"
    peer: bytes
    peer_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakesDropped:
    """Connections were closed before their handshake, as too many were under way (PROTOCOL.md §5.5).

    Told at the first, with the address of its peer; `count` adds up those since the last such event.
    """

    name: ClassVar[str] = "handshakes.dropped"
    level: ClassVar[str] = "warning"
    address: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFailed:
    """A session ended early. `reason`: a word for programs; `detail`: a sentence; `peer`: empty when unknown."""

    name: ClassVar[str] = "session.failed"
    level: ClassVar[str] = "warning"
    session: bytes
    peer: bytes
    address: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncCompleted:
    """One conversation is over, with one outcome. Both nodes report the same session id."""

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
    """A long conversation moved more records. Progress bars read it; it is below the usual level of the log."""

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
    """A session goes on as a link, over which each side tells the other what it stores."""

    name: ClassVar[str] = "follow.began"
    level: ClassVar[str] = "info"
    session: bytes
    peer: bytes
    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowEnded:
    """A link is over. Of the versions that were `announced`, most came by other links; the rest were `fetched`."""

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
    """A version of a peer was not stored: the first of a conversation that was refused."""

    name: ClassVar[str] = "record.refused"
    level: ClassVar[str] = "warning"
    session: bytes
    peer: bytes
    context: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTaken:
    """A record file was taken in, or as much of it as could be. `by` and `by_name`: who wrote it, as it says itself;
    `received`: versions that became heads; `why`: how the reading ended, in a sentence."""

    name: ClassVar[str] = "file.taken"
    level: ClassVar[str] = "info"
    by: bytes
    by_name: str
    received: int
    had: int
    refused: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsApplied:
    """Versions became heads, in the order in which they were applied. `source`: a peer's id, empty for our own, this
    node's for those of a file."""

    name: ClassVar[str] = "records.applied"
    level: ClassVar[str] = "debug"
    context: str
    source: bytes
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsStaged:
    """Versions of a peer wait, verified, for the rest of their snapshot. An event for handlers alone."""

    source: bytes
    records: Sequence[Record]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextShown:
    """A context that was empty shows the heads of a snapshot: they were told of while they were staged. An event for
    handlers alone; SyncCompleted says the number to others, and RecordsApplied each record while a stream is open.

    `latest`: the ids of the heads that came last; `count`: the number of all heads."""

    context: str
    source: bytes
    latest: Sequence[VersionId]
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordConflict:
    """A record has several heads from now on: nodes wrote it without knowing of each other's version."""

    name: ClassVar[str] = "record.conflict"
    level: ClassVar[str] = "warning"
    context: str
    author: bytes
    record: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordConflictResolved:
    """A record that was in conflict has one head again."""

    name: ClassVar[str] = "record.conflict_resolved"
    level: ClassVar[str] = "info"
    context: str
    author: bytes
    record: str


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
class RecordOutranked:
    """Versions of one record do not fit beside its other heads (PROTOCOL.md §4.4).

    The best of them are kept until there is room. `count`: how many; `version`: the one of the highest rank; `peer` is
    empty if they were written here.
    """

    name: ClassVar[str] = "record.outranked"
    level: ClassVar[str] = "warning"
    peer: bytes
    context: str
    author: bytes
    record: str
    version: bytes
    count: int

    @classmethod
    def of(cls, outranked: Outranked, *, peer: bytes, context: str) -> "RecordOutranked":
        """Return the event for versions that came from `peer`."""
        return cls(
            peer=peer,
            context=context,
            author=outranked.author,
            record=outranked.name,
            version=outranked.versions[0],
            count=len(outranked.versions),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordVoided:
    """A version is no head any more: its key was stated compromised. It stays readable in the history.

    `key` signed it; `peer` brought the statement, and is empty if it was written here.
    """

    name: ClassVar[str] = "record.voided"
    level: ClassVar[str] = "warning"
    peer: bytes
    context: str
    author: bytes
    record: str
    version: bytes
    key: bytes

    @classmethod
    def of(cls, voided: VoidedVersion, *, peer: bytes) -> "RecordVoided":
        """Return the event for a version that a statement from `peer` made void."""
        return cls(
            peer=peer,
            context=voided.context,
            author=voided.author,
            record=voided.name,
            version=voided.version,
            key=voided.key,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRevoked:
    """The key that this device signs with was stated retired or compromised."""

    name: ClassVar[str] = "key.revoked"
    level: ClassVar[str] = "error"
    key: bytes
    state: str
    what_to_do: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimestampAhead:
    """A record's timestamp lies further ahead than honest clocks differ: the clock of the peer is wrong, or ours is.

    The record is kept; our clock does not follow it.
    """

    name: ClassVar[str] = "record.timestamp_ahead"
    level: ClassVar[str] = "warning"
    peer: bytes
    context: str
    record: str
    ahead_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLevelSet:
    """A person had the log written from another level on. `for_s` None: as long as the node runs; `peer`: of one."""

    name: ClassVar[str] = "log.level_set"
    level: ClassVar[str] = "warning"
    to: str
    for_s: float | None
    peer: bytes


Event: TypeAlias = (
    NodeStarted
    | NodeStopped
    | InstanceRenewed
    | CaughtUp
    | NodePaused
    | NodeResumed
    | PeerSighted
    | PeerPending
    | TrustChanged
    | PeerConnected
    | PeerAbsent
    | PinViolated
    | CopySeen
    | NodeRenamed
    | PeerUnreachable
    | PeerForgotten
    | HandshakesDropped
    | SessionFailed
    | SyncCompleted
    | SyncProgress
    | FollowBegan
    | FollowEnded
    | RecordRefused
    | FileTaken
    | RecordsApplied
    | StoreAudited
    | StoreDamaged
    | RecordConflict
    | RecordConflictResolved
    | RecordForked
    | RecordSignedAgain
    | RecordOutranked
    | RecordVoided
    | KeyRevoked
    | TimestampAhead
    | InvitationOpened
    | InvitationUsed
    | InvitationRefused
    | NetworkJoined
    | LogLevelSet
    | NetworkRotated
    | NetworkLeftOut
    | RotationRefused
)
Inside: TypeAlias = LinkEqual | RecordsStaged | OtherLifeMet | ContextShown  # the parts of the node alone hear of these
Observer: TypeAlias = Callable[[Event], None]
