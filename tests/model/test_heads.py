"""The heads of a record are a pure function of the set of its versions, within the bounds of a leaf."""

import json
from collections.abc import Iterable, Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echonode.clock import Timestamp
from echonode.limits import VECTOR_ENTRIES_MAX
from echonode.model.heads import LEAF_BOUNDS, LeafBounds, Outline, cover, rank, select
from echonode.model.identity import PublicKey, SigningKey, Writer, writer_of
from echonode.model.record import MAIN, Draft, Record, Version, VersionId, supersedes, winner
from tests.model import make_heads_vectors
from tests.model.forge import LIFE, PERSON, written

KEYS = [SigningKey(bytes([number]) * 32) for number in range(1, 4)]
WRITERS = [writer_of(key.public, LIFE) for key in KEYS]


def version(number: int, counters: tuple[int, int, int], body: bytes = b"", at: int = 0) -> Record:
    """Return a version by writer `number`. `counters` are the entries of its vector; 0 is no entry."""
    vector = {writer: counter for writer, counter in zip(WRITERS, counters, strict=True) if counter}
    vector.setdefault(WRITERS[number], 1)
    draft = Draft(context=MAIN, author=PERSON.id, name="n", body=body)
    return written(draft, vector=vector, key=KEYS[number], at=Timestamp(at))


def outline(number: int, key: int, writer: int, counters: Sequence[int], timestamp: int, size: int) -> Outline:
    """Return the outline of a version with any vector that has its own dot."""
    vector = {Writer(bytes([each]) * 16): counter for each, counter in enumerate(counters) if counter}
    own = Writer(bytes([writer]) * 16)
    vector.setdefault(own, 1)
    version_id = VersionId(number.to_bytes(32, "big"))
    return Outline(version_id, PublicKey(bytes([key]) * 32), vector, Timestamp(timestamp), own, size)


COUNTERS = st.integers(0, 3)
VERSIONS = st.lists(
    st.builds(version, st.integers(0, 2), st.tuples(COUNTERS, COUNTERS, COUNTERS), st.sampled_from([b"", b"x"])),
    min_size=1,
    max_size=8,
)
OUTLINES = st.lists(
    st.builds(
        outline,
        st.integers(1, 30),
        st.integers(1, 3),
        st.integers(0, 3),
        st.lists(COUNTERS, min_size=4, max_size=4),
        st.integers(0, 4),
        st.integers(1, 3),
    ),
    max_size=12,
    unique_by=lambda each: each.id,
)
SMALL = st.integers(1, 4)
BOUNDS = st.builds(
    LeafBounds, heads=SMALL, heads_per_key=SMALL, entries=st.integers(4, 9), size_bytes=st.integers(3, 9), spare=SMALL
)
RANDOM = st.randoms(use_true_random=False)


def naive(versions: Iterable[Version], bounds: LeafBounds) -> list[VersionId]:
    """Return the heads by the words of PROTOCOL.md §4.4, highest rank first."""
    taken: list[Version] = []
    for one in sorted(versions, key=lambda each: (sum(each.vector.values()), each.timestamp, each.id), reverse=True):
        is_seen = any(
            head.vector != one.vector
            and all(head.vector.get(writer, 0) >= counter for writer, counter in one.vector.items())
            for head in taken
        )
        of_key = [head for head in taken if head.kid == one.kid]
        together = [*taken, one]
        if (
            not is_seen
            and len(of_key) < bounds.heads_per_key
            and len(together) <= bounds.heads
            and sum(len(head.vector) for head in together) <= bounds.entries
            and sum(head.size for head in together) <= bounds.size_bytes
        ):
            taken.append(one)
    return [head.id for head in taken]


def ids(versions: Iterable[Version]) -> list[VersionId]:
    return [each.id for each in versions]


def heads(versions: Iterable[Record]) -> set[VersionId]:
    return set(ids(select(versions).heads))


# -- within the bounds -------------------------------------------------------------------------------------------------


@given(VERSIONS, RANDOM)
def test_heads_do_not_depend_on_order_or_repeats(versions: list[Record], random: Random) -> None:
    again = versions + random.choices(versions, k=3)
    random.shuffle(again)
    assert ids(select(versions).heads) == ids(select(again).heads)


@given(VERSIONS)
def test_within_the_bounds_heads_are_the_versions_that_no_other_has_seen(versions: list[Record]) -> None:
    assert heads(versions) == {a.id for a in versions if not any(supersedes(b, a) for b in versions)}
    selection = select(versions)
    assert not selection.spare and not selection.dropped


@given(VERSIONS, VERSIONS)
def test_merging_sets_of_heads_is_commutative_and_loses_nothing(one: list[Record], other: list[Record]) -> None:
    both = [*select(one).heads, *select(other).heads]
    assert heads(both) == heads(reversed(both)) == heads(one + other)


@given(VERSIONS, RANDOM)
def test_the_winner_is_the_same_whatever_order_the_heads_are_in(versions: list[Record], random: Random) -> None:
    found = select(versions).heads
    shuffled = list(found)
    random.shuffle(shuffled)
    assert winner(found) is winner(shuffled)


def test_readers_get_the_latest_head_and_among_equals_the_highest_id() -> None:
    early, late = version(0, (1, 0, 0), at=1), version(1, (0, 1, 0), at=2)
    assert winner([early, late]) is winner([late, early]) is late
    one, other = version(0, (1, 0, 0), at=5), version(1, (0, 1, 0), at=5)
    assert winner([one, other]).id == max(one.id, other.id)


@given(VERSIONS)
def test_superseding_is_a_strict_order_and_raises_the_rank(versions: list[Record]) -> None:
    for a in versions:
        assert not supersedes(a, a)
        for b in versions:
            assert not (supersedes(a, b) and supersedes(b, a))
            assert not supersedes(a, b) or rank(a) > rank(b)
            assert all(supersedes(a, c) for c in versions if supersedes(a, b) and supersedes(b, c))


def test_equal_vectors_with_different_ids_are_both_heads() -> None:
    one, other = version(0, (1, 0, 0), b"one"), version(0, (1, 0, 0), b"other")
    assert not supersedes(one, other)
    assert heads([one, other]) == {one.id, other.id}


def test_a_version_supersedes_what_it_has_seen_and_nothing_else() -> None:
    base = version(0, (1, 0, 0))
    edit, twin = version(1, (1, 1, 0)), version(2, (1, 0, 1))
    both = version(0, (2, 1, 1))
    assert supersedes(edit, base) and supersedes(both, edit) and supersedes(both, twin)
    assert not supersedes(edit, twin) and not supersedes(twin, edit) and not supersedes(base, edit)
    assert heads([edit, twin, base]) == {edit.id, twin.id}
    assert heads([edit, both, twin, base]) == {both.id}
    assert Writer(WRITERS[2]) not in edit.vector


def test_to_have_seen_a_dot_alone_supersedes_nothing() -> None:
    base, liar = version(0, (1, 2, 0)), version(2, (5, 0, 1))
    assert liar.vector[base.writer] >= base.counter
    assert heads([base, liar]) == {base.id, liar.id}


# -- at the bounds -----------------------------------------------------------------------------------------------------


@given(OUTLINES, BOUNDS, RANDOM)
def test_the_rule_is_that_of_the_document_in_any_order(
    versions: list[Outline], bounds: LeafBounds, random: Random
) -> None:
    expected = naive(versions, bounds)
    random.shuffle(versions)
    selection = select(versions, bounds)
    assert ids(selection.heads) == expected
    every = [*selection.heads, *selection.spare, *selection.superseded, *selection.dropped]
    assert sorted(ids(every)) == sorted(ids(versions))
    assert not any(supersedes(head, each) for head in selection.heads for each in selection.spare + selection.dropped)
    assert all(any(supersedes(head, each) for head in selection.heads) for each in selection.superseded)


@given(OUTLINES, BOUNDS)
def test_the_heads_of_heads_and_spare_are_the_heads(versions: list[Outline], bounds: LeafBounds) -> None:
    selection = select(versions, bounds)
    assert select(selection.heads, bounds).heads == selection.heads
    assert select([*selection.heads, *selection.spare], bounds).heads == selection.heads


@given(OUTLINES, BOUNDS, st.integers(0, 12))
def test_what_arrives_never_lowers_the_heads(versions: list[Outline], bounds: LeafBounds, count: int) -> None:
    """Compare the heads rank by rank: that is why nodes that tell each other their heads come to an end."""
    before, after = select(versions[:count], bounds), select(versions, bounds)
    assert [rank(head) for head in after.heads] >= [rank(head) for head in before.heads]


@given(OUTLINES, BOUNDS, st.integers(0, 12))
def test_an_earlier_result_changes_the_cost_only(versions: list[Outline], bounds: LeafBounds, count: int) -> None:
    before = select(versions[:count], bounds)
    known = [*before.heads, *before.spare, *versions[count:]]
    quick = select(known, bounds, heads_before=ids(before.heads), spare_before=ids(before.spare))
    assert quick == select(known, bounds)


def test_the_spare_is_bounded_in_versions_entries_and_bytes() -> None:
    versions = [outline(number, number, number, [], 0, 1) for number in range(1, 12)]
    assert len(select(versions, LeafBounds(heads=1, spare=4)).spare) == 4
    assert len(select(versions, LeafBounds(entries=5, spare_entries=2)).spare) == 2
    assert len(select(versions, LeafBounds(size_bytes=3, spare_size_bytes=5)).dropped) == 11 - 3 - 5


def test_a_version_of_every_bound_is_a_head_by_itself() -> None:
    full = outline(1, 1, 1, [], 0, 256 * 1024)
    full.vector.update({Writer(n.to_bytes(16, "big")): 1 for n in range(VECTOR_ENTRIES_MAX - 1)})  # type: ignore[attr-defined]
    assert select([full]).heads == [full]
    assert (LEAF_BOUNDS.entries, LEAF_BOUNDS.size_bytes) == (16 * len(full.vector), 16 * full.size)


# -- covering ----------------------------------------------------------------------------------------------------------


@given(OUTLINES.filter(bool), st.integers(0, 5))
def test_what_fits_is_covered_whole(versions: list[Outline], number: int) -> None:
    vector = cover(versions, Writer(bytes([number]) * 16))
    for each in versions:
        assert all(vector[writer] >= counter for writer, counter in each.vector.items())
    assert all(any(each.vector.get(writer) == counter for each in versions) for writer, counter in vector.items())


def test_no_head_keeps_a_record_from_being_written() -> None:
    own = Writer(b"\xff" * 16)
    full = outline(1, 1, 1, [], 9, 1)
    full.vector.update({Writer(n.to_bytes(16, "big")): 9 for n in range(VECTOR_ENTRIES_MAX - 1)})  # type: ignore[attr-defined]
    small = outline(2, 2, 2, [], 0, 1)
    assert len(full.vector) == VECTOR_ENTRIES_MAX
    assert cover([full], own) == {}
    assert cover([small, full], own) == small.vector
    assert cover([full], next(iter(full.vector))) == full.vector


# -- the frozen vectors ------------------------------------------------------------------------------------------------

FROZEN = json.loads(make_heads_vectors.PATH.read_text())


def test_the_frozen_vectors_come_out_as_they_are() -> None:
    assert make_heads_vectors.build() == FROZEN, "the rule changed: see tests/model/make_heads_vectors.py"


@pytest.mark.parametrize("entry", FROZEN["heads"], ids=lambda entry: entry["what"])
def test_the_frozen_heads_are_those_of_the_document(entry: dict[str, object]) -> None:
    versions = list(make_heads_vectors.read(entry["versions"]))  # type: ignore[arg-type]
    assert [int.from_bytes(each, "big") for each in naive(versions, LEAF_BOUNDS)] == entry["heads"]
