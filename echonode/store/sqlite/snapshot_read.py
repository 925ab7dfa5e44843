"""Read transactions on connections of their own, and a snapshot of one context in such a transaction.

An open read transaction keeps SQLite from folding the write-ahead log into the file. So a snapshot ends after
READ_TRANSACTION_S_MAX, or when the write-ahead log has grown by WAL_BYTES_MAX, whether it is being read or not.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

from echonode.errors import StoreError
from echonode.limits import BATCH_RECORDS_MAX, READ_TRANSACTION_S_MAX, WAL_BYTES_MAX
from echonode.model.record import LeafKey
from echonode.store.paging import fit_leaves
from echonode.store.port import SnapshotOverError, StateStamp
from echonode.store.sqlite.connection import DatabaseConnection
from echonode.store.sqlite.group_commit import Finish, GroupCommit
from echonode.store.sqlite.transaction import Transaction, leaves_after

T = TypeVar("T")

_WAL_CHECK_INTERVAL_S: Final = 1.0  # time between two looks at the log's size while no page is read


class ReadTransactions:
    """Opens read transactions, and ends those still open when the store closes."""

    def __init__(self, path: Path, commits: GroupCommit) -> None:
        self._path = path
        self.wal = path.with_name(path.name + "-wal")
        self._commits = commits
        self._open: set[DatabaseConnection] = set()

    @asynccontextmanager
    async def begin(self, view: Callable[[], T]) -> AsyncIterator[tuple[DatabaseConnection, T]]:
        """Open a connection in a read transaction; yield it with the result of `view`, called at the moment that it
        shows."""
        database = await DatabaseConnection.open(self._path, query_only=True)
        self._open.add(database)

        async def plan(_: Transaction) -> Finish[T]:
            # No other plan runs or writes now, so the file shows exactly what memory shows.
            await database.run(_begin)
            shown = view()
            return lambda: shown

        try:
            yield database, await self._commits.submit(plan)
        finally:
            self._open.discard(database)
            await database.close()

    async def close(self) -> None:
        """End all open transactions; a caller that reads on gets a StoreError."""
        for database in list(self._open):
            await database.close()


def _begin(connection: sqlite3.Connection) -> None:
    """Begin a read transaction. SQLite fixes its state at the first read, not at BEGIN."""
    connection.execute("BEGIN")
    connection.execute("SELECT seq FROM log LIMIT 1").fetchall()


class SqliteSnapshot:
    """Implements `SnapshotReader`. `context_id` is None when the context did not exist."""

    def __init__(self, database: DatabaseConnection, context_id: int | None, stamp: StateStamp, wal: Path) -> None:
        """Start the timer that ends the snapshot. `wal` is the write-ahead log that grows while it is open."""
        self._database = database
        self._wal = wal
        self._wal_bytes_before = _file_bytes(wal)
        self._context_id = context_id
        self._stamp = stamp
        self._is_over = False
        self._expiry = asyncio.create_task(self._expire(), name="snapshot expiry")

    @property
    def stamp(self) -> StateStamp:
        return self._stamp

    async def page(self, after: LeafKey | None, *, records_max: int, bytes_max: int) -> tuple[list[bytes], bool]:
        if self._is_over or self._is_wal_too_long():
            raise _over_error()
        context_id = self._context_id
        if context_id is None:
            return [], True

        def read(connection: sqlite3.Connection) -> tuple[list[bytes], bool]:
            leaves = leaves_after(connection, context_id, after)
            try:
                records, _, is_all = fit_leaves(
                    (heads for _, heads in leaves), records_max=min(records_max, BATCH_RECORDS_MAX), bytes_max=bytes_max
                )
            finally:
                leaves.close()
            return records, is_all

        try:
            return await self._database.run(read)
        except StoreError:
            if self._is_over:  # it ended while this page was read
                raise _over_error() from None
            raise

    def end(self) -> None:
        """Stop the timer; nothing is read any more."""
        self._expiry.cancel()

    def _is_wal_too_long(self) -> bool:
        return _file_bytes(self._wal) > self._wal_bytes_before + WAL_BYTES_MAX

    async def _expire(self) -> None:
        for _ in range(max(1, round(READ_TRANSACTION_S_MAX / _WAL_CHECK_INTERVAL_S))):
            await asyncio.sleep(min(_WAL_CHECK_INTERVAL_S, READ_TRANSACTION_S_MAX))
            if self._is_wal_too_long():
                break
        self._is_over = True
        await self._database.close()


def _over_error() -> SnapshotOverError:
    bounds = f"{READ_TRANSACTION_S_MAX:g} s at most, and while at most {WAL_BYTES_MAX:,} bytes are written"
    return SnapshotOverError(f"a snapshot is served for {bounds}")


def _file_bytes(wal: Path) -> int:
    return wal.stat().st_size if wal.exists() else 0
