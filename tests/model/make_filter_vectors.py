"""Write proto/vectors/filter.json: filters, their canonical bytes and digests, and the records that each takes.

Run `python -m tests.model.make_filter_vectors` to rewrite it, and only on purpose: two nodes that read a filter
differently never agree on a set. Such a change belongs in PROTOCOL.md and CHANGELOG.md too.
"""

import json
from pathlib import Path
from typing import Any

from echonode import cbor
from echonode.model.filter import Filter
from echonode.model.identity import IdentityId
from echonode.model.record import MAIN, Draft, Record
from tests.model.forge import PERSON, written

PATH = Path(__file__).parents[2] / "proto" / "vectors" / "filter.json"
OTHER = IdentityId(bytes(range(32)))

RECORDS: dict[str, Draft] = {
    "note": Draft(context=MAIN, author=PERSON.id, name="notes/one", created_ms=1_000, tags=("a", "b"), body=b"1"),
    "other author": Draft(context=MAIN, author=OTHER, name="notes/two", created_ms=1_000, tags=("b",), body=b"2"),
    "later": Draft(context=MAIN, author=PERSON.id, name="notes/three", created_ms=2_000, tags=("a",), body=b"3"),
    "task": Draft(context=MAIN, author=PERSON.id, name="Größe [1]", created_ms=1_000, model="task", body=b"4"),
    "tombstone": Draft(context=MAIN, author=PERSON.id, name="notes/one", created_ms=3_000, is_tombstone=True),
}
FILTERS: dict[str, Filter] = {
    "everything": Filter(),
    "an author": Filter(authors=frozenset({OTHER})),
    "authors, in order": Filter(authors=frozenset({OTHER, PERSON.id, IdentityId(bytes(32))})),
    "not an author": Filter(not_authors=frozenset({OTHER})),
    "an author or a pool": Filter(authors=frozenset({IdentityId(bytes(32))}), pools=frozenset({OTHER})),
    "senders": Filter(senders=frozenset({OTHER}), not_senders=frozenset({PERSON.id})),
    "models": Filter(models=frozenset({"task", "event"})),
    "any tag": Filter(tags_any=frozenset({"a", "c"})),
    "all tags": Filter(tags_all=frozenset({"a", "b"})),
    "since": Filter(since_ms=2_000),
    "until": Filter(until_ms=2_000),
    "since the beginning": Filter(since_ms=0),
    "a name": Filter(name="notes/*"),
    "a name of so many characters": Filter(name="notes/???"),
    "a name with a bracket": Filter(name="Gr??e [*"),
    "all at once": Filter(
        authors=frozenset({PERSON.id}), tags_any=frozenset({"b"}), since_ms=500, until_ms=1_500, name="*o*"
    ),
}


def build() -> dict[str, Any]:
    """Return the vectors as JSON: bytes in hex."""
    records = {name: written(draft) for name, draft in RECORDS.items()}
    return {
        "about": "`records` are versions as PROTOCOL.md §4 has them. Of each filter: its canonical bytes, its "
        "digest, and the records it takes, whoever sends them.",
        "records": {name: record.raw.hex() for name, record in records.items()},
        "filters": [_described(name, wanted, records) for name, wanted in FILTERS.items()],
    }


def _described(name: str, wanted: Filter, records: dict[str, Record]) -> dict[str, Any]:
    return {
        "what": name,
        "bytes": cbor.encode(wanted.fields()).hex(),
        "digest": wanted.digest().hex(),
        "takes": [name for name, record in records.items() if wanted.matches(record)],
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(build(), indent=2) + "\n")
