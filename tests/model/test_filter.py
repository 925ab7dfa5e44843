"""Filters: the records they take, their one form on the wire, and the terms that people write."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echonode import cbor
from echonode.errors import LocalError, Reason, RemoteError
from echonode.model.filter import Filter
from echonode.model.filter_text import full_id, read_filter
from echonode.model.identity import IdentityId
from echonode.model.record import MAIN, Draft, Record, fields_of, parse
from echonode.text import to_base32
from tests.model import make_filter_vectors
from tests.model.forge import PERSON, written

A, B, C = (IdentityId(bytes([number]) * 32) for number in (1, 2, 3))
VECTORS = json.loads(make_filter_vectors.PATH.read_text())


def record(**draft: Any) -> Record:
    return written(Draft(**{"context": MAIN, "author": A, "name": "name", "body": b"x", "created_ms": 1000, **draft}))


# -- what is taken -----------------------------------------------------------------------------------------------------
def test_the_frozen_filters_come_out_byte_for_byte() -> None:
    assert make_filter_vectors.build() == VECTORS, "filters changed: see tests/model/make_filter_vectors.py"


@pytest.mark.parametrize("vector", VECTORS["filters"], ids=[vector["what"] for vector in VECTORS["filters"]])
def test_a_frozen_filter_takes_the_records_it_says(vector: dict[str, Any]) -> None:
    wanted = Filter.from_fields(cbor.decode(bytes.fromhex(vector["bytes"])))
    for name, raw in VECTORS["records"].items():
        version = bytes.fromhex(raw)
        assert wanted.matches(parse(version)) == (name in vector["takes"]), name
        assert wanted.matches_fields(fields_of(version)) == (name in vector["takes"]), name


@pytest.mark.parametrize(
    ("wanted", "draft"),
    [
        (Filter(authors=frozenset({B})), {"author": A}),
        (Filter(pools=frozenset({B})), {"author": A}),
        (Filter(not_authors=frozenset({A, B})), {"author": A}),
        (Filter(models=frozenset({"task"})), {"model": "tasks"}),
        (Filter(tags_any=frozenset({"a", "b"})), {"tags": ("c",)}),
        (Filter(tags_any=frozenset({"a", "b"})), {}),
        (Filter(tags_all=frozenset({"a", "b"})), {"tags": ("a", "c")}),
        (Filter(since_ms=1001), {}),
        (Filter(until_ms=1000), {}),
        (Filter(name="nam"), {}),
        (Filter(name="*ame?"), {}),
        (Filter(name="[n]ame"), {}),
    ],
)
def test_every_part_of_a_filter_can_keep_a_record_out(wanted: Filter, draft: dict[str, Any]) -> None:
    assert not wanted.matches(record(**draft))
    assert Filter().matches(record(**draft))
    assert Filter().takes_all and not wanted.takes_all


@pytest.mark.parametrize(
    ("wanted", "sender", "is_heard"),
    [
        (Filter(), A, True),
        (Filter(senders=frozenset({A, B})), A, True),
        (Filter(senders=frozenset({B})), A, False),
        (Filter(not_senders=frozenset({A})), A, False),
        (Filter(not_senders=frozenset({B})), A, True),
        (Filter(senders=frozenset({A}), not_senders=frozenset({A})), A, False),
    ],
)
def test_senders_say_from_whom_and_nothing_of_what(wanted: Filter, sender: IdentityId, is_heard: bool) -> None:
    assert wanted.accepts_sender(sender) == is_heard
    assert wanted.matches(record())
    assert wanted.without_senders == Filter()


@given(st.text("ab[*?é", max_size=8), st.text("ab[é", max_size=8))
def test_a_glob_fits_as_the_words_say(pattern: str, name: str) -> None:
    def fits(pattern: str, name: str) -> bool:
        if not pattern:
            return not name
        if pattern[0] == "*":
            return fits(pattern[1:], name) or (bool(name) and fits(pattern, name[1:]))
        return bool(name) and pattern[0] in ("?", name[0]) and fits(pattern[1:], name[1:])

    if pattern and name:
        assert Filter(name=pattern).matches(record(name=name)) == fits(pattern, name)


def test_a_glob_made_to_look_back_for_ever_does_not() -> None:
    assert not Filter(name="*a" * 90 + "b").matches(record(name="a" * 200))


# -- on the wire -------------------------------------------------------------------------------------------------------
identities = st.frozensets(st.binary(min_size=32, max_size=32).map(IdentityId), max_size=3)
words = st.frozensets(st.sampled_from(["a", "b", "ü", "long " * 10]), max_size=3)
times = st.none() | st.integers(0, 2**64 - 1)
filters = st.builds(
    Filter, *[identities] * 5, *[words] * 3, times, times, st.sampled_from(["", "*", "notes/?", "é"])
)


@given(filters)
def test_a_filter_travels_and_is_the_same_with_the_same_digest(wanted: Filter) -> None:
    fields: Any = cbor.decode(cbor.encode(wanted.fields()))
    again = Filter.from_fields(fields)
    assert again == wanted
    shuffled = {number: value[::-1] * 2 if isinstance(value, list) else value for number, value in fields.items()}
    assert Filter.from_fields(shuffled).digest() == wanted.digest()


@given(filters, filters)
def test_filters_that_differ_have_digests_that_differ(one: Filter, other: Filter) -> None:
    assert (one == other) == (one.digest() == other.digest())


@pytest.mark.parametrize(
    "fields",
    [
        None,
        [],
        {0: 1},
        {12: "x"},
        {"1": []},
        {1: []},
        {1: [bytes(31)]},
        {2: ["x" * 32]},
        {3: bytes(32)},
        {1: [bytes(32)] * 257},
        {6: ["x" * 201]},
        {6: [""]},
        {7: ["x" * 65]},
        {8: [b"x"]},
        {8: ["a\n"]},
        {9: -1},
        {9: 2**64},
        {10: True},
        {10: "1970"},
        {11: ""},
        {11: "x" * 201},
        {11: b"x"},
    ],
)
def test_what_is_no_filter_is_the_peers_fault(fields: object) -> None:
    with pytest.raises(RemoteError) as caught:
        Filter.from_fields(fields)
    assert caught.value.reason is Reason.PROTOCOL_ERROR


# -- as people write them ----------------------------------------------------------------------------------------------
def resolve(text: str) -> IdentityId:
    return {"me": A, "shared": B}.get(text) or full_id(text)


def test_every_key_reads_as_what_it_says() -> None:
    terms = ["author=me", f"author={to_base32(C)}", "author!=shared", "sender=me", "sender!=shared", "pool=shared"]
    terms += ["model=note", "model=task", "tag=a", "tag=b=c", "tags=x, y", "tags=z", "name=notes/*"]
    terms += ["since=1970-01-02", "until=1970-01-02T01:00:00+01:00"]
    assert read_filter(terms, resolve) == Filter(
        authors=frozenset({A, C}),
        not_authors=frozenset({B}),
        senders=frozenset({A}),
        not_senders=frozenset({B}),
        pools=frozenset({B}),
        models=frozenset({"note", "task"}),
        tags_any=frozenset({"a", "b=c"}),
        tags_all=frozenset({"x", "y", "z"}),
        since_ms=86_400_000,
        until_ms=86_400_000,
        name="notes/*",
    )
    assert read_filter((), resolve) == Filter()
    assert read_filter(["since=1.5"], resolve).since_ms == 1500
    assert read_filter(["name=u\u0308*"], resolve).name == "ü*"


@pytest.mark.parametrize(
    ("term", "says"),
    [
        ("news", "KEY=VALUE"),
        ("tag=", "KEY=VALUE"),
        ("=x", "KEY=VALUE"),
        ("tag!=x", "knows no tag!"),
        ("colour=red", "knows no colour"),
        ("author=abc", "no id"),
        ("since=yesterday", "no time"),
        ("since=1969-12-31", "between 1970"),
        ("since=99999999999999999999", "no time"),
        ("tag=" + "x" * 65, "texts of up to 64 bytes"),
        ("tags=a,,b", "texts of up to 64 bytes"),
        ("name=a\nb", "glob"),
    ],
)
def test_what_is_no_term_is_said_in_a_sentence(term: str, says: str) -> None:
    with pytest.raises(LocalError, match=says):
        read_filter([term], resolve)


@pytest.mark.parametrize("terms", [["since=1", "since=2"], ["name=a", "name=b"]])
def test_what_can_be_said_once_is_not_said_twice(terms: list[str]) -> None:
    with pytest.raises(LocalError, match="once"):
        read_filter(terms, resolve)


def test_too_many_values_are_said_to_be_too_many() -> None:
    with pytest.raises(LocalError, match="256"):
        read_filter([f"tag={number}" for number in range(257)], resolve)


def test_the_fields_of_a_version_are_read_without_its_hashes() -> None:
    assert fields_of(record(name="x").raw)[3] == "x"
    assert PERSON.id != A
