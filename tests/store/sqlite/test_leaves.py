"""Full leaves and history on disk: read by bytes, merged beside the event loop, bounded, audited and repaired."""

import asyncio
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from echonode.limits import HEADS_PER_KEY_MAX, MIB
from echonode.model.heads import LeafBounds
from echonode.model.identity import Instance
from echonode.model.record import IDENTITIES, MAIN, LeafKey, Record
from echonode.store.leaf import Leaf, LeafMerge
from echonode.store.paging import fit_leaves
from echonode.store.port import HistoryInfo
from echonode.store.sqlite import leaves, transaction
from echonode.store.sqlite.repair import repair
from tests.contracts.store import admit, ids, verdict_of
from tests.contracts.store_leaves import KEYS, beside, let_in, of
from tests.store.files import change, look, opened, run
from tests.store.people import NOW_MS, Owner, Person

AUTHOR = 2
MANY = 40


def crowd(author: Person, count: int = MANY, body: bytes = b"") -> list[Record]:
    """Return concurrent versions of one record by one key, the least rank first."""
    return [beside(author, number, KEYS[0], counter=number, body=body) for number in range(1, count + 1)]


async def fill(path: Path, versions: Sequence[Record]) -> HistoryInfo:
    async with opened(path) as store:
        await let_in(store, Person(AUTHOR), *KEYS)
        await store.apply(MAIN, versions)
        return store.history()


# -- beside the event loop ---------------------------------------------------------------------------------------------


def test_the_leaves_that_a_batch_touches_are_merged_on_the_connections_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()
    merge = Leaf.merge

    def noted(self: Leaf, arrived: Sequence[Record], bounds: LeafBounds) -> LeafMerge:
        threads.add(threading.get_ident())
        return merge(self, arrived, bounds)

    async def go() -> None:
        async with opened(tmp_path / "store.db") as store:
            author = Person(AUTHOR)
            await let_in(store, author, *KEYS)
            versions = crowd(author, 200)
            monkeypatch.setattr(Leaf, "merge", noted)
            await store.apply(MAIN, versions[:100])  # into a new leaf
            await store.apply(MAIN, versions[100:])  # into a full one
            others = [beside(author, number, KEYS[1 + number % 9]) for number in range(1000, 1100)]
            await store.apply(MAIN, others)
            await store.stage("other", store.tree(MAIN).root, [author.version("a", context="other")] * 2)
            assert threads and threading.get_ident() not in threads

    run(go())


def test_a_batch_of_versions_of_one_record_reads_its_leaf_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[LeafKey] = []
    read_leaves, read_whole_leaf = leaves.read_leaves, leaves.read_whole_leaf

    async def go() -> None:
        async with opened(tmp_path / "store.db") as store:
            author = Person(AUTHOR)
            await let_in(store, author, *KEYS)
            versions = crowd(author, 300)
            await store.apply(MAIN, versions[:100])
            monkeypatch.setattr(
                "echonode.store.sqlite.plan.read_leaves",
                lambda connection, context_id, keys: (read.extend(keys), read_leaves(connection, context_id, keys))[1],
            )
            monkeypatch.setattr(
                "echonode.store.sqlite.plan.read_whole_leaf",
                lambda connection, context_id, key, takes: (
                    read.append(key),
                    read_whole_leaf(connection, context_id, key, takes),
                )[1],
            )
            await store.apply(MAIN, versions[100:])
            assert read == [versions[0].key] * 2, "its heads, and all of it because it is full"

    run(go())


def test_calls_that_share_a_transaction_fill_and_empty_a_leaf_as_calls_one_by_one_do(tmp_path: Path) -> None:
    author = Person(AUTHOR)
    versions = crowd(author, HEADS_PER_KEY_MAX + 4)
    over = author.version("a", b"over", versions[-3:])
    last = author.version("a", b"last", [over, *versions])
    calls = [versions[:10], versions[10:], [over], [versions[0]], [last], [versions[5]]]
    outcomes = []

    async def go(path: Path, at_once: bool) -> None:
        async with opened(path) as store:
            await let_in(store, Person(AUTHOR), *KEYS)
            if at_once:
                first, *applied = await asyncio.gather(store.apply(MAIN, []), *(store.apply(MAIN, c) for c in calls))
                assert first.records == ()
            else:
                applied = [await store.apply(MAIN, call) for call in calls]
            outcomes.append(
                [(of(one.records), one.had, [each.versions for each in one.outranked]) for one in applied]
                + [await ids(store), store.history()]
            )
            assert (await verdict_of(store)).problems == ()

    run(go(tmp_path / "one.db", False))
    run(go(tmp_path / "all.db", True))
    assert outcomes[0] == outcomes[1]


# -- by bytes ----------------------------------------------------------------------------------------------------------


def test_leaves_are_read_one_at_a_time_as_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    author = Person(AUTHOR)
    versions = sorted((author.version(f"n{number}", bytes(1000)) for number in range(200)), key=lambda one: one.key)
    run(fill(path, versions))
    read: list[bytes] = []
    read_raw = leaves.read_raw
    monkeypatch.setattr(leaves, "read_raw", lambda raw, version: (read.append(version), read_raw(raw, version))[1])
    keys = [version.key for version in versions]
    for asked in (keys, keys[::-1]):
        read.clear()
        with closing(sqlite3.connect(path)) as connection:
            (context_id,) = connection.execute("SELECT id FROM contexts WHERE name = 'main'").fetchone()
            with closing(leaves.read_raws(connection, context_id, asked)) as found:
                _, taken, is_all = fit_leaves(found, bytes_max=5 * max(version.size for version in versions))
        assert (taken, len(read), is_all) == (5, 6, False)


def test_an_audit_reads_large_rows_in_pages_of_bounded_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    author = Person(AUTHOR)
    versions = [author.version(f"n{number}", bytes(190_000)) for number in range(60)]
    edits = [author.version(version.name, b"edit", [version]) for version in versions]
    pages: list[int] = []

    async def go() -> None:
        async with opened(path) as store:
            await admit(store, author)
            for at in range(0, 60, 5):
                await store.apply(MAIN, versions[at : at + 5])
            verdict = await verdict_of(store)
            assert (verdict.problems, verdict.checked) == ((), 61)
            await store.apply(MAIN, edits)
            verdict = await verdict_of(store)
            assert (verdict.problems, verdict.checked) == ((), 121)

    from echonode.store.sqlite.audit import Auditor

    verify_rows = Auditor._verify_rows

    async def noted(self: Auditor, rows: Sequence[object]) -> list[Record | None]:
        pages.append(sum(len(row.raw) for row in rows))  # type: ignore[attr-defined]
        return await verify_rows(self, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(Auditor, "_verify_rows", noted)
    run(go())
    assert max(pages) < 16 * MIB and sum(pages) > 2 * 60 * 190_000


# -- history -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beyond", [0, 1])
def test_history_is_kept_up_to_so_many_bytes_and_not_one_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beyond: int
) -> None:
    path = tmp_path / "store.db"
    author = Person(AUTHOR)
    first = author.version("a", bytes(500))
    edits = [first]
    for number in range(20):
        edits.append(author.version("a", bytes([number]) * 500, edits[-1:]))
    superseded = edits[:-1]
    size = sum(edit.size for edit in superseded)
    monkeypatch.setattr(transaction, "HISTORY_BYTES_MAX", size - beyond)

    async def go() -> None:
        async with opened(path) as store:
            await admit(store, author)
            for edit in edits:
                await store.apply(MAIN, [edit])
            kept = superseded[beyond:]
            assert store.history() == HistoryInfo(len(kept), sum(edit.size for edit in kept), 0)
            assert [row[0] for row in look(path, "SELECT id FROM history ORDER BY n")] == [edit.id for edit in kept]
        async with opened(path) as store:
            assert store.history() == HistoryInfo(len(kept), sum(edit.size for edit in kept), 0)

    run(go())


def test_one_large_version_displaces_as_many_small_ones_as_it_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    author = Person(AUTHOR)
    small = [author.version(f"n{number}", b"small") for number in range(100)]
    small_edits = [author.version(one.name, b"", [one]) for one in small]
    large = author.version("large", bytes(20_000))
    bound = large.size + max(version.size for version in small)
    monkeypatch.setattr(transaction, "HISTORY_BYTES_MAX", bound)

    async def go() -> None:
        async with opened(tmp_path / "store.db") as store:
            await admit(store, author)
            await store.apply(MAIN, [*small, large])
            await store.apply(MAIN, small_edits)
            assert store.history().versions > 50
            await store.apply(MAIN, [author.version("large", b"", [large])])
            assert store.history().versions == 2 and bound - 10 < store.history().bytes <= bound

    run(go())


def test_spares_are_dropped_last_and_old_age_spares_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    author = Person(AUTHOR)
    versions = crowd(author, HEADS_PER_KEY_MAX + 5, bytes(100))
    year_ms = 365 * 24 * 3600 * 1000

    async def edit(now_ms: int) -> HistoryInfo:
        async with opened(path, now_ms) as store:
            owner = Owner(store)
            await owner.begin()
            for number in range(10):
                await owner.put("often", bytes([number]))
            assert (await verdict_of(store)).problems == ()
            return store.history()

    assert run(fill(path, versions)).spare == 5
    assert run(edit(NOW_MS)).versions == 9 + 5
    kept = run(edit(NOW_MS + year_ms))
    assert kept == HistoryInfo(10 + 1 + 5, look_bytes(path), 5), "ten edits and a statement of today, and the spares"
    monkeypatch.setattr(transaction, "HISTORY_ROWS_MAX", 7)
    assert run(edit(NOW_MS + year_ms)) == HistoryInfo(7, look_bytes(path), 5)
    monkeypatch.setattr(transaction, "HISTORY_ROWS_MAX", 3)
    assert run(edit(NOW_MS + year_ms)) == HistoryInfo(3, look_bytes(path), 3)
    left = [row[0] for row in look(path, "SELECT id FROM spare ORDER BY n")]
    assert left == [version.id for version in reversed(versions[:3])]


def look_bytes(path: Path) -> int:
    return sum(len(raw) for table in ("history", "spare") for (raw,) in look(path, f"SELECT bytes FROM {table}"))


def test_a_version_that_comes_too_late_is_history_once(tmp_path: Path) -> None:
    author = Person(AUTHOR)
    old = author.version("a", b"old")
    new = author.version("a", b"new", [old])

    async def go() -> None:
        async with opened(tmp_path / "store.db") as store:
            await admit(store, author)
            await store.apply(MAIN, [new])
            for _ in range(3):
                assert (await store.apply(MAIN, [old, old])).had == 2
            assert store.history() == HistoryInfo(1, old.size, 0)
            assert (await verdict_of(store)).problems == ()

    run(go())


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("UPDATE spare SET id = randomblob(32) WHERE n = 1", "spare entry 1"),
        ("UPDATE spare SET bytes = x'00' WHERE n = 1", "spare entry 1"),
        ("DELETE FROM log WHERE seq = (SELECT min(seq) FROM log WHERE key IN (SELECT key FROM spare))", "other heads"),
        (
            "INSERT INTO log SELECT 9999, context, key, id, zeroblob(9), bytes FROM spare LIMIT 1",
            "more heads than a leaf may have",
        ),
        ("UPDATE sums SET bytes = bytes + 1 WHERE place = 'spare'", "sums: spare holds"),
        ("UPDATE sums SET versions = 0 WHERE place = 'history'", "sums: history holds"),
    ],
)
def test_damage_of_a_full_leaf_is_named(tmp_path: Path, damage: str, expected: str) -> None:
    path = tmp_path / "store.db"
    author = Person(AUTHOR)
    old = author.version("b")
    run(fill(path, [*crowd(author), old, author.version("b", b"", [old])]))
    run(fill(path, [old]))
    change(path, damage)

    async def go() -> tuple[str, ...]:
        async with opened(path) as store:
            return (await verdict_of(store)).problems

    problems = run(go())
    assert any(expected in problem for problem in problems), problems


def test_a_repair_keeps_spare_and_history(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    author = Person(AUTHOR)
    versions = crowd(author)
    old = author.version("b")
    before = run(fill(path, [*versions, author.version("b", b"", [old])]))
    run(fill(path, [old]))

    async def introduce(_: object) -> None: ...

    async def go() -> None:
        repaired = await repair(
            path, new_instance=lambda: Instance(b"repaired"), now_ms=lambda: NOW_MS, introduce=introduce
        )
        assert (repaired.left, repaired.lost) == (0, ())
        async with opened(path) as store:
            assert set(await ids(store)) == of(versions[-HEADS_PER_KEY_MAX:]) | {
                head.id for head in await store.heads(MAIN, author.id, "b")
            }
            history = store.history()
            assert (history.versions, history.spare) == (before.versions + 1, MANY - HEADS_PER_KEY_MAX)
            assert (await verdict_of(store)).problems == ()
            over = author.version("a", b"over", versions[-1:])
            assert of((await store.apply(MAIN, [over])).records) == of([over, versions[-HEADS_PER_KEY_MAX - 1]])
            await store.apply(IDENTITIES, [author.statement()])

    run(go())
