"""`SqliteStore`: the port over one SQLite file, its log of versions, and a `MergeIndex` in memory.

Calls that write go through the queue of `group_commit`. Calls that read use a connection that cannot write. What a
method returned is durable (WAL, synchronous=FULL).
"""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, closing, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from echonode.errors import StoreError
from echonode.limits import BATCH_RECORDS_MAX, CANDIDATES_MAX
from echonode.model.filter import Filter
from echonode.model.identity import IdentityId, Instance, PublicKey, SigningKey
from echonode.model.keyring import Keyring
from echonode.model.merkle import Digest, Tree
from echonode.model.other_life import Fork
from echonode.model.record import IDENTITIES, Draft, LeafKey, Record, SignedRecord, VersionId, leaf_key
from echonode.model.usage import UsageTable
from echonode.store.counters import SeenVersion
from echonode.store.draft_signing import common_context
from echonode.store.paging import fit_changes, fit_leaves
from echonode.store.port import (
    Applied,
    Audit,
    Change,
    ContextInfo,
    ContextOrigin,
    Cursor,
    EarlierVersion,
    FilteredPage,
    HistoryInfo,
    KnownPeer,
    RefusedVersion,
    Report,
    SnapshotReader,
    Staged,
    StateStamp,
    Tick,
    VoidedVersion,
)
from echonode.store.sqlite.audit import Auditor, ExpectedContext
from echonode.store.sqlite.connection import DatabaseConnection, read_raw, read_record, report_progress
from echonode.store.sqlite.disk_space import DiskSpace
from echonode.store.sqlite.group_commit import Finish, GroupCommit
from echonode.store.sqlite.leaves import read_earlier, read_earlier_by, read_heads, read_raws
from echonode.store.sqlite.life_watch import LifeWatch
from echonode.store.sqlite.load import LoadedState, StagingContext, load, read_batch
from echonode.store.sqlite.log_read import read_filtered, read_log
from echonode.store.sqlite.log_tail import LogTail
from echonode.store.sqlite.lookups import Lookups
from echonode.store.sqlite.origins import SAVE_ORIGIN, read_origins
from echonode.store.sqlite.own_rows import DELETE_OLD_FORKS, DELETE_OTHERS, SAVE_FORK, fork_row
from echonode.store.sqlite.peers import read_peers
from echonode.store.sqlite.plan import WritePlans
from echonode.store.sqlite.schema import check_file, create_tables, keep_copy
from echonode.store.sqlite.snapshot_read import ReadTransactions, SqliteSnapshot
from echonode.store.sqlite.snapshot_receive import StagingArea
from echonode.store.sqlite.transaction import Transaction

_SNAPSHOTS_MAX: Final = 4  # each holds a thread, a connection and a read transaction


class SqliteStore:
    """Implements `Store`. Make one with `open`, and close it: an open store keeps the process from ending."""

    def __init__(
        self,
        path: Path,
        loaded: LoadedState,
        commits: GroupCommit,
        reader: DatabaseConnection,
        lookups: Lookups,
        life: LifeWatch | None,
    ) -> None:
        self._instance = loaded.instance
        self._life = life
        self._index = loaded.index
        self._counters, self._own = loaded.counters, loaded.own
        self._commits = commits
        self._reader = reader
        self._lookups = lookups
        self._staging = StagingArea(commits, loaded.index, loaded.staging)
        self._cursors = loaded.cursors
        self._tail = LogTail()
        self._plans = WritePlans(commits, loaded.index, self._staging, loaded.cursors, self._tail)
        self._snapshot_slots = asyncio.Semaphore(_SNAPSHOTS_MAX)
        self._read_transactions = ReadTransactions(path, commits)
        for context_id, first_seq in loaded.garbage.items():
            commits.discard(context_id, first_seq)

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        new_instance: Callable[[], Instance],
        now_ms: Callable[[], int],
        life: LifeWatch | None = None,
        on_progress: Callable[[], None] | None = None,
        counts_usage: bool = True,
        keeps_copy: bool = True,
    ) -> "SqliteStore":
        """Open the store in the file `path`, or make one there (its folder must exist).

        `life` notices that the store was restored, copied or moved since it was last open, and gives it a new instance;
        None for a file that is not in its place yet. `on_progress` is called now and then, on another thread, while
        SQLite works on the opening. `counts_usage`: also count what each author takes, for which all is read. A file of
        an earlier schema is migrated. `keeps_copy`: then a copy of it as it was stays beside it.
        Raises StoreError, with the file as it was, when the file is not a store, is damaged, is of a newer schema, or
        cannot be written."""
        DiskSpace(path).release_ballast()
        check_file(path)
        database = await DatabaseConnection.open(path, query_only=False)
        try:
            if on_progress is not None:
                await database.run(lambda connection: report_progress(connection, on_progress))
            if keeps_copy:
                await database.run(lambda connection: keep_copy(connection, path))
            is_new = await database.run(lambda connection: create_tables(connection, path, new_instance))
            if life is not None:
                await database.run(lambda connection: life.begin(connection, new_instance, is_new=is_new))
            lookups = await database.run(lambda _: Lookups(path))
            try:
                loaded = await database.run(partial(load, lookups=lookups, counts_usage=counts_usage))
                await database.run(lambda connection: connection.set_progress_handler(None, 0))
                reader = await DatabaseConnection.open(path, query_only=True)
            except BaseException:
                lookups.close()
                raise
        except BaseException:
            await database.close()
            raise
        return cls(path, loaded, GroupCommit(database, path, loaded.catalog, now_ms, life), reader, lookups, life)

    @property
    def instance(self) -> Instance:
        return self._instance

    @property
    def second_life(self) -> str | None:
        return self._life.second_life if self._life is not None else None

    @property
    def keyring(self) -> Keyring:
        return self._index.keyring

    def contexts(self) -> tuple[str, ...]:
        return self._index.contexts()

    def tree(self, context: str) -> Tree:
        return self._index.trees.get(context) or Tree()

    def seq(self, context: str) -> int:
        context_row = self._commits.catalog.rows.get(context)
        return context_row.newest_seq if context_row else 0

    def seen(self, key: PublicKey) -> Mapping[Instance, int]:
        return self._index.counters.by_instance(key)

    def latest(self, key: PublicKey) -> list[SeenVersion]:
        return self._index.counters.latest(key)

    def bytes_of_latest(self, key: PublicKey, instance: Instance) -> bytes | None:
        return self._counters.bytes_of_latest(key, instance)

    def conflicts(self, context: str) -> Collection[LeafKey]:
        return self._index.conflicts.get(context, set())

    def forked(self) -> Collection[VersionId]:
        return self._index.forked

    @property
    def usage(self) -> UsageTable:
        return self._index.usage

    async def info(self, context: str) -> ContextInfo:
        context_row = self._commits.catalog.rows.get(context)
        tree = self.tree(context)
        return ContextInfo(
            context, tree.root, len(tree), context_row.size_bytes if context_row else 0, self.seq(context)
        )

    def history(self) -> HistoryInfo:
        return self._commits.catalog.history

    async def apply(
        self, context: str, records: Sequence[Record], cursor: Cursor | None = None, *, report: Report | None = None
    ) -> Applied:
        return await self._commits.submit(
            lambda transaction: self._plans.apply(transaction, context, records, cursor),
            may_share=context != IDENTITIES,
            record_count=len(records),
            report=report,
        )

    def cursor(self, peer: IdentityId, context: str) -> Cursor | None:
        return self._cursors.get(peer, context)

    def note(self, cursor: Cursor) -> None:
        self._cursors.note(cursor)

    def set_back(self, peer: IdentityId, seqs: Mapping[str, int]) -> None:
        self._cursors.set_back(peer, seqs)

    async def write(
        self,
        drafts: Sequence[Draft],
        key: SigningKey,
        tick: Tick,
        *,
        created_ms: int | None = None,
        skip_unchanged: bool = False,
        report: Report | None = None,
    ) -> tuple[list[Record | None], Applied]:
        if not drafts:
            return [], Applied()
        context = common_context(drafts)
        return await self._commits.submit(
            lambda transaction: self._plans.write(
                transaction,
                context,
                drafts,
                key,
                tick,
                created_ms=created_ms,
                instance=self._instance,
                skip_unchanged=skip_unchanged,
            ),
            may_share=context != IDENTITIES,
            record_count=len(drafts),
            report=None if report is None else lambda written: report(written[1]),
        )

    async def forget(self, context: str, keys: Sequence[LeafKey], keeps: Callable[[Record], bool]) -> int:
        return await self._commits.submit(
            lambda transaction: self._plans.forget(transaction, context, keys, keeps), record_count=len(keys)
        )

    async def read(self, context: str, keys: Sequence[LeafKey], *, bytes_max: int) -> tuple[list[bytes], int]:
        context_row = self._commits.catalog.rows.get(context)
        if context_row is None:
            return [], len(keys)
        context_id = context_row.id

        def read(connection: sqlite3.Connection) -> tuple[list[bytes], int]:
            with closing(read_raws(connection, context_id, keys)) as leaves:
                records, taken, _ = fit_leaves(leaves, bytes_max=bytes_max)
            return records, taken

        return await self._reader.run(read)

    async def heads(self, context: str, author: IdentityId, name: str) -> list[Record]:
        key = leaf_key(author, name)
        context_row = self._commits.catalog.rows.get(context)
        if context_row is None or self.tree(context).get(key) is None:
            return []
        context_id = context_row.id
        ((_, heads),) = await self._reader.run(lambda connection: list(read_heads(connection, context_id, [key])))
        return heads

    async def earlier(self, context: str, author: IdentityId, name: str, *, limit: int) -> list[EarlierVersion]:
        key = leaf_key(author, name)
        context_row = self._commits.catalog.rows.get(context)
        if context_row is None:
            return []
        context_id = context_row.id
        return await self._reader.run(lambda connection: read_earlier(connection, context_id, key, limit))

    async def earlier_by(self, key: PublicKey, after: int, *, limit: int) -> tuple[list[Record], int]:
        return await self._reader.run(partial(read_earlier_by, key, after, limit))

    async def scan(self, context: str, after: int, *, limit: int) -> tuple[list[Record], int]:
        context_row = self._commits.catalog.rows.get(context)
        if context_row is None:
            return [], after
        context_id, runs = context_row.id, list(context_row.runs.between(after, context_row.newest_seq))

        def read(connection: sqlite3.Connection) -> tuple[list[Record], int]:
            with closing(read_log(connection, context_id, runs)) as entries:
                rows = list(islice(entries, limit))
            return [read_record(raw, version) for _, version, raw in rows], rows[-1][0] if rows else after

        return await self._reader.run(read)

    async def changes(self, context: str, after: int, *, records_max: int, bytes_max: int) -> tuple[list[Change], int]:
        context_row = self._commits.catalog.rows.get(context)
        if context_row is None:
            return [], after
        # Entries written from here on come with the next call.
        context_id, newest = context_row.id, context_row.newest_seq
        at_hand = self._tail.read(context, after, newest)
        if at_hand is not None:
            found, is_all = fit_changes(at_hand, records_max=records_max, bytes_max=bytes_max)
            return found, max(newest, after) if is_all else found[-1].seq
        runs = list(context_row.runs.between(after, newest))

        def read(connection: sqlite3.Connection) -> tuple[list[Change], int]:
            with closing(read_log(connection, context_id, runs)) as rows:
                entries = (Change(seq, version, read_raw(raw, version)) for seq, version, raw in rows)
                found, is_all = fit_changes(entries, records_max=records_max, bytes_max=bytes_max)
            return found, max(newest, after) if is_all else found[-1].seq

        return await self._reader.run(read)

    async def filtered(self, context: str, wanted: Filter, after: int, *, until: int) -> FilteredPage:
        context_row = self._commits.catalog.rows.get(context)
        if context_row is None:
            return FilteredPage(b"", 0, after)
        context_id, runs = context_row.id, list(context_row.runs.between(after, until))
        return await self._reader.run(
            lambda connection: read_filtered(connection, context_id, wanted, runs, after)
        )

    @asynccontextmanager
    async def snapshot(self, context: str) -> AsyncIterator[SnapshotReader]:
        def view() -> tuple[int | None, StateStamp]:
            context_row = self._commits.catalog.rows.get(context)
            tree = self.tree(context)
            return context_row.id if context_row else None, StateStamp(
                tree.root, len(tree), self.seq(context), self._instance
            )

        async with (
            self._snapshot_slots,
            self._read_transactions.begin(view, is_for_peer=True) as (transaction, (context_id, stamp)),
        ):
            yield SqliteSnapshot(transaction, context_id, stamp, self._read_transactions.is_wal_too_long)

    async def stage(self, context: str, root: Digest, records: Sequence[Record]) -> tuple[RefusedVersion, ...]:
        return await self._commits.submit(
            lambda transaction: self._staging.stage(transaction, context, root, records), record_count=len(records)
        )

    def staged(self, context: str) -> Staged | None:
        return self._staging.staged(context)

    async def promote(self, context: str, *, expected: Digest | None) -> Applied | None:
        shown = await self._commits.submit(lambda transaction: self._staging.promote(transaction, context, expected))
        if isinstance(shown, StagingContext):
            return await self._merge_staged(context, shown)
        return None if shown is None else Applied(shown=shown)

    @property
    def forks(self) -> Mapping[Instance, Fork]:
        return self._index.own.forks

    def has_signed(self, version: SignedRecord) -> bool | None:
        return self._index.has_signed(version)

    async def save_fork(self, fork: Fork) -> None:
        async def plan(transaction: Transaction) -> Finish[None]:
            transaction.execute(SAVE_FORK, fork_row(fork))
            transaction.execute(DELETE_OLD_FORKS, ())
            return lambda: self._own.add_fork(fork)

        await self._commits.submit(plan)

    async def renew_instance(self, instance: Instance) -> None:
        async def plan(transaction: Transaction) -> Finish[None]:
            transaction.execute("UPDATE meta SET value = ? WHERE name = 'instance'", (instance,))
            transaction.execute(DELETE_OTHERS, (instance,))

            def follow() -> None:
                self._instance = instance

            return follow

        await self._commits.submit(plan)

    async def peers(self) -> list[KnownPeer]:
        return await self._reader.run(read_peers)

    async def save_peer(self, peer: KnownPeer) -> None:
        async def plan(transaction: Transaction) -> Finish[None]:
            row = (peer.id, peer.name, "\n".join(peer.addresses), peer.seen_ms)
            transaction.execute("INSERT OR REPLACE INTO peers (id, name, addresses, seen_ms) VALUES (?, ?, ?, ?)", row)
            transaction.execute(
                "DELETE FROM peers WHERE id NOT IN (SELECT id FROM peers ORDER BY seen_ms DESC, id DESC LIMIT ?)",
                (CANDIDATES_MAX,),
            )
            return lambda: None

        await self._commits.submit(plan)

    async def forget_peer(self, peer: IdentityId) -> None:
        async def plan(transaction: Transaction) -> Finish[None]:
            transaction.execute("DELETE FROM peers WHERE id = ?", (peer,))
            return lambda: None

        await self._commits.submit(plan)

    async def origins(self) -> list[ContextOrigin]:
        return await self._reader.run(read_origins)

    async def save_origin(self, origin: ContextOrigin) -> None:
        async def plan(transaction: Transaction) -> Finish[None]:
            transaction.execute(SAVE_ORIGIN, (origin.context, origin.identity, origin.is_forgotten))
            return lambda: None

        await self._commits.submit(plan)

    async def audit(self) -> AsyncGenerator[Audit, None]:
        def view() -> list[ExpectedContext]:
            rows, staging = self._commits.catalog.rows, self._staging.staging
            shown = [
                ExpectedContext(context_row.id, name, self.tree(name).root, context_row.size_bytes)
                for name, context_row in rows.items()
            ]
            return shown + [
                ExpectedContext(staged.context_id, name, None, staged.size_bytes) for name, staged in staging.items()
            ]

        async with (
            self._read_transactions.begin(view) as (transaction, shown),
            aclosing(Auditor(transaction, shown, self._index.bounds).run()) as totals,
        ):
            async for total in totals:
                yield total

    async def drop_damaged(self, context: str, keys: Sequence[LeafKey]) -> list[VersionId]:
        return await self._commits.submit(
            lambda transaction: self._plans.drop_damaged(transaction, context, keys), record_count=len(keys)
        )

    async def wait_until_broken(self) -> StoreError:
        """Return the error of a write that failed so that the content of the disk is unknown: stop, restart, audit."""
        return await self._commits.wait_until_broken()

    def stuck_s(self) -> float:
        """Return for how long the writing thread has been busy with one transaction; infinity when it takes no more."""
        return self._commits.stuck_s()

    async def close(self) -> None:
        # The store may be unable to write. A lost cursor costs one comparison, a lost mark one vector entry.
        if self._life is not None or any(self._cursors.unsaved(is_last=True)):
            with suppress(StoreError):
                await self._commits.submit(self._plans.end_life)
        await self._commits.close()
        await self._read_transactions.close()
        await self._reader.close()
        self._lookups.close()

    async def _merge_staged(self, context: str, staging: StagingContext) -> Applied:
        """Merge what is staged into a context that is not empty. Its records are too many to be reported."""
        had, refused, voided, after = 0, list[RefusedVersion](), list[VoidedVersion](), LeafKey(b"")
        try:
            while True:
                records, after = await self._reader.run(
                    partial(read_batch, staging.context_id, after, BATCH_RECORDS_MAX)
                )
                if not records:
                    break
                applied = await self.apply(context, records)
                had += applied.had
                refused += applied.refused
                voided += applied.voided
        finally:
            self._commits.discard(staging.context_id, staging.first_seq)
        return Applied((), had, tuple(refused), tuple(voided))
