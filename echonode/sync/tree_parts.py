"""Tree nodes as they travel: a branch by the digests of its children, a bucket by those of its leaves (PROTOCOL.md §7).

    branch  00, two bytes naming the non-empty children (the first child in the highest bit), their digests in order
    bucket  01, the digests of its leaves in key order

`width`: the bytes of each digest that travel: 16, or 32 after a walk with 16 found no difference between unequal roots.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

from echonode.errors import Reason, RemoteError
from echonode.model.merkle import ARITY, BUCKET_LEAVES_MAX, EMPTY, Digest, Prefix, Tree, leaf_digest
from echonode.model.record import LeafKey

BranchPart: TypeAlias = tuple[Digest | None, ...]  # 16 children, None where there are no leaves
BucketPart: TypeAlias = list[Digest]

PREFIX_MAX: Final = 64  # nibbles of a leaf key; a branch stands above
_BRANCH: Final = 0
_BUCKET: Final = 1


def encode_branch(children: Sequence[Digest], width: int) -> bytes:
    """Return the part of a node with these 16 children (EMPTY where there are no leaves)."""
    bits = 0
    for child in children:
        bits = bits << 1 | (child != EMPTY)
    return bytes((_BRANCH, bits >> 8, bits & 0xFF)) + b"".join([c[:width] for c in children if c != EMPTY])


def encode_bucket(tree: Tree, prefix: Prefix, width: int) -> bytes:
    """Return the part that lists every leaf below `prefix`."""
    return bytes((_BUCKET,)) + b"".join([leaf_digest(key, state)[:width] for key, state in tree.leaves_at(prefix)])


def encode_node(tree: Tree, prefix: Prefix, width: int, leaves_max: int = BUCKET_LEAVES_MAX) -> bytes:
    """Return the part for `prefix`: its leaves when they are at most `leaves_max`, else its children."""
    if tree.count_at(prefix) <= leaves_max:
        return encode_bucket(tree, prefix, width)
    return encode_branch(tree.children_at(prefix), width)


def decode(part: bytes, width: int) -> BranchPart | BucketPart:
    """Return a BranchPart (tuple) or a BucketPart (list). Raises RemoteError (PROTOCOL_ERROR) for any other bytes."""
    kind, start = part[0], 1
    if kind == _BRANCH and len(part) >= 3:
        bits, start = part[1] << 8 | part[2], 3
    digests = [Digest(part[at : at + width]) for at in range(start, len(part), width)]
    if digests and len(digests[-1]) != width:
        raise _protocol_error("a digest is cut short")
    if kind == _BUCKET:
        return digests
    if kind != _BRANCH or start != 3 or bits.bit_count() != len(digests):
        raise _protocol_error("neither a branch nor a bucket")
    rest = iter(digests)
    return tuple(next(rest) if bits >> (ARITY - 1 - child) & 1 else None for child in range(ARITY))


def cut(children: Sequence[Digest], width: int) -> BranchPart:
    """Return our own 16 children in the form in which `decode` returns the peer's."""
    return tuple(None if child == EMPTY else Digest(child[:width]) for child in children)


def leaves_by_digest(tree: Tree, prefix: Prefix, width: int) -> dict[Digest, LeafKey]:
    """Return our leaves below `prefix`, by the digest that names them on the wire."""
    return {Digest(leaf_digest(key, state)[:width]): key for key, state in tree.leaves_at(prefix)}


def _protocol_error(detail: str) -> RemoteError:
    return RemoteError(Reason.PROTOCOL_ERROR, f"tree part: {detail}")
