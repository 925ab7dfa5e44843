"""Snapshots on disk: staging, the deletion of leftovers, and the end of read transactions."""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from echonode.errors import StoreError
from echonode.model.merkle import Digest, Tree
from echonode.model.record import IDENTITIES, MAIN, Record
from echonode.store.port import SnapshotOverError
from tests.contracts.store import admit, ids, root_of, verdict_of
from tests.store.files import change, commits, look, opened, run
from tests.store.people import Owner, Person, known


def test_what_is_left_of_a_snapshot_is_deleted_when_there_is_time(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def staged(person: Person) -> list[Record]:
        return sorted((person.version(f"n{number}") for number in range(1300)), key=lambda record: record.key)

    async def until_gone() -> None:
        while look(path, "SELECT count(*) FROM contexts WHERE name IS NULL") != [(0,)]:  # noqa: ASYNC110 it is in a file
            await asyncio.sleep(0)

    async def go() -> None:
        async with opened(path) as store:
            person = Person(2)
            await admit(store, person)
            versions = await staged(person)
            await store.stage(MAIN, Digest(bytes(32)), versions)
            await store.stage(MAIN, root_of(*([version] for version in versions)), versions)
            await store.promote(MAIN, expected=Digest(bytes(32)))
            await until_gone()
            assert look(path, "SELECT count(*) FROM log") == [(1,)]
            await store.stage(MAIN, Digest(bytes(32)), versions)
            await store.promote(MAIN, expected=Digest(bytes(32)))
        assert look(path, "SELECT count(*) FROM contexts WHERE name IS NULL") == [(1,)]
        async with opened(path) as store:
            await until_gone()
            assert (await verdict_of(store)).problems == ()

    run(go())


def test_a_staged_snapshot_goes_on_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    person = Person(2)
    versions = sorted((person.version(f"n{number}") for number in range(100)), key=lambda record: record.key)
    root = root_of(*([version] for version in versions))

    async def go() -> None:
        async with opened(path) as store:
            await admit(store, person)
            await store.stage(MAIN, root, versions[:60])
            before = store.staged(MAIN)
        async with opened(path) as store:
            assert store.staged(MAIN) == before
            assert store.contexts() == (IDENTITIES,)
            assert (await verdict_of(store)).problems == ()
            await store.stage(MAIN, root, versions[60:])
            frames = commits(path)
            assert await store.promote(MAIN, expected=root) is not None
            assert commits(path) == frames + 1
        async with opened(path) as store:
            assert store.tree(MAIN).root == root
            assert await ids(store) == [version.id for version in versions]
            assert (await verdict_of(store)).problems == ()

    run(go())


def test_a_snapshot_without_records_gives_no_seq_again_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    nothing = Tree().root

    async def go() -> None:
        async with opened(path) as store:
            owner = Owner(store)
            await owner.begin()
            gone = await owner.put("gone")
            assert await store.forget(MAIN, [gone.key], lambda _: False) == 1
            before = store.seq(MAIN)
            await store.stage(MAIN, nothing, [])
        async with opened(path) as store:
            await store.stage(MAIN, nothing, [])
            applied = await store.promote(MAIN, expected=nothing)
            assert applied is not None and applied.shown == 0
            assert store.seq(MAIN) >= before
        async with opened(path) as store:
            new = await Owner(store).put("new")
            assert [head.id for head in (await store.scan(MAIN, before, limit=9))[0]] == [new.id]

    run(go())


def test_naming_a_staged_context_writes_a_page_or_two_however_much_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    person = Person(2)
    versions = sorted((person.version(f"n{number}") for number in range(2000)), key=lambda record: record.key)
    root = root_of(*([version] for version in versions))

    async def go() -> None:
        async with opened(path) as store:
            await admit(store, person)
            await store.stage(MAIN, root, versions)
            before = os.stat(f"{path}-wal").st_size
            assert await store.promote(MAIN, expected=root) is not None
            assert os.stat(f"{path}-wal").st_size - before < 10 * 4200

    run(go())


def test_a_snapshot_ends_when_it_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echonode.store.sqlite.snapshot_read.READ_TRANSACTION_S_MAX", 0.05)

    async def go() -> None:
        async with opened(tmp_path / "store.db") as store:
            await Owner(store).begin()
            async with store.snapshot(IDENTITIES) as snapshot:
                with pytest.raises(StoreError, match=r"at most|closed"):
                    while True:
                        assert len((await snapshot.page(None, records_max=10, bytes_max=1000))[0]) == 1
                with pytest.raises(StoreError, match=r"0\.05 s at most"):
                    await snapshot.page(None, records_max=10, bytes_max=1000)

    run(go())


def test_a_snapshot_ends_when_much_was_written_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echonode.store.sqlite.snapshot_read.WAL_BYTES_MAX", 100_000)

    async def go() -> None:
        async with opened(tmp_path / "store.db") as store:
            owner = Owner(store)
            await owner.begin()
            async with store.snapshot(MAIN) as snapshot:
                await snapshot.page(None, records_max=10, bytes_max=1000)
                for number in range(4):
                    await owner.put(f"n{number}", b"x" * 50_000)
                with pytest.raises(SnapshotOverError, match=r"100,000 bytes"):
                    await snapshot.page(None, records_max=10, bytes_max=1000)
            async with store.snapshot(MAIN) as again:
                assert (await again.page(None, records_max=10, bytes_max=1 << 20))[1]

    run(go())


def test_no_more_than_a_handful_of_snapshots_are_served_at_once(tmp_path: Path) -> None:
    async def go() -> None:
        async with opened(tmp_path / "store.db") as store:
            leave = [asyncio.Event() for _ in range(6)]
            entered: asyncio.Queue[int] = asyncio.Queue()

            async def hold(number: int) -> None:
                async with store.snapshot(MAIN):
                    entered.put_nowait(number)
                    await leave[number].wait()

            tasks = [asyncio.create_task(hold(number)) for number in range(6)]
            first = [await entered.get() for _ in range(4)]
            await store.save_peer(known("a", Person(1).id))  # a fifth, if it were let in, would have entered meanwhile
            assert entered.empty()
            leave[first[0]].set()
            assert await entered.get() not in first
            for event in leave:
                event.set()
            await asyncio.gather(*tasks)

    run(go())


def test_a_large_snapshot_is_merged_in_batches(tmp_path: Path) -> None:
    async def go() -> None:
        async with opened(tmp_path / "store.db") as store:
            one, two = Person(2), Person(3)
            await admit(store, one, two)
            await store.apply(IDENTITIES, [one.statement(key=two.device.public)])
            leaves = [[one.version(f"n{number}")] for number in range(2500)]
            for leaf in leaves[::3]:
                leaf.append(two.version(leaf[0].name, b"twin", author=one.id))
            leaves.sort(key=lambda leaf: leaf[0].key)
            root = root_of(*leaves)
            await store.stage(MAIN, root, [head for leaf in leaves for head in leaf])
            ours = one.version("ours")
            await store.apply(MAIN, [ours])
            await store.promote(MAIN, expected=root)
            assert store.tree(MAIN).root == root_of([ours], *leaves)
            assert len(store.conflicts(MAIN)) == len(leaves[::3])
            assert (await verdict_of(store)).problems == ()

    run(go())


@pytest.mark.parametrize("is_dropped", [False, True])
def test_a_writers_latest_version_is_found_where_it_went_from_a_snapshot(tmp_path: Path, is_dropped: bool) -> None:
    path = tmp_path / "store.db"

    async def go() -> None:
        async with opened(path) as store:
            one, two = Person(2), Person(3)
            await admit(store, one, two)
            await store.apply(MAIN, [two.version("here already")])
            latest = one.version("a")
            await store.stage(MAIN, root_of([latest]), [latest])
            await store.promote(MAIN, expected=Digest(bytes(32)) if is_dropped else None)
            await store.apply(MAIN, [latest])
            while look(path, "SELECT count(*) FROM contexts WHERE name IS NULL") != [(0,)]:  # noqa: ASYNC110 in a file
                await asyncio.sleep(0)
            assert store.bytes_of_latest(one.device.public, one.instance) == latest.raw
            await store.forget(MAIN, [latest.key], lambda _: False)
            assert store.bytes_of_latest(one.device.public, one.instance) is None

    run(go())


def test_what_cannot_be_deleted_now_is_deleted_after_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.db"
    monkeypatch.setattr("echonode.store.sqlite.connection.BUSY_TIMEOUT_S", 0.01)

    async def go() -> None:
        async with opened(path) as store:
            person = Person(2)
            await admit(store, person)
            versions = sorted((person.version(f"n{number}") for number in range(5)), key=lambda record: record.key)
            await store.stage(MAIN, Digest(bytes(32)), versions)
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                # The lock is taken after the promotion is durable, and held over the deletion.
                await store.promote(MAIN, expected=Digest(bytes(32)))
                other.execute("BEGIN IMMEDIATE")
                async with store.snapshot(MAIN):  # the queue has run once
                    pass
                other.execute("ROLLBACK")
        async with opened(path):
            while look(path, "SELECT count(*) FROM contexts WHERE name IS NULL") != [(0,)]:  # noqa: ASYNC110 in a file
                await asyncio.sleep(0)

    run(go())


def test_a_failure_to_delete_what_is_left_over_ends_the_store_too(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def go() -> None:
        async with opened(path) as store:
            person = Person(2)
            await admit(store, person)
            await store.stage(MAIN, Digest(bytes(32)), [person.version("a")])
            change(path, "CREATE TRIGGER stuck BEFORE DELETE ON log BEGIN SELECT raise(ABORT, 'stuck'); END")
            await store.promote(MAIN, expected=Digest(bytes(32)))
            with pytest.raises(StoreError, match="stuck"):
                while True:
                    await store.save_peer(known("a", person.id))

    run(go())
