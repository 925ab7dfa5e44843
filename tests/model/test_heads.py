"""The heads of a record are a pure function of the set of its versions."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from echonode.clock import Timestamp
from echonode.model.identity import SigningKey, Writer, writer_of
from echonode.model.record import MAIN, Draft, Record, merge_heads, supersedes, winner
from tests.model.forge import LIFE, PERSON, written

KEYS = [SigningKey(bytes([number]) * 32) for number in range(1, 4)]
WRITERS = [writer_of(key.public, LIFE) for key in KEYS]


def version(number: int, counters: tuple[int, int, int], body: bytes = b"", at: int = 0) -> Record:
    """Return a version by writer `number`. `counters` are the entries of its vector; 0 is no entry."""
    vector = {writer: counter for writer, counter in zip(WRITERS, counters, strict=True) if counter}
    vector.setdefault(WRITERS[number], 1)
    draft = Draft(context=MAIN, author=PERSON.id, name="n", body=body)
    return written(draft, vector=vector, key=KEYS[number], at=Timestamp(at))


COUNTERS = st.integers(0, 3)
VERSIONS = st.lists(
    st.builds(version, st.integers(0, 2), st.tuples(COUNTERS, COUNTERS, COUNTERS), st.sampled_from([b"", b"x"])),
    min_size=1,
    max_size=8,
)
RANDOM = st.randoms(use_true_random=False)


def merged(versions: list[Record], heads: list[Record] | None = None) -> list[Record]:
    heads = heads or []
    for incoming in versions:
        heads = merge_heads(heads, incoming)
    return heads


def ids(records: list[Record]) -> list[bytes]:
    return [record.id for record in records]


@given(VERSIONS, RANDOM)
def test_heads_do_not_depend_on_order_or_repeats(versions: list[Record], random: Random) -> None:
    again = versions + random.choices(versions, k=3)
    random.shuffle(again)
    assert ids(merged(versions)) == ids(merged(again))


@given(VERSIONS)
def test_heads_are_the_versions_that_no_other_has_seen(versions: list[Record]) -> None:
    naive = {a.id for a in versions if not any(supersedes(b, a) for b in versions)}
    heads = ids(merged(versions))
    assert set(heads) == naive
    assert heads == sorted(heads)


@given(VERSIONS, VERSIONS)
def test_merging_sets_of_heads_is_commutative_and_loses_nothing(one: list[Record], other: list[Record]) -> None:
    assert (
        ids(merged(merged(other), merged(one))) == ids(merged(merged(one), merged(other))) == ids(merged(one + other))
    )


@given(VERSIONS)
def test_merging_again_gives_the_heads_as_they_were(versions: list[Record]) -> None:
    heads = merged(versions)
    for head in heads:
        assert merge_heads(heads, head) == heads
        assert merge_heads(heads, head) is not heads


@given(VERSIONS, RANDOM)
def test_the_winner_is_the_same_whatever_order_the_heads_are_in(versions: list[Record], random: Random) -> None:
    heads = merged(versions)
    shuffled = list(heads)
    random.shuffle(shuffled)
    assert winner(heads) is winner(shuffled)


def test_readers_get_the_latest_head_and_among_equals_the_highest_id() -> None:
    early, late = version(0, (1, 0, 0), at=1), version(1, (0, 1, 0), at=2)
    assert winner([early, late]) is winner([late, early]) is late
    one, other = version(0, (1, 0, 0), at=5), version(1, (0, 1, 0), at=5)
    assert winner([one, other]).id == max(one.id, other.id)


@given(VERSIONS)
def test_superseding_is_a_strict_order(versions: list[Record]) -> None:
    for a in versions:
        assert not supersedes(a, a)
        for b in versions:
            assert not (supersedes(a, b) and supersedes(b, a))
            assert all(supersedes(a, c) for c in versions if supersedes(a, b) and supersedes(b, c))


def test_equal_vectors_with_different_ids_are_both_heads() -> None:
    one, other = version(0, (1, 0, 0), b"one"), version(0, (1, 0, 0), b"other")
    assert not supersedes(one, other)
    assert set(ids(merged([one, other]))) == {one.id, other.id}


def test_a_version_supersedes_what_it_has_seen_and_nothing_else() -> None:
    base = version(0, (1, 0, 0))
    edit, twin = version(1, (1, 1, 0)), version(2, (1, 0, 1))
    both = version(0, (2, 1, 1))
    assert supersedes(edit, base) and supersedes(both, edit) and supersedes(both, twin)
    assert not supersedes(edit, twin) and not supersedes(twin, edit) and not supersedes(base, edit)
    assert ids(merged([edit, twin, base])) == sorted([edit.id, twin.id])
    assert ids(merged([edit, both, twin, base])) == [both.id]
    assert Writer(WRITERS[2]) not in edit.vector
