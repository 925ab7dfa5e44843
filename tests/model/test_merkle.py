"""The Merkle tree against a naive one, written from PROTOCOL.md §7."""

from collections.abc import Mapping
from hashlib import blake2b
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echonode.digest import LEAF
from echonode.model import merkle
from echonode.model.merkle import (
    ARITY,
    BUCKET_LEAVES_MAX,
    EMPTY,
    State,
    Tree,
    leaf_digest,
    state_of,
)
from echonode.model.record import LeafKey, VersionId
from tests.model.make_merkle_vectors import leaf

Leaves = Mapping[LeafKey, State]


def hashed(person: str, data: bytes) -> bytes:
    return blake2b(data, digest_size=32, person=person.encode()).digest()


def nibbles(key: bytes) -> bytes:
    return bytes.fromhex("0" + "0".join(key.hex()))


def below(leaves: Leaves, prefix: bytes) -> dict[LeafKey, State]:
    return {key: leaves[key] for key in sorted(leaves) if nibbles(key).startswith(prefix)}


def naive(leaves: Leaves, prefix: bytes = b"") -> bytes:
    """Return the digest below `prefix`, computed from its definition."""
    part = below(leaves, prefix)
    count = len(part).to_bytes(8, "big")
    if len(part) > 16:
        return hashed("echonode node", count + b"".join(naive(part, prefix + bytes([n])) for n in range(16)))
    if not part and prefix:
        return bytes(32)
    return hashed("echonode bucket", count + b"".join(key + state for key, state in part.items()))


def some(count: int, seed: int = 0, alike: int = 0) -> dict[LeafKey, State]:
    """Return `count` leaves with keys that begin with `alike` zero bytes, so that the tree is deep."""
    rng = Random(seed)
    keys = (LeafKey(bytes(alike) + rng.randbytes(32 - alike)) for _ in range(count))
    return {key: State(rng.randbytes(32)) for key in keys}


# The first bytes take few values: keys share prefixes, and buckets fill and split at every depth.
KEYS = st.builds(
    lambda head, tail: LeafKey((bytes(head) + tail).ljust(32, b"\0")),
    st.lists(st.sampled_from([0, 1, 16, 255]), max_size=4),
    st.binary(max_size=2),
)
STATES = st.binary(min_size=32, max_size=32).map(State)
LEAVES = st.dictionaries(KEYS, STATES, max_size=60)
PREFIXES = st.lists(st.sampled_from([0, 0, 0, 1, 15]), max_size=8).map(bytes)


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17, 40, 300, 3000])
def test_the_root_is_that_of_the_definition(count: int) -> None:
    leaves = some(count)
    assert Tree(leaves.items()).root == naive(leaves)


@pytest.mark.parametrize("alike", [1, 8, 20, 30])
def test_keys_alike_for_long_make_a_deep_tree_and_no_other_root(alike: int) -> None:
    leaves = some(40, alike=alike)
    tree = Tree()
    for key, state in leaves.items():
        tree.put(key, state)
    assert tree.root == naive(leaves) == Tree(leaves.items()).root
    for key in leaves:
        tree.remove(key)
    assert (tree.root, len(tree)) == (Tree().root, 0)


@pytest.mark.parametrize("changes", [1, 2, 7, 50])
def test_a_root_read_between_changes_is_that_of_the_definition(changes: int) -> None:
    leaves = some(400)
    tree = Tree(leaves.items())
    more = iter(some(500, seed=1).items())
    for _ in range(4):
        assert tree.root == naive(leaves)
        for _ in range(changes):
            key, state = next(more)
            tree.put(key, state)
            leaves[key] = state
            gone = min(leaves)
            tree.remove(gone)
            del leaves[gone]
    assert tree.children_at(b"") == tuple(naive(leaves, bytes([nibble])) for nibble in range(16))


@pytest.mark.parametrize("alike", [0, 1, 2])
def test_a_chain_of_branches_with_the_same_leaves_becomes_one_bucket(alike: int) -> None:
    leaves = some(17, alike=alike)
    tree = Tree(leaves.items())
    gone = max(leaves)
    del leaves[gone]
    tree.remove(gone)
    assert (tree.root, len(tree), dict(tree.leaves_at(b""))) == (naive(leaves), 16, leaves)


@given(st.lists(LEAVES, max_size=4))
def test_many_leaves_at_once_are_put_as_one_after_another(batches: list[dict[LeafKey, State]]) -> None:
    tree, leaves = Tree(), dict[LeafKey, State]()
    for batch in batches:
        tree.put_all(batch.items())
        leaves |= batch
        assert tree.root == naive(leaves)
        assert (dict(tree.leaves_at(b"")), len(tree)) == (leaves, len(leaves))


@given(LEAVES, st.randoms(use_true_random=False))
def test_the_root_depends_on_the_set_alone(leaves: Leaves, random: Random) -> None:
    keys = list(leaves)
    random.shuffle(keys)
    tree = Tree()
    for key in keys:
        tree.put(key, State(bytes(32)))
        assert tree.root
    for key in keys:
        tree.put(key, leaves[key])
    assert tree.root == Tree(leaves.items()).root == naive(leaves)
    in_order = [key + leaves[key] for key in sorted(leaves)]
    assert Tree.from_sorted(in_order).root == Tree.from_sorted([b"".join(in_order)]).root == tree.root
    rebuilt = Tree.from_sorted([b"".join(in_order[:3]), b"", b"".join(in_order[3:])])
    assert (len(rebuilt), dict(rebuilt.leaves_at(b""))) == (len(leaves), leaves)


@given(st.lists(st.tuples(KEYS, st.none() | STATES), max_size=80))
def test_puts_and_removals_are_those_of_a_dictionary(steps: list[tuple[LeafKey, State | None]]) -> None:
    tree, leaves = Tree(), dict[LeafKey, State]()
    for number, (key, state) in enumerate(steps):
        if state is None:
            tree.remove(key)
            leaves.pop(key, None)
        else:
            tree.put(key, state)
            leaves[key] = state
        assert len(tree) == len(leaves)
        assert tree.get(key) == state
        if number % 7 == 0:
            assert tree.root == naive(leaves)
    assert tree.root == naive(leaves)
    assert dict(tree.leaves_at(b"")) == leaves


def test_a_large_tree_shrinks_to_what_it_was(seed: int = 7) -> None:
    leaves = some(3000, seed)
    kept = dict(list(leaves.items())[:500])
    tree = Tree(leaves.items())
    assert tree.root
    for key in list(leaves)[500:]:
        assert tree.get(key) == leaves[key]
        tree.remove(key)
        assert tree.get(key) is None
    assert tree.root == Tree(kept.items()).root
    for key, state in leaves.items():
        tree.put(key, state)
    assert tree.root == Tree(leaves.items()).root


@given(LEAVES, PREFIXES)
def test_digests_counts_and_children_below_a_prefix_are_those_of_the_definition(leaves: Leaves, prefix: bytes) -> None:
    tree = Tree(leaves.items())
    assert tree.digest_at(prefix) == naive(leaves, prefix)
    assert tree.count_at(prefix) == len(below(leaves, prefix))
    assert tree.children_at(prefix) == tuple(naive(leaves, prefix + bytes([nibble])) for nibble in range(ARITY))


@given(LEAVES, PREFIXES, st.none() | KEYS)
def test_leaves_come_in_key_order_from_behind_a_key(leaves: Leaves, prefix: bytes, after: LeafKey | None) -> None:
    expected = [(key, state) for key, state in below(leaves, prefix).items() if after is None or key > after]
    assert list(Tree(leaves.items()).leaves_at(prefix, after)) == expected


@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(0, 3000))
def test_leaves_of_a_large_tree_can_be_paged(seed: int, start: int) -> None:
    leaves = some(1000, seed)
    in_order = sorted(leaves.items())
    tree = Tree(leaves.items())
    after = in_order[start % 1000][0]
    assert list(tree.leaves_at(b"", after)) == in_order[start % 1000 + 1 :]
    assert all(a < b for (a, _), (b, _) in pairwise(tree.leaves_at(b"")))


def test_a_difference_between_trees_is_found_below_differing_digests() -> None:
    leaves = some(5000)
    changed = dict(leaves)
    keys = sorted(leaves)
    changed[keys[77]] = State(bytes(32))
    del changed[keys[400]]
    changed[LeafKey(bytes(32))] = State(bytes(32))
    ours, theirs = Tree(leaves.items()), Tree(changed.items())
    found: set[LeafKey] = set()
    prefixes = [b""]
    while prefixes:
        prefix = prefixes.pop()
        if min(ours.count_at(prefix), theirs.count_at(prefix)) <= BUCKET_LEAVES_MAX:
            found |= {key for key, _ in set(ours.leaves_at(prefix)) ^ set(theirs.leaves_at(prefix))}
            continue
        for nibble, (a, b) in enumerate(zip(ours.children_at(prefix), theirs.children_at(prefix), strict=True)):
            if a != b:
                prefixes.append(prefix + bytes([nibble]))
    assert found == {keys[77], keys[400], LeafKey(bytes(32))}


def test_a_key_that_only_seems_to_stand_in_a_bucket_is_not_found() -> None:
    """Buckets are searched as plain bytes, in which half a state and half the next key can equal a key."""
    first, second = LeafKey(b"\x01" * 32), LeafKey(b"\x02" * 32)
    phantom = LeafKey(b"\x01\x01" + b"\x07" * 14 + second[:16])
    tree = Tree([(first, State(b"\x05" * 16 + phantom[:16])), (second, State(b"\x06" * 32))])
    assert tree.get(phantom) is None
    tree.remove(phantom)
    assert len(tree) == 2
    tree.put(phantom, State(b"\x09" * 32))
    assert (len(tree), tree.get(phantom), tree.get(second)) == (3, b"\x09" * 32, b"\x06" * 32)
    again = LeafKey(first[:16] + b"\x05" * 16)
    assert tree.get(again) is None


def test_an_empty_tree_has_a_root_and_empty_children_and_an_absent_part_none() -> None:
    tree = Tree()
    assert tree.root == hashed("echonode bucket", bytes(8)) != EMPTY
    assert tree.children_at(b"") == (EMPTY,) * ARITY
    assert tree.digest_at(b"\x03") == EMPTY == bytes(32)
    assert tree.count_at(b"\x03") == 0
    assert list(tree.leaves_at(b"\x03")) == []
    tree.remove(LeafKey(bytes(32)))
    assert len(tree) == 0


def test_a_state_is_that_of_a_set_of_heads() -> None:
    a, b = VersionId(b"a" * 32), VersionId(b"b" * 32)
    assert state_of([a, b]) == state_of([b, a]) == hashed("echonode state", a + b)
    assert state_of([a]) == hashed("echonode state", a)


def test_leaves_buckets_and_branches_are_hashed_in_domains_of_their_own() -> None:
    key, state = LeafKey(b"k" * 32), State(b"s" * 32)
    assert leaf_digest(key, state) == hashed(LEAF.decode(), key + state)
    assert leaf_digest(key, state) != Tree([(key, state)]).root


# -- journals ----------------------------------------------------------------------------------------------------------


def test_a_journal_tells_every_leaf_that_came_or_went_since_it_was_begun():
    tree = Tree([leaf(number) for number in range(40)])
    journal = tree.start_journal()
    (key, state), (gone, before), new = leaf(3), leaf(5), leaf(50)
    tree.put(key, before)
    tree.remove(gone)
    tree.remove(gone)
    tree.put(*new)
    assert tree.writes_to(journal)
    assert bytes(journal.removed) == key + state + gone + before
    assert bytes(journal.added) == key + before + b"".join(new)
    journal.clear()
    tree.put(*leaf(51))
    assert (bytes(journal.removed), bytes(journal.added)) == (b"", b"".join(leaf(51)))


def test_a_journal_ends_where_another_begins_and_where_it_grows_too_long(monkeypatch):
    monkeypatch.setattr(merkle, "JOURNAL_LEAVES_MAX", 3)
    tree = Tree()
    assert not tree.writes_to(merkle.Journal())
    first = tree.start_journal()
    second = tree.start_journal()
    tree.put(*leaf(1))
    assert not tree.writes_to(first) and not first.added
    assert tree.writes_to(second) and not second.is_too_long
    for number in range(2, 9):
        tree.put(*leaf(number))
    assert not tree.writes_to(second) and second.is_too_long
    assert len(second.added) == 4 * 64, "nothing is noted any more"


@given(st.sets(st.integers(0, 400), max_size=300), st.lists(st.integers(0, 15), max_size=4).map(bytes))
def test_the_entries_around_a_prefix_are_those_below_it_and_neighbours(numbers, prefix):
    tree = Tree(leaf(number) for number in numbers)
    entries = b"".join(tree.entries_around(prefix))
    found = {(entries[at : at + 32], entries[at + 32 : at + 64]) for at in range(0, len(entries), 64)}
    assert found >= set(tree.leaves_at(prefix))
    assert found <= {leaf(number) for number in numbers}
    assert len(found) == len(entries) // 64
    assert len(found) <= max(16, tree.count_at(prefix))
