"""The watch over a store's life, on the file system of the tests: restarts and crashes go on, copies do not."""

import asyncio
import os
import random
import secrets
import shutil
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from echonode.model.identity import Instance
from echonode.store.sqlite import life_watch
from echonode.store.sqlite.connection import transaction
from echonode.store.sqlite.life import OWN_WRITES_PER_LIFE, SecondLife
from echonode.store.sqlite.life_watch import SAVE_MARK, LifeWatch, NextMarks
from echonode.store.sqlite.schema import create_tables
from echonode.store.sqlite.store import SqliteStore
from tests.store.files import INSTANCE, change, look, run
from tests.store.lives import FORK, MACHINE, living, open_watched, reopened
from tests.store.people import Owner

CRASHES = 50


@asynccontextmanager
async def closing(store: SqliteStore) -> AsyncIterator[SqliteStore]:
    try:
        yield store
    finally:
        await store.close()


def begun(folder: Path) -> Path:
    """Return the home of a store that was opened, written and closed."""
    home = folder / "home"
    with living(home) as life:
        assert life.second_life is None
        life.write(3)
    return home


@pytest.mark.parametrize("kill", [False, True])
def test_a_store_that_is_closed_or_killed_and_opened_again_keeps_its_instance(tmp_path: Path, kill: bool) -> None:
    instances = set()
    for _ in range(4):
        with living(tmp_path / "home", kill=kill) as life:
            assert life.second_life is None
            life.write()
            instances.add(life.instance)
    assert len(instances) == 1


def test_a_copy_takes_a_new_instance_once_and_the_original_goes_on(tmp_path: Path) -> None:
    home = begun(tmp_path)
    shutil.copytree(home, copy := tmp_path / "copy", symlinks=True)
    with living(home) as original, living(copy) as life:
        assert original.second_life is None
        assert life.second_life == SecondLife.NEW_LINK
        assert life.instance != original.instance
    with living(copy) as again:
        assert (again.second_life, again.instance) == (None, life.instance)


def test_the_instance_of_a_second_life_is_in_the_file_before_anything_is_written(tmp_path: Path) -> None:
    home = begun(tmp_path)
    (home / "life").unlink()
    with living(home, kill=True) as life:
        assert life.second_life == SecondLife.NO_LINK
        saved = look(home / "store.db", "SELECT value FROM meta WHERE name = 'instance'")
        assert saved == [(life.instance,)]
    with living(home) as again:
        assert (again.second_life, again.instance) == (None, life.instance)


def test_another_machine_is_noticed_once(tmp_path: Path) -> None:
    home = begun(tmp_path)
    assert reopened(home, "another machine") == SecondLife.OTHER_MACHINE
    assert reopened(home, "another machine") is None
    assert reopened(home, "") is None, "a container says nothing"
    assert reopened(home, MACHINE) is None


def test_a_store_made_before_there_were_marks_takes_a_new_instance_once(tmp_path: Path) -> None:
    home = begun(tmp_path)
    change(home / "store.db", "DELETE FROM meta WHERE name IN ('life', 'wrote')")
    assert reopened(home) == SecondLife.UNMARKED
    assert reopened(home) is None


def test_a_store_that_is_made_anew_beside_old_links_is_in_its_first_life(tmp_path: Path) -> None:
    home = begun(tmp_path)
    (home / "store.db").unlink()
    assert reopened(home) is None


def test_every_thousand_own_versions_begin_a_new_link(tmp_path: Path) -> None:
    async def go() -> list[str]:
        async with closing(await open_watched(tmp_path)) as store:
            owner = Owner(store)
            await owner.begin()
            links = [os.readlink(tmp_path / "life")]
            for count in (OWN_WRITES_PER_LIFE - 2, 1, 1):  # the statement was the first
                await owner.write(*(owner.draft(f"n{number}") for number in range(count)))
                links.append(os.readlink(tmp_path / "life"))
            assert os.readlink(tmp_path / "wrote") == str(OWN_WRITES_PER_LIFE + 1)
        return [*links, os.readlink(tmp_path / "life")]

    opened, before, at, after, closed = run(go())
    assert opened == before != at == after != closed


def test_a_write_moves_the_link_wrote_alone(tmp_path: Path) -> None:
    home = begun(tmp_path)
    with living(home) as life:
        links = [os.readlink(home / name) for name in ("life", "wrote")]
        assert links[1] == "4"
        life.write()
        assert [os.readlink(home / name) for name in ("life", "wrote")] == [links[0], "5"]


class Crash(Exception):
    """The process ends here."""


class CrashingWatch(LifeWatch):
    """A watch whose process ends before committed links are put in place."""

    def put_in_place(self, upcoming: NextMarks) -> None:
        raise Crash


class Opening:
    """One opening of a database, step by step and without a process of its own. A crash takes no further step."""

    def __init__(self, folder: Path, watch: LifeWatch | None = None) -> None:
        self.watch = watch or LifeWatch(folder, MACHINE)
        self._connection = sqlite3.connect(folder / "store.db", isolation_level=None)
        is_new = create_tables(self._connection, folder / "store.db", lambda: INSTANCE)
        self.watch.begin(self._connection, lambda: Instance(secrets.token_bytes(8)), is_new=is_new)

    @property
    def second_life(self) -> SecondLife | None:
        return self.watch.second_life

    def commit(self, upcoming: NextMarks) -> None:
        with transaction(self._connection):
            self._connection.executemany(SAVE_MARK, upcoming.marks.rows())

    def write(self) -> None:
        upcoming = self.watch.next_marks(1, is_renewal=False)
        self.commit(upcoming)
        self.watch.put_in_place(upcoming)


def test_a_crash_while_opening_is_no_second_life(tmp_path: Path) -> None:
    Opening(tmp_path).write()
    for _ in range(3):
        with pytest.raises(Crash):
            Opening(tmp_path, CrashingWatch(tmp_path, MACHINE))
        assert Opening(tmp_path).second_life is None


@pytest.mark.parametrize("is_renewal", [False, True])
@pytest.mark.parametrize("is_committed", [False, True])
def test_a_crash_while_writing_is_no_second_life(tmp_path: Path, is_committed: bool, is_renewal: bool) -> None:
    for _ in range(5):
        opening = Opening(tmp_path)
        assert opening.second_life is None
        opening.write()
        upcoming = opening.watch.next_marks(1, is_renewal=is_renewal)
        if is_committed:
            opening.commit(upcoming)
    assert Opening(tmp_path).second_life is None


def test_a_power_failure_that_takes_back_links_of_own_writes_is_no_second_life(tmp_path: Path) -> None:
    opening = Opening(tmp_path)
    os.link(tmp_path / "wrote", tmp_path / "kept", follow_symlinks=False)
    for _ in range(5):
        opening.write()
    os.rename(tmp_path / "kept", tmp_path / "wrote")
    assert Opening(tmp_path).second_life is None
    (tmp_path / "wrote").unlink()
    assert Opening(tmp_path).second_life is None


@pytest.mark.parametrize(("name", "why"), [("life", SecondLife.NEW_LINK), ("wrote", SecondLife.PUT_BACK)])
def test_a_link_that_is_made_again_with_the_same_target_is_noticed(tmp_path: Path, name: str, why: SecondLife) -> None:
    Opening(tmp_path).write()
    target = os.readlink(tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(target)
    assert Opening(tmp_path).second_life is why
    assert Opening(tmp_path).second_life is None


def test_where_no_link_can_be_made_the_instance_stays_and_the_machine_tells(tmp_path: Path) -> None:
    for name in ("life.new", "wrote.new"):
        (tmp_path / name / "in the way").mkdir(parents=True)
    for _ in range(3):
        opening = Opening(tmp_path)
        assert opening.second_life is None
        opening.write()
    assert not (tmp_path / "life").is_symlink()
    assert Opening(tmp_path, LifeWatch(tmp_path, "another")).second_life is SecondLife.OTHER_MACHINE


def test_a_link_that_cannot_be_replaced_stays_in_force(tmp_path: Path) -> None:
    Opening(tmp_path).write()
    (tmp_path / "life.new" / "in the way").mkdir(parents=True)
    for _ in range(3):
        assert Opening(tmp_path).second_life is None
    (tmp_path / "life").unlink()
    assert Opening(tmp_path).second_life is SecondLife.NO_LINK
    assert Opening(tmp_path).second_life is None, "no link can be made, and that was saved"


def test_without_statx_a_restart_and_a_crash_go_on_and_a_copy_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life_watch, "_LIBC", None)  # as with a C library of before 2018
    home = begun(tmp_path)
    with living(home, kill=True) as life:
        life.write()
    with living(home) as life:
        assert life.second_life is None
    shutil.copytree(home, tmp_path / "copy", symlinks=True)
    assert reopened(tmp_path / "copy") == SecondLife.NEW_LINK
    assert reopened(home) is None


def test_fifty_kills_at_any_moment_are_no_second_life(tmp_path: Path) -> None:
    draw = random.Random("kills")
    home = begun(tmp_path)
    instance = look(home / "store.db", "SELECT value FROM meta WHERE name = 'instance'")
    for _ in range(CRASHES):
        process = FORK.Process(target=live_on, args=(home,))
        process.start()
        process.join(draw.uniform(0.005, 0.15))  # the moment of the kill
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert reopened(home) is None
    assert look(home / "store.db", "SELECT value FROM meta WHERE name = 'instance'") == instance


def live_on(home: Path) -> None:
    """Open, write and close the store again and again."""

    async def go() -> None:
        while True:
            store = await open_watched(home)
            assert store.second_life is None, store.second_life
            await asyncio.gather(*(Owner(store).put(f"n{number}") for number in range(9)))
            await store.close()

    asyncio.run(go())
