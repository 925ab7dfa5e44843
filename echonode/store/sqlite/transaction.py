"""Rows of one write transaction, and the reading of leaves.

    transaction = Transaction(catalog, now_ms)
    transaction.add_merge(plan, ..)    once per plan, in order; nothing is written yet
    transaction.write(connection)      all of it, or nothing
    catalog.update(transaction)

Every function here that takes a connection is synchronous and runs on the connection's thread.
"""

import sqlite3
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from echonode.limits import HISTORY_DAYS, HISTORY_ROWS_MAX
from echonode.model.identity import Instance, PublicKey
from echonode.model.merkle import Tree, state_of
from echonode.model.record import LeafKey, Record, VersionId
from echonode.store.cursors import CursorKey, covers, key_of
from echonode.store.merge import MergePlan, PendingMerges
from echonode.store.port import Cursor
from echonode.store.sqlite.connection import DamageError, order_error, read_raw, read_record, transaction
from echonode.store.sqlite.revocation import Revocation

_KEY_BYTES: Final = 32
_PIECE_ENTRIES: Final = 8192
_KEYS_PER_QUERY: Final = 500
_KEYS_PER_PAGE: Final = 128  # an answer of bounded bytes seldom takes more, and rows read beyond it are wasted
_DAY_MS: Final = 24 * 3600 * 1000
_PRUNED_PER_ROW: Final = 2  # history rows deleted for each one added, so that the bound is reached and then held

Rows = list[tuple[Any, ...]]


@dataclass(slots=True)
class ContextRow:
    """One row of `contexts`. `newest_seq` is the newest log seq ever given in it; `size_bytes` adds up its versions."""

    id: int
    newest_seq: int = 0
    size_bytes: int = 0


@dataclass(slots=True)
class Catalog:
    """The rows of `contexts` and the last ids given, in memory: `GroupCommit` need not read them from the file."""

    last_seq: int = 0
    last_context_id: int = 0
    rows: dict[str, ContextRow] = field(default_factory=dict)

    def update(self, transaction: "Transaction") -> None:
        """Take over the rows and ids of `transaction`, which is durable."""
        self.last_seq = transaction.last_seq
        self.last_context_id = transaction.last_context_id
        self.rows.update(transaction.rows)


class Transaction:
    """The rows of one write transaction, collected before it begins."""

    def __init__(self, catalog: Catalog, now_ms: int) -> None:
        self.pending = PendingMerges()
        self.last_seq = catalog.last_seq
        self.last_context_id = catalog.last_context_id
        self.rows: dict[str, ContextRow] = {}  # changed rows only, as they will be after the commit
        self.own_writes = 0  # versions that this store signed
        self.renews_life = False  # a new link `life` goes with it (life.py)
        self._catalog = catalog
        self._now_ms = now_ms
        self._inserts: dict[tuple[int, VersionId], tuple[int, int, LeafKey, VersionId, bytes]] = {}
        self._deletes: list[tuple[int]] = []
        self._history: Rows = []
        self._cursors: dict[CursorKey, Cursor | None] = {}  # None: to be deleted
        self._statements: list[tuple[str, Sequence[tuple[Any, ...]]]] = []

    @property
    def is_empty(self) -> bool:
        """True when there is nothing to write."""
        has_rows = self._inserts or self._deletes or self._statements or self._history or self._cursors
        return not has_rows and not self.renews_life

    def context_row(self, context: str) -> ContextRow:
        """Return the row of `context`, made when there is none. The caller may change it."""
        context_row = self.rows.get(context)
        if context_row is None:
            known = self._catalog.rows.get(context)
            if known is None:
                context_row = ContextRow(self.new_context_id())
                self.execute("INSERT INTO contexts (id, name) VALUES (?, ?)", (context_row.id, context))
            else:
                context_row = ContextRow(known.id, known.newest_seq, known.size_bytes)
            self.rows[context] = context_row
        return context_row

    def new_context_id(self) -> int:
        """Return an unused id for a row of `contexts`."""
        self.last_context_id += 1
        return self.last_context_id

    def execute(self, sql: str, *rows: tuple[Any, ...]) -> None:
        """Add a statement to run for each of `rows`, before the rows of plans are written."""
        self._statements.append((sql, rows))

    def add_merge(self, plan: MergePlan, seqs: dict[VersionId, int]) -> None:
        """Add the rows of `plan`. `seqs` are the log seqs of the heads read for it."""
        if plan.after:
            context_row = self.context_row(plan.context)
            for record in plan.removed():
                context_row.size_bytes -= len(record.raw)
                self._history.append((context_row.id, record.key, record.id, record.raw, self._now_ms))
                self._remove(context_row.id, record.id, seqs)
            for record in plan.added():
                context_row.size_bytes += len(record.raw)
                context_row.newest_seq = self.insert(context_row.id, record.key, record.id, record.raw)
        self.pending.add(plan)

    def add_staged(self, context_id: int, plan: MergePlan, seqs: dict[VersionId, int]) -> None:
        """Add the rows of `plan` for a snapshot being received. Versions superseded there leave no history."""
        for record in plan.removed():
            self._remove(context_id, record.id, seqs)
        for record in plan.added():
            self.insert(context_id, record.key, record.id, record.raw)

    def add_revocation(self, context: str, revocation: Revocation) -> None:
        """Add the rows of the versions voided in `context`. Its newest seq may be among them and must not be given
        again."""
        context_row = self.context_row(context)
        context_row.size_bytes -= revocation.size_bytes
        self._deletes += [(seq,) for seq in revocation.log_seqs]
        self.execute("DELETE FROM history WHERE n = ?", *[(n,) for n in revocation.history_rows])
        for record in revocation.restored:
            context_row.newest_seq = self.insert(context_row.id, record.key, record.id, record.raw)
        self.execute("UPDATE contexts SET floor = ? WHERE id = ?", (context_row.newest_seq, context_row.id))

    def add_forgotten(
        self, context: str, leaves: Mapping[LeafKey, Sequence[Record]], seqs: dict[VersionId, int]
    ) -> None:
        """Add the deletion of these leaves and of the cursors of their context. The newest seq may be among them."""
        context_row = self.context_row(context)
        for heads in leaves.values():
            context_row.size_bytes -= sum(len(head.raw) for head in heads)
            self._deletes += [(seqs[head.id],) for head in heads]
        self.execute("DELETE FROM history WHERE context = ? AND key = ?", *[(context_row.id, key) for key in leaves])
        self.execute("DELETE FROM cursors WHERE context = ?", (context,))
        self.execute("UPDATE contexts SET floor = ? WHERE id = ?", (context_row.newest_seq, context_row.id))

    def insert(self, context_id: int, key: LeafKey, version: VersionId, raw: bytes) -> int:
        """Add one log row and return its seq."""
        self.last_seq += 1
        self._inserts[context_id, version] = (self.last_seq, context_id, key, version, raw)
        return self.last_seq

    def add_counters(self, counters: dict[tuple[PublicKey, Instance], int]) -> None:
        """Add counters to save. They are higher than those saved."""
        rows = [(key, instance, counter.to_bytes(8, "big")) for (key, instance), counter in counters.items()]
        if rows:
            # Several calls of one group may save counters of one writer, in any order. A counter never goes back.
            self.execute(
                "INSERT INTO writers VALUES (?, ?, ?) ON CONFLICT (key, instance)"
                " DO UPDATE SET counter = max(counter, excluded.counter)",
                *rows,
            )

    def add_unsaved_cursors(self, changed: Sequence[Cursor], deleted: Sequence[CursorKey]) -> None:
        """Add cursors to save and to delete. What an earlier call of the group added stays: it is newer."""
        for cursor in changed:
            self._cursors.setdefault(key_of(cursor), cursor)
        for key in deleted:
            self._cursors.setdefault(key, None)

    def add_cursor(self, cursor: Cursor) -> None:
        """Add the cursor of one call, unless an earlier call of the group brought one that covers it."""
        key = key_of(cursor)
        if not covers(self._cursors.get(key), cursor):
            self._cursors.pop(key, None)  # the latest comes last
            self._cursors[key] = cursor

    def cursors(self) -> tuple[list[Cursor], list[CursorKey]]:
        """Return the cursors that this transaction saves, and the keys of those that it deletes."""
        changed = [cursor for cursor in self._cursors.values() if cursor is not None]
        return changed, [key for key, cursor in self._cursors.items() if cursor is None]

    def write(self, connection: sqlite3.Connection) -> None:
        """Write everything. Raises sqlite3.Error with nothing written."""
        with transaction(connection):
            for sql, rows in self._statements:
                connection.executemany(sql, rows)
            self._write_cursors(connection)
            connection.executemany("DELETE FROM log WHERE seq = ?", self._deletes)
            connection.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?)", self._inserts.values())
            sizes = [(context_row.size_bytes, context_row.id) for context_row in self.rows.values()]
            connection.executemany("UPDATE contexts SET bytes = ? WHERE id = ?", sizes)
            self._write_history(connection)

    def _remove(self, context_id: int, version: VersionId, seqs: dict[VersionId, int]) -> None:
        if self._inserts.pop((context_id, version), None) is None:
            self._deletes.append((seqs[version],))

    def _write_cursors(self, connection: sqlite3.Connection) -> None:
        changed, deleted = self.cursors()
        connection.executemany("DELETE FROM cursors WHERE peer = ? AND context = ?", deleted)
        connection.executemany(
            "INSERT OR REPLACE INTO cursors (peer, context, instance, seq) VALUES (?, ?, ?, ?)",
            [(cursor.peer, cursor.context, cursor.instance, cursor.seq) for cursor in changed],
        )

    def _write_history(self, connection: sqlite3.Connection) -> None:
        """Add the superseded versions, and delete the oldest rows beyond the bounds."""
        if not self._history:
            return
        connection.executemany(
            "INSERT INTO history (context, key, id, bytes, superseded_ms) VALUES (?, ?, ?, ?, ?)", self._history
        )
        (newest,) = connection.execute("SELECT max(n) FROM history").fetchone()
        connection.execute(
            "DELETE FROM history WHERE n IN (SELECT n FROM history ORDER BY n LIMIT ?)"
            " AND (n <= ? OR superseded_ms < ?)",
            (_PRUNED_PER_ROW * len(self._history), newest - HISTORY_ROWS_MAX, self._now_ms - HISTORY_DAYS * _DAY_MS),
        )


def read_heads(
    connection: sqlite3.Connection, context_id: int, keys: Sequence[LeafKey]
) -> tuple[dict[LeafKey, list[Record]], dict[VersionId, int]]:
    """Return the heads of those of `keys` that exist, sorted by id, and the seq of each head."""
    heads: dict[LeafKey, list[Record]] = {}
    seqs: dict[VersionId, int] = {}
    for seq, key, version, raw in _read_rows(connection, context_id, keys):
        record = read_record(raw, version)
        heads.setdefault(key, []).append(record)
        seqs[record.id] = seq
    return heads, seqs


def read_raws(connection: sqlite3.Connection, context_id: int, keys: Sequence[LeafKey]) -> Iterator[list[bytes]]:
    """Yield the heads of each of `keys` in their order, an empty list for a leaf that does not exist."""
    for start in range(0, len(keys), _KEYS_PER_PAGE):
        chunk = keys[start : start + _KEYS_PER_PAGE]
        found: dict[LeafKey, list[bytes]] = {}
        for _, key, version, raw in _read_rows(connection, context_id, chunk):
            found.setdefault(key, []).append(read_raw(raw, version))
        for key in chunk:
            yield found.get(key, [])


def _read_rows(
    connection: sqlite3.Connection, context_id: int, keys: Sequence[LeafKey]
) -> Iterator[tuple[int, LeafKey, VersionId, bytes]]:
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        chunk = keys[start : start + _KEYS_PER_QUERY]
        marks = ", ".join("?" * len(chunk))
        yield from connection.execute(
            f"SELECT seq, key, id, bytes FROM log WHERE context = ? AND key IN ({marks}) ORDER BY key, id",
            (context_id, *chunk),
        )


def leaves_after(
    connection: sqlite3.Connection, context_id: int, after: LeafKey | None
) -> Generator[tuple[LeafKey, list[bytes]], None, None]:
    """Yield the leaves behind `after` in key order, each with the bytes of its heads.

    Close the generator when it is not read to its end: its open cursor keeps the read transaction open."""
    rows = connection.execute(
        "SELECT key, id, bytes FROM log WHERE context = ? AND key > ? ORDER BY key, id", (context_id, after or b"")
    )
    last = after or LeafKey(b"")
    try:
        for key, group in groupby(rows, itemgetter(0)):
            if key <= last:
                raise order_error()
            last = key
            yield key, [read_raw(raw, version) for _, version, raw in group]
    finally:
        rows.close()


def read_tree(connection: sqlite3.Connection, context_id: int) -> tuple[Tree, set[LeafKey]]:
    """Return the tree of a context and its conflicts, from one scan of the covering index."""
    conflicts: set[LeafKey] = set()
    return Tree.from_sorted(_tree_entries(connection, context_id, conflicts)), conflicts


def _tree_entries(connection: sqlite3.Connection, context_id: int, conflicts: set[LeafKey]) -> Iterator[bytes]:
    """Yield key and state of every leaf in key order, some thousand leaves at a time.

    Adds the keys of leaves with more than one head to `conflicts`."""
    rows = connection.execute("SELECT key, id FROM log WHERE context = ? ORDER BY key, id", (context_id,))
    leaf = LeafKey(b"")
    ids: list[VersionId] = []
    piece: list[bytes] = []
    for key, version in rows:
        if key == leaf:
            ids.append(version)
            conflicts.add(key)
            continue
        if ids:
            piece += (leaf, state_of(ids))
            if len(piece) >= _PIECE_ENTRIES:
                yield b"".join(piece)
                piece = []
        if len(key) != _KEY_BYTES:
            raise DamageError("a key in the log is not 32 bytes")
        if key < leaf:
            raise order_error()
        leaf, ids = key, [version]
    if ids:
        piece += (leaf, state_of(ids))
    yield b"".join(piece)


def delete_rows(connection: sqlite3.Connection, context_id: int, rows_max: int) -> bool:
    """Delete up to `rows_max` log rows of a nameless context, and its own row with the last. Return True when it is
    gone."""
    with transaction(connection):
        deleted = connection.execute(
            "DELETE FROM log WHERE seq IN (SELECT seq FROM log WHERE context = ? LIMIT ?)", (context_id, rows_max)
        )
        is_gone = deleted.rowcount < rows_max
        if is_gone:
            connection.execute("DELETE FROM contexts WHERE id = ?", (context_id,))
    return is_gone
