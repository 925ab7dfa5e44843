"""Opening: memory is rebuilt from the tables, and nothing saved is trusted. Synchronous, on the connection's thread.

Each tree comes from one ordered scan of the covering index, which reads no version's bytes.
"""

import sqlite3
from dataclasses import dataclass, field

from echonode.limits import BATCH_BYTES_MAX
from echonode.model.identity import INSTANCE_BYTES, Instance
from echonode.model.merkle import Digest
from echonode.model.record import LeafKey, Record
from echonode.model.usage import UsageTable
from echonode.store.cursors import Cursors
from echonode.store.merge import MergeIndex
from echonode.store.port import Cursor
from echonode.store.sqlite.claim_rows import ClaimRows
from echonode.store.sqlite.connection import DamageError, order_error, read_record
from echonode.store.sqlite.count_usage import count_usage
from echonode.store.sqlite.counter_rows import CounterRows
from echonode.store.sqlite.leaves import read_tree
from echonode.store.sqlite.lookups import Lookups
from echonode.store.sqlite.transaction import Catalog, ContextRow, read_history_info


@dataclass(slots=True)
class StagingContext:
    """A snapshot being received, in a context without a name.

    It holds `count` heads, the last of them under `last_key`. No seq in it is below `first_seq` or above `newest_seq`.
    `usage`: what of it is counted in the usage of the store.
    """

    context_id: int
    root: Digest
    first_seq: int
    newest_seq: int
    last_key: LeafKey
    count: int
    size_bytes: int
    usage: UsageTable = field(default_factory=UsageTable)


@dataclass(slots=True)
class LoadedState:
    """All that a store keeps in memory. `garbage` lists the contexts whose rows are left over."""

    instance: Instance
    index: MergeIndex
    catalog: Catalog = field(default_factory=Catalog)
    staging: dict[str, StagingContext] = field(default_factory=dict)
    garbage: list[int] = field(default_factory=list)
    cursors: Cursors = field(default_factory=Cursors)


def load(connection: sqlite3.Connection, *, lookups: Lookups, counts_usage: bool) -> LoadedState:
    """Read everything in one read transaction. Raises sqlite3.Error, DamageError among them.

    `lookups`: for what stays on disk. `counts_usage`: also count what each author takes, for which the whole log is
    read.
    """
    connection.execute("BEGIN")
    try:
        loaded = LoadedState(_read_instance(connection), MergeIndex(ClaimRows(lookups), CounterRows(lookups)))
        loaded.index.is_usage_counted = counts_usage
        _load_contexts(connection, loaded)
        for (key,) in connection.execute("SELECT key FROM writers WHERE instance = ?", (loaded.instance,)):
            loaded.index.watch_writer(key, loaded.instance)
        _load_full_leaves(connection, loaded)
        loaded.catalog.history = read_history_info(connection)
        rows = connection.execute("SELECT peer, instance, context, seq FROM cursors ORDER BY n")
        for row in rows:
            loaded.cursors.load(Cursor(*row))
        (newest,) = connection.execute("SELECT max(seq) FROM log").fetchone()
        last_given = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'log'").fetchone()
        loaded.catalog.last_seq = last_given[0] if last_given else 0
        if (newest or 0) > loaded.catalog.last_seq:
            raise DamageError("the log is ahead of its own sequence")
    finally:
        if connection.in_transaction:  # SQLite has ended it already when the disk fails
            connection.execute("ROLLBACK")
    return loaded


def _read_instance(connection: sqlite3.Connection) -> Instance:
    row = connection.execute("SELECT value FROM meta WHERE name = 'instance'").fetchone()
    if row is None or len(row[0]) != INSTANCE_BYTES:
        raise DamageError("it does not say which store it is")
    return Instance(row[0])


def _load_contexts(connection: sqlite3.Connection, loaded: LoadedState) -> None:
    rows = connection.execute("SELECT id, name, staged_for, staged_root, floor, bytes FROM contexts ORDER BY id")
    for context_id, name, staged_for, staged_root, floor, size in rows.fetchall():
        loaded.catalog.last_context_id = context_id
        if name is not None:
            newest = connection.execute("SELECT max(seq) FROM log WHERE context = ?", (context_id,)).fetchone()[0] or 0
            loaded.catalog.rows[name] = ContextRow(context_id, max(newest, floor), size)
            tree, conflicts = read_tree(connection, context_id)
            loaded.index.trees[name], loaded.index.conflicts[name] = tree, conflicts
            if loaded.index.is_usage_counted:
                count_usage(connection, context_id, name, loaded.index.usage)
        elif staged_for is not None:
            staging = _read_staging(connection, context_id, Digest(staged_root), size)
            if loaded.index.is_usage_counted:
                count_usage(connection, context_id, staged_for, staging.usage)
                loaded.index.usage.add_all(staging.usage)
            loaded.staging[staged_for] = staging
        else:
            loaded.garbage.append(context_id)


def _read_staging(connection: sqlite3.Connection, context_id: int, root: Digest, size_bytes: int) -> StagingContext:
    (newest, oldest) = connection.execute(
        "SELECT max(seq), min(seq) FROM log WHERE context = ?", (context_id,)
    ).fetchone()
    (count, last_key) = connection.execute(
        "SELECT count(*), max(key) FROM log WHERE context = ?", (context_id,)
    ).fetchone()
    return StagingContext(context_id, root, oldest or 0, newest or 0, LeafKey(last_key or b""), count, size_bytes)


def _load_full_leaves(connection: sqlite3.Connection, loaded: LoadedState) -> None:
    names = {context_row.id: name for name, context_row in loaded.catalog.rows.items()}
    for context_id, key in connection.execute("SELECT DISTINCT context, key FROM spare"):
        if context_id in names:
            loaded.index.full_leaves.setdefault(names[context_id], set()).add(key)


def read_batch(
    context_id: int, after: LeafKey, limit: int, connection: sqlite3.Connection
) -> tuple[list[Record], LeafKey]:
    """Return the heads of the next leaves behind `after`, about `limit` of them and BATCH_BYTES_MAX, and the last key.
    No leaf is split."""
    records: list[Record] = []
    size = 0
    rows = connection.execute(
        "SELECT key, id, bytes FROM log WHERE context = ? AND key > ? ORDER BY key, id", (context_id, after)
    )
    for key, version, raw in rows:
        if key < after:
            raise order_error()
        if (len(records) >= limit or size >= BATCH_BYTES_MAX) and key != after:
            break
        records.append(read_record(raw, version))
        size += len(raw)
        after = key
    rows.close()
    return records, after
