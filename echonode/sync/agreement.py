"""Moving records, and agreeing that all have moved: what `level_wise` and `hash_comparison` share.

    initiator                                  responder
      Fetch(wanted)  x window        ->
                                     <-          Records(records, rest)      rest is fetched next (answer_check.py)
      Put(records)   x window        ->
                                     <-          Stored(stored, had, refused)
      Done(root, is_final)           ->
                                     <-          Done(root)                  over when equal or final, else walk again

Pulling comes first: what the peer's records supersede need not be pushed. While one side's messages are large the
other's are small, so two ends that write at once cannot block each other.
"""

from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TypeVar

from echonode.errors import PeerRefused, Reason, RemoteError
from echonode.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, PREFIXES_PER_MESSAGE_MAX, ROUNDS_MAX, WINDOW
from echonode.model.merkle import Digest, Prefix, leaf_digest
from echonode.model.record import LeafKey, Record
from echonode.sync.answer_check import AnswerCheck
from echonode.sync.conversation import Conversation, Result
from echonode.sync.verify_apply import Pipeline, merge
from echonode.wire.messages import Direction, Done, Fetch, LeafRequest, Message, Put, Records, Refused, Stored

_M = TypeVar("_M")


@dataclass(slots=True)
class TreeDifference:
    """What a walk found, as of `their_root`. Prefixes name whole subtrees that one side lacks; leaves differ singly."""

    their_root: bytes = b""
    has_moved: bool = False  # the peer's root did, in the middle of the walk
    their_prefixes: list[Prefix] = field(default_factory=list)
    our_prefixes: list[Prefix] = field(default_factory=list)
    their_leaves: dict[Prefix, list[Digest]] = field(default_factory=dict)
    our_leaves: list[LeafKey] = field(default_factory=list)

    def as_of(self, root: bytes) -> None:
        """An answer showed a tree of this root. Who saw two of them in one walk can vouch for neither."""
        self.has_moved |= self.their_root not in (b"", root)
        self.their_root = root


Walk = Callable[[], AsyncGenerator[TreeDifference, None]]


class Agreement:
    """The initiator's side: walk and move records until the roots are equal, or say why they are not."""

    def __init__(self, conversation: Conversation, direction: Direction, width: int, walk: Walk) -> None:
        self._conversation = conversation
        self._direction = direction
        self._width = width
        self._walk = walk
        # Leaves dealt with, by digest: theirs that ours supersede, ours that they answered for. A later walk still
        # sees them differ while only one side has moved.
        self._settled: set[Digest] = set()
        self._seen = TreeDifference()  # the last piece of the last walk
        self._our_root = b""  # when it began

    async def reach(self) -> Result:
        """Raises what transport, store and peer raise."""
        tally = self._conversation.tally
        for round_number in range(1, ROUNDS_MAX + 1):
            before = (tally.received, tally.had, tally.sent - tally.refused_there)
            found = await self._round()
            progressed = (tally.received, tally.had, tally.sent - tally.refused_there) != before
            is_last = round_number == ROUNDS_MAX or not (found and progressed)
            if self._direction is not Direction.BOTH and not is_last:
                continue  # one way is verified by a walk that finds nothing, not by equal roots
            ours = stamp(self._conversation, is_final=is_last)
            theirs = await finish(self._conversation, ours)
            if theirs == ours.root:  # the responder takes its leave, whatever was written here since
                return Result.EQUAL if theirs == self._root() else Result.MOVED
            if is_last:
                return self._verdict(found, theirs)
        raise AssertionError("the last round is final")

    def _verdict(self, found: bool, their_root: bytes) -> Result:
        tally = self._conversation.tally
        if tally.refused or tally.refused_there:
            return Result.DIFFERENT
        if found or self._seen.has_moved or their_root != self._seen.their_root:
            return Result.MOVED
        if self._direction is not Direction.RECEIVE and self._our_root != self._root():
            return Result.MOVED  # what was written here since the walk began, it may have missed
        return Result.DIFFERENT if self._direction is Direction.BOTH else Result.EQUAL

    async def _round(self) -> bool:
        """One walk and what it asks for. False when it found nothing that may move."""
        found = False
        self._our_root = self._root()
        async with aclosing(self._walk()) as differences:
            async for difference in differences:
                self._seen = difference
                if self._direction is not Direction.SEND:
                    found |= await self._pull(difference)
                if self._direction is not Direction.RECEIVE:
                    found |= await self._push(difference)
        return found

    async def _pull(self, difference: TreeDifference) -> bool:
        wanted = [LeafRequest(prefix, None) for prefix in difference.their_prefixes]
        for prefix, leaves in difference.their_leaves.items():
            new = [leaf for leaf in leaves if leaf not in self._settled]
            if new:
                wanted.append(LeafRequest(prefix, b"".join(new)))
        if not wanted:
            return False
        self._settled |= await fetch(self._conversation, wanted, self._width)
        return True

    async def _push(self, difference: TreeDifference) -> bool:
        tree = self._conversation.store.tree(self._conversation.context)
        theirs = {leaf for leaves in difference.their_leaves.values() for leaf in leaves}
        keys: list[LeafKey] = []
        for key in difference.our_leaves:
            state = tree.get(key)
            leaf = None if state is None else Digest(leaf_digest(key, state)[: self._width])
            # What was pulled may have made our leaf what theirs is already.
            if leaf is not None and leaf not in theirs and leaf not in self._settled:
                self._settled.add(leaf)
                keys.append(key)
        if not keys and not difference.our_prefixes:
            return False
        await push(self._conversation, keys, difference.our_prefixes)
        return True

    def _root(self) -> bytes:
        return self._conversation.store.tree(self._conversation.context).root


async def finish(conversation: Conversation, ours: Done) -> bytes:
    """Exchange Dones; the peer's root."""
    return (await exchange_dones(conversation, ours)).root


async def exchange_dones(conversation: Conversation, ours: Done) -> Done:
    """Exchange Dones; the peer's."""
    conversation.tally.ask()
    await conversation.transport.send(ours)
    theirs = await expect(conversation, Done)
    conversation.tally.answered()
    note_seq(conversation, theirs)
    return theirs


def note_seq(conversation: Conversation, theirs: Done) -> None:
    """Equal roots say how far we have followed the peer: all that its log held at its Done is held here."""
    if theirs.root == conversation.store.tree(conversation.context).root:
        conversation.tally.followed = theirs.seq


def stamp(conversation: Conversation, *, is_final: bool) -> Done:
    """Our Done: what our tree holds now."""
    tree = conversation.store.tree(conversation.context)
    return Done(tree.root, len(tree), conversation.store.seq(conversation.context), is_final)


async def expect(conversation: Conversation, kind: type[_M]) -> _M:
    """The next message, which must be a `kind`. Raises PeerRefused for a Refused, RemoteError for anything else."""
    message = await conversation.transport.recv()
    if isinstance(message, kind):
        return message
    if isinstance(message, Refused):
        reason = Reason(message.reason) if message.reason in Reason._value2member_map_ else Reason.PROTOCOL_ERROR
        raise PeerRefused(reason, supported=message.supported)
    raise unexpected(message)


def unexpected(message: Message) -> RemoteError:
    """The peer said something that has no place here."""
    return RemoteError(Reason.PROTOCOL_ERROR, f"unexpected {type(message).__name__}")


# -- the initiator's transfers ---------------------------------------------------------------------------------------


async def fetch(conversation: Conversation, wanted: Sequence[LeafRequest], width: int) -> set[Digest]:
    """Fetch and merge all of `wanted`, a window of requests in flight; which of the leaves it names came."""
    waiting = deque(_requests(wanted, width))
    pipeline = Pipeline(conversation.context)
    in_flight: deque[AnswerCheck] = deque()
    came: set[Digest] = set()

    async def take(asked: AnswerCheck, answer: Records, records: list[Record]) -> None:
        asked.take(records, answer.rest)
        await merge(conversation, records)
        if not answer.more:
            came.update(asked.came())

    try:
        while waiting or in_flight:
            while waiting and len(in_flight) < WINDOW:
                in_flight.append(AnswerCheck(waiting.popleft(), width))
                conversation.tally.ask()
                await conversation.transport.send(Fetch(in_flight[-1].wanted))
            answer = await expect(conversation, Records)
            in_flight[0].look(answer)
            if answer.records:
                await pipeline.put(answer.records, partial(take, in_flight[0], answer))
            if answer.rest:
                waiting.appendleft(answer.rest)
            if not answer.more:
                conversation.tally.answered()
                in_flight.popleft()
        await pipeline.finish()
    finally:
        await pipeline.abandon()
    return came


def _requests(wanted: Sequence[LeafRequest], width: int) -> Iterator[tuple[LeafRequest, ...]]:
    """`wanted` in requests: about a window of them, none with more leaves than one answer's records."""
    items_max = min(PREFIXES_PER_MESSAGE_MAX, -(-len(wanted) // WINDOW))
    request: list[LeafRequest] = []
    leaves = 0
    for item in wanted:
        size = len(item.leaves or b"") // width
        if request and (len(request) >= items_max or leaves + size > BATCH_RECORDS_MAX):
            yield tuple(request)
            request, leaves = [], 0
        request.append(item)
        leaves += size
    if request:
        yield tuple(request)


async def push(conversation: Conversation, keys: Sequence[LeafKey], prefixes: Sequence[Prefix]) -> None:
    """Offer all heads of our leaves `keys` and of every leaf below `prefixes`."""
    await offer(conversation, our_records(conversation, keys, prefixes))


async def offer(conversation: Conversation, pieces: AsyncGenerator[list[bytes], None]) -> None:
    """Offer all versions of `pieces`, a window of Puts in flight."""
    await take_stored(conversation, await put_all(conversation, pieces, WINDOW))


async def put_all(conversation: Conversation, pieces: AsyncGenerator[list[bytes], None], window: int) -> int:
    """As `offer`, but the last Puts, as many as is returned, are not answered yet: `take_stored` of them is due."""
    in_flight = 0
    async with aclosing(pieces):  # whoever ends it early ends them too, and not whenever they are collected
        async for raws in pieces:
            for batch in batches(raws):
                if in_flight == window:
                    await take_stored(conversation, 1)
                    in_flight -= 1
                conversation.tally.ask()
                await conversation.transport.send(Put(tuple(batch)))
                conversation.tally.sent += len(batch)
                in_flight += 1
                conversation.on_progress(conversation.tally)
    return in_flight


async def take_stored(conversation: Conversation, puts: int) -> None:
    """The answers to so many Puts."""
    for _ in range(puts):
        answer = await expect(conversation, Stored)
        conversation.tally.answered()
        conversation.tally.refused_there += len(answer.refused)


async def our_records(
    conversation: Conversation, keys: Sequence[LeafKey], prefixes: Sequence[Prefix]
) -> AsyncGenerator[list[bytes], None]:
    """All heads of our leaves `keys` and of every leaf below `prefixes`, a batch at a time."""
    waiting = list(keys)
    below = deque(prefixes)
    after: LeafKey | None = None  # in the first of `below`
    while True:
        # Asked anew each time: the tree may change while we wait for the network. Many small subtrees fill one message.
        tree = conversation.store.tree(conversation.context)
        while below and len(waiting) < BATCH_RECORDS_MAX:
            room = BATCH_RECORDS_MAX - len(waiting)
            more = [key for key, _ in islice(tree.leaves_at(below[0], after), room)]
            waiting += more
            after = more[-1] if len(more) == room else None
            if after is None:
                below.popleft()
        if not waiting:
            return
        raws, taken = await conversation.store.read(
            conversation.context, waiting[:BATCH_RECORDS_MAX], bytes_max=BATCH_BYTES_MAX
        )
        waiting = waiting[taken:]
        if raws:
            yield raws


def batches(raws: Sequence[bytes]) -> Iterator[list[bytes]]:
    """`raws` in lists that each fit one message."""
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
