"""SqliteStore's writing: many calls in one transaction, and what happens when the disk fails or is full."""

import asyncio
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
from echonode.store.sqlite.connection import DatabaseConnection, NothingWrittenError, to_store_error
from tests.contracts.store import admit, ids, verdict_of
from tests.store.files import change, commits, look, no_thread_stays, opened, run
from tests.store.people import NOW_MS, Owner, Person, known


def test_writes_that_wait_together_are_one_transaction(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def go() -> None:
        async with opened(path) as store:
            owner = Owner(store)
            await owner.begin()
            before = commits(path)
            versions = await asyncio.gather(*(owner.put(f"n{number}") for number in range(200)))
            # The first goes alone, because no call waits behind it yet; then all that STORE_CALLS_WAITING_MAX lets in.
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
            assert commits(path) - before == 8
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
            # A version that was a head only between two calls returns when the version that superseded it is voided.
            third = two.version("a", b"third", [both], author=one.id)
            await asyncio.gather(store.apply(MAIN, []), store.apply(MAIN, [third]))
            await store.apply(IDENTITIES, [one.statement(KeyState.COMPROMISED, two.device.public)])
            assert await ids(store) == [both.id]

    run(go())


@pytest.mark.parametrize("is_descending", [False, True])
def test_calls_of_one_group_reopen_with_the_highest_counter_whatever_their_order(
    tmp_path: Path, is_descending: bool
) -> None:
    path = tmp_path / "store.db"

    async def go() -> None:
        person = Person(2)
        async with opened(path) as store:
            await admit(store, person)
            versions = sorted((person.version(f"n{number}") for number in range(20)), key=lambda each: each.counter)
            before = commits(path)
            await asyncio.gather(
                store.save_peer(known("anna", person.id)),  # goes alone; the calls behind it share a transaction
                *(store.apply(MAIN, [version]) for version in versions[:: -1 if is_descending else 1]),
            )
            assert commits(path) == before + 2
        async with opened(path) as store:
            assert store.seen(person.device.public) == {person.instance: person.counter}
            assert (await verdict_of(store)).problems == ()

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
                patch.setattr("echonode.store.sqlite.disk_space.FREE_SPACE_BYTES_MIN", 1 << 62)
                with pytest.raises(StoreError, match="disk nearly full"):
                    await owner.begin()
                assert await store.peers() == []
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
            waiting = [owner.put("after"), store.save_peer(known("a", owner.id)), store.save_peer(known("b", owner.id))]
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [StoreError] * 3
            assert (store.tree(MAIN).root, store.seq(MAIN)) == (root, seq)
            assert await ids(store) == [first.id]
        async with opened(path) as store:
            assert await ids(store) == [first.id]
            assert (await Owner(store).put("after")).counter == first.counter + 1
            assert (await verdict_of(store)).problems == ()

    run(go())


def test_a_log_that_somebody_else_wrote_to_is_the_end_of_the_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def go() -> None:
        async with opened(path) as store:
            owner = Owner(store)
            await owner.begin()
            first = await owner.put("first")
            change(path, "INSERT INTO log (context, key, id, created, bytes) VALUES (9, x'', x'', x'', x'')")
            end = asyncio.create_task(store.wait_until_broken())
            for _ in range(2):
                with pytest.raises(StoreError, match="UNIQUE constraint failed"):
                    await owner.put("second")
            assert "UNIQUE constraint failed" in str(await end)
            assert await ids(store) == [first.id]
        assert look(path, "SELECT count(*) FROM log") == [(3,)]

    run(go())


def test_calls_that_wait_behind_a_failed_write_fail_with_it(tmp_path: Path) -> None:
    async def go() -> None:
        async with opened(tmp_path / "store.db") as store:
            owner = Owner(store)
            await owner.begin()
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
            try:
                writes = [owner.write(*(owner.draft(f"n{number}", bytes(150_000)) for number in range(20)))]
                outcomes = await asyncio.gather(
                    *writes, *(store.save_peer(known(name, owner.id)) for name in "abc"), return_exceptions=True
                )
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            assert [str(outcome) for outcome in outcomes] == [str(outcomes[0])] * 4
            assert "fails" in str(outcomes[0])

    run(go())


def test_a_full_disk_refuses_a_write_and_takes_the_next_when_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def go() -> None:
        async with opened(path) as store:
            owner = Owner(store)
            await owner.begin()
            first = await owner.put("first")
            database = store._commits.database
            await database.run(lambda connection: connection.execute("PRAGMA max_page_count = 30").fetchall())
            with pytest.raises(StoreError, match="is full; nothing was written"):
                await owner.write(*(owner.draft(f"n{number}", bytes(100_000)) for number in range(5)))
            assert await ids(store) == [first.id]
            await database.run(lambda connection: connection.execute("PRAGMA max_page_count = 1000000").fetchall())
            second = await owner.put("second")
            assert second.counter == first.counter + 1
            assert await ids(store) == [first.id, second.id]
            assert (await verdict_of(store)).problems == ()

    run(go())


@pytest.mark.parametrize(
    ("name", "expected", "is_harmless"),
    [
        ("SQLITE_FULL", "is full; nothing was written", True),
        ("SQLITE_BUSY_SNAPSHOT", "is locked by another process", True),
        ("SQLITE_NOTADB", "is not an echonode store", False),
        ("SQLITE_CORRUPT_INDEX", "is damaged (said so)", False),
        ("SQLITE_READONLY_DBMOVED", "cannot be opened for writing", False),
        ("SQLITE_CANTOPEN", "cannot be opened for writing", False),
        ("SQLITE_IOERR_FSYNC", "fails (SQLITE_IOERR_FSYNC)", False),
        ("SQLITE_ERROR", "/a/store.db: said so", False),
    ],
)
def test_errors_of_sqlite_are_put_in_plain_words(name: str, expected: str, is_harmless: bool) -> None:
    error = sqlite3.OperationalError("said so")
    error.sqlite_errorname = name
    mapped = to_store_error(error, Path("/a/store.db"))
    assert expected in str(mapped)
    assert isinstance(mapped, NothingWrittenError) == is_harmless


def test_a_file_that_is_gone_cannot_be_connected_to(tmp_path: Path) -> None:
    with no_thread_stays(), pytest.raises(StoreError, match="cannot be opened for writing"):
        run(DatabaseConnection.open(tmp_path / "gone.db", query_only=True))


def test_a_lock_held_by_somebody_else_delays_and_then_refuses_one_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.db"
    monkeypatch.setattr("echonode.store.sqlite.connection.BUSY_TIMEOUT_S", 0.05)

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


def test_an_entry_written_after_a_group_that_failed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The group would have given a seq far ahead of those that the next write gives."""
    path = tmp_path / "store.db"
    monkeypatch.setattr("echonode.store.sqlite.connection.BUSY_TIMEOUT_S", 0.05)

    async def go() -> None:
        async with opened(path) as store:
            owner = Owner(store)
            await owner.begin()
            first = await owner.put("first")
            bulk = [owner.draft(f"n{number}", context="other") for number in range(BATCH_RECORDS_MAX - 100)]
            await owner.write(*bulk)
            behind = [owner.draft(f"n{number}") for number in range(50)]  # too many to pass the bulk
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                calls = owner.put("alone", context="other"), owner.write(*bulk), owner.write(*behind)
                failed = await asyncio.gather(*calls, return_exceptions=True)
                assert all(isinstance(error, NothingWrittenError) for error in failed)
                other.execute("ROLLBACK")
            second = await owner.put("second")
            assert await ids(store) == [first.id, second.id]

    run(go())


def test_a_call_taken_back_before_it_began_is_not_carried_out(tmp_path: Path) -> None:
    async def go() -> None:
        async with opened(tmp_path / "store.db") as store:
            owner = Owner(store)
            await owner.begin()
            first = asyncio.create_task(owner.put("first"))
            behind = asyncio.create_task(store.save_peer(known("anna", owner.id)))
            await asyncio.sleep(0)  # now both are in the queue; saved peers never share a transaction
            behind.cancel()
            await first
            await store.save_peer(known("berta", owner.id))
            assert await store.peers() == [known("berta", owner.id)]

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
    # Each edit deletes two that are too old, so ten more leave none of them.
    run(edit(10, NOW_MS + (HISTORY_DAYS + 1) * 24 * 3600 * 1000))
    assert look(path, f"SELECT count(*) FROM history WHERE superseded_ms = {NOW_MS}") == [(0,)]
    monkeypatch.setattr("echonode.store.sqlite.transaction.HISTORY_ROWS_MAX", 5)
    run(edit(20, NOW_MS))
    assert look(path, "SELECT count(*) FROM history") == [(5,)]


def test_the_pages_of_an_opening_and_of_a_bulk_leave_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echonode.store.sqlite.group_commit._QUIET_S", 0.2)

    async def go() -> None:
        left, loop = asyncio.Event(), asyncio.get_running_loop()

        def see(statement: str) -> None:
            if statement == "PRAGMA shrink_memory":
                loop.call_soon_threadsafe(left.set)

        async with opened(tmp_path / "store.db") as store:
            await store._commits.database.run(lambda connection: connection.set_trace_callback(see))
            await left.wait()
            left.clear()
            owner = Owner(store)
            await owner.begin()
            await owner.write(*(owner.draft(f"n{number}") for number in range(BATCH_RECORDS_MAX)))
            assert not left.is_set()
            await left.wait()
            assert (await owner.put("more")).counter == BATCH_RECORDS_MAX + 2
            assert (await verdict_of(store)).problems == ()

    run(go())


def test_a_small_write_passes_bulks_and_never_starves_one(tmp_path: Path) -> None:
    async def go() -> None:
        async with opened(tmp_path / "store.db") as store:
            owner = Owner(store)
            await owner.begin()
            done: list[str] = []

            async def write(name: str, count: int) -> None:
                await owner.write(*[owner.draft(f"{name}/{number}") for number in range(count)])
                done.append(name)

            async def write_again_and_again() -> None:
                for number in range(9):
                    await write(f"small {number}", 1)

            bulks = [asyncio.create_task(write(f"bulk {number}", BATCH_RECORDS_MAX)) for number in range(4)]
            await asyncio.sleep(0)  # the first bulk is in work, the others wait
            await asyncio.gather(write_again_and_again(), write_again_and_again(), *bulks)
            assert done[0] == "bulk 0"
            places = [done.index(f"bulk {number}") for number in range(4)]
            assert places == [0, 3, 6, 9], "two small ones between each two bulks"

    run(go())
