"""One connection to the database file, with the thread that serves it, and what SQLite's errors mean in plain words.

Work goes to the thread as whole functions, one hop for a transaction or a page of rows: a hop costs 50 us, and what
runs inside one function cannot be cut in two by a cancelled caller (no BEGIN is ever left without its COMMIT).
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

import aiosqlite

from echonode.errors import StoreError
from echonode.limits import MIB, STORE_CALLS_WAITING_MAX
from echonode.model.record import Record, VersionId, from_store, is_version

T = TypeVar("T")

_BUSY_TIMEOUT_S: Final = 5.0  # nobody else should hold the lock: a backup, or a person with the sqlite3 shell
_WRITER_CACHE_KIB: Final = 32 * 1024  # holds the pages a few groups touch; more did not make imports faster
_READER_CACHE_KIB: Final = 4 * 1024
_CHECKPOINT_PAGES: Final = 8000  # 32 MiB of WAL: at the usual 1,000 pages a bulk import is a third slower
_WAL_BYTES_KEPT: Final = 64 * MIB

# Sync functions are given FULL because what is acknowledged must survive power loss; the fullfsync pair makes that
# true on macOS, where a plain fsync stops at the drive's cache.
_PRAGMAS: Final = (
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",
    "PRAGMA checkpoint_fullfsync = ON",
    "PRAGMA mmap_size = 0",  # with a mapping, a failing disk is a SIGBUS and no error
    f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}",
    f"PRAGMA journal_size_limit = {_WAL_BYTES_KEPT}",
)


class UndoneError(StoreError):
    """A write that did not happen, and did no harm: the disk is full, or somebody else held the lock."""


class DamageError(sqlite3.DatabaseError):
    """Rows that SQLite gives out in good faith and that this store never wrote."""


def out_of_order() -> DamageError:
    """SQLite gives an index's entries as they stand; one out of place would make who pages through it go in circles."""
    return DamageError("the log's index is out of order")


class Database:
    """One connection. Calls run one after another, at most STORE_CALLS_WAITING_MAX of them waiting in the thread."""

    def __init__(self, connection: aiosqlite.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._slots = asyncio.Semaphore(STORE_CALLS_WAITING_MAX)
        self.is_open = True

    @classmethod
    async def open(cls, path: Path, *, query_only: bool) -> "Database":
        """Connect to the existing file `path`. Raises StoreError."""
        uri = f"file:{quote(str(path))}?mode=rw"
        connection = aiosqlite.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S)
        connecting = asyncio.ensure_future(connection)
        try:
            await asyncio.shield(connecting)
        except asyncio.CancelledError:  # the thread runs by now, and must be told to end
            await (await connecting).close()
            raise
        except sqlite3.Error as error:
            # aiosqlite told its thread to end and does not wait for it; a loop closed before that is its traceback.
            await asyncio.to_thread(connection._thread.join)
            raise plain(error, path) from error
        database = cls(connection, path)
        try:
            await database.run(lambda raw: _prepare(raw, query_only=query_only))
        except BaseException:
            await database.close()
            raise
        return database

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work`, on the connection's thread. Raises StoreError for SQLite's errors, and when the store is closed.
        A cancelled caller does not stop `work`."""
        async with self._slots:
            if not self.is_open:
                raise StoreError("the store is closed")
            # aiosqlite's own calls are made of this one; there is no public way to hand it a function of ours.
            try:
                result: T = await self._connection._execute(work, self._connection._conn)  # type: ignore[no-untyped-call]
            except sqlite3.Error as error:
                raise plain(error, self._path) from error
            return result

    async def close(self) -> None:
        """Finish what waits and end the thread. Safe to call twice."""
        if self.is_open:
            self.is_open = False
            await self._connection.close()


def _prepare(connection: sqlite3.Connection, *, query_only: bool) -> None:
    for pragma in _PRAGMAS:
        connection.execute(pragma)
    connection.execute(f"PRAGMA cache_size = -{_READER_CACHE_KIB if query_only else _WRITER_CACHE_KIB}")
    if query_only:
        connection.execute("PRAGMA query_only = ON")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """BEGIN to COMMIT, or ROLLBACK where SQLite has not done that already."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def plain(error: sqlite3.Error, path: Path) -> StoreError:
    """What `error` means to a person."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_FULL"):
        return UndoneError(f"the disk that holds {path} is full; nothing was written")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return UndoneError(f"{path} is locked by another process; nothing was written")
    if name.startswith("SQLITE_NOTADB"):
        return StoreError(f"{path} is not an echonode store, or its beginning is damaged")
    if isinstance(error, DamageError) or name.startswith("SQLITE_CORRUPT"):
        return StoreError(f"{path} is damaged ({error}); to keep what is whole, type: echonode verify --repair")
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
        return StoreError(f"{path} cannot be opened for writing ({error})")
    if name.startswith("SQLITE_IOERR"):
        return StoreError(f"the disk that holds {path} fails ({name}); restart, then run `echonode verify`")
    return StoreError(f"{path}: {error}")


def read_record(raw: bytes, version: VersionId) -> Record:
    """`from_store`, for bytes that may have been damaged since they were written as `version`."""
    try:
        record = from_store(raw)
    except Exception as error:  # whatever bytes that were never checked lead to
        raise DamageError("a version cannot be read") from error
    if record.id != version:
        raise DamageError("a version is not what was written")
    return record


def read_raw(raw: bytes, version: VersionId) -> bytes:
    """`raw`, once it is seen to be what was written: nobody is given anything else."""
    if not is_version(raw, version):
        raise DamageError("a version is not what was written")
    return raw
