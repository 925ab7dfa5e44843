"""Rows of one write transaction.

    transaction = Transaction(catalog, now_ms)
    transaction.add_merge(plan)        once per plan, in order; nothing is written yet
    transaction.write(connection)      all of it, or nothing
    catalog.update(transaction)

A version that changes its place is one move (store/leaf.py), however many plans moved it on: SQLite copies its row from
table to table, and only what has just arrived comes from memory.

Every function here that takes a connection is synchronous and runs on the connection's thread.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from typing import Any, Final, TypeAlias

from echonode.limits import HISTORY_BYTES_MAX, HISTORY_DAYS, HISTORY_ROWS_MAX, OWN_IDS_KEPT
from echonode.model.identity import Instance
from echonode.model.key_claims import Claim
from echonode.model.record import LeafKey, Record, VersionId
from echonode.store.counters import Counters, Latest
from echonode.store.cursors import CursorKey, covers, key_of
from echonode.store.leaf import LeafMerge, Place
from echonode.store.merge import MergePlan, PendingMerges
from echonode.store.own_versions import ID_PREFIX_BYTES
from echonode.store.port import Cursor, HistoryInfo
from echonode.store.sqlite.claim_rows import SAVE_CLAIM, claim_row
from echonode.store.sqlite.connection import transaction
from echonode.store.sqlite.counter_rows import SAVE_COUNTER, counter_row
from echonode.store.sqlite.leaves import LoggedOutline
from echonode.store.sqlite.log_columns import BY_LEAF, BY_VERSION, created_column, leaf_values, version_values
from echonode.store.sqlite.log_runs import LogRuns
from echonode.store.sqlite.own_rows import DELETE_OWN, SAVE_OWN

_DAY_MS: Final = 24 * 3600 * 1000
_BY_VERSION: Final = f"WHERE {BY_VERSION}"
_BY_SEQ: Final = "WHERE seq = ?"
_AGED_PER_ROW: Final = 2  # history rows past their age deleted for each one added: old rows go, a few at a time

_ROWS_PER_INSERT: Final = 125  # in one statement: sqlite3 gives up the interpreter's lock for each statement
_INSERT: Final = "INSERT INTO log VALUES "
_MARKS: Final = "(?, ?, ?, ?, ?, ?)"
_INSERT_MANY: Final = _INSERT + ", ".join([_MARKS] * _ROWS_PER_INSERT)

Rows = list[tuple[Any, ...]]
LogRow: TypeAlias = tuple[int, int, LeafKey, VersionId, bytes, bytes]


@dataclass(slots=True)
class ContextRow:
    """One row of `contexts`, and what is derived from its part of the log: `newest_seq`, the newest seq ever given in
    it, `size_bytes` of its versions, and the `runs` of its entries."""

    id: int
    newest_seq: int = 0
    size_bytes: int = 0
    runs: LogRuns = field(default_factory=LogRuns)


@dataclass(slots=True)
class Catalog:
    """The rows of `contexts` and the last ids given, in memory: `GroupCommit` need not read them from the file."""

    last_seq: int = 0
    last_context_id: int = 0
    rows: dict[str, ContextRow] = field(default_factory=dict)
    history: HistoryInfo = field(default_factory=HistoryInfo)

    def update(self, transaction: "Transaction") -> None:
        """Take over the rows and ids of `transaction`, which is durable."""
        self.last_seq = transaction.last_seq
        self.last_context_id = transaction.last_context_id
        self.rows.update(transaction.rows)
        self.history = transaction.history
        for context, first_seq, last_seq in transaction.new_runs:
            self.rows[context].runs.add(first_seq, last_seq)


class Transaction:
    """The rows of one write transaction, collected before it begins."""

    def __init__(self, catalog: Catalog, now_ms: int) -> None:
        self.pending = PendingMerges()
        self.last_seq = catalog.last_seq
        self.last_context_id = catalog.last_context_id
        self.rows: dict[str, ContextRow] = {}  # changed rows only, as they will be after the commit
        self.new_runs: list[tuple[str, int, int]] = []  # of plans: context, first and last seq; noted once durable
        self.own_writes = 0  # versions that this store signed
        self.renews_life = False  # a new link `life` goes with it (life.py)
        self.history = catalog.history
        self._catalog = catalog
        self._now_ms = now_ms
        self._inserts: dict[tuple[int, VersionId], LogRow] = {}
        self._staged: list[LogRow] = []
        self._deletes: Rows = []
        self._cursors: dict[CursorKey, Cursor | None] = {}  # None: to be deleted
        self._statements: list[tuple[str, Sequence[tuple[Any, ...]]]] = []

    @property
    def is_empty(self) -> bool:
        """True when there is nothing to write."""
        rows = (self._inserts, self._staged, self._deletes, self._statements, self._cursors)
        return not any(rows) and not self.pending.has_moves and not self.renews_life

    def context_row(self, context: str) -> ContextRow:
        """Return the row of `context`, made when there is none. The caller may change it."""
        context_row = self.rows.get(context)
        if context_row is None:
            known = self._catalog.rows.get(context)
            if known is None:
                context_row = ContextRow(self.new_context_id())
                self.execute("INSERT INTO contexts (id, name) VALUES (?, ?)", (context_row.id, context))
            else:
                context_row = ContextRow(known.id, known.newest_seq, known.size_bytes, known.runs)
            self.rows[context] = context_row
        return context_row

    def newest_seq(self, context: str) -> int:
        """Return the newest log seq given in `context` so far, 0 for none. Makes no row."""
        context_row = self.rows.get(context) or self._catalog.rows.get(context)
        return context_row.newest_seq if context_row is not None else 0

    def new_context_id(self) -> int:
        """Return an unused id for a row of `contexts`."""
        self.last_context_id += 1
        return self.last_context_id

    def execute(self, sql: str, *rows: tuple[Any, ...]) -> None:
        """Add a statement to run for each of `rows`, before the rows of plans are written."""
        self._statements.append((sql, rows))

    def add_merge(self, plan: MergePlan) -> None:
        """Add the rows of `plan`."""
        if plan.merges:
            self._add_merges(plan.context, (merge for _, merge in plan.changes()))
        self.pending.add(plan)

    def _add_merges(self, context: str, merges: Iterable[LeafMerge]) -> None:
        context_row = self.context_row(context)
        first_seq = self.last_seq + 1
        for merge in merges:
            for move in merge.moves:
                if move.origin is Place.LOG:
                    context_row.size_bytes -= move.version.size
                    self._inserts.pop((context_row.id, move.version.id), None)
                if move.target is Place.LOG:
                    context_row.size_bytes += move.version.size
                    context_row.newest_seq = self.insert(context_row.id, move.record)
        if self.last_seq >= first_seq:
            self.new_runs.append((context, first_seq, self.last_seq))

    def add_staged(self, context_id: int, fresh: Sequence[Record], plan: MergePlan) -> None:
        """Add the rows of a snapshot being received: `fresh` versions, each of which makes a leaf, and those that
        `plan` merged. Versions that are no heads there are not kept."""
        first = self.last_seq + 1
        self._staged += [_log_row(seq, context_id, record) for seq, record in enumerate(fresh, first)]
        self.last_seq += len(fresh)
        for key, merge in plan.changes():
            self._deletes += [version_values(context_id, key, move.version.id) for move in merge.left()]
            for move in merge.joined():
                self.insert(context_id, move.record)

    def add_revocation(self, context: str, merges: Mapping[LeafKey, LeafMerge]) -> None:
        """Add the rows of the leaves of `context` that a void key changes. Its newest seq may be among them and must
        not be given again."""
        self._add_merges(context, merges.values())
        self.pending.add_merges(context, merges)
        self._set_floor(context)

    def add_forgotten(self, context: str, leaves: Mapping[LeafKey, int]) -> None:
        """Add the deletion of `leaves`, given with the bytes of their heads, and of the cursors of their context. The
        newest seq may be among them."""
        context_row = self.context_row(context)
        context_row.size_bytes -= sum(leaves.values())
        for place in Place:
            self.execute(
                f"DELETE FROM {place.value} WHERE {BY_LEAF}", *[leaf_values(context_row.id, key) for key in leaves]
            )
        self.execute("DELETE FROM cursors WHERE context = ?", (context,))
        self._set_floor(context)

    def _set_floor(self, context: str) -> None:
        context_row = self.context_row(context)
        self.execute("UPDATE contexts SET floor = ? WHERE id = ?", (context_row.newest_seq, context_row.id))

    def insert(self, context_id: int, record: Record) -> int:
        """Add one log row and return its seq."""
        self.last_seq += 1
        self._inserts[context_id, record.id] = _log_row(self.last_seq, context_id, record)
        return self.last_seq

    def add_claims(self, claims: Iterable[Claim]) -> None:
        """Add what new key statements say."""
        rows = [claim_row(claim) for claim in claims]
        if rows:
            self.execute(SAVE_CLAIM, *rows)

    def add_counters(self, counters: Counters, latest: Latest, context_id: int) -> None:
        """Add counters to save, with the versions of that context that have them. They are higher than those saved."""
        rows = [counter_row(writer, counter, latest.get(writer), context_id) for writer, counter in counters.items()]
        if rows:
            self.execute(SAVE_COUNTER, *rows)

    def add_own(self, instance: Instance, versions: Sequence[Record]) -> None:
        """Add the ids of versions that this store signed: their counters follow each other."""
        if versions:
            ids = b"".join(version.id[:ID_PREFIX_BYTES] for version in versions)
            self.execute(SAVE_OWN, (instance, versions[0].counter, ids))
            if versions[-1].counter > OWN_IDS_KEPT:
                self.execute(DELETE_OWN, (instance, versions[-1].counter - OWN_IDS_KEPT))
            self.own_writes += len(versions)

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
            added = self._write_moves(connection)
            connection.executemany(f"DELETE FROM log {_BY_VERSION}", self._deletes)
            _insert(connection, [*self._staged, *self._inserts.values()])
            if added:
                self._delete_aged(connection, added)
            if self.pending.has_moves or self._statements:
                self.history = read_history_info(connection)
                if self.history.versions > HISTORY_ROWS_MAX or self.history.bytes > HISTORY_BYTES_MAX:
                    self._prune(connection)

    def _write_moves(self, connection: sqlite3.Connection) -> int:
        """Move versions to and from spare and history, and out of the log; return how many came to spare and history.

        A version that stands there already stays as it is."""
        copies: dict[str, Rows] = {}
        deletes: dict[str, Rows] = {}
        for context, key, move in self.pending.all_moves():
            origin, target, version = move.origin, move.target, move.version
            if (origin is None and target is Place.LOG) or (origin is target and target is not Place.LOG):
                continue
            context_id = self.rows[context].id
            place, where = version_values(context_id, key, version.id), _BY_VERSION
            if origin is Place.LOG and isinstance(version, LoggedOutline):
                place, where = (version.seq,), _BY_SEQ
            if target is Place.HISTORY or target is Place.SPARE:
                new = (context_id, key, version.id, move.record.raw) if origin is None else place
                superseded = (self._now_ms,) if target is Place.HISTORY else ()
                copies.setdefault(_copying(origin, target, where), []).append((*superseded, *new))
            if origin is not None:
                deletes.setdefault(f"DELETE FROM {origin.value} {where}", []).append(place)
        for sql, rows in (*copies.items(), *deletes.items()):
            connection.executemany(sql, rows)
        return sum(map(len, copies.values()))

    def _write_cursors(self, connection: sqlite3.Connection) -> None:
        changed, deleted = self.cursors()
        connection.executemany("DELETE FROM cursors WHERE peer = ? AND context = ?", deleted)
        connection.executemany(
            "INSERT OR REPLACE INTO cursors (peer, context, instance, seq) VALUES (?, ?, ?, ?)",
            [(cursor.peer, cursor.context, cursor.instance, cursor.seq) for cursor in changed],
        )

    def _delete_aged(self, connection: sqlite3.Connection, added: int) -> None:
        """Delete history past its age, some of the oldest rows for each of the `added` ones."""
        connection.execute(
            "DELETE FROM history WHERE n IN (SELECT n FROM history ORDER BY n LIMIT ?) AND superseded_ms < ?",
            (_AGED_PER_ROW * added, self._now_ms - HISTORY_DAYS * _DAY_MS),
        )

    def _prune(self, connection: sqlite3.Connection) -> None:
        """Delete what is too much: the oldest of the history, and of the spares when no history is left."""
        for place in (Place.HISTORY, Place.SPARE):
            versions, size_bytes = self.history.versions - HISTORY_ROWS_MAX, self.history.bytes - HISTORY_BYTES_MAX
            last = 0
            with closing(connection.execute(f"SELECT n, length(bytes) FROM {place.value} ORDER BY n")) as oldest:
                while (versions > 0 or size_bytes > 0) and (row := oldest.fetchone()) is not None:
                    last, versions, size_bytes = row[0], versions - 1, size_bytes - row[1]
            connection.execute(f"DELETE FROM {place.value} WHERE n <= ?", (last,))
            self.history = read_history_info(connection)


def _log_row(seq: int, context_id: int, record: Record) -> LogRow:
    return seq, context_id, record.key, record.id, created_column(record.created_ms), record.raw


def _insert(connection: sqlite3.Connection, rows: Sequence[LogRow]) -> None:
    """Insert `rows` in the log."""
    rest = len(rows) % _ROWS_PER_INSERT
    for at in range(rest, len(rows), _ROWS_PER_INSERT):
        connection.execute(_INSERT_MANY, tuple(chain.from_iterable(rows[at : at + _ROWS_PER_INSERT])))
    connection.executemany(_INSERT + _MARKS, rows[:rest])


@cache
def _copying(origin: Place | None, target: Place, where: str) -> str:
    """Return the statement that adds a version to the spare or the history: from another table, or with its bytes."""
    when, mark = ("superseded_ms, ", "?, ") if target is Place.HISTORY else ("", "")
    values = f"VALUES ({mark}?, ?, ?, ?)"
    if origin is not None:
        values = f"SELECT {mark}context, key, id, bytes FROM {origin.value} {where}"
    return f"INSERT OR IGNORE INTO {target.value} ({when}context, key, id, bytes) {values}"


def read_history_info(connection: sqlite3.Connection) -> HistoryInfo:
    """Return how much is kept beside the heads. Triggers keep the sums (schema.py)."""
    kept = {name: (versions, size) for name, versions, size in connection.execute("SELECT * FROM sums")}
    history, spare = kept[Place.HISTORY.value], kept[Place.SPARE.value]
    return HistoryInfo(history[0] + spare[0], history[1] + spare[1], spare[0])


def delete_rows(connection: sqlite3.Connection, context_id: int, first_seq: int, rows_max: int) -> int | None:
    """Delete up to `rows_max` log rows, from `first_seq` on, of a nameless context, and its own row with the last.

    Return the seq to go on from, None when it is gone."""
    with transaction(connection):
        rows = connection.execute(
            "SELECT seq FROM log NOT INDEXED WHERE seq >= ? AND context = ? ORDER BY seq LIMIT ?",
            (first_seq, context_id, rows_max),
        ).fetchall()
        connection.executemany("DELETE FROM log WHERE seq = ?", rows)
        if len(rows) == rows_max:
            next_seq: int = rows[-1][0] + 1
            return next_seq
        connection.execute("DELETE FROM contexts WHERE id = ?", (context_id,))
        return None
