"""Counting, when a store is opened, what the heads of each author take, staged ones too. Synchronous, on its thread.

No column says who an author is. Its place in a version's bytes follows from the length of the context's name
(PROTOCOL.md §4.1, §4.2), so SQLite adds up by itself. Of large versions only the beginning is read, one by one.
"""

import sqlite3
from contextlib import suppress
from typing import Final

from echonode.model.identity import IDENTITY_BYTES, KEY_BYTES, IdentityId, PublicKey
from echonode.model.record import IDENTITIES, KID_AT
from echonode.model.usage import UsageTable

_PAYLOAD_HEAD_AT: Final = KID_AT + KEY_BYTES + 1  # behind kid and the empty unprotected header
_BEGINNING_BYTES: Final = 160  # enough for the longest name of a context and the author
_LARGE_BYTES: Final = 4000  # of a version that spills over into other pages
_TOMBSTONE_AT: Final = -68  # from the end: field 13, `true`; behind it the signature with its head


def count_usage(connection: sqlite3.Connection, context_id: int, context: str, usage: UsageTable) -> None:
    """Add the heads of `context` to `usage`. Key statements are not counted. What is damaged is left to the audit."""
    if context != IDENTITIES:
        with suppress(sqlite3.DatabaseError, IndexError):
            _count(connection, context_id, context, usage)


def _count(connection: sqlite3.Connection, context_id: int, context: str, usage: UsageTable) -> None:
    name_bytes = len(context.encode())
    behind = 1 + (1 if name_bytes < 24 else 2) + name_bytes + 1 + 2  # context, and the heads before the author
    # The map of fields has a head of one byte, or of two for 24 fields and more.
    map_at = f"({_PAYLOAD_HEAD_AT} + CASE substr(bytes, {_PAYLOAD_HEAD_AT + 1}, 1)"
    map_at += " WHEN x'58' THEN 2 WHEN x'59' THEN 3 ELSE 5 END)"
    author_at = f"({map_at} + CASE substr(bytes, {map_at} + 1, 1) WHEN x'b8' THEN 2 ELSE 1 END + {behind})"
    rows = connection.execute(
        f"SELECT substr(bytes, {author_at} + 1, {IDENTITY_BYTES}), substr(bytes, {KID_AT + 1}, {KEY_BYTES}),"
        f" count(*), sum(length(bytes)), coalesce(sum(substr(bytes, {_TOMBSTONE_AT}, 2) = x'0df5'), 0)"
        " FROM log WHERE context = ? AND length(bytes) <= ? GROUP BY 1, 2",
        (context_id, _LARGE_BYTES),
    )
    for author, key, records, size, tombstones in rows:
        usage.add(author, key, records, size, tombstones)
    large = connection.execute(
        "SELECT seq, length(bytes) FROM log WHERE context = ? AND length(bytes) > ?", (context_id, _LARGE_BYTES)
    )
    for seq, size in large.fetchall():
        with connection.blobopen("log", "bytes", seq, readonly=True) as blob:
            beginning = blob.read(_BEGINNING_BYTES)
        at = _PAYLOAD_HEAD_AT + {0x58: 2, 0x59: 3}.get(beginning[_PAYLOAD_HEAD_AT], 5)
        at += (2 if beginning[at] == 0xB8 else 1) + behind
        author = IdentityId(beginning[at : at + IDENTITY_BYTES])
        usage.add(author, PublicKey(beginning[KID_AT : KID_AT + KEY_BYTES]), 1, size, 0)
