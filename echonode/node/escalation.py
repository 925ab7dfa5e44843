"""Escalation: the next attempt at a context that one conversation did not make equal. Pure, like sync/select.py.

`select` chooses the first attempt, `next_attempt` every later one, ROUNDS_MAX in all. The first row that fits counts:

    result      mode              and                           next
    equal       any                                             the end: equal
    moved       snapshot, delta   a cursor of the peer's log    delta
    moved       reconcile                                       reconcile
    moved       any other                                       level_wise
    any         any               the first attempt, and a key  compare key statements, then
                                  unknown here or there         delta, reconcile: the same; any other: level_wise
    different   snapshot          parts were refused            level_wise
    any         delta                                           level_wise
    different   a tree walk       16-byte digests, no refusals  level_wise with 32-byte digests
    any         any                                             the end: stuck if different, and nothing moved here

A pair of a peer and a context that is stuck is not compared again until one of its roots changes.
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from echonode.limits import ROUNDS_MAX
from echonode.model.record import IDENTITIES
from echonode.sync.conversation import Result, Tally
from echonode.sync.select import Mode

NARROW: Final = 16  # bytes of a digest in a walk; a collision among them can be found on purpose
WHOLE: Final = 32


@dataclass(frozen=True, slots=True)
class Attempt:
    """One conversation to hold about a context.

    `reason` is logged; `width`: bytes of the digests that a tree walk compares; `expected`: about how many leaves
    differ, as selected, None for any number; `is_keys_first`: compare key statements before it.
    """

    mode: Mode
    reason: str
    number: int = 0
    width: int = NARROW
    expected: int | None = 0
    is_keys_first: bool = False


class End(Enum):
    """The end of the attempts at a context."""

    EQUAL = "equal"
    STUCK = "stuck"  # another attempt would end alike, until a root changes
    UNFINISHED = "unfinished"  # the next session goes on


def next_attempt(
    attempt: Attempt, result: Result, tally: Tally, context: str, *, has_cursor: bool, has_moved: bool
) -> Attempt | End:
    """Return what follows the conversation `attempt` about `context`, which ended in `result` with `tally`.

    `has_cursor`: the peer's log has been followed to a known place, and the peer serves `delta`; `has_moved`: the root
    of the context changed here during the conversation.
    """
    if result is Result.EQUAL:
        return End.EQUAL
    following = _following(attempt, result, tally, context, has_cursor=has_cursor)
    if following is None:
        # A reconciliation has moved all it can, so another one would move nothing more.
        is_stuck = result is Result.DIFFERENT and (attempt.mode is Mode.RECONCILE or not has_moved)
        return End.STUCK if is_stuck else End.UNFINISHED
    return following if following.number < ROUNDS_MAX else End.UNFINISHED


def _following(
    attempt: Attempt, result: Result, tally: Tally, context: str, *, has_cursor: bool
) -> Attempt | None:
    mode, is_part = attempt.mode, attempt.mode is Mode.RECONCILE
    again = replace(attempt, number=attempt.number + 1, expected=0, is_keys_first=False)
    walk = replace(again, mode=Mode.LEVEL_WISE)
    if result is Result.MOVED:
        reason = "a root moved during the conversation"
        if mode in (Mode.SNAPSHOT, Mode.DELTA) and has_cursor:
            return replace(again, mode=Mode.DELTA, reason=reason)
        return replace(again if is_part else walk, reason=reason)
    is_key_unknown = bool(tally.refused_there) or tally.lacks_key
    if is_key_unknown and attempt.number == 0 and context != IDENTITIES:
        # One side may have learnt of a key after the statements had been compared. A delta's cursor waits for that.
        same = again if is_part or mode is Mode.DELTA else walk
        return replace(same, reason="key statements were compared again", is_keys_first=True)
    if is_part:
        return None
    if mode is Mode.SNAPSHOT and result is Result.DIFFERENT:
        return replace(walk, reason="parts of the snapshot were refused")
    if mode is Mode.DELTA:
        return replace(walk, reason="following its log did not make the roots equal")
    is_refused = bool(tally.refused_here) or bool(tally.refused_there)
    if result is Result.DIFFERENT and not is_refused and attempt.width == NARROW:
        reason = "16-byte digests showed no difference between unequal roots"
        return replace(walk, reason=reason, width=WHOLE)
    return None
