"""`put`: records offered to a peer, without a guarantee (PROTOCOL.md §8.13).

    initiator                     responder
      PutInit(leaves)      ->
                           <-       Heads ..
      Offers(leaves) ..    ->
                           <-       Heads ..
      Put(records) ..      ->
                           <-       Stored
      Done(root, final)    ->
                           <-       Done(root, final)

Of each version offered it is known at the end: it had it, it stored it, it refused it and why, or it has newer heads,
which have come and are merged here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from echonode.errors import Reason
from echonode.model.record import LeafKey, VersionId, from_store
from echonode.sync.conversation import Conversation, Result
from echonode.sync.done import answer_end, end
from echonode.sync.offers import Offered, answer_offers, pages, put, take_heads
from echonode.sync.record_batches import heads_of
from echonode.sync.responder import store_put
from echonode.sync.transport import unexpected
from echonode.wire.messages import PROTOCOL_VERSION, Done, Offers, Put, PutInit


class Outcome(Enum):
    """What became of a version that was offered."""

    STORED = "stored"
    HAD = "had"
    REFUSED = "refused"
    STALE = "stale"  # it has newer heads, and gave them


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome for one version of one record; `reason` says why it was refused."""

    key: LeafKey
    version: VersionId
    outcome: Outcome
    reason: Reason | None = None


async def run_initiator(conversation: Conversation, keys: Sequence[LeafKey]) -> list[Answer]:
    """Offer all heads of our leaves `keys`, of which at least one is held here."""
    ours = [head async for batch in heads_of(conversation, sorted(set(keys))) for head in map(from_store, batch)]
    offered = Offered()
    for number, (page, leaves) in enumerate(pages(conversation, list(set(keys)))):
        opening = PutInit(PROTOCOL_VERSION, conversation.context, leaves)
        await conversation.ask(Offers(leaves) if number else opening)
        await take_heads(conversation, page, offered)
    await put(conversation, [*offered.lacked, *offered.differed], offered)
    await end(conversation)
    wanted = {*offered.lacked, *offered.differed}
    return [_answer(head.key, head.id, offered, is_put=head.key in wanted) for head in ours]


def _answer(key: LeafKey, version: VersionId, offered: Offered, *, is_put: bool) -> Answer:
    if version in offered.stale:
        return Answer(key, version, Outcome.STALE)
    if version in offered.shared:
        return Answer(key, version, Outcome.HAD)
    if version in offered.refused:
        return Answer(key, version, Outcome.REFUSED, Reason.from_wire(offered.refused[version]))
    return Answer(key, version, Outcome.STORED if is_put else Outcome.HAD)


async def run_responder(conversation: Conversation, init: PutInit) -> Result:
    """Serve the conversation that `init` opened."""
    await answer_offers(conversation, init.leaves)
    while True:
        match await conversation.transport.recv():
            case Offers(leaves):
                await answer_offers(conversation, leaves)
            case Put(records):
                await store_put(conversation, records)
            case Done():
                return await answer_end(conversation)
            case other:
                raise unexpected(other)
