"""Messages: what a frame's payload decodes to, as frozen dataclasses (PROTOCOL.md §6, echonode.cddl).

A message is a CBOR array: its code, then its fields in the order of the class. `wire/codec.py` turns them into
bytes and back, and holds the shape and bound of every field.

    session       Auth  Hello  Turn  Close  Ping  Pong                      who we are, and the way out
    InitPayload   LevelWiseInit  HashComparisonInit  SnapshotInit  ..       opens a conversation, selects its mode
    tree          NodesRequest  Nodes  CompareRequest  Differences          what differs
    records       Fetch  Records  Put  Stored  Credit  Page                 what moves
    single modes  wire/messages/filtered.py  .._messages.py                   what is new, or wanted, or differs
    end           Done  Refused                                             equal, or why not
    pairing       PairStart  ..  (pairing_messages)                         instead of Auth, under an open invitation
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, TypeAlias

from echonode.wire.messages.filtered import Asked as Asked
from echonode.wire.messages.filtered import GetInit as GetInit
from echonode.wire.messages.filtered import GetMore as GetMore
from echonode.wire.messages.filtered import Heads as Heads
from echonode.wire.messages.filtered import Ids as Ids
from echonode.wire.messages.filtered import Offers as Offers
from echonode.wire.messages.filtered import PullInit as PullInit
from echonode.wire.messages.filtered import PullMore as PullMore
from echonode.wire.messages.filtered import PutInit as PutInit
from echonode.wire.messages.filtered import Reconcile as Reconcile
from echonode.wire.messages.filtered import ReconcileInit as ReconcileInit
from echonode.wire.messages.filtered import RecordId as RecordId
from echonode.wire.messages.filtered import Want as Want
from echonode.wire.messages.log import Bodies as Bodies
from echonode.wire.messages.log import Changes as Changes
from echonode.wire.messages.log import Commits as Commits
from echonode.wire.messages.log import DeltaInit as DeltaInit
from echonode.wire.messages.log import Follow as Follow
from echonode.wire.messages.log import FollowInit as FollowInit
from echonode.wire.messages.log import Lazy as Lazy
from echonode.wire.messages.log import Mark as Mark
from echonode.wire.messages.log import Missing as Missing
from echonode.wire.messages.log import Place as Place
from echonode.wire.messages.log import Roots as Roots
from echonode.wire.messages.log import Taken as Taken
from echonode.wire.messages.pairing import PairAnswer as PairAnswer
from echonode.wire.messages.pairing import PairConfirm as PairConfirm
from echonode.wire.messages.pairing import PairFinish as PairFinish
from echonode.wire.messages.pairing import PairStart as PairStart
from echonode.wire.messages.sketch import SketchAnswer as SketchAnswer
from echonode.wire.messages.sketch import SketchInit as SketchInit
from echonode.wire.messages.sketch import SketchMore as SketchMore
from echonode.wire.messages.snapshot import Credit as Credit
from echonode.wire.messages.snapshot import Page as Page
from echonode.wire.messages.snapshot import SnapshotInit as SnapshotInit

PROTOCOL_VERSION: Final = (1, 0)
OFFERED_STATE_BYTES: Final = 16  # so many of the state of a leaf that is offered


def dotted(version: tuple[int, int]) -> str:
    """A version as people and `supported` have it."""
    return f"{version[0]}.{version[1]}"


class Direction(IntEnum):
    """Which way records may move in a conversation, as its initiator sees it."""

    BOTH = 0
    SEND = 1
    RECEIVE = 2


# -- parts of messages -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offer:
    """An identity the sender speaks for: the key, the root's statement of it, and a signature over the handshake."""

    identity: bytes
    key: bytes
    statement: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Summary:
    """A context as a hello tells it. `level1` is the branch part (see `Nodes`) of the root at 16 bytes a digest."""

    context: str
    root: bytes
    count: int
    seq: int
    level1: bytes
    is_partial: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """Leaves to fetch below `prefix`: those whose digests stand concatenated in `leaves`, or all of them when it is
    None; all of them starts behind the key `after`, when given."""

    prefix: bytes
    leaves: bytes | None
    after: bytes | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A record that was offered and not taken."""

    version: bytes
    reason: int


# -- messages --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Auth:
    """The first offer is the node's own identity and device key; the rest are pools it is a member of."""

    code: ClassVar[int] = 1
    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True)
class Hello:
    """`seen`: per instance of the other's device key, the highest counter held here. `port` is 0 when not listening."""

    code: ClassVar[int] = 2
    version: tuple[int, int]
    session: bytes
    name: str
    tag: bytes
    instance: bytes
    port: int
    models: dict[str, tuple[int, int]]
    modes: tuple[str, ...]
    contexts: tuple[Summary, ...]
    seen: dict[bytes, int]


@dataclass(frozen=True, slots=True)
class Close:
    """The explicit end of a session (H10). EOF without it is a failed session."""

    code: ClassVar[int] = 3
    reason: int
    supported: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """What the sender's tree holds now, recomputed, never copied from the peer.

    The responder answers with its own Done; the conversation is over when both roots are equal, or the initiator's Done
    was final."""

    code: ClassVar[int] = 4
    root: bytes
    count: int
    seq: int
    is_final: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """The answer to an InitPayload that will not be served; the session goes on."""

    code: ClassVar[int] = 5
    reason: int
    supported: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there?"""

    code: ClassVar[int] = 6


@dataclass(frozen=True, slots=True)
class Pong:
    """Yes."""

    code: ClassVar[int] = 7


@dataclass(frozen=True, slots=True)
class Turn:
    """The receiver may now open conversations. `contexts`: those the sender leaves to it, being empty there."""

    code: ClassVar[int] = 8
    contexts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LevelWiseInit:
    """Opens `level_wise`. `width`: bytes of each digest on the wire, 16 or 32."""

    code: ClassVar[int] = 16
    version: tuple[int, int]
    context: str
    direction: int
    width: int
    prefixes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class NodesRequest:
    """Asks what stands at each of these prefixes."""

    code: ClassVar[int] = 17
    prefixes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Nodes:
    """One part per prefix, in order; `root` is the sender's at that moment.

    A part is a kind byte, then: 0 (branch) two bytes naming the non-empty children, first child in the highest bit,
    and their digests in order; 1 (bucket) the digests of its leaves in key order.
    """

    code: ClassVar[int] = 18
    root: bytes
    parts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class HashComparisonInit:
    """Opens `hash_comparison`. `children` is the initiator's own branch part of the root."""

    code: ClassVar[int] = 20
    version: tuple[int, int]
    context: str
    direction: int
    width: int
    max_depth: int
    children: bytes


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """What differs below `prefix`, where the sender has the branch part `children`?"""

    code: ClassVar[int] = 21
    prefix: bytes
    children: bytes


@dataclass(frozen=True, slots=True)
class Differences:
    """(prefix, part) pairs, parents before children; parts as in `Nodes`, for what differs and lies deepest."""

    code: ClassVar[int] = 22
    root: bytes
    parts: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Fetch:
    """Asks for all heads of these leaves."""

    code: ClassVar[int] = 32
    wanted: tuple[Wanted, ...]


@dataclass(frozen=True, slots=True)
class Records:
    """Versions as received by the sender, and what of the request did not fit: ask for that next. An answer may take
    several messages; all but its last have `more` set and an empty `rest`."""

    code: ClassVar[int] = 33
    records: tuple[bytes, ...]
    rest: tuple[Wanted, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class Put:
    """Versions the receiver lacks."""

    code: ClassVar[int] = 34
    records: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a Put: how many are heads now, how many were not new, and which were refused and why."""

    code: ClassVar[int] = 35
    stored: int
    had: int
    refused: tuple[Refusal, ...]


AskingInit: TypeAlias = ReconcileInit | PullInit | GetInit | PutInit
InitPayload: TypeAlias = LevelWiseInit | HashComparisonInit | SnapshotInit | DeltaInit | SketchInit | AskingInit
# What follows a FollowInit, from either side.
LinkMessage: TypeAlias = FollowInit | Follow | Commits | Missing | Bodies | Roots | Taken | Lazy
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
)
