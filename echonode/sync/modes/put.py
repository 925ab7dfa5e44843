"""`put`: offers records to a peer, which may refuse them (PROTOCOL.md §8.13).

    initiator                     responder
      PutInit(leaves)      ->
                           <-       Heads ..
      Offers(leaves) ..    ->
                           <-       Heads ..
      Put(records) ..      ->
                           <-       Stored
      Done(root, final)    ->
                           <-       Done(root, final)

At the end the initiator knows of each version: the peer had it, stored it, refused it and why, or has newer heads,
which came and are merged here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from echonode.errors import Reason
from echonode.model.record import LeafKey, VersionId, from_store
from echonode.sync.conversation import Conversation, Result
from echonode.sync.done import answer_end, end
from echonode.sync.offers import OfferAnswers, answer_offers, offer_pages, put_leaves, receive_heads
from echonode.sync.record_batches import heads_of
from echonode.sync.responder import store_put
from echonode.sync.transport import unexpected
from echonode.wire.messages import PROTOCOL_VERSION, Done, Offers, Put, PutInit


class Outcome(Enum):
    """The outcome of one version that was offered."""

    STORED = "stored"
    HAD = "had"
    REFUSED = "refused"
    STALE = "stale"  # the peer has newer heads, and sent them


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer about one version of one record; `reason` says why it was refused."""

    key: LeafKey
    version: VersionId
    outcome: Outcome
    reason: Reason | None = None


async def run_initiator(conversation: Conversation, keys: Sequence[LeafKey]) -> list[Answer]:
    """Offer all heads of the leaves `keys`, of which at least one is held here. Return an answer for each head."""
    ours = [head async for batch in heads_of(conversation, sorted(set(keys))) for head in map(from_store, batch)]
    answers = OfferAnswers()
    for number, (page, leaves) in enumerate(offer_pages(conversation, list(set(keys)))):
        opening = PutInit(PROTOCOL_VERSION, conversation.context, leaves)
        await conversation.ask(Offers(leaves) if number else opening)
        await receive_heads(conversation, page, answers)
    await put_leaves(conversation, [*answers.lacked, *answers.differed], answers)
    await end(conversation)
    put = {*answers.lacked, *answers.differed}
    return [_answer(head.key, head.id, answers, is_put=head.key in put) for head in ours]


def _answer(key: LeafKey, version: VersionId, answers: OfferAnswers, *, is_put: bool) -> Answer:
    if version in answers.stale:
        return Answer(key, version, Outcome.STALE)
    if version in answers.shared:
        return Answer(key, version, Outcome.HAD)
    if version in answers.refused:
        return Answer(key, version, Outcome.REFUSED, Reason.from_wire(answers.refused[version]))
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
