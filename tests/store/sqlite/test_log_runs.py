"""The runs of a context in the log hold all its entries, and few of others."""

from hypothesis import given
from hypothesis import strategies as st

from echonode.store.sqlite.log_runs import LogRuns


def of(*runs: tuple[int, int]) -> LogRuns:
    made = LogRuns()
    for first, last in runs:
        made.add(first, last)
    return made


def test_runs_that_are_near_each_other_are_one() -> None:
    runs = of((1, 1), (1025, 1030), (5000, 5000))
    assert list(runs.between(0, 9999)) == [(1, 1030), (5000, 5000)]
    assert list(of((1, 5), (3, 4)).between(0, 9)) == [(1, 5)]


def test_runs_are_cut_to_what_is_asked_for() -> None:
    runs = of((10, 20), (5000, 6000))
    assert list(runs.between(0, 9)) == list(runs.between(20, 4999)) == list(runs.between(6000, 9000)) == []
    assert list(runs.between(15, 17)) == [(16, 17)]
    assert list(runs.between(19, 5000)) == [(20, 20), (5000, 5000)]
    assert list(LogRuns().between(0, 9)) == []


@given(
    st.lists(st.integers(1, 3000), max_size=30),
    st.integers(0, 40_000),
    st.integers(0, 40_000),
)
def test_no_entry_is_left_out(gaps: list[int], after: int, until: int) -> None:
    seqs, seq = [], 0
    for gap in gaps:
        seq += gap
        seqs.append(seq)
    found = list(of(*((each, each) for each in seqs)).between(after, until))
    covered = {each for first, last in found for each in range(first, last + 1)}
    assert {each for each in seqs if after < each <= until} <= covered
    assert all(after < each <= until for each in covered)
    assert sum(last - first + 1 for first, last in found) == len(covered), "none is read twice"
