"""Write proto/vectors/heads.json: sets of versions, which of them are heads, and what a new version covers.

Run `python -m tests.model.make_heads_vectors` to rewrite it, and only on purpose: two nodes that choose other heads
never become equal. Such a change belongs in PROTOCOL.md and CHANGELOG.md too.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echonode.clock import Timestamp
from echonode.limits import HEADS_BYTES_MAX, HEADS_MAX, RECORD_BYTES_MAX, SPARE_MAX, VECTOR_ENTRIES_MAX
from echonode.model.heads import Outline, cover, select
from echonode.model.identity import PublicKey, Writer
from echonode.model.record import VersionId

PATH = Path(__file__).parents[2] / "proto" / "vectors" / "heads.json"
Run = tuple[int, int, int]  # first writer, how many in a row, the counter of each
TOP = 2**64 - 1


@dataclass(frozen=True)
class Case:
    """Versions by number, in the order of their ids."""

    what: str
    versions: Mapping[int, Outline]


def version(number: int, *runs: Run, key: int = 0, timestamp: int = 0, size: int = 300) -> Outline:
    """Return a version whose id is `number`; `key` 0 stands for a key of its own."""
    vector = {writer(first + n): counter for first, count, counter in runs for n in range(count)}
    kid = PublicKey((key or 1_000_000 + number).to_bytes(32, "big"))
    return Outline(VersionId(number.to_bytes(32, "big")), kid, vector, Timestamp(timestamp), next(iter(vector)), size)


def writer(number: int) -> Writer:
    return Writer(number.to_bytes(16, "big"))


def case(what: str, *versions: Outline) -> Case:
    return Case(what, {int.from_bytes(one.id, "big"): one for one in versions})


def cases() -> list[Case]:
    entries, whole = VECTOR_ENTRIES_MAX, RECORD_BYTES_MAX
    return [
        case("an edit supersedes", version(1, (1, 1, 1)), version(2, (1, 1, 2)), version(3, (1, 1, 2), (2, 1, 1))),
        case("two edits of one", version(1, (1, 1, 1)), version(2, (1, 2, 1)), version(3, (1, 1, 1), (3, 1, 1))),
        case("equal vectors", version(1, (1, 2, 1)), version(2, (1, 2, 1))),
        case("a dot that was seen is not enough", version(1, (1, 2, 1)), version(2, (1, 1, 9))),
        case("a clock ahead supersedes nothing", version(1, (1, 1, 1), timestamp=TOP), version(2, (1, 1, 2))),
        case(
            "seventeen by one key: the least sum is left out, and its timestamp does not help",
            *(version(n, (n, 1, n), key=7, timestamp=TOP if n == 1 else 0) for n in range(1, 18)),
        ),
        case(
            "seventeen by one key: of equal sums the earliest timestamp is left out",
            *(version(n, (n, 1, 5), key=7, timestamp=100 - n) for n in range(1, 18)),
        ),
        case(
            "seventeen by one key: of equal sums and timestamps the least id is left out",
            *(version(n, (n, 1, 5), key=7, timestamp=3) for n in range(1, 18)),
        ),
        case(
            "what a version left out had superseded is a head",
            *(version(n, (n, 1, 50), key=7) for n in range(10, 26)),
            version(2, (1, 2, 1), key=7),
            version(1, (1, 1, 1)),
        ),
        case(
            "a sum past 64 bits",
            *(version(n, (2 * n, 2, TOP), key=7) for n in range(1, 17)),
            version(17, (40, 1, TOP), key=7),
        ),
        case(f"one more than {HEADS_MAX}", *(version(n, (n, 1, 1)) for n in range(1, HEADS_MAX + 2))),
        case(
            f"more than {HEADS_MAX} and {SPARE_MAX}: the last are dropped",
            *(version(n, (n, 1, 1)) for n in range(1, HEADS_MAX + SPARE_MAX + 3)),
        ),
        case(
            "seventeen full vectors: one is left out, and no smaller one fits",
            *(version(n, (n * 2000, entries, 5)) for n in range(1, 18)),
            version(30, (1, 1, 1)),
        ),
        case(
            "a smaller vector fits where a larger one did not",
            *(version(n, (n * 2000, entries - 10, 5)) for n in range(1, 17)),
            version(20, (1, 161, 4)),
            version(21, (500, 160, 1)),
        ),
        case(
            f"as many bytes as fit into {HEADS_BYTES_MAX:,}",
            *(version(n, (n, 1, 5), size=whole) for n in range(1, 16)),
            version(20, (20, 1, 4), size=whole - 299),
            version(21, (21, 1, 3), size=300),
            version(22, (22, 1, 2), size=299),
        ),
    ]


COVERS: list[tuple[str, list[Outline], int]] = [
    ("all heads", [version(1, (1, 2, 3)), version(2, (1, 1, 4), (5, 1, 1))], 9),
    ("a head that has the writer", [version(1, (1, VECTOR_ENTRIES_MAX, 3))], VECTOR_ENTRIES_MAX),
    ("a head with room for the writer", [version(1, (1, VECTOR_ENTRIES_MAX - 1, 3))], 9_999),
    ("a head without room for the writer", [version(1, (1, VECTOR_ENTRIES_MAX, 3)), version(2, (5_000, 1, 1))], 9_999),
    ("the first of two that do not fit together", [version(1, (1, 600, 2)), version(2, (1_001, 600, 3))], 9_999),
    (
        "a later one that fits behind one that does not",
        [version(1, (1, 600, 3)), version(2, (1_001, 600, 2)), version(3, (401, 423, 2)), version(4, (9_000, 1, 1))],
        9_999,
    ),
]


def build() -> dict[str, Any]:
    """Return the vectors as JSON."""
    return {
        "about": "Versions of one record each, by number: the number, in 32 bytes, is the version id. `key` is the "
        "number of the signing key. `vector` lists [first writer, how many writers in a row, the counter of each]; a "
        "writer's number stands for its 16 bytes. `bytes` is the size of the version. `heads` and `spare` go down the "
        "ranks. `covers`: what a new version by `writer` has in its vector beside its own dot, and which heads it "
        "leaves beside it. Numbers that may pass 2^53 are texts.",
        "heads": [_described(each) for each in cases()],
        "covers": [
            {
                "what": what,
                "heads": {str(_number(head)): _shape(head) for head in heads},
                "writer": number,
                "vector": _runs(cover(heads, writer(number))),
                "left": [_number(head) for head in heads if not _covers(cover(heads, writer(number)), head)],
            }
            for what, heads, number in COVERS
        ],
    }


def _described(each: Case) -> dict[str, Any]:
    selection = select(each.versions.values())
    return {
        "what": each.what,
        "versions": {str(number): _shape(one) for number, one in each.versions.items()},
        "heads": [_number(one) for one in selection.heads],
        "spare": [_number(one) for one in selection.spare],
    }


def _shape(one: Outline) -> dict[str, Any]:
    return {
        "key": int.from_bytes(one.kid, "big"),
        "timestamp": str(one.timestamp),
        "vector": _runs(one.vector),
        "bytes": one.size,
    }


def _runs(vector: Mapping[Writer, int]) -> list[Any]:
    runs: list[list[int]] = []
    for number, counter in sorted((int.from_bytes(each, "big"), counter) for each, counter in vector.items()):
        if runs and (sum(runs[-1][:2]), runs[-1][2]) == (number, counter):
            runs[-1][1] += 1
        else:
            runs.append([number, 1, counter])
    return [[first, count, str(counter)] for first, count, counter in runs]


def _covers(vector: Mapping[Writer, int], head: Outline) -> bool:
    return all(vector.get(each, 0) >= counter for each, counter in head.vector.items())


def _number(one: Outline) -> int:
    return int.from_bytes(one.id, "big")


def read(shapes: Mapping[str, Any]) -> Iterable[Outline]:
    """Return the versions that a file of vectors describes."""
    return [
        version(
            int(number),
            *((first, count, int(counter)) for first, count, counter in shape["vector"]),
            key=shape["key"],
            timestamp=int(shape["timestamp"]),
            size=shape["bytes"],
        )
        for number, shape in shapes.items()
    ]




if __name__ == "__main__":
    PATH.write_text(json.dumps(build(), indent=None, separators=(", ", ": ")).replace('}, "', '},\n"') + "\n")
