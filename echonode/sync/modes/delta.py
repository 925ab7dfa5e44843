"""`delta`: the changes behind a cursor in the peer's log, then those of ours it has not followed (PROTOCOL.md §8.9).

    initiator                                   responder
      DeltaInit(instance, since)      ->
                                      <-          Changes(seq, records, ..)   while there is credit: a window of them
      Credit(1) per Changes taken     ->
                                      <-          Changes(.., is_last, followed)
      Put(records)  x window          ->                                      our log behind `followed`, if there is one
      Done(root, final)               ->
                                      <-          Stored
                                      <-          Done(root)

The log holds heads only: superseded versions have left it. Each Changes is stored together with the cursor it leads to,
so a conversation that is cut off goes on from there. A version whose key is unknown stops the cursor in front of it.
"""

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Final

from echonode.errors import Reason, RemoteError
from echonode.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, DELTA_RECORDS_MAX, VERIFY_CHUNK
from echonode.model.record import Record, VersionId
from echonode.store.port import Cursor, Store
from echonode.sync.conversation import Conversation, Result
from echonode.sync.done import end
from echonode.sync.executor import DEFAULTS, InitiatorOptions
from echonode.sync.record_batches import batches
from echonode.sync.responder import Responder
from echonode.sync.transfer import CreditedSender, PutWindow, request_pages
from echonode.sync.transport import unexpected
from echonode.sync.verify_apply import Pipeline, merge
from echonode.wire.messages import PROTOCOL_VERSION, Changes, Credit, DeltaInit, Direction, Done, Put

_PARTS: Final = 4  # of the rest of the changes: a message holds one of them, and
_LEAST: Final = 2 * VERIFY_CHUNK  # no fewer than two threads verify at once: each message costs its receiver a commit


async def run_initiator(conversation: Conversation, options: InitiatorOptions = DEFAULTS) -> Result:
    """Catch up with the peer's log from the conversation's cursor on. Return MOVED when one side went on writing: then
    the caller repeats it from the new cursor."""
    store, context, tally = conversation.store, conversation.context, conversation.tally
    direction, cursor = options.direction, conversation.cursor
    assert cursor is not None, "delta is selected where there is a cursor"
    receiver = _ChangesReceiver(conversation, cursor)
    last = await receiver.receive(direction)
    upto, followed = store.seq(context), None if direction is Direction.RECEIVE else last.followed
    puts = PutWindow(conversation)
    # A peer that has followed this log further than it goes has followed another life of this store.
    if followed is not None and followed <= upto and not receiver.brought_all(followed, upto):
        await puts.put(_our_changes(conversation, followed, upto, receiver.seen))
    theirs = await end(conversation, puts)
    if theirs.root == conversation.tree.root:
        return Result.EQUAL
    if tally.refused or tally.refused_there:
        return Result.DIFFERENT
    return Result.MOVED if theirs.seq > last.seq or store.seq(context) > upto else Result.DIFFERENT


class _ChangesReceiver:
    """Receives the peer's changes and stores them with the cursor. `seen`: the versions that came."""

    def __init__(self, conversation: Conversation, cursor: Cursor) -> None:
        self._conversation = conversation
        self._cursor = cursor
        self._is_stopped = False  # the cursor may not pass a version whose key is unknown
        self.seen: set[VersionId] = set()
        self._before = conversation.store.seq(conversation.context)
        self._heads = 0  # of these versions, those that became heads

    async def receive(self, direction: Direction) -> Changes:
        """Receive, verify and store all changes. Return the last message. Raises RemoteError for changes that no log
        can hold."""
        context, cursor = self._conversation.context, self._cursor
        init = DeltaInit(PROTOCOL_VERSION, context, direction, cursor.instance, cursor.seq)
        reached, room = cursor.seq, DELTA_RECORDS_MAX
        pages = request_pages(self._conversation, init, Changes)
        async with aclosing(pages), Pipeline(context) as pipeline:
            async for changes in pages:
                room -= len(changes.records)
                # Every record has its own seq, above those before it.
                if changes.seq < reached + len(changes.records) or room < 0:
                    raise RemoteError(Reason.PROTOCOL_ERROR, "changes that cannot stand in a log like that")
                if not changes.records and not changes.is_last:
                    raise RemoteError(Reason.PROTOCOL_ERROR, "no change, and more to come")
                reached = changes.seq
                await pipeline.put(changes.records, partial(self._store, reached))
        return changes

    def brought_all(self, after: int, upto: int) -> bool:
        """Return True when all that stands in our log behind the seq `after`, up to `upto`, came just now. Every head
        took a seq of its own: then none is left over."""
        return after <= self._before and upto - after == self._heads

    async def _store(self, seq: int, records: list[Record]) -> None:
        ids = {record.id for record in records}
        if len(ids) < len(records) or not self.seen.isdisjoint(ids):
            raise RemoteError(Reason.PROTOCOL_ERROR, "a version that stands in the log twice")
        self.seen |= ids
        cursor = None if self._is_stopped else replace(self._cursor, seq=seq)
        applied = await merge(self._conversation, records, cursor)
        self._heads += sum(record.id in ids for record in applied.records)
        self._is_stopped |= applied.is_gap
        if len(records) < BATCH_RECORDS_MAX:
            self._conversation.tree.digest_at(b"")  # near the end: its root is to be found soon, with little left to do


async def _our_changes(
    conversation: Conversation, after: int, upto: int, known: Collection[VersionId]
) -> AsyncGenerator[list[bytes], None]:
    """Yield the records of our log behind seq `after`, up to seq `upto`, without the versions in `known`."""
    while after < upto:
        entries, after = await conversation.store.changes(
            conversation.context, after, records_max=BATCH_RECORDS_MAX, bytes_max=BATCH_BYTES_MAX
        )
        for batch in batches(entry.raw for entry in entries if entry.version not in known):
            yield batch


def is_stale(init: DeltaInit, store: Store) -> bool:
    """Return True when `init` names a seq that the log of `store` has not reached, or another life of the store."""
    return init.instance != store.instance or init.since > store.seq(init.context)


async def run_responder(conversation: Conversation, init: DeltaInit) -> Result:
    """Serve the conversation that `init` opened. Its cursor, if any, tells how far the initiator was followed here."""
    followed = None if conversation.cursor is None else conversation.cursor.seq
    if init.direction == Direction.SEND:
        await conversation.transport.send(Changes(init.since, (), True, followed))
    else:
        await _send_changes(conversation, init.since, followed if init.direction == Direction.BOTH else None)
    answers = Responder(conversation, init.direction, width=16)
    while True:
        match await conversation.transport.recv():
            case Credit():
                pass  # credit for messages that were not needed
            case (Put() | Done(is_final=True)) as message:
                if (result := await answers.answer(message)) is not None:
                    return result
            case other:
                raise unexpected(other)


async def _send_changes(conversation: Conversation, after: int, followed: int | None) -> None:
    target = conversation.store.seq(conversation.context)  # later changes are left to the next conversation
    sender, room, is_last = CreditedSender(conversation), DELTA_RECORDS_MAX, False
    while not is_last:
        # A part of the rest, so that the peer verifies while more is read, and has little left to do after the last.
        part = min(room, BATCH_RECORDS_MAX, max(_LEAST, (target - after) // _PARTS))
        entries, after = await conversation.store.changes(
            conversation.context, after, records_max=part, bytes_max=BATCH_BYTES_MAX
        )
        room -= len(entries)
        is_last = after >= target or room == 0
        raws = tuple(entry.raw for entry in entries)
        await sender.send(Changes(after, raws, is_last, followed if is_last else None))
