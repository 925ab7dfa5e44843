"""`level_wise`: breadth first, one batched request per tree level for all differing prefixes (PROTOCOL.md §8.1).

    initiator                                   responder
      LevelWiseInit(prefixes)         ->
                                      <-          Nodes(one part per prefix)
      NodesRequest(differing children) ->
                                      <-          Nodes(..)                    one round trip a level
      then Fetch, Put, Done (sync/agreement.py)

Best for scattered differences: every level is one round trip, however many prefixes differ.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from echonode.errors import Reason, RemoteError
from echonode.limits import PREFIXES_PER_MESSAGE_MAX, SMALL_SUBTREE_LEAVES, WALK_PREFIXES_MAX, WINDOW
from echonode.model.merkle import ARITY, DEPTH_MAX, Prefix
from echonode.sync import tree_parts
from echonode.sync.agreement import Agreement, TreeDifference
from echonode.sync.conversation import Conversation, Result
from echonode.sync.executor import DEFAULTS, InitiatorOptions
from echonode.sync.responder import Responder
from echonode.sync.work import PART_S
from echonode.wire.messages import PROTOCOL_VERSION, Direction, LevelWiseInit, Nodes, NodesRequest


async def run_initiator(conversation: Conversation, options: InitiatorOptions = DEFAULTS) -> Result:
    """Make the context equal in both stores, or one way let nothing be missing."""
    expected = _MANY if options.expected is None else options.expected
    walker = Walker(conversation, options.direction, options.width, expected)
    return await Agreement(conversation, options.direction, options.width, walker.walk).reach()


async def run_responder(conversation: Conversation, init: LevelWiseInit) -> Result:
    """Serve the conversation that `init` opened."""
    answers = Responder(conversation, init.direction, init.width)
    await send_nodes(conversation, init.prefixes, init.width)
    while True:
        message = await conversation.transport.recv()
        if isinstance(message, NodesRequest):
            await send_nodes(conversation, message.prefixes, init.width)
        elif (result := await answers.answer(message)) is not None:
            return result


async def send_nodes(conversation: Conversation, prefixes: tuple[Prefix, ...], width: int) -> None:
    """Answer with the tree node at each of `prefixes`. Raises RemoteError when one is named twice."""
    if len(set(prefixes)) < len(prefixes):  # a short request must not cost a long answer
        raise RemoteError(Reason.PROTOCOL_ERROR, "a request names a prefix twice")
    tree = conversation.tree
    nodes = tuple(tree_parts.encode_node(tree, prefix, width) for prefix in prefixes)
    await conversation.transport.send(Nodes(tree.root, nodes))
    await conversation.charge(PART_S * len(nodes))


_MANY: Final = 50  # differences with which all 16 first-level subtrees differ as likely as not


def first_level(expected: int, leaves: int) -> list[Prefix]:
    """Return the prefixes to ask for first: those of the level whose children are about four times as many as the
    expected differences, and no more than there are leaves. A walk from the root would ask for almost all of them too,
    and take a round trip for each level."""
    level: list[Prefix] = [b""]
    while ARITY * len(level) < min(expected, leaves) and ARITY * len(level) <= PREFIXES_PER_MESSAGE_MAX:
        level = [prefix + bytes((nibble,)) for prefix in level for nibble in range(ARITY)]
    return level


class Walker:
    """Finds the differing leaves, level by level.

    `width`: bytes of each digest; `expected`: about how many leaves differ; `is_open`: the conversation was opened by
    another mode, so the walk begins with a NodesRequest.
    """

    def __init__(
        self, conversation: Conversation, direction: Direction, width: int, expected: int = 0, *, is_open: bool = False
    ) -> None:
        self._conversation = conversation
        self._direction = direction
        self._width = width
        self._expected = expected
        self._is_open = is_open

    async def walk(self) -> AsyncGenerator[TreeDifference, None]:
        """Yield the whole difference in one piece: the leaves are known only behind the last level."""
        difference = TreeDifference()
        tree = self._conversation.tree
        level = first_level(self._expected, len(tree))
        self._expected = 0  # a second walk finds little
        while level:
            deeper: list[Prefix] = []
            async with aclosing(self._nodes(level, difference)) as nodes:
                async for prefix, node in nodes:
                    compare(self._conversation, prefix, node, self._width, difference, deeper)
            if len(deeper) > WALK_PREFIXES_MAX:
                raise RemoteError(Reason.TOO_LARGE, "a tree of more differing prefixes than there can be")
            level = deeper
        difference.is_last = True
        yield difference

    async def _nodes(
        self, prefixes: list[Prefix], difference: TreeDifference
    ) -> AsyncGenerator[tuple[Prefix, tree_parts.BranchPart | tree_parts.BucketPart], None]:
        """Yield the peer's node at each of `prefixes`; ask in as few messages as fit, a window of them in flight."""
        requests = [
            tuple(prefixes[at : at + PREFIXES_PER_MESSAGE_MAX])
            for at in range(0, len(prefixes), PREFIXES_PER_MESSAGE_MAX)
        ]
        for request in requests[:WINDOW]:
            await self._ask(request)
        for number, request in enumerate(requests):
            answer = await self._conversation.receive_answer(Nodes)
            if len(answer.parts) != len(request):
                raise RemoteError(Reason.PROTOCOL_ERROR, "Nodes answers another number of prefixes than was asked")
            if number + WINDOW < len(requests):
                await self._ask(requests[number + WINDOW])
            difference.note_root(answer.root)
            for prefix, part in zip(request, answer.parts, strict=True):
                yield prefix, tree_parts.decode(part, self._width)

    async def _ask(self, prefixes: tuple[Prefix, ...]) -> None:
        if self._is_open:
            await self._conversation.ask(NodesRequest(prefixes))
            return
        self._is_open = True
        context = self._conversation.context
        await self._conversation.ask(LevelWiseInit(PROTOCOL_VERSION, context, self._direction, self._width, prefixes))


def compare(
    conversation: Conversation,
    prefix: Prefix,
    theirs: tree_parts.BranchPart | tree_parts.BucketPart,
    width: int,
    difference: TreeDifference,
    deeper: list[Prefix],
) -> None:
    """Compare our node at `prefix` with `theirs`. Note subtrees and leaves that one side lacks in `difference`, and in
    `deeper` the children that both have and that differ. Raises RemoteError for a branch deeper than trees have."""
    tree = conversation.tree
    if isinstance(theirs, list):
        _compare_leaves(conversation, prefix, theirs, width, difference)
        return
    if len(prefix) >= DEPTH_MAX - 1:  # at most 16 keys share such a prefix: they are a bucket
        raise RemoteError(Reason.PROTOCOL_ERROR, "a tree has no branch this deep")
    ours = tree_parts.cut(tree.children_at(prefix), width)
    for nibble, (our_child, their_child) in enumerate(zip(ours, theirs, strict=True)):
        child = prefix + bytes((nibble,))
        if our_child == their_child:
            continue
        if our_child is None:
            difference.their_prefixes.append(child)
        elif their_child is None:
            difference.our_prefixes.append(child)
        else:
            deeper.append(child)


def _compare_leaves(
    conversation: Conversation, prefix: Prefix, theirs: tree_parts.BucketPart, width: int, difference: TreeDifference
) -> None:
    tree = conversation.tree
    if tree.count_at(prefix) > SMALL_SUBTREE_LEAVES:
        # The peer has a handful of leaves where we have many: to send all of ours costs no more than to find out.
        difference.our_prefixes.append(prefix)
        difference.their_leaves[prefix] = theirs
        return
    ours = tree_parts.leaves_by_digest(tree, prefix, width)
    missing = [leaf for leaf in theirs if leaf not in ours]
    if missing:
        difference.their_leaves[prefix] = missing
    known = set(theirs)
    difference.our_leaves += [key for leaf, key in ours.items() if leaf not in known]
