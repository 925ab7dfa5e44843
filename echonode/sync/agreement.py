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

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from echonode.limits import BATCH_RECORDS_MAX, PREFIXES_PER_MESSAGE_MAX, ROUNDS_MAX, WINDOW
from echonode.model.merkle import Digest, Prefix, leaf_digest
from echonode.model.record import LeafKey, Record
from echonode.sync.answer_check import AnswerCheck
from echonode.sync.conversation import Conversation, Result
from echonode.sync.done import done_of, exchange_dones
from echonode.sync.record_batches import heads_below
from echonode.sync.transfer import put_all, request_records
from echonode.sync.verify_apply import merge
from echonode.wire.messages import Direction, Fetch, LeafRequest, Records


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
            before = tally.moved
            found = await self._round()
            progressed = tally.moved != before
            is_last = round_number == ROUNDS_MAX or not (found and progressed)
            if self._direction is not Direction.BOTH and not is_last:
                continue  # one way is verified by a walk that finds nothing, not by equal roots
            ours = done_of(self._conversation, is_final=is_last)
            theirs = (await exchange_dones(self._conversation, ours)).root
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
        tree = self._conversation.tree
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
        await put_all(self._conversation, heads_below(self._conversation, keys, difference.our_prefixes))
        return True

    def _root(self) -> bytes:
        return self._conversation.tree.root


# -- fetching --------------------------------------------------------------------------------------------------------


async def fetch(conversation: Conversation, wanted: Sequence[LeafRequest], width: int) -> set[Digest]:
    """Fetch and merge all of `wanted`; return the digests of the leaves it names that came."""
    came: set[Digest] = set()
    await request_records(
        conversation, (_FetchRequest(conversation, wanted, width, came) for wanted in _requests(wanted, width))
    )
    return came


class _FetchRequest:
    """One Fetch. `came`: where the leaves that came are noted."""

    def __init__(
        self, conversation: Conversation, wanted: tuple[LeafRequest, ...], width: int, came: set[Digest]
    ) -> None:
        self.message = Fetch(wanted)
        self._conversation = conversation
        self._width = width
        self._came = came
        self._check = AnswerCheck(wanted, width)

    def check(self, message: Records) -> None:
        self._check.look(message)

    async def store(self, message: Records, records: list[Record]) -> None:
        self._check.take(records, message.rest)
        await merge(self._conversation, records)
        if not message.more:
            self._came.update(self._check.came())

    def rest(self, last: Records) -> "_FetchRequest | None":
        return _FetchRequest(self._conversation, last.rest, self._width, self._came) if last.rest else None


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
