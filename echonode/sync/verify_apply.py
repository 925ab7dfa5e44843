"""Versions from a peer: parsed and verified in chunks on threads, applied in batches, never one by one.

A version that is malformed, badly signed or of another context ends the session: an honest peer holds none. Nothing of
its batch is stored. A version whose key is unknown or compromised is refused alone; the rest of its batch is stored.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from echonode.errors import Reason, RemoteError
from echonode.limits import VERIFY_CHUNK
from echonode.model.record import Record, SignedRecord, parse, verify
from echonode.store.port import Applied, Cursor, RefusedVersion
from echonode.sync.conversation import Conversation
from echonode.sync.tasks import all_ended
from echonode.sync.work import RECORD_REFUSED_S

Write = Callable[[list[Record]], Awaitable[object]]  # what is done with a batch once it is verified

_INLINE_MAX = 4  # records: fewer are verified in less time than a thread takes to wake
_IN_FLIGHT_MAX = 3  # batches: one is received, one verified, one written


async def verify_all(raws: Sequence[bytes], context: str) -> list[Record]:
    """Return the verified records of `raws`. Raises RemoteError (BAD_RECORD, FOREIGN_CONTEXT, PROTOCOL_ERROR) for the
    first bad one."""
    if len(raws) <= _INLINE_MAX:
        return _verify_chunk(raws, context)
    loop = asyncio.get_running_loop()
    chunks = [raws[at : at + VERIFY_CHUNK] for at in range(0, len(raws), VERIFY_CHUNK)]
    futures = [loop.run_in_executor(None, _verify_chunk, chunk, context) for chunk in chunks]
    records: list[Record] = []
    for verified in await asyncio.gather(*futures, return_exceptions=True):
        if isinstance(verified, BaseException):
            raise verified
        records += verified
    return records


def _verify_chunk(raws: Sequence[bytes], context: str) -> list[Record]:
    """Parse a whole chunk, then verify it: two threads that did both for each record in turn would often wait for the
    interpreter's lock, and such a wait takes as long as a signature."""
    parsed, fault = list[SignedRecord](), None
    for raw in raws:
        try:
            signed = parse(raw)
            if signed.context != context:
                raise RemoteError(Reason.FOREIGN_CONTEXT, f"{signed.name} belongs to another context")
        except RemoteError as error:
            fault = error
            break
        parsed.append(signed)
    records = [verify(signed) for signed in parsed]  # of two faults the first decides (PROTOCOL.md §9.2)
    if fault is not None:
        raise fault
    return records


async def merge(conversation: Conversation, records: Sequence[Record], cursor: Cursor | None = None) -> Applied:
    """Apply verified `records` and `cursor` to the conversation's context in one transaction; count and report them.

    Every stored record is reported, if the caller is cancelled meanwhile too. Raises StoreError.
    """
    await conversation.pace(len(records))
    wanted, unwanted = _separate(conversation, records)

    def outcome(applied: Applied) -> Applied:
        return replace(applied, refused=(*applied.refused, *unwanted)) if unwanted else applied

    def report(applied: Applied) -> None:
        _report(conversation, records, outcome(applied))

    applied = outcome(await conversation.store.apply(conversation.context, wanted, cursor, report=report))
    if not_news := len(records) - len(applied.records):
        await conversation.charge(RECORD_REFUSED_S * not_news)
    return applied


def _report(conversation: Conversation, brought: Sequence[Record], applied: Applied) -> None:
    tally = conversation.tally
    tally.received += len(applied.records)
    tally.had += applied.had
    tally.refuse(applied.refused)
    if applied.refused:
        conversation.on_refused(brought, applied.refused)
    if applied.records:
        conversation.on_applied(applied.records)
    if applied.strangers:
        conversation.on_strangers(applied.strangers)
    if applied.outranked:
        conversation.on_outranked(applied.outranked)
    if applied.voided:
        conversation.on_voided(applied.voided)
    conversation.on_progress(tally)


def _separate(conversation: Conversation, records: Sequence[Record]) -> tuple[Sequence[Record], list[RefusedVersion]]:
    """Return the records that are wanted here, and the rest as refused."""
    refused: list[RefusedVersion] = []
    if conversation.wants is not None:
        keys = {record.key for record in records if conversation.wants(record)}  # all heads of a conflict, or none
        unwanted = [record for record in records if record.key not in keys]
        refused = [RefusedVersion(record.id, Reason.NOT_ACCEPTED, "it is not wanted here") for record in unwanted]
        records = [record for record in records if record.key in keys]
    kept, excess = within_bounds(records, conversation.judge)
    return kept, refused + excess


def within_bounds(
    records: Sequence[Record], judge: Callable[[Sequence[Record]], Sequence[RefusedVersion]]
) -> tuple[Sequence[Record], list[RefusedVersion]]:
    """Return those of `records` that `judge` takes, and the others as it refuses them."""
    excess = list(judge(records))
    if not excess:
        return records, excess
    ids = {each.version for each in excess}
    return [record for record in records if record.id not in ids], excess


class Pipeline:
    """Receives, verifies and writes different batches at the same time. Batches are written in the order they came.

    async with Pipeline(context) as pipeline:
        await pipeline.put(raws, write)       for each batch; at the end of the block all are written
    """

    def __init__(self, context: str) -> None:
        self._context = context
        self._tasks: deque[asyncio.Task[None]] = deque()

    async def put(self, raws: Sequence[bytes], write: Write) -> None:
        """Verify a batch and call `write` with its records. Wait while too many batches are under way. Raises what an
        earlier batch raised."""
        while len(self._tasks) >= _IN_FLIGHT_MAX:
            await self._tasks.popleft()
        before = self._tasks[-1] if self._tasks else None
        self._tasks.append(asyncio.create_task(self._run(raws, before, write)))

    async def __aenter__(self) -> "Pipeline":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for every batch. Raises what one of them raised. After an error in the block, only wait for the batches
        that were begun: a store transaction is never cut in half."""
        try:
            while kind is None and self._tasks:
                await self._tasks.popleft()
        finally:
            await all_ended(self._tasks)
            self._tasks.clear()

    async def _run(self, raws: Sequence[bytes], before: asyncio.Task[None] | None, write: Write) -> None:
        records = await verify_all(raws, self._context)
        if before is not None:
            await before
        await write(records)
