"""Reading of leaves: their heads from the log, and what else is kept of a full one. Synchronous, on the connection's
thread.

    read_leaves       leaves to merge into, with outlines of their heads
    read_whole_leaf   a full leaf, with its spare and history
    read_heads        heads as records
    read_earlier      versions of the history as records, the newest first; read_earlier_by: those that a key signed
    read_raws         heads as stored, in the order asked for
    leaves_after      leaves in key order, heads as stored; leaf_rows_after: their rows

The index of leaves has the first bytes of each key. Rows that agree in these are put in order here: they are the heads
of one leaf, unless somebody sought for two such keys. The heads of one leaf may take HEADS_BYTES_MAX. So leaves are
read one at a time, each when the caller asks for it.
"""

import sqlite3
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, TypeAlias

from echonode.limits import HEADS_BYTES_MAX, LEAF_HISTORY_MAX
from echonode.model.heads import Outline
from echonode.model.identity import KEY_BYTES, PublicKey
from echonode.model.record import KID_AT, LeafKey, Record, VersionId
from echonode.store.leaf import Leaf, Place
from echonode.store.port import EarlierVersion
from echonode.store.sqlite.connection import order_error, read_raw, read_record
from echonode.store.sqlite.log_columns import BY_LEAF, LEAF_PREFIX, PREFIX_BYTES, leaf_values

_KEYS_PER_QUERY: Final = 500

_Rows: TypeAlias = Sequence[tuple[LeafKey, int, VersionId, bytes]]  # of heads, sorted by key and id


@dataclass(slots=True, eq=False)
class LoggedOutline(Outline):
    """The outline of a head with its seq, by which its row is found fastest."""

    seq: int = 0


def read_leaves(
    connection: sqlite3.Connection, context_id: int, keys: Collection[LeafKey]
) -> Iterator[tuple[LeafKey, Leaf]]:
    """Yield a leaf for each of `keys`, in key order, with outlines of its heads; an empty one if it does not exist."""
    with closing(_rows_by_leaf(connection, context_id, sorted(keys))) as leaves:
        for key, rows in leaves:
            heads = [_outline(read_record(raw, version), seq) for _, seq, version, raw in rows]
            yield key, Leaf().add(Place.LOG, heads)


def _outline(head: Record, seq: int) -> LoggedOutline:
    return LoggedOutline(
        head.id,
        head.kid,
        head.vector,
        head.timestamp,
        head.writer,
        head.size,
        head.author,
        head.is_tombstone,
        seq,
    )


def read_whole_leaf(
    connection: sqlite3.Connection, context_id: int, key: LeafKey, is_admitted: Callable[[Record], bool]
) -> Leaf:
    """Return the leaf `key` as records: its heads, its spare, and the newest of its history that are admitted."""
    leaf = Leaf(is_whole=True)
    for place in (Place.LOG, Place.SPARE):
        rows = connection.execute(
            f"SELECT key, id, bytes FROM {place.value} WHERE {BY_LEAF}", leaf_values(context_id, key)
        )
        leaf.add(place, (read_record(raw, version) for _, version, raw in rows))
    newest = connection.execute(
        "SELECT key, id, bytes FROM history WHERE context = ? AND key = ? ORDER BY n DESC LIMIT ?",
        (context_id, key, LEAF_HISTORY_MAX),
    )
    size = 0
    with closing(newest):
        for _, version, raw in newest:
            size += len(raw)
            if size > HEADS_BYTES_MAX:
                break
            record = read_record(raw, version)
            if is_admitted(record):
                leaf.add(Place.HISTORY, (record,))
    return leaf


def read_earlier(
    connection: sqlite3.Connection, context_id: int, key: LeafKey, limit: int
) -> list[EarlierVersion]:
    """Return up to `limit` versions of the leaf `key` from the history, the one that came there last first."""
    rows = connection.execute(
        "SELECT id, bytes, superseded_ms FROM history WHERE context = ? AND key = ? ORDER BY n DESC LIMIT ?",
        (context_id, key, limit),
    )
    return [EarlierVersion(read_record(raw, version), superseded_ms) for version, raw, superseded_ms in rows]


def read_earlier_by(
    key: PublicKey, after: int, limit: int, connection: sqlite3.Connection
) -> tuple[list[Record], int]:
    """Return up to `limit` versions of the history that `key` signed, from behind the row `after`, and the last row."""
    rows = connection.execute(
        "SELECT n, id, bytes FROM history WHERE n > ? AND substr(bytes, ?, ?) = ? ORDER BY n LIMIT ?",
        (after, KID_AT + 1, KEY_BYTES, key, limit),
    ).fetchall()
    return [read_record(raw, version) for _, version, raw in rows], rows[-1][0] if rows else after


def read_heads(
    connection: sqlite3.Connection, context_id: int, keys: Collection[LeafKey]
) -> Iterator[tuple[LeafKey, list[Record]]]:
    """Yield the heads, sorted by id, of each of `keys` in key order; an empty list for a leaf that does not exist."""
    with closing(_rows_by_leaf(connection, context_id, sorted(keys))) as leaves:
        for key, rows in leaves:
            yield key, [read_record(raw, version) for _, _, version, raw in rows]


def read_raws(
    connection: sqlite3.Connection, context_id: int, keys: Sequence[LeafKey]
) -> Generator[list[bytes], None, None]:
    """Yield the heads of each of `keys` in their order, an empty list for a leaf that does not exist.

    Close the generator when it is not read to its end: its open cursor keeps the read transaction open."""
    for run in _ascending_runs(keys):
        with closing(_rows_by_leaf(connection, context_id, run)) as leaves:
            for _, rows in leaves:
                yield [read_raw(raw, version) for _, _, version, raw in rows]


def _ascending_runs(keys: Sequence[LeafKey]) -> Iterator[Sequence[LeafKey]]:
    """Yield `keys` in pieces, each in ascending order: as SQLite returns the leaves of one query."""
    start = 0
    for at in range(1, len(keys)):
        if keys[at] <= keys[at - 1]:
            yield keys[start:at]
            start = at
    yield keys[start:]


def _rows_by_leaf(
    connection: sqlite3.Connection, context_id: int, keys: Sequence[LeafKey]
) -> Generator[tuple[LeafKey, _Rows], None, None]:
    """Yield the rows of the heads of each of `keys`, which ascend."""
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        chunk = keys[start : start + _KEYS_PER_QUERY]
        prefixes = sorted({key[:PREFIX_BYTES] for key in chunk})
        marks = ", ".join("?" * len(prefixes))
        rows = connection.execute(
            f"SELECT key, seq, id, bytes FROM log WHERE context = ? AND {LEAF_PREFIX} IN ({marks})"
            f" ORDER BY {LEAF_PREFIX}",
            (context_id, *prefixes),
        )
        with closing(rows):
            groups = groupby(rows, _prefix_of)
            of_prefix, found = _next_group(groups)
            for key in chunk:
                if of_prefix is not None and of_prefix < key[:PREFIX_BYTES]:
                    of_prefix, found = _next_group(groups)
                yield key, [row for row in found if row[0] == key] if of_prefix == key[:PREFIX_BYTES] else ()
            if next(groups, None) is not None or (of_prefix or b"") > chunk[-1][:PREFIX_BYTES]:
                raise order_error()


def _prefix_of(row: tuple[Any, ...]) -> bytes:
    prefix: bytes = row[0][:PREFIX_BYTES]
    return prefix


def _next_group(groups: Iterator[tuple[bytes, Iterator[Any]]]) -> tuple[bytes | None, _Rows]:
    prefix, rows = next(groups, (None, iter(())))
    return prefix, sorted(rows, key=itemgetter(0, 2))


def leaf_rows_after(
    connection: sqlite3.Connection, context_id: int, after: LeafKey | None
) -> Generator[tuple[LeafKey, list[tuple[VersionId, bytes]]], None, None]:
    """Yield the leaves behind `after` in key order, each with the ids and bytes of its heads, sorted by id.

    Close the generator when it is not read to its end: its open cursor keeps the read transaction open."""
    last = after or LeafKey(b"")
    rows = connection.execute(
        f"SELECT key, id, bytes FROM log WHERE context = ? AND {LEAF_PREFIX} >= ? ORDER BY {LEAF_PREFIX}",
        (context_id, last[:PREFIX_BYTES]),
    )
    try:
        for prefix, group in groupby(rows, _prefix_of):
            if prefix < last[:PREFIX_BYTES]:
                raise order_error()
            for key, heads in groupby(sorted(group), itemgetter(0)):
                if key > last:
                    last = key
                    yield key, [(version, raw) for _, version, raw in heads]
    finally:
        rows.close()


def leaves_after(
    connection: sqlite3.Connection, context_id: int, after: LeafKey | None
) -> Generator[tuple[LeafKey, list[bytes]], None, None]:
    """Yield the leaves behind `after` in key order, each with the bytes of its heads.

    Close the generator when it is not read to its end: its open cursor keeps the read transaction open."""
    with closing(leaf_rows_after(connection, context_id, after)) as leaves:
        for key, heads in leaves:
            yield key, [read_raw(raw, version) for version, raw in heads]
