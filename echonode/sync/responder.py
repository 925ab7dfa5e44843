"""The responder's side of agreement: answers to Fetch, Put and Done, the same for every mode (PROTOCOL.md §8.4)."""

from collections.abc import Iterator
from itertools import islice
from typing import Final, TypeAlias

from echonode.errors import Reason, RemoteError
from echonode.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, ROUNDS_MAX, SMALL_SUBTREE_LEAVES
from echonode.model.merkle import Digest, Tree
from echonode.model.record import LeafKey, Record
from echonode.sync.conversation import Conversation, Result
from echonode.sync.done import answer_done, responder_result
from echonode.sync.record_batches import batches_to_last
from echonode.sync.transport import unexpected
from echonode.sync.tree_parts import leaves_by_digest
from echonode.sync.verify_apply import merge, verify_all
from echonode.sync.work import PART_S, RECORD_SENT_S
from echonode.wire.messages import Direction, Done, Fetch, LeafRequest, Message, Put, Records, Refusal, Stored


class Responder:
    """Answers Fetch, Put and Done of one conversation. `width`: bytes of each digest that travels."""

    def __init__(self, conversation: Conversation, direction: int, width: int) -> None:
        self._conversation = conversation
        self._direction = direction
        self._width = width
        self._leaves_sent = 0  # a leaf that is fetched twice counts twice

    async def answer(self, message: Message) -> Result | None:
        """Answer `message`. Return the conversation's result once it is over. Raises RemoteError for a message that
        has no place here, or for a peer that fetches the same again and again."""
        match message:
            case Fetch(wanted) if self._direction != Direction.SEND:
                await self._send_records(wanted)
            case Put(records) if self._direction != Direction.RECEIVE:
                await store_put(self._conversation, records)
            case Done(is_final=is_final):
                ours = await answer_done(self._conversation, message, is_final=is_final)
                return responder_result(self._conversation, self._direction, message, ours)
            case _:
                raise unexpected(message)
        return None

    async def _send_records(self, wanted: tuple[LeafRequest, ...]) -> None:
        conversation = self._conversation
        if len({item.prefix for item in wanted}) < len(wanted):
            raise RemoteError(Reason.PROTOCOL_ERROR, "a Fetch names a prefix twice")  # each costs its subtree's hashes
        if any(item.leaves is not None and item.after is not None for item in wanted):
            raise RemoteError(Reason.PROTOCOL_ERROR, "leaves that are named go on behind none")
        entries = list(islice(_entries(conversation.tree, wanted, self._width), _ENTRIES))
        keys = [key for _, _, key in entries[:BATCH_RECORDS_MAX]]
        raws, read = await conversation.store.read(conversation.context, keys, bytes_max=BATCH_BYTES_MAX)
        self._leaves_sent += read
        if self._leaves_sent > ROUNDS_MAX * len(conversation.tree) + BATCH_RECORDS_MAX:
            raise RemoteError(Reason.PROTOCOL_ERROR, "it fetches the same again and again")
        rest = _rest(wanted, entries, read, self._width)
        for batch, is_last in batches_to_last(raws):
            await conversation.transport.send(Records(tuple(batch), rest if is_last else (), not is_last))
        conversation.count_sent(len(raws))
        await conversation.charge(RECORD_SENT_S * len(raws) + PART_S * len(wanted))


async def store_put(conversation: Conversation, raws: tuple[bytes, ...]) -> list[Record]:
    """Verify and store the records of a Put, and answer it. Return them. Raises RemoteError for a bad record."""
    records = await verify_all(raws, conversation.context)
    applied = await merge(conversation, records)
    refused = tuple(Refusal(refused.version, refused.reason) for refused in applied.refused)
    await conversation.transport.send(Stored(len(applied.records), applied.had, refused))
    return records


# The index of the item in the request, the index of the digest in the item, the leaf.
_FoundLeaf: TypeAlias = tuple[int, int, LeafKey]
_ENTRIES: Final = BATCH_RECORDS_MAX + 1  # one more than is read: there the rest begins


def _entries(tree: Tree, wanted: tuple[LeafRequest, ...], width: int) -> Iterator[_FoundLeaf]:
    """Yield the leaves asked for that the tree has, in the order asked."""
    for place, item in enumerate(wanted):
        if item.leaves is None:
            for key, _ in tree.leaves_at(item.prefix, None if item.after is None else LeafKey(item.after)):
                yield place, 0, key
        # A walk names single leaves only below a prefix whose leaves it showed. A subtree that has grown since is left
        # to the next walk.
        elif tree.count_at(item.prefix) <= 2 * SMALL_SUBTREE_LEAVES:
            known = leaves_by_digest(tree, item.prefix, width)
            for index, at in enumerate(range(0, len(item.leaves), width)):
                leaf = known.get(Digest(item.leaves[at : at + width]))
                if leaf is not None:
                    yield place, index, leaf


def _rest(
    wanted: tuple[LeafRequest, ...], entries: list[_FoundLeaf], read: int, width: int
) -> tuple[LeafRequest, ...]:
    """Return the part of `wanted` that is left when only the first `read` of `entries` are sent."""
    if read == len(entries):
        return ()
    place, index, _ = entries[read]
    item = wanted[place]
    if item.leaves is None:
        is_begun = read > 0 and entries[read - 1][0] == place
        item = LeafRequest(item.prefix, None, entries[read - 1][2] if is_begun else item.after)
    else:
        item = LeafRequest(item.prefix, item.leaves[index * width :])
    return (item, *wanted[place + 1 :])
