"""A simulated disk: a store that takes time to commit, fails when the disk is full, and loses uncommitted writes.

    caller    apply ........ queue, latency ........ | committed | ........ latency ........ acknowledged
                              a crash here: lost                    a crash here: durable, but not acknowledged

In all else it is MemoryStore. Its one writer commits call after call, as SQLite's does. `reopen` returns the store of
the next process over the same disk; reads and writes through the old one then raise StoreError.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from copy import deepcopy
from functools import partial
from typing import Any, Final

from echonode.clock import Entropy
from echonode.errors import StoreError
from echonode.model.identity import IdentityId, Instance, SigningKey
from echonode.model.merkle import Digest
from echonode.model.other_life import Fork
from echonode.model.record import IDENTITIES, Draft, LeafKey, Record
from echonode.store.cursors import Cursors
from echonode.store.memory import MemoryStore
from echonode.store.port import (
    Applied,
    Audit,
    Change,
    ContextInfo,
    ContextOrigin,
    Cursor,
    EarlierVersion,
    KnownPeer,
    RefusedVersion,
    Report,
    SnapshotReader,
    Tick,
)
from echonode.sync.tasks import uninterrupted

OnCommit = Callable[["SimStore", str, Sequence[Record]], None]

# Fields of the process. All other fields are on the disk.
_PROCESS_FIELDS: Final = ("_entropy", "_commit_s", "_on_commit", "_intern", "_writer", "_cursors", "is_dead")


class SimStore(MemoryStore):
    """A MemoryStore on a simulated disk. A commit takes at most `commit_s`.

    `on_commit(store, context, new heads)` is called at the moment they are durable. `intern` maps each version to the
    object that is stored for it.
    """

    def __init__(
        self,
        instance: Instance,
        *,
        entropy: Entropy,
        commit_s: float,
        on_commit: OnCommit,
        intern: Callable[[Record], Record] = lambda record: record,
    ) -> None:
        super().__init__(instance)
        self._intern = intern
        self._entropy = entropy
        self._commit_s = commit_s
        self._on_commit = on_commit
        self._writer = asyncio.Lock()
        self._saved_cursors: dict[tuple[IdentityId, str], Cursor] = {}
        self.is_dead = False
        self.is_full = False

    def reopen(self) -> "SimStore":
        """Return the store that a new process opens over this disk. This store is dead from now on."""
        self.is_dead = True
        return self._open({name: value for name, value in vars(self).items() if name not in _PROCESS_FIELDS})

    def backup(self) -> Callable[[], "SimStore"]:
        """Copy the disk as it is now. Return a function that opens a store over that copy, as after a rollback."""
        copied = deepcopy({name: value for name, value in vars(self).items() if name not in _PROCESS_FIELDS})
        return lambda: self._open(deepcopy(copied))

    def _open(self, disk: dict[str, object]) -> "SimStore":
        opened = SimStore(
            self.instance,
            entropy=self._entropy,
            commit_s=self._commit_s,
            on_commit=self._on_commit,
            intern=self._intern,
        )
        vars(opened).update(disk)
        opened._load_cursors()
        return opened

    def _load_cursors(self) -> None:
        """Begin with the cursors that the disk holds, as a process does that has just opened its store."""
        self._cursors = Cursors()
        for cursor in self._saved_cursors.values():
            self._cursors.load(cursor)

    async def apply(
        self, context: str, records: Sequence[Record], cursor: Cursor | None = None, *, report: Report | None = None
    ) -> Applied:
        return await uninterrupted(self._apply_and_report(context, records, cursor, report))

    async def _apply_and_report(
        self, context: str, records: Sequence[Record], cursor: Cursor | None, report: Report | None
    ) -> Applied:
        async with self._transaction():
            seqs = {name: self.seq(name) for name in self.contexts()}
            applied = await super().apply(context, [self._intern(record) for record in records], cursor)
            self._on_commit(self, context, applied.records)
            await self._commit_returned(seqs, applied)
        if report is not None:
            report(applied)
        return applied

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
        write = partial(super().write, drafts, key, tick, created_ms=created_ms, skip_unchanged=skip_unchanged)
        return await uninterrupted(self._write_and_report(drafts, write, report))

    async def _write_and_report(
        self,
        drafts: Sequence[Draft],
        write: Callable[[], Coroutine[Any, Any, tuple[list[Record | None], Applied]]],
        report: Report | None,
    ) -> tuple[list[Record | None], Applied]:
        async with self._transaction():
            seqs = {name: self.seq(name) for name in self.contexts()}
            versions, applied = await write()
            self._on_commit(self, drafts[0].context if drafts else "", applied.records)
            await self._commit_returned(seqs, applied)
        if report is not None:
            report(applied)
        return versions, applied

    async def _commit_returned(self, seqs: Mapping[str, int], applied: Applied) -> None:
        """Report the versions that became heads because a key is void. `seqs` are those of before."""
        for context, seq in seqs.items() if applied.voided else ():
            if context != IDENTITIES:
                self._on_commit(self, context, (await self.scan(context, seq, limit=1 << 62))[0])

    async def forget(self, context: str, keys: Sequence[LeafKey], keeps: Callable[[Record], bool]) -> int:
        async with self._transaction():
            gone = await super().forget(context, keys, keeps)
            self._on_commit(self, context, ())
        return gone

    async def stage(self, context: str, root: Digest, records: Sequence[Record]) -> tuple[RefusedVersion, ...]:
        async with self._transaction():
            return await super().stage(context, root, [self._intern(record) for record in records])

    async def promote(self, context: str, *, expected: Digest | None) -> Applied | None:
        async with self._transaction():
            seq = self.seq(context)
            applied = await super().promote(context, expected=expected)
            if applied is not None:
                self._on_commit(self, context, (await self.scan(context, seq, limit=1 << 62))[0])
        return applied

    async def save_fork(self, fork: Fork) -> None:
        async with self._transaction():
            await super().save_fork(fork)

    async def renew_instance(self, instance: Instance) -> None:
        async with self._transaction():
            await super().renew_instance(instance)

    async def save_peer(self, peer: KnownPeer) -> None:
        async with self._transaction():
            await super().save_peer(peer)

    async def save_origin(self, origin: ContextOrigin) -> None:
        async with self._transaction():
            await super().save_origin(origin)

    async def forget_peer(self, peer: IdentityId) -> None:
        async with self._transaction():
            await super().forget_peer(peer)

    async def info(self, context: str) -> ContextInfo:
        self._check_alive()
        return await super().info(context)

    async def read(self, context: str, keys: Sequence[LeafKey], *, bytes_max: int) -> tuple[list[bytes], int]:
        self._check_alive()
        return await super().read(context, keys, bytes_max=bytes_max)

    async def heads(self, context: str, author: IdentityId, name: str) -> list[Record]:
        self._check_alive()
        return await super().heads(context, author, name)

    async def earlier(self, context: str, author: IdentityId, name: str, *, limit: int) -> list[EarlierVersion]:
        self._check_alive()
        return await super().earlier(context, author, name, limit=limit)

    async def scan(self, context: str, after: int, *, limit: int) -> tuple[list[Record], int]:
        self._check_alive()
        return await super().scan(context, after, limit=limit)

    async def changes(
        self, context: str, after: int, *, records_max: int, bytes_max: int
    ) -> tuple[list[Change], int]:
        self._check_alive()
        return await super().changes(context, after, records_max=records_max, bytes_max=bytes_max)

    @asynccontextmanager
    async def snapshot(self, context: str) -> AsyncIterator[SnapshotReader]:
        self._check_alive()
        async with super().snapshot(context) as reader:
            yield reader

    async def peers(self) -> list[KnownPeer]:
        self._check_alive()
        return await super().peers()

    async def origins(self) -> list[ContextOrigin]:
        self._check_alive()
        return await super().origins()

    async def audit(self) -> AsyncGenerator[Audit, None]:
        self._check_alive()
        async with aclosing(super().audit()) as totals:
            async for found in totals:
                yield found

    async def close(self) -> None:
        if not self.is_dead:
            self._save_cursors()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        async with self._writer:
            await self._wait_for_disk()
            if self.is_full:
                raise StoreError("the disk is full")
            yield
            self._save_cursors()
        await self._wait_for_disk()

    def _save_cursors(self) -> None:
        """Write the noted cursors to disk with the transaction. A crash before it loses them."""
        changed, deleted = self._cursors.unsaved()
        self._saved_cursors |= {(cursor.peer, cursor.context): cursor for cursor in changed}
        for key in deleted:
            self._saved_cursors.pop(key, None)
        self._cursors.saved(changed, deleted)

    async def _wait_for_disk(self) -> None:
        self._check_alive()
        await asyncio.sleep(self._entropy.uniform(0.0, self._commit_s / 2))
        self._check_alive()

    def _check_alive(self) -> None:
        if self.is_dead:
            raise StoreError("the process that had this store open is gone")
