"""The watch over a store's life: it makes the links that `life` judges by, and keeps their stamps in the database.

    opening             find the links -> decide -> make a new `life` -> commit its stamp -> put it in place
    own write           make a new `wrote` -> commit its stamp with the versions -> put it in place
    clean close         a new `life`, as at the opening

A link is made under another name first. Its inode and birth time are known and committed before it is renamed, and stay
what they are. Every step may be the last before a crash. Everything here is synchronous, on the thread of the
connection that writes.

Where no link can be made (a file system without symbolic links, a full disk), the link that stands is taken as this
life's, and the machine alone tells.
"""

import ctypes
import fcntl
import os
import secrets
import sqlite3
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from echonode.model.identity import Instance
from echonode.store.sqlite.connection import transaction
from echonode.store.sqlite.life import (
    OWN_WRITES_PER_LIFE,
    Found,
    Marks,
    SecondLife,
    Stamp,
    SymbolicLink,
    read_marks,
    second_life,
)

LIFE: Final = "life"
WROTE: Final = "wrote"
SAVE_MARK: Final = "INSERT OR REPLACE INTO meta VALUES (?, ?)"

_TOKEN_BYTES: Final = 8
_AT_FDCWD: Final = -100
_AT_SYMLINK_NOFOLLOW: Final = 0x100
_STATX_BYTES: Final = 256
_STATX_BTIME: Final = 0x800  # also the bit of stx_mask that says that there is a birth time (statx(2))
_BTRFS_IOC_GET_SUBVOL_INFO: Final = 0x81F8943C  # linux/btrfs.h; needs no privilege since Linux 4.18
_SUBVOL_INFO_BYTES: Final = 504
_SUBVOL_UUID: Final = slice(296, 312)


@dataclass(frozen=True, slots=True)
class NextMarks:
    """Marks to be committed, and the names of the links to put in place once they are."""

    marks: Marks
    links: tuple[str, ...]


class LifeWatch:
    """Watches the life of the store in `folder`. `machine` names this machine, "" where that says nothing.

    `second_life` is the reason for which `begin` saved a new instance, None when it did not."""

    def __init__(self, folder: Path, machine: str) -> None:
        self.second_life: SecondLife | None = None
        self._folder = folder
        self._machine = machine
        self._marks = Marks(machine, "", (), 0, None)

    def begin(self, connection: sqlite3.Connection, new_instance: Callable[[], Instance], *, is_new: bool) -> None:
        """Decide, save a new instance where this is a second life, and put the next link `life` in place.

        `is_new`: the database was made just now, so this is its first life. Raises sqlite3.Error. On a full disk a
        store that goes on with its life keeps the marks that it has."""
        found = self._find()
        rows = dict(connection.execute("SELECT name, value FROM meta WHERE name IN (?, ?)", (LIFE, WROTE)).fetchall())
        marks = read_marks(rows.get(LIFE), rows.get(WROTE))
        why = None if is_new else second_life(marks, found)
        self._marks = replace(
            marks or self._marks,
            machine=found.machine,
            volume=found.volume,
            links=(found.life,) if found.life else (),
        )
        upcoming = self._make_links(self._marks, has_written=is_new or why is not None, is_renewal=True)
        try:
            with transaction(connection):
                if why is not None:
                    connection.execute("UPDATE meta SET value = ? WHERE name = 'instance'", (new_instance(),))
                connection.executemany(SAVE_MARK, upcoming.marks.rows())
        except sqlite3.OperationalError as error:
            if why is not None or not getattr(error, "sqlite_errorname", "").startswith("SQLITE_FULL"):
                raise
        else:
            self.put_in_place(upcoming)
        self.second_life = why

    def next_marks(self, own_writes: int, *, is_renewal: bool) -> NextMarks:
        """Return the marks to commit with a transaction that holds so many own versions.

        Makes the links. `is_renewal`: a new link `life` is due in any case."""
        before, written = self._marks.written, self._marks.written + own_writes
        is_due = before // OWN_WRITES_PER_LIFE != written // OWN_WRITES_PER_LIFE
        marks = replace(self._marks, written=written)
        return self._make_links(marks, has_written=own_writes > 0, is_renewal=is_renewal or is_due)

    def put_in_place(self, upcoming: NextMarks) -> None:
        """Put the links of `upcoming`, which is committed, in place."""
        self._marks = upcoming.marks
        for name in upcoming.links:
            with suppress(OSError):
                os.rename(self._new(name), self._folder / name)
        if LIFE in upcoming.links:
            # Only two links may stand. Without this a power failure could take back two renewals at once.
            with suppress(OSError):
                descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def _make_links(self, marks: Marks, *, has_written: bool, is_renewal: bool) -> NextMarks:
        names = []
        if has_written:
            wrote = self._make(WROTE, str(marks.written))
            marks = replace(marks, wrote=wrote.stamp if wrote else None)
            names += [WROTE] if wrote else []
        if is_renewal and (life := self._make(LIFE, secrets.token_hex(_TOKEN_BYTES))):
            marks = replace(marks, links=(*marks.links[-1:], life))
            names.append(LIFE)
        return NextMarks(marks, tuple(names))

    def _find(self) -> Found:
        return Found(
            self._machine, _volume(self._folder), _read_link(self._folder / LIFE), _read_link(self._folder / WROTE)
        )

    def _new(self, name: str) -> Path:
        return self._folder / f"{name}.new"

    def _make(self, name: str, target: str) -> SymbolicLink | None:
        """Make a link under another name; return it, None where that is impossible."""
        new = self._new(name)
        try:
            new.unlink(missing_ok=True)
            os.symlink(target, new)
            return SymbolicLink(target, _stamp(new))
        except OSError:
            return None


def _read_link(path: Path) -> SymbolicLink | None:
    try:
        return SymbolicLink(os.readlink(path), _stamp(path))
    except OSError:
        return None


def _stamp(path: Path) -> Stamp:
    status = os.lstat(path)
    born_s: float = getattr(status, "st_birthtime", 0.0)  # on macOS and the BSDs
    return Stamp(status.st_ino, int(born_s * 1e9) or _statx_born_ns(path), status.st_ctime_ns)


def _statx_born_ns(path: Path) -> int:
    """Return the birth time that statx(2) gives, 0 where there is none. Python has no call for it."""
    if _LIBC is None:
        return 0
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    if _LIBC.statx(_AT_FDCWD, os.fsencode(path), _AT_SYMLINK_NOFOLLOW, _STATX_BTIME, buffer):
        return 0
    (mask,) = struct.unpack_from("=I", buffer, 0)
    seconds, nanoseconds = struct.unpack_from("=qI", buffer, 0x50)
    return int(seconds) * 1_000_000_000 + int(nanoseconds) if mask & _STATX_BTIME else 0


def _load_libc() -> ctypes.CDLL | None:
    """Return the C library if it has statx."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    return library if hasattr(library, "statx") else None


_LIBC: Final = _load_libc()


def _volume(folder: Path) -> str:
    """Return the UUID of the btrfs subvolume that holds `folder`, "" elsewhere.

    A snapshot keeps the inodes and birth times of what is in it."""
    if sys.platform != "linux":
        return ""
    info = bytearray(_SUBVOL_INFO_BYTES)
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, _BTRFS_IOC_GET_SUBVOL_INFO, info)
        finally:
            os.close(descriptor)
    except OSError:
        return ""
    uuid = bytes(info[_SUBVOL_UUID])
    return uuid.hex() if any(uuid) else ""
