"""The sketch equals the slow one of PROTOCOL.md §7.1, reads every difference, and gives up what it cannot read."""

import json
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echonode.model import sketch
from echonode.model.merkle import Tree
from echonode.model.sketch import Sketch, find_keys, id_prefixes, ids_from_prefixes, make_sketch, prefixes_of, short_ids
from echonode.sync.modes.sketch import find, symbols_for
from echonode.wire.messages.sketch import COUNTS_SIZE_BYTES, ID_PREFIX_BYTES, SYMBOL_BYTES
from tests.model import make_sketch_vectors, slow_sketch
from tests.model.make_merkle_vectors import leaf
from tests.model.make_sketch_vectors import OURS, SYMBOLS, THEIRS, entries

KEY = bytes(range(16))
ids = st.lists(st.integers(1, 2**48 - 1), max_size=60, unique=True)


def as_ids(numbers) -> sketch.ShortIds:
    return np.array(sorted(numbers), np.uint64)


def of_numbers(numbers, count: int = 200) -> Sketch:
    made = Sketch(count)
    made.add(as_ids(numbers))
    return made


def some(count: int, seed: int = 0) -> set[int]:
    return {Random(f"{seed} {number}").getrandbits(48) for number in range(count)}


# -- the bytes ---------------------------------------------------------------------------------------------------------


def test_the_frozen_vectors_are_what_the_code_makes():
    assert json.loads(make_sketch_vectors.PATH.read_text()) == make_sketch_vectors.build()


def test_the_frozen_vectors_are_what_the_document_says():
    frozen = json.loads(make_sketch_vectors.PATH.read_text())
    key = bytes.fromhex(frozen["key"])
    ours, theirs = ([slow_sketch.short_id(leaf(number), key) for number in numbers] for numbers in (OURS, THEIRS))
    assert [f"{number:012x}" for number in ours[:3]] == frozen["short_ids_of_leaves_0_to_2"]
    made = slow_sketch.symbols(ours, SYMBOLS), slow_sketch.symbols(theirs, SYMBOLS)
    for side, found in zip(("our", "their"), made, strict=True):
        assert slow_sketch.encoded(found).hex() == frozen[f"{side}_symbols"]
        assert slow_sketch.counts(found).hex() == frozen[f"{side}_counts"]
    only = slow_sketch.read(made[1], made[0])
    assert only is not None
    told = [sorted(f"{number:012x}" for number in side) for side in only]
    assert told == [frozen["only_theirs"], frozen["only_ours"]]
    assert only == (set(theirs) - set(ours), set(ours) - set(theirs))


@given(numbers=ids, count=st.integers(1, 80))
@settings(max_examples=50)
def test_symbols_are_those_of_the_slow_sketch(numbers, count):
    slow = slow_sketch.symbols(numbers, count)
    fast = of_numbers(numbers, count)
    assert fast.symbols(0, count) == slow_sketch.encoded(slow)
    assert fast.counts(count) == slow_sketch.counts(slow)
    assert fast.symbols(count // 2, count) == slow_sketch.encoded(slow)[SYMBOL_BYTES * (count // 2) :]


@given(st.binary(min_size=16, max_size=16), st.lists(st.binary(min_size=64, max_size=64), min_size=1, max_size=5))
def test_short_ids_are_those_of_libsodium(key, leaves):
    found = short_ids(b"".join(leaves), key)
    assert found.tolist() == [slow_sketch.short_id((one[:32], one[32:]), key) for one in leaves]


def test_ids_walk_to_the_far_end_of_a_sketch_as_the_slow_one_does():
    number = min(some(2000), key=lambda one: slow_sketch.walk(one, 65_536)[1])
    made = of_numbers([number], 65_536)
    at = [place for place, held in enumerate(made.counts(65_536)[7:]) if held]
    assert at == slow_sketch.walk(number, 65_536)
    assert at[-1] > 1000


def test_sizes_are_those_of_the_wire():
    here = (sketch.SYMBOL_BYTES, sketch.ID_PREFIX_BYTES, sketch.SIZE_BYTES)
    assert here == (SYMBOL_BYTES, ID_PREFIX_BYTES, COUNTS_SIZE_BYTES)


# -- keeping up to date ------------------------------------------------------------------------------------------------


@given(before=ids, after=ids)
@settings(max_examples=30)
def test_a_sketch_kept_up_to_date_is_the_sketch_of_what_is_there(before, after):
    kept = of_numbers(before)
    kept.remove(as_ids(set(before) - set(after)))
    kept.add(as_ids(set(after) - set(before)))
    assert kept.symbols(0, 200) == of_numbers(after).symbols(0, 200)
    assert kept.counts(200) == of_numbers(after).counts(200)


def test_a_sketch_of_pieces_is_the_sketch_of_all_of_them():
    whole = entries(range(300))
    for size in (64, 640, len(whole)):
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
        assert make_sketch(pieces, KEY, 100).symbols(0, 100) == make_sketch([whole], KEY, 100).symbols(0, 100)
    assert len(make_sketch([], KEY)) == 65_536


def test_more_leaves_than_are_worked_on_at_once():
    many = b"".join(Random(number).randbytes(64) for number in range(20_000))
    made = make_sketch([many[: 64 * 17_000], many[64 * 17_000 :]], KEY, 50)
    assert made.symbols(0, 50) == of_numbers(short_ids(many, KEY).tolist(), 50).symbols(0, 50)


# -- reading -----------------------------------------------------------------------------------------------------------


@given(ours=ids, theirs=ids)
@settings(max_examples=50)
def test_what_is_read_is_the_difference(ours, theirs):
    found = of_numbers(ours, 400).difference_from(of_numbers(theirs, 400).symbols(0, 400))()
    assert found is not None
    assert set(found.theirs.tolist()) == set(theirs) - set(ours)
    assert set(found.ours.tolist()) == set(ours) - set(theirs)
    assert len(found.theirs) + len(found.ours) == len(set(ours) ^ set(theirs))


@pytest.mark.parametrize("differences", [1, 3, 10, 100, 1000, 10_000])
def test_a_sketch_of_the_advised_size_is_read_most_of_the_time(differences):
    common = some(500, seed=-1)
    count = symbols_for(differences)
    tries = 20 if differences < 10_000 else 3
    read = 0
    for seed in range(tries):
        apart = sorted(some(differences, seed))
        ours, theirs = common | set(apart[::2]), common | set(apart[1::2])
        found = of_numbers(ours, count).difference_from(of_numbers(theirs, count).symbols(0, count))()
        read += found is not None and set(found.ours.tolist()) == ours - theirs
    assert read >= 0.8 * tries


def test_too_few_symbols_are_not_read_and_none_tell_nothing():
    ours, theirs = of_numbers(some(100)), of_numbers(some(50))
    assert ours.difference_from(theirs.symbols(0, 30))() is None
    assert ours.difference_from(b"")() is None


def test_forged_symbols_are_given_up():
    ours = of_numbers(some(100))
    noise = Random(1).randbytes(SYMBOL_BYTES * 200)
    assert ours.difference_from(noise)() is None
    # Every symbol shows an id of its own: more ids than symbols allow, each missing from its other symbols.
    shown = b"".join(
        number.to_bytes(6, "big") + slow_sketch.check(number).to_bytes(3, "big") for number in sorted(some(200, 3))
    )
    assert Sketch(200).difference_from(shown)() is None


def test_symbols_that_take_turns_at_showing_an_id_end(monkeypatch):
    """A forged difference can make an id come and go for ever. The code counts each id found, and each round."""
    rounds = []
    number = next(one for one in sorted(some(100)) if 7 in slow_sketch.walk(one, 40))
    shown = number.to_bytes(6, "big") + slow_sketch.check(number).to_bytes(3, "big")
    take_out = sketch._take_out
    monkeypatch.setattr(sketch, "_take_out", lambda *all: rounds.append(1) or take_out(*all))
    # Only symbol 7 shows the id. Once it is taken out of all its symbols, the others show its negative.
    forged = bytes(SYMBOL_BYTES * 7) + shown + bytes(SYMBOL_BYTES * 32)
    assert Sketch(40).difference_from(forged)() is None
    assert len(rounds) <= 2 * 41


def test_an_id_that_is_shown_where_it_does_not_belong_is_passed_over():
    number = next(one for one in sorted(some(100)) if 7 not in slow_sketch.walk(one, 40))
    shown = number.to_bytes(6, "big") + slow_sketch.check(number).to_bytes(3, "big")
    forged = bytes(SYMBOL_BYTES * 7) + shown + bytes(SYMBOL_BYTES * 32)
    assert Sketch(40).difference_from(forged)() is None


def test_two_ids_whose_checks_add_up_to_that_of_their_sum_are_read_apart():
    one, other = 1360, 10_001
    assert slow_sketch.check(one) + slow_sketch.check(other) == slow_sketch.check(one + other)
    assert [1 in slow_sketch.walk(number, 2) for number in (one, other, one + other)] == [True, True, False]
    third = next(number for number in sorted(some(20)) if 1 not in slow_sketch.walk(number, 2))
    apart = {one, other, third}
    found = Sketch(20).difference_from(of_numbers(apart, 20).symbols(0, 20))()
    assert found is not None and not len(found.ours)
    assert sorted(found.theirs.tolist()) == sorted(apart)
    assert slow_sketch.read(slow_sketch.symbols(apart, 20), slow_sketch.symbols([], 20)) == (apart, set())


def test_no_more_ids_are_read_than_there_are_symbols():
    """Symbol 0 shows one id. Symbol 1 shows another, which also belongs in symbol 0 and then appears there again."""
    one = next(number for number in sorted(some(20)) if 1 not in slow_sketch.walk(number, 2))
    other = next(number for number in sorted(some(20)) if 1 in slow_sketch.walk(number, 2))
    shown = [number.to_bytes(6, "big") + slow_sketch.check(number).to_bytes(3, "big") for number in (one, other)]
    assert Sketch(2).difference_from(b"".join(shown))() is None


def test_rounds_are_bounded(monkeypatch):
    monkeypatch.setattr(sketch, "_ROUNDS_MAX", 1)
    assert of_numbers(some(30)).difference_from(bytes(SYMBOL_BYTES * 60))() is None


# -- estimating --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("differences", [50, 300, 3000, 30_000])
def test_counts_tell_how_much_differs(differences):
    common, apart = some(2000, seed=-1), sorted(some(differences, seed=5))
    for share in (2, 10):
        ours, theirs = set(apart[::share]) | common, (set(apart) - set(apart[::share])) | common
        found = of_numbers(ours, 256).estimate(of_numbers(theirs, 256).counts(256))
        assert 0.6 * differences < found < 1.5 * differences


def test_an_estimate_is_never_less_than_what_one_side_has_more():
    ours = of_numbers(some(10))
    assert ours.estimate(of_numbers(some(3)).counts(1)) == ours.estimate(of_numbers(some(17)).counts(1)) == 7
    assert ours.estimate(ours.counts(64)) == 0
    assert ours.estimate(ours.counts(1)) == 0


# -- finding leaves ----------------------------------------------------------------------------------------------------


def test_a_leaf_is_found_by_its_id_and_by_its_beginning():
    leaves = [leaf(number) for number in range(500)]
    tree = Tree(leaves)
    numbers = short_ids(b"".join(key + state for key, state in leaves), KEY)
    some_of_them = numbers[::7]
    expected = sorted(key for key, _ in leaves[::7])
    assert find(tree, KEY, some_of_them) == expected
    beginnings = ids_from_prefixes(id_prefixes(some_of_them))
    assert find(tree, KEY, beginnings, bits=8 * ID_PREFIX_BYTES) == expected
    assert find(tree, KEY, as_ids(some(50))) == []
    assert find(tree, KEY, as_ids([])) == []


def test_places_are_prefixes_of_five_nibbles_each_once():
    assert prefixes_of(as_ids([0x0123_4567_89AB, 0x0123_4FFF_0000, 0xFFFF_F000_0001])) == [
        bytes([0, 1, 2, 3, 4]),
        bytes([15] * 5),
    ]


def test_beginnings_are_sorted_and_each_once():
    beginnings = id_prefixes(as_ids([2**32, 2**32 + 1, 5 << 16, 2**47]))
    assert beginnings == b"\0\0\0\5" + b"\0\1\0\0" + b"\x80\0\0\0"
    assert ids_from_prefixes(beginnings).tolist() == [5 << 16, 2**32, 2**47]
    assert id_prefixes(as_ids([])) == b"" and ids_from_prefixes(b"").tolist() == []


def test_keys_among_entries_are_told_by_id():
    whole = entries(range(3))
    numbers = short_ids(whole, KEY)
    assert find_keys(whole, KEY, numbers[1:2]) == [whole[64:96]]


def test_all_leaves_are_found_whose_ids_begin_in_the_same_way():
    """Of many leaves some share the beginning with one that is asked for: each of them may be the one that is meant."""
    whole = entries(range(50))
    numbers = short_ids(whole, KEY)
    keys = [whole[at : at + 32] for at in range(0, len(whole), 64)]
    for bits in (1, 4, 20):
        alike = numbers >> np.uint64(48 - bits) == numbers[7] >> np.uint64(48 - bits)
        found = find_keys(whole, KEY, numbers[7:8], bits=bits)
        assert found == [key for key, is_alike in zip(keys, alike, strict=True) if is_alike]
