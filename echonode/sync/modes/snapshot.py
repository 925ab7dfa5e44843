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

from collections.abc import AsyncGenerator
from contextlib import aclosing

from echonode.errors import Reason, RemoteError
from echonode.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX
from echonode.model.merkle import Digest
from echonode.model.record import LeafKey, Record, from_store
from echonode.store.port import Applied, SnapshotOverError, SnapshotReader, Staged, StateStamp
from echonode.sync.answer_check import START, in_order
from echonode.sync.conversation import Conversation, Result
from echonode.sync.done import done_of, end, note_followed
from echonode.sync.executor import DEFAULTS, InitiatorOptions
from echonode.sync.record_batches import batches_to_last
from echonode.sync.tasks import whole
from echonode.sync.transfer import CreditedSender, request_pages
from echonode.sync.transport import unexpected
from echonode.sync.verify_apply import Pipeline
from echonode.wire.messages import PROTOCOL_VERSION, Credit, Done, Page, SnapshotInit


async def run_initiator(conversation: Conversation, _: InitiatorOptions = DEFAULTS) -> Result:
    """Fill the empty `conversation.context` from the peer's. MOVED when it went on writing: walk the difference."""
    store, context = conversation.store, conversation.context
    staged = store.staged(context)
    resume = None if staged is None else (staged.root, staged.last_key)
    pages = request_pages(conversation, SnapshotInit(PROTOCOL_VERSION, context, resume), Page)
    root, their_seq = await _receive(conversation, pages, staged)
    applied = await whole(_promote(conversation, None if root is None else Digest(root)))
    if applied is None and not conversation.tally.refused:
        raise RemoteError(Reason.BAD_RECORD, "the snapshot's records do not give the root it was announced with")
    if applied is not None and root is not None and not conversation.tally.refused and not applied.refused:
        conversation.tally.followed = their_seq  # whatever was written there since
    theirs = await end(conversation)
    if theirs.root == conversation.tree.root:
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


async def _receive(
    conversation: Conversation, pages: AsyncGenerator[Page, None], staged: Staged | None
) -> tuple[bytes | None, int]:
    """Stage every page; root and seq that the first one announced, no root when the peer cut it short."""
    root, seq, last, is_first = b"", 0, START, True

    async def stage(records: list[Record]) -> None:
        nonlocal last
        last = in_order(records, last)
        conversation.tally.refuse(await conversation.store.stage(conversation.context, Digest(root), records))
        conversation.tally.received += len(records)
        conversation.on_progress(conversation.tally)

    async with aclosing(pages), Pipeline(conversation.context) as pipeline:
        async for page in pages:
            if is_first:
                root, seq = await _begin(conversation, page, staged)
            elif not page.records and not page.is_last:
                raise RemoteError(Reason.PROTOCOL_ERROR, "an empty page that is not the last")
            # An empty first page still has to begin the staging.
            if page.records or (is_first and not page.is_cut):
                await pipeline.put(page.records, stage)
            if page.is_cut and not page.is_last:
                raise RemoteError(Reason.PROTOCOL_ERROR, "what is cut short has a last page")
            is_first = False
    return None if page.is_cut else root, seq


async def _begin(conversation: Conversation, first: Page, staged: Staged | None) -> tuple[bytes, int]:
    """Return root and seq of the state that the first page announces; merge what is staged of another one."""
    if first.state is None:
        raise RemoteError(Reason.PROTOCOL_ERROR, "the first page says of no state")
    root, count, seq, _ = first.state
    conversation.tally.total = count
    if staged is not None and staged.root == root:
        conversation.tally.total = max(0, count - staged.count)
    elif staged is not None:
        await merge_left_over(conversation)  # what came is not lost to what comes
    return root, seq


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
                note_followed(conversation, theirs)
                ours = done_of(conversation, is_final=True)
                await conversation.transport.send(ours)
                return Result.EQUAL if root == ours.root else Result.MOVED
            case other:
                raise unexpected(other)


class _Sender:
    """Sends the pages of one state, as long as it is to be had."""

    def __init__(self, conversation: Conversation, init: SnapshotInit, stamped: StateStamp) -> None:
        self._root = init.resume[0] if init.resume else stamped.root  # what the initiator is after
        self._after = _just_before(init.resume[1]) if init.resume else None
        self._state: tuple[bytes, int, int, bytes] | None = (
            stamped.root,
            stamped.count,
            stamped.seq,
            stamped.instance,
        )
        self._pages = CreditedSender(conversation)
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
            for records, is_page_end in batches_to_last(raws):
                await self._page(records, is_last=is_last and is_page_end)
        if not self.is_over:
            await self._page([], is_last=True, is_cut=True)

    async def _page(self, records: list[bytes], *, is_last: bool, is_cut: bool = False) -> None:
        page = Page(self._state, tuple(records), is_last, is_cut)
        self._state = None
        self.is_over = is_last
        await self._pages.send(page)


def _just_before(last: bytes) -> LeafKey | None:
    """The key behind which pages go on: just before the last one staged, whose heads may have been cut apart."""
    number = int.from_bytes(last, "big")
    return LeafKey((number - 1).to_bytes(32, "big")) if number else None
