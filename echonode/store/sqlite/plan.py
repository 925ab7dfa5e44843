"""What a call to `apply` or `write` changes: read the heads it touches, plan, hand the rows to the transaction."""

import asyncio
from collections.abc import Callable, Sequence

from echonode.limits import VERIFY_CHUNK
from echonode.model.identity import Instance, SigningKey
from echonode.model.record import IDENTITIES, Draft, LeafKey, Record, UnsignedVersion, VersionId, leaf_key
from echonode.store.cursors import Cursors
from echonode.store.draft_signing import prepare_versions, seal
from echonode.store.merge import LeafIndex, Plan
from echonode.store.port import Applied, Cursor, Tick
from echonode.store.sqlite.group_commit import Finish, Writer
from echonode.store.sqlite.revocation import Revocation, find_void
from echonode.store.sqlite.snapshot_receive import StagingArea
from echonode.store.sqlite.transaction import Transaction, read_heads


async def _seal(prepared: Sequence[UnsignedVersion | None], key: SigningKey) -> list[Record | None]:
    """Sign on threads: no thread waits for the GIL while another signs, so that two cores give up to twice the rate."""
    if len(prepared) <= VERIFY_CHUNK:
        return seal(prepared, key)  # a few are signed in less time than threads take to wake
    chunks = [prepared[start : start + VERIFY_CHUNK] for start in range(0, len(prepared), VERIFY_CHUNK)]
    sealed = await asyncio.gather(*(asyncio.to_thread(seal, chunk, key) for chunk in chunks))
    return [version for chunk in sealed for version in chunk]


class Planner:
    """Plans against the index, within the writer's turn."""

    def __init__(self, writer: Writer, index: LeafIndex, staging: StagingArea, cursors: Cursors) -> None:
        self._writer = writer
        self._index = index
        self._staging = staging
        self._cursors = cursors

    async def apply(
        self, transaction: Transaction, context: str, records: Sequence[Record], cursor: Cursor | None
    ) -> Finish[Applied]:
        """Plan to merge `records` into `context`."""
        differ, same = self._index.look_up(context, records)
        heads, seqs = await self._heads(transaction, context, differ, [record.key for record in records])
        plan = self._index.plan(context, records, heads, same)
        return await self._settle(transaction, plan, seqs, None if plan.applied().is_gap else cursor)

    async def save_cursors(self, transaction: Transaction) -> Finish[None]:
        """Plan to save what was only noted."""
        return self._save(transaction, None)

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
        stored = [where for where in set(touched) if tree.get(where) is not None] if tree else []
        heads, seqs = await self._heads(transaction, context, stored, touched)
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
        versions = await _seal(prepared, key)
        signed = [version for version in versions if version is not None]
        plan = self._index.plan(context, signed, heads)
        finish = await self._settle(transaction, plan, seqs)
        return lambda: (versions, finish())

    async def forget(
        self, transaction: Transaction, context: str, keys: Sequence[LeafKey], keeps: Callable[[Record], bool]
    ) -> Finish[int]:
        """Plan to let go of leaves of which `keeps` takes no head."""
        tree = self._index.trees.get(context)
        stored = [key for key in dict.fromkeys(keys) if tree.get(key) is not None] if tree else []
        heads, seqs = await self._heads(transaction, context, stored, stored)
        gone = {key: there for key, there in heads.items() if not any(map(keeps, there))}
        if gone:
            transaction.add_forgotten(context, gone, seqs)

        def finish() -> int:
            if gone:
                self._index.replace_heads(context, dict.fromkeys(gone, ()))
                self._cursors.drop(context)
            return len(gone)

        return finish

    async def _heads(
        self, transaction: Transaction, context: str, stored: Sequence[LeafKey], touched: Sequence[LeafKey]
    ) -> tuple[dict[LeafKey, list[Record]], dict[VersionId, int]]:
        """The heads of the leaves `stored`, and of those of `touched` that earlier plans of the transaction change;
        with the seqs of those that the log holds."""
        heads: dict[LeafKey, list[Record]] = {}
        seqs: dict[VersionId, int] = {}
        shelf = self._writer.ledger.shelves.get(context)
        if stored and shelf is not None:
            shelf_id = shelf.id
            heads, seqs = await self._writer.database.run(lambda connection: read_heads(connection, shelf_id, stored))
        heads.update(transaction.pending.heads(context, touched))
        return heads, seqs

    async def _settle(
        self, transaction: Transaction, plan: Plan, seqs: dict[VersionId, int], cursor: Cursor | None = None
    ) -> Finish[Applied]:
        """Hand over the rows of `plan`, of what it makes void, and of cursors, which alone are worth no transaction."""
        voids, spoilt = await self._find_void(plan)
        transaction.add(plan, seqs)
        transaction.count(self._index.news(plan.counters))
        for name, void in voids.items():
            transaction.add_void(name, void)
        for context in spoilt:
            self._staging.drop(transaction, context)
        saved = self._save(transaction, cursor) if plan.after else None

        def finish() -> Applied:
            if cursor is not None:
                self._cursors.note(cursor)
            if saved is not None:
                saved()
            self._index.commit(plan)
            for name, void in voids.items():
                self._index.replace_heads(name, void.leaves)
            for context in spoilt:
                self._staging.dropped(context)
            return plan.applied(sum(void.count for void in voids.values()))

        return finish

    def _save(self, transaction: Transaction, cursor: Cursor | None) -> Finish[None]:
        cursors, deleted = self._cursors.unsaved()
        if cursor is not None and not self._cursors.is_behind(cursor):
            cursors.append(cursor)
        transaction.execute(
            "INSERT OR REPLACE INTO cursors (peer, context, instance, seq) VALUES (?, ?, ?, ?)",
            *[(each.peer, each.context, each.instance, each.seq) for each in cursors],
        )
        transaction.execute("DELETE FROM cursors WHERE peer = ? AND context = ?", *deleted)
        return lambda: self._cursors.saved(cursors, deleted)

    async def _find_void(self, plan: Plan) -> tuple[dict[str, Revocation], list[str]]:
        """By context, what `plan` makes void; and the contexts whose staged snapshot it spoils."""
        # A key that signed nothing held here voids nothing, and costs no look at every version.
        signed = self._index.seen
        revoked = {(statement.identity, statement.key) for statement in plan.compromised() if statement.key in signed}
        if not revoked:
            return {}, []
        named = {shelf.id: name for name, shelf in self._writer.ledger.shelves.items() if name != IDENTITIES}
        staged = {staging.shelf_id: context for context, staging in self._staging.staging.items()}
        voids, spoilt = await self._writer.database.run(
            lambda connection: find_void(connection, revoked, named=named, staged=staged)
        )
        return {named[shelf_id]: void for shelf_id, void in voids.items()}, [staged[shelf_id] for shelf_id in spoilt]
