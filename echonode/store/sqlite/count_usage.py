"""Counting, when a store is opened, what the heads of each author take, staged ones too. Synchronous, on its thread.

No column says who an author is. Its place in a version's bytes follows from the length of the context's name
(PROTOCOL.md §4.1, §4.2), so SQLite adds up by itself. Of large versions only the beginning is read, one by one.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from echonode.model.identity import IDENTITY_BYTES, KEY_BYTES, IdentityId, PublicKey
from echonode.model.record import IDENTITIES, KID_AT
from echonode.model.usage import UsageTable

_PAYLOAD_HEAD_AT: Final = KID_AT + KEY_BYTES + 1  # behind kid and the empty unprotected header
_BEGINNING_BYTES: Final = 160  # enough for the longest name of a context and the author
_LARGE_BYTES: Final = 4000  # of a version that spills over into other pages
_TOMBSTONE_AT: Final = -68  # from the end: field 13, `true`; behind it the signature with its head

_CONTEXTS: Final = (
    "(SELECT id, length(CAST(ifnull(name, staged_for) AS BLOB)) AS name_bytes FROM contexts"
    f" WHERE ifnull(name, staged_for) <> '{IDENTITIES}')"
)
# The map of fields has a head of one byte, or of two for 24 fields and more.
_MAP_AT: Final = (
    f"({_PAYLOAD_HEAD_AT} + CASE substr(bytes, {_PAYLOAD_HEAD_AT + 1}, 1)"
    " WHEN x'58' THEN 2 WHEN x'59' THEN 3 ELSE 5 END)"
)
# Between the head of the map and the author: field 1 with its text, and three bytes of field 2.
_BEHIND: Final = "(1 + CASE WHEN name_bytes < 24 THEN 1 ELSE 2 END + name_bytes + 3)"
_AUTHOR_AT: Final = f"({_MAP_AT} + CASE substr(bytes, {_MAP_AT} + 1, 1) WHEN x'b8' THEN 2 ELSE 1 END + {_BEHIND})"
_ENTRIES: Final = f"FROM log NOT INDEXED CROSS JOIN {_CONTEXTS} AS named ON named.id = log.context"
_SUMS: Final = (
    f"SELECT context, substr(bytes, {_AUTHOR_AT} + 1, {IDENTITY_BYTES}), substr(bytes, {KID_AT + 1}, {KEY_BYTES}),"
    f" count(*), sum(length(bytes)), coalesce(sum(substr(bytes, {_TOMBSTONE_AT}, 2) = x'0df5'), 0)"
    f" {_ENTRIES} WHERE seq > ? AND seq <= ? AND length(bytes) <= {_LARGE_BYTES} GROUP BY 1, 2, 3"
)
_LARGE: Final = (
    f"SELECT context, seq, length(bytes), {_BEHIND} {_ENTRIES}"
    f" WHERE seq > ? AND seq <= ? AND length(bytes) > {_LARGE_BYTES}"
)


def count_usage(connection: sqlite3.Connection, after: int, until: int, usages: Mapping[int, UsageTable]) -> None:
    """Add the heads behind the seq `after` up to `until` to the usage of their contexts, by the id of each.

    Key statements are not counted. What is damaged is left to the audit."""
    with suppress(sqlite3.DatabaseError, IndexError):
        for context_id, author, key, records, size, tombstones in connection.execute(_SUMS, (after, until)):
            usages[context_id].add(author, key, records, size, tombstones)
        for context_id, seq, size, behind in connection.execute(_LARGE, (after, until)).fetchall():
            with connection.blobopen("log", "bytes", seq, readonly=True) as blob:
                beginning = blob.read(_BEGINNING_BYTES)
            at = _PAYLOAD_HEAD_AT + {0x58: 2, 0x59: 3}.get(beginning[_PAYLOAD_HEAD_AT], 5)
            at += (2 if beginning[at] == 0xB8 else 1) + behind
            author = IdentityId(beginning[at : at + IDENTITY_BYTES])
            usages[context_id].add(author, PublicKey(beginning[KID_AT : KID_AT + KEY_BYTES]), 1, size, 0)
