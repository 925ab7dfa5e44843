"""The hybrid logical clock: it goes forward, stays near the wall time, and follows every honest timestamp."""

from hypothesis import given
from hypothesis import strategies as st

from echonode.clock import TIMESTAMP_MAX, HybridClock, Timestamp, is_ahead, to_ms
from echonode.limits import TIMESTAMP_AHEAD_MS_MAX

NOW_MS = 1_735_689_600_000
WALL_MS = st.integers(NOW_MS - 10**9, NOW_MS + 10**9)  # clocks jump both ways
STAMPS = st.builds(lambda ms, logical: Timestamp(ms << 16 | logical), WALL_MS, st.integers(0, 0xFFFF))


@given(st.lists(st.tuples(WALL_MS, st.none() | STAMPS)))
def test_timestamps_grow_unless_the_clock_was_far_ahead(steps: list[tuple[int, Timestamp | None]]) -> None:
    clock = HybridClock()
    before = clock.latest
    for now_ms, seen in steps:
        if seen is None:
            given_out = clock.tick(now_ms)
            assert given_out == clock.latest
            assert given_out > before or (is_ahead(before, now_ms) and given_out == now_ms << 16)
            assert given_out >= now_ms << 16
        elif clock.observe(seen, now_ms):
            assert clock.latest == max(before, seen)
        else:
            assert clock.latest == before
        before = clock.latest


@given(st.lists(st.tuples(st.booleans(), st.integers(0, TIMESTAMP_MAX))))
def test_no_peer_moves_the_clock_further_ahead_than_clocks_may_differ(steps: list[tuple[bool, int]]) -> None:
    clock = HybridClock()
    for ticks, seen in steps:
        if ticks:
            clock.tick(NOW_MS)
        clock.observe(Timestamp(seen), NOW_MS)
    assert to_ms(clock.latest) <= NOW_MS + TIMESTAMP_AHEAD_MS_MAX + len(steps)


def test_ten_minutes_ahead_is_the_edge() -> None:
    edge = Timestamp((NOW_MS + TIMESTAMP_AHEAD_MS_MAX) << 16 | 0xFFFF)
    beyond = Timestamp(edge + 1)
    clock = HybridClock()
    assert not clock.observe(beyond, NOW_MS)
    assert clock.latest == 0
    assert clock.observe(edge, NOW_MS)
    assert clock.latest == edge
    assert (is_ahead(edge, NOW_MS), is_ahead(beyond, NOW_MS)) == (False, True)


def test_a_tick_comes_after_everything_observed() -> None:
    clock = HybridClock()
    seen = Timestamp((NOW_MS + 60_000) << 16 | 7)
    assert clock.observe(seen, NOW_MS)
    assert clock.tick(NOW_MS) == seen + 1


def test_many_ticks_in_one_millisecond_spill_into_the_next() -> None:
    clock = HybridClock()
    assert clock.observe(Timestamp(NOW_MS << 16 | 0xFFFF), NOW_MS)
    assert to_ms(clock.tick(NOW_MS)) == NOW_MS + 1
