"""The table of sync modes: a row says what a mode is opened by, what runs it, and when a node declines it.

A new mode is a member of `Mode`, a message of `InitPayload`, a module in sync/modes, a row here and an arm of
`spec_of`. The type checker names a member or a message that has no arm, and a module that is no executor.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar, assert_never

from echonode.store.port import Store
from echonode.sync.executor import Executor
from echonode.sync.modes import delta, get, hash_comparison, level_wise, pull, put, reconcile, sketch, snapshot
from echonode.sync.select import Mode
from echonode.wire.messages import (
    DeltaInit,
    Direction,
    GetInit,
    HashComparisonInit,
    InitPayload,
    LevelWiseInit,
    PullInit,
    PutInit,
    ReconcileInit,
    SketchInit,
    SnapshotInit,
)

_Opening = TypeVar("_Opening")
_Init = TypeVar("_Init", bound=InitPayload)
_Answer = TypeVar("_Answer")


def _is_never_stale(_init: InitPayload, _store: Store) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeSpec(Generic[_Opening, _Init, _Answer]):
    """One sync mode.

    `init`             the message that opens it; its class is the dispatch key
    `executor`         both sides of the conversation
    `serves_one_way`   it can prove that nothing is missing when records move one way only
    `serves_part`      a node that wants only a part of the context serves it too: it claims nothing about the whole
    `brings_records`   its initiator brings records: declined as busy while another peer fills the context
    `is_limited`       few run at once: declined as busy while RECONCILES_MAX of them run
    `is_stale`         True for an opening that names a place this store's log does not have: declined as stale cursor
    """

    mode: Mode
    init: type[_Init]
    executor: Executor[_Opening, _Init, _Answer]
    serves_one_way: bool = True
    serves_part: bool = False
    brings_records: bool = True
    is_limited: bool = False
    is_stale: Callable[[_Init, Store], bool] = _is_never_stale


LEVEL_WISE: Final = ModeSpec(mode=Mode.LEVEL_WISE, init=LevelWiseInit, executor=level_wise)
HASH_COMPARISON: Final = ModeSpec(mode=Mode.HASH_COMPARISON, init=HashComparisonInit, executor=hash_comparison)
SNAPSHOT: Final = ModeSpec(mode=Mode.SNAPSHOT, init=SnapshotInit, executor=snapshot, brings_records=False)
DELTA: Final = ModeSpec(mode=Mode.DELTA, init=DeltaInit, executor=delta, is_stale=delta.is_stale)
SKETCH: Final = ModeSpec(mode=Mode.SKETCH, init=SketchInit, executor=sketch, serves_one_way=False)
RECONCILE: Final = ModeSpec(
    mode=Mode.RECONCILE, init=ReconcileInit, executor=reconcile, serves_part=True, is_limited=True
)
PULL: Final = ModeSpec(
    mode=Mode.PULL, init=PullInit, executor=pull, serves_part=True, brings_records=False, is_stale=pull.is_stale
)
GET: Final = ModeSpec(mode=Mode.GET, init=GetInit, executor=get, serves_part=True, brings_records=False)
PUT: Final = ModeSpec(mode=Mode.PUT, init=PutInit, executor=put, serves_part=True)

AnyMode: TypeAlias = ModeSpec[Any, Any, Any]


def spec_of(opening: InitPayload | Mode) -> AnyMode:
    """Return the row of a mode, or of the mode that an opening message opens."""
    match opening:
        case LevelWiseInit() | Mode.LEVEL_WISE:
            return LEVEL_WISE
        case HashComparisonInit() | Mode.HASH_COMPARISON:
            return HASH_COMPARISON
        case SnapshotInit() | Mode.SNAPSHOT:
            return SNAPSHOT
        case DeltaInit() | Mode.DELTA:
            return DELTA
        case SketchInit() | Mode.SKETCH:
            return SKETCH
        case ReconcileInit() | Mode.RECONCILE:
            return RECONCILE
        case PullInit() | Mode.PULL:
            return PULL
        case GetInit() | Mode.GET:
            return GET
        case PutInit() | Mode.PUT:
            return PUT
        case _:
            assert_never(opening)


# Every mode has a row, so a node serves all of them, and a hello lists exactly what is served (I11).
MODES: Final = tuple(Mode)
SERVED_IN_PART: Final = tuple(mode for mode in MODES if spec_of(mode).serves_part)


def in_common(theirs: Collection[str], direction: Direction) -> list[Mode]:
    """Return the modes that both sides run and that serve `direction`. `theirs`: the names in the peer's hello."""
    ours = [mode for mode in MODES if direction is Direction.BOTH or spec_of(mode).serves_one_way]
    return [mode for mode in ours if mode.value in theirs]
