"""The modes this node runs: what a hello says of them, and the two places where a mode selects its code."""

from collections.abc import Collection
from typing import Final, assert_never

from echonode.errors import LocalError
from echonode.model.filter import Filter
from echonode.node.subscriptions import EVERYTHING, SERVED_IN_PART
from echonode.store.port import Cursor
from echonode.sync.conversation import Conversation, Result
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

# Exactly the modes that `respond` can run (I11).
MODES: Final = (Mode.LEVEL_WISE, Mode.HASH_COMPARISON, Mode.SNAPSHOT, Mode.DELTA, Mode.SKETCH, *SERVED_IN_PART)


def in_common(theirs: Collection[str], direction: Direction) -> list[Mode]:
    """The modes that both sides run and that serve this direction: one way, a sketch proves nothing."""
    ours = MODES if direction is Direction.BOTH else [mode for mode in MODES if mode is not Mode.SKETCH]
    return [mode for mode in ours if mode.value in theirs]


async def initiate(
    conversation: Conversation,
    mode: Mode,
    direction: Direction,
    width: int,
    cursor: Cursor | None,
    wanted: Filter | None,
    expected: int | None,
) -> Result:
    """Open a conversation of that mode. `wanted`: the part of the context that is kept here, None for all of it;
    `expected`: about how many leaves differ, as selected."""
    match mode:
        case Mode.LEVEL_WISE:
            return await level_wise.run_initiator(conversation, direction, width=width, expected=expected)
        case Mode.HASH_COMPARISON:
            return await hash_comparison.run_initiator(conversation, direction, width=width)
        case Mode.SNAPSHOT:
            return await snapshot.run_initiator(conversation)
        case Mode.DELTA:
            assert cursor is not None, "selected for its cursor"
            return await delta.run_initiator(conversation, cursor, direction)
        case Mode.SKETCH:
            return await sketch.run_initiator(conversation, expected=expected)
        case Mode.RECONCILE:
            return await reconcile.run_initiator(
                conversation, wanted or EVERYTHING, direction, follows_all=wanted is not None
            )
        case Mode.PULL | Mode.GET | Mode.PUT:
            raise LocalError(f"{mode.value} is asked for, never selected")
        case _:
            assert_never(mode)


async def respond(conversation: Conversation, init: InitPayload, followed: int | None) -> Result:
    """Serve the conversation that `init` opens. `followed`: how far we have followed its initiator."""
    match init:
        case LevelWiseInit():
            return await level_wise.run_responder(conversation, init)
        case HashComparisonInit():
            return await hash_comparison.run_responder(conversation, init)
        case SnapshotInit():
            return await snapshot.run_responder(conversation, init)
        case DeltaInit():
            return await delta.run_responder(conversation, init, followed)
        case SketchInit():
            return await sketch.run_responder(conversation, init)
        case ReconcileInit():
            return await reconcile.run_responder(conversation, init)
        case PullInit():
            return await pull.run_responder(conversation, init)
        case GetInit():
            return await get.run_responder(conversation, init)
        case PutInit():
            return await put.run_responder(conversation, init)
        case _:
            assert_never(init)


def mode_of(init: InitPayload) -> Mode:
    """The mode that `init` opens."""
    match init:
        case LevelWiseInit():
            return Mode.LEVEL_WISE
        case HashComparisonInit():
            return Mode.HASH_COMPARISON
        case SnapshotInit():
            return Mode.SNAPSHOT
        case DeltaInit():
            return Mode.DELTA
        case SketchInit():
            return Mode.SKETCH
        case ReconcileInit():
            return Mode.RECONCILE
        case PullInit():
            return Mode.PULL
        case GetInit():
            return Mode.GET
        case PutInit():
            return Mode.PUT
        case _:
            assert_never(init)
