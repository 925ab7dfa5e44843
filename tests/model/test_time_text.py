"""Times as people write them: every form, and what is no time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echonode.errors import LocalError
from echonode.model.time_text import MS_MAX, maybe_span_s, read_time_ms

NOW_MS = 1_795_348_800_000  # 2026-11-22T12:00:00Z


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-11-22T12:00:00Z", NOW_MS),
        ("2026-11-22T12:00:00", NOW_MS),
        ("2026-11-22 12:00:00.5+01:00", NOW_MS - 3_599_500),
        ("2026-11-22t12:00:00.123456789z", NOW_MS + 123),
        ("2026-11-22", NOW_MS - 43_200_000),
        ("1795348800", NOW_MS),
        ("0.25", 250),
        ("0", 0),
        ("1970-01-01", 0),
        ("9999-12-31T23:59:59.999Z", MS_MAX),
        ("90s", NOW_MS - 90_000),
        ("1.5m", NOW_MS - 90_000),
        ("2h", NOW_MS - 7_200_000),
        ("1d", NOW_MS - 86_400_000),
    ],
)
def test_a_time_may_be_written_in_several_ways(text: str, ms: int) -> None:
    assert read_time_ms(text, NOW_MS) == ms


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "2026-13-01", "2026-11-31", "2026-11-22T25:00:00Z", "1969-12-31T23:59:59Z", "-1", "9" * 12),
        *("9" * 20, "20261122T10", "2026-11-22T12:00", "2026-11-22 ", "h", "2 h", "2w", "99999999d", "\u0662h"),
        "0001-01-01T00:00:00Z",
    ],
)
def test_what_is_no_time_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(LocalError, match=r"is no time .*write 2026-11-22, .* 2h \(before now\)"):
        read_time_ms(text, NOW_MS)


def test_where_there_is_no_now_a_span_is_no_time() -> None:
    with pytest.raises(LocalError) as refused:
        read_time_ms("2h")
    assert "2h (before" not in str(refused.value)
    assert read_time_ms("2026-11-22") == NOW_MS - 43_200_000


@given(st.integers(0, 10**9 - 1), st.sampled_from("smhd"))
def test_a_span_is_a_number_and_a_unit(number: int, unit: str) -> None:
    assert maybe_span_s(f"{number}{unit}") == number * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[unit]
    assert maybe_span_s(f"{number}") is maybe_span_s(unit) is None
