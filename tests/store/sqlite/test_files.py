"""SqliteStore and the file that it is given: which files it opens, which it refuses, and in which words."""

import asyncio
import shutil
import stat
import tempfile
from pathlib import Path

import pytest

from echonode.errors import StoreError
from echonode.limits import CURSOR_STEP
from echonode.model.filter import Filter
from echonode.model.identity import IdentityId
from echonode.model.keys import KeyState
from echonode.model.record import IDENTITIES, MAIN
from echonode.store.port import Cursor
from echonode.store.sqlite.schema import APPLICATION_ID, SCHEMA
from echonode.store.sqlite.store import SqliteStore
from tests.contracts.store import admit, ids, scanned, verdict_of
from tests.store.files import INSTANCE, SCHEMA_5, change, look, no_thread_stays, open_store, opened, run, unprivileged
from tests.store.people import Owner, Person, known


def make(path: Path, records: int = 50) -> None:
    async def go() -> None:
        async with opened(path) as store:
            owner = Owner(store)
            await owner.begin()
            await owner.write(*(owner.draft(f"n{number}", b"body") for number in range(records)))

    run(go())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def refused(path: Path) -> str:
    """Return the message with which opening `path` is refused; no thread stays behind."""
    with no_thread_stays(), pytest.raises(StoreError) as raised:
        run(open_store(path))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_new_store_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    make(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert look(path, "PRAGMA application_id") == [(APPLICATION_ID,)]
    assert look(path, "PRAGMA user_version") == [(SCHEMA,)]
    assert look(path, "PRAGMA journal_mode") == [("wal",)]


def test_nothing_but_the_file_and_its_ballast_is_left_after_close_and_no_thread(tmp_path: Path) -> None:
    with no_thread_stays():
        make(tmp_path / "store.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store.db", "store.db-ballast"]


def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "store #1?.db"
    make(path)

    async def go() -> None:
        async with opened(path) as store:
            owner = Owner(store)
            assert len(store.tree(MAIN)) == 50
            assert store.keyring.authors("") == [owner.id]
            assert (await owner.put("next")).counter == 52
            assert (await verdict_of(store)).problems == ()

    run(go())


def test_a_large_store_is_read_back_piece_by_piece(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def go() -> None:
        async with opened(path) as store:
            owner = Owner(store)
            await owner.begin()
            await owner.write(*(owner.draft(f"n{number}") for number in range(6000)))
            root = store.tree(MAIN).root
        async with opened(path) as store:
            assert (store.tree(MAIN).root, len(store.tree(MAIN))) == (root, 6000)

    run(go())


def test_a_seq_given_out_before_a_compromise_does_not_come_back_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def go() -> None:
        async with opened(path) as store:
            one, thief = Person(2), Person(3)
            await admit(store, one, thief)
            await store.apply(MAIN, [one.version("a")])
            await store.apply(MAIN, [thief.version("b")])
            seq = store.seq(MAIN)
            await store.apply(IDENTITIES, [thief.statement(KeyState.COMPROMISED)])
        async with opened(path) as store:
            assert store.seq(MAIN) >= seq
            news = one.version("c")
            await store.apply(MAIN, [news])
            assert [record.id for record in await scanned(store, MAIN, seq)] == [news.id]

    run(go())


def test_what_others_saw_of_our_counter_is_heard_after_reopening_before_we_write(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    ahead, other = Person(1), Person(2)  # `ahead` has the owner's keys: its version is one that this store lost
    ahead.instance = INSTANCE
    ahead.counter = 40

    async def go() -> None:
        async with opened(path) as store:
            owner = Owner(store)
            await owner.begin()
            await owner.put("a")
            await admit(store, other)
        async with opened(path) as store:
            await store.apply(MAIN, [other.version("b", b"", [ahead.version("b")])])
            assert (await Owner(store).put("c")).counter == 42

    run(go())


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.touch()
    make(path)
    assert look(path, "SELECT count(*) FROM log") == [(51,)]


def test_a_newer_schema_is_refused_and_the_file_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    make(path)
    change(path, f"PRAGMA user_version = {SCHEMA + 1}")
    before = contents(tmp_path)
    assert f"was written by a newer echonode (schema {SCHEMA + 1}, this one knows {SCHEMA})" in refused(path)
    assert contents(tmp_path) == before


def test_a_newer_schema_that_is_still_in_the_write_ahead_log_is_refused(tmp_path: Path) -> None:
    path, copy = tmp_path / "store.db", tmp_path / "copy.db"
    make(path)
    change(path, "PRAGMA wal_autocheckpoint = 0")

    async def go() -> None:
        async with opened(path):
            change(path, f"PRAGMA user_version = {SCHEMA + 1}")
            shutil.copy(path, copy)
            shutil.copy(f"{path}-wal", f"{copy}-wal")

    run(go())
    assert "newer echonode" in refused(copy)


LOG = "SELECT seq, context, key, id, bytes FROM log ORDER BY seq"

# The way back from today's schema to the third.
SCHEMA_3 = (
    *SCHEMA_5,
    *("DROP TABLE peers", "DROP TABLE spare", "DROP TABLE sums", "DROP TABLE origins", "DROP TABLE claims"),
    *("DROP TRIGGER history_added", "DROP TRIGGER history_deleted"),
    *("DROP INDEX history_version", "CREATE INDEX history_leaf ON history (context, key)"),
)


def test_an_earlier_schema_is_migrated_with_every_record_and_a_copy_stays_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    make(path)
    for statement in SCHEMA_3:
        change(path, statement)
    change(path, "CREATE TABLE pins (kind TEXT, value TEXT, identity BLOB, PRIMARY KEY (kind, value)) WITHOUT ROWID")
    change(path, "INSERT INTO pins VALUES ('name', 'anna', x'00')")
    change(path, "PRAGMA user_version = 3")
    log = look(path, LOG)
    assert log
    for _ in range(2):
        run(saves_a_peer(path))
    assert look(path, LOG) == log
    assert look(path, "PRAGMA user_version") == [(SCHEMA,)]
    assert look(path, "SELECT name FROM peers") == [("anna",)]
    copy = tmp_path / "store.db.schema-3"
    assert look(copy, LOG) == log
    assert look(copy, "SELECT value FROM pins") == [("anna",)]
    assert copy.stat().st_mode & 0o777 == 0o600


async def saves_a_peer(path: Path) -> None:
    async with opened(path) as store:
        await store.save_peer(known("anna", Person(1).id))
        assert [problem async for total in store.audit() for problem in total.problems] == []


def test_a_schema_of_a_version_in_development_is_refused_and_the_file_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    make(path)
    change(path, "PRAGMA user_version = 2")
    before = contents(tmp_path)
    assert "is of schema 2, which no release had" in refused(path)
    assert contents(tmp_path) == before


def test_a_store_without_a_schema_number_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    make(path)
    change(path, "PRAGMA user_version = 0")
    assert "is damaged: its schema has no number" in refused(path)


def test_another_programs_database_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    change(path, "CREATE TABLE bookmarks (url)")
    before = contents(tmp_path)
    assert "is the database of another program" in refused(path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("text", [b"short", b"not a database, but long enough to be one. " * 10])
def test_what_is_no_database_is_refused_and_left_as_it_was(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(text)
    assert "is not an echonode store" in refused(path)
    assert contents(tmp_path) == {"store.db": text}


def test_a_folder_and_a_missing_folder_are_refused_in_plain_words(tmp_path: Path) -> None:
    assert "cannot be opened: Is a directory" in refused(tmp_path)
    assert "cannot be opened: No such file or directory" in refused(tmp_path / "missing" / "store.db")


def test_a_file_or_folder_that_may_not_be_written_is_refused() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, path = Path(name), Path(name) / "store.db"
        make(path)
        folder.chmod(0o755)
        path.chmod(0o444)
        with unprivileged():
            assert "cannot be opened: Permission denied" in refused(path)
        path.chmod(0o666)
        with unprivileged():
            assert "cannot be opened for writing" in refused(path)
        assert sorted(found.name for found in folder.iterdir()) == ["store.db", "store.db-ballast"]


def test_pages_of_zeros_are_refused_as_damage_and_left_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    make(path, 500)
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + bytes(len(whole) - 4096))
    before = contents(tmp_path)
    assert "is damaged" in refused(path)
    assert contents(tmp_path)["store.db"] == before["store.db"]


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM meta",
        "UPDATE meta SET value = x'00'",
        "UPDATE log SET key = substr(key, 2) WHERE seq = 7",
        "INSERT INTO log SELECT 9999, context, key, id, created, bytes FROM log WHERE seq = 7",
    ],
)
def test_rows_that_no_store_writes_are_refused_as_damage(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "store.db"
    make(path)
    change(path, damage)
    assert "is damaged" in refused(path)


def test_a_damaged_version_is_named_when_it_is_read_and_does_not_stop_the_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    make(path)
    change(path, "UPDATE log SET bytes = x'ff' WHERE seq = 7")

    async def go() -> None:
        async with opened(path) as store:
            owner = Owner(store)
            with pytest.raises(StoreError, match="is damaged"):
                await store.scan(MAIN, 0, limit=100)
            with pytest.raises(StoreError, match="is damaged"):
                await store.filtered(MAIN, Filter(name="n*"), 0, until=100)
            with pytest.raises(StoreError, match="is damaged"):
                await owner.write(*(owner.draft(f"n{number}", b"new") for number in range(50)))
            assert (await owner.put("next")).counter == 52

    run(go())


def test_what_a_crash_left_in_the_write_ahead_log_is_there(tmp_path: Path) -> None:
    path, copy = tmp_path / "store.db", tmp_path / "copy.db"

    async def go() -> None:
        async with opened(path) as store:
            owner, person = Owner(store), Person(2)
            await owner.begin()
            await admit(store, person)
            await owner.put("a")
            await store.apply(MAIN, [person.version("b")])
            for suffix in ("", "-wal"):  # the files as they are after a power cut
                shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
            async with opened(copy) as found:
                assert await ids(found) == await ids(store)
                assert found.tree(MAIN).root == store.tree(MAIN).root
                assert found.seen(person.device.public) == store.seen(person.device.public)
                assert (await verdict_of(found)).problems == ()

    run(go())


def test_a_cursor_is_in_the_file_with_the_records_it_covers_every_so_many_entries(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    person, peer = Person(2), IdentityId(b"p" * 32)

    def cursor(seq: int) -> Cursor:
        return Cursor(peer, INSTANCE, MAIN, seq)

    async def survives(copy: Path) -> Cursor | None:
        shutil.copy(path, copy)
        shutil.copy(f"{path}-wal", f"{copy}-wal")
        async with opened(copy) as store:
            return store.cursor(peer, MAIN)

    async def go() -> None:
        async with opened(path) as store:
            await store.apply(IDENTITIES, [person.statement()])
            await store.apply(MAIN, [person.version("a")], cursor(5))
            await store.apply(MAIN, [person.version("b")], cursor(4 + CURSOR_STEP))
            assert store.cursor(peer, MAIN) == cursor(4 + CURSOR_STEP)
            assert await survives(tmp_path / "crashed-near.db") == cursor(5)
            store.note(cursor(5 + CURSOR_STEP))
            assert await survives(tmp_path / "crashed.db") == cursor(5)
            await store.apply(MAIN, [person.version("c")])
            assert await survives(tmp_path / "crashed-later.db") == cursor(5 + CURSOR_STEP)
            await store.apply(MAIN, [person.version("late")], cursor(6))
            assert await survives(tmp_path / "crashed-late.db") == cursor(5 + CURSOR_STEP)
            store.note(cursor(6 + CURSOR_STEP))
        async with opened(path) as store:
            assert store.cursor(peer, MAIN) == cursor(6 + CURSOR_STEP)
            store.set_back(peer, {MAIN: 7})
            assert store.cursor(peer, MAIN) is None
        async with opened(path) as store:
            assert store.cursor(peer, MAIN) is None

    run(go())


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    async def go() -> None:
        store = await open_store(tmp_path / "store.db")
        owner = Owner(store)
        await owner.begin()
        await store.close()
        with pytest.raises(StoreError, match="closed"):
            await owner.put("a")
        with pytest.raises(StoreError, match="closed"):
            await store.peers()
        with pytest.raises(StoreError, match="closed"):
            async with store.snapshot(MAIN):
                pass

    run(go())


def test_closing_finishes_what_was_begun_and_ends_what_is_being_read(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def go() -> None:
        store = await open_store(path)
        owner = Owner(store)
        await owner.begin()
        writes = [asyncio.create_task(owner.put(f"n{number}")) for number in range(30)]
        audit = store.audit()
        await anext(audit)
        async with store.snapshot(MAIN) as snapshot:
            await store.close()
            with pytest.raises(StoreError, match="closed"):
                await snapshot.page(None, records_max=10, bytes_max=1000)
        with pytest.raises(StoreError, match="closed"):
            async for _ in audit:
                pass
        versions = await asyncio.gather(*writes)
        async with opened(path) as again:
            assert set(await ids(again)) == {version.id for version in versions}

    with no_thread_stays():
        run(go())


def test_opening_that_is_cancelled_leaves_no_thread(tmp_path: Path) -> None:
    make(tmp_path / "store.db", 2000)

    async def go() -> None:
        for turns in range(12):
            task = asyncio.create_task(open_store(tmp_path / "store.db"))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(outcome, SqliteStore):
                await outcome.close()

    with no_thread_stays():
        run(go())
