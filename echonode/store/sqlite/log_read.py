"""Reads of the log in its order: all entries of a context, or the rows of what a filter takes, as one value.

A filter by time is a condition on a column. All else is held against each version in a function that SQLite calls. So
no row is handed over, and a version that is not taken leaves nothing behind. Synchronous, on the connection's thread.
"""

import sqlite3
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, Final

from echonode.limits import FILTERED_PAGE_MAX
from echonode.model.filter import Filter
from echonode.model.stored_filter import stored_filter
from echonode.store.port import FILTERED_ROW_BYTES, FilteredPage
from echonode.store.sqlite.connection import DamageError
from echonode.store.sqlite.log_columns import LEAF_PREFIX, SECONDS_BYTES, created_column

_OF_RUN: Final = "FROM log NOT INDEXED WHERE seq >= ? AND seq <= ? AND context = ?"
# Joined as text, the bytes stay as they are: the database is in UTF-8, and nothing is converted.
_ROW: Final = f"x'00' || substr(created, 1, {SECONDS_BYTES}) || id || {LEAF_PREFIX}"
_ROWS: Final = f"SELECT CAST(group_concat({_ROW}, '') AS BLOB) {_OF_RUN}"


def read_log(
    connection: sqlite3.Connection, context_id: int, runs: Sequence[tuple[int, int]]
) -> Generator[tuple[int, Any, bytes], None, None]:
    """Yield seq, id and bytes of each entry of the context in `runs`, first and last seq of each.

    Close the generator when it is not read to its end: its open cursor keeps the read transaction open."""
    for first, last in runs:
        rows = connection.execute(f"SELECT seq, id, bytes {_OF_RUN} ORDER BY seq", (first, last, context_id))
        try:
            yield from rows
        finally:
            rows.close()


def read_filtered(
    connection: sqlite3.Connection, context_id: int, wanted: Filter, runs: Sequence[tuple[int, int]], after: int
) -> FilteredPage:
    """Return a page of what is in `runs`: see `Store.filtered`. Raises DamageError for bytes that are no version."""
    conditions, values = _times(wanted)
    problems: list[Exception] = []
    untimed = replace(wanted, since_ms=None, until_ms=None).without_senders
    if not untimed.takes_all:
        takes = stored_filter(untimed)

        def is_taken(raw: bytes) -> bool:
            try:
                return takes(raw)
            except Exception as error:  # SQLite would not say which; bytes that were damaged may lead to any error
                problems.append(error)
                return False

        connection.create_function("is_taken", 1, is_taken)
        conditions += " AND is_taken(bytes)"
    pages: list[bytes] = []
    seen = 0
    for first, last in runs:
        end, count = connection.execute(
            f"SELECT max(seq), count(*) FROM (SELECT seq {_OF_RUN} ORDER BY seq LIMIT ?)",
            (first, last, context_id, FILTERED_PAGE_MAX - seen),
        ).fetchone()
        if count:
            ((rows,),) = connection.execute(_ROWS + conditions, (first, end, context_id, *values)).fetchall()
            if rows:
                pages.append(rows)
            seen, after = seen + count, end
        if seen == FILTERED_PAGE_MAX:
            break
    if problems:
        raise DamageError("a version cannot be read") from problems[0]
    if any(len(page) % FILTERED_ROW_BYTES for page in pages):
        raise DamageError("a column of the log has another size")
    return FilteredPage(b"".join(pages), seen, after)


def _times(wanted: Filter) -> tuple[str, list[bytes]]:
    """Return the conditions on the column `created`, and their values."""
    bounds = [(" AND created >= ?", wanted.since_ms), (" AND created < ?", wanted.until_ms)]
    given = [(condition, created_column(bound)) for condition, bound in bounds if bound is not None]
    return "".join(condition for condition, _ in given), [value for _, value in given]
