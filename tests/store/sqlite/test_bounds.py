"""Bounds of the store, each tried at its last value inside and at the first one outside."""

import asyncio
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from echonode.clock import Timestamp
from echonode.errors import StoreError
from echonode.limits import (
    BALLAST_BYTES,
    BATCH_RECORDS_MAX,
    COUNTER_MENTIONED_MAX,
    FREE_SPACE_BYTES_MAX,
    FREE_SPACE_BYTES_MIN,
    FREE_SPACE_SHARE,
    HISTORY_DAYS,
    MIB,
    STORE_CALLS_WAITING_MAX,
    VECTOR_ENTRIES_MAX,
)
from echonode.model.identity import Instance, Writer, writer_of
from echonode.model.merkle import Digest
from echonode.model.record import IDENTITIES, MAIN, Draft, leaf_key, sign
from echonode.store import merge
from echonode.store.draft_signing import prepare_versions
from echonode.store.memory import MemoryStore
from echonode.store.sqlite import disk_space
from echonode.store.sqlite.connection import NothingWrittenError
from echonode.store.sqlite.disk_space import DiskSpace
from echonode.store.sqlite.group_commit import _GROUP_RECORDS_MAX, _PURGE_ROWS
from tests.contracts.store import admit, ids, verdict_of
from tests.store.files import INSTANCE, commits, look, opened, run
from tests.store.people import NOW_MS, Owner, Person, known, ticking

DAY_MS = 24 * 3600 * 1000


# -- the queue ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_group_holds_exactly_so_many_records(tmp_path: Path, beyond: int) -> None:
    path = tmp_path / "store.db"

    async def go() -> None:
        async with opened(path) as store:
            person = Person(2)
            await admit(store, person)
            batches = [[person.version(f"n{number}")] * (BATCH_RECORDS_MAX // 4) for number in range(4)]
            assert sum(map(len, batches)) == _GROUP_RECORDS_MAX
            batches += [[person.version("beyond")]] * beyond
            before = commits(path)
            await asyncio.gather(  # the first call goes alone
                store.save_peer(known("anna", person.id)), *(store.apply(MAIN, batch) for batch in batches)
            )
            assert commits(path) == before + 2 + beyond

    run(go())


def test_many_small_commits_behind_a_slow_disk_all_arrive(tmp_path: Path) -> None:
    """Queue 3,000 writes of 1 KiB each, many times what one group or the queue takes, on a connection that dawdles."""
    path = tmp_path / "store.db"
    count = 3000
    assert count > 20 * STORE_CALLS_WAITING_MAX

    async def go() -> None:
        async with opened(path) as store:
            person = Person(2)
            await admit(store, person)
            versions = [person.version(f"n{number}", os.urandom(1024)) for number in range(count)]
            assert sum(len(version.raw) for version in versions) > 3 * 2**20
            await store._commits.database.run(
                lambda raw: raw.set_progress_handler(lambda: time.sleep(0.0005), 2000)  # blocks the connection's thread
            )
            outcomes = await asyncio.gather(*(store.apply(MAIN, [version]) for version in versions))
            assert [outcome.records for outcome in outcomes] == [(version,) for version in versions]
            assert await ids(store) == [version.id for version in versions]
        async with opened(path) as store:
            assert await ids(store) == [version.id for version in versions]
            assert (await verdict_of(store)).problems == ()

    run(go())


@pytest.mark.parametrize("rows", [_PURGE_ROWS - 1, _PURGE_ROWS, _PURGE_ROWS + 1])
def test_leftovers_of_any_size_are_purged_whole(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "store.db"

    async def go() -> None:
        async with opened(path) as store:
            person = Person(2)
            await admit(store, person)
            versions = sorted((person.version(f"n{number}") for number in range(rows)), key=lambda each: each.key)
            await store.stage(MAIN, Digest(bytes(32)), versions)
            await store.promote(MAIN, expected=Digest(bytes(32)))
            while look(path, "SELECT count(*) FROM contexts WHERE name IS NULL") != [(0,)]:  # noqa: ASYNC110 in a file
                await asyncio.sleep(0)
            assert look(path, "SELECT count(*) FROM log") == [(1,)]

    run(go())


def test_a_purge_on_a_full_disk_is_tried_once_and_goes_on_after_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.db"
    looks: list[Path] = []

    def full(folder: Path) -> SimpleNamespace:
        looks.append(folder)
        assert len(looks) < 100, "the purge spins"  # here, because a loop that spins lets no time limit run out
        return SimpleNamespace(f_bavail=0, f_blocks=0, f_frsize=4096)

    async def leave() -> None:
        """Close a store before all of a dropped snapshot is deleted."""
        async with opened(path) as store:
            person = Person(2)
            await admit(store, person)
            versions = sorted((person.version(f"n{n}") for n in range(3 * _PURGE_ROWS)), key=lambda each: each.key)
            await store.stage(MAIN, Digest(bytes(32)), versions)
            await store.promote(MAIN, expected=Digest(bytes(32)))
        assert look(path, "SELECT count(*) FROM log")[0][0] > _PURGE_ROWS

    async def go() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "statvfs", full)
            async with opened(path) as store:
                looks.clear()  # opening looked, too
                cpu_s = time.process_time()
                await asyncio.sleep(0.5)
                assert len(looks) == 1
                assert time.process_time() - cpu_s < 0.25, "it waits; a loop that tries again takes all of a core"
                async with store.snapshot(MAIN) as snapshot:  # and readers are served
                    assert snapshot.stamp.count == 0
        assert look(path, "SELECT count(*) FROM log")[0][0] > _PURGE_ROWS
        async with opened(path):
            while look(path, "SELECT count(*) FROM contexts WHERE name IS NULL") != [(0,)]:  # noqa: ASYNC110 in a file
                await asyncio.sleep(0)

    run(leave())
    run(go())


# -- the disk ----------------------------------------------------------------------------------------------------------


class Disk:
    """A disk with `free` bytes left, as statvfs tells it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = 1 << 40
        self.size = 0
        self.space = DiskSpace(folder / "store.db")
        self.ballast = folder / "store.db-ballast"
        sizes = lambda _: SimpleNamespace(f_bavail=self.free, f_blocks=self.size, f_frsize=1)  # noqa: E731
        monkeypatch.setattr(os, "statvfs", sizes)

    def check(self, free: int) -> None:
        self.free = free
        self.space.check()


def test_writes_are_taken_down_to_the_floor_and_not_a_byte_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(tmp_path, monkeypatch)
    disk.check(FREE_SPACE_BYTES_MIN)
    with pytest.raises(NothingWrittenError, match=r"disk nearly full: 63 MiB left .*, writes need 64"):
        disk.check(FREE_SPACE_BYTES_MIN - 1)


@pytest.mark.parametrize(
    ("size", "floor"),
    [(1 << 30, FREE_SPACE_BYTES_MIN), (FREE_SPACE_SHARE * 300 * MIB, 300 * MIB), (1 << 43, FREE_SPACE_BYTES_MAX)],
)
def test_the_floor_is_a_share_of_the_disk_within_its_bounds(
    size: int, floor: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(tmp_path, monkeypatch)
    disk.size = size
    disk.check(floor)
    with pytest.raises(NothingWrittenError, match=f"writes need {floor // MIB}"):
        disk.check(floor - 1)


def test_the_ballast_is_made_where_it_leaves_the_floor_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path, monkeypatch)
    disk.check(FREE_SPACE_BYTES_MIN + BALLAST_BYTES - 1)
    assert not disk.ballast.exists()
    disk.check(FREE_SPACE_BYTES_MIN + BALLAST_BYTES)
    assert disk.ballast.stat().st_size == BALLAST_BYTES


def test_the_ballast_goes_when_opening_needs_its_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path, monkeypatch)
    disk.check(1 << 40)
    disk.free = disk_space._OPENING_BYTES_MIN
    disk.space.release_ballast()
    assert disk.ballast.exists()
    disk.free -= 1
    disk.space.release_ballast()
    assert not disk.ballast.exists()


@pytest.mark.parametrize(("late_ms", "kept"), [(0, 3), (1, 1)])
def test_history_is_kept_for_so_many_days_and_no_millisecond_longer(tmp_path: Path, late_ms: int, kept: int) -> None:
    path = tmp_path / "store.db"

    async def edit(times: int, now_ms: int) -> None:
        async with opened(path, now_ms) as store:
            owner = Owner(store)
            await owner.begin()
            for number in range(times):
                await owner.put("a", bytes([number]))

    run(edit(3, NOW_MS))  # two versions superseded
    assert look(path, "SELECT count(*) FROM history WHERE context > 1") == [(2,)]
    run(edit(1, NOW_MS + HISTORY_DAYS * DAY_MS + late_ms))  # one more, which may delete two older ones
    assert look(path, "SELECT count(*) FROM history WHERE context > 1") == [(kept,)]


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_page_of_a_snapshot_has_exactly_so_many_records(tmp_path: Path, beyond: int) -> None:
    async def go() -> None:
        async with opened(tmp_path / "store.db") as store:
            person = Person(2)
            await admit(store, person)
            await store.apply(MAIN, [person.version(f"n{number}") for number in range(BATCH_RECORDS_MAX + beyond)])
            async with store.snapshot(MAIN) as snapshot:
                records, is_all = await snapshot.page(None, records_max=1 << 30, bytes_max=1 << 30)
            assert (len(records), is_all) == (BATCH_RECORDS_MAX, not beyond)

    run(go())


# -- merging and signing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_counter_that_others_mention_is_followed_up_to_a_bound(beyond: int) -> None:
    store, ahead, other = MemoryStore(INSTANCE), Person(1), Person(2)
    ahead.instance = INSTANCE  # `ahead` has the owner's keys: its version is one that this store lost
    ahead.counter = COUNTER_MENTIONED_MAX - 1 + beyond

    async def go() -> int:
        owner = Owner(store)
        await owner.begin()
        await admit(store, other)
        mention = other.version("b", b"", [ahead.version("b")])
        assert mention.vector[ahead.version("c").writer] == COUNTER_MENTIONED_MAX + beyond
        await store.apply(MAIN, [mention])
        return (await owner.put("a")).counter

    assert run(go()) == (2 if beyond else COUNTER_MENTIONED_MAX + 1)


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_version_covers_exactly_so_many_writers(beyond: int) -> None:
    person = Person(2)
    vector = {Writer(number.to_bytes(16, "big")): 1 for number in range(VECTOR_ENTRIES_MAX - 2 + beyond)}
    head_instance = Instance(b"another.")
    draft = Draft(context=MAIN, author=person.id, name="a", body=b"")
    vector[writer_of(person.device.public, head_instance)] = 1
    head = sign(draft, person.device, instance=head_instance, vector=vector, timestamp=Timestamp(1))
    assert len(head.vector) == VECTOR_ENTRIES_MAX - 1 + beyond

    def prepare() -> int:
        (version,) = prepare_versions(
            [draft],
            [leaf_key(person.id, "a")],
            person.device.public,
            {leaf_key(person.id, "a"): [head]},
            instance=person.instance,
            next_counter=1,
            tick=ticking(),
        )
        assert version is not None
        return len(version.vector)

    assert prepare() == (1 if beyond else VECTOR_ENTRIES_MAX)


def test_so_many_forks_are_remembered_and_no_more_even_of_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "FORKS_REMEMBERED", 6)
    store, person = MemoryStore(INSTANCE), Person(2)

    async def go() -> list[int]:
        await admit(store, person)
        counts = []
        for batch in (2, 1, 2):  # pairs of versions that share a dot
            versions = []
            for pair in range(batch):
                for body in (b"left", b"right"):
                    versions.append(person.version(f"{len(counts)}/{pair}", body))
                    person.counter -= 1
                person.counter += 1
            await store.apply(MAIN, versions)
            counts.append(len(store.forked()))
        return counts

    assert run(go()) == [4, 6, 6]
    assert len(store.conflicts(MAIN)) == 5


def test_a_store_on_a_full_disk_refuses_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> None:
        async with opened(tmp_path / "store.db") as store:
            await Owner(store).begin()
            monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=1, f_blocks=0, f_frsize=1))
            store._commits._space_checked_s = float("-inf")
            with pytest.raises(StoreError, match=r"disk nearly full: 0 MiB left under .*, writes need 64$"):
                await Owner(store).put("a")
            assert len(store.tree(IDENTITIES)) == 1

    run(go())
