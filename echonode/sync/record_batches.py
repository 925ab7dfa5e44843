"""This node's own records, read from the store in batches that each fit one message."""

from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from itertools import islice

from echonode.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX
from echonode.model.merkle import Prefix
from echonode.model.record import LeafKey, Record, from_store
from echonode.sync.conversation import Conversation


def batches(raws: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield `raws` in lists that each fit one message; none is empty."""
    batch: list[bytes] = []
    size = 0
    for raw in raws:
        if batch and (len(batch) == BATCH_RECORDS_MAX or size + len(raw) > BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(raw)
        size += len(raw)
    if batch:
        yield batch


def batches_to_last(raws: Iterable[bytes]) -> Iterator[tuple[list[bytes], bool]]:
    """Yield each batch of `raws` and True with the last one; one empty batch when there are no records."""
    found = list(batches(raws)) or [[]]
    for batch in found:
        yield batch, batch is found[-1]


async def heads_of(
    conversation: Conversation, keys: Sequence[LeafKey], picks: Callable[[Record], bool] | None = None
) -> AsyncGenerator[list[bytes], None]:
    """Yield the heads of the leaves `keys`, in their order: all of them, or those that `picks` returns True for."""
    at = 0
    while at < len(keys):
        raws, read = await conversation.store.read(
            conversation.context, keys[at : at + BATCH_RECORDS_MAX], bytes_max=BATCH_BYTES_MAX
        )
        at += read
        for batch in batches(raws if picks is None else [raw for raw in raws if picks(from_store(raw))]):
            yield batch


async def heads_below(
    conversation: Conversation, keys: Sequence[LeafKey], prefixes: Sequence[Prefix]
) -> AsyncGenerator[list[bytes], None]:
    """Yield all heads of the leaves `keys`, then of every leaf below `prefixes`."""
    waiting = list(keys)
    below = deque(prefixes)
    after: LeafKey | None = None  # in the first of `below`
    while True:
        # Asked anew each time: the tree may change while we wait for the network. Many small subtrees fill one message.
        tree = conversation.tree
        while below and len(waiting) < BATCH_RECORDS_MAX:
            room = BATCH_RECORDS_MAX - len(waiting)
            more = [key for key, _ in islice(tree.leaves_at(below[0], after), room)]
            waiting += more
            after = more[-1] if len(more) == room else None
            if after is None:
                below.popleft()
        if not waiting:
            return
        raws, read = await conversation.store.read(
            conversation.context, waiting[:BATCH_RECORDS_MAX], bytes_max=BATCH_BYTES_MAX
        )
        waiting = waiting[read:]
        for batch in batches(raws):
            yield batch
