"""The messages of the protocol as frozen dataclasses, one file for each kind (PROTOCOL.md §6).

    session  conversation  version      in every session; in every mode; the version of the protocol
    records  tree  snapshot  delta  sketch  reconcile  on_demand      in the modes
    follow  pairing                     on links; in place of Auth, under an invitation

A message travels as a CBOR array: its `code`, then its fields in the order of the class. Classes without a code are
parts of messages. Not here: the bytes and the bounds of fields, which are in wire/codec.py. Callers import from this
package and not from its files.
"""

from typing import TypeAlias

from echonode.wire.messages.conversation import Direction, Done, Refused
from echonode.wire.messages.delta import Changes, DeltaInit
from echonode.wire.messages.follow import (
    Bodies,
    Commits,
    ContextCursor,
    ContextRoot,
    Follow,
    FollowInit,
    Lazy,
    Missing,
    Roots,
    Taken,
)
from echonode.wire.messages.on_demand import (
    GetInit,
    GetMore,
    Ids,
    PullInit,
    PullMore,
    PutInit,
    RecordId,
    RecordRequest,
)
from echonode.wire.messages.pairing import PairAnswer, PairConfirm, PairFinish, PairMember, PairStart
from echonode.wire.messages.reconcile import Reconcile, ReconcileInit, Want
from echonode.wire.messages.records import (
    OFFERED_STATE_BYTES,
    Credit,
    Fetch,
    Heads,
    LeafRequest,
    Offers,
    Put,
    Records,
    Refusal,
    Stored,
)
from echonode.wire.messages.session import (
    Auth,
    Close,
    Hello,
    IdentityOffer,
    Ping,
    Pong,
    Rotated,
    Seen,
    Summary,
    Turn,
)
from echonode.wire.messages.sketch import SketchAnswer, SketchEqual, SketchInit, SketchMore, SketchWant
from echonode.wire.messages.snapshot import Page, SnapshotInit
from echonode.wire.messages.tree import (
    CompareRequest,
    Differences,
    HashComparisonInit,
    LevelWiseInit,
    Nodes,
    NodesRequest,
)
from echonode.wire.messages.version import PROTOCOL_VERSION, version_text

InitPayload: TypeAlias = (
    LevelWiseInit
    | HashComparisonInit
    | SnapshotInit
    | DeltaInit
    | SketchInit
    | ReconcileInit
    | PullInit
    | GetInit
    | PutInit
)
"""Opens a conversation; its type selects the mode."""

LinkMessage: TypeAlias = FollowInit | Follow | Commits | Missing | Bodies | Roots | Taken | Lazy
"""Opens a link, or travels on it in either direction."""

Message: TypeAlias = (
    Auth
    | Hello
    | Close
    | Done
    | Refused
    | Ping
    | Pong
    | Turn
    | InitPayload
    | NodesRequest
    | Nodes
    | CompareRequest
    | Differences
    | Credit
    | Page
    | SketchMore
    | SketchAnswer
    | SketchEqual
    | SketchWant
    | Fetch
    | Records
    | Put
    | Stored
    | Changes
    | Reconcile
    | Want
    | Offers
    | Heads
    | PullMore
    | Ids
    | GetMore
    | LinkMessage
    | PairStart
    | PairAnswer
    | PairConfirm
    | PairFinish
    | PairMember
    | Rotated
)
"""The payload of a frame, decoded."""

__all__ = [
    "OFFERED_STATE_BYTES",
    "PROTOCOL_VERSION",
    "Auth",
    "Bodies",
    "Changes",
    "Close",
    "Commits",
    "CompareRequest",
    "ContextCursor",
    "ContextRoot",
    "Credit",
    "DeltaInit",
    "Differences",
    "Direction",
    "Done",
    "Fetch",
    "Follow",
    "FollowInit",
    "GetInit",
    "GetMore",
    "HashComparisonInit",
    "Heads",
    "Hello",
    "IdentityOffer",
    "Ids",
    "InitPayload",
    "Lazy",
    "LeafRequest",
    "LevelWiseInit",
    "LinkMessage",
    "Message",
    "Missing",
    "Nodes",
    "NodesRequest",
    "Offers",
    "Page",
    "PairAnswer",
    "PairConfirm",
    "PairFinish",
    "PairMember",
    "PairStart",
    "Ping",
    "Pong",
    "PullInit",
    "PullMore",
    "Put",
    "PutInit",
    "Reconcile",
    "ReconcileInit",
    "RecordId",
    "RecordRequest",
    "Records",
    "Refusal",
    "Refused",
    "Roots",
    "Rotated",
    "Seen",
    "SketchAnswer",
    "SketchEqual",
    "SketchInit",
    "SketchMore",
    "SketchWant",
    "SnapshotInit",
    "Stored",
    "Summary",
    "Taken",
    "Turn",
    "Want",
    "version_text",
]
