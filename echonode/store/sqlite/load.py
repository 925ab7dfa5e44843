"""Opening: memory is rebuilt from the tables, and nothing saved is trusted. Synchronous, on the connection's thread.

The log is read once (log_scan.py), without the bytes of large versions.
"""

import sqlite3
from contextlib import closing
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
from echonode.store.sqlite.connection import DamageError, read_record
from echonode.store.sqlite.counter_rows import CounterRows
from echonode.store.sqlite.leaves import leaf_rows_after
from echonode.store.sqlite.log_scan import ScannedContext, scan_log
from echonode.store.sqlite.lookups import Lookups
from echonode.store.sqlite.own_rows import OwnRows
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
    """All that a store keeps in memory. `garbage` has the contexts whose rows are left over, each with its
    first seq."""

    instance: Instance
    index: MergeIndex
    counters: CounterRows
    own: OwnRows
    catalog: Catalog = field(default_factory=Catalog)
    staging: dict[str, StagingContext] = field(default_factory=dict)
    garbage: dict[int, int] = field(default_factory=dict)
    cursors: Cursors = field(default_factory=Cursors)


def load(connection: sqlite3.Connection, *, lookups: Lookups, counts_usage: bool) -> LoadedState:
    """Read everything in one read transaction. Raises sqlite3.Error, DamageError among them.

    `lookups`: for what stays on disk. `counts_usage`: also count what each author takes, for which the whole log is
    read.
    """
    connection.execute("BEGIN")
    try:
        counters, own = CounterRows(lookups), OwnRows(lookups)
        index = MergeIndex(ClaimRows(lookups), counters, own)
        loaded = LoadedState(_read_instance(connection), index, counters, own)
        own.load(connection)
        loaded.index.is_usage_counted = counts_usage
        _load_contexts(connection, loaded)
        for instance in (loaded.instance, *own.forks):
            for (key,) in connection.execute("SELECT key FROM writers WHERE instance = ?", (instance,)):
                loaded.index.watch_writer(key, instance)
        _load_full_leaves(connection, loaded)
        loaded.catalog.history = read_history_info(connection)
        rows = connection.execute("SELECT peer, instance, context, seq FROM cursors ORDER BY n")
        for row in rows:
            loaded.cursors.load(Cursor(*row))
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
    scanned = scan_log(connection, counts_usage=loaded.index.is_usage_counted)
    catalog = loaded.catalog
    rows = connection.execute("SELECT id, name, staged_for, staged_root, floor FROM contexts ORDER BY id")
    for context_id, name, staged_for, staged_root, floor in rows.fetchall():
        found = scanned.get(context_id) or ScannedContext()
        catalog.last_context_id = context_id
        catalog.last_seq = max(catalog.last_seq, found.newest_seq, floor)
        if name is not None:
            newest = max(found.newest_seq, floor)
            catalog.rows[name] = ContextRow(context_id, newest, found.size_bytes, found.runs)
            loaded.index.trees[name], loaded.index.conflicts[name] = found.entries.tree()
            loaded.index.usage.add_all(found.usage)
        elif staged_for is not None:
            loaded.index.usage.add_all(found.usage)
            loaded.staging[staged_for] = StagingContext(
                context_id,
                Digest(staged_root),
                found.first_seq,
                found.newest_seq,
                found.entries.last_key(),
                found.count,
                found.size_bytes,
                found.usage,
            )
        else:
            loaded.garbage[context_id] = found.first_seq
    # Entries of no context that is there: the audit names them, and their seqs are not given again.
    catalog.last_seq = max([catalog.last_seq, *(found.newest_seq for found in scanned.values())])


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
    with closing(leaf_rows_after(connection, context_id, after)) as leaves:
        for key, heads in leaves:
            if len(records) >= limit or size >= BATCH_BYTES_MAX:
                break
            records += [read_record(raw, version) for version, raw in heads]
            size += sum(len(raw) for _, raw in heads)
            after = key
    return records, after
