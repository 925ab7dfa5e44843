"""Backups: one file that holds a store as it was at one moment, and beside its tables the files of the home.

    home      name, bytes     keys/root, keys/device, network, .. as they were when the copy was made

A copy is made beside its place, while the node runs: SQLite's backup in one read transaction, on a connection of its
own. It is opened and audited as a store before it gets its name, so a file with that name is a whole backup. It holds
the keys of the node, and is for its owner alone.

A restored store knows nothing of its earlier life, so its next opening gives it a new instance (store/sqlite/life.py).
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from echonode.errors import StoreError
from echonode.limits import FREE_SPACE_BYTES_MIN, MIB
from echonode.model.identity import Instance
from echonode.store.port import Audit
from echonode.store.sqlite.connection import to_store_error
from echonode.store.sqlite.life_watch import LIFE, WROTE
from echonode.store.sqlite.schema import check_file
from echonode.store.sqlite.store import SqliteStore

_HOME_TABLE: Final = "CREATE TABLE home (name TEXT PRIMARY KEY, bytes BLOB NOT NULL) STRICT, WITHOUT ROWID"
_PAGES_PER_STEP: Final = 2048
_BUSY_TIMEOUT_S: Final = 5.0
_SIDE_FILES: Final = ("-wal", "-shm", "-journal", "-ballast")


@dataclass(frozen=True, slots=True)
class BackedUp:
    """A backup that was written: its versions, all hashed and verified again, and its size."""

    versions: int
    size_bytes: int


async def back_up(
    store: Path,
    target: Path,
    files: Mapping[str, bytes],
    *,
    new_instance: Callable[[], Instance],
    now_ms: Callable[[], int],
) -> BackedUp:
    """Write a backup of `store` and of `files`, by name, to `target`, replacing what is there.

    Raises StoreError, with `target` as it was."""
    check_file(store)
    with _unfinished(target) as copy:
        _copy(store, copy)
        _add_files(copy, files)
        audit = await audit_copy(copy, new_instance=new_instance, now_ms=now_ms)
        _sync(copy)
        size = copy.stat().st_size
        os.replace(copy, target)
        _sync(target.parent)
    return BackedUp(audit.checked, size)


async def audit_copy(path: Path, *, new_instance: Callable[[], Instance], now_ms: Callable[[], int]) -> Audit:
    """Open the store in `path` as a node would, and audit it. Raises StoreError where anything is wrong with it."""
    audit = Audit(0)
    opened = await SqliteStore.open(
        path, new_instance=new_instance, now_ms=now_ms, counts_usage=False, keeps_copy=False
    )
    try:
        async for total in opened.audit():
            audit = total  # the last one is the verdict
    finally:
        await opened.close()
        _delete_side_files(path)
    if audit.problems:
        raise StoreError(
            f"the copy is not whole ({len(audit.problems)} problems, first: {audit.problems[0]}); "
            "to mend the store itself, stop the node and type: echonode verify --repair"
        )
    return audit


def read_files(path: Path) -> dict[str, bytes]:
    """Return the files of the home in the backup `path`, by name. Raises StoreError for a file that is no backup."""
    check_file(path)
    try:
        with closing(_connect(path, "ro")) as connection:
            return dict(connection.execute("SELECT name, bytes FROM home").fetchall())
    except sqlite3.Error as error:
        if "no such table" in str(error):
            raise StoreError(f"{path} is a store, and no backup: echonode backup writes one") from None
        raise to_store_error(error, path) from error


async def restore_store(
    backup: Path, store: Path, *, new_instance: Callable[[], Instance], now_ms: Callable[[], int]
) -> int:
    """Make `store`, which must not exist, of a backup. Return its number of versions, all verified. Raises StoreError.
    """
    with _unfinished(store) as copy:
        _copy(backup, copy)
        audit = await audit_copy(copy, new_instance=new_instance, now_ms=now_ms)
        try:
            with closing(_connect(copy, "rw")) as connection:
                connection.execute("DROP TABLE home")
                # Without its marks the store begins another life when it is opened: counters may have been given since.
                connection.execute("DELETE FROM meta WHERE name IN (?, ?)", (LIFE, WROTE))
        except sqlite3.Error as error:
            raise to_store_error(error, copy) from error
        _delete_side_files(copy)
        _sync(copy)
        os.replace(copy, store)
        _sync(store.parent)
    return audit.checked


def _copy(source: Path, copy: Path) -> None:
    """Copy the database `source` as it is at one moment, whoever writes to it meanwhile."""
    try:
        with closing(_connect(source, "rw")) as reader, closing(_connect(copy, "rw")) as writer:
            reader.execute("PRAGMA query_only = ON")
            reader.execute("BEGIN")  # one moment for all steps; without it each write would begin the copy anew
            reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            reader.backup(writer, pages=_PAGES_PER_STEP)
    except sqlite3.Error as error:
        raise to_store_error(error, source) from error


def _add_files(copy: Path, files: Mapping[str, bytes]) -> None:
    try:
        with closing(_connect(copy, "rw")) as connection:
            connection.execute("BEGIN")
            connection.execute("DROP TABLE IF EXISTS home")
            connection.execute(_HOME_TABLE)
            connection.executemany("INSERT INTO home VALUES (?, ?)", files.items())
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error as error:
        raise to_store_error(error, copy) from error


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S)
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


@contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """Yield the path of an empty file for this user alone, beside `target`. It is deleted unless it was renamed."""
    copy = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        free = os.statvfs(target.parent)
        if free.f_bavail * free.f_frsize < FREE_SPACE_BYTES_MIN:
            raise StoreError(f"less than {FREE_SPACE_BYTES_MIN // MIB} MiB are free in {target.parent}")
        copy.unlink(missing_ok=True)
        os.close(os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        yield copy
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror}") from None
    finally:
        with suppress(OSError):
            copy.unlink(missing_ok=True)
        _delete_side_files(copy)


def _delete_side_files(path: Path) -> None:
    for suffix in _SIDE_FILES:
        with suppress(OSError):
            Path(f"{path}{suffix}").unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
