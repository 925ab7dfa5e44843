"""Read transactions on connections of their own, and one context as such a transaction shows it.

A read transaction keeps the write-ahead log from being folded into the file, so a snapshot is bounded in age and in
what may be written meanwhile: it ends after READ_TRANSACTION_S_MAX, or when the log has grown by WAL_BYTES_MAX, whether
or not somebody still reads from it.
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
from echonode.store.paging import fit
from echonode.store.port import SnapshotOverError, StateStamp
from echonode.store.sqlite.connection import Database
from echonode.store.sqlite.group_commit import Finish, Writer
from echonode.store.sqlite.transaction import Transaction, leaves_after

T = TypeVar("T")

_LOOK_S: Final = 1.0  # how often the log's size is looked at while nobody reads


class ReadTransactions:
    """Opens them, and ends those still open when the store closes."""

    def __init__(self, path: Path, writer: Writer) -> None:
        self._path = path
        self.log = path.with_name(path.name + "-wal")
        self._writer = writer
        self._open: set[Database] = set()

    @asynccontextmanager
    async def begin(self, view: Callable[[], T]) -> AsyncIterator[tuple[Database, T]]:
        """A connection in a read transaction, and what `view` gave at the moment that the transaction shows."""
        database = await Database.open(self._path, query_only=True)
        self._open.add(database)

        async def plan(_: Transaction) -> Finish[T]:
            # The writer stands here and does not write: what the file shows is what memory shows.
            await database.run(_begin)
            seen = view()
            return lambda: seen

        try:
            yield database, await self._writer.submit(plan)
        finally:
            self._open.discard(database)
            await database.close()

    async def close(self) -> None:
        """End all that are open; whoever reads on gets a StoreError."""
        for database in list(self._open):
            await database.close()


def _begin(connection: sqlite3.Connection) -> None:
    """SQLite fixes what a transaction shows at its first look at the file, not at BEGIN."""
    connection.execute("BEGIN")
    connection.execute("SELECT seq FROM log LIMIT 1").fetchall()


class SqliteSnapshot:
    """Implements SnapshotReader. `shelf_id` is None when the context did not exist."""

    def __init__(self, database: Database, shelf_id: int | None, stamp: StateStamp, log: Path) -> None:
        """`log`: the file that writes go to while this is open."""
        self._database = database
        self._log = log
        self._log_bytes = _size(log)
        self._shelf_id = shelf_id
        self._stamp = stamp
        self._is_over = False
        self._expiry = asyncio.create_task(self._expire(), name="snapshot expiry")

    @property
    def stamp(self) -> StateStamp:
        return self._stamp

    async def page(self, after: LeafKey | None, *, records_max: int, bytes_max: int) -> tuple[list[bytes], bool]:
        if self._is_over or self._holds_up_much():
            raise _over()
        shelf_id = self._shelf_id
        if shelf_id is None:
            return [], True

        def read(connection: sqlite3.Connection) -> tuple[list[bytes], bool]:
            leaves = leaves_after(connection, shelf_id, after)
            try:
                records, _, is_all = fit(
                    (heads for _, heads in leaves), records_max=min(records_max, BATCH_RECORDS_MAX), bytes_max=bytes_max
                )
            finally:
                leaves.close()
            return records, is_all

        try:
            return await self._database.run(read)
        except StoreError:
            if self._is_over:  # while it was being read
                raise _over() from None
            raise

    def end(self) -> None:
        """Nobody reads on."""
        self._expiry.cancel()

    def _holds_up_much(self) -> bool:
        return _size(self._log) > self._log_bytes + WAL_BYTES_MAX

    async def _expire(self) -> None:
        for _ in range(max(1, round(READ_TRANSACTION_S_MAX / _LOOK_S))):
            await asyncio.sleep(min(_LOOK_S, READ_TRANSACTION_S_MAX))
            if self._holds_up_much():
                break
        self._is_over = True
        await self._database.close()


def _over() -> SnapshotOverError:
    bounds = f"{READ_TRANSACTION_S_MAX:g} s at most, and while at most {WAL_BYTES_MAX:,} bytes are written"
    return SnapshotOverError(f"a snapshot is served for {bounds}")


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0
