"""`pull`: lists the versions a peer has of the records that a filter takes. Only ids move (PROTOCOL.md §8.11).

    initiator                           responder
      PullInit(filter, after)    ->
                                 <-       Ids(.., after, is_last)       in log order
      PullMore(after)            ->
                                 <-       Ids(..)                       until the last page, or enough
      Done(root, is_final)       ->
                                 <-       Done(root, is_final)

The responder looks through a bounded piece of its log for each page, so a page may be empty and more may follow. A
later pull goes on from the `after` of the last page: later writes stand behind it in the log.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from echonode.errors import Reason, RemoteError
from echonode.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, PULL_SCAN_MAX
from echonode.model.fields import AUTHOR, NAME
from echonode.model.filter import Filter
from echonode.model.record import fields_of
from echonode.store.port import Change, Store
from echonode.sync.conversation import Conversation, Result
from echonode.sync.done import answer_end, end
from echonode.sync.transport import unexpected
from echonode.sync.work import RECORD_SEEN_S
from echonode.wire.messages import PROTOCOL_VERSION, Done, Ids, PullInit, PullMore, RecordId

_PAGE_BYTES: Final = 8 * BATCH_BYTES_MAX


@dataclass(frozen=True, slots=True)
class IdQuery:
    """A question for at least `limit` ids of what `wanted` takes, from behind seq `after` of the peer's log."""

    wanted: Filter
    after: int
    limit: int


@dataclass(frozen=True, slots=True)
class Pulled:
    """The answer: ids in log order, the seq to which the peer's log was read, and True when that is its end."""

    ids: tuple[RecordId, ...]
    after: int
    is_last: bool


async def run_initiator(conversation: Conversation, query: IdQuery) -> Pulled:
    """Ask for pages until `query.limit` ids came or the peer's log ends; return all ids of these pages."""
    ids: list[RecordId] = []
    after = query.after
    question: PullInit | PullMore = PullInit(
        PROTOCOL_VERSION, conversation.context, query.wanted.without_senders.fields(), after
    )
    while True:
        page = await conversation.request(question, Ids)
        if page.after < after or (page.after == after and not page.is_last):
            raise RemoteError(Reason.PROTOCOL_ERROR, "a page of ids that leads nowhere")
        ids += page.ids
        after = page.after
        if page.is_last or len(ids) >= query.limit:
            break
        question = PullMore(after)
    await end(conversation)
    return Pulled(tuple(ids), after, page.is_last)


def is_stale(init: PullInit, store: Store) -> bool:
    """Return True when `init` names a place that the log of `store` has not reached."""
    return init.after > store.seq(init.context)


async def run_responder(conversation: Conversation, init: PullInit) -> Result:
    """Serve the conversation that `init` opened."""
    wanted = Filter.from_fields(init.filter)
    await _send_page(conversation, wanted, init.after)
    while True:
        match await conversation.transport.recv():
            case PullMore(after):
                await _send_page(conversation, wanted, after)
            case Done():
                return await answer_end(conversation)
            case other:
                raise unexpected(other)


async def _send_page(conversation: Conversation, wanted: Filter, after: int) -> None:
    ids: list[RecordId] = []
    is_last, seen = False, 0
    loop = asyncio.get_running_loop()
    for _ in range(PULL_SCAN_MAX):
        changes, after = await conversation.store.changes(
            conversation.context, after, records_max=BATCH_RECORDS_MAX - len(ids), bytes_max=_PAGE_BYTES
        )
        ids += await loop.run_in_executor(None, _ids_of, changes, wanted)
        seen += len(changes)
        is_last = not changes
        if is_last or len(ids) == BATCH_RECORDS_MAX:
            break
    await conversation.transport.send(Ids(tuple(ids), after, is_last))
    await conversation.charge(RECORD_SEEN_S * seen)


def _ids_of(changes: Sequence[Change], wanted: Filter) -> list[RecordId]:
    fields = [(change.version, fields_of(change.raw)) for change in changes]
    return [
        RecordId(each[AUTHOR], each[NAME], version)  # type: ignore[arg-type]  # checked before they were stored
        for version, each in fields
        if wanted.matches_fields(each)
    ]
