"""A SQLite store in a file, opened and closed around a test."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from echonode.model.identity import Instance
from echonode.store.sqlite.store import SqliteStore
from tests.store.people import NOW_MS

T = TypeVar("T")

INSTANCE = Instance(b"instance")
_WAL_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24


async def open_store(path: Path, now_ms: int = NOW_MS) -> SqliteStore:
    return await SqliteStore.open(path, new_instance=lambda: INSTANCE, now_ms=lambda: now_ms)


@asynccontextmanager
async def opened(path: Path, now_ms: int = NOW_MS) -> AsyncIterator[SqliteStore]:
    store = await open_store(path, now_ms)
    try:
        yield store
    finally:
        await store.close()


def run(coroutine: Coroutine[Any, Any, T], timeout_s: float = 60) -> T:
    """Run `coroutine` to its end. Only a hang takes `timeout_s`."""

    async def bounded() -> T:
        async with asyncio.timeout(timeout_s):
            return await coroutine

    return asyncio.run(bounded())


@contextmanager
def no_thread_stays() -> Iterator[None]:
    """Check that every thread begun inside has ended afterwards; a forgotten one would keep a process from ending."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=10)
        assert not thread.is_alive(), thread


@contextmanager
def unprivileged() -> Iterator[None]:
    """Become the user nobody for a while, because file permissions mean nothing to root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def look(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """Return the rows that a connection outside the store reads."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def change(path: Path, *statements: str) -> None:
    """Write into the file past the store, which is closed."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


# A store of the present schema becomes one of schema 6 by these.
SCHEMA_6 = (
    "ALTER TABLE writers RENAME TO writers_7",
    "CREATE TABLE writers (key BLOB NOT NULL, instance BLOB NOT NULL, counter BLOB NOT NULL,"
    " PRIMARY KEY (key, instance)) STRICT, WITHOUT ROWID",
    "INSERT INTO writers SELECT key, instance, counter FROM writers_7",
    *("DROP TABLE writers_7", "DROP TABLE own", "DROP TABLE forks"),
    "PRAGMA user_version = 6",
)
# One of schema 5 by these.
SCHEMA_5 = (
    *SCHEMA_6,
    "DROP INDEX log_leaf",
    "ALTER TABLE log RENAME TO log_6",
    "CREATE TABLE log (seq INTEGER PRIMARY KEY AUTOINCREMENT, context INTEGER NOT NULL, key BLOB NOT NULL,"
    " id BLOB NOT NULL, bytes BLOB NOT NULL) STRICT",
    "INSERT INTO log SELECT seq, context, key, id, bytes FROM log_6",
    "DROP TABLE log_6",
    "CREATE UNIQUE INDEX log_leaf ON log (context, key, id)",
    "CREATE INDEX log_order ON log (context)",
    "ALTER TABLE contexts ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0",
    "UPDATE contexts SET bytes = (SELECT ifnull(sum(length(bytes)), 0) FROM log WHERE context = contexts.id)",
    "PRAGMA user_version = 5",
)


def places(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield each place of live data in the file: its meaning, its offset, its length. Keys and ids are in the index
    too."""
    data = path.read_bytes()
    for seq, key, version, raw in look(path, "SELECT seq, key, id, bytes FROM log"):
        for what, piece in (("key", key), ("id", version), ("bytes", raw[:2000])):
            at = data.find(piece)
            while at >= 0:
                yield f"{what} of {seq}", at, len(piece)
                at = data.find(piece, at + 1)


def flip(path: Path, bit: int) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def commits(path: Path) -> int:
    """Return how many transactions the write-ahead log of `path` holds: its commit frames (SQLite file format,
    §4.1)."""
    wal = Path(f"{path}-wal").read_bytes()
    page_bytes = int.from_bytes(wal[8:12], "big")
    salts = wal[16:24]
    count = 0
    for at in range(_WAL_HEADER_BYTES, len(wal), _FRAME_HEADER_BYTES + page_bytes):
        if wal[at + 8 : at + 16] == salts:
            count += wal[at + 4 : at + 8] != bytes(4)
    return count
