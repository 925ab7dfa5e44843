"""Filtered reads: SQLite goes through a piece of the log and returns what a filter takes of it as one value.

A filter is held against each version in a function that SQLite calls. So no row is handed over, and a version that is
not taken leaves nothing behind. Synchronous, on the connection's thread.
"""

import sqlite3
from typing import Final

from echonode.limits import FILTERED_PAGE_MAX
from echonode.model.filter import Filter
from echonode.model.stored_filter import stored_filter
from echonode.store.port import FILTERED_KEY_BYTES, FilteredPage
from echonode.store.sqlite.connection import DamageError

_MS: Final = 1000


def read_filtered(
    connection: sqlite3.Connection, context_id: int, wanted: Filter, after: int, until: int
) -> FilteredPage:
    """Return a page of the context: see `Store.filtered`. Raises DamageError for bytes that are no version."""
    (last, seen) = connection.execute(
        "SELECT max(seq), count(*) FROM"
        " (SELECT seq FROM log WHERE context = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?)",
        (context_id, after, until, FILTERED_PAGE_MAX),
    ).fetchone()
    if not seen:
        return FilteredPage(b"", 0, after)
    takes = stored_filter(wanted)
    problems: list[Exception] = []

    def row(raw: bytes, version: bytes, prefix: bytes) -> bytes | None:
        try:
            created_ms = takes(raw)
        except Exception as error:  # SQLite would not say which; bytes that were damaged may lead to any error
            problems.append(error)
            return None
        return None if created_ms is None else (created_ms // _MS).to_bytes(8, "big") + version + prefix

    connection.create_function("filtered_row", 3, row)
    # Joined as text, the bytes stay as they are: the database is in UTF-8, and nothing is converted.
    ((rows,),) = connection.execute(
        f"SELECT CAST(group_concat(filtered_row(bytes, id, substr(key, 1, {FILTERED_KEY_BYTES})), '') AS BLOB)"
        " FROM log WHERE context = ? AND seq > ? AND seq <= ?",
        (context_id, after, last),
    ).fetchall()
    if problems:
        raise DamageError("a version cannot be read") from problems[0]
    return FilteredPage(rows or b"", seen, last)
