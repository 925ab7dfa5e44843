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
from echonode.sync.agreement import finish, stamp, unexpected
from echonode.sync.conversation import Conversation, Result
from echonode.sync.named_records import heads_of
from echonode.sync.offers import Offered, answer_offers, pages, put, take_heads
from echonode.sync.responder import store_put
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
    is_open = False
    for page, leaves in pages(conversation, list(set(keys))):
        conversation.tally.ask()
        opening = PutInit(PROTOCOL_VERSION, conversation.context, leaves)
        await conversation.transport.send(Offers(leaves) if is_open else opening)
        is_open = True
        await take_heads(conversation, page, offered)
    await put(conversation, [*offered.lacked, *offered.differed], offered)
    await finish(conversation, stamp(conversation, is_final=True))
    wanted = {*offered.lacked, *offered.differed}
    return [_answer(head.key, head.id, offered, is_put=head.key in wanted) for head in ours]


def _answer(key: LeafKey, version: VersionId, offered: Offered, *, is_put: bool) -> Answer:
    if version in offered.stale:
        return Answer(key, version, Outcome.STALE)
    if version in offered.shared:
        return Answer(key, version, Outcome.HAD)
    if version in offered.refused:
        code = offered.refused[version]
        known = Reason(code) if code in Reason._value2member_map_ else Reason.PROTOCOL_ERROR
        return Answer(key, version, Outcome.REFUSED, known)
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
                await conversation.transport.send(stamp(conversation, is_final=True))
                return Result.ANSWERED
            case other:
                raise unexpected(other)
