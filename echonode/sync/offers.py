"""Leaves offered by name before any body travels, by `reconcile` and `put`: the offer and the answer.

    side that offers                          other side
      Offers(keys and states, in key order)  ->
                                             <-   Heads(heads where it has others, more) .. Heads(what it lacks)
      Put(what it lacks, and leaves of which some heads stand beside its heads)
                                             ->
                                             <-   Stored

A stale offer is answered with the current heads, which then supersede it here. So nothing travels that the other side
has. Each message of offers is answered before the next one is sent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from echonode.errors import Reason, RemoteError
from echonode.limits import BATCH_RECORDS_MAX
from echonode.model.record import LeafKey, Record, VersionId, from_store, supersedes
from echonode.sync.conversation import Conversation
from echonode.sync.record_batches import heads_of
from echonode.sync.transfer import PutWindow, send_answer
from echonode.sync.verify_apply import merge, verify_all
from echonode.sync.work import LEAF_SKETCHED_S, RECORD_SENT_S
from echonode.wire.messages import OFFERED_STATE_BYTES, Direction, Heads, Offers, Refusal

Leaves = tuple[tuple[bytes, bytes], ...]  # (key, first bytes of the state), in key order


@dataclass(slots=True)
class OfferAnswers:
    """The answers to offers, collected. The other side had already every leaf that stands nowhere here."""

    lacked: list[LeafKey] = field(default_factory=list)  # leaves the other side did not have
    differed: list[LeafKey] = field(default_factory=list)  # leaves where some of our heads stand beside its heads
    stale: dict[VersionId, LeafKey] = field(default_factory=dict)  # our heads that its heads supersede
    overtaken: set[VersionId] = field(default_factory=set)  # its heads that our heads supersede
    shared: set[VersionId] = field(default_factory=set)  # heads that both have, in leaves that differ
    refused: dict[VersionId, int] = field(default_factory=dict)  # our heads that it refused, with the wire reason


# -- offering ----------------------------------------------------------------------------------------------------------


def offer_pages(conversation: Conversation, keys: Sequence[LeafKey]) -> Iterator[tuple[list[LeafKey], Leaves]]:
    """Yield those of `keys` that are still held, in key order, and the same as they are offered; a message each."""
    tree = conversation.tree
    held = [(key, state) for key in sorted(keys) if (state := tree.get(key)) is not None]
    for start in range(0, len(held), BATCH_RECORDS_MAX):
        page = held[start : start + BATCH_RECORDS_MAX]
        yield [key for key, _ in page], tuple((key, state[:OFFERED_STATE_BYTES]) for key, state in page)


async def offer_leaves(
    conversation: Conversation, keys: Sequence[LeafKey], direction: Direction = Direction.BOTH
) -> OfferAnswers:
    """Offer the leaves `keys`; as `direction` allows, merge newer heads that come, and put what the other side
    lacks."""
    answers = OfferAnswers()
    for page, leaves in offer_pages(conversation, keys):
        await conversation.ask(Offers(leaves))
        await receive_heads(conversation, page, answers, direction)
    if direction is not Direction.RECEIVE:
        await put_leaves(conversation, [*answers.lacked, *answers.differed], answers)
    return answers


async def receive_heads(
    conversation: Conversation, page: Sequence[LeafKey], answers: OfferAnswers, direction: Direction = Direction.BOTH
) -> None:
    """Receive the answer to one message of offers, note it in `answers`, and merge the heads that came. Raises
    RemoteError for an answer that does not fit the offers."""
    keys, came = set(page), dict[VersionId, Record]()
    while True:
        answer = await conversation.receive(Heads)
        if answer.more and (answer.lacking or not answer.records):
            raise _protocol_error("an answer that promises more and brings nothing, or ends before it does")
        for record in await verify_all(answer.records, conversation.context):
            if record.key not in keys or record.id in came:
                raise _protocol_error("heads of a leaf that was not offered, or for the second time")
            came[record.id] = record
        if not answer.more:
            break
    conversation.tally.answered()
    differed = {record.key for record in came.values()}
    lacked = [page[place] for place in answer.lacking if place < len(page)]
    if len(lacked) < len(answer.lacking) or len({*lacked, *differed}) < len(lacked) + len(differed):
        raise _protocol_error("what is lacking was not offered, or is not lacking")
    answers.lacked += lacked
    await _compare_heads(conversation, sorted(differed), list(came.values()), answers)
    if came and direction is not Direction.SEND:
        await merge(conversation, list(came.values()))


async def _compare_heads(
    conversation: Conversation, keys: Sequence[LeafKey], theirs: Sequence[Record], answers: OfferAnswers
) -> None:
    """Note which heads at the leaves `keys` supersede which, and the leaves where ours stand beside theirs."""
    at_key: dict[LeafKey, list[Record]] = {}
    for head in theirs:
        at_key.setdefault(head.key, []).append(head)
    standing: dict[LeafKey, None] = {}
    async for batch in heads_of(conversation, keys):
        for ours in map(from_store, batch):
            answers.overtaken |= {head.id for head in at_key[ours.key] if supersedes(ours, head)}
            if any(supersedes(head, ours) for head in at_key[ours.key]):
                answers.stale[ours.id] = ours.key
            elif any(head.id == ours.id for head in at_key[ours.key]):
                answers.shared.add(ours.id)
            else:
                standing[ours.key] = None
    answers.differed += standing


async def put_leaves(conversation: Conversation, keys: Sequence[LeafKey], answers: OfferAnswers) -> None:
    """Put all heads of the leaves `keys`, and note in `answers` what was refused."""

    def note_refused(refused: Sequence[Refusal]) -> None:
        answers.refused.update((VersionId(refusal.version), refusal.reason) for refusal in refused)

    window = PutWindow(conversation, on_refused=note_refused)
    await window.put(heads_of(conversation, keys))
    await window.drain()


# -- the other side ----------------------------------------------------------------------------------------------------


async def answer_offers(conversation: Conversation, leaves: Leaves, *, to_keep: bool = True) -> None:
    """Answer one message of offers: name the leaves that are lacking here, and send the heads of those that differ.

    `to_keep`: the other side keeps the heads, and they count as sent; else they only tell it what is stale."""
    tree = conversation.tree
    lacking: list[int] = []
    differing: list[LeafKey] = []
    last = b""
    for place, (offered, theirs) in enumerate(leaves):
        if offered <= last:
            raise _protocol_error("offers out of order")  # each one costs a lookup in the tree
        last = key = LeafKey(offered)
        ours = tree.get(key)
        if ours is None:
            lacking.append(place)
        elif ours[:OFFERED_STATE_BYTES] != theirs:
            differing.append(key)
    await send_answer(
        conversation,
        heads_of(conversation, differing),
        lambda raws, more: Heads(() if more else tuple(lacking), raws, more),
        is_counted=to_keep,
    )
    await conversation.charge(RECORD_SENT_S * len(differing) + LEAF_SKETCHED_S * len(leaves))


def _protocol_error(detail: str) -> RemoteError:
    return RemoteError(Reason.PROTOCOL_ERROR, detail)
