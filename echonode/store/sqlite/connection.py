"""One connection to the database file with the thread that serves it, and the meaning of SQLite's errors in plain
words.

Work goes to the thread as whole functions, one hop for a transaction or a page of rows. A hop costs 50 us, and a
cancelled caller cannot cut a function in two: no BEGIN is left without its COMMIT.
"""

import asyncio
import ctypes
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

BUSY_TIMEOUT_S: Final = 5.0  # only a backup, or a person with the sqlite3 shell, may hold the lock
_WRITER_CACHE_KIB: Final = 32 * 1024  # the pages that a few groups touch; a larger cache made no import faster
_READER_CACHE_KIB: Final = 4 * 1024
_CHECKPOINT_PAGES: Final = 8000  # 32 MiB of WAL: at the usual 1,000 pages a bulk import is a third slower
_PROGRESS_STEPS: Final = 200_000  # of SQLite's virtual machine: some 10 ms
WAL_BYTES_KEPT: Final = 64 * MIB  # of the log's file, when it starts over

# FULL, because what is acknowledged must survive power loss. The fullfsync pair makes that true on macOS, where a plain
# fsync stops at the drive's cache.
_PRAGMAS: Final = (
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",
    "PRAGMA checkpoint_fullfsync = ON",
    "PRAGMA mmap_size = 0",  # with a mapping, a failing disk is a SIGBUS and no error
    f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}",
    f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}",
)


class NothingWrittenError(StoreError):
    """A write failed and changed nothing: the disk is full, or another process held the lock."""


class DamageError(sqlite3.DatabaseError):
    """SQLite returned rows that this store never wrote."""


def order_error() -> DamageError:
    """Return the error for an index entry out of order. Paging by such an index would never end."""
    return DamageError("the log's index is out of order")


class DatabaseConnection:
    """One connection. Calls run one after another; at most STORE_CALLS_WAITING_MAX of them wait in the thread."""

    def __init__(self, connection: aiosqlite.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._slots = asyncio.Semaphore(STORE_CALLS_WAITING_MAX)
        self.is_open = True

    @classmethod
    async def open(cls, path: Path, *, query_only: bool) -> "DatabaseConnection":
        """Connect to the existing file `path`. Raises StoreError."""
        uri = f"file:{quote(str(path))}?mode=rw"
        connection = aiosqlite.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S)
        connecting = asyncio.ensure_future(connection)
        try:
            await asyncio.shield(connecting)
        except asyncio.CancelledError:  # the thread runs already and has to be ended
            await (await connecting).close()
            raise
        except sqlite3.Error as error:
            # aiosqlite has told its thread to end and does not wait. A loop closed before then causes a traceback.
            await asyncio.to_thread(connection._thread.join)
            raise to_store_error(error, path) from error
        database = cls(connection, path)
        try:
            cache_kib = _READER_CACHE_KIB if query_only else _WRITER_CACHE_KIB
            await database.run(lambda raw: set_pragmas(raw, query_only=query_only, cache_kib=cache_kib))
        except BaseException:
            await database.close()
            raise
        return database

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on the connection's thread and return its result.

        Raises StoreError for SQLite's errors, and when the connection is closed. A cancelled caller does not stop
        `work`."""
        async with self._slots:
            if not self.is_open:
                raise StoreError("the store is closed")
            # aiosqlite's own calls use this method; no public one takes a function.
            try:
                result: T = await self._connection._execute(work, self._connection._conn)  # type: ignore[no-untyped-call]
            except sqlite3.Error as error:
                raise to_store_error(error, self._path) from error
            return result

    async def close(self, *, is_cut: bool = False) -> None:
        """Finish the waiting calls and end the thread; `is_cut`: break off a statement that runs. Safe to call twice.
        """
        if self.is_open:
            self.is_open = False
            if is_cut:
                await self._connection.interrupt()
            await self._connection.close()


def set_pragmas(connection: sqlite3.Connection, *, query_only: bool, cache_kib: int) -> None:
    """Set what every connection to a store needs."""
    for pragma in _PRAGMAS:
        connection.execute(pragma)
    connection.execute(f"PRAGMA cache_size = -{cache_kib}")
    if query_only:
        connection.execute("PRAGMA query_only = ON")


def release_memory(connection: sqlite3.Connection) -> None:
    """Give back the pages that the connection keeps in memory; the next statements read theirs again."""
    connection.execute("PRAGMA shrink_memory")
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps what is freed, most of all on threads
    if trim is not None:
        trim(0)


def report_progress(connection: sqlite3.Connection, on_progress: Callable[[], None]) -> None:
    """Call `on_progress` now and then while a statement of `connection` runs."""

    def handler() -> int:
        on_progress()
        return 0  # anything else would end the statement

    connection.set_progress_handler(handler, _PROGRESS_STEPS)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run the block from BEGIN to COMMIT. On an error, ROLLBACK where SQLite has not done it already."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def to_store_error(error: sqlite3.Error, path: Path) -> StoreError:
    """Return a StoreError that says in plain words what `error` means."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_FULL"):
        return NothingWrittenError(f"the disk that holds {path} is full; nothing was written")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return NothingWrittenError(f"{path} is locked by another process; nothing was written")
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
    """Return the record in `raw`. Raises DamageError unless the bytes are those written as `version`."""
    try:
        record = from_store(raw)
    except Exception as error:  # bytes that were never checked may lead to any error
        raise DamageError("a version cannot be read") from error
    if record.id != version:
        raise DamageError("a version is not what was written")
    return record


def read_raw(raw: bytes, version: VersionId) -> bytes:
    """Return `raw`. Raises DamageError unless the bytes are those written as `version`: no caller is given other
    bytes."""
    if not is_version(raw, version):
        raise DamageError("a version is not what was written")
    return raw
