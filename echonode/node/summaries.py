"""Summaries: a hello's description of a context, and the state that mode selection reads from it."""

from typing import Final

from echonode.errors import Reason, RemoteError
from echonode.model.merkle import Tree
from echonode.store.port import Store
from echonode.sync import tree_parts
from echonode.sync.select import State
from echonode.wire.messages import Summary

_EMPTY_ROOT: Final = Tree().root
_EMPTY_LEVEL1: Final = tree_parts.encode_branch(Tree().children_at(b""), 16)


def summarise(store: Store, context: str, *, is_partial: bool = False, is_full: bool = False) -> Summary:
    """Return the summary of `context` as it is now; `is_partial` where only a part of it is wanted here,
    `is_full` where no more of the peer's own records are taken."""
    tree = store.tree(context)
    level1 = tree_parts.encode_branch(tree.children_at(b""), 16)
    return Summary(context, tree.root, len(tree), store.seq(context), level1, is_partial, is_full)


def empty(context: str) -> Summary:
    """Return the summary that stands for a context which a hello does not mention."""
    return Summary(context, _EMPTY_ROOT, 0, 0, _EMPTY_LEVEL1, False, False)


def state_of(summary: Summary) -> State:
    """Return the peer's side of a selection. Raises RemoteError for a first level that is no branch."""
    level1 = tree_parts.decode(summary.level1, 16)
    if isinstance(level1, list):
        raise RemoteError(Reason.PROTOCOL_ERROR, "a summary's first level is a branch")
    return State(summary.root, summary.count, level1, summary.seq, is_partial=summary.is_partial)
