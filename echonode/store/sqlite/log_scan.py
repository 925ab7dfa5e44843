"""One pass over the log when a store is opened: what memory holds of each context. Synchronous, on its thread.

    scan_log       every context with its number of entries, their bytes, seqs, keys and ids, and who wrote them
    read_tree      the tree of one context, and its conflicts

Keys and ids come in the order of the log, many in one value, and are put in the order of keys here: the index of leaves
holds the first bytes of a key alone (schema.py).
"""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from echonode.model.merkle import Tree, state_of
from echonode.model.record import LeafKey, VersionId
from echonode.model.usage import UsageTable
from echonode.store.sqlite.connection import DamageError, order_error
from echonode.store.sqlite.count_usage import count_usage
from echonode.store.sqlite.log_runs import LogRuns

_PAGE_ROWS: Final = 8192  # some megabytes of the file, which its cache holds for a second look
_KEY_BYTES: Final = 32
_ENTRY_BYTES: Final = 64  # a key and an id

_PAGE: Final = (
    "SELECT context, count(*), sum(size), min(seq), max(seq), CAST(group_concat(entry, '') AS BLOB) FROM"
    " (SELECT context, seq, key || id AS entry, length(bytes) AS size FROM log NOT INDEXED"
    f" WHERE seq > ? ORDER BY seq LIMIT {_PAGE_ROWS}) GROUP BY context"
)
_RUN: Final = (
    "SELECT count(*), CAST(group_concat(key || id, '') AS BLOB) FROM log NOT INDEXED"
    " WHERE seq >= ? AND seq <= ? AND context = ?"
)


class LeafEntries:
    """Keys and ids of one context, added in any order."""

    def __init__(self) -> None:
        self._parts = [bytearray() for _ in range(256)]  # by the first byte of the key

    def add(self, count: int, packed: bytes) -> None:
        """Add `count` entries, one behind the other. Raises DamageError when they are of another size."""
        if len(packed) != count * _ENTRY_BYTES:
            raise DamageError("a key or an id in the log is not 32 bytes")
        parts = self._parts
        for at in range(0, len(packed), _ENTRY_BYTES):
            parts[packed[at]] += packed[at : at + _ENTRY_BYTES]

    def last_key(self) -> LeafKey:
        """Return the greatest key, b"" for none."""
        part = bytes(next((part for part in reversed(self._parts) if part), b""))
        return LeafKey(max((part[at : at + _KEY_BYTES] for at in range(0, len(part), _ENTRY_BYTES)), default=b""))

    def tree(self) -> tuple[Tree, set[LeafKey]]:
        """Return the tree of these entries, and the keys of leaves with more than one head. The entries are used up.

        Raises DamageError when a version stands there twice."""
        conflicts: set[LeafKey] = set()
        return Tree.from_sorted(self._leaves(conflicts)), conflicts

    def _leaves(self, conflicts: set[LeafKey]) -> Iterator[bytes]:
        """Yield key and state of every leaf in key order, those with one first byte at a time."""
        for number, part in enumerate(self._parts):
            self._parts[number] = bytearray()
            packed = bytes(part)
            entries = sorted(packed[at : at + _ENTRY_BYTES] for at in range(0, len(packed), _ENTRY_BYTES))
            yield b"".join(_with_states(entries, conflicts))


def _with_states(entries: list[bytes], conflicts: set[LeafKey]) -> Iterator[bytes]:
    key, ids = b"", list[VersionId]()
    before = b""
    for entry in entries:
        if entry == before:
            raise DamageError("a version stands in the log twice")
        before = entry
        version = VersionId(entry[_KEY_BYTES:])
        if entry.startswith(key) and ids:
            ids.append(version)
            conflicts.add(LeafKey(key))
            continue
        if ids:
            yield key
            yield state_of(ids)
        key, ids = entry[:_KEY_BYTES], [version]
    if ids:
        yield key
        yield state_of(ids)


@dataclass(slots=True)
class ScannedContext:
    """The entries of one context."""

    count: int = 0
    size_bytes: int = 0
    first_seq: int = 0
    newest_seq: int = 0
    runs: LogRuns = field(default_factory=LogRuns)
    entries: LeafEntries = field(default_factory=LeafEntries)
    usage: UsageTable = field(default_factory=UsageTable)


def scan_log(connection: sqlite3.Connection, *, counts_usage: bool) -> dict[int, ScannedContext]:
    """Return every context that has entries, by its id. `counts_usage`: with the usage of each.

    Raises DamageError."""
    found: dict[int, ScannedContext] = {}
    after = 0
    while rows := connection.execute(_PAGE, (after,)).fetchall():
        if min(row[3] for row in rows) <= after:  # a flipped bit in a seq: this would never end
            raise order_error()
        last = max(row[4] for row in rows)
        for context_id, count, size, oldest, newest, packed in rows:
            context = found.setdefault(context_id, ScannedContext(first_seq=oldest))
            context.count += count
            context.size_bytes += size or 0  # a flipped bit may make NULL of bytes
            context.newest_seq = newest
            context.runs.add(oldest, newest)
            context.entries.add(count, packed or b"")
        if counts_usage:
            count_usage(connection, after, last, {context_id: context.usage for context_id, context in found.items()})
        after = last
    return found


def read_tree(
    connection: sqlite3.Connection, context_id: int, runs: Iterable[tuple[int, int]]
) -> tuple[Tree, set[LeafKey]]:
    """Return the tree of a context whose entries are in `runs`, first and last seq of each, and its conflicts."""
    entries = LeafEntries()
    for first, last in runs:
        for at in range(first, last + 1, _PAGE_ROWS):
            count, packed = connection.execute(
                _RUN, (at, min(last, at + _PAGE_ROWS - 1), context_id)
            ).fetchone()
            entries.add(count, packed or b"")
    return entries.tree()
