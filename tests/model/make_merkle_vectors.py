"""Write proto/vectors/merkle.json: frozen sets of leaves, their roots and some of the digests below.

Run `python -m tests.model.make_merkle_vectors` to rewrite it, and only on purpose: nodes with different trees never
become equal. Such a change belongs in PROTOCOL.md and CHANGELOG.md too.
"""

import json
from hashlib import blake2b
from pathlib import Path
from typing import Any

from echonode.model.merkle import State, Tree, leaf_digest, state_of
from echonode.model.record import LeafKey, VersionId

PATH = Path(__file__).parents[2] / "proto" / "vectors" / "merkle.json"
SIZES = (0, 1, 16, 17, 300)
PREFIXES = ("", "0", "f", "07")


def build() -> dict[str, Any]:
    """Return the vectors as JSON: bytes in hex, prefixes as hexadecimal digits."""
    return {
        "about": "Leaf number i of every set: key = BLAKE2b-256('key i'), heads = BLAKE2b-256('head i') and, of every "
        "tenth leaf, BLAKE2b-256('twin i'), without domains; i counts from 0, in decimal. Bytes in hex; a "
        "prefix is hexadecimal digits of the key, and children are in order of the next digit.",
        "states": [
            {"heads": [head.hex() for head in heads(number)], "state": state_of(heads(number)).hex()}
            for number in (0, 1)
        ],
        "leaf_digest_of_leaf_0": leaf_digest(*leaf(0)).hex(),
        "sets": [_described(size) for size in SIZES],
    }


def heads(number: int) -> list[VersionId]:
    names = [f"head {number}"] + [f"twin {number}"] * (number % 10 == 0)
    return [VersionId(_hash(name)) for name in names]


def leaf(number: int) -> tuple[LeafKey, State]:
    return LeafKey(_hash(f"key {number}")), state_of(heads(number))


def _hash(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=32).digest()


def _described(size: int) -> dict[str, Any]:
    tree = Tree(leaf(number) for number in range(size))
    return {
        "leaves": size,
        "root": tree.root.hex(),
        "below": [
            {
                "prefix": prefix,
                "count": tree.count_at(_nibbles(prefix)),
                "digest": tree.digest_at(_nibbles(prefix)).hex(),
                "children": [child.hex() for child in tree.children_at(_nibbles(prefix))],
            }
            for prefix in PREFIXES
        ],
    }


def _nibbles(prefix: str) -> bytes:
    return bytes(int(digit, 16) for digit in prefix)


if __name__ == "__main__":
    PATH.write_text(json.dumps(build(), indent=2) + "\n")
