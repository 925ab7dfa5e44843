"""The responder's side of moving records: the same for every mode that walks a tree."""

from collections.abc import Iterator
from itertools import islice
from typing import Final, TypeAlias

from echonode.errors import Reason, RemoteError
from echonode.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, ROUNDS_MAX, SMALL_SUBTREE_LEAVES
from echonode.model.merkle import Digest, Tree
from echonode.model.record import LeafKey
from echonode.sync.conversation import Conversation, Result
from echonode.sync.done import done_of, note_followed, responder_result
from echonode.sync.record_batches import batches_to_last
from echonode.sync.transport import unexpected
from echonode.sync.tree_parts import leaves_by_digest
from echonode.sync.verify_apply import merge, verify_all
from echonode.wire.messages import Direction, Done, Fetch, LeafRequest, Message, Put, Records, Refusal, Stored


class Responder:
    """Answers Fetch, Put and Done of one conversation."""

    def __init__(self, conversation: Conversation, direction: int, width: int) -> None:
        self._conversation = conversation
        self._direction = direction
        self._width = width
        self._given = 0  # leaves, counted each time

    async def answer(self, message: Message) -> Result | None:
        """Answer `message`; the conversation's result once it is over."""
        match message:
            case Fetch(wanted) if self._direction != Direction.SEND:
                await self._records(wanted)
            case Put(records) if self._direction != Direction.RECEIVE:
                await store_put(self._conversation, records)
            case Done(is_final=is_final):
                note_followed(self._conversation, message)
                ours = done_of(self._conversation, is_final=is_final)
                await self._conversation.transport.send(ours)
                return responder_result(self._conversation, self._direction, message, ours)
            case _:
                raise unexpected(message)
        return None

    async def _records(self, wanted: tuple[LeafRequest, ...]) -> None:
        conversation = self._conversation
        if len({item.prefix for item in wanted}) < len(wanted):
            raise RemoteError(Reason.PROTOCOL_ERROR, "a Fetch names a prefix twice")  # each costs its subtree's hashes
        entries = list(islice(_entries(conversation.tree, wanted, self._width), _ENTRIES))
        keys = [key for _, _, key in entries[:BATCH_RECORDS_MAX]]
        raws, taken = await conversation.store.read(conversation.context, keys, bytes_max=BATCH_BYTES_MAX)
        self._given += taken
        if self._given > ROUNDS_MAX * len(conversation.tree) + BATCH_RECORDS_MAX:
            raise RemoteError(Reason.PROTOCOL_ERROR, "it fetches the same again and again")
        rest = _rest(wanted, entries, taken, self._width)
        for batch, is_last in batches_to_last(raws):
            await conversation.transport.send(Records(tuple(batch), rest if is_last else (), not is_last))
        conversation.count_sent(len(raws))


async def store_put(conversation: Conversation, raws: tuple[bytes, ...]) -> None:
    """Answer a Put."""
    applied = await merge(conversation, await verify_all(raws, conversation.context))
    refused = tuple(Refusal(refused.version, refused.reason) for refused in applied.refused)
    await conversation.transport.send(Stored(len(applied.records), applied.had, refused))


# (which item of the request, which digest of it, the leaf)
_Entry: TypeAlias = tuple[int, int, LeafKey]
_ENTRIES: Final = BATCH_RECORDS_MAX + 1  # one more than is read: it says where the rest begins


def _entries(tree: Tree, wanted: tuple[LeafRequest, ...], width: int) -> Iterator[_Entry]:
    """The leaves asked for that are there, in the order asked."""
    for place, item in enumerate(wanted):
        if item.leaves is None:
            for key, _ in tree.leaves_at(item.prefix, None if item.after is None else LeafKey(item.after)):
                yield place, 0, key
        # Leaves are named singly only where a walk showed them all; a subtree that has grown since is left to the next.
        elif tree.count_at(item.prefix) <= 2 * SMALL_SUBTREE_LEAVES:
            known = leaves_by_digest(tree, item.prefix, width)
            for index, at in enumerate(range(0, len(item.leaves), width)):
                leaf = known.get(Digest(item.leaves[at : at + width]))
                if leaf is not None:
                    yield place, index, leaf


def _rest(wanted: tuple[LeafRequest, ...], entries: list[_Entry], taken: int, width: int) -> tuple[LeafRequest, ...]:
    """What to ask for next when only `taken` of `entries` were read."""
    if taken == len(entries):
        return ()
    place, index, _ = entries[taken]
    item = wanted[place]
    if item.leaves is None:
        is_begun = taken > 0 and entries[taken - 1][0] == place
        item = LeafRequest(item.prefix, None, entries[taken - 1][2] if is_begun else item.after)
    else:
        item = LeafRequest(item.prefix, item.leaves[index * width :])
    return (item, *wanted[place + 1 :])
