"""Whole conversations between two stores over the paired transport, in virtual time. A deadlock raises."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from echonode.errors import EchonodeError
from echonode.model.identity import IdentityId, Instance
from echonode.model.record import MAIN, Record, supersedes
from echonode.node.mode_table import spec_of
from echonode.sim.event_loop import run
from echonode.store.port import Cursor, Store
from echonode.sync.conversation import Conversation, Result
from echonode.sync.executor import Executor, InitiatorOptions
from echonode.sync.filtered_set import FilteredSets
from echonode.sync.modes import hash_comparison, level_wise, reconcile, sketch
from echonode.wire.messages import Changes, Done, InitPayload, Message, Put, Records
from tests.sync.pair import Cut, PairedTransport, conversation, paired

T = TypeVar("T")
Opener = Callable[..., Awaitable[Any]]
Hook = Callable[[int, Message], Awaitable[None]]


def initiator_of(
    executor: Executor[InitiatorOptions, Any, Result], *, cursor: Cursor | None = None, **preset: Any
) -> Opener:
    """Return a function that runs the initiator of `executor`. Its keyword arguments are InitiatorOptions; `preset` are
    their defaults. `cursor`: how far the initiator has followed the responder's log."""

    async def run_initiator(conversation: Conversation, **options: Any) -> Result:
        if cursor is not None:
            conversation = replace(conversation, cursor=cursor)
        return await executor.run_initiator(conversation, InitiatorOptions(**{**preset, **options}))

    return run_initiator


WALKS: dict[str, Opener] = {
    "level_wise": initiator_of(level_wise),
    **{f"hash_comparison to depth {depth}": initiator_of(hash_comparison, max_depth=depth) for depth in (1, 2, 3, 4)},
}


# The modes that make two stores equal when both hold something.
AGREEING: dict[str, Opener] = {**WALKS, "reconcile": initiator_of(reconcile)}
# Every way to make any two stores equal in both directions. A new mode joins the properties here.
MODES: dict[str, Opener] = {
    "level_wise": initiator_of(level_wise),
    "level_wise from a lower level": initiator_of(level_wise, expected=300),
    "hash_comparison": initiator_of(hash_comparison),
    "sketch": initiator_of(sketch, expected=None),
    "sketch, told that little differs": initiator_of(sketch, expected=1),
    "reconcile": initiator_of(reconcile),
}


def virtually(main: Coroutine[Any, Any, T], *, seed: int = 0) -> T:
    return run(main, seed=seed)


@dataclass
class Talk:
    """One conversation that is over: how it ended on each side, and all messages."""

    ours: Conversation
    theirs: Conversation
    our_end: Result | EchonodeError = Result.REFUSED
    their_end: Result | EchonodeError = Result.REFUSED
    said: list[Message] = field(default_factory=list)
    # The versions that the responder held each time it sent a Done.
    at_done: list[set[bytes]] = field(default_factory=list)

    @property
    def moved(self) -> tuple[int, ...]:
        """Records that travelled either way, counted for each message."""
        return tuple(len(message.records) for message in self.said if isinstance(message, Records | Put | Changes))


class _Overheard(PairedTransport):
    """A paired transport that writes down every message, and calls a hook behind each."""

    talk: Talk
    hook: Hook | None = None

    async def send(self, message: Message) -> None:
        if isinstance(message, Done) and self is self.talk.theirs.transport:
            self.talk.at_done.append(versions_in(self.talk.theirs.store, self.talk.theirs.context))
        await super().send(message)
        self.talk.said.append(message)
        if self.hook is not None:
            await self.hook(len(self.talk.said), message)


def overheard(
    ours: Store, theirs: Store, *, context: str = MAIN, cut: Cut | None = None, hook: Hook | None = None
) -> Talk:
    ends = [_Overheard(end._inbox, end._outbox, end._cut) for end in paired(cut)]
    talk = Talk(conversation(ends[0], ours, context), conversation(ends[1], theirs, context))
    for end in ends:
        end.talk, end.hook = talk, hook
    return talk


async def converse(
    ours: Store,
    theirs: Store,
    opener: Opener,
    *,
    context: str = MAIN,
    cut: int | None = None,
    hook: Hook | None = None,
    followed: int | None = None,
    wants_there: Callable[[Record], bool] | None = None,
    sets_there: FilteredSets | None = None,
    **options: Any,
) -> Talk:
    """Run the conversation that `opener` opens. It breaks after `cut` messages. `followed`: how far the responder has
    followed its initiator; `wants_there`: what the responder keeps; `sets_there`: its filtered sets. Raises only errors
    that no peer causes."""
    talk = overheard(ours, theirs, context=context, cut=Cut(cut), hook=hook)
    sets = sets_there or FilteredSets()
    talk.theirs = replace(talk.theirs, wants=wants_there, cursor=_cursor(context, followed), filtered_sets=sets)
    talk.our_end, talk.their_end = await asyncio.gather(
        to_its_end(talk.ours, opener(talk.ours, **options)), to_its_end(talk.theirs, serve(talk.theirs))
    )
    return talk


async def to_its_end(conversation: Conversation, work: Awaitable[Result]) -> Result | EchonodeError:
    """Return how `work` ends, and end the stream, so that the other side ends too."""
    try:
        return await work
    except EchonodeError as error:
        return error
    finally:
        conversation.transport.end()  # type: ignore[attr-defined]


async def serve(conversation: Conversation) -> Result:
    """Serve the conversation that the first message opens, by the mode table's executor."""
    init = await conversation.transport.recv()
    assert isinstance(init, InitPayload), init
    return await spec_of(init).executor.run_responder(conversation, init)


def _cursor(context: str, seq: int | None) -> Cursor | None:
    return None if seq is None else Cursor(IdentityId(bytes(32)), Instance(bytes(8)), context, seq)


def versions_in(store: Store, context: str = MAIN) -> set[bytes]:
    """Return the ids of all heads that a memory store holds."""
    return {head.id for heads in store._heads.get(context, {}).values() for head in heads}  # type: ignore[attr-defined]


def heads_in(store: Store, context: str = MAIN) -> list[Record]:
    return [head for heads in store._heads.get(context, {}).values() for head in heads]  # type: ignore[attr-defined]


def lacks(store: Store, records: list[Record], context: str = MAIN) -> list[Record]:
    """Return those of `records` that `store` neither holds nor has superseded."""
    leaves = store._heads.get(context, {})  # type: ignore[attr-defined]
    return [
        record
        for record in records
        if not any(head.id == record.id or supersedes(head, record) for head in leaves.get(record.key, []))
    ]
