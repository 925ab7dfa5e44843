"""The plans of calls that write: read the heads they touch, compute the changes, add the rows to the transaction."""

import asyncio
from collections.abc import Callable, Sequence

from echonode.limits import VERIFY_CHUNK
from echonode.model.identity import Instance, SigningKey
from echonode.model.record import IDENTITIES, Draft, LeafKey, Record, UnsignedVersion, VersionId, leaf_key
from echonode.store.cursors import Cursors
from echonode.store.draft_signing import prepare_versions, sign_versions
from echonode.store.merge import MergeIndex, MergePlan
from echonode.store.port import Applied, Cursor, Tick
from echonode.store.sqlite.group_commit import Finish, GroupCommit
from echonode.store.sqlite.revocation import Revocation, find_revocations
from echonode.store.sqlite.snapshot_receive import StagingArea
from echonode.store.sqlite.transaction import Transaction, read_heads


async def _sign(prepared: Sequence[UnsignedVersion | None], key: SigningKey) -> list[Record | None]:
    """Sign on threads. PyNaCl releases the GIL, so that two cores give up to twice the rate."""
    if len(prepared) <= VERIFY_CHUNK:
        return sign_versions(prepared, key)  # signing a few takes less time than waking a thread
    chunks = [prepared[start : start + VERIFY_CHUNK] for start in range(0, len(prepared), VERIFY_CHUNK)]
    signed_chunks = await asyncio.gather(*(asyncio.to_thread(sign_versions, chunk, key) for chunk in chunks))
    return [version for chunk in signed_chunks for version in chunk]


class WritePlans:
    """Plans `apply`, `write`, `forget` and the saving of cursors. `GroupCommit` runs one plan at a time."""

    def __init__(self, commits: GroupCommit, index: MergeIndex, staging: StagingArea, cursors: Cursors) -> None:
        self._commits = commits
        self._index = index
        self._staging = staging
        self._cursors = cursors

    async def apply(
        self, transaction: Transaction, context: str, records: Sequence[Record], cursor: Cursor | None
    ) -> Finish[Applied]:
        """Plan to merge `records` into `context`."""
        to_read, identical = self._index.look_up(context, records)
        heads, seqs = await self._read_heads(transaction, context, to_read, [record.key for record in records])
        plan = self._index.plan(context, records, heads, identical)
        return await self._add_merge(transaction, plan, seqs, None if plan.applied().is_gap else cursor)

    async def end_life(self, transaction: Transaction) -> Finish[None]:
        """Plan the last transaction: the cursors that were only noted, and the mark of a clean close."""
        transaction.renews_life = True
        return self._add_cursors(transaction, None)

    async def write(
        self,
        transaction: Transaction,
        context: str,
        drafts: Sequence[Draft],
        key: SigningKey,
        tick: Tick,
        *,
        instance: Instance,
        skip_unchanged: bool,
    ) -> Finish[tuple[list[Record | None], Applied]]:
        """Plan to sign `drafts` and apply them."""
        self._index.watch_writer(key.public, instance)
        tree = self._index.trees.get(context)
        touched = [leaf_key(draft.author, draft.name) for draft in drafts]
        stored = [leaf for leaf in set(touched) if tree.get(leaf) is not None] if tree else []
        heads, seqs = await self._read_heads(transaction, context, stored, touched)
        prepared = prepare_versions(
            drafts,
            touched,
            key.public,
            heads,
            instance=instance,
            next_counter=self._index.next_counter(instance, transaction.pending.counters),
            tick=tick,
            skip_unchanged=skip_unchanged,
        )
        versions = await _sign(prepared, key)
        signed = [version for version in versions if version is not None]
        plan = self._index.plan(context, signed, heads)
        finish = await self._add_merge(transaction, plan, seqs)
        transaction.own_writes += len(signed)
        return lambda: (versions, finish())

    async def forget(
        self, transaction: Transaction, context: str, keys: Sequence[LeafKey], keeps: Callable[[Record], bool]
    ) -> Finish[int]:
        """Plan to drop the leaves of which `keeps` takes no head."""
        tree = self._index.trees.get(context)
        stored = [key for key in dict.fromkeys(keys) if tree.get(key) is not None] if tree else []
        heads, seqs = await self._read_heads(transaction, context, stored, stored)
        forgotten = {key: current for key, current in heads.items() if not any(map(keeps, current))}
        if forgotten:
            transaction.add_forgotten(context, forgotten, seqs)

        def finish() -> int:
            if forgotten:
                self._index.replace_heads(context, dict.fromkeys(forgotten, ()))
                self._cursors.drop(context)
            return len(forgotten)

        return finish

    async def _read_heads(
        self, transaction: Transaction, context: str, stored: Sequence[LeafKey], touched: Sequence[LeafKey]
    ) -> tuple[dict[LeafKey, list[Record]], dict[VersionId, int]]:
        """Return the heads of the leaves `stored`, and of those of `touched` that earlier plans of the transaction
        change.

        The second value has the seqs of those heads that are in the log."""
        heads: dict[LeafKey, list[Record]] = {}
        seqs: dict[VersionId, int] = {}
        context_row = self._commits.catalog.rows.get(context)
        if stored and context_row is not None:
            context_id = context_row.id
            heads, seqs = await self._commits.database.run(
                lambda connection: read_heads(connection, context_id, stored)
            )
        heads.update(transaction.pending.heads(context, touched))
        return heads, seqs

    async def _add_merge(
        self, transaction: Transaction, plan: MergePlan, seqs: dict[VersionId, int], cursor: Cursor | None = None
    ) -> Finish[Applied]:
        """Add the rows of `plan`, of the versions that it voids, and of cursors. Cursors alone are worth no
        transaction."""
        revocations, spoilt = await self._find_revocations(plan)
        transaction.add_merge(plan, seqs)
        transaction.add_counters(self._index.unseen_counters(plan.counters))
        for name, revocation in revocations.items():
            transaction.add_revocation(name, revocation)
        for context in spoilt:
            self._staging.add_drop(transaction, context)
        mark_saved = self._add_cursors(transaction, cursor) if plan.after else None

        def finish() -> Applied:
            if cursor is not None:
                self._cursors.note(cursor)
            if mark_saved is not None:
                mark_saved()
            self._index.commit(plan)
            for name, revocation in revocations.items():
                self._index.replace_heads(name, revocation.leaves)
            for context in spoilt:
                self._staging.finish_drop(context)
            return plan.applied(sum(revocation.count for revocation in revocations.values()))

        return finish

    def _add_cursors(self, transaction: Transaction, cursor: Cursor | None) -> Finish[None]:
        """Add the unsaved cursors, then `cursor` unless a kept one covers it."""
        transaction.add_unsaved_cursors(*self._cursors.unsaved())
        if cursor is not None and not self._cursors.covers(cursor):
            transaction.add_cursor(cursor)
        return lambda: self._cursors.saved(*transaction.cursors())

    async def _find_revocations(self, plan: MergePlan) -> tuple[dict[str, Revocation], list[str]]:
        """Return, by context, what `plan` voids, and the contexts whose staged snapshot holds a voided version."""
        # A key that signed nothing held here voids nothing. Skip it: the search reads every version.
        signed = self._index.seen
        revoked = {(statement.identity, statement.key) for statement in plan.compromised() if statement.key in signed}
        if not revoked:
            return {}, []
        names = {context_row.id: name for name, context_row in self._commits.catalog.rows.items() if name != IDENTITIES}
        staged_contexts = {staging.context_id: context for context, staging in self._staging.staging.items()}
        revocations, spoilt = await self._commits.database.run(
            lambda connection: find_revocations(connection, revoked, named_ids=names, staged_ids=staged_contexts)
        )
        return {names[context_id]: revocation for context_id, revocation in revocations.items()}, [
            staged_contexts[context_id] for context_id in spoilt
        ]
