"""How a SqliteStore writes: many calls in one transaction, and what happens when the disk will not have it."""

import asyncio
import os
import resource
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from echonode.clock import Timestamp
from echonode.errors import StoreError
from echonode.limits import BATCH_RECORDS_MAX, HISTORY_DAYS, STORE_CALLS_WAITING_MAX
from echonode.model.keys import KeyState
from echonode.model.merkle import Digest
from echonode.model.record import IDENTITIES, MAIN, Record
from tests.contracts.store import admit, ids, root_of, verdict_of
from tests.store.files import commits, look, opened, run
from tests.store.people import NOW_MS, Owner, Person


def test_writes_that_wait_together_are_one_transaction(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def go() -> None:
        async with opened(path) as store:
            owner = Owner(store)
            await owner.begin()
            before = commits(path)
            versions = await asyncio.gather(*(owner.put(f"n{number}") for number in range(200)))
            # The first goes alone, as nothing waits behind it yet; then all that STORE_CALLS_WAITING_MAX lets in.
            assert commits(path) - before <= 2 * (200 // STORE_CALLS_WAITING_MAX) + 2
            assert await ids(store) == [version.id for version in versions]

    run(go())


def test_a_group_is_bounded_in_records(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def go() -> None:
        async with opened(path) as store:
            owner = Owner(store)
            await owner.begin()
            before = commits(path)
            batches = [[owner.draft(f"{batch}/{number}") for number in range(BATCH_RECORDS_MAX)] for batch in range(8)]
            await asyncio.gather(*(owner.write(*batch) for batch in batches))
            assert 2 <= commits(path) - before <= 4
            assert len(store.tree(MAIN)) == 8 * BATCH_RECORDS_MAX

    run(go())


def test_what_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def go() -> None:
        async with opened(path) as store:
            owner, person = Owner(store), Person(2)
            await owner.begin()
            await admit(store, person)
            version = person.version("a")
            await store.apply(MAIN, [version])
            await owner.put("b")
            before = commits(path)
            await store.apply(MAIN, [version])
            await owner.write(owner.draft("b"), skip_unchanged=True)
            await store.promote(MAIN, expected=Digest(bytes(32)))
            async with store.snapshot(MAIN):
                pass
            assert commits(path) == before

    run(go())


def test_a_later_call_of_a_group_sees_what_the_earlier_ones_did(tmp_path: Path) -> None:
    async def go() -> None:
        async with opened(tmp_path / "store.db") as store:
            one, two = Person(2), Person(3)
            await admit(store, one, two)
            await store.apply(IDENTITIES, [one.statement(key=two.device.public)])
            first = one.version("a", b"first")
            left, right = one.version("a", b"left", [first]), two.version("a", b"right", [first], author=one.id)
            both = one.version("a", b"both", [left, right])
            calls = [store.apply(MAIN, [version]) for version in (first, left, right, left, both, first)]
            outcomes = await asyncio.gather(store.apply(MAIN, []), *calls)
            assert [len(applied.records) for applied in outcomes] == [0, 1, 1, 1, 0, 1, 0]
            assert [applied.had for applied in outcomes] == [0, 0, 0, 0, 1, 0, 1]
            assert await ids(store) == [both.id]
            # What was a head between two calls was one, and returns when what superseded it becomes void.
            third = two.version("a", b"third", [both], author=one.id)
            await asyncio.gather(store.apply(MAIN, []), store.apply(MAIN, [third]))
            await store.apply(IDENTITIES, [one.statement(KeyState.COMPROMISED, two.device.public)])
            assert await ids(store) == [both.id]

    run(go())


def test_readers_do_not_wait_for_the_writer_nor_see_half_of_a_batch(tmp_path: Path) -> None:
    async def go() -> None:
        async with opened(tmp_path / "store.db") as store:
            owner = Owner(store)
            await owner.begin()
            done = asyncio.Event()
            counts: set[int] = set()

            async def write() -> None:
                for batch in range(20):
                    await owner.write(*(owner.draft(f"{batch}/{number}") for number in range(50)))
                done.set()

            async def read() -> None:
                while not done.is_set():
                    async with store.snapshot(MAIN) as snapshot:
                        records, _ = await snapshot.page(None, records_max=1000, bytes_max=1 << 30)
                        assert len(records) == snapshot.stamp.count
                        counts.add(len(records))
                    found, _ = await store.scan(MAIN, 0, limit=5000)
                    assert len(found) % 50 == 0

            await asyncio.gather(write(), read(), read())
            assert all(count % 50 == 0 for count in counts)

    run(go())


def test_below_the_free_space_floor_writes_are_refused_and_reads_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        async with opened(tmp_path / "store.db") as store:
            owner = Owner(store)
            with monkeypatch.context() as patch:
                patch.setattr("echonode.store.sqlite_writer.FREE_SPACE_BYTES_MIN", 1 << 62)
                with pytest.raises(StoreError, match="disk nearly full"):
                    await owner.begin()
                assert await store.pins() == {}
                async with store.snapshot(MAIN) as snapshot:
                    assert snapshot.stamp.count == 0
            await owner.begin()
            await owner.put("a")
            assert len(store.tree(MAIN)) == 1

    run(go())


def test_a_failed_write_is_the_end_of_the_store_until_it_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def go() -> None:
        async with opened(path) as store:
            owner = Owner(store)
            await owner.begin()
            first = await owner.put("first")
            root, seq = store.tree(MAIN).root, store.seq(MAIN)
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
            try:
                with pytest.raises(StoreError, match="fails"):
                    await owner.write(*(owner.draft(f"n{number}", bytes(150_000)) for number in range(20)))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            with pytest.raises(StoreError, match="fails"):
                await owner.put("after")
            assert (store.tree(MAIN).root, store.seq(MAIN)) == (root, seq)
            assert await ids(store) == [first.id]
        async with opened(path) as store:
            assert await ids(store) == [first.id]
            assert (await Owner(store).put("after")).counter == first.counter + 1
            assert (await verdict_of(store)).problems == ()

    run(go())


def test_a_lock_held_by_somebody_else_delays_and_then_refuses_one_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.db"
    monkeypatch.setattr("echonode.store.sqlite_database._BUSY_TIMEOUT_S", 0.05)

    async def go() -> None:
        async with opened(path) as store:
            owner = Owner(store)
            await owner.begin()
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(StoreError, match="locked by another process"):
                    await owner.put("a")
                other.execute("ROLLBACK")
            assert (await owner.put("a")).counter == 2

    run(go())


def test_a_bug_in_one_call_is_that_callers_alone(tmp_path: Path) -> None:
    async def go() -> None:
        async with opened(tmp_path / "store.db") as store:
            owner = Owner(store)
            await owner.begin()

            def broken() -> Timestamp:
                raise ZeroDivisionError

            outcomes = await asyncio.gather(
                owner.put("a"),
                store.write([owner.draft("b")], owner.identity.device, broken),
                owner.put("c"),
                return_exceptions=True,
            )
            assert [type(outcome) for outcome in outcomes] == [Record, ZeroDivisionError, Record]
            assert len(store.tree(MAIN)) == 2

    run(go())


def test_what_is_superseded_is_kept_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"

    async def edit(times: int, now_ms: int) -> None:
        async with opened(path, now_ms) as store:
            owner = Owner(store)
            await owner.begin()
            for number in range(times):
                await owner.put("a", bytes([number]))

    run(edit(20, NOW_MS))
    assert look(path, "SELECT count(*) FROM history WHERE context > 1") == [(19,)]
    # Each edit lets go of two that are too old, so ten more leave none of them.
    run(edit(10, NOW_MS + (HISTORY_DAYS + 1) * 24 * 3600 * 1000))
    assert look(path, f"SELECT count(*) FROM history WHERE superseded_ms = {NOW_MS}") == [(0,)]
    monkeypatch.setattr("echonode.store.sqlite_rows.HISTORY_ROWS_MAX", 5)
    run(edit(20, NOW_MS))
    assert look(path, "SELECT count(*) FROM history") == [(5,)]


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
    monkeypatch.setattr("echonode.store.sqlite_snapshot.READ_TRANSACTION_S_MAX", 0.05)

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
            await store.pin("name", "a", Person(1).id)  # time enough for a fifth, were it let in
            assert entered.empty()
            leave[first[0]].set()
            assert await entered.get() not in first
            for event in leave:
                event.set()
            await asyncio.gather(*tasks)

    run(go())
