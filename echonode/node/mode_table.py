"""The modes this node runs: what a hello says of them, and the two places where a mode selects its code."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, assert_never

from echonode.errors import LocalError, Reason, RemoteError
from echonode.model.filter import Filter
from echonode.model.identity import IdentityId, Instance
from echonode.model.merkle import Tree
from echonode.node.handshake import Session
from echonode.node.subscriptions import EVERYTHING, SERVED_IN_PART
from echonode.store.port import Cursor, Store
from echonode.sync import tree_parts
from echonode.sync.conversation import Conversation, Result
from echonode.sync.modes import delta, get, hash_comparison, level_wise, pull, put, reconcile, sketch, snapshot
from echonode.sync.select import Mode, State
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
    Summary,
)

# Exactly the modes that `respond` can run (I11).
MODES: Final = (Mode.LEVEL_WISE, Mode.HASH_COMPARISON, Mode.SNAPSHOT, Mode.DELTA, Mode.SKETCH, *SERVED_IN_PART)

_EMPTY_ROOT: Final = Tree().root
_EMPTY_LEVEL1: Final = tree_parts.encode_branch(Tree().children_at(b""), 16)


def summarise(store: Store, context: str, *, is_partial: bool = False) -> Summary:
    """What a hello says of `context`."""
    tree = store.tree(context)
    level1 = tree_parts.encode_branch(tree.children_at(b""), 16)
    return Summary(context, tree.root, len(tree), store.seq(context), level1, is_partial)


def empty(context: str) -> Summary:
    """What a hello would say of a context that it does not mention."""
    return Summary(context, _EMPTY_ROOT, 0, 0, _EMPTY_LEVEL1, False)


def state_of(summary: Summary) -> State:
    """The peer's side of a selection."""
    level1 = tree_parts.decode(summary.level1, 16)
    if isinstance(level1, list):
        raise RemoteError(Reason.PROTOCOL_ERROR, "a summary's first level is a branch")
    return State(summary.root, summary.count, level1, summary.seq, is_partial=summary.is_partial)


@dataclass(frozen=True, slots=True)
class Following:
    """How far one peer's log has been followed: that of the instance its hello names."""

    store: Store
    peer: IdentityId
    instance: Instance

    @classmethod
    def of(cls, store: Store, session: Session) -> "Following":
        """The peer of `session`."""
        return cls(store, session.peer.id, Instance(session.hello.instance))

    def cursor(self, context: str) -> Cursor | None:
        """The cursor, None when there is none or it is of another life of the peer's store."""
        cursor = self.store.cursor(self.peer, context)
        return cursor if cursor is not None and cursor.instance == self.instance else None

    def seq(self, context: str) -> int | None:
        """The same as a seq."""
        cursor = self.cursor(context)
        return None if cursor is None else cursor.seq

    def reached(self, context: str, seq: int) -> None:
        """Nothing of the peer's log up to `seq` is missing here."""
        self.store.note(Cursor(self.peer, self.instance, context, seq))

    def next_mode(self, context: str, was: Mode, served: Collection[str]) -> Mode:
        """What to go on with when writes moved a root during `was`: what it leaves behind tells where to begin."""
        has_cursor = was in (Mode.SNAPSHOT, Mode.DELTA) and self.cursor(context) is not None
        return Mode.DELTA if has_cursor and Mode.DELTA.value in served else Mode.LEVEL_WISE

    def our_state(self, context: str, is_partial: bool) -> State:
        """Our side of a selection. `is_partial`: only a part of the context is wanted here."""
        tree = self.store.tree(context)
        level1 = tree_parts.cut(tree.children_at(b""), 16)
        return State(tree.root, len(tree), level1, self.store.seq(context), self.seq(context), is_partial)


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
