"""Power loss: the states of a disk that may be found afterwards, made from a record of a process's writes.

    record   entries in order, as shim.c wrote them, and between them marks of the writes acknowledged by then
    Disk     replays them: for each file the synced bytes and the writes since; for each folder the synced names
    image    the disk after a loss of power at any entry: of each unsynced write all, nothing, or any of its 512-byte
             sectors; of the unsynced names of a folder those up to some point (file systems keep their order)

Synced bytes and names always survive. A disk promises no more, and these tests assume no more.
"""

import os
import random
import shutil
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CREATE, WRITE, TRUNCATE, SYNC, UNLINK, RENAME, MARK = range(1, 8)
SECTOR = 512
_HEAD = struct.Struct("=IIQQ")


@dataclass(frozen=True, slots=True)
class Entry:
    kind: int
    path: str
    offset: int
    data: bytes


def mark(descriptor: int, data: bytes) -> None:
    """Append a mark to the record that is open as `descriptor`. It stands behind everything done before it."""
    entry = _HEAD.pack(MARK, 0, 0, len(data)) + data
    assert os.write(descriptor, entry) == len(entry)


def read_record(path: Path) -> list[Entry]:
    """Return the entries of a record."""
    data = path.read_bytes()
    entries: list[Entry] = []
    at = 0
    while at < len(data):
        kind, path_bytes, offset, data_bytes = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        name = data[at : at + path_bytes].decode()
        at += path_bytes
        entries.append(Entry(kind, name, offset, data[at : at + data_bytes]))
        at += data_bytes
    return entries


@dataclass(slots=True, eq=False)
class _File:
    synced: bytearray = field(default_factory=bytearray)
    unsynced: list[Entry] = field(default_factory=list)

    def sync(self) -> None:
        for entry in self.unsynced:
            _perform(self.synced, entry)
        self.unsynced.clear()

    def found(self, rng: random.Random, kept: float, torn: float) -> bytes:
        data = bytearray(self.synced)
        for entry in self.unsynced:
            if entry.kind == WRITE and rng.random() < torn:
                for start in range(0, len(entry.data), SECTOR):
                    if rng.random() < kept:
                        piece = entry.data[start : start + SECTOR]
                        _perform(data, Entry(WRITE, entry.path, entry.offset + start, piece))
            elif rng.random() < kept:
                _perform(data, entry)
        return bytes(data)


def _perform(data: bytearray, entry: Entry) -> None:
    end = entry.offset + len(entry.data)
    if end > len(data):
        data.extend(bytes(end - len(data)))
    if entry.kind == TRUNCATE:
        del data[entry.offset :]
    else:
        data[entry.offset : end] = entry.data


class Disk:
    """The files below a folder, as the entries of a record leave them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._now: dict[str, _File] = {}  # files by name, as the process sees them
        self._synced: dict[str, _File] = {}  # files by name, as the synced folders have them
        self._unsynced: list[tuple[str, _File | None]] = []  # changes of names since then; None: removed

    def follow(self, entry: Entry) -> None:
        """Apply one more entry."""
        file = self._now.get(entry.path)
        match entry.kind:
            case kind if kind == CREATE:
                self._name(entry.path, _File())
            case kind if kind == UNLINK:
                self._name(entry.path, None)
            case kind if kind == RENAME and file is not None:
                self._name(entry.data.decode(), file)
                self._name(entry.path, None)
            case kind if kind == SYNC and file is None:
                self._sync_folder(entry.path)
            case kind if kind == SYNC and file is not None:
                file.sync()
            case kind if kind in (WRITE, TRUNCATE) and file is not None:
                file.unsynced.append(entry)
            case _:
                pass  # a mark, or a file without a name

    def _name(self, path: str, file: _File | None) -> None:
        self._unsynced.append((path, file))
        _rename(self._now, path, file)

    def _sync_folder(self, folder: str) -> None:
        for path, file in self._unsynced:
            if os.path.dirname(path) == folder:
                _rename(self._synced, path, file)
        self._unsynced = [(path, file) for path, file in self._unsynced if os.path.dirname(path) != folder]

    def image(self, rng: random.Random, target: Path) -> None:
        """Write the disk as it may be found after a loss of power now, below `target`."""
        kept = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        torn = rng.choice((0.0, 0.5, 1.0))
        names = dict(self._synced)
        for path, file in self._unsynced[: rng.randint(0, len(self._unsynced))]:
            _rename(names, path, file)
        for path, file in names.items():
            found = target / Path(path).relative_to(self._folder)
            found.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            found.write_bytes(file.found(rng, kept, torn))
            found.chmod(0o600)


def _rename(names: dict[str, _File], path: str, file: _File | None) -> None:
    if file is None:
        names.pop(path, None)
    else:
        names[path] = file


def images(
    entries: Sequence[Entry], folder: Path, amount: int, rng: random.Random, target: Path
) -> Iterator[tuple[Path, list[bytes]]]:
    """Yield `amount` images of `folder`, each cut at a random entry, with the marks before it.

    All images are made at `target`: each one replaces the one before.
    """
    cuts = sorted(rng.randrange(1, len(entries) + 1) for _ in range(amount))
    disk = Disk(folder)
    replayed, marks = 0, list[bytes]()
    for cut in cuts:
        for entry in entries[replayed:cut]:
            disk.follow(entry)
            if entry.kind == MARK:
                marks.append(entry.data)
        replayed = cut
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(mode=0o700)
        disk.image(rng, target)
        yield target, marks
