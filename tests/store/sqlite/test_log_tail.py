"""SqliteStore's log tail: the newest entries of the log are told from memory."""

from pathlib import Path

import pytest

from echonode.errors import StoreError
from echonode.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX
from echonode.model.record import MAIN
from echonode.store.port import Change
from echonode.store.sqlite.store import SqliteStore
from tests.store.files import opened, run
from tests.store.people import Owner


async def told(store: SqliteStore, after: int) -> tuple[list[Change], int]:
    return await store.changes(MAIN, after, records_max=10 * BATCH_RECORDS_MAX, bytes_max=1 << 30)


async def told_without_disk(store: SqliteStore, after: int) -> tuple[list[Change], int]:
    """Return what `told` does while nothing can be read from the disk."""
    store._reader.is_open = False
    try:
        return await told(store, after)
    finally:
        store._reader.is_open = True


def test_entries_behind_the_first_read_come_from_memory(tmp_path: Path) -> None:
    async def go() -> None:
        async with opened(tmp_path / "store.db") as store:
            owner = Owner(store)
            await owner.begin()
            await owner.put("one")
            with pytest.raises(StoreError, match="closed"):
                await told_without_disk(store, 0)
            one = store.seq(MAIN)
            assert await told_without_disk(store, one) == ([], one)
            versions = [await owner.put(name) for name in ("two", "three", "two")]
            entries, upto = await told_without_disk(store, one)
            assert [entry.version for entry in entries] == [versions[1].id, versions[2].id]  # the first is superseded
            assert upto == entries[-1].seq == store.seq(MAIN)
            assert (entries, upto) == await store.changes(MAIN, one, records_max=9, bytes_max=1 << 20)
            assert await told_without_disk(store, entries[0].seq) == (entries[1:], upto)
            assert [entry.version for entry in (await told(store, 0))[0]][1:] == [entry.version for entry in entries]

    run(go())


@pytest.mark.parametrize(
    ("batches", "records", "body", "kept"),
    [
        (3, BATCH_RECORDS_MAX // 2, b"x", BATCH_RECORDS_MAX),
        (12, 1, bytes(BATCH_BYTES_MAX // 8), 7),
    ],
)
def test_the_tail_is_bounded(tmp_path: Path, batches: int, records: int, body: bytes, kept: int) -> None:
    async def go() -> None:
        async with opened(tmp_path / "store.db") as store:
            owner = Owner(store)
            await owner.begin()
            await told(store, 0)
            for batch in range(batches):
                await owner.write(*[owner.draft(f"{batch}/{number}", body=body) for number in range(records)])
                await told(store, store.seq(MAIN))
            entries, _ = await told(store, 0)
            assert len(entries) == batches * records
            for after in entries[-kept - 1 :: 97]:
                newer = await told_without_disk(store, after.seq)
                assert newer == ([entry for entry in entries if entry.seq > after.seq], entries[-1].seq)
            with pytest.raises(StoreError, match="closed"):
                await told_without_disk(store, entries[-kept - 2].seq)

    run(go())


def test_a_bulk_that_nobody_reads_ends_the_tail(tmp_path: Path) -> None:
    async def go() -> None:
        async with opened(tmp_path / "store.db") as store:
            owner = Owner(store)
            await owner.begin()
            await told(store, 0)
            for batch in range(2):
                await owner.write(*[owner.draft(f"{batch}/{number}") for number in range(BATCH_RECORDS_MAX)])
            assert store._tail._tails.keys() == set()
            assert len((await told(store, 0))[0]) == 2 * BATCH_RECORDS_MAX

    run(go())
