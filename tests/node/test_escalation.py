"""Escalation as a decision table: every combination of its inputs fits exactly one row, and every row is met.

A cell is `*` for any value, or the values it takes, with `|` between them. Columns:

    result   the end of the conversation           mode     its mode
    number   of the attempt                        refused  records: `here`, `key` (here, by an unknown key), `there`
    context  `keys` is the context of statements   cursor   of the peer's log, and the peer serves delta
    moved    the root here, meanwhile              width    bytes of a digest in a walk

    next     the mode and width of the next attempt, `+keys` where statements are compared first; or the end
"""

from itertools import product

import pytest

from echonode.limits import ROUNDS_MAX
from echonode.model.record import IDENTITIES, MAIN
from echonode.node.escalation import NARROW, WHOLE, Attempt, End, next_attempt
from echonode.sync.conversation import Result, Tally
from echonode.sync.select import Mode

MOVED = "a root moved during the conversation"
KEYS = "key statements were compared again"
PARTS = "parts of the snapshot were refused"
LOG = "following its log did not make the roots equal"
NARROW_LIED = "16-byte digests showed no difference between unequal roots"

WALKS = "level_wise|hash_comparison|sketch"
ASKED = "pull|get|put"  # never selected; the table treats them as a walk
OTHERS = f"{WALKS}|{ASKED}"
NOT_EQUAL = "one_way|different|answered|refused"
NOT_DIFFERENT = "one_way|answered|refused"

# result | mode | number | refused | context | cursor | moved | width -> next | reason
TABLE: list[tuple[tuple[str, ...], str, str]] = [
    (("equal", "*", "*", "*", "*", "*", "*", "*"), "equal", ""),
    # A root moved: go on where the conversation left off.
    (("moved", "*", "last", "*", "*", "*", "*", "*"), "unfinished", ""),
    (("moved", "snapshot|delta", "first|second", "*", "*", "yes", "*", "*"), "delta same", MOVED),
    (("moved", "snapshot|delta", "first|second", "*", "*", "no", "*", "*"), "level_wise same", MOVED),
    (("moved", "reconcile", "first|second", "*", "*", "*", "*", "*"), "reconcile same", MOVED),
    (("moved", OTHERS, "first|second", "*", "*", "*", "*", "*"), "level_wise same", MOVED),
    # A key was unknown on one side: it may be known there once statements were compared again.
    ((NOT_EQUAL, "delta|reconcile", "first", "key|there", "main", "*", "*", "*"), "same same +keys", KEYS),
    ((NOT_EQUAL, f"snapshot|{OTHERS}", "first", "key|there", "main", "*", "*", "*"), "level_wise same +keys", KEYS),
    # A delta is not the last word, whatever it ended in.
    ((NOT_EQUAL, "delta", "first", "none|here", "*", "*", "*", "*"), "level_wise same", LOG),
    ((NOT_EQUAL, "delta", "first", "key|there", "keys", "*", "*", "*"), "level_wise same", LOG),
    ((NOT_EQUAL, "delta", "second", "*", "*", "*", "*", "*"), "level_wise same", LOG),
    ((NOT_EQUAL, "delta", "last", "*", "*", "*", "*", "*"), "unfinished", ""),
    # Parts of a snapshot were refused, and the rest is here.
    (("different", "snapshot", "first", "none|here", "*", "*", "*", "*"), "level_wise same", PARTS),
    (("different", "snapshot", "first", "key|there", "keys", "*", "*", "*"), "level_wise same", PARTS),
    (("different", "snapshot", "second", "*", "*", "*", "*", "*"), "level_wise same", PARTS),
    (("different", "snapshot", "last", "*", "*", "*", "*", "*"), "unfinished", ""),
    # Nothing was refused, and still the roots differ: digests that were cut short may collide.
    (("different", OTHERS, "first|second", "none", "*", "*", "*", "16"), "level_wise 32", NARROW_LIED),
    (("different", OTHERS, "last", "none", "*", "*", "*", "16"), "unfinished", ""),
    # Nothing is left to try: stuck, unless something moved here that the next comparison should see.
    (("different", OTHERS, "*", "none", "*", "*", "no", "32"), "stuck", ""),
    (("different", OTHERS, "*", "none", "*", "*", "yes", "32"), "unfinished", ""),
    (("different", OTHERS, "*", "here", "*", "*", "no", "*"), "stuck", ""),
    (("different", OTHERS, "*", "here", "*", "*", "yes", "*"), "unfinished", ""),
    (("different", OTHERS, "first", "key|there", "keys", "*", "no", "*"), "stuck", ""),
    (("different", OTHERS, "first", "key|there", "keys", "*", "yes", "*"), "unfinished", ""),
    (("different", OTHERS, "second|last", "key|there", "*", "*", "no", "*"), "stuck", ""),
    (("different", OTHERS, "second|last", "key|there", "*", "*", "yes", "*"), "unfinished", ""),
    # A reconciliation has moved all that it can.
    (("different", "reconcile", "first", "none|here", "*", "*", "*", "*"), "stuck", ""),
    (("different", "reconcile", "first", "key|there", "keys", "*", "*", "*"), "stuck", ""),
    (("different", "reconcile", "second|last", "*", "*", "*", "*", "*"), "stuck", ""),
    # The peer would not converse, or nothing is known: another session may tell.
    ((NOT_DIFFERENT, f"snapshot|reconcile|{OTHERS}", "first", "none|here", "*", "*", "*", "*"), "unfinished", ""),
    ((NOT_DIFFERENT, f"snapshot|reconcile|{OTHERS}", "first", "key|there", "keys", "*", "*", "*"), "unfinished", ""),
    ((NOT_DIFFERENT, f"snapshot|reconcile|{OTHERS}", "second|last", "*", "*", "*", "*", "*"), "unfinished", ""),
]

NUMBERS = {"first": 0, "second": 1, "last": ROUNDS_MAX - 1}
TALLIES = {
    "none": Tally(),
    "here": Tally(refused_here=1),
    "key": Tally(refused_here=1, lacks_key=True),
    "there": Tally(refused_there=1),
}
COLUMNS: list[list[str]] = [
    [result.value for result in Result],
    [mode.value for mode in Mode],
    list(NUMBERS),
    list(TALLIES),
    ["main", "keys"],
    ["yes", "no"],
    ["yes", "no"],
    [str(NARROW), str(WHOLE)],
]


def fits(row: tuple[str, ...], case: tuple[str, ...]) -> bool:
    return all(cell == "*" or value in cell.split("|") for cell, value in zip(row, case, strict=True))


def test_every_case_fits_exactly_one_row_and_every_row_fits_a_case():
    used = set()
    for case in product(*COLUMNS):
        rows = [number for number, (row, _, _) in enumerate(TABLE) if fits(row, case)]
        assert len(rows) == 1, (case, [TABLE[number] for number in rows])
        used |= set(rows)
    assert used == set(range(len(TABLE)))
    assert len(NUMBERS) == ROUNDS_MAX


@pytest.mark.parametrize("result", COLUMNS[0])
@pytest.mark.parametrize("mode", COLUMNS[1])
def test_what_follows_a_conversation_stands_in_the_table(result, mode):
    for rest in product(*COLUMNS[2:]):
        number, refused, context, cursor, moved, width = rest
        attempt = Attempt(Mode(mode), "selected", NUMBERS[number], int(width), expected=7, is_keys_first=True)
        found = next_attempt(
            attempt,
            Result(result),
            TALLIES[refused],
            IDENTITIES if context == "keys" else MAIN,
            has_cursor=cursor == "yes",
            has_moved=moved == "yes",
        )
        ((expected, reason),) = [(then, why) for row, then, why in TABLE if fits(row, (result, mode, *rest))]
        if " " not in expected:
            assert found is End(expected), rest
            continue
        next_mode, next_width, *keys = expected.split()
        assert found == Attempt(
            Mode(mode if next_mode == "same" else next_mode),
            reason,
            attempt.number + 1,
            attempt.width if next_width == "same" else int(next_width),
            expected=0,
            is_keys_first=keys == ["+keys"],
        ), rest
