"""The store on disk: one SQLite file, its log of versions, and in memory what `Index` keeps beside it.

    sqlite_database   a connection and its thread         sqlite_schema   tables; what may be opened
    sqlite_rows       transactions, reading of leaves     sqlite_load     memory rebuilt at opening
    sqlite_writer     the one writer, group commit        sqlite_planning what a call changes
    sqlite_staging    snapshots being received            sqlite_void     what a compromised key takes with it
    sqlite_snapshot   read transactions                   sqlite_audit    `verify`
    sqlite_space      room on the disk                    sqlite_repair   a damaged file made anew

Writing goes through the writer's queue; reading uses a connection that cannot write. What a method returned is
durable (WAL, synchronous=FULL).
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

from echonode.errors import LocalError, StoreError
from echonode.limits import BATCH_RECORDS_MAX
from echonode.model.identity import IdentityId, Instance, PublicKey, SigningKey
from echonode.model.keys import Keyring
from echonode.model.merkle import Digest, Tree
from echonode.model.record import IDENTITIES, Draft, LeafKey, Record, VersionId, leaf_key
from echonode.store.paging import fit, fit_changes
from echonode.store.port import (
    Applied,
    Audit,
    Change,
    ContextInfo,
    Cursor,
    RefusedVersion,
    SnapshotReader,
    Staged,
    StateStamp,
    Tick,
)
from echonode.store.sqlite.audit import Auditor, Shown
from echonode.store.sqlite.connection import Database, read_raw, read_record
from echonode.store.sqlite.disk_space import DiskSpace
from echonode.store.sqlite.group_commit import Finish, Writer
from echonode.store.sqlite.load import Loaded, Staging, load, records_of
from echonode.store.sqlite.plan import Planner
from echonode.store.sqlite.schema import check_file, prepare
from echonode.store.sqlite.snapshot_read import ReadTransactions, SqliteSnapshot
from echonode.store.sqlite.snapshot_receive import StagingArea
from echonode.store.sqlite.transaction import Transaction, read_heads, read_raws

_SNAPSHOTS_MAX: Final = 4  # each holds a thread, a connection and a read transaction


class SqliteStore:
    """Implements Store. Made by `open`; whoever opened it closes it, or the process cannot end."""

    def __init__(self, path: Path, loaded: Loaded, writer: Writer, reader: Database) -> None:
        self._instance = loaded.instance
        self._index = loaded.index
        self._writer = writer
        self._reader = reader
        self._staging = StagingArea(writer, loaded.index, loaded.staging)
        self._cursors = loaded.cursors
        self._planner = Planner(writer, loaded.index, self._staging, loaded.cursors)
        self._snapshots = asyncio.Semaphore(_SNAPSHOTS_MAX)
        self._reading = ReadTransactions(path, writer)
        for shelf_id in loaded.garbage:
            writer.discard(shelf_id)

    @classmethod
    async def open(
        cls, path: Path, *, new_instance: Callable[[], Instance], now_ms: Callable[[], int]
    ) -> "SqliteStore":
        """Open the store in the file `path`, or make one there (its folder must exist). Raises StoreError, with the
        file as it was, when it is not a store, is damaged, is of a newer schema, or cannot be written."""
        DiskSpace(path).make_way()
        check_file(path)
        database = await Database.open(path, query_only=False)
        try:
            await database.run(lambda connection: prepare(connection, path, new_instance))
            loaded = await database.run(load)
            reader = await Database.open(path, query_only=True)
        except BaseException:
            await database.close()
            raise
        return cls(path, loaded, Writer(database, path, loaded.ledger, now_ms), reader)

    @property
    def instance(self) -> Instance:
        return self._instance

    @property
    def keyring(self) -> Keyring:
        return self._index.keyring

    def contexts(self) -> tuple[str, ...]:
        return self._index.contexts()

    def tree(self, context: str) -> Tree:
        return self._index.trees.get(context) or Tree()

    def seq(self, context: str) -> int:
        shelf = self._writer.ledger.shelves.get(context)
        return shelf.newest if shelf else 0

    def seen(self, key: PublicKey) -> Mapping[Instance, int]:
        return self._index.seen.get(key, {})

    def conflicts(self, context: str) -> Collection[LeafKey]:
        return self._index.conflicts.get(context, set())

    def forked(self) -> Collection[VersionId]:
        return self._index.forked

    def authors(self) -> Collection[IdentityId]:
        return self._index.authors

    async def info(self, context: str) -> ContextInfo:
        shelf = self._writer.ledger.shelves.get(context)
        tree = self.tree(context)
        return ContextInfo(context, tree.root, len(tree), shelf.size if shelf else 0, self.seq(context))

    async def apply(self, context: str, records: Sequence[Record], cursor: Cursor | None = None) -> Applied:
        return await self._writer.submit(
            lambda transaction: self._planner.apply(transaction, context, records, cursor),
            joins=context != IDENTITIES,
            size=len(records),
        )

    def cursor(self, peer: IdentityId, context: str) -> Cursor | None:
        return self._cursors.get(peer, context)

    def note(self, cursor: Cursor) -> None:
        self._cursors.note(cursor)

    def set_back(self, peer: IdentityId, seqs: Mapping[str, int]) -> None:
        self._cursors.set_back(peer, seqs)

    async def write(
        self, drafts: Sequence[Draft], key: SigningKey, tick: Tick, *, skip_unchanged: bool = False
    ) -> tuple[list[Record | None], Applied]:
        if not drafts:
            return [], Applied()
        context = drafts[0].context
        if any(draft.context != context for draft in drafts):
            raise LocalError("one batch writes to one context")
        return await self._writer.submit(
            lambda transaction: self._planner.write(
                transaction, context, drafts, key, tick, instance=self._instance, skip_unchanged=skip_unchanged
            ),
            joins=context != IDENTITIES,
            size=len(drafts),
        )

    async def forget(self, context: str, keys: Sequence[LeafKey], keeps: Callable[[Record], bool]) -> int:
        return await self._writer.submit(
            lambda transaction: self._planner.forget(transaction, context, keys, keeps), size=len(keys)
        )

    async def read(self, context: str, keys: Sequence[LeafKey], *, bytes_max: int) -> tuple[list[bytes], int]:
        shelf = self._writer.ledger.shelves.get(context)
        if shelf is None:
            return [], len(keys)
        shelf_id = shelf.id

        def read(connection: sqlite3.Connection) -> tuple[list[bytes], int]:
            records, taken, _ = fit(read_raws(connection, shelf_id, keys), bytes_max=bytes_max)
            return records, taken

        return await self._reader.run(read)

    async def heads(self, context: str, author: IdentityId, name: str) -> list[Record]:
        key = leaf_key(author, name)
        shelf = self._writer.ledger.shelves.get(context)
        if shelf is None:
            return []
        shelf_id = shelf.id
        heads, _ = await self._reader.run(lambda connection: read_heads(connection, shelf_id, [key]))
        return heads.get(key, [])

    async def scan(self, context: str, after: int, *, limit: int) -> tuple[list[Record], int]:
        shelf = self._writer.ledger.shelves.get(context)
        if shelf is None:
            return [], after
        shelf_id = shelf.id

        def read(connection: sqlite3.Connection) -> tuple[list[Record], int]:
            rows = connection.execute(
                "SELECT seq, id, bytes FROM log WHERE context = ? AND seq > ? ORDER BY seq LIMIT ?",
                (shelf_id, after, limit),
            ).fetchall()
            return [read_record(raw, version) for _, version, raw in rows], rows[-1][0] if rows else after

        return await self._reader.run(read)

    async def changes(
        self, context: str, after: int, *, records_max: int, bytes_max: int
    ) -> tuple[list[Change], int]:
        shelf = self._writer.ledger.shelves.get(context)
        if shelf is None:
            return [], after
        shelf_id, newest = shelf.id, shelf.newest  # what is newer by the time of reading comes next time

        def read(connection: sqlite3.Connection) -> tuple[list[Change], int]:
            rows = connection.execute(
                "SELECT seq, id, bytes FROM log WHERE context = ? AND seq > ? AND seq <= ? ORDER BY seq",
                (shelf_id, after, newest),
            )
            entries = (Change(seq, version, read_raw(raw, version)) for seq, version, raw in rows)
            found, is_all = fit_changes(entries, records_max=records_max, bytes_max=bytes_max)
            rows.close()
            return found, max(newest, after) if is_all else found[-1].seq

        return await self._reader.run(read)

    @asynccontextmanager
    async def snapshot(self, context: str) -> AsyncIterator[SnapshotReader]:
        def view() -> tuple[int | None, StateStamp]:
            shelf = self._writer.ledger.shelves.get(context)
            tree = self.tree(context)
            return shelf.id if shelf else None, StateStamp(tree.root, len(tree), self.seq(context), self._instance)

        async with self._snapshots, self._reading.begin(view) as (database, (shelf_id, stamp)):
            snapshot = SqliteSnapshot(database, shelf_id, stamp, self._reading.log)
            try:
                yield snapshot
            finally:
                snapshot.end()

    async def stage(self, context: str, root: Digest, records: Sequence[Record]) -> tuple[RefusedVersion, ...]:
        return await self._writer.submit(
            lambda transaction: self._staging.stage(transaction, context, root, records), size=len(records)
        )

    def staged(self, context: str) -> Staged | None:
        return self._staging.staged(context)

    async def promote(self, context: str, *, expected: Digest | None) -> Applied | None:
        shown = await self._writer.submit(lambda transaction: self._staging.promote(transaction, context, expected))
        if isinstance(shown, Staging):
            return await self._merge(context, shown)
        return Applied() if shown else None

    async def renew_instance(self, instance: Instance) -> None:
        async def plan(transaction: Transaction) -> Finish[None]:
            transaction.execute("UPDATE meta SET value = ? WHERE name = 'instance'", (instance,))

            def follow() -> None:
                self._instance = instance

            return follow

        await self._writer.submit(plan)

    async def pins(self) -> dict[tuple[str, str], IdentityId]:
        rows = await self._reader.run(
            lambda connection: connection.execute("SELECT kind, value, identity FROM pins").fetchall()
        )
        return {(kind, value): identity for kind, value, identity in rows}

    async def pin(self, kind: str, value: str, identity: IdentityId) -> None:
        async def plan(transaction: Transaction) -> Finish[None]:
            transaction.execute("INSERT OR REPLACE INTO pins VALUES (?, ?, ?)", (kind, value, identity))
            return lambda: None

        await self._writer.submit(plan)

    async def audit(self) -> AsyncIterator[Audit]:
        def view() -> list[Shown]:
            shelves, staging = self._writer.ledger.shelves, self._staging.staging
            shown = [Shown(shelf.id, name, self.tree(name).root, shelf.size) for name, shelf in shelves.items()]
            return shown + [Shown(staged.shelf_id, name, None, staged.size) for name, staged in staging.items()]

        async with self._reading.begin(view) as (database, shown):
            async for total in Auditor(database, shown).run():
                yield total

    async def wait_until_broken(self) -> StoreError:
        """Return when a write failed in a way after which nobody knows what the disk holds: stop, restart, audit."""
        return await self._writer.wait_until_broken()

    async def close(self) -> None:
        if any(self._cursors.unsaved()):
            with suppress(StoreError):  # a store that cannot write any more; they cost a comparison
                await self._writer.submit(self._planner.save_cursors)
        await self._writer.close()
        await self._reading.close()
        await self._reader.close()

    async def _merge(self, context: str, staging: Staging) -> Applied:
        """Bring what is staged into a context that is not empty. Its records are too many to be reported."""
        had, refused, after = 0, list[RefusedVersion](), LeafKey(b"")
        try:
            while True:
                records, after = await self._reader.run(partial(records_of, staging.shelf_id, after, BATCH_RECORDS_MAX))
                if not records:
                    break
                applied = await self.apply(context, records)
                had += applied.had
                refused += applied.refused
        finally:
            self._writer.discard(staging.shelf_id)
        return Applied((), had, tuple(refused))
