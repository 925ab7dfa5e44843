"""A store of an earlier schema is brought up to date when it is opened: every version is kept, and what follows from
them is made anew: leaves within their bounds, and what key statements say."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from echonode.errors import StoreError
from echonode.limits import HEADS_PER_KEY_MAX
from echonode.model.filter import Filter
from echonode.model.identity import Instance, Pool, PoolKind, SigningKey
from echonode.model.keyring import ClaimsInMemory, Keyring
from echonode.model.keys import KeyState, read_statement
from echonode.model.record import IDENTITIES, MAIN, Record, leaf_key
from echonode.model.usage import Usage
from echonode.store.port import HistoryInfo, Staged
from echonode.store.sqlite import schema
from echonode.store.sqlite.backup import back_up, restore_store
from echonode.store.sqlite.repair import repair
from echonode.store.sqlite.schema import APPLICATION_ID, SCHEMA
from echonode.store.sqlite.store import SqliteStore
from tests.contracts.store import ids, root_of, verdict_of
from tests.contracts.store_leaves import KEYS, beside, let_in, of
from tests.store.files import INSTANCE, SCHEMA_5, SCHEMA_6, change, look, open_store, opened, run
from tests.store.people import NOW_MS, Owner, Person

# The tables of schema 3, as they were. They never change any more.
SCHEMA_3 = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE contexts (id INTEGER PRIMARY KEY, name TEXT UNIQUE, staged_for TEXT UNIQUE, staged_root BLOB,"
    " floor INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0) STRICT",
    "CREATE TABLE log (seq INTEGER PRIMARY KEY AUTOINCREMENT, context INTEGER NOT NULL, key BLOB NOT NULL,"
    " id BLOB NOT NULL, bytes BLOB NOT NULL) STRICT",
    "CREATE UNIQUE INDEX log_leaf ON log (context, key, id)",
    "CREATE INDEX log_order ON log (context)",
    "CREATE TABLE history (n INTEGER PRIMARY KEY, context INTEGER NOT NULL, key BLOB NOT NULL, id BLOB NOT NULL,"
    " bytes BLOB NOT NULL, superseded_ms INTEGER NOT NULL) STRICT",
    "CREATE INDEX history_leaf ON history (context, key)",
    "CREATE TABLE writers (key BLOB NOT NULL, instance BLOB NOT NULL, counter BLOB NOT NULL,"
    " PRIMARY KEY (key, instance)) STRICT, WITHOUT ROWID",
    "CREATE TABLE pins (kind TEXT NOT NULL, value TEXT NOT NULL, identity BLOB NOT NULL,"
    " PRIMARY KEY (kind, value)) STRICT, WITHOUT ROWID",
    "CREATE TABLE cursors (n INTEGER PRIMARY KEY, peer BLOB NOT NULL, context TEXT NOT NULL,"
    " instance BLOB NOT NULL, seq INTEGER NOT NULL, UNIQUE (peer, context)) STRICT",
)
Figures = tuple[dict[str, Any], HistoryInfo, Staged | None, Usage]
TABLES = ("meta", "contexts", "log", "history", "writers", "cursors")
AUTHOR = 2


def crowd() -> list[Record]:
    """Return more concurrent versions of one record by one key than fit, the least rank first."""
    return [beside(Person(AUTHOR), number, KEYS[0], counter=number) for number in range(1, 300)]


async def write_some(path: Path) -> None:
    async with opened(path) as store:
        owner = Owner(store)
        await owner.begin()
        for body in (b"one", b"two", b"three"):
            await owner.write(*(owner.draft(f"n{number}", body) for number in range(30)))
        await owner.write(owner.draft("n1", is_tombstone=True))
        await let_in(store, Person(AUTHOR), *KEYS)


def make_schema_3(path: Path, heads: list[Record]) -> None:
    """Make a store of schema 3 with some of everything, and with `heads` of one record."""
    new = path.with_name("new.db")
    run(write_some(new))
    change(new, *SCHEMA_5)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in SCHEMA_3:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 3")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("ATTACH ? AS new", (str(new),))
        for table in TABLES:
            connection.execute(f"INSERT INTO {table} SELECT * FROM new.{table}")
        # A version that was superseded twice stood in the history of schema 3 twice.
        connection.execute(
            "INSERT INTO history SELECT n + 1000, context, key, id, bytes, superseded_ms FROM history LIMIT 3"
        )
        (main,) = connection.execute("SELECT id FROM contexts WHERE name = ?", (MAIN,)).fetchone()
        for head in heads:
            connection.execute(
                "INSERT INTO log (context, key, id, bytes) VALUES (?, ?, ?, ?)", (main, head.key, head.id, head.raw)
            )
            connection.execute(
                "INSERT OR REPLACE INTO writers VALUES (?, ?, ?)",
                (head.kid, head.instance, head.counter.to_bytes(8, "big")),
            )
        connection.execute("UPDATE contexts SET bytes = bytes + ? WHERE name = ?", (sum(h.size for h in heads), MAIN))


def versions(path: Path, *tables: str) -> set[bytes]:
    return {version for table in tables for (version,) in look(path, f"SELECT id FROM {table}")}


@pytest.mark.parametrize("count", [0, HEADS_PER_KEY_MAX, HEADS_PER_KEY_MAX + 1, 299])
def test_every_version_of_an_earlier_schema_is_kept_and_the_rule_of_heads_holds(tmp_path: Path, count: int) -> None:
    path = tmp_path / "store.db"
    heads = crowd()[299 - count :]
    make_schema_3(path, heads)
    before = versions(path, "log", "history")
    shown = heads[-HEADS_PER_KEY_MAX:]

    async def go() -> None:
        async with opened(path) as store:
            assert store.instance == INSTANCE
            assert (await verdict_of(store)).problems == ()
            crowded = await store.heads(MAIN, Person(AUTHOR).id, "a")
            assert of(crowded) == of(shown)
            rest = [head for head in await records(store) if head.name != "a"]
            leaves = [[head] for head in rest] + ([crowded] if crowded else [])
            assert store.tree(MAIN).root == root_of(*leaves) and len(leaves) == 30 + bool(count)
            assert store.history().spare == min(256, max(0, count - HEADS_PER_KEY_MAX))
            assert (await Owner(store).put("n2", b"four")).counter == 93
        assert versions(path, "log", "history", "spare") > before
        async with opened(path) as store:
            assert (await verdict_of(store)).problems == ()
            assert of(await store.heads(MAIN, Person(AUTHOR).id, "a")) == of(shown)

    async def records(store: object) -> list[Record]:
        found, _ = await store.scan(MAIN, 0, limit=1000)  # type: ignore[attr-defined]
        return found

    run(go())
    assert look(path, "PRAGMA user_version") == [(SCHEMA,)]


def test_a_migrated_store_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    path, fresh = tmp_path / "store.db", tmp_path / "fresh.db"
    make_schema_3(path, [])

    async def go() -> HistoryInfo:
        async with opened(path) as store, opened(fresh):
            return store.history()

    history = run(go())
    tables = "SELECT name, sql FROM sqlite_schema WHERE name <> 'sqlite_sequence' ORDER BY name"
    assert look(path, tables) == look(fresh, tables)
    assert history.versions == len(versions(path, "history")) == 61


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    make_schema_3(path, crowd())
    change(path, "UPDATE log SET bytes = x'00' WHERE seq = (SELECT max(seq) FROM log)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"is damaged .*type: echonode verify --repair"):
        run(open_store(path))
    assert look(path, "PRAGMA user_version") == [(3,)]
    assert path.read_bytes() == before


# What schema 5 has beyond schema 4.
SCHEMA_4 = (*SCHEMA_5, "DROP TABLE claims", "PRAGMA user_version = 4")


async def state_keys(path: Path) -> Keyring:
    """Fill a store with key statements and a staged snapshot of more of them. Return the keyring that it must have."""
    people = [Person(number) for number in range(AUTHOR, AUTHOR + 4)]
    pools = [Pool(kind, SigningKey(bytes([kind]) * 32)) for kind in PoolKind]
    statements = [
        *(person.statement() for person in people),
        people[0].statement(KeyState.RETIRED),
        people[1].statement(KeyState.COMPROMISED),
        people[2].statement(key=people[3].device.public),
        *(person.listed(pool) for person in people for pool in pools),
        people[3].listed(pools[1], KeyState.COMPROMISED),
    ]
    async with opened(path) as store:
        await store.apply(IDENTITIES, statements)
        staged = Person(9).statement()
        await store.stage(IDENTITIES, root_of([staged]), [staged])
        await store.apply(MAIN, [people[0].version("kept"), people[2].version("kept")])
    return Keyring(ClaimsInMemory(map(read_statement, statements)))


def test_the_keyring_of_schema_4_is_read_from_its_statements(tmp_path: Path) -> None:
    path, fresh = tmp_path / "store.db", tmp_path / "fresh.db"
    expected = run(state_keys(path))
    claims = look(path, "SELECT * FROM claims ORDER BY 1, 2, 3")
    assert len(claims) == 13
    change(path, *SCHEMA_4)
    before = versions(path, "log", "history")

    async def go() -> None:
        async with opened(path) as store, opened(fresh):
            assert (await verdict_of(store)).problems == ()
            assert store.keyring.authors("") == expected.authors("")
            for author in expected.authors(""):
                assert store.keyring.keys_of(author) == expected.keys_of(author)
                assert store.keyring.members_of(author) == expected.members_of(author)
                for number in range(AUTHOR, AUTHOR + 4):
                    key = Person(number).device.public
                    assert store.keyring.admission_of(author, key) is expected.admission_of(author, key)

    run(go())
    assert look(path, "SELECT * FROM claims ORDER BY 1, 2, 3") == claims
    assert versions(path, "log", "history") == before == versions(path.with_name("store.db.schema-4"), "log", "history")
    tables = "SELECT name, sql FROM sqlite_schema WHERE name <> 'sqlite_sequence' ORDER BY name"
    assert look(path, tables) == look(fresh, tables)


def test_a_damaged_statement_stops_the_migration_and_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    run(state_keys(path))
    change(path, *SCHEMA_4, "UPDATE log SET bytes = zeroblob(length(bytes)) WHERE seq = 2")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"is damaged .*type: echonode verify --repair"):
        run(open_store(path))
    assert path.read_bytes() == before


def test_a_store_of_schema_4_that_is_killed_in_its_migration_opens_with_its_keyring(tmp_path: Path) -> None:
    path, fixture = tmp_path / "store.db", tmp_path / "fixture.db"
    run(state_keys(fixture))
    claims = look(fixture, "SELECT * FROM claims ORDER BY 1, 2, 3")
    change(fixture, *SCHEMA_4)
    found = []
    for number in killed_at_each_statement(fixture, path):
        found.append(number)
        assert number == 4 or look(path, "SELECT * FROM claims ORDER BY 1, 2, 3") == claims
    assert len(found) > 10


# -- schema 5 ----------------------------------------------------------------------------------------------------------


async def write_of_everything(path: Path) -> Figures:
    """Fill a store with heads, conflicts, history, a full leaf, several contexts and a staged snapshot."""
    await write_some(path)
    async with opened(path) as store:
        await store.apply(MAIN, crowd()[270:])
        owner = Owner(store)
        await owner.write(*(owner.draft(f"o{number}", context="other") for number in range(5)))
        staged = sorted((Person(AUTHOR).version(f"s{number}", context="staged") for number in range(3)), key=by_key)
        await store.stage("staged", root_of(*([one] for one in staged)), staged)
        await store.forget("other", [leaf_key(owner.id, "o4")], lambda _: False)
        return await figures(store)


def by_key(record: Record) -> bytes:
    return record.key


async def figures(store: SqliteStore) -> Figures:
    """Return what a store shows of its contexts."""
    rows = {context: (await store.filtered(context, Filter(), 0, until=9999)).rows for context in (MAIN, "other")}
    contexts = {name: (await store.info(name), store.seq(name), rows.get(name)) for name in store.contexts()}
    return contexts, store.history(), store.staged("staged"), store.usage.total


def make_schema_5(path: Path) -> Figures:
    expected = run(write_of_everything(path))
    change(path, *SCHEMA_5)
    assert look(path, "SELECT seq FROM sqlite_sequence") == look(path, "SELECT max(seq) FROM log")
    return expected


def test_a_store_of_schema_5_shows_the_same_after_its_migration(tmp_path: Path) -> None:
    path, fresh = tmp_path / "store.db", tmp_path / "fresh.db"
    expected = make_schema_5(path)
    before = versions(path, "log", "history", "spare")
    size = path.stat().st_size

    async def go() -> None:
        async with opened(path) as store, opened(fresh):
            assert await figures(store) == expected
            assert (await verdict_of(store)).problems == ()
            assert (await Owner(store).put("n2", b"four")).counter == 98
            assert store.seq("other") == expected[0]["other"][1], "what was forgotten keeps its seq"
            new = await Owner(store).put("o5", context="other")
            assert store.seq("other") > expected[0]["other"][1]
            assert of((await store.scan("other", expected[0]["other"][1], limit=9))[0]) == of([new])
        async with opened(path) as store:
            assert (await verdict_of(store)).problems == ()

    run(go())
    assert versions(path, "log", "history", "spare") > before
    assert versions(path.with_name("store.db.schema-5"), "log", "history", "spare") == before
    tables = "SELECT name, sql FROM sqlite_schema WHERE name <> 'sqlite_sequence' ORDER BY name"
    assert look(path, tables) == look(fresh, tables)
    assert path.stat().st_size < size, "the old tables leave no room behind"


def test_a_store_of_schema_5_that_is_killed_in_its_migration_is_whole(tmp_path: Path) -> None:
    path, fixture = tmp_path / "store.db", tmp_path / "fixture.db"
    expected = make_schema_5(fixture)
    held = versions(fixture, "log", "history", "spare")
    found = []
    for number in killed_at_each_statement(fixture, path):
        found.append(number)
        assert versions(path, "log", "history", "spare") == held
    assert found == sorted(found) and set(found) == {5, SCHEMA} and len(found) > 10

    async def opens() -> None:
        async with opened(path) as store:
            assert await figures(store) == expected

    run(opens())


def test_a_seq_that_schema_5_gave_does_not_come_back(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    expected = make_schema_5(path)
    change(path, "UPDATE sqlite_sequence SET seq = 5000")

    async def go() -> None:
        async with opened(path) as store:
            for context in ("other", MAIN):
                assert store.seq(context) >= expected[0][context][1]
                new = await Owner(store).put("new", context=context)
                assert of((await store.scan(context, 5000, limit=9))[0]) == of([new])

    run(go())


def test_a_backup_of_schema_5_is_restored_and_no_copy_of_it_stays(tmp_path: Path) -> None:
    path, backup, restored = (tmp_path / name for name in ("store.db", "backup", "restored.db"))
    expected = make_schema_5(path)
    shutil.copy(path, backup)
    change(backup, "CREATE TABLE home (name TEXT PRIMARY KEY, bytes BLOB NOT NULL) STRICT, WITHOUT ROWID")

    async def go() -> None:
        await restore_store(backup, restored, new_instance=lambda: INSTANCE, now_ms=lambda: NOW_MS)
        await back_up(path, tmp_path / "later", {}, new_instance=lambda: INSTANCE, now_ms=lambda: NOW_MS)
        async with opened(restored) as store:
            assert await figures(store) == expected

    run(go())
    assert not list(tmp_path.glob(".*")), "nothing is left of the copies, which hold keys"


def test_a_damaged_version_does_not_stop_the_migration_of_schema_5(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    make_schema_5(path)
    change(path, "UPDATE log SET bytes = x'00' WHERE seq = (SELECT max(seq) FROM log WHERE context = 2)")

    async def go() -> None:
        async with opened(path) as store:
            problems = (await verdict_of(store)).problems
            assert any("not a COSE_Sign1" in problem for problem in problems), problems

    run(go())


# -- schema 6 ----------------------------------------------------------------------------------------------------------


def test_a_store_of_schema_6_knows_the_versions_of_counters_from_its_next_write_on(tmp_path: Path) -> None:
    path, fresh = tmp_path / "store.db", tmp_path / "fresh.db"
    expected = run(write_of_everything(path))
    change(path, *SCHEMA_6)

    async def go() -> None:
        async with opened(path) as store, opened(fresh):
            owner = Owner(store)
            key = owner.identity.device.public
            assert await figures(store) == expected
            assert (await verdict_of(store)).problems == ()
            ((instance, highest),) = store.seen(key).items()
            assert store.latest(key) == []
            (earlier,) = await store.heads(MAIN, owner.id, "n3")
            assert store.has_signed(earlier) is None, "what came before is not known"
            written = await owner.put("n2", b"four")
            assert store.latest(key) == [(instance, highest + 1, written.id)]
            assert store.has_signed(written) is True
            assert store.has_signed(earlier) is None

    run(go())
    tables = "SELECT name, sql FROM sqlite_schema ORDER BY name"
    assert look(path, tables) == look(fresh, tables)


# -- kills -------------------------------------------------------------------------------------------------------------


def killed_at_each_statement(fixture: Path, path: Path) -> Iterator[int]:
    """Migrate a copy of `fixture` at `path` again and again, killed one statement later each time, until one migration
    comes to its end. Yield the schema of the file that each leaves."""
    code, statement = 9, 0
    while code == 9:
        for leftover in path.parent.glob(f"{path.name}*"):
            leftover.unlink()
        shutil.copy(fixture, path)
        code = migrate_and_die(path, statement)
        statement += 1
        ((number,),) = look(path, "PRAGMA user_version")
        yield number
    assert code == 0


def migrate_and_die(path: Path, statement: int) -> int:
    """Migrate the store in a process that is gone, as by SIGKILL, before that statement runs. Return its exit code.

    The code is 0 when the migration has fewer statements."""
    child = os.fork()
    if child == 0:
        left = [statement]

        def die_in_time(_: str) -> None:
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)

        try:
            connection = sqlite3.connect(path, isolation_level=None)
            connection.set_trace_callback(die_in_time)
            schema.keep_copy(connection, path)
            schema.create_tables(connection, path, lambda: INSTANCE)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_process_killed_at_any_statement_of_a_migration_leaves_the_old_store_or_the_new_one(tmp_path: Path) -> None:
    path, fixture = tmp_path / "store.db", tmp_path / "fixture.db"
    make_schema_3(fixture, crowd()[280:])
    held = versions(fixture, "log", "history")
    copy = path.with_name("store.db.schema-3")
    found = []
    for number in killed_at_each_statement(fixture, path):
        found.append(number)
        tables = ("log", "history", "spare") if number == SCHEMA else ("log", "history")
        assert versions(path, *tables) == held, len(found)
        if number == SCHEMA:
            assert versions(copy, "log", "history") == held
    assert found == sorted(found)  # once the new one is there, it stays
    assert found.count(3) > 20

    async def opens() -> None:
        async with opened(path) as store:
            assert (await verdict_of(store)).problems == ()

    run(opens())


def test_a_damaged_store_of_an_earlier_schema_is_repaired(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    make_schema_3(path, crowd())
    change(path, "UPDATE log SET bytes = x'00' WHERE seq = (SELECT max(seq) FROM log)")

    async def introduce(_: object) -> None: ...

    async def go() -> None:
        repaired = await repair(
            path, new_instance=lambda: Instance(b"repaired"), now_ms=lambda: NOW_MS, introduce=introduce
        )
        assert repaired.left == 1
        async with opened(path) as store:
            assert of(await store.heads(MAIN, Person(AUTHOR).id, "a")) == of(crowd()[-HEADS_PER_KEY_MAX - 1 : -1])
            assert len(await ids(store)) == 30 + HEADS_PER_KEY_MAX
            assert (await verdict_of(store)).problems == ()

    run(go())


def test_the_schema_that_is_made_is_the_one_that_is_numbered() -> None:
    assert SCHEMA == 7, "another schema needs a migration from this one, and a test of it here"
    assert len(schema.TABLES) == len(set(schema.TABLES)) == 23
