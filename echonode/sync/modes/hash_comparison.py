"""`hash_comparison`: depth first, two levels a round trip, several requests in flight (PROTOCOL.md §8.2).

    initiator                                        responder
      HashComparisonInit(our children of the root) ->
                                                   <-  Differences((prefix, part) of each differing child)
      CompareRequest(prefix, our children there)   ->
                                                   <-  Differences(..)
      then Fetch, Put, Done (sync/agreement.py), whenever a batch has been found, so that memory stays bounded

Best for few, localised differences. A differing subtree of at most SMALL_SUBTREE_LEAVES leaves comes whole, a larger
one as `max_depth` levels of children.
"""

from collections import deque
from collections.abc import AsyncGenerator

from echonode.errors import Reason, RemoteError
from echonode.limits import BATCH_RECORDS_MAX, PREFIXES_PER_MESSAGE_MAX, SMALL_SUBTREE_LEAVES, WINDOW
from echonode.model.merkle import ARITY, EMPTY, Prefix, Tree
from echonode.sync import tree_parts
from echonode.sync.agreement import Agreement, TreeDifference
from echonode.sync.conversation import Conversation, Result
from echonode.sync.executor import DEFAULTS, InitiatorOptions
from echonode.sync.modes.level_wise import compare
from echonode.sync.responder import Responder
from echonode.sync.work import PART_S
from echonode.wire.messages import (
    PROTOCOL_VERSION,
    CompareRequest,
    Differences,
    Direction,
    HashComparisonInit,
)


async def run_initiator(conversation: Conversation, options: InitiatorOptions = DEFAULTS) -> Result:
    """Make the context equal in both stores, or one way let nothing be missing."""
    walker = _Walker(conversation, options.direction, options.width, options.max_depth)
    return await Agreement(conversation, options.direction, options.width, walker.walk).reach()


async def run_responder(conversation: Conversation, init: HashComparisonInit) -> Result:
    """Serve the conversation that `init` opened."""
    answers = Responder(conversation, init.direction, init.width)
    await _send_differences(conversation, b"", init.children, init)
    while True:
        message = await conversation.transport.recv()
        if isinstance(message, CompareRequest):
            await _send_differences(conversation, message.prefix, message.children, init)
        elif (result := await answers.answer(message)) is not None:
            return result


async def _send_differences(
    conversation: Conversation, prefix: Prefix, children: bytes, init: HashComparisonInit
) -> None:
    theirs = tree_parts.decode(children, init.width)
    if isinstance(theirs, list) or len(prefix) >= tree_parts.PREFIX_MAX:
        raise RemoteError(Reason.PROTOCOL_ERROR, "a comparison starts from a branch")
    tree = conversation.tree
    found: list[tuple[Prefix, bytes]] = []
    for nibble, (ours, their_child) in enumerate(zip(tree.children_at(prefix), theirs, strict=True)):
        if (None if ours == EMPTY else ours[: init.width]) != their_child:
            _describe(tree, prefix + bytes((nibble,)), init.width, init.max_depth, found)
    await conversation.transport.send(Differences(tree.root, tuple(found)))
    await conversation.charge(PART_S * len(found))


def _describe(tree: Tree, prefix: Prefix, width: int, depth: int, found: list[tuple[Prefix, bytes]]) -> None:
    """Append the tree part at `prefix` to `found`, then those below it, `depth` levels in all; parents come before
    children."""
    found.append((prefix, tree_parts.encode_node(tree, prefix, width, SMALL_SUBTREE_LEAVES)))
    if depth == 1 or tree.count_at(prefix) <= SMALL_SUBTREE_LEAVES:
        return
    for nibble, child in enumerate(tree.children_at(prefix)):
        # An answer that grows too long stops here. The initiator asks for the rest.
        if child != EMPTY and len(found) < PREFIXES_PER_MESSAGE_MAX // 4:
            _describe(tree, prefix + bytes((nibble,)), width, depth - 1, found)


class _Walker:
    """Finds the differing leaves, depth first."""

    def __init__(self, conversation: Conversation, direction: Direction, width: int, max_depth: int) -> None:
        self._conversation = conversation
        self._direction = direction
        self._width = width
        self._max_depth = max_depth
        self._is_open = False

    async def walk(self) -> AsyncGenerator[TreeDifference, None]:
        """Yield the difference in pieces: one whenever about a batch of leaves has been found, and one at the end."""
        stack: list[Prefix] = [b""]
        in_flight: deque[Prefix] = deque()
        difference = TreeDifference()
        while stack or in_flight:
            while stack and len(in_flight) < WINDOW:
                in_flight.append(stack.pop())
                await self._ask(in_flight[-1])
            answer = await self._conversation.receive_answer(Differences)
            difference.note_root(answer.root)
            self._compare_answer(in_flight.popleft(), answer, difference, stack)
            if not in_flight and _size(difference) >= BATCH_RECORDS_MAX:
                yield difference
                difference = TreeDifference(difference.their_root, difference.has_moved)
        difference.is_last = True
        yield difference

    async def _ask(self, prefix: Prefix) -> None:
        children = tree_parts.encode_branch(self._conversation.tree.children_at(prefix), self._width)
        if self._is_open:
            await self._conversation.ask(CompareRequest(prefix, children))
            return
        self._is_open = True
        await self._conversation.ask(
            HashComparisonInit(
                PROTOCOL_VERSION, self._conversation.context, self._direction, self._width, self._max_depth, children
            )
        )

    def _compare_answer(
        self, asked: Prefix, answer: Differences, difference: TreeDifference, stack: list[Prefix]
    ) -> None:
        """Compare the parts of an answer with our tree. Push differing children that it does not describe on `stack`.
        Raises RemoteError for parts that were not asked for."""
        described = {prefix for prefix, _ in answer.parts}
        above = {asked}  # every part stands below an earlier one, and comes once: no subtree is compared twice
        compared: set[Prefix] = set()  # below these nothing is left to compare
        tree = self._conversation.tree
        for prefix, part in answer.parts:
            if prefix in above or prefix[:-1] not in above:
                raise RemoteError(Reason.PROTOCOL_ERROR, "Differences describes what was not asked for")
            above.add(prefix)
            if any(prefix[:depth] in compared for depth in range(len(asked) + 1, len(prefix) + 1)):
                continue
            theirs = tree_parts.decode(part, self._width)
            if isinstance(theirs, tuple) and tree.count_at(prefix) == 0:
                difference.their_prefixes.append(prefix)
                compared.add(prefix)
                continue
            deeper: list[Prefix] = []
            compare(self._conversation, prefix, theirs, self._width, difference, deeper)
            stack += [child for child in deeper if child not in described]
            children = [prefix + bytes((nibble,)) for nibble in range(ARITY)]
            compared.update(child for child in children if child in described and child not in deeper)


def _size(difference: TreeDifference) -> int:
    """Return the number of leaves in `difference`; a subtree that one side lacks counts as a batch."""
    leaves = sum(map(len, difference.their_leaves.values()))
    return leaves + len(difference.our_leaves) + BATCH_RECORDS_MAX * bool(
        difference.their_prefixes or difference.our_prefixes
    )
