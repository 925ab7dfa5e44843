"""The selection of a mode: a pure function of two summaries, with the reason that is logged (PROTOCOL.md §8.6).

    ours        theirs      mode
    equal roots             none        nothing to do, and it is said
    partial     any         reconcile   the part that is wanted here
    whole       partial     none        the peer gets the turn and reconciles the part it wants
    empty       something   snapshot    (level_wise when the peer does not serve it)
    something   empty       none        the peer gets the turn and opens the snapshot itself
    a valid cursor in its log           delta
    both large, of similar size         sketch
    few of 16 first-level subtrees differ     hash_comparison
    otherwise               level_wise

Measured (proto/COSTS.md): a sketch costs a twentieth of the bytes of a walk and a third of its round trips, however
much differs. It also needs numpy in memory, and reads every leaf when it is first built. From some thousands of leaves
on that is worth it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from math import log
from typing import Final

from echonode.limits import SKETCH_SYMBOLS_MAX

# Up to this many differing first-level subtrees are followed depth first; more are cheaper level by level.
_LOCALISED_MAX: Final = 2
# With fewer leaves a walk costs little, and a small node does not load numpy.
_SKETCH_LEAVES_MIN: Final = 2048
# With a larger surplus of leaves on one side, the symbols for all of them would not fit a message.
_SURPLUS_MAX: Final = SKETCH_SYMBOLS_MAX // 2


class Mode(Enum):
    """The sync modes, in the order of a hello; the value is the name on the wire, in logs and in the API."""

    LEVEL_WISE = "level_wise"
    HASH_COMPARISON = "hash_comparison"
    SNAPSHOT = "snapshot"
    DELTA = "delta"
    SKETCH = "sketch"
    RECONCILE = "reconcile"
    PULL = "pull"  # this one and the next two are asked for by name, never selected
    GET = "get"
    PUT = "put"


@dataclass(frozen=True, slots=True)
class State:
    """One side's summary of a context."""

    root: bytes
    count: int  # of leaves, exact
    level1: tuple[bytes | None, ...]  # the 16 first-level digests, None where empty
    seq: int = 0  # the newest of its log
    cursor: int | None = None  # the seq to which it has followed the other's log in its present life
    is_partial: bool = False  # only a part of the context is wanted there


@dataclass(frozen=True, slots=True)
class Selection:
    """The mode, None when there is nothing to open here. `is_theirs`: the peer opens the conversation. `expected`:
    about how many leaves differ, None when first levels cannot tell."""

    mode: Mode | None
    reason: str
    is_theirs: bool = False
    expected: int | None = 0


def select(ours: State, theirs: State, common: Collection[Mode]) -> Selection:
    """Return the mode for one context. `common`: the modes that both sides run."""
    if ours.root == theirs.root:
        return Selection(None, "roots are equal")
    if ours.is_partial or theirs.is_partial:
        if Mode.RECONCILE not in common:
            return Selection(None, "a part is wanted, and reconcile is not in common")
        if ours.is_partial:
            return Selection(Mode.RECONCILE, "a part is wanted")
        return Selection(None, "a part is wanted there: left to the peer", is_theirs=True)
    if Mode.SNAPSHOT in common:
        if ours.count == 0:
            return Selection(Mode.SNAPSHOT, f"empty here, {theirs.count} records there")
        if theirs.count == 0:
            return Selection(None, "empty there: left to the peer", is_theirs=True)
    # A log that is shorter than the cursor is another log.
    if Mode.DELTA in common and ours.cursor is not None and ours.cursor <= theirs.seq:
        return Selection(Mode.DELTA, f"followed to {ours.cursor}, its log is at {theirs.seq}")
    differing = sum(our != their for our, their in zip(ours.level1, theirs.level1, strict=True))
    reason = f"{differing} of 16 subtrees differ, {ours.count} records here, {theirs.count} there"
    expected = estimate(ours, theirs, differing)
    surplus = abs(ours.count - theirs.count)
    if Mode.SKETCH in common and min(ours.count, theirs.count) >= _SKETCH_LEAVES_MIN and surplus <= _SURPLUS_MAX:
        return Selection(Mode.SKETCH, reason, expected=expected)
    if 0 < differing <= _LOCALISED_MAX and Mode.HASH_COMPARISON in common:
        return Selection(Mode.HASH_COMPARISON, reason, expected=expected)
    if Mode.LEVEL_WISE in common:
        return Selection(Mode.LEVEL_WISE, reason, expected=expected)
    if Mode.HASH_COMPARISON in common:
        return Selection(Mode.HASH_COMPARISON, reason, expected=expected)
    return Selection(None, "no mode in common")


def estimate(ours: State, theirs: State, differing: int) -> int | None:
    """Return about how many leaves differ when `differing` of 16 subtrees do. None when all 16 differ: it may be any
    number.

    d differing leaves leave a subtree equal with probability (15/16)^d. The estimate is at least the difference of the
    counts.
    """
    if differing == len(ours.level1):
        return None
    likely = log(1 - differing / len(ours.level1)) / log(1 - 1 / len(ours.level1))
    return max(round(likely), abs(ours.count - theirs.count))
