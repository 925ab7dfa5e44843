"""Room on the disk: how much is left, and a reserve for the day when there is none.

    above the floor           writes are taken, and the ballast file stands beside the database
    below the floor           writes are refused, while SQLite still finds what it needs to stay whole
    nothing left at opening   the ballast is deleted: its room is enough to open the store, and to read

The floor is a share of the disk, within bounds. It keeps this process from filling a disk. Other processes fill it too,
and then opening needs a little room for the write-ahead log and its index. An open store needs no room to be read, so
the ballast is kept until the next opening.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from echonode.limits import BALLAST_BYTES, FREE_SPACE_BYTES_MAX, FREE_SPACE_BYTES_MIN, FREE_SPACE_SHARE, MIB
from echonode.store.sqlite.connection import NothingWrittenError

_OPENING_BYTES_MIN: Final = BALLAST_BYTES // 2


class DiskSpace:
    """The disk that holds the database `path`."""

    def __init__(self, path: Path) -> None:
        self._folder = path.absolute().parent
        self._ballast = Path(f"{path.absolute()}-ballast")

    def check(self) -> None:
        """Raise NothingWrittenError when too little room is left to write; make the ballast again when there is
        enough."""
        usage = os.statvfs(self._folder)
        free_bytes = usage.f_bavail * usage.f_frsize
        floor_bytes = _floor_bytes(usage.f_blocks * usage.f_frsize)
        if free_bytes < floor_bytes:
            needed = floor_bytes // MIB
            raise NothingWrittenError(
                f"disk nearly full: {free_bytes // MIB} MiB left under {self._folder}, writes need {needed}"
            )
        if free_bytes >= floor_bytes + BALLAST_BYTES and not self._ballast.exists():
            self._create_ballast()

    def release_ballast(self) -> None:
        """Delete the ballast if no other room is left; call it before opening."""
        with suppress(OSError):  # opening, which needs the room, reports what is wrong
            if self._free_bytes() < _OPENING_BYTES_MIN:
                self._ballast.unlink(missing_ok=True)

    def _create_ballast(self) -> None:
        with suppress(OSError):  # a store without its reserve is better than no store
            descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                _allocate(descriptor)
            except OSError:
                self._ballast.unlink()
                raise
            finally:
                os.close(descriptor)

    def _free_bytes(self) -> int:
        usage = os.statvfs(self._folder)
        return usage.f_bavail * usage.f_frsize


def _floor_bytes(disk_bytes: int) -> int:
    """Return how much is kept free on a disk of this size."""
    return max(FREE_SPACE_BYTES_MIN, min(disk_bytes // FREE_SPACE_SHARE, FREE_SPACE_BYTES_MAX))


def _allocate(descriptor: int) -> None:
    """Reserve blocks, and not only a length. macOS has no posix_fallocate."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, BALLAST_BYTES)
    else:
        os.pwrite(descriptor, bytes(BALLAST_BYTES), 0)
