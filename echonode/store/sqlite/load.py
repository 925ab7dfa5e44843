"""Opening: what memory keeps is rebuilt from the tables, nothing saved is trusted. Synchronous, on a database's thread.

The trees come from one ordered scan of the covering index per context, which reads no version's bytes.
"""

import sqlite3
from dataclasses import dataclass, field

from echonode.errors import RemoteError
from echonode.model.identity import INSTANCE_BYTES, Instance
from echonode.model.keys import read_statement
from echonode.model.merkle import Digest
from echonode.model.record import IDENTITIES, LeafKey, Record, parse
from echonode.store.cursors import Cursors
from echonode.store.merge import LeafIndex
from echonode.store.port import Cursor
from echonode.store.sqlite.connection import DamageError, out_of_order, read_record
from echonode.store.sqlite.transaction import Ledger, Shelf, read_leaves


@dataclass(slots=True)
class Staging:
    """A snapshot being received, in a context without a name. `count` heads, the last of them under `last_key`;
    no seq in it is below `first_seq` or above `newest`."""

    shelf_id: int
    root: Digest
    first_seq: int
    newest: int
    last_key: LeafKey
    count: int
    size: int


@dataclass(slots=True)
class Loaded:
    """All that a store keeps in memory. `garbage`: contexts whose rows are left over."""

    instance: Instance
    index: LeafIndex = field(default_factory=LeafIndex)
    ledger: Ledger = field(default_factory=Ledger)
    staging: dict[str, Staging] = field(default_factory=dict)
    garbage: list[int] = field(default_factory=list)
    cursors: Cursors = field(default_factory=Cursors)


def load(connection: sqlite3.Connection) -> Loaded:
    """Everything, out of one read transaction. Raises sqlite3.Error, DamageError among them."""
    connection.execute("BEGIN")
    try:
        loaded = Loaded(_instance(connection))
        _load_contexts(connection, loaded)
        _load_writers(connection, loaded)
        rows = connection.execute("SELECT peer, instance, context, seq FROM cursors ORDER BY n")
        for row in rows:
            loaded.cursors.load(Cursor(*row))
        (newest,) = connection.execute("SELECT max(seq) FROM log").fetchone()
        given = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'log'").fetchone()
        loaded.ledger.last_seq = given[0] if given else 0
        if (newest or 0) > loaded.ledger.last_seq:
            raise DamageError("the log is ahead of its own sequence")
    finally:
        if connection.in_transaction:  # SQLite ends it by itself when the disk fails
            connection.execute("ROLLBACK")
    return loaded


def _instance(connection: sqlite3.Connection) -> Instance:
    row = connection.execute("SELECT value FROM meta WHERE name = 'instance'").fetchone()
    if row is None or len(row[0]) != INSTANCE_BYTES:
        raise DamageError("it does not say which store it is")
    return Instance(row[0])


def _load_contexts(connection: sqlite3.Connection, loaded: Loaded) -> None:
    rows = connection.execute("SELECT id, name, staged_for, staged_root, floor, bytes FROM contexts ORDER BY id")
    for shelf_id, name, staged_for, staged_root, floor, size in rows.fetchall():
        loaded.ledger.last_context = shelf_id
        if name is not None:
            newest = connection.execute("SELECT max(seq) FROM log WHERE context = ?", (shelf_id,)).fetchone()[0] or 0
            loaded.ledger.shelves[name] = Shelf(shelf_id, max(newest, floor), size)
            tree, conflicts = read_leaves(connection, shelf_id)
            loaded.index.trees[name], loaded.index.conflicts[name] = tree, conflicts
            if name == IDENTITIES:
                _load_keyring(connection, shelf_id, loaded.index)
        elif staged_for is not None:
            loaded.staging[staged_for] = _staging(connection, shelf_id, Digest(staged_root), size)
        else:
            loaded.garbage.append(shelf_id)


def _load_keyring(connection: sqlite3.Connection, shelf_id: int, index: LeafIndex) -> None:
    """Whoever is the author of anything has a statement, so the statements name all authors too."""
    for version, raw in connection.execute("SELECT id, bytes FROM log WHERE context = ?", (shelf_id,)):
        try:
            parse(raw)
            record = read_record(raw, version)
            index.keyring.add(read_statement(record))
        except RemoteError as error:
            raise DamageError(f"a key statement cannot be read: {error.detail}") from error
        index.authors.add(record.author)


def _staging(connection: sqlite3.Connection, shelf_id: int, root: Digest, size: int) -> Staging:
    (newest, oldest) = connection.execute(
        "SELECT max(seq), min(seq) FROM log WHERE context = ?", (shelf_id,)
    ).fetchone()
    (count, last_key) = connection.execute(
        "SELECT count(*), max(key) FROM log WHERE context = ?", (shelf_id,)
    ).fetchone()
    return Staging(shelf_id, root, oldest or 0, newest or 0, LeafKey(last_key or b""), count, size)


def _load_writers(connection: sqlite3.Connection, loaded: Loaded) -> None:
    for key, instance, counter in connection.execute("SELECT key, instance, counter FROM writers"):
        loaded.index.count({(key, instance): int.from_bytes(counter, "big")})
        if instance == loaded.instance:
            loaded.index.watch_writer(key, instance)


def records_of(
    shelf_id: int, after: LeafKey, limit: int, connection: sqlite3.Connection
) -> tuple[list[Record], LeafKey]:
    """The heads of the next leaves behind `after`, some `limit` of them, and the last one's key. A leaf's heads stay
    together."""
    records: list[Record] = []
    rows = connection.execute(
        "SELECT key, id, bytes FROM log WHERE context = ? AND key > ? ORDER BY key, id", (shelf_id, after)
    )
    for key, version, raw in rows:
        if key < after:
            raise out_of_order()
        if len(records) >= limit and key != after:
            break
        records.append(read_record(raw, version))
        after = key
    rows.close()
    return records, after
