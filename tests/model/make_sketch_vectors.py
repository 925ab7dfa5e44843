"""Write proto/vectors/sketch.json: frozen short ids, sketches of two sets, and their difference.

Run `python -m tests.model.make_sketch_vectors` to rewrite it, and only on purpose: old and new sketches would not fit
each other. Such a change belongs in PROTOCOL.md and CHANGELOG.md too.
"""

import json
from pathlib import Path
from typing import Any

from echonode.model.sketch import Sketch, short_ids
from echonode.sync.sketch_cache import SketchCache
from tests.model.make_merkle_vectors import leaf

PATH = Path(__file__).parents[2] / "proto" / "vectors" / "sketch.json"
NETID = bytes(range(32))
OURS, THEIRS = range(300), range(3, 310)
SYMBOLS = 40


def build() -> dict[str, Any]:
    """Return the vectors as JSON: bytes in hex, ids as 12 hexadecimal digits."""
    sketches = SketchCache(lambda: NETID)
    key, salted = sketches.key("main"), sketches.key("main", bytes(16))
    ours, theirs = Sketch(SYMBOLS), Sketch(SYMBOLS)
    ours.add(short_ids(entries(OURS), key))
    theirs.add(short_ids(entries(THEIRS), key))
    difference = ours.difference_from(theirs.symbols(0, SYMBOLS))()
    assert difference is not None
    return {
        "about": "Leaf number i is that of merkle.json. Ours are leaves 0 to 299, theirs 3 to 309, in `main`.",
        "netid": NETID.hex(),
        "key": key.hex(),
        "session": bytes(16).hex(),
        "salted_key": salted.hex(),
        "short_ids_of_leaves_0_to_2": _ids(short_ids(entries(range(3)), key)),
        "salted_short_ids_of_leaves_0_to_2": _ids(short_ids(entries(range(3)), salted)),
        "our_symbols": ours.symbols(0, SYMBOLS).hex(),
        "our_counts": ours.counts(SYMBOLS).hex(),
        "their_symbols": theirs.symbols(0, SYMBOLS).hex(),
        "their_counts": theirs.counts(SYMBOLS).hex(),
        "only_ours": sorted(_ids(difference.ours)),
        "only_theirs": sorted(_ids(difference.theirs)),
    }


def entries(numbers: range) -> bytes:
    return b"".join(key + state for key, state in map(leaf, numbers))


def _ids(ids: Any) -> list[str]:
    return [f"{number:012x}" for number in ids.tolist()]


if __name__ == "__main__":
    PATH.write_text(json.dumps(build(), indent=1) + "\n")
