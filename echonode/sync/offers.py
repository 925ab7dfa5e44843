"""Leaves offered by name before any body travels: what `reconcile` and `put` share.

    offers                                      is offered
      Offers(keys and states, in key order)  ->
                                             <-   Heads(heads where it has others, more) .. Heads(what it lacks)
      Put(what it lacks, and ours where they still stand beside its heads)
                                             ->
                                             <-   Stored

So a stale offer is answered with the current heads, which then supersede it here, and nothing travels that the other
side has. A page of offers is answered before the next one goes out.
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
from echonode.wire.messages import OFFERED_STATE_BYTES, Direction, Heads, Offers, Refusal


@dataclass(slots=True)
class Offered:
    """What became of leaves offered. Those in none of these the other side had already."""

    lacked: list[LeafKey] = field(default_factory=list)  # it had nothing there
    differed: list[LeafKey] = field(default_factory=list)  # it had other heads there, beside which some of ours stand
    stale: dict[VersionId, LeafKey] = field(default_factory=dict)  # ours that its heads supersede
    overtaken: set[VersionId] = field(default_factory=set)  # its heads that ours supersede
    shared: set[VersionId] = field(default_factory=set)  # ours among its heads, where it has others beside them
    refused: dict[VersionId, int] = field(default_factory=dict)  # by its reason


# -- offering ----------------------------------------------------------------------------------------------------------


Leaves = tuple[tuple[bytes, bytes], ...]


def pages(conversation: Conversation, keys: Sequence[LeafKey]) -> Iterator[tuple[list[LeafKey], Leaves]]:
    """`keys` that are still held, in order, as they are offered, a message each."""
    tree = conversation.tree
    held = [(key, state) for key in sorted(keys) if (state := tree.get(key)) is not None]
    for start in range(0, len(held), BATCH_RECORDS_MAX):
        page = held[start : start + BATCH_RECORDS_MAX]
        yield [key for key, _ in page], tuple((key, state[:OFFERED_STATE_BYTES]) for key, state in page)


async def offer(
    conversation: Conversation, keys: Sequence[LeafKey], direction: Direction = Direction.BOTH
) -> Offered:
    """Offer our leaves `keys`; take what is newer there, and put what is lacking there, as `direction` allows."""
    offered = Offered()
    for page, leaves in pages(conversation, keys):
        await conversation.ask(Offers(leaves))
        await take_heads(conversation, page, offered, direction)
    if direction is not Direction.RECEIVE:
        await put(conversation, [*offered.lacked, *offered.differed], offered)
    return offered


async def take_heads(
    conversation: Conversation, page: Sequence[LeafKey], offered: Offered, direction: Direction = Direction.BOTH
) -> None:
    """The answer to a page of offers. Raises RemoteError for what does not answer it."""
    keys, came = set(page), dict[VersionId, Record]()
    while True:
        answer = await conversation.receive(Heads)
        if answer.more and (answer.lacking or not answer.records):
            raise _bad("an answer that promises more and brings nothing, or ends before it does")
        for record in await verify_all(answer.records, conversation.context):
            if record.key not in keys or record.id in came:
                raise _bad("heads of a leaf that was not offered, or for the second time")
            came[record.id] = record
        if not answer.more:
            break
    conversation.tally.answered()
    differed = {record.key for record in came.values()}
    lacked = [page[place] for place in answer.lacking if place < len(page)]
    if len(lacked) < len(answer.lacking) or len({*lacked, *differed}) < len(lacked) + len(differed):
        raise _bad("what is lacking was not offered, or is not lacking")
    offered.lacked += lacked
    await _weigh(conversation, sorted(differed), list(came.values()), offered)
    if came and direction is not Direction.SEND:
        await merge(conversation, list(came.values()))


async def _weigh(
    conversation: Conversation, keys: Sequence[LeafKey], theirs: Sequence[Record], offered: Offered
) -> None:
    """Which of our heads at `keys` their heads supersede, and which leaves have others."""
    at_key: dict[LeafKey, list[Record]] = {}
    for head in theirs:
        at_key.setdefault(head.key, []).append(head)
    standing: dict[LeafKey, None] = {}
    async for batch in heads_of(conversation, keys):
        for ours in map(from_store, batch):
            offered.overtaken |= {head.id for head in at_key[ours.key] if supersedes(ours, head)}
            if any(supersedes(head, ours) for head in at_key[ours.key]):
                offered.stale[ours.id] = ours.key
            elif any(head.id == ours.id for head in at_key[ours.key]):
                offered.shared.add(ours.id)
            else:
                standing[ours.key] = None
    offered.differed += standing


async def put(conversation: Conversation, keys: Sequence[LeafKey], offered: Offered) -> None:
    """Put all heads of our leaves `keys`, and note in `offered` what was refused."""

    def note_refused(refused: Sequence[Refusal]) -> None:
        offered.refused.update((VersionId(refusal.version), refusal.reason) for refusal in refused)

    window = PutWindow(conversation, on_refused=note_refused)
    await window.put(heads_of(conversation, keys))
    await window.drain()


# -- being offered -----------------------------------------------------------------------------------------------------


async def answer_offers(conversation: Conversation, leaves: Leaves, *, to_keep: bool = True) -> None:
    """Say which of the leaves are lacking here, and give the heads of those that stand otherwise: `to_keep`, or only
    to tell what is stale."""
    tree = conversation.tree
    lacking: list[int] = []
    differing: list[LeafKey] = []
    last = b""
    for place, (offered, theirs) in enumerate(leaves):
        if offered <= last:
            raise _bad("offers out of order")  # each costs a look into the store
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


def _bad(detail: str) -> RemoteError:
    return RemoteError(Reason.PROTOCOL_ERROR, detail)
