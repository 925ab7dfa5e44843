"""The selection of a mode and the reason for it, as a table."""

from dataclasses import replace
from itertools import product

import pytest

from echonode.sync.select import Mode, State, select

ALL = tuple(Mode)
WALKS = (Mode.LEVEL_WISE, Mode.HASH_COMPARISON)
ROOTS = {name: name.encode() * 8 for name in ("none", "here", "there")}
ALL_DIFFER = "16 of 16 subtrees differ, {} records here, {} there"
NOTHING = State(ROOTS["none"], 0, (None,) * 16)


def state(name: str, count: int, *differing: int) -> State:
    """Return a side with `count` records whose first-level subtrees differ from the other side's in these places."""
    level1 = tuple((name if place in differing else "same").encode() for place in range(16))
    return State(ROOTS[name], count, level1)


def sides(differing: int) -> tuple[State, State]:
    return state("here", 100, *range(differing)), state("there", 90, *range(differing))


def followed(cursor: int, seq: int) -> tuple[State, State]:
    ours, theirs = sides(16)
    return replace(ours, cursor=cursor), replace(theirs, seq=seq)


def part(side: State) -> State:
    """Return the same side, where only a part of the context is wanted."""
    return replace(side, is_partial=True)


def large(ours: int, theirs: int, differing: int = 16) -> tuple[State, State]:
    return state("here", ours, *range(differing)), state("there", theirs, *range(differing))


@pytest.mark.parametrize(
    ("ours", "theirs", "common", "mode", "reason", "is_theirs"),
    [
        (state("here", 5), state("here", 5), ALL, None, "roots are equal", False),
        (NOTHING, NOTHING, ALL, None, "roots are equal", False),
        (state("here", 5), state("here", 5), (), None, "roots are equal", False),
        (NOTHING, state("there", 9), ALL, Mode.SNAPSHOT, "empty here, 9 records there", False),
        (state("here", 9), NOTHING, ALL, None, "empty there: left to the peer", True),
        (NOTHING, state("there", 9), WALKS, Mode.LEVEL_WISE, ALL_DIFFER.format(0, 9), False),
        (state("here", 9), NOTHING, WALKS, Mode.LEVEL_WISE, ALL_DIFFER.format(9, 0), False),
        (*sides(1), ALL, Mode.HASH_COMPARISON, "1 of 16 subtrees differ, 100 records here, 90 there", False),
        (*sides(2), ALL, Mode.HASH_COMPARISON, "2 of 16 subtrees differ, 100 records here, 90 there", False),
        (*sides(3), ALL, Mode.LEVEL_WISE, "3 of 16 subtrees differ, 100 records here, 90 there", False),
        (*sides(16), ALL, Mode.LEVEL_WISE, "16 of 16 subtrees differ, 100 records here, 90 there", False),
        # The roots differ and the 16 bytes of each subtree do not: a collision, or a lie.
        (*sides(0), ALL, Mode.LEVEL_WISE, "0 of 16 subtrees differ, 100 records here, 90 there", False),
        (*sides(1), (Mode.LEVEL_WISE,), Mode.LEVEL_WISE, "1 of 16 subtrees differ, 100 records here, 90 there", False),
        (
            *sides(9),
            (Mode.HASH_COMPARISON,),
            Mode.HASH_COMPARISON,
            "9 of 16 subtrees differ, 100 records here, 90 there",
            False,
        ),
        (part(sides(1)[0]), sides(1)[1], ALL, Mode.RECONCILE, "a part is wanted", False),
        (part(NOTHING), sides(1)[1], ALL, Mode.RECONCILE, "a part is wanted", False),
        (part(sides(1)[0]), part(sides(1)[1]), ALL, Mode.RECONCILE, "a part is wanted", False),
        (sides(1)[0], part(sides(1)[1]), ALL, None, "a part is wanted there: left to the peer", True),
        (part(sides(1)[0]), sides(1)[1], WALKS, None, "a part is wanted, and reconcile is not in common", False),
        (sides(1)[0], part(sides(1)[1]), WALKS, None, "a part is wanted, and reconcile is not in common", False),
        (part(state("here", 5)), state("here", 5), ALL, None, "roots are equal", False),
        (*large(2048, 2048), ALL, Mode.SKETCH, "16 of 16 subtrees differ, 2048 records here, 2048 there", False),
        (*large(2048, 2048, 1), ALL, Mode.SKETCH, "1 of 16 subtrees differ, 2048 records here, 2048 there", False),
        (*large(2048, 2048), WALKS, Mode.LEVEL_WISE, "16 of 16 subtrees differ, 2048 records here, 2048 there", False),
        (*large(2047, 9999), ALL, Mode.LEVEL_WISE, "16 of 16 subtrees differ, 2047 records here, 9999 there", False),
        (*large(9999, 2047), ALL, Mode.LEVEL_WISE, "16 of 16 subtrees differ, 9999 records here, 2047 there", False),
        (*large(3000, 35768), ALL, Mode.SKETCH, "16 of 16 subtrees differ, 3000 records here, 35768 there", False),
        (*large(35769, 3000), ALL, Mode.LEVEL_WISE, "16 of 16 subtrees differ, 35769 records here, 3000 there", False),
        (*sides(9), (Mode.SNAPSHOT,), None, "no mode in common", False),
        (*followed(7, 9), ALL, Mode.DELTA, "followed to 7, its log is at 9", False),
        (*followed(9, 9), ALL, Mode.DELTA, "followed to 9, its log is at 9", False),
        (*followed(9, 9), WALKS, Mode.LEVEL_WISE, ALL_DIFFER.format(100, 90), False),
        # The log has gone back, so it is not the one that was followed.
        (*followed(10, 9), ALL, Mode.LEVEL_WISE, ALL_DIFFER.format(100, 90), False),
        (*sides(1), (), None, "no mode in common", False),
    ],
)
def test_the_table(ours, theirs, common, mode, reason, is_theirs):
    chosen = select(ours, theirs, common)
    assert (chosen.mode, chosen.reason, chosen.is_theirs) == (mode, reason, is_theirs)


def test_the_first_level_tells_about_how_many_leaves_differ_unless_all_of_it_does():
    told = [select(*large(5000, 5000, differing), ALL).expected for differing in range(17)]
    assert told == [0, 1, 2, 3, 4, 6, 7, 9, 11, 13, 15, 18, 21, 26, 32, 43, None]
    assert select(*sides(3), ALL).expected == 10, "one side has so many more"
    assert select(*large(5000, 5000), ALL).expected is None
    assert select(*sides(1), (Mode.SNAPSHOT,)).expected == 0


def test_a_mode_that_one_side_does_not_run_is_never_chosen():
    states = [NOTHING, state("here", 5), *sides(1), *sides(9), *followed(7, 9), *map(part, sides(1))]
    for ours, theirs, size in product(states, states, range(len(ALL) + 1)):
        for common in (ALL[:size], ALL[size:]):
            chosen = select(ours, theirs, common)
            assert chosen.mode is None or chosen.mode in common
            assert chosen.reason
            # The two sides never leave a context to each other.
            assert not (chosen.is_theirs and select(theirs, ours, common).is_theirs)


def test_names_are_those_of_the_protocol():
    assert {mode.value for mode in Mode} == {
        *("level_wise", "hash_comparison", "snapshot", "delta", "sketch"),
        *("reconcile", "pull", "get", "put"),
    }
