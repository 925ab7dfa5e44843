"""The plans of calls that write: read the leaves they touch, compute the changes, add the rows to the transaction.

Leaves are read and merged on the connection's thread, one after another: a record may have hundreds of heads, and the
event loop goes on meanwhile. The index does not change while a plan is made, since `GroupCommit` runs one at a time.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Final

from echonode.limits import VERIFY_CHUNK
from echonode.model.heads import Outline
from echonode.model.identity import Instance, SigningKey
from echonode.model.keys import Admission
from echonode.model.merkle import Tree
from echonode.model.record import IDENTITIES, Draft, LeafKey, Record, UnsignedVersion, Version, VersionId, leaf_key
from echonode.store.cursors import Cursors
from echonode.store.draft_signing import prepare_versions, sign_versions
from echonode.store.leaf import Leaf, Place
from echonode.store.merge import MergeIndex, MergePlan
from echonode.store.port import Applied, Cursor, Tick
from echonode.store.sqlite.damage import DamagedLeaf, find_damaged, read_leaf_rows
from echonode.store.sqlite.group_commit import Finish, GroupCommit
from echonode.store.sqlite.leaves import read_heads, read_leaves, read_whole_leaf
from echonode.store.sqlite.log_tail import LogTail
from echonode.store.sqlite.revocation import Revocation, Revoked, find_revocations
from echonode.store.sqlite.snapshot_receive import StagingArea
from echonode.store.sqlite.transaction import Transaction

_SIGN_CHUNK: Final = 4 * VERIFY_CHUNK  # each chunk that is done wakes the event loop, which holds up the others
_MERGED_AT_ONCE: Final = 4  # heads: merging them takes less time than waking the connection's thread


async def _sign(prepared: Sequence[UnsignedVersion | None], key: SigningKey) -> list[Record | None]:
    """Sign on threads. PyNaCl releases the GIL, so that two cores give up to twice the rate."""
    if len(prepared) <= VERIFY_CHUNK:
        return sign_versions(prepared, key)  # signing a few takes less time than waking a thread
    chunks = [prepared[start : start + _SIGN_CHUNK] for start in range(0, len(prepared), _SIGN_CHUNK)]
    signed_chunks = await asyncio.gather(*(asyncio.to_thread(sign_versions, chunk, key) for chunk in chunks))
    return [version for chunk in signed_chunks for version in chunk]


class WritePlans:
    """Plans `apply`, `write`, `forget` and the saving of cursors. `GroupCommit` runs one plan at a time."""

    def __init__(
        self, commits: GroupCommit, index: MergeIndex, staging: StagingArea, cursors: Cursors, tail: LogTail
    ) -> None:
        self._commits = commits
        self._index = index
        self._staging = staging
        self._cursors = cursors
        self._tail = tail

    async def apply(
        self, transaction: Transaction, context: str, records: Sequence[Record], cursor: Cursor | None
    ) -> Finish[Applied]:
        """Plan to merge `records` into `context`."""
        plan = self._index.sort(context, records)
        self._index.note_strangers(plan)
        await self._merge_leaves(transaction, plan)
        return await self._add_merge(transaction, plan, None if plan.is_gap else cursor)

    async def end_life(self, transaction: Transaction) -> Finish[None]:
        """Plan the last transaction: the cursors that were only noted, and the mark of a clean close."""
        transaction.renews_life = True
        return self._add_cursors(transaction, None, is_last=True)

    async def write(
        self,
        transaction: Transaction,
        context: str,
        drafts: Sequence[Draft],
        key: SigningKey,
        tick: Tick,
        *,
        created_ms: int | None,
        instance: Instance,
        skip_unchanged: bool,
    ) -> Finish[tuple[list[Record | None], Applied]]:
        """Plan to sign `drafts` and apply them."""
        self._index.watch_writer(key.public, instance)
        keys = [leaf_key(draft.author, draft.name) for draft in drafts]
        heads, unchanged = await self._read_covered(transaction, context, drafts, keys)
        prepared = prepare_versions(
            drafts,
            keys,
            key.public,
            heads,
            instance=instance,
            next_counter=self._index.next_counter(instance, transaction.pending.counters),
            tick=tick,
            created_ms=created_ms,
            unchanged=unchanged if skip_unchanged else None,
        )
        versions = await _sign(prepared, key)
        signed = [version for version in versions if version is not None]
        plan = self._index.sort(context, signed)
        await self._merge_leaves(transaction, plan, heads)
        finish = await self._add_merge(transaction, plan)
        transaction.add_own(instance, signed)
        seq = transaction.newest_seq(context)  # plans are made one after another: no later call has added to it yet
        return lambda: (versions, replace(finish(), beside=tuple(plan.beside()), seq=seq))

    async def forget(
        self, transaction: Transaction, context: str, keys: Sequence[LeafKey], keeps: Callable[[Record], bool]
    ) -> Finish[int]:
        """Plan to drop the leaves of which `keeps` takes no head."""
        tree = self._index.trees.get(context)
        context_row = self._commits.catalog.rows.get(context)
        stored = {key for key in keys if tree.get(key) is not None} if tree else set()
        forgotten: dict[LeafKey, list[Record]] = {}
        if stored and context_row is not None:
            context_id = context_row.id

            def read(connection: sqlite3.Connection) -> dict[LeafKey, list[Record]]:
                return {
                    key: heads
                    for key, heads in read_heads(connection, context_id, stored)
                    if not any(map(keeps, heads))
                }

            forgotten = await self._commits.database.run(read)
        if forgotten:
            sizes = {key: sum(head.size for head in heads) for key, heads in forgotten.items()}
            transaction.add_forgotten(context, sizes)

        def finish() -> int:
            if forgotten:
                self._index.forget_leaves(context, forgotten, chain.from_iterable(forgotten.values()))
                self._cursors.drop(context)
                self._tail.forget(context)
            return len(forgotten)

        return finish

    async def drop_damaged(
        self, transaction: Transaction, context: str, keys: Sequence[LeafKey]
    ) -> Finish[list[VersionId]]:
        """Plan to drop the leaves that have a damaged head, and to merge their whole versions into empty ones. Leaves
        that this transaction changes are left alone."""
        tree = self._index.trees.get(context)
        context_row = self._commits.catalog.rows.get(context)
        stored = [key for key in dict.fromkeys(keys) if tree is not None and tree.get(key) is not None]
        stored = [key for key in stored if not transaction.pending.touches(context, key)]
        damaged: dict[LeafKey, DamagedLeaf] = {}
        if stored and context_row is not None and context != IDENTITIES:
            rows = await self._commits.database.run(partial(read_leaf_rows, context_row.id, stored))
            damaged = await asyncio.to_thread(find_damaged, rows)
        plan = self._index.sort(context, [record for leaf in damaged.values() for record in leaf.whole])
        for key in plan.arrived:
            plan.merge(key, Leaf(is_whole=True))
        if damaged:
            transaction.add_forgotten(context, {key: leaf.size_bytes for key, leaf in damaged.items()})
            transaction.add_merge(plan)
            self._add_counters(transaction, plan)

        def finish() -> list[VersionId]:
            if damaged:
                heads = chain.from_iterable(leaf.counted for leaf in damaged.values())
                self._index.forget_leaves(context, damaged.keys(), heads)
                self._index.commit(plan)
                self._cursors.drop(context)
                self._tail.forget(context)
            return [version for leaf in damaged.values() for version in leaf.damaged]

        return finish

    async def _read_covered(
        self, transaction: Transaction, context: str, drafts: Sequence[Draft], keys: Sequence[LeafKey]
    ) -> tuple[dict[LeafKey, Sequence[Version]], set[int]]:
        """Return the heads of the leaves `keys`, as plans of this transaction leave them, and the places of drafts that
        say what the one head of their record says."""
        tree = self._index.trees.get(context) or Tree()
        context_row = self._commits.catalog.rows.get(context)
        pending = transaction.pending
        places: dict[LeafKey, list[int]] = {}
        for place, key in enumerate(keys):
            if tree.get(key) is not None or pending.touches(context, key):
                places.setdefault(key, []).append(place)
        if not places:
            return {}, set()
        context_id = context_row.id if context_row is not None else 0

        def read(connection: sqlite3.Connection) -> tuple[dict[LeafKey, Sequence[Version]], set[int]]:
            found: dict[LeafKey, Sequence[Version]] = {}
            unchanged: set[int] = set()
            for key, heads in read_heads(connection, context_id, places):
                leaf = Leaf().add(Place.LOG, heads)
                leaf.follow(pending.moves(context, key))
                now = leaf.at(Place.LOG)
                if len(now) == 1 and isinstance(now[0], Record):
                    unchanged.update(place for place in places[key] if drafts[place].is_same_as(now[0]))
                found[key] = [Outline.of(head) for head in now]  # the bytes are not needed any more
            return found, unchanged

        return await self._commits.database.run(read)

    async def _merge_leaves(
        self, transaction: Transaction, plan: MergePlan, heads: Mapping[LeafKey, Sequence[Version]] | None = None
    ) -> None:
        """Merge what arrived in `plan` into its leaves. `heads` has those heads that were read already, of all leaves
        that there are: a few of them are merged here."""
        keys: list[LeafKey] = []
        for key in self._index.merge_unread(plan, transaction.pending, heads):
            known = (heads or {}).get(key, ())
            is_known = 0 < len(known) <= _MERGED_AT_ONCE and not transaction.pending.touches(plan.context, key)
            is_known = is_known and not self._index.is_full(plan.context, key)
            if not is_known or not plan.merge(key, Leaf().add(Place.LOG, known)):
                keys.append(key)
        if keys:
            await self._commits.database.run(lambda connection: self._merge_read(connection, transaction, plan, keys))

    def _merge_read(
        self, connection: sqlite3.Connection, transaction: Transaction, plan: MergePlan, keys: Collection[LeafKey]
    ) -> None:
        """Read the leaves `keys` and merge what arrived into them."""
        context = plan.context
        context_row = self._commits.catalog.rows.get(context)
        context_id = context_row.id if context_row is not None else 0  # 0 is no context's
        for key, leaf in read_leaves(connection, context_id, keys):
            leaf.follow(transaction.pending.moves(context, key))
            is_full = self._index.is_full(context, key) or Place.SPARE in leaf.places.values()
            if is_full or not plan.merge(key, leaf):
                leaf = read_whole_leaf(connection, context_id, key, self._is_admitted)
                leaf.follow(transaction.pending.moves(context, key))
                plan.merge(key, leaf)

    def _is_admitted(self, record: Record) -> bool:
        return record.context == IDENTITIES or self._index.keyring.admission(record) is Admission.ADMITTED

    async def _add_merge(
        self, transaction: Transaction, plan: MergePlan, cursor: Cursor | None = None
    ) -> Finish[Applied]:
        """Add the rows of `plan`, of the versions that it voids, and of cursors. Cursors alone are worth no
        transaction."""
        revocations, spoilt = await self._find_revocations(self._index.revoked_by(plan))
        before = transaction.newest_seq(plan.context)
        transaction.add_merge(plan)
        upto = transaction.newest_seq(plan.context)
        transaction.add_claims(plan.claims())
        self._add_counters(transaction, plan)
        for name, revocation in revocations.items():
            transaction.add_revocation(name, revocation.merges)
        for context in spoilt:
            self._staging.add_drop(transaction, context)
        mark_saved = self._add_cursors(transaction, cursor) if plan.merges else None

        def finish() -> Applied:
            if cursor is not None:
                self._cursors.note(cursor)
            if mark_saved is not None:
                mark_saved()
            self._index.commit(plan)
            self._tail.add(plan, before, upto)
            for name, revocation in revocations.items():
                self._index.replace_leaves(name, revocation.merges)
                self._tail.forget(name)
            for context in spoilt:
                self._staging.finish_drop(context)
            return plan.applied(chain.from_iterable(revocation.voided for revocation in revocations.values()))

        return finish

    def _add_cursors(self, transaction: Transaction, cursor: Cursor | None, *, is_last: bool = False) -> Finish[None]:
        """Add the cursors that are due, `cursor` last unless a kept one covers it; all unsaved ones when it `is_last`.
        """
        transaction.add_unsaved_cursors(*self._cursors.unsaved(is_last=is_last))
        if cursor is not None and not self._cursors.covers(cursor) and self._cursors.is_due(cursor):
            transaction.add_cursor(cursor)
        return lambda: self._cursors.saved(*transaction.cursors())

    def _add_counters(self, transaction: Transaction, plan: MergePlan) -> None:
        counters = self._index.unseen_counters(plan.counters)
        if counters:
            transaction.add_counters(counters, plan.latest, transaction.context_row(plan.context).id)

    async def _find_revocations(self, revoked: Revoked) -> tuple[dict[str, Revocation], list[str]]:
        """Return, by context, what is void with the `revoked` keys, and the contexts whose staged snapshot holds such a
        version."""
        if not revoked:
            return {}, []
        names = {context_row.id: name for name, context_row in self._commits.catalog.rows.items() if name != IDENTITIES}
        staged_contexts = {staging.context_id: context for context, staging in self._staging.staging.items()}
        revocations, spoilt = await self._commits.database.run(
            lambda connection: find_revocations(
                connection, revoked, self._index.bounds, self._is_void, names=names, staged_ids=staged_contexts
            )
        )
        return {names[context_id]: revocation for context_id, revocation in revocations.items()}, [
            staged_contexts[context_id] for context_id in spoilt
        ]

    def _is_void(self, record: Record) -> bool:
        return self._index.keyring.admission(record) is Admission.VOID
