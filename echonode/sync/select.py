"""Which mode a conversation takes: a pure function of two summaries, with the reason that is logged (PROTOCOL.md §8.6).

    ours        theirs      mode
    equal roots             none        nothing to do, and it is said
    partial     any         reconcile   what is wanted here
    whole       partial     none        the peer is given the turn and reconciles what it wants
    empty       something   snapshot    (level_wise when the peer does not serve it)
    something   empty       none        the peer is given the turn and opens the snapshot itself
    a cursor of its log that holds      delta
    both large, not much more on one side     sketch
    few of 16 first-level subtrees differ     hash_comparison
    otherwise               level_wise

Measured (proto/COSTS.md): a sketch costs a twentieth of the bytes of a walk and half its round trips, whatever differs,
but numpy in memory and a look at every leaf when it is first built; that is worth it from some thousands of leaves on.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from math import log
from typing import Final

from echonode.limits import SKETCH_SYMBOLS_MAX

# Up to this many differing first-level subtrees are followed depth first; more are cheaper level by level.
_LOCALISED_MAX: Final = 2
# With fewer leaves a walk costs little, and a small node need not load numpy.
_SKETCH_LEAVES_MIN: Final = 2048
# Where so many leaves more are on one side, symbols for all of them would not fit a message.
_SURPLUS_MAX: Final = SKETCH_SYMBOLS_MAX // 2


class Mode(Enum):
    """The sync modes, in the order of a hello; the value is the name on the wire, in logs and in the API."""

    LEVEL_WISE = "level_wise"
    HASH_COMPARISON = "hash_comparison"
    SNAPSHOT = "snapshot"
    DELTA = "delta"
    SKETCH = "sketch"
    RECONCILE = "reconcile"
    PULL = "pull"  # this and the next two are asked for by name, never selected
    GET = "get"
    PUT = "put"


@dataclass(frozen=True, slots=True)
class State:
    """What selection needs to know of one side: root, exact count, and the 16 first-level digests, None where empty;
    its log's newest seq, and how far it has followed the other's log in its present life, None where it has not;
    whether only a part of the context is wanted there."""

    root: bytes
    count: int
    level1: tuple[bytes | None, ...]
    seq: int = 0
    cursor: int | None = None
    is_partial: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """The mode, or None when there is nothing to open; `is_theirs` leaves the context to the peer. `expected`: about
    how many leaves differ, None when it is more than first levels can tell."""

    mode: Mode | None
    reason: str
    is_theirs: bool = False
    expected: int | None = 0


def select(ours: State, theirs: State, common: Collection[Mode]) -> Selection:
    """The mode for one context. `common`: modes both sides run."""
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
    # A log shorter than what was followed of it is not the same log any more.
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
    """About how many leaves differ when so many of 16 subtrees do; None when all of them do, and it may be any number.

    d leaves leave a subtree alike with probability (15/16)^d. Never fewer than one side has more of.
    """
    if differing == len(ours.level1):
        return None
    likely = log(1 - differing / len(ours.level1)) / log(1 - 1 / len(ours.level1))
    return max(round(likely), abs(ours.count - theirs.count))
