"""Room on the disk: how much is left, and some kept for the day when there is none (SECURITY.md §4).

    above the floor           writes are taken, and the ballast stands beside the database
    below the floor           writes are refused, while SQLite still finds what it needs to stay whole
    nothing left at opening   the ballast is given back: what it leaves is enough to open the store, and to read

The floor keeps this process from filling a disk. Others fill it too, and then opening needs a little: the write-ahead
log and its index. A store that is open needs nothing to be read, so the ballast is kept until then.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from echonode.limits import BALLAST_BYTES, FREE_SPACE_BYTES_MIN, MIB
from echonode.store.sqlite.connection import UndoneError

_LOW_BYTES: Final = BALLAST_BYTES // 2


class DiskSpace:
    """The disk that holds the database `path`."""

    def __init__(self, path: Path) -> None:
        self._folder = path.absolute().parent
        self._ballast = Path(f"{path.absolute()}-ballast")

    def check(self) -> None:
        """Raise UndoneError when there is too little left to write. The ballast is put back when there is enough."""
        free = self._free()
        if free < FREE_SPACE_BYTES_MIN:
            needed = FREE_SPACE_BYTES_MIN // MIB
            raise UndoneError(f"disk nearly full: {free // MIB} MiB left under {self._folder}, writes need {needed}")
        if free >= FREE_SPACE_BYTES_MIN + BALLAST_BYTES and not self._ballast.exists():
            self._take()

    def make_way(self) -> None:
        """Give the ballast back if nothing else is left: before opening."""
        with suppress(OSError):  # whoever needs the room will say what is wrong
            if self._free() < _LOW_BYTES:
                self._ballast.unlink(missing_ok=True)

    def _take(self) -> None:
        with suppress(OSError):  # it is a reserve: going on without is better than not at all
            descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                _reserve(descriptor)
            except OSError:
                self._ballast.unlink()
                raise
            finally:
                os.close(descriptor)

    def _free(self) -> int:
        usage = os.statvfs(self._folder)
        return usage.f_bavail * usage.f_frsize


def _reserve(descriptor: int) -> None:
    """Blocks, and not only a length. macOS has no posix_fallocate."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, BALLAST_BYTES)
    else:
        os.pwrite(descriptor, bytes(BALLAST_BYTES), 0)
