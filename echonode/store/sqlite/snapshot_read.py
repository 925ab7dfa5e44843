"""Read transactions on connections of their own, and a snapshot of one context in such a transaction.

An open read transaction keeps SQLite from starting the write-ahead log over, and so does a chain of them that overlap.
Once the log has grown by WAL_BYTES_MAX since the first of a chain began, all of them end, whether they are being read
or not. A snapshot ends after READ_TRANSACTION_S_MAX in any case.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from echonode.errors import StoreError
from echonode.limits import BATCH_RECORDS_MAX, READ_TRANSACTION_S_MAX, WAL_BYTES_MAX
from echonode.model.record import LeafKey
from echonode.store.paging import fit_leaves
from echonode.store.port import SnapshotOverError, StateStamp
from echonode.store.sqlite.connection import WAL_BYTES_KEPT, DatabaseConnection
from echonode.store.sqlite.group_commit import Finish, GroupCommit
from echonode.store.sqlite.leaves import leaves_after
from echonode.store.sqlite.transaction import Transaction

T = TypeVar("T")

_CHECK_INTERVAL_S: Final = 1.0  # time between two looks at the log's size and at ages


class ReadTransaction:
    """One open read transaction. It ends by itself, at the latest at `ends_s` of the loop's time."""

    def __init__(self, database: DatabaseConnection, ends_s: float | None) -> None:
        self._database = database
        self.ends_s = ends_s
        self._is_over = False

    @property
    def is_open(self) -> bool:
        """True until the transaction has ended."""
        return self._database.is_open

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in the transaction. Raises StoreError, and SnapshotOverError once the transaction has ended."""
        try:
            return await self._database.run(work)
        except StoreError:
            if self._is_over:
                raise self._over_error() from None
            raise

    async def end(self, *, is_over: bool = False) -> None:
        """End the transaction, and break off what reads in it; `is_over` when it ends by one of its bounds."""
        self._is_over = self._is_over or is_over
        await self._database.close(is_cut=True)  # the check of a large file takes minutes

    def _over_error(self) -> SnapshotOverError:
        if self.ends_s is None:
            return SnapshotOverError(
                f"more than {WAL_BYTES_MAX:,} bytes were written during a long read: begin it again"
            )
        bounds = f"{READ_TRANSACTION_S_MAX:g} s at most, and while at most {WAL_BYTES_MAX:,} bytes are written"
        return SnapshotOverError(f"a snapshot is served for {bounds}")


class ReadTransactions:
    """Begins read transactions, ends them at their bounds, and ends those still open when the store closes."""

    def __init__(self, path: Path, commits: GroupCommit) -> None:
        self._path = path
        self._wal = path.with_name(path.name + "-wal")
        self._commits = commits
        self._open: set[ReadTransaction] = set()
        self._wal_bytes_before = 0  # when the first of the open transactions began
        self._watching: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    @asynccontextmanager
    async def begin(
        self, view: Callable[[], T], *, is_for_peer: bool = False
    ) -> AsyncIterator[tuple[ReadTransaction, T]]:
        """Open a connection in a read transaction; yield it with the result of `view`, called at the moment that it
        shows. For a peer it lasts for READ_TRANSACTION_S_MAX at most."""
        database = await DatabaseConnection.open(self._path, query_only=True)
        ends_s = asyncio.get_running_loop().time() + READ_TRANSACTION_S_MAX if is_for_peer else None
        transaction = ReadTransaction(database, ends_s)

        async def plan(_: Transaction) -> Finish[T]:
            # No other plan runs or writes now, so the file shows exactly what memory shows.
            if not self._open:
                await self._shorten_wal()
                self._wal_bytes_before = _file_bytes(self._wal)
            self._open.add(transaction)
            await database.run(_begin)
            shown = view()
            return lambda: shown

        try:
            shown = await self._commits.submit(plan)
            if self._watching is None:
                self._watching = asyncio.create_task(self._watch(), name="read transactions")
            yield transaction, shown
        finally:
            self._open.discard(transaction)
            await transaction.end()

    async def close(self) -> None:
        """End all open transactions; a caller that reads on gets a StoreError."""
        self._closing.set()
        if self._watching is not None:
            await asyncio.wait([self._watching])
        for transaction in list(self._open):
            await transaction.end()

    def is_wal_too_long(self) -> bool:
        """Return True when the log has grown by more than WAL_BYTES_MAX since the first open transaction began."""
        return _file_bytes(self._wal) > self._wal_bytes_before + WAL_BYTES_MAX

    async def _shorten_wal(self) -> None:
        """Fold a long log into the file while no read transaction keeps it, so that the next one finds a short log."""
        if _file_bytes(self._wal) > WAL_BYTES_KEPT:
            await self._commits.database.run(_truncate_wal)

    async def _watch(self) -> None:
        """End transactions at their bounds, for as long as there are any."""
        while self._open and not self._closing.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(min(_CHECK_INTERVAL_S, READ_TRANSACTION_S_MAX)):
                    await self._closing.wait()
            is_wal_too_long = self.is_wal_too_long()
            now_s = asyncio.get_running_loop().time()
            for transaction in list(self._open):
                if is_wal_too_long or (transaction.ends_s is not None and transaction.ends_s <= now_s):
                    await transaction.end(is_over=True)
        self._watching = None


def _truncate_wal(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _begin(connection: sqlite3.Connection) -> None:
    """Begin a read transaction. SQLite fixes its state at the first read, not at BEGIN."""
    connection.execute("BEGIN")
    connection.execute("SELECT seq FROM log LIMIT 1").fetchall()


def _file_bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


class SqliteSnapshot:
    """Implements `SnapshotReader`. `context_id` is None when the context did not exist."""

    def __init__(
        self, transaction: ReadTransaction, context_id: int | None, stamp: StateStamp, is_over: Callable[[], bool]
    ) -> None:
        """Take `is_over`, which returns True when the log that the snapshot holds up has become too long."""
        self._transaction = transaction
        self._context_id = context_id
        self._stamp = stamp
        self._is_over = is_over

    @property
    def stamp(self) -> StateStamp:
        return self._stamp

    async def page(self, after: LeafKey | None, *, records_max: int, bytes_max: int) -> tuple[list[bytes], bool]:
        if self._is_over():
            await self._transaction.end(is_over=True)
        context_id = self._context_id

        def read(connection: sqlite3.Connection) -> tuple[list[bytes], bool]:
            if context_id is None:
                return [], True
            leaves = leaves_after(connection, context_id, after)
            try:
                records, _, is_all = fit_leaves(
                    (heads for _, heads in leaves), records_max=min(records_max, BATCH_RECORDS_MAX), bytes_max=bytes_max
                )
            finally:
                leaves.close()
            return records, is_all

        return await self._transaction.run(read)
