"""Homes put back, copied and moved by the tools that people use, on real file systems.

Each restore is tried after a clean end and after a kill, and with a backup of an earlier opening and of the last one.
Every restore begins a second life; nothing else does.
"""

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from echonode.errors import StoreError
from echonode.store.sqlite.life import SecondLife
from tests.faults.file_systems import file_system, mounted
from tests.faults.rooted import command, small_disk
from tests.store.files import run
from tests.store.lives import Life, living, open_watched, reopened

KINDS = ["here", *(pytest.param(kind, marks=pytest.mark.root) for kind in ("ext4", "xfs", "btrfs", "tmpfs", "overlay"))]
numbers = itertools.count()


@pytest.fixture(scope="module", params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on each file system."""
    with file_system(request.param, tmp_path_factory.mktemp("disk")) as folder:
        yield folder


@pytest.fixture
def folder(place: Path) -> Iterator[Path]:
    """A folder of the test's own on the file system."""
    own = place / str(next(numbers))
    own.mkdir()
    yield own
    shutil.rmtree(own)


def shell(line: str, folder: Path, **names: Path) -> None:
    """Run `line`, in which {h} stands for the home and {b} for its backup."""
    program = next((word for word in ("rsync",) if line.startswith(word)), None)
    if program is not None and shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    command("sh", "-ec", line.format(h=folder / "home", b=folder / "backup", f=folder, **names))


def lived(folder: Path, *, kill: bool, is_reopened: bool) -> None:
    """Let a store live on after a backup was made while it ran."""
    home = folder / "home"
    with living(home, kill=kill) as life:
        life.write(5)
    with living(home, kill=kill) as life:
        assert life.second_life is None
        life.write(3)
        shell("mkdir {b}; cp -a {h}/. {b}; tar -C {h} -cf {f}/backup.tar .", folder)
        life.write(3)
    if is_reopened:
        with living(home, kill=kill) as life:
            assert life.second_life is None
            life.write(2)


RESTORES = {
    "cp -a over it": "cp -a {b}/. {h}",
    "cp -a --reflink over it": "cp -a --reflink=auto {b}/. {h}",
    "cp -a in place of it": "rm -rf {h}; cp -a {b} {h}",
    "cp -r in place of it": "rm -rf {h}; cp -r {b} {h}",
    "mv the backup there": "rm -rf {h}; mv {b} {h}",
    "rsync": "rsync -a --delete {b}/ {h}",
    "rsync in place": "rsync -a --inplace --delete {b}/ {h}",
    "the database alone": "rm -f {h}/store.db-*; cp {b}/store.db* {h}",
    "tar": "tar -C {h} -xf {f}/backup.tar",
    "tar --overwrite": "tar -C {h} --overwrite -xf {f}/backup.tar",
}


@pytest.mark.parametrize("line", RESTORES.values(), ids=RESTORES)
@pytest.mark.parametrize("kill", [False, True], ids=["closed", "killed"])
@pytest.mark.parametrize("is_reopened", [False, True], ids=["same opening", "reopened since"])
def test_a_restored_home_begins_a_second_life(folder: Path, line: str, kill: bool, is_reopened: bool) -> None:
    lived(folder, kill=kill, is_reopened=is_reopened)
    shell(line, folder)
    assert reopened(folder / "home") is not None
    assert reopened(folder / "home") is None


NOTHING = {
    "a restart": ":",
    "chmod and chown": "chmod -R u+rwX {h}; chown -hR 0:0 {h}",
    "moved within the disk": "mv {h} {f}/elsewhere; mkdir {f}/deeper; mv {f}/elsewhere {f}/deeper; mv {f}/deeper/* {h}",
    "read by a backup": "tar -C {h} -cf {f}/another.tar .; cp -a {h} {f}/another",
}


@pytest.mark.parametrize("line", NOTHING.values(), ids=NOTHING)
@pytest.mark.parametrize("kill", [False, True], ids=["closed", "killed"])
def test_nothing_else_begins_one(folder: Path, line: str, kill: bool) -> None:
    if "chown" in line and os.geteuid():
        line = line.partition(";")[0]
    lived(folder, kill=kill, is_reopened=True)
    shell(line, folder)
    assert reopened(folder / "home") is None


@pytest.mark.parametrize("line", ["cp -a", "cp -a --reflink=auto", "cp -r"])
def test_a_copy_begins_a_second_life_and_the_original_does_not(folder: Path, line: str) -> None:
    lived(folder, kill=False, is_reopened=True)
    shell(line + " {h} {f}/copy", folder)
    assert reopened(folder / "copy") == SecondLife.NEW_LINK
    assert reopened(folder / "home") is None


def test_a_move_to_another_disk_and_back_begins_one(folder: Path, tmp_path: Path) -> None:
    if folder.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one disk")
    lived(folder, kill=False, is_reopened=True)
    shell("mv {h} {other}/home; mv {other}/home {h}", folder, other=tmp_path)
    assert reopened(folder / "home") == SecondLife.NEW_LINK


def test_kills_between_restarts_begin_none(folder: Path) -> None:
    instances = set()
    for number in range(50):
        life = Life(folder / "home")
        instances.add(life.instance)
        assert life.second_life is None
        life.write(number % 3)
        life.end(kill=True)
    assert len(instances) == 1


@pytest.mark.root
@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_a_disk_that_is_mounted_under_another_number_begins_none(tmp_path: Path, kind: str) -> None:
    with file_system(kind, tmp_path) as place:
        lived(place, kill=True, is_reopened=True)
        number = place.stat().st_dev
        command("umount", place)
        (other := tmp_path / "other.img").write_bytes(bytes(1 << 20))
        device = command("losetup", "--find", "--show", other).strip()  # takes the number that is free now
        try:
            with mounted(place, "-o", "loop", tmp_path / f"{kind}.img"):
                assert kind == "btrfs" or place.stat().st_dev != number, "btrfs has numbers of its own"
                assert reopened(place / "home") is None
        finally:
            command("losetup", "--detach", device)
        command("mount", "-o", "loop", tmp_path / f"{kind}.img", place)  # as it was


@pytest.mark.root
def test_a_subvolume_put_back_from_a_snapshot_begins_one(tmp_path: Path) -> None:
    with file_system("btrfs", tmp_path) as place:
        command("btrfs", "subvolume", "create", place / "home")
        with living(place / "home") as life:
            life.write(3)
        command("btrfs", "subvolume", "snapshot", place / "home", place / "snapshot")
        with living(place / "home") as life:
            assert life.second_life is None
            life.write(3)
        command("btrfs", "subvolume", "delete", place / "home")
        command("btrfs", "subvolume", "snapshot", place / "snapshot", place / "home")
        assert reopened(place / "home") == SecondLife.OTHER_VOLUME
        assert reopened(place / "home") is None


@pytest.mark.root
def test_a_full_disk_begins_no_second_life(tmp_path: Path) -> None:
    """With a few free pages the store can be opened and not written."""
    with small_disk(tmp_path / "disk", 80) as disk:
        home = disk / "home"
        with living(home) as life:
            life.write(3)
        for free_kib in (0, 32, 36, 40, 44, 48, 64):
            (home / "store.db-ballast").unlink()
            with (disk / "filler").open("wb") as filler:
                usage = os.statvfs(disk)
                os.posix_fallocate(filler.fileno(), 0, usage.f_bavail * usage.f_frsize - free_kib * 1024)
            assert run(open_if_possible(home)) is None
            (disk / "filler").unlink()
            assert reopened(home) is None


async def open_if_possible(home: Path) -> str | None:
    try:
        store = await open_watched(home)
    except StoreError:
        return None
    await store.close()
    return store.second_life


@pytest.mark.root
def test_a_disk_without_birth_times_tells_copies_by_their_inodes(tmp_path: Path) -> None:
    with file_system("ext3", tmp_path) as place:
        lived(place, kill=True, is_reopened=True)
        shell("chmod -R u+rwX {h}; cp -a {h} {f}/copy", place)
        assert reopened(place / "home") is None
        assert reopened(place / "copy") == SecondLife.NEW_LINK
