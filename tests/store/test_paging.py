"""The rule of what fits into one answer, at its bounds: as many as fit exactly, and not one more."""

import pytest

from echonode.model.record import VersionId
from echonode.store.paging import fit_changes, fit_leaves
from echonode.store.port import Change

LEAVES = [[b"aa", b"bb"], [b"cccc"], [b"dddd"]]
CHANGES = [Change(seq, VersionId(bytes([seq]) * 32), b"xxxx") for seq in (1, 2, 3)]


@pytest.mark.parametrize(
    ("bytes_max", "records_max", "taken"),
    [
        (12, 4, 3),
        (11, 4, 2),
        (8, 4, 2),
        (7, 4, 1),
        (4, 4, 1),
        (0, 4, 1),  # one leaf, however large it is
        (12, 3, 2),
        (12, 2, 1),
        (12, 1, 1),  # the heads of one leaf are never split
        (12, None, 3),
    ],
)
def test_as_many_leaves_are_taken_as_fit_exactly(bytes_max: int, records_max: int | None, taken: int) -> None:
    expected = [head for leaf in LEAVES[:taken] for head in leaf]
    assert fit_leaves(LEAVES, bytes_max=bytes_max, records_max=records_max) == (expected, taken, taken == len(LEAVES))


def test_no_leaf_is_all_leaves_and_one_beyond_is_read_at_most() -> None:
    assert fit_leaves([], bytes_max=0) == ([], 0, True)
    leaves = iter(LEAVES)
    fit_leaves(leaves, bytes_max=4)
    assert list(leaves) == LEAVES[2:]


@pytest.mark.parametrize(
    ("bytes_max", "records_max", "taken"),
    [(12, 3, 3), (11, 3, 2), (8, 3, 2), (7, 3, 1), (0, 3, 1), (12, 2, 2), (12, 1, 1)],
)
def test_as_many_log_entries_are_taken_as_fit_exactly(bytes_max: int, records_max: int, taken: int) -> None:
    fitted = fit_changes(CHANGES, records_max=records_max, bytes_max=bytes_max)
    assert fitted == (CHANGES[:taken], taken == len(CHANGES))
