"""Tree nodes as they travel: every node decodes to itself, and no other bytes are a node."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echonode.errors import Reason, RemoteError
from echonode.model.merkle import ARITY, BUCKET_LEAVES_MAX, EMPTY, Digest, State, Tree, leaf_digest
from echonode.model.record import LeafKey
from echonode.sync import tree_parts

widths = st.sampled_from([16, 32])
digests = st.binary(min_size=32, max_size=32)
trees = st.dictionaries(digests, digests, max_size=60).map(
    lambda leaves: Tree((LeafKey(key), State(state)) for key, state in leaves.items())
)


@given(children=st.lists(st.one_of(st.just(EMPTY), digests), min_size=ARITY, max_size=ARITY), width=widths)
def test_a_branch_comes_back_cut_to_width(children, width):
    part = tree_parts.encode_branch(children, width)
    assert len(part) == 3 + width * sum(child != EMPTY for child in children)
    assert tree_parts.decode(part, width) == tree_parts.cut(children, width)
    assert tree_parts.cut(children, width) == tuple(None if child == EMPTY else child[:width] for child in children)


@given(tree=trees, width=widths)
def test_a_bucket_comes_back_in_key_order_and_names_every_leaf(tree, width):
    found = tree_parts.decode(tree_parts.encode_bucket(tree, b"", width), width)
    leaves = [(leaf_digest(key, state)[:width], key) for key, state in tree.leaves_at(b"")]
    assert found == [digest for digest, _ in leaves]
    assert tree_parts.leaves_by_digest(tree, b"", width) == dict(leaves)


@given(tree=trees, width=widths)
def test_a_node_is_a_bucket_up_to_the_bound_and_a_branch_above(tree, width):
    for prefix in (b"", b"\0", b"\x0f", b"\1\2"):
        count = tree.count_at(prefix)
        for bound in (BUCKET_LEAVES_MAX, 64, 0):
            node = tree_parts.decode(tree_parts.encode_node(tree, prefix, width, bound), width)
            if count <= bound:
                assert isinstance(node, list) and len(node) == count
            else:
                assert node == tree_parts.cut(tree.children_at(prefix), width)
        whole = tree_parts.encode_node(tree, prefix, width, BUCKET_LEAVES_MAX)
        assert tree_parts.encode_node(tree, prefix, width) == whole


def test_the_first_child_is_in_the_highest_bit():
    first = [Digest(b"a" * 32), *[EMPTY] * 15]
    last = [*[EMPTY] * 15, Digest(b"z" * 32)]
    assert tree_parts.encode_branch(first, 16) == bytes.fromhex("008000") + b"a" * 16
    assert tree_parts.encode_branch(last, 16) == bytes.fromhex("000001") + b"z" * 16
    assert tree_parts.encode_branch([EMPTY] * 16, 16) == bytes(3)
    assert tree_parts.encode_bucket(Tree(), b"", 16) == b"\1"


@pytest.mark.parametrize(
    "part",
    [
        b"\0",
        b"\0\0",
        b"\0\x80\0",
        b"\0\0\0" + bytes(16),
        b"\0\x80\0" + bytes(15),
        b"\0\x80\0" + bytes(17),
        b"\0\x80\0" + bytes(32),
        b"\0" + bytes(16),
        b"\1" + bytes(15),
        b"\1" + bytes(17),
        b"\2",
        b"\2" + bytes(16),
        b"\xff\xff\xff",
    ],
    ids=bytes.hex,
)
def test_what_is_no_node_is_refused(part):
    with pytest.raises(RemoteError) as refused:
        tree_parts.decode(part, 16)
    assert refused.value.reason is Reason.PROTOCOL_ERROR


@given(part=st.binary(min_size=1, max_size=100), width=widths)
def test_any_bytes_are_a_node_or_a_remote_error(part, width):
    try:
        node = tree_parts.decode(part, width)
    except RemoteError as error:
        assert error.reason is Reason.PROTOCOL_ERROR
        return
    if isinstance(node, list):
        assert part == b"\1" + b"".join(node)
    else:
        again = [EMPTY if child is None else child for child in node]
        if all(child is None or any(child) for child in node):
            assert tree_parts.encode_branch(again, width) == part
