"""`snapshot`: a whole context into an empty one (PROTOCOL.md §8.3).

    initiator (empty)                           responder
      SnapshotInit(resume)            ->
                                      <-          Page(state of one read transaction, records, ..)
                                      <-          Page(..)  while there is credit: a window of pages to begin with
      Credit(1) per page staged       ->
                                      <-          Page(.., is_last)
      Done(root, final)               ->
                                      <-          Done(root)

Pages come in key order out of one read transaction, or several that show the same root: none is held open for long.
What came is staged, invisible; when the last page is in, the root is recomputed from the staged leaves and compared
with the first page's, and only then does the context appear. What a cut-off conversation staged is kept, and any peer
that serves the same root can go on with it. One that has moved on says so (a page that `is_cut`): then what is staged,
every version of it verified, is merged, and walking brings the rest. So whoever never stops writing keeps nobody from
finishing, however often the connection is cut.
"""

from collections.abc import Sequence

from echonode.errors import Reason, RemoteError
from echonode.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, WINDOW
from echonode.model.merkle import Digest
from echonode.model.record import LeafKey, Record, from_store
from echonode.store.port import Applied, SnapshotOverError, SnapshotReader, Staged, StateStamp
from echonode.sync.agreement import batches, expect, finish, note_seq, stamp, unexpected
from echonode.sync.answer_check import START, in_order
from echonode.sync.conversation import Conversation, Result
from echonode.sync.executor import DEFAULTS, InitiatorOptions
from echonode.sync.tasks import whole
from echonode.sync.verify_apply import Pipeline
from echonode.wire.messages import PROTOCOL_VERSION, Credit, Done, Page, SnapshotInit


async def run_initiator(conversation: Conversation, _: InitiatorOptions = DEFAULTS) -> Result:
    """Fill the empty `conversation.context` from the peer's. MOVED when it went on writing: walk the difference."""
    store, context = conversation.store, conversation.context
    staged = store.staged(context)
    resume = None if staged is None else (staged.root, staged.last_key)
    for _page in range(WINDOW):  # the pages that come unasked count as asked for here
        conversation.tally.ask()
    await conversation.transport.send(SnapshotInit(PROTOCOL_VERSION, context, resume))
    root, their_seq = await _receive(conversation, staged)
    applied = await whole(_promote(conversation, None if root is None else Digest(root)))
    if applied is None and not conversation.tally.refused:
        raise RemoteError(Reason.BAD_RECORD, "the snapshot's records do not give the root it was announced with")
    if applied is not None and root is not None and not conversation.tally.refused and not applied.refused:
        conversation.tally.followed = their_seq  # whatever was written there since
    conversation.tally.forget_asked()
    theirs = await finish(conversation, stamp(conversation, is_final=True))
    if theirs == store.tree(context).root:
        return Result.EQUAL
    return Result.DIFFERENT if conversation.tally.refused else Result.MOVED


async def merge_left_over(conversation: Conversation) -> None:
    """Merge what a snapshot left staged that nobody will go on with. Every version of it is verified."""
    if conversation.store.staged(conversation.context) is not None:
        await whole(_promote(conversation, None))


async def _promote(conversation: Conversation, expected: Digest | None) -> Applied | None:
    """Make what is staged visible, and tell of it in batches: promoting does not list it."""
    store, context = conversation.store, conversation.context
    seq = store.seq(context)
    applied = await store.promote(context, expected=expected)
    while applied is not None:
        records, seq = await store.scan(context, seq, limit=BATCH_RECORDS_MAX)
        if not records:
            break
        conversation.on_applied(records)
    return applied


async def _receive(conversation: Conversation, staged: Staged | None) -> tuple[bytes | None, int]:
    """Stage every page; root and seq that the first one announced, no root when the peer cut it short."""
    first = await expect(conversation, Page)
    conversation.tally.answered()
    if first.state is None:
        raise RemoteError(Reason.PROTOCOL_ERROR, "the first page says of no state")
    root, count, seq, _ = first.state
    if staged is not None and staged.root != root:
        await merge_left_over(conversation)  # what came is not lost to what comes
    is_resumed = staged is not None and staged.root == root
    conversation.tally.total = max(0, count - staged.count) if is_resumed and staged is not None else count
    last = START

    async def stage(records: list[Record]) -> None:
        nonlocal last
        last = in_order(records, last)
        conversation.tally.refuse(await conversation.store.stage(conversation.context, Digest(root), records))
        conversation.tally.received += len(records)
        conversation.on_progress(conversation.tally)

    pipeline = Pipeline(conversation.context)
    page = first
    try:
        while True:
            # An empty first page still has to begin the staging.
            if page.records or (page is first and not page.is_cut):
                await pipeline.put(page.records, stage)
            if page.is_cut and not page.is_last:
                raise RemoteError(Reason.PROTOCOL_ERROR, "what is cut short has a last page")
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
    return None if page.is_cut else root, seq


async def run_responder(conversation: Conversation, init: SnapshotInit) -> Result:
    """Serve the conversation that `init` opened."""
    sender: _Sender | None = None
    while sender is None or not sender.is_over:
        # A transaction that has been open for too long is followed by another, while that shows the same.
        async with conversation.store.snapshot(conversation.context) as reader:
            if sender is None:
                sender = _Sender(conversation, init, reader.stamp)
            await sender.send(reader)
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


class _Sender:
    """Sends the pages of one state, as long as it is to be had."""

    def __init__(self, conversation: Conversation, init: SnapshotInit, stamped: StateStamp) -> None:
        self._conversation = conversation
        self._root = init.resume[0] if init.resume else stamped.root  # what the initiator is after
        self._after = _just_before(init.resume[1]) if init.resume else None
        self._state: tuple[bytes, int, int, bytes] | None = (
            stamped.root,
            stamped.count,
            stamped.seq,
            stamped.instance,
        )
        self._credit = WINDOW
        self.is_over = False
        conversation.tally.total = stamped.count

    async def send(self, reader: SnapshotReader) -> None:
        """All that `reader` shows from here on, or that it is not what was asked for; `is_over` then. Comes back early
        when it may be read no longer."""
        is_to_be_had, has_shown = reader.stamp.root == self._root, False
        while is_to_be_had and not self.is_over:
            try:
                raws, is_last = await reader.page(
                    self._after, records_max=BATCH_RECORDS_MAX, bytes_max=BATCH_BYTES_MAX
                )
            except SnapshotOverError:
                if has_shown:
                    return
                break  # not even a page could be read: it is not going to get better
            has_shown = True
            if raws:
                self._after = from_store(raws[-1]).key
            pages: Sequence[list[bytes]] = list(batches(raws)) or [[]]
            for number, records in enumerate(pages, 1):
                await self._page(records, is_last=is_last and number == len(pages))
        if not self.is_over:
            await self._page([], is_last=True, is_cut=True)

    async def _page(self, records: list[bytes], *, is_last: bool, is_cut: bool = False) -> None:
        conversation = self._conversation
        if self._credit == 0:
            self._credit += (await expect(conversation, Credit)).pages
        await conversation.transport.send(Page(self._state, tuple(records), is_last, is_cut))
        self._state = None
        self._credit -= 1
        self.is_over = is_last
        conversation.tally.sent += len(records)
        conversation.on_progress(conversation.tally)


def _just_before(last: bytes) -> LeafKey | None:
    """The key behind which pages go on: just before the last one staged, whose heads may have been cut apart."""
    number = int.from_bytes(last, "big")
    return LeafKey((number - 1).to_bytes(32, "big")) if number else None
