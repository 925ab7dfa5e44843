"""Repair: a new store of all that is whole in a damaged one, under a new instance. What is missing comes from peers.

    damaged file --rows that hash and verify--> the ordinary `apply` of a new store --> put in the place of the old one

Nothing of the old file is believed but signed versions, whichever context or row they stand in: trees, counters and
heads are derived anew. Key statements go first, then history, then heads: so where a head is damaged, the newest whole
version of that record stands, until a peer brings the head. Cursors are left behind, as they would claim that what is
lost is held; so is the instance, because counters may go back. The damaged file is kept beside the new one.

`store.db` is a whole file at every moment: the old one, then, by one rename, the new one.
"""

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final
from urllib.parse import quote

from echonode.errors import RemoteError, StoreError
from echonode.limits import BATCH_RECORDS_MAX
from echonode.model.identity import IDENTITY_BYTES, IdentityId, Instance
from echonode.model.record import IDENTITIES, Record, SignedRecord, parse, verify
from echonode.store.port import Store
from echonode.store.sqlite.connection import plain
from echonode.store.sqlite.schema import check_file
from echonode.store.sqlite.store import SqliteStore
from echonode.text import to_base32

_Lost = dict[tuple[str, str], None]  # in order

_STEPS_MAX: Final = 4096  # rows tried one by one behind an unreadable one, before larger steps are taken


@dataclass(frozen=True, slots=True)
class Repaired:
    """What became of it. `kept` versions are whole, `left` rows are not, or had no place in the new store; the damaged
    file is `put_aside`. `lost`: context and id, AUTHOR/NAME, of each record of which a head was left; the bytes of some
    do not say any more which that was."""

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
    """Put a new store in the place of the one in `path`, which nobody has open. `introduce` states in it that its
    owner's key speaks for the owner, should that statement be among what is lost.

    Raises StoreError, with the old file as it was, where that cannot be read at all or there is no room for another."""
    _check(path)
    new = path.with_name(f"{path.name}.new")
    _remove(new)
    try:
        damaged = await asyncio.to_thread(_Damaged, path)
        try:
            store = await SqliteStore.open(new, new_instance=new_instance, now_ms=now_ms)
            try:
                kept = await _fill(store, damaged, introduce)
            finally:
                await store.close()
        finally:
            damaged.close()
        aside = await asyncio.to_thread(_swap, path, new)
    except sqlite3.Error as error:
        raise plain(error, path) from error
    except OSError as error:
        raise StoreError(f"{path} cannot be repaired: {error.strerror}") from error
    finally:
        _remove(new)
    return Repaired(kept, damaged.read - kept, aside, tuple(damaged.lost))


def _check(path: Path) -> None:
    if not path.exists():
        raise StoreError(f"{path} does not exist: there is nothing to repair")
    check_file(path)


async def _fill(store: SqliteStore, damaged: "_Damaged", introduce: Callable[[Store], Awaitable[None]]) -> int:
    """Apply all that is whole; how many versions that is."""
    kept = await _apply(store, damaged.statements())
    await introduce(store)
    kept += await _apply(store, damaged.versions(), damaged.lost)
    for kind, value, identity in await asyncio.to_thread(damaged.pins):
        await store.pin(kind, value, identity)
    return kept


async def _apply(store: SqliteStore, records: Iterator[Record], lost: _Lost | None = None) -> int:
    """How many were kept; those refused are `lost`."""
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
                lost.update(dict.fromkeys(_named(record) for record in of_context if record.id in refused))
    return kept


class _Damaged:
    """The old file, by a connection of its own."""

    def __init__(self, path: Path) -> None:
        self.read = 0  # rows, readable or not
        self.lost: _Lost = {}
        self._path = path
        uri = f"file:{quote(str(path))}?mode=rw"
        self._connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        try:
            self._connection.execute("PRAGMA trusted_schema = OFF")
            # All of the write-ahead log into the file, which then can be put aside alone. This copies pages, and does
            # not care what is in them.
            if self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise StoreError(f"{path} is in use by another process")
            self._connection.execute("SELECT seq FROM log LIMIT 0")
        except sqlite3.DatabaseError as error:
            self._connection.close()
            if isinstance(error, sqlite3.OperationalError):
                raise plain(error, path) from error
            raise StoreError(f"{path} cannot be repaired ({error}): move it away and sync anew") from error
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        self._connection.close()

    def statements(self) -> Iterator[Record]:
        """Whole versions of `identities`."""
        return (record for record in self._whole(is_statement=True) if record is not None)

    def versions(self) -> Iterator[Record]:
        """Whole versions of all other contexts. Rows are counted here, those of `identities` too."""
        for record in self._whole(is_statement=False):
            self.read += 1
            if record is not None and record.context != IDENTITIES:
                yield record

    def pins(self) -> list[tuple[str, str, IdentityId]]:
        """Those that are of the right shape: there is no telling whether they are what was written."""
        try:
            rows = self._connection.execute("SELECT kind, value, identity FROM pins").fetchall()
        except sqlite3.DatabaseError:
            return []  # names are pinned anew at the next meeting
        return [row for row in rows if isinstance(row[2], bytes) and len(row[2]) == IDENTITY_BYTES]

    def _whole(self, *, is_statement: bool) -> Iterator[Record | None]:
        """A record for each row that is whole, None for each that is not; those of `identities` are verified only when
        asked for."""
        for table, number in (("history", "n"), ("log", "seq")):
            for key, raw in self._rows(table, number):
                signed = None
                try:
                    signed = parse(raw) if isinstance(raw, bytes) else None
                    skip = signed is None or (is_statement and signed.context != IDENTITIES)
                    yield None if skip or signed is None else verify(signed)
                except RemoteError:
                    # What is damaged still names its record where that is what the row was filed under.
                    if table == "log" and signed is not None and signed.key == key and signed.context != IDENTITIES:
                        self.lost[_named(signed)] = None
                    yield None

    def _rows(self, table: str, number: str) -> Iterator[tuple[object, object]]:
        """Key and bytes of every row that SQLite finds in the table itself, whatever its indexes say; None where it
        finds damage, and on behind it."""
        after, step = -1, 0
        query = f"SELECT {number}, key, bytes FROM {table} NOT INDEXED WHERE {number} > ? ORDER BY {number}"
        while True:
            try:
                for place, *row in self._connection.execute(query, (after + step,)):
                    after, step = place, 0
                    yield row[0], row[1]
                return
            except sqlite3.OperationalError as error:
                raise plain(error, self._path) from error  # the disk, not what is on it; or there is no such table
            except sqlite3.DatabaseError:
                step = step + 1 if step < _STEPS_MAX else 2 * step
                if after + step > 2**62:
                    return
                if step == 1:
                    yield None, None


def _named(record: Record | SignedRecord) -> tuple[str, str]:
    return record.context, f"{to_base32(record.author)}/{record.name}"


def _swap(path: Path, new: Path) -> Path:
    """Let `new` be found at `path`, and what was there beside it, under the name returned."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    owner = path.stat()
    os.chown(new, owner.st_uid, owner.st_gid)  # root may repair what belongs to the service's user
    os.link(path, aside)
    for leftover in ("-wal", "-shm"):  # empty: all of it is in the file
        Path(f"{path}{leftover}").unlink(missing_ok=True)
    os.replace(new, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return aside


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal", "-ballast"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
