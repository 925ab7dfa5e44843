"""Read transactions end at their bounds, idle or not, and the write-ahead log starts over afterwards."""

import asyncio
import os
import sqlite3
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from echonode import limits
from echonode.errors import StoreError
from echonode.model.record import IDENTITIES, MAIN
from echonode.store.port import SnapshotOverError
from echonode.store.sqlite import connection, snapshot_read
from echonode.store.sqlite.store import SqliteStore
from tests.store.files import opened, run
from tests.store.people import Owner

BOUND = 400_000


@pytest.fixture(autouse=True)
def _small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_read, "WAL_BYTES_MAX", BOUND)
    monkeypatch.setattr(snapshot_read, "_CHECK_INTERVAL_S", 0.01)


def wal_bytes(path: Path) -> int:
    return os.stat(f"{path}-wal").st_size


async def is_wal_held(store: SqliteStore) -> bool:
    """Return True when a reader keeps the log from starting over."""
    rows = await store._commits.database.run(
        lambda raw: (
            raw.execute("PRAGMA busy_timeout = 0").fetchall()
            + raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        )
    )
    return bool(rows[-1][0])


async def write_until(store: SqliteStore, owner: Owner, path: Path, wal_bytes_wanted: int) -> None:
    """Write until the log has at least this size; one write adds some 16 kB."""
    while wal_bytes(path) < wal_bytes_wanted:
        await owner.put("a", os.urandom(4000))


async def until_over(store: SqliteStore) -> None:
    """Wait until no read transaction is open any more."""
    async with asyncio.timeout(20):
        while any(each.is_open for each in store._read_transactions._open):  # noqa: ASYNC110  there is no event
            await asyncio.sleep(0.01)


def test_an_idle_reader_below_the_bound_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def go() -> None:
        async with opened(path) as store:
            owner = Owner(store)
            await owner.begin()
            async with store.snapshot(IDENTITIES) as snapshot:
                await write_until(store, owner, path, BOUND // 2)
                await asyncio.sleep(0.1)  # ten looks at the log
                assert await is_wal_held(store)
                assert len((await snapshot.page(None, records_max=9, bytes_max=9999))[0]) == 1

    run(go())


def test_an_idle_reader_holds_the_log_up_to_the_bound_and_no_further(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def go() -> None:
        async with opened(path) as store:
            owner = Owner(store)
            await owner.begin()
            async with store.snapshot(IDENTITIES) as snapshot:
                await write_until(store, owner, path, BOUND + 100_000)
                await until_over(store)
                assert not await is_wal_held(store)
                with pytest.raises(SnapshotOverError, match="400,000 bytes are written"):
                    await snapshot.page(None, records_max=9, bytes_max=9999)

    run(go())


def test_a_paused_audit_holds_the_log_no_further_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def go() -> None:
        async with opened(path) as store:
            owner = Owner(store)
            await owner.begin()
            audit = store.audit()
            await anext(audit)
            await write_until(store, owner, path, BOUND + 100_000)
            await until_over(store)
            assert not await is_wal_held(store)
            with pytest.raises(SnapshotOverError, match="more than 400,000 bytes were written during a long read"):
                async for _ in audit:
                    pass

    run(go())


def test_readers_that_overlap_hold_the_log_no_longer_than_one(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def go() -> None:
        async with opened(path) as store, AsyncExitStack() as stack:
            owner = Owner(store)
            await owner.begin()
            first = await stack.enter_async_context(store.snapshot(MAIN))
            await write_until(store, owner, path, BOUND - 50_000)
            second = await stack.enter_async_context(store.snapshot(MAIN))
            await write_until(store, owner, path, BOUND + 100_000)
            await until_over(store)
            for snapshot in (first, second):
                with pytest.raises(SnapshotOverError):
                    await snapshot.page(None, records_max=9, bytes_max=9999)
            assert not await is_wal_held(store)

    run(go())


def test_a_reader_that_begins_with_a_long_log_begins_with_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_read, "WAL_BYTES_KEPT", BOUND)
    path = tmp_path / "store.db"

    async def go() -> None:
        async with opened(path) as store:
            owner = Owner(store)
            await owner.begin()
            await write_until(store, owner, path, BOUND + 100_000)
            async with store.snapshot(MAIN) as snapshot:
                assert wal_bytes(path) == 0
                assert len((await snapshot.page(None, records_max=9, bytes_max=9999))[0]) == 1

    run(go())


def test_a_snapshot_ends_by_its_age_and_an_audit_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_read, "READ_TRANSACTION_S_MAX", 0.2)

    async def go() -> None:
        async with opened(tmp_path / "store.db") as store:
            await Owner(store).begin()
            audit = store.audit()
            await anext(audit)
            async with store.snapshot(IDENTITIES) as snapshot:
                assert len((await snapshot.page(None, records_max=9, bytes_max=9999))[0]) == 1
                await asyncio.sleep(0.5)
                with pytest.raises(SnapshotOverError, match=r"0\.2 s at most"):
                    await snapshot.page(None, records_max=9, bytes_max=9999)
            assert [total.problems async for total in audit][-1] == ()

    run(go())


def test_closing_a_store_with_an_open_snapshot_does_not_wait_for_its_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_read, "_CHECK_INTERVAL_S", 3600.0)

    async def go() -> None:
        async with opened(tmp_path / "store.db") as store:
            await Owner(store).begin()
            async with store.snapshot(IDENTITIES) as snapshot:
                await store.close()
                with pytest.raises(StoreError, match="closed"):
                    await snapshot.page(None, records_max=9, bytes_max=9999)

    run(go(), timeout_s=20)


def test_the_log_that_is_kept_between_readers_is_shorter_than_the_bound() -> None:
    assert connection.WAL_BYTES_KEPT < limits.WAL_BYTES_MAX


def test_a_store_closes_in_the_midst_of_a_long_statement_of_a_reader(tmp_path: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"

    async def go() -> None:
        async with opened(tmp_path / "store.db") as store:
            began = asyncio.Event()
            loop = asyncio.get_running_loop()

            def read(raw: sqlite3.Connection) -> None:
                loop.call_soon_threadsafe(began.set)
                raw.execute(endless).fetchall()

            async with store._read_transactions.begin(lambda: None) as (transaction, _):
                reading = asyncio.create_task(transaction.run(read))
                await began.wait()
                await asyncio.sleep(0.05)  # it is in the statement
                await transaction.end()
                with pytest.raises(StoreError):
                    await reading

    run(go())
