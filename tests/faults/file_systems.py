"""Real file systems for a test: images on loop devices, a tmpfs, an overlay. Each is gone after the test module."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.faults.rooted import command, needs_root

_IMAGE_MIB: Final = 400  # xfs makes no smaller ones than 300; the image is sparse
_MAKE: Final = {
    "ext4": ("mkfs.ext4", "-q"),
    "ext3": ("mkfs.ext3", "-q", "-I", "128"),  # inodes without room for a birth time
    "xfs": ("mkfs.xfs", "-q"),
    "btrfs": ("mkfs.btrfs", "-q"),
}


def new_image(folder: Path, kind: str) -> Path:
    """Make a file system of this kind in a file."""
    needs_root()
    program, *options = _MAKE[kind]
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    file = folder / f"{kind}.img"
    with file.open("wb") as opened:
        opened.truncate(_IMAGE_MIB << 20)
    command(program, *options, file)
    return file


@contextmanager
def image(folder: Path, kind: str) -> Iterator[Path]:
    """Make a file system of this kind in a file, and mount it."""
    file, place = new_image(folder, kind), folder / kind
    place.mkdir()
    with mounted(place, "-o", "loop", file):
        yield place
    file.unlink()


@contextmanager
def mounted(place: Path, *arguments: object) -> Iterator[None]:
    """Mount something at `place`. Skip the test where this machine cannot."""
    try:
        command("mount", *arguments, place)
    except subprocess.CalledProcessError:
        pytest.skip(f"this machine cannot mount {place.name}")
    try:
        yield
    finally:
        command("umount", "--lazy", place)


@contextmanager
def _tmpfs(folder: Path) -> Iterator[Path]:
    needs_root()
    place = folder / "tmpfs"
    place.mkdir()
    with mounted(place, "-t", "tmpfs", "-o", "size=200m", "tmpfs"):
        yield place


@contextmanager
def _overlay(folder: Path) -> Iterator[Path]:
    """Mount an overlay over folders of the file system of the tests, as a container has it."""
    needs_root()
    lower, upper, work, place = (folder / name for name in ("lower", "upper", "work", "overlay"))
    for each in (lower, upper, work, place):
        each.mkdir()
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    with mounted(place, "-t", "overlay", "-o", options, "overlay"):
        yield place


@contextmanager
def _here(folder: Path) -> Iterator[Path]:
    yield folder


@contextmanager
def file_system(kind: str, folder: Path) -> Iterator[Path]:
    """Yield a folder on a file system of this kind. "here" is that of the tests."""
    makers: dict[str, Callable[[Path], AbstractContextManager[Path]]]
    makers = {"here": _here, "tmpfs": _tmpfs, "overlay": _overlay}
    with makers[kind](folder) if kind in makers else image(folder, kind) as place:
        yield place
