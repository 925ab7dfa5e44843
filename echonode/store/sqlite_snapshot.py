"""Read transactions on connections of their own, and one context as such a transaction shows it.

A read transaction keeps the write-ahead log from being folded into the file, so a snapshot's age is bounded: it ends
after READ_TRANSACTION_S_MAX whether or not somebody still reads from it.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from echonode.errors import StoreError
from echonode.limits import BATCH_RECORDS_MAX, READ_TRANSACTION_S_MAX
from echonode.model.record import LeafKey
from echonode.store.paging import fit
from echonode.store.port import StateStamp
from echonode.store.sqlite_database import Database
from echonode.store.sqlite_rows import Transaction, leaves_after
from echonode.store.sqlite_writer import Finish, Writer

T = TypeVar("T")


class ReadTransactions:
    """Opens them, and ends those still open when the store closes."""

    def __init__(self, path: Path, writer: Writer) -> None:
        self._path = path
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

    def __init__(self, database: Database, shelf_id: int | None, stamp: StateStamp) -> None:
        self._database = database
        self._shelf_id = shelf_id
        self._stamp = stamp
        self._is_over = False
        self._expiry = asyncio.create_task(self._expire(), name="snapshot expiry")

    @property
    def stamp(self) -> StateStamp:
        return self._stamp

    async def page(self, after: LeafKey | None, *, records_max: int, bytes_max: int) -> tuple[list[bytes], bool]:
        if self._is_over:
            raise StoreError(f"a snapshot is served for {READ_TRANSACTION_S_MAX:g} s at most")
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

        return await self._database.run(read)

    def end(self) -> None:
        """Nobody reads on."""
        self._expiry.cancel()

    async def _expire(self) -> None:
        await asyncio.sleep(READ_TRANSACTION_S_MAX)
        self._is_over = True
        await self._database.close()
