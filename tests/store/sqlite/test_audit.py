"""`verify` finds every flipped bit in live data and names each contradiction."""

import os
import random
import shutil
from pathlib import Path

import pytest

from echonode.errors import StoreError
from echonode.model.keys import KeyState
from echonode.model.merkle import Digest
from echonode.model.record import IDENTITIES, MAIN
from echonode.store.port import Audit
from echonode.store.sqlite.log_columns import created_column
from tests.contracts.store import admit, verdict_of
from tests.store.files import change, flip, look, opened, places, run
from tests.store.people import Owner, Person, known

FLIPS = 4000 if os.environ.get("ECHO_TEST_SLOW") else 60


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a store with some of everything: conflicts, tombstones, history, bodies over many pages, a staged
    snapshot."""
    path = tmp_path_factory.mktemp("audit") / "store.db"

    async def go() -> None:
        async with opened(path) as store:
            owner, one, two = Owner(store), Person(2), Person(3)
            await owner.begin()
            await admit(store, one, two)
            await store.apply(IDENTITIES, [one.statement(key=two.device.public), one.statement(KeyState.RETIRED)])
            for context in (MAIN, "other"):
                await owner.write(*(owner.draft(f"n{number}", b"body" * number, context) for number in range(60)))
                await owner.write(*(owner.draft(f"n{number}", b"edit", context) for number in range(10)))
            await owner.put("large", random.Random(1).randbytes(100_000))
            await owner.write(owner.draft("n5", is_tombstone=True))
            left = [one.version(f"c{number}", b"left") for number in range(5)]
            right = [two.version(f"c{number}", b"right", author=one.id) for number in range(5)]
            await store.apply(MAIN, [*left, *right])
            staged = sorted((one.version(f"s{n}", context="staged") for n in range(20)), key=lambda record: record.key)
            await store.stage("staged", Digest(bytes(32)), staged)
            await store.save_peer(known("anna", one.id))
            verdict = await verdict_of(store)
            assert verdict.problems == ()
            assert verdict.checked == sum(
                look(path, f"SELECT count(*) FROM {table}")[0][0] for table in ("log", "history")
            )

    run(go())
    assert not Path(f"{path}-wal").exists()
    return path


def audited(path: Path) -> tuple[str, ...]:
    """Return the problems that opening and verifying `path` show."""

    async def go() -> Audit:
        async with opened(path) as store:
            return await verdict_of(store)

    try:
        return run(go()).problems
    except StoreError as error:
        return (str(error),)


def test_every_flipped_bit_in_live_data_is_found(whole: Path, tmp_path: Path) -> None:
    rng = random.Random(4)
    known = list(places(whole))
    assert {what.split()[0] for what, _, _ in known} == {"key", "id", "bytes"}
    path = tmp_path / "store.db"
    for what, at, length in rng.choices(known, k=FLIPS):
        shutil.copy(whole, path)
        bit = 8 * at + rng.randrange(8 * length)
        flip(path, bit)
        assert audited(path), f"bit {bit}, of {what}"


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("UPDATE log SET context = (SELECT id FROM contexts WHERE name = 'other') WHERE seq = 20", "another context"),
        ("UPDATE log SET key = randomblob(32) WHERE seq = 20", "another record's key"),
        ("UPDATE log SET id = randomblob(32) WHERE seq = 20", "its id is not that of its bytes"),
        ("UPDATE log SET bytes = CAST(substr(bytes, 1, length(bytes) - 1) || 'x' AS BLOB) WHERE seq = 20", "signature"),
        ("UPDATE log SET bytes = x'' WHERE seq = 20", "not a COSE_Sign1"),
        ("UPDATE log SET context = 99 WHERE seq = 20", "1 entries of a context that is not there"),
        ("DELETE FROM log WHERE context = 1 AND seq = 1", "its key does not speak for its author"),
        (
            "INSERT INTO log SELECT 9999, context, key, id, zeroblob(9), bytes FROM history LIMIT 1",
            "a head supersedes another",
        ),
        ("INSERT INTO log SELECT 9999, context, key, id, created, bytes FROM log WHERE seq = 20", "in the log twice"),
        ("UPDATE log SET created = zeroblob(9) WHERE seq = 20", "its time of creation is not that of its bytes"),
        ("UPDATE history SET id = randomblob(32) WHERE n = 3", "history entry 3"),
        ("UPDATE history SET bytes = x'00' WHERE n = 3", "history entry 3"),
        ("UPDATE writers SET counter = x'0000000000000001'", "writers: a counter is behind the log"),
        ("UPDATE peers SET id = x'00'", "peers: an identity is not 32 bytes"),
    ],
)
def test_each_contradiction_is_named(whole: Path, tmp_path: Path, damage: str, expected: str) -> None:
    path = tmp_path / "store.db"
    shutil.copy(whole, path)
    change(path, damage)
    problems = audited(path)
    assert any(expected in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (
            "UPDATE log SET id = randomblob(32), bytes = (SELECT bytes FROM log WHERE seq = 21) WHERE seq = 20",
            "root shown",
        ),
        ("DELETE FROM log WHERE seq = 20", "root shown"),
        ("DELETE FROM log WHERE seq = 20", "bytes, not"),
        ("INSERT INTO log SELECT 9999, context, key, id, created, bytes FROM log WHERE seq = 20", "stands there twice"),
        ("DELETE FROM meta", "which store it is"),
    ],
)
def test_what_changes_behind_an_open_store_is_found(whole: Path, tmp_path: Path, damage: str, expected: str) -> None:
    path = tmp_path / "store.db"
    shutil.copy(whole, path)

    async def go() -> Audit:
        async with opened(path) as store:
            change(path, damage)
            return await verdict_of(store)

    problems = run(go()).problems
    assert any(expected in problem for problem in problems), problems


def test_a_key_of_another_length_is_found(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    shutil.copy(whole, path)

    async def go() -> Audit:
        async with opened(path) as store:
            change(path, "UPDATE log SET key = x'00' WHERE seq = 20")
            return await verdict_of(store)

    problems = run(go()).problems
    assert any(problem.startswith("main: log entry 20 ") for problem in problems), problems
    assert any("the root shown is not that of its records" in problem for problem in problems), problems


def test_a_record_among_the_statements_that_states_nothing_is_found(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    shutil.copy(whole, path)
    stray = Person(2).version("nothing said", context=IDENTITIES, key=Person(2).identity.root)

    async def go() -> Audit:
        async with opened(path) as store:
            created = created_column(stray.created_ms)
            columns = ", ".join(f"x'{column.hex()}'" for column in (stray.key, stray.id, created, stray.raw))
            change(path, f"INSERT INTO log (context, key, id, created, bytes) VALUES (1, {columns})")
            return await verdict_of(store)

    assert any("(nothing said): a key statement is" in problem for problem in run(go()).problems)


def test_a_part_that_cannot_be_read_does_not_hide_the_others(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    shutil.copy(whole, path)
    change(
        path, "UPDATE log SET id = randomblob(32) WHERE context = (SELECT id FROM contexts WHERE staged_for = 'staged')"
    )
    # A page of the history, which opening does not read.
    ((raw,),) = look(path, "SELECT bytes FROM history WHERE n = (SELECT max(n) - 5 FROM history)")
    data = bytearray(path.read_bytes())
    page = data.find(raw) // 4096 * 4096
    data[page : page + 4096] = bytes(4096)
    path.write_bytes(data)
    problems = audited(path)
    assert any("is damaged (database disk image is malformed)" in problem for problem in problems), problems
    assert any(problem.startswith("staged: log entry") for problem in problems), problems


def test_an_index_out_of_order_is_damage_and_nobody_goes_in_circles(whole: Path, tmp_path: Path) -> None:
    """Make the first of the last keys the least of all: paging by it would begin again and again."""
    path = tmp_path / "store.db"
    keys = [key for (key,) in look(whole, "SELECT key FROM log WHERE context = 2 ORDER BY key")]
    for key in keys[-3:]:
        data = bytearray(whole.read_bytes())
        at = data.find(key[:8])
        while at >= 0:
            data[at] = 0
            at = data.find(key[:8], at + 1)
        path.write_bytes(data)
        assert any("out of order" in problem for problem in audited(path))


def test_pages_of_an_index_that_falls_out_of_order_end(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    shutil.copy(whole, path)
    ((key,),) = look(path, "SELECT max(key) FROM log WHERE context = 2")

    async def go() -> Audit:
        async with opened(path) as store:
            data = bytearray(path.read_bytes())
            at = data.find(key[:8])
            while at >= 0:
                data[at] = 0
                at = data.find(key[:8], at + 1)
            path.write_bytes(data)
            async with store.snapshot(MAIN) as snapshot:
                with pytest.raises(StoreError, match="out of order"):
                    await snapshot.page(None, records_max=1000, bytes_max=1 << 30)
            return await verdict_of(store)

    assert any("out of order" in problem for problem in run(go()).problems)


def test_a_row_that_the_index_does_not_know_is_found(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    shutil.copy(whole, path)
    change(
        path,
        "PRAGMA writable_schema = ON",
        "CREATE TABLE kept AS SELECT * FROM sqlite_schema WHERE name = 'log_leaf'",
        "DELETE FROM sqlite_schema WHERE name = 'log_leaf'",
    )
    change(
        path,
        "UPDATE log SET key = randomblob(32) WHERE seq = 20",
        "INSERT INTO log SELECT 9999, context, key, randomblob(32), created, bytes FROM log WHERE seq = 21",
    )
    change(path, "PRAGMA writable_schema = ON", "INSERT INTO sqlite_schema SELECT * FROM kept")
    change(path, "DROP TABLE kept")
    problems = audited(path)
    assert any("log entry 20: not a COSE_Sign1" in problem for problem in problems), problems
    assert any(problem.startswith("file: ") for problem in problems), problems
    assert any("of them in the index" in problem for problem in problems), problems


def test_an_audit_tells_how_far_it_is_and_sees_one_state_while_writes_go_on(tmp_path: Path) -> None:
    async def go() -> None:
        async with opened(tmp_path / "store.db") as store:
            owner = Owner(store)
            await owner.begin()
            await owner.write(*(owner.draft(f"n{number}") for number in range(3000)))
            totals: list[int] = []
            async for audit in store.audit():
                totals.append(audit.checked)
                await owner.write(*(owner.draft(f"n{number}", bytes([len(totals)])) for number in range(20)))
                assert audit.problems == ()
            assert totals == sorted(totals)
            assert len(set(totals)) >= 3
            assert totals[-1] == 3001

    run(go())


def test_a_thousand_problems_are_enough(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def go() -> None:
        async with opened(path) as store:
            owner = Owner(store)
            await owner.begin()
            await owner.write(*(owner.draft(f"n{number}") for number in range(1500)))

    run(go())
    change(path, "UPDATE log SET bytes = x'00' WHERE seq > 1")
    assert len(audited(path)) == 1000
