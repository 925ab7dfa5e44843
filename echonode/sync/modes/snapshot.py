"""`snapshot`: copies a whole context into an empty one (PROTOCOL.md §8.3).

    initiator (empty)                           responder
      SnapshotInit(resume)            ->
                                      <-          Page(state of one read transaction, records, ..)
                                      <-          Page(..)  while there is credit: a window of pages at first
      Credit(1) per page staged       ->
                                      <-          Page(.., is_last)
      Done(root, final)               ->
                                      <-          Done(root)

Pages come in key order out of one read transaction, or of several that show the same root: none is held open for long.
Received records are staged and stay invisible. After the last page the root is recomputed from the staged leaves and
compared with the announced one, and only then does the context appear.

A conversation that is cut off leaves its staged records, and any peer that serves the same root can go on with them. A
peer whose root has changed sends a page that `is_cut`: then the staged records, all of them verified, are merged, and a
walk brings the rest. So a snapshot ends, however often its connection is cut and however much the peer writes.
"""

from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from echonode.errors import Reason, RemoteError
from echonode.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, RECENT_VERSIONS_MAX
from echonode.model.merkle import Digest
from echonode.model.record import LeafKey, Record, VersionId, from_store
from echonode.store.port import Applied, SnapshotOverError, SnapshotReader, Staged, StateStamp
from echonode.sync.answer_check import START, check_order
from echonode.sync.conversation import Conversation, Result
from echonode.sync.done import answer_done, end
from echonode.sync.executor import DEFAULTS, InitiatorOptions
from echonode.sync.record_batches import batches_to_last
from echonode.sync.tasks import uninterrupted
from echonode.sync.transfer import CreditedSender, request_pages
from echonode.sync.transport import unexpected
from echonode.sync.verify_apply import Pipeline, within_bounds
from echonode.wire.messages import PROTOCOL_VERSION, Credit, Done, Page, SnapshotInit


async def run_initiator(conversation: Conversation, _: InitiatorOptions = DEFAULTS) -> Result:
    """Fill the empty context from the peer's. Return MOVED when the peer went on writing: then the caller walks the
    difference. Raises RemoteError when the records do not give the announced root."""
    store, context = conversation.store, conversation.context
    staged = store.staged(context)
    resume = None if staged is None else (staged.root, staged.last_key)
    pages = request_pages(conversation, SnapshotInit(PROTOCOL_VERSION, context, resume), Page)
    staging = _Staging(conversation)
    root, their_seq = await _receive(conversation, pages, staged, staging)
    applied = await uninterrupted(_promote(conversation, None if root is None else Digest(root), staging.latest))
    if applied is None and not conversation.tally.refused:
        raise RemoteError(Reason.BAD_RECORD, "the snapshot's records do not give the root it was announced with")
    if applied is not None and root is not None and not conversation.tally.refused and not applied.refused:
        conversation.tally.followed = their_seq  # of the snapshot: later writes do not matter
    theirs = await end(conversation)
    if theirs.root == conversation.tree.root:
        return Result.EQUAL
    return Result.DIFFERENT if conversation.tally.refused else Result.MOVED


async def merge_left_over(conversation: Conversation) -> None:
    """Merge the records that an earlier snapshot left staged, when no snapshot will go on with them. All of them are
    verified."""
    if conversation.store.staged(conversation.context) is not None:
        await uninterrupted(_promote(conversation, None, ()))


async def _promote(
    conversation: Conversation, expected: Digest | None, latest: Sequence[VersionId]
) -> Applied | None:
    """Make the staged records visible and report them. Return None, and leave the context as it is, when they do not
    give the root `expected`. `latest`: ids of the records staged last.

    A context that was empty shows what was staged: that is read again only for listeners that want every record."""
    store, context = conversation.store, conversation.context
    seq = store.seq(context)
    applied = await store.promote(context, expected=expected)
    if applied is not None and applied.shown and not conversation.is_listened():
        conversation.on_shown(latest, applied.shown)
        return applied
    while applied is not None:
        records, seq = await store.scan(context, seq, limit=BATCH_RECORDS_MAX)
        if not records:
            break
        conversation.on_applied(records)
    if applied is not None and applied.voided:
        conversation.on_voided(applied.voided)
    return applied


class _Staging:
    """Stages the verified records of one conversation. `latest`: the ids of the last of them."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._last = START
        self.root = Digest(b"")  # of the announced state
        self.latest: deque[VersionId] = deque(maxlen=RECENT_VERSIONS_MAX)

    async def stage(self, records: list[Record]) -> None:
        """Stage one batch behind those before it. Raises RemoteError when it is out of order."""
        conversation = self._conversation
        self._last = check_order(records, self._last)
        await conversation.pace(len(records))
        kept, excess = within_bounds(records, conversation.judge)
        refused = (*excess, *await conversation.store.stage(conversation.context, self.root, kept))
        conversation.tally.refuse(refused)
        conversation.tally.received += len(kept)
        if refused:
            conversation.on_refused(records, refused)
            not_taken = {one.version for one in refused}
            records = [record for record in records if record.id not in not_taken]
        self.latest.extend([record.id for record in records])
        conversation.on_staged(records)
        conversation.on_progress(conversation.tally)


async def _receive(
    conversation: Conversation, pages: AsyncGenerator[Page, None], staged: Staged | None, staging: _Staging
) -> tuple[bytes | None, int]:
    """Stage the records of every page. Return root and seq of the announced state, None as root when the peer cut the
    snapshot short."""
    root, seq, is_first = b"", 0, True
    async with aclosing(pages), Pipeline(conversation.context) as pipeline:
        async for page in pages:
            if is_first:
                root, seq = await _begin(conversation, page, staged)
                staging.root = Digest(root)
            elif not page.records and not page.is_last:
                raise RemoteError(Reason.PROTOCOL_ERROR, "an empty page that is not the last")
            # An empty first page has to begin the staging too.
            if page.records or (is_first and not page.is_cut):
                await pipeline.put(page.records, staging.stage)
            if page.is_cut and not page.is_last:
                raise RemoteError(Reason.PROTOCOL_ERROR, "what is cut short has a last page")
            is_first = False
    return None if page.is_cut else root, seq


async def _begin(conversation: Conversation, first: Page, staged: Staged | None) -> tuple[bytes, int]:
    """Return root and seq of the state that the first page announces. Merge staged records of another state."""
    if first.state is None:
        raise RemoteError(Reason.PROTOCOL_ERROR, "the first page says of no state")
    root, count, seq, _ = first.state
    conversation.tally.total = count
    if staged is not None and staged.root == root:
        conversation.tally.total = max(0, count - staged.count)
    elif staged is not None:
        await merge_left_over(conversation)  # before the new snapshot replaces them
    return root, seq


async def run_responder(conversation: Conversation, init: SnapshotInit) -> Result:
    """Serve the conversation that `init` opened."""
    sender: _Sender | None = None
    while sender is None or not sender.is_over:
        # A read transaction that was open for too long is followed by another one, if that shows the same root.
        async with conversation.store.snapshot(conversation.context) as reader:
            if sender is None:
                sender = _Sender(conversation, init, reader.stamp)
            await sender.send(reader)
    while True:
        match await conversation.transport.recv():
            case Credit():
                pass
            case Done(root) as theirs:
                ours = await answer_done(conversation, theirs, is_final=True)
                return Result.EQUAL if root == ours.root else Result.MOVED
            case other:
                raise unexpected(other)


class _Sender:
    """Sends the pages of one state, as long as the store still shows it. `is_over`: the last page was sent."""

    def __init__(self, conversation: Conversation, init: SnapshotInit, stamped: StateStamp) -> None:
        self._root = init.resume[0] if init.resume else stamped.root  # of the state that the initiator wants
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
        """Send all pages that are left, or a page that `is_cut` when `reader` shows another state. Return early, before
        the last page, when `reader` may be read no longer."""
        is_wanted, has_shown = reader.stamp.root == self._root, False
        while is_wanted and not self.is_over:
            try:
                raws, is_last = await reader.page(self._after, records_max=BATCH_RECORDS_MAX, bytes_max=BATCH_BYTES_MAX)
            except SnapshotOverError:
                if has_shown:
                    return
                break  # not even one page could be read, so another transaction will not do better
            has_shown = True
            if raws:
                self._after = from_store(raws[-1]).key
            for records, is_read_end in batches_to_last(raws):
                await self._send_page(records, is_last=is_last and is_read_end)
        if not self.is_over:
            await self._send_page([], is_last=True, is_cut=True)

    async def _send_page(self, records: list[bytes], *, is_last: bool, is_cut: bool = False) -> None:
        page = Page(self._state, tuple(records), is_last, is_cut)
        self._state = None
        self.is_over = is_last
        await self._pages.send(page)


def _just_before(last: bytes) -> LeafKey | None:
    """Return the key behind which pages go on: just below the last staged one, whose heads may not have come all."""
    number = int.from_bytes(last, "big")
    return LeafKey((number - 1).to_bytes(32, "big")) if number else None
