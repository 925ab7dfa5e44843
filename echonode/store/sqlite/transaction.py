"""From plans to rows and back: one write transaction, and the reading of leaves.

    transaction = Transaction(ledger, now_ms)
    transaction.add(plan, ..)          once per plan, in order; nothing is written yet
    transaction.write(connection)      all of it, or nothing
    ledger.follow(transaction)

Everything here that takes a connection is synchronous, for the database's thread.
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
from echonode.store.merge import Pending, Plan
from echonode.store.sqlite.connection import DamageError, out_of_order, read_raw, read_record, transaction
from echonode.store.sqlite.revocation import Revocation

_KEY_BYTES: Final = 32
_PIECE: Final = 8192
_KEYS_PER_QUERY: Final = 500
_KEYS_PER_PAGE: Final = 128  # an answer of bounded bytes seldom takes more, and what is read beyond it is thrown away
_DAY_MS: Final = 24 * 3600 * 1000
_PRUNED_PER_ROW: Final = 2  # history rows let go for each one added, so that the bound is reached and then held

Rows = list[tuple[Any, ...]]


@dataclass(slots=True)
class Shelf:
    """One row of `contexts`. `newest`: the newest log seq ever given out in it; `size`: bytes of its versions."""

    id: int
    newest: int = 0
    size: int = 0


@dataclass(slots=True)
class Ledger:
    """What the writer knows of the file without asking."""

    last_seq: int = 0
    last_context: int = 0
    shelves: dict[str, Shelf] = field(default_factory=dict)

    def follow(self, transaction: "Transaction") -> None:
        """`transaction` is durable."""
        self.last_seq = transaction.last_seq
        self.last_context = transaction.last_context
        self.shelves.update(transaction.shelves)


class Transaction:
    """The rows of one write transaction, collected before it begins."""

    def __init__(self, ledger: Ledger, now_ms: int) -> None:
        self.pending = Pending()
        self.last_seq = ledger.last_seq
        self.last_context = ledger.last_context
        self.shelves: dict[str, Shelf] = {}  # as they will stand; changed ones only
        self._ledger = ledger
        self._now_ms = now_ms
        self._inserts: dict[tuple[int, VersionId], tuple[int, int, LeafKey, VersionId, bytes]] = {}
        self._deletes: list[tuple[int]] = []
        self._history: Rows = []
        self._statements: list[tuple[str, Sequence[tuple[Any, ...]]]] = []

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self._inserts or self._deletes or self._statements or self._history)

    def shelf(self, context: str) -> Shelf:
        """The row of `context`, made when there is none; the caller may change it."""
        shelf = self.shelves.get(context)
        if shelf is None:
            known = self._ledger.shelves.get(context)
            if known is None:
                shelf = Shelf(self.new_context())
                self.execute("INSERT INTO contexts (id, name) VALUES (?, ?)", (shelf.id, context))
            else:
                shelf = Shelf(known.id, known.newest, known.size)
            self.shelves[context] = shelf
        return shelf

    def new_context(self) -> int:
        """An id for a new row of `contexts`."""
        self.last_context += 1
        return self.last_context

    def execute(self, sql: str, *rows: tuple[Any, ...]) -> None:
        """One more statement, for each of `rows`; it runs before the rows of plans are written."""
        self._statements.append((sql, rows))

    def add(self, plan: Plan, seqs: dict[VersionId, int]) -> None:
        """The rows of `plan`. `seqs` are those of the heads read from the log for it."""
        if plan.after:
            shelf = self.shelf(plan.context)
            for record in plan.removed():
                shelf.size -= len(record.raw)
                self._history.append((shelf.id, record.key, record.id, record.raw, self._now_ms))
                self._remove(shelf.id, record.id, seqs)
            for record in plan.added():
                shelf.size += len(record.raw)
                shelf.newest = self.insert(shelf.id, record.key, record.id, record.raw)
        self.pending.add(plan)

    def add_staged(self, shelf_id: int, plan: Plan, seqs: dict[VersionId, int]) -> None:
        """The rows of `plan`, for a snapshot being received; what it supersedes there leaves no trace."""
        for record in plan.removed():
            self._remove(shelf_id, record.id, seqs)
        for record in plan.added():
            self.insert(shelf_id, record.key, record.id, record.raw)

    def add_void(self, context: str, void: Revocation) -> None:
        """The rows of what became void in `context`. Its newest seq may be gone, and must not seem never given."""
        shelf = self.shelf(context)
        shelf.size -= void.size
        self._deletes += [(seq,) for seq in void.log]
        self.execute("DELETE FROM history WHERE n = ?", *[(n,) for n in void.history])
        for record in void.restored:
            shelf.newest = self.insert(shelf.id, record.key, record.id, record.raw)
        self.execute("UPDATE contexts SET floor = ? WHERE id = ?", (shelf.newest, shelf.id))

    def add_forgotten(
        self, context: str, leaves: Mapping[LeafKey, Sequence[Record]], seqs: dict[VersionId, int]
    ) -> None:
        """The rows of leaves that are let go of, and of cursors of their context. The newest seq may be among them."""
        shelf = self.shelf(context)
        for heads in leaves.values():
            shelf.size -= sum(len(head.raw) for head in heads)
            self._deletes += [(seqs[head.id],) for head in heads]
        self.execute("DELETE FROM history WHERE context = ? AND key = ?", *[(shelf.id, key) for key in leaves])
        self.execute("DELETE FROM cursors WHERE context = ?", (context,))
        self.execute("UPDATE contexts SET floor = ? WHERE id = ?", (shelf.newest, shelf.id))

    def insert(self, shelf_id: int, key: LeafKey, version: VersionId, raw: bytes) -> int:
        """One more log row; its seq."""
        self.last_seq += 1
        self._inserts[shelf_id, version] = (self.last_seq, shelf_id, key, version, raw)
        return self.last_seq

    def count(self, counters: dict[tuple[PublicKey, Instance], int]) -> None:
        """Counters to remember, higher than those known."""
        rows = [(key, instance, counter.to_bytes(8, "big")) for (key, instance), counter in counters.items()]
        if rows:
            # Several calls of one group may count the same writer, in any order: a counter never goes back.
            self.execute(
                "INSERT INTO writers VALUES (?, ?, ?) ON CONFLICT (key, instance)"
                " DO UPDATE SET counter = max(counter, excluded.counter)",
                *rows,
            )

    def write(self, connection: sqlite3.Connection) -> None:
        """All of it. Raises sqlite3.Error with nothing written."""
        with transaction(connection):
            for sql, rows in self._statements:
                connection.executemany(sql, rows)
            connection.executemany("DELETE FROM log WHERE seq = ?", self._deletes)
            connection.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?)", self._inserts.values())
            sizes = [(shelf.size, shelf.id) for shelf in self.shelves.values()]
            connection.executemany("UPDATE contexts SET bytes = ? WHERE id = ?", sizes)
            self._write_history(connection)

    def _remove(self, shelf_id: int, version: VersionId, seqs: dict[VersionId, int]) -> None:
        if self._inserts.pop((shelf_id, version), None) is None:
            self._deletes.append((seqs[version],))

    def _write_history(self, connection: sqlite3.Connection) -> None:
        """Add what was superseded, and let go of the oldest rows beyond the bounds."""
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
    connection: sqlite3.Connection, shelf_id: int, keys: Sequence[LeafKey]
) -> tuple[dict[LeafKey, list[Record]], dict[VersionId, int]]:
    """The heads of those of `keys` that exist, sorted by id, and the seq of each head."""
    heads: dict[LeafKey, list[Record]] = {}
    seqs: dict[VersionId, int] = {}
    for seq, key, version, raw in _rows_of(connection, shelf_id, keys):
        record = read_record(raw, version)
        heads.setdefault(key, []).append(record)
        seqs[record.id] = seq
    return heads, seqs


def read_raws(connection: sqlite3.Connection, shelf_id: int, keys: Sequence[LeafKey]) -> Iterator[list[bytes]]:
    """The heads of each of `keys`, in their order; an empty list for what does not exist."""
    for start in range(0, len(keys), _KEYS_PER_PAGE):
        chunk = keys[start : start + _KEYS_PER_PAGE]
        found: dict[LeafKey, list[bytes]] = {}
        for _, key, version, raw in _rows_of(connection, shelf_id, chunk):
            found.setdefault(key, []).append(read_raw(raw, version))
        for key in chunk:
            yield found.get(key, [])


def _rows_of(
    connection: sqlite3.Connection, shelf_id: int, keys: Sequence[LeafKey]
) -> Iterator[tuple[int, LeafKey, VersionId, bytes]]:
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        chunk = keys[start : start + _KEYS_PER_QUERY]
        marks = ", ".join("?" * len(chunk))
        yield from connection.execute(
            f"SELECT seq, key, id, bytes FROM log WHERE context = ? AND key IN ({marks}) ORDER BY key, id",
            (shelf_id, *chunk),
        )


def leaves_after(
    connection: sqlite3.Connection, shelf_id: int, after: LeafKey | None
) -> Generator[tuple[LeafKey, list[bytes]], None, None]:
    """The leaves behind `after` with the bytes of their heads, in key order. Close it when it is not read to its end:
    an open cursor keeps its read transaction."""
    rows = connection.execute(
        "SELECT key, id, bytes FROM log WHERE context = ? AND key > ? ORDER BY key, id", (shelf_id, after or b"")
    )
    last = after or LeafKey(b"")
    try:
        for key, group in groupby(rows, itemgetter(0)):
            if key <= last:
                raise out_of_order()
            last = key
            yield key, [read_raw(raw, version) for _, version, raw in group]
    finally:
        rows.close()


def read_leaves(connection: sqlite3.Connection, shelf_id: int) -> tuple[Tree, set[LeafKey]]:
    """The tree of a context and its conflicts, from one scan of the covering index."""
    conflicts: set[LeafKey] = set()
    return Tree.from_sorted(_entries(connection, shelf_id, conflicts)), conflicts


def _entries(connection: sqlite3.Connection, shelf_id: int, conflicts: set[LeafKey]) -> Iterator[bytes]:
    """Key and state of every leaf in key order, some thousand at a time; keys with more than one head go into
    `conflicts`."""
    rows = connection.execute("SELECT key, id FROM log WHERE context = ? ORDER BY key, id", (shelf_id,))
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
            if len(piece) >= _PIECE:
                yield b"".join(piece)
                piece = []
        if len(key) != _KEY_BYTES:
            raise DamageError("a key in the log is not 32 bytes")
        if key < leaf:
            raise out_of_order()
        leaf, ids = key, [version]
    if ids:
        piece += (leaf, state_of(ids))
    yield b"".join(piece)


def delete_some(connection: sqlite3.Connection, shelf_id: int, rows_max: int) -> bool:
    """Delete up to `rows_max` log rows of a nameless context, and its own row with the last. True when it is gone."""
    with transaction(connection):
        deleted = connection.execute(
            "DELETE FROM log WHERE seq IN (SELECT seq FROM log WHERE context = ? LIMIT ?)", (shelf_id, rows_max)
        )
        is_gone = deleted.rowcount < rows_max
        if is_gone:
            connection.execute("DELETE FROM contexts WHERE id = ?", (shelf_id,))
    return is_gone
