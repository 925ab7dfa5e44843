"""The tables of the store, and the check of a file before it is opened.

    meta      name -> value                          `instance`: this store's life; `life`, `wrote`: its marks (life.py)
    contexts  id, name                               a named set of records
              staged_for, staged_root                instead of a name: a snapshot being received, invisible
                                                     neither name nor staged_for: left over from one, to be deleted
              floor                                  seqs at or below it were given out, though no entry shows it
    log       seq, context, key, id, created, bytes  every head, as received; seq is the cursor and never comes back in
                                                     its context; `created` is read by filters (created_column)
    history   n, context, key, id, bytes, superseded_ms      versions that are superseded, for a while
    spare     n, context, key, id, bytes           versions that wait for room in a full leaf (PROTOCOL.md §4.4)
    sums      place, versions, bytes               how much is in history and in spare; triggers keep the sums
    writers   key, instance, counter                 the highest counter held of each writer's dots: 8 bytes,
                                                     big-endian, because SQLite's integers are signed
              context, leaf, version                 the version that has it; NULL where others only mention it
    own       instance, first, ids                   which versions were written here, from the counter `first` on
    forks     n, instance, counter, timestamp        instances of this store under which another one wrote (own_rows.py)
    claims    key, owner, author, kind, state        what all key statements together say (claim_rows.py)
    peers     id, name, addresses, seen_ms           the peers that were met; addresses are separated by line feeds
    origins   n, context, identity, is_forgotten       who introduced each context here
    cursors   peer, context, instance, seq   how far that peer's log was followed; the latest written comes last

A commit writes few pages: that of the log, that of the index of leaves, and that of the writer. So all that follows
from the log is derived when the store is opened: seqs, bytes and places of each context (log_scan.py). The index of
leaves holds the first 8 bytes of a key, and stays small enough for memory; what stands there is compared with the whole
key. There is no index by version id: no query needs one, and random ids would cost a third of all writing.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from echonode.errors import StoreError
from echonode.model.identity import Instance
from echonode.store.sqlite.claim_rows import CLAIMS_TABLE
from echonode.store.sqlite.connection import transaction
from echonode.store.sqlite.migration import (
    LOG_TABLE,
    ORIGINS_TABLE,
    PEERS_TABLE,
    SPARE_TABLES,
    WRITERS_TABLE,
    migrate,
)
from echonode.store.sqlite.own_rows import OWN_TABLES

SCHEMA: Final = 7
_SCHEMA_MIN: Final = 3  # the earliest that is migrated (migration.py)
APPLICATION_ID: Final = 0x4543484F  # "ECHO"
_MAGIC: Final = b"SQLite format 3\x00"
_HEADER_BYTES: Final = 100
_JOURNAL_MAGIC: Final = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"

TABLES: Final = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE contexts (id INTEGER PRIMARY KEY, name TEXT UNIQUE, staged_for TEXT UNIQUE, staged_root BLOB,"
    " floor INTEGER NOT NULL DEFAULT 0) STRICT",
    *LOG_TABLE,
    "CREATE TABLE history (n INTEGER PRIMARY KEY, context INTEGER NOT NULL, key BLOB NOT NULL, id BLOB NOT NULL,"
    " bytes BLOB NOT NULL, superseded_ms INTEGER NOT NULL) STRICT",
    "CREATE UNIQUE INDEX history_version ON history (context, key, id)",
    *SPARE_TABLES,
    WRITERS_TABLE,
    *OWN_TABLES,
    *CLAIMS_TABLE,
    PEERS_TABLE,
    ORIGINS_TABLE,
    "CREATE TABLE cursors (n INTEGER PRIMARY KEY, peer BLOB NOT NULL, context TEXT NOT NULL,"
    " instance BLOB NOT NULL, seq INTEGER NOT NULL, UNIQUE (peer, context)) STRICT",
)


def check_file(path: Path) -> None:
    """Refuse a file that is no store before SQLite touches it; make an empty one, for its owner alone, when there is
    none.

    Raises StoreError."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError as error:
        raise StoreError(f"{path} cannot be opened: {error.strerror}") from None
    if not header or _is_half_made(path):
        return
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        raise StoreError(f"{path} is not an echonode store, or its beginning is damaged")
    version = int.from_bytes(header[60:64], "big")  # user_version and application_id (SQLite file format, §1.3)
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise StoreError(f"{path} is the database of another program")
    if not _SCHEMA_MIN <= version <= SCHEMA:
        raise schema_error(path, version)


def _is_half_made(path: Path) -> bool:
    """Return True when the power went while the file got its first pages.

    SQLite then takes them back by a rollback journal that says that the file was empty (SQLite file format, §3). A
    later journal says otherwise, and a store that was finished has a write-ahead log instead."""
    try:
        with Path(f"{path}-journal").open("rb") as file:
            head = file.read(20)
    except OSError:
        return False
    return head.startswith(_JOURNAL_MAGIC) and head[16:20] == bytes(4)


def schema_error(path: Path, version: int) -> StoreError:
    """Return the error for a schema other than SCHEMA. No release had another one: it is newer, in development, or
    missing."""
    if version > SCHEMA:
        return StoreError(f"{path} was written by a newer echonode (schema {version}, this one knows {SCHEMA})")
    if version > 0:
        return StoreError(f"{path} is of schema {version}, which no release had: export it with the version it is of")
    return StoreError(f"{path} is damaged: its schema has no number")


def keep_copy(connection: sqlite3.Connection, path: Path) -> None:
    """Copy a file of an earlier schema beside it, to FILE.schema-N, before it is migrated. Raises StoreError."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if not _SCHEMA_MIN <= version < SCHEMA:
        return  # the file is new, or as it should be
    copy = path.with_name(f"{path.name}.schema-{version}")
    try:
        copy.unlink(missing_ok=True)  # the rest of a copy that was broken off
        os.close(os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        connection.execute("VACUUM INTO ?", (str(copy),))
    except (OSError, sqlite3.Error) as error:
        copy.unlink(missing_ok=True)
        raise StoreError(f"{path} is of schema {version} and cannot be copied before it is changed: {error}") from None


def create_tables(connection: sqlite3.Connection, path: Path, new_instance: Callable[[], Instance]) -> bool:
    """Make the tables when there are none, and migrate those of an earlier schema. Return True if it made them.

    The file is checked to be one that can be written."""
    is_migrated = False
    with transaction(connection):
        is_new: bool = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
        if is_new:
            for statement in TABLES:
                connection.execute(statement)
            connection.execute("INSERT INTO meta VALUES ('instance', ?)", (new_instance(),))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA}")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if _SCHEMA_MIN <= version < SCHEMA:
            migrate(connection, version)
            is_migrated = True
            connection.execute(f"PRAGMA user_version = {SCHEMA}")
        elif version != SCHEMA:
            raise schema_error(path, version)
    # Only now: the numbers that `check_file` reads must be in the file itself before a WAL can hold them back.
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise StoreError(f"{path} cannot keep a write-ahead log: it must be on a local disk")
    if is_migrated:
        with suppress(sqlite3.OperationalError):  # without room for it, the file stays larger than its rows
            connection.execute("VACUUM")
    return is_new
