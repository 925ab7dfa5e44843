"""Repair: make a new store, under a new instance, of all that is whole in a damaged one. Peers bring what is missing.

    damaged file --rows that hash and verify--> the ordinary `apply` of a new store --> put in the place of the old one

Only signed versions of the old file are believed, whichever context or row they are stored in. Trees, counters and
heads are derived anew. Key statements go first, then history and spare, then heads, and what voids a key last. So
where a head is damaged, the newest whole version of that record stands until a peer brings the head. Cursors are left
behind, because they would claim that lost records are held. The instance is left behind, because counters may go back.
The damaged file is kept beside the new one.

`store.db` is a whole file at every moment: the old one, then, after one rename, the new one.
"""

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final
from urllib.parse import quote

from echonode.errors import RemoteError, StoreError
from echonode.limits import BATCH_RECORDS_MAX
from echonode.model.identity import Instance
from echonode.model.keys import KeyState, read_statement
from echonode.model.record import IDENTITIES, Record, SignedRecord, parse, verify
from echonode.store.port import KnownPeer, Store
from echonode.store.sqlite.connection import to_store_error
from echonode.store.sqlite.peers import read_whole_peers
from echonode.store.sqlite.schema import check_file
from echonode.store.sqlite.store import SqliteStore
from echonode.text import to_base32

_LostNames = dict[tuple[str, str], None]  # in order

_STEPS_MAX: Final = 4096  # rows tried one by one behind an unreadable one, before the steps grow


@dataclass(frozen=True, slots=True)
class Repaired:
    """The outcome of a repair.

    `kept` versions are whole. `left` rows are damaged, or had no place in the new store. `put_aside` is the damaged
    file. `lost` has context and id, AUTHOR/NAME, of each record that lost a head, as far as the damaged bytes still
    say."""

    kept: int
    left: int
    put_aside: Path
    lost: tuple[tuple[str, str], ...]


async def repair(
    path: Path,
    *,
    new_instance: Callable[[], Instance],
    now_ms: Callable[[], int],
    introduce: Callable[[Store], Awaitable[None]],
) -> Repaired:
    """Put a new store in the place of the one in `path`, which no process may have open.

    `introduce` writes into the new store the statement that its owner's key speaks for the owner, in case that is lost.
    Raises StoreError, with the old file as it was, when it cannot be read at all or there is no room for another one.
    """
    _check_path(path)
    new = path.with_name(f"{path.name}.new")
    _delete_files(new)
    try:
        damaged = await asyncio.to_thread(_DamagedFile, path)
        try:
            store = await SqliteStore.open(new, new_instance=new_instance, now_ms=now_ms, counts_usage=False)
            try:
                kept = await _copy_whole(store, damaged, introduce)
            finally:
                await store.close()
        finally:
            damaged.close()
        aside = await asyncio.to_thread(_put_in_place, path, new)
    except sqlite3.Error as error:
        raise to_store_error(error, path) from error
    except OSError as error:
        raise StoreError(f"{path} cannot be repaired: {error.strerror}") from error
    finally:
        _delete_files(new)
    return Repaired(kept, damaged.rows_read - kept, aside, tuple(damaged.lost))


def _check_path(path: Path) -> None:
    if not path.exists():
        raise StoreError(f"{path} does not exist: there is nothing to repair")
    check_file(path)


async def _copy_whole(
    store: SqliteStore, damaged: "_DamagedFile", introduce: Callable[[Store], Awaitable[None]]
) -> int:
    """Apply all that is whole; return how many versions that is."""
    kept = await _apply_batches(store, damaged.statements(are_final=False))
    await introduce(store)
    kept += await _apply_batches(store, damaged.versions(), damaged.lost)
    # Last: what a void key signed was taken before, and goes to the history as it did at first.
    kept += await _apply_batches(store, damaged.statements(are_final=True))
    for peer in await asyncio.to_thread(damaged.peers):
        await store.save_peer(peer)
    return kept


async def _apply_batches(store: SqliteStore, records: Iterator[Record], lost: _LostNames | None = None) -> int:
    """Apply `records` in batches; return how many were kept, and add the names of those refused to `lost`."""
    kept = 0
    while batch := await asyncio.to_thread(lambda: list(islice(records, BATCH_RECORDS_MAX))):
        by_context: dict[str, list[Record]] = {}
        for record in batch:
            by_context.setdefault(record.context, []).append(record)
        for context, of_context in by_context.items():
            applied = await store.apply(context, of_context)
            kept += len(of_context) - len(applied.refused)
            refused = {each.version for each in applied.refused}
            if lost is not None:
                lost.update(dict.fromkeys(_name_of(record) for record in of_context if record.id in refused))
    return kept


class _DamagedFile:
    """The old file, on a connection of its own."""

    def __init__(self, path: Path) -> None:
        self.rows_read = 0  # rows, readable or not
        self.lost: _LostNames = {}
        self._path = path
        uri = f"file:{quote(str(path))}?mode=rw"
        self._connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        try:
            self._connection.execute("PRAGMA trusted_schema = OFF")
            # Fold the write-ahead log into the file, which then can be put aside alone. This copies pages without
            # reading what is in them.
            if self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise StoreError(f"{path} is in use by another process")
            self._connection.execute("SELECT seq FROM log LIMIT 0")
            self._tables = (("history", "n"), *self._spare_table(), ("log", "seq"))
        except sqlite3.DatabaseError as error:
            self._connection.close()
            if isinstance(error, sqlite3.OperationalError):
                raise to_store_error(error, path) from error
            raise StoreError(f"{path} cannot be repaired ({error}): move it away and sync anew") from error
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        self._connection.close()

    def _spare_table(self) -> Iterator[tuple[str, str]]:
        """Yield the table of spares, which schema 3 did not have, with its column of row numbers."""
        with suppress(sqlite3.OperationalError):
            self._connection.execute("SELECT n FROM spare LIMIT 0")
            yield "spare", "n"

    def statements(self, *, are_final: bool) -> Iterator[Record]:
        """Yield the whole versions of `identities` that state a key compromised (`are_final`), or the others."""
        for record in self._read_whole(is_statement=True):
            if record is not None and _is_final(record) is are_final:
                yield record

    def versions(self) -> Iterator[Record]:
        """Yield the whole versions of all other contexts. Counts all rows, those of `identities` too."""
        for record in self._read_whole(is_statement=False):
            self.rows_read += 1
            if record is not None and record.context != IDENTITIES:
                yield record

    def peers(self) -> list[KnownPeer]:
        """Return the known peers of the right shape. Nothing can tell whether they are what was written."""
        return read_whole_peers(self._connection)

    def _read_whole(self, *, is_statement: bool) -> Iterator[Record | None]:
        """Yield a record for each row that is whole, None for each that is not.

        Rows of `identities` are verified only when they are asked for."""
        for table, number in self._tables:
            for key, raw in self._read_rows(table, number):
                signed = None
                try:
                    signed = parse(raw) if isinstance(raw, bytes) else None
                    skip = signed is None or (is_statement and signed.context != IDENTITIES)
                    yield None if skip or signed is None else verify(signed)
                except RemoteError:
                    # Damaged bytes still name their record where that name gives the key of the row.
                    if table == "log" and signed is not None and signed.key == key and signed.context != IDENTITIES:
                        self.lost[_name_of(signed)] = None
                    yield None

    def _read_rows(self, table: str, number: str) -> Iterator[tuple[object, object]]:
        """Yield key and bytes of every row that SQLite finds in the table itself, whatever its indexes say.

        Yields None for both where it finds damage, and goes on behind it."""
        after, step = -1, 0
        # A flipped bit may make text of bytes that are whole.
        columns = f"{number}, CAST(key AS BLOB), CAST(bytes AS BLOB)"
        query = f"SELECT {columns} FROM {table} NOT INDEXED WHERE {number} > ? ORDER BY {number}"
        while True:
            try:
                for place, *row in self._connection.execute(query, (after + step,)):
                    after, step = place, 0
                    yield row[0], row[1]
                return
            except sqlite3.OperationalError as error:
                raise to_store_error(error, self._path) from error  # the disk fails, or there is no such table
            except sqlite3.DatabaseError:
                step = step + 1 if step < _STEPS_MAX else 2 * step
                if after + step > 2**62:
                    return
                if step == 1:
                    yield None, None


def _is_final(record: Record) -> bool:
    try:
        return read_statement(record).state is KeyState.COMPROMISED
    except RemoteError:
        return False  # the store refuses it


def _name_of(record: Record | SignedRecord) -> tuple[str, str]:
    return record.context, f"{to_base32(record.author)}/{record.name}"


def _put_in_place(path: Path, new: Path) -> Path:
    """Move `new` to `path`, keep the old file beside it, and return the name of the old one."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    owner = path.stat()
    os.chown(new, owner.st_uid, owner.st_gid)  # root may repair a store of the service's user
    os.link(path, aside)
    for leftover in ("-wal", "-shm"):  # both are empty: everything is in the file
        Path(f"{path}{leftover}").unlink(missing_ok=True)
    os.replace(new, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return aside


def _delete_files(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal", "-ballast"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
