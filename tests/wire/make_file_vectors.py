"""Write proto/vectors/file.json: a record file, its items, and files that are refused or cut.

Run `python -m tests.wire.make_file_vectors` to rewrite it, and only on purpose: other bytes are another format, and
files on people's disks are of this one. Such a change belongs in PROTOCOL.md and CHANGELOG.md too.
"""

import json
from pathlib import Path
from typing import Any

from echonode import cbor
from echonode.model.identity import writer_of
from echonode.model.keys import KeyState, statement_draft
from echonode.model.merkle import Digest, Tree, state_of
from echonode.model.record import IDENTITIES, MAIN, Draft, Record, sign
from echonode.wire.channel import NetworkSecret
from echonode.wire.record_file import NETWORK_BYTES, ContextEnd, FileHeader
from tests.model.forge import LIFE, NOW, PERSON, written
from tests.wire.ends import NETWORK_KEY

PATH = Path(__file__).parents[2] / "proto" / "vectors" / "file.json"


def build() -> dict[str, Any]:
    """Return the vectors as JSON: bytes in hex."""
    netid = NetworkSecret.private(NETWORK_KEY).netid
    header = FileHeader(netid[:NETWORK_BYTES], PERSON.id, "kitchen", (IDENTITIES, "books", MAIN))
    contexts = {
        IDENTITIES: [_statement()],
        "books": [],
        MAIN: sorted([written(), written(Draft(context=MAIN, author=PERSON.id, name="b"))], key=lambda each: each.key),
    }
    items = [("header", header.encode())]
    for name, records in contexts.items():
        items += [(f"version of {name}", record.raw) for record in records]
        items.append((f"end of {name}", ContextEnd(len(records), _root(records), name == MAIN).encode()))
    whole = b"".join(data for _, data in items)
    start = len(whole) - len(items[-1][1])
    return {
        "about": "`file` is a record file as PROTOCOL.md §14 has them, and `items` are its items in order. In "
        "`damaged`, `versions` is how many are kept of a file that is cut or changed. `other_major` is read by nobody "
        "who reads version 1, `later_minor` as if the fields behind the known ones were not there.",
        "network_key": NETWORK_KEY.hex(),
        "netid": netid.hex(),
        "file": whole.hex(),
        "items": [{"what": what, "bytes": data.hex()} for what, data in items],
        "damaged": [
            {"what": "cut before its last end", "bytes": whole[:start].hex(), "versions": 3},
            {"what": "a bit of a signature", "bytes": _changed(whole, start - 1).hex(), "versions": 2},
            {"what": "a count that is wrong", "bytes": _changed(whole, start + 1).hex(), "versions": 3},
            {"what": "a byte behind the end", "bytes": f"{whole.hex()}00", "versions": 3},
        ],
        "other_major": _header_of(header, [2, 0]).hex(),
        "later_minor": (_header_of(header, [1, 1], "more") + whole[len(items[0][1]) :]).hex(),
    }


def _statement() -> Record:
    draft = statement_draft(PERSON.id, PERSON.device.public, KeyState.ACTIVE)
    own = writer_of(PERSON.root.public, LIFE)
    return sign(draft, PERSON.root, instance=LIFE, vector={own: 1}, timestamp=NOW)


def _root(records: list[Record]) -> Digest:
    return Tree((record.key, state_of([record.id])) for record in records).root


def _changed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _header_of(header: FileHeader, version: list[int], *more: str) -> bytes:
    values: Any = cbor.decode(header.encode())
    return cbor.encode([values[0], version, *values[2:], *more])


if __name__ == "__main__":
    PATH.write_text(json.dumps(build(), indent=1) + "\n")
