"""`snapshot`: a whole context into an empty one (PROTOCOL.md §8.3).

    initiator (empty)                           responder
      SnapshotInit(resume)            ->
                                      <-          Page(state of one read transaction, records, ..)
                                      <-          Page(..)  while there is credit: a window of pages to begin with
      Credit(1) per page staged       ->
                                      <-          Page(.., is_last)
      Done(root, final)               ->
                                      <-          Done(root)

Pages come in key order out of one read transaction. What came is staged, invisible; when the last page is in, the root
is recomputed from the staged leaves and compared with the first page's, and only then does the context appear. What a
cut-off conversation staged is kept, and any peer that serves the same root can go on with it.
"""

from collections.abc import Sequence

from echonode.errors import Reason, RemoteError
from echonode.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, WINDOW
from echonode.model.merkle import Digest
from echonode.model.record import LeafKey, Record, from_store
from echonode.store.port import SnapshotReader
from echonode.sync.asked import START, in_order
from echonode.sync.exchange import batches, expect, finish, note_seq, stamp, unexpected
from echonode.sync.intake import Pipeline
from echonode.sync.outcome import Conversation, Result
from echonode.wire.messages import PROTOCOL_VERSION, Credit, Done, Page, SnapshotInit


async def run_initiator(conversation: Conversation) -> Result:
    """Fill the empty `conversation.context` from the peer's. MOVED when it went on writing: walk the difference."""
    store, context = conversation.store, conversation.context
    staged = store.staged(context)
    resume = None if staged is None else (staged.root, staged.last_key)
    for _ in range(WINDOW):  # the pages that come unasked count as asked for here
        conversation.tally.ask()
    await conversation.transport.send(SnapshotInit(PROTOCOL_VERSION, context, resume))
    root, their_seq = await _receive(conversation)
    seq = store.seq(context)
    applied = await store.promote(context, expected=Digest(root))
    if applied is None and not conversation.tally.refused:
        raise RemoteError(Reason.BAD_RECORD, "the snapshot's records do not give the root it was announced with")
    if applied is not None:
        await _tell(conversation, seq)
        if not conversation.tally.refused and not applied.refused:
            conversation.tally.followed = their_seq  # whatever was written there since
    conversation.tally.forget_asked()
    theirs = await finish(conversation, stamp(conversation, is_final=True))
    if theirs == store.tree(context).root:
        return Result.EQUAL
    return Result.DIFFERENT if conversation.tally.refused else Result.MOVED


async def _tell(conversation: Conversation, seq: int) -> None:
    """Tell of what came into the log behind `seq`, in batches: promoting a snapshot does not list it."""
    while True:
        records, seq = await conversation.store.scan(conversation.context, seq, limit=BATCH_RECORDS_MAX)
        if not records:
            return
        conversation.on_applied(records)


async def _receive(conversation: Conversation) -> tuple[bytes, int]:
    """Stage every page; root and seq that the first one announced."""
    first = await expect(conversation, Page)
    conversation.tally.answered()
    if first.state is None:
        raise RemoteError(Reason.PROTOCOL_ERROR, "the first page says of no state")
    root, conversation.tally.total, seq, _ = first.state

    last = START

    async def stage(records: list[Record]) -> None:
        nonlocal last
        last = in_order(records, last)
        conversation.tally.refused += await conversation.store.stage(conversation.context, Digest(root), records)
        conversation.tally.received += len(records)
        conversation.on_progress(conversation.tally)

    pipeline = Pipeline(conversation.context)
    page = first
    try:
        while True:
            # An empty first page still has to begin the staging, or drop what another root left there.
            if page.records or page is first:
                await pipeline.put(page.records, stage)
            if page.is_last:
                break
            conversation.tally.ask()
            await conversation.transport.send(Credit(1))
            page = await expect(conversation, Page)
            conversation.tally.answered()
            if not page.records and not page.is_last:
                raise RemoteError(Reason.PROTOCOL_ERROR, "an empty page that is not the last")
        await pipeline.finish()
    finally:
        await pipeline.abandon()
    return root, seq


async def run_responder(conversation: Conversation, init: SnapshotInit) -> Result:
    """Serve the conversation that `init` opened."""
    async with conversation.store.snapshot(conversation.context) as reader:
        await _send_pages(conversation, reader, _resume_after(init, reader))
    while True:
        match await conversation.transport.recv():
            case Credit():
                pass
            case Done(root) as theirs:
                note_seq(conversation, theirs)
                ours = stamp(conversation, is_final=True)
                await conversation.transport.send(ours)
                return Result.EQUAL if root == ours.root else Result.MOVED
            case other:
                raise unexpected(other)


def _resume_after(init: SnapshotInit, reader: SnapshotReader) -> LeafKey | None:
    """The key behind which pages start: just before the last one staged, whose heads may have been cut apart."""
    if init.resume is None or init.resume[0] != reader.stamp.root:
        return None
    last = int.from_bytes(init.resume[1], "big")
    return LeafKey((last - 1).to_bytes(32, "big")) if last else None


async def _send_pages(conversation: Conversation, reader: SnapshotReader, after: LeafKey | None) -> None:
    stamped = reader.stamp
    state: tuple[bytes, int, int, bytes] | None = (stamped.root, stamped.count, stamped.seq, stamped.instance)
    conversation.tally.total = stamped.count
    credit = WINDOW
    is_last = False
    while not is_last:
        raws, is_last = await reader.page(after, records_max=BATCH_RECORDS_MAX, bytes_max=BATCH_BYTES_MAX)
        if raws:
            after = from_store(raws[-1]).key
        pages: Sequence[list[bytes]] = list(batches(raws)) or [[]]
        for number, records in enumerate(pages, 1):
            if credit == 0:
                credit += (await expect(conversation, Credit)).pages
            await conversation.transport.send(Page(state, tuple(records), is_last and number == len(pages)))
            state = None
            credit -= 1
            conversation.tally.sent += len(records)
            conversation.on_progress(conversation.tally)
