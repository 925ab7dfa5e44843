"""Agreement of two trees: the initiator walks, moves what differs, and compares roots, until they are equal.

`level_wise` and `hash_comparison` bring the walk; `sketch` falls back on one.

    initiator                                  responder (sync/responder.py)
      Fetch(wanted)  x window        ->
                                     <-          Records(records, rest)      the rest is fetched next
      Put(records)   x window        ->
      Done(root, is_final)           ->
                                     <-          Stored(stored, had, refused)
                                     <-          Done(root)                  over when equal or final, else walk again

Fetching comes first: records that the peer's records supersede need not be put. While one side's messages are large the
other's are small, so two ends that write at once cannot block each other. The Done goes right behind the last Puts of a
walk: no answer to them changes our root, and it saves a round trip (PROTOCOL.md §8.4, §8.5).
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
from echonode.sync.transfer import PutWindow, request_records
from echonode.sync.verify_apply import merge
from echonode.wire.messages import Direction, Fetch, LeafRequest, Records


@dataclass(slots=True)
class TreeDifference:
    """The difference that one walk found, as of `their_root`."""

    their_root: bytes = b""
    has_moved: bool = False  # the peer's root changed during the walk
    is_last: bool = False  # the walk asks for nothing behind this piece
    their_prefixes: list[Prefix] = field(default_factory=list)  # subtrees that only the peer has
    our_prefixes: list[Prefix] = field(default_factory=list)  # subtrees that only this side has
    their_leaves: dict[Prefix, list[Digest]] = field(default_factory=dict)  # single leaves, below a prefix
    our_leaves: list[LeafKey] = field(default_factory=list)  # single leaves

    def note_root(self, root: bytes) -> None:
        """Note the root that an answer shows. A walk that saw two roots proves nothing about either."""
        self.has_moved |= self.their_root not in (b"", root)
        self.their_root = root


Walk = Callable[[], AsyncGenerator[TreeDifference, None]]  # yields the difference in pieces


class Agreement:
    """The initiator's side of agreement. `width`: bytes of each digest that travels."""

    def __init__(self, conversation: Conversation, direction: Direction, width: int, walk: Walk) -> None:
        self._conversation = conversation
        self._direction = direction
        self._width = width
        self._walk = walk
        # Digests of leaves that were fetched or put. A later walk may still see them differ, and must not move them
        # again.
        self._handled: set[Digest] = set()
        self._last_piece = TreeDifference()  # of the last walk
        self._our_root = b""  # when the last walk began

    async def reach(self) -> Result:
        """Walk and move records until the roots are equal, at most ROUNDS_MAX times; return how it ended. Raises what
        transport, store and peer raise."""
        tally = self._conversation.tally
        for round_number in range(1, ROUNDS_MAX + 1):
            before = tally.moved
            puts = PutWindow(self._conversation)
            found = await self._round(puts)
            progressed = tally.moved != before
            is_last = round_number == ROUNDS_MAX or not (found and progressed)
            if self._direction is not Direction.BOTH and not is_last:
                continue  # one way is verified by a walk that finds nothing, not by equal roots
            ours = done_of(self._conversation, is_final=is_last)
            theirs = (await exchange_dones(self._conversation, ours, puts)).root
            if theirs != ours.root and not is_last and tally.moved == before:
                # All that was put was refused, as we learn only behind our Done: another walk would find no more.
                is_last = True
                ours = done_of(self._conversation, is_final=True)
                theirs = (await exchange_dones(self._conversation, ours)).root
            if theirs == ours.root:  # the responder ends here, even if this side has written since
                return Result.EQUAL if theirs == self._root() else Result.MOVED
            if is_last:
                return self._verdict(found, theirs)
        raise AssertionError("the last round is final")

    def _verdict(self, found: bool, their_root: bytes) -> Result:
        tally = self._conversation.tally
        if tally.refused or tally.refused_there:
            return Result.DIFFERENT
        if found or self._last_piece.has_moved or their_root != self._last_piece.their_root:
            return Result.MOVED
        if self._direction is not Direction.RECEIVE and self._our_root != self._root():
            return Result.MOVED  # the walk may have missed what was written here since it began
        return Result.DIFFERENT if self._direction is Direction.BOTH else Result.EQUAL

    async def _round(self, puts: PutWindow) -> bool:
        """Walk once and move what differs. Return False when nothing was found that may move. Answers to the last Puts
        may be left to come in `puts`, if a Done follows."""
        found = False
        self._our_root = self._root()
        async with aclosing(self._walk()) as differences:
            async for difference in differences:
                self._last_piece = difference
                if self._direction is not Direction.SEND:
                    found |= await self._fetch(difference)
                if self._direction is not Direction.RECEIVE:
                    found |= await self._put(difference, puts)
                    if not difference.is_last or self._direction is not Direction.BOTH:
                        await puts.drain()
        return found

    async def _fetch(self, difference: TreeDifference) -> bool:
        wanted = [LeafRequest(prefix, None) for prefix in difference.their_prefixes]
        for prefix, leaves in difference.their_leaves.items():
            new = [leaf for leaf in leaves if leaf not in self._handled]
            if new:
                wanted.append(LeafRequest(prefix, b"".join(new)))
        if not wanted:
            return False
        self._handled |= await fetch(self._conversation, wanted, self._width)
        return True

    async def _put(self, difference: TreeDifference, puts: PutWindow) -> bool:
        tree = self._conversation.tree
        theirs = {leaf for leaves in difference.their_leaves.values() for leaf in leaves}
        keys: list[LeafKey] = []
        for key in difference.our_leaves:
            state = tree.get(key)
            leaf = None if state is None else Digest(leaf_digest(key, state)[: self._width])
            # The fetched records may have made our leaf equal to theirs.
            if leaf is not None and leaf not in theirs and leaf not in self._handled:
                self._handled.add(leaf)
                keys.append(key)
        if not keys and not difference.our_prefixes:
            return False
        await puts.put(heads_below(self._conversation, keys, difference.our_prefixes))
        return True

    def _root(self) -> bytes:
        return self._conversation.tree.root


# -- fetching --------------------------------------------------------------------------------------------------------


async def fetch(conversation: Conversation, wanted: Sequence[LeafRequest], width: int) -> set[Digest]:
    """Fetch and merge all of `wanted`. Return the digests of the named leaves that came."""
    came: set[Digest] = set()
    requests = (_FetchRequest(conversation, part, width, came) for part in _requests(wanted, width))
    await request_records(conversation, requests)
    return came


class _FetchRequest:
    """One Fetch, as a PendingRequest. `came` collects the digests of the named leaves that came."""

    def __init__(
        self, conversation: Conversation, wanted: tuple[LeafRequest, ...], width: int, came: set[Digest]
    ) -> None:
        self.message = Fetch(wanted)
        self._conversation = conversation
        self._width = width
        self._came = came
        self._check = AnswerCheck(wanted, width)

    def check(self, message: Records) -> None:
        self._check.check_message(message)

    async def store(self, message: Records, records: list[Record]) -> None:
        self._check.check_records(records, message.rest)
        await merge(self._conversation, records)
        if not message.more:
            self._came.update(self._check.arrived_leaves())

    def rest(self, last: Records) -> "_FetchRequest | None":
        return _FetchRequest(self._conversation, last.rest, self._width, self._came) if last.rest else None


def _requests(wanted: Sequence[LeafRequest], width: int) -> Iterator[tuple[LeafRequest, ...]]:
    """Yield `wanted` in parts, each for one Fetch: about a window of them, none with more leaves than an answer has
    records."""
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
