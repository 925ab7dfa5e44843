"""A filter held against stored bytes takes what the same filter takes of the decoded fields."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echonode.model.filter import Filter
from echonode.model.identity import IdentityId
from echonode.model.record import fields_of, parse
from echonode.model.stored_filter import stored_filter
from tests.model.forge import PERSON, PLAIN, WRITER, forged

OTHER = IdentityId(b"o" * 32)
COMMON = {**PLAIN, 9: 1 << 40, 10: ["a", "b"]}
NAMES = ["name", "n" * 23, "n" * 24, "n" * 200, "naïve", "n[x"]
TAGS = ["a", "b", "c", "é", "t" * 23, "t" * 24]
MODELS = ["note", "task", "m" * 23, "m" * 24]

some = st.frozensets


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    parts: dict[str, st.SearchStrategy[Any]] = {
        "authors": some(st.sampled_from([PERSON.id, OTHER]), max_size=1),
        "not_authors": some(st.sampled_from([PERSON.id, OTHER]), max_size=1),
        "pools": some(st.sampled_from([PERSON.id, OTHER]), max_size=1),
        "models": some(st.sampled_from(MODELS), max_size=2),
        "tags_any": some(st.sampled_from(TAGS), max_size=2),
        "tags_all": some(st.sampled_from(TAGS), max_size=2),
        "since_ms": st.sampled_from([None, 0, 1, 1 << 40, (1 << 40) + 1]),
        "until_ms": st.sampled_from([None, 0, 1, 1 << 40, (1 << 40) + 1]),
        "name": st.sampled_from(["", "*", "n*", "?" * 23, "n[*", "na?ve"]),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(parts)), max_size=3, unique=True))
    return Filter(**{part: draw(parts[part]) for part in chosen})


@st.composite
def versions(draw: st.DrawFn) -> Mapping[Any, Any]:
    """Fields of the common layout, and of every layout beside it."""
    fields: dict[Any, Any] = {
        1: draw(st.sampled_from(["main", "c" * 23, "c" * 24, "c" * 64])),
        2: draw(st.sampled_from([PERSON.id, OTHER])),
        3: draw(st.sampled_from(NAMES)),
        4: draw(st.sampled_from([0, 23, 27, 255, 1 << 31, 1 << 32, 1 << 60])),
        5: PLAIN[5],
        6: {WRITER: draw(st.sampled_from([1, 23, 24, 255, 256, 65_536, 1 << 32]))}
        | draw(st.sampled_from([{}, {b"\xff" * 16: 1}])),
        7: draw(st.sampled_from(MODELS)),
        8: draw(st.sampled_from([[1, 0], [23, 23], [24, 0], [0, 24]])),
        9: draw(st.sampled_from([0, 1, 255, 1 << 32, 1 << 40])),
    }
    tags = draw(st.sampled_from([[], ["a"], ["a", "b"], sorted(TAGS), [f"t{number:02}" for number in range(24)]]))
    if tags:
        fields[10] = tags
    if draw(st.booleans()):
        fields[11] = "text/plain"
    body = draw(st.sampled_from([0, 1, 300, 70_000]))
    if body:
        fields[12] = bytes(body)
    fields |= {14 + number: 1 for number in range(draw(st.sampled_from([0, 0, 0, 1, 20])))}
    return fields


def agrees(wanted: Filter, raw: bytes) -> bool:
    """Return True if `wanted` takes the version `raw`; fail if its two readings differ."""
    taken = wanted.matches(parse(raw))
    assert wanted.matches_fields(fields_of(raw)) is taken
    assert stored_filter(wanted)(raw) is taken
    return taken


@given(versions(), filters())
def test_a_stored_version_is_taken_exactly_when_its_fields_are(fields: Mapping[Any, Any], wanted: Filter) -> None:
    agrees(wanted, forged(fields))


@pytest.mark.parametrize(
    ("wanted", "taken", "left"),
    [
        pytest.param(Filter(authors=frozenset({PERSON.id})), {}, {2: OTHER}, id="authors"),
        pytest.param(Filter(not_authors=frozenset({OTHER})), {}, {2: OTHER}, id="not authors"),
        pytest.param(Filter(pools=frozenset({OTHER})), {2: OTHER}, {}, id="pools"),
        pytest.param(Filter(name="n*e"), {}, {3: "nam"}, id="name"),
        pytest.param(Filter(name="n*é"), {3: "n" * 28 + "é"}, {3: "n" * 28}, id="long name"),
        pytest.param(Filter(models=frozenset({"note", "x"})), {}, {7: "notes"}, id="models"),
        pytest.param(Filter(since_ms=1 << 40), {}, {9: (1 << 40) - 1}, id="since"),
        pytest.param(Filter(until_ms=1 << 40), {9: (1 << 40) - 1}, {}, id="until"),
        pytest.param(Filter(tags_any=frozenset({"b", "c"})), {}, {10: ["a", "d"]}, id="any tag"),
        pytest.param(Filter(tags_all=frozenset({"a", "b"})), {}, {10: ["a", "c"]}, id="all tags"),
        pytest.param(Filter(tags_any=frozenset({"a"})), {}, {10: ["t" * 24]}, id="a long tag"),
        pytest.param(Filter(tags_any=frozenset({"a"})), {}, {10: [f"t{number:02}" for number in range(24)]}, id="many"),
        pytest.param(Filter(tags_any=frozenset({"a"}), since_ms=1), {}, {4: 1, 9: 0}, id="an early time"),
        pytest.param(Filter(name="x"), {1: "c" * 24, 3: "x"}, {1: "c" * 24}, id="a long context"),
        pytest.param(Filter(models=frozenset({"m" * 24})), {7: "m" * 24}, {7: "m" * 25}, id="a long model"),
        pytest.param(Filter(since_ms=1), {6: {WRITER: 1, b"w" * 16: 2}}, {9: 0}, id="two writers"),
    ],
)
def test_each_part_of_a_filter_takes_and_leaves(wanted: Filter, taken: dict[Any, Any], left: dict[Any, Any]) -> None:
    assert agrees(wanted, forged({**COMMON, **taken}))
    assert not agrees(wanted, forged({**COMMON, **left}))


def test_versions_without_tags_are_left_by_a_filter_of_tags() -> None:
    fields = {number: value for number, value in COMMON.items() if number != 10}
    assert not agrees(Filter(tags_all=frozenset({"a"})), forged(fields))
    assert not agrees(Filter(tags_all=frozenset({"a"})), forged({**fields, 12: b"body"}))
