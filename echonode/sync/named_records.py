"""Versions asked for by name: what `reconcile` and `get` share.

    asks                                    holds
      Want(ids) | GetInit(..) | GetMore  ->
                                         <-   Records(.., more) .. Records(.., no more)
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from echonode.errors import Reason, RemoteError
from echonode.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, WINDOW
from echonode.model.record import LeafKey, Record, VersionId, from_store
from echonode.sync.agreement import batches, expect
from echonode.sync.conversation import Conversation
from echonode.sync.verify_apply import Pipeline, merge
from echonode.wire.messages import Message, Records


async def give(conversation: Conversation, wanted: Mapping[LeafKey, Collection[bytes] | None]) -> None:
    """Answer with the heads of these leaves: those that are named, or all of a leaf where none is."""
    waiting: list[bytes] = []  # the last batch says that it is the last
    async for batch in heads_of(conversation, list(wanted), lambda head: _is_named(head, wanted)):
        if waiting:
            await conversation.transport.send(Records(tuple(waiting), (), True))
        conversation.tally.sent += len(batch)
        waiting = batch
    await conversation.transport.send(Records(tuple(waiting), (), False))
    conversation.on_progress(conversation.tally)


async def heads_of(
    conversation: Conversation, keys: Sequence[LeafKey], picks: Callable[[Record], bool] = lambda _: True
) -> AsyncIterator[list[bytes]]:
    """The heads of our leaves `keys` that `picks` takes, in pieces that fit a message."""
    while keys:
        raws, taken = await conversation.store.read(
            conversation.context, keys[:BATCH_RECORDS_MAX], bytes_max=BATCH_BYTES_MAX
        )
        keys = keys[taken:]
        for batch in batches([raw for raw in raws if picks(from_store(raw))]):
            yield batch


def _is_named(head: Record, wanted: Mapping[LeafKey, Collection[bytes] | None]) -> bool:
    named = wanted[head.key]
    return named is None or head.id in named


@dataclass(slots=True)
class NamedRequest:
    """One request for versions by name, and what came of it. `versions` by their ids, whatever their record; `leaves`:
    records by key, all heads where nothing is named."""

    versions: Collection[bytes] = ()
    leaves: Mapping[LeafKey, Collection[bytes] | None] = field(default_factory=dict)
    came: dict[VersionId, LeafKey] = field(default_factory=dict)
    refused: dict[VersionId, Reason] = field(default_factory=dict)

    def look(self, records: Sequence[Record]) -> None:
        """Raises RemoteError for what was not asked for, or came before."""
        for record in records:
            named = self.leaves.get(record.key, ())
            is_asked = record.id in self.versions or named is None or record.id in named
            if not is_asked or record.id in self.came:
                raise RemoteError(Reason.PROTOCOL_ERROR, "a version that was not asked for, or came before")
            self.came[record.id] = record.key


async def take_named(conversation: Conversation, requests: Sequence[tuple[Message, NamedRequest]]) -> None:
    """Send `requests`, a window of them in flight, and merge what comes."""
    waiting = deque(requests)
    in_flight: deque[NamedRequest] = deque()
    pipeline = Pipeline(conversation.context)

    async def take(named: NamedRequest, records: list[Record]) -> None:
        named.look(records)
        applied = await merge(conversation, records)
        named.refused.update((refused.version, refused.reason) for refused in applied.refused)

    try:
        while waiting or in_flight:
            while waiting and len(in_flight) < WINDOW:
                request, named = waiting.popleft()
                conversation.tally.ask()
                await conversation.transport.send(request)
                in_flight.append(named)
            answer = await expect(conversation, Records)
            if answer.rest or (answer.more and not answer.records):
                raise RemoteError(Reason.PROTOCOL_ERROR, "versions asked for by name leave no rest, and promise none")
            if answer.records:
                await pipeline.put(answer.records, partial(take, in_flight[0]))
            if not answer.more:
                conversation.tally.answered()
                in_flight.popleft()
        await pipeline.finish()
    finally:
        await pipeline.abandon()
