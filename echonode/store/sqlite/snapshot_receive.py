"""Snapshots being received: staged in the log itself under a context without a name, then shown by naming it.

    stage     rows in key order, durable, counted, seen by nobody
    promote   recompute the root from the staged (key, id) rows, then
                equal, context still empty    name the staged context: one row changes, however many were staged
                equal, not empty any more     merge in batches by the ordinary rules, then delete
                different                     delete

What is to be deleted loses its `staged_for` at once and its rows bit by bit (the writer, when it has nothing to do).
"""

from collections.abc import Sequence
from dataclasses import replace

from echonode.model.merkle import Digest, Tree
from echonode.model.record import IDENTITIES, LeafKey, Record
from echonode.store.merge import LeafIndex
from echonode.store.port import RefusedVersion, Staged
from echonode.store.sqlite.group_commit import Finish, Writer
from echonode.store.sqlite.load import Staging
from echonode.store.sqlite.transaction import Shelf, Transaction, read_heads, read_leaves


class StagingArea:
    """Every snapshot being received."""

    def __init__(self, writer: Writer, index: LeafIndex, staging: dict[str, Staging]) -> None:
        self._writer = writer
        self._index = index
        self.staging = staging

    def staged(self, context: str) -> Staged | None:
        """What is staged for `context`."""
        staging = self.staging.get(context)
        return Staged(staging.root, staging.last_key, staging.count) if staging and staging.count else None

    async def stage(
        self, transaction: Transaction, context: str, root: Digest, records: Sequence[Record]
    ) -> Finish[tuple[RefusedVersion, ...]]:
        """Plan to keep `records`."""
        before = self.staging.get(context)
        dropped = before if before is not None and before.root != root else None
        if dropped is not None:
            self.drop(transaction, context)
        if before is None or dropped is not None:
            last_seq = transaction.last_seq
            after = Staging(transaction.new_context(), root, last_seq + 1, last_seq, LeafKey(b""), 0, 0)
            transaction.execute(
                "INSERT INTO contexts (id, staged_for, staged_root) VALUES (?, ?, ?)", (after.shelf_id, context, root)
            )
        else:
            after = replace(before)
            if not after.count:
                after.first_seq = transaction.last_seq + 1
        known = [record.key for record in records if record.key <= after.last_key]
        heads, seqs = await self._writer.database.run(lambda connection: read_heads(connection, after.shelf_id, known))
        plan = self._index.plan(context, records, heads)
        added, removed = plan.added(), plan.removed()
        transaction.count(self._index.news(plan.counters))
        if added:
            transaction.add_staged(after.shelf_id, plan, seqs)
            after.newest = transaction.last_seq
            after.last_key = max(after.last_key, *plan.after)
            after.count += len(added) - len(removed)
            after.size += sum(len(record.raw) for record in added) - sum(len(record.raw) for record in removed)
            transaction.execute("UPDATE contexts SET bytes = ? WHERE id = ?", (after.size, after.shelf_id))

        def finish() -> tuple[RefusedVersion, ...]:
            if dropped is not None:
                self.dropped(context)
            self.staging[context] = after
            self._index.count(plan.counters)
            return tuple(plan.refused)

        return finish

    async def promote(
        self, transaction: Transaction, context: str, expected: Digest | None
    ) -> Finish[Staging | bool]:
        """Plan to show what is staged. The finish tells whether it was shown, or gives what is left to be merged."""
        staging = self.staging.get(context)
        if staging is None:
            return lambda: expected in (None, Tree().root)
        tree, conflicts = await self._writer.database.run(lambda connection: read_leaves(connection, staging.shelf_id))
        is_expected = expected in (None, tree.root)
        if is_expected and self._may_swap(context, staging):
            self._swap(transaction, context, staging)

            def show() -> bool:
                del self.staging[context]
                self._index.trees[context], self._index.conflicts[context] = tree, conflicts
                return True

            return show

        self.drop(transaction, context)

        def take_out() -> Staging | bool:
            if is_expected:
                del self.staging[context]
                return staging
            self.dropped(context)
            return False

        return take_out

    def drop(self, transaction: Transaction, context: str) -> None:
        """Plan to forget what is staged for `context`; `dropped` once it is durable."""
        shelf_id = self.staging[context].shelf_id
        transaction.execute("UPDATE contexts SET staged_for = NULL WHERE id = ?", (shelf_id,))

    def dropped(self, context: str) -> None:
        """What was staged for `context` is forgotten; its rows go when there is time."""
        self._writer.discard(self.staging.pop(context).shelf_id)

    def _may_swap(self, context: str, staging: Staging) -> bool:
        """Only into an empty context, and only when no cursor into it was ever given out that would miss a row. Key
        statements have effects of their own, so `identities` is always merged."""
        shelf = self._writer.ledger.shelves.get(context)
        is_empty = not len(self._index.trees.get(context, ()))
        return is_empty and context != IDENTITIES and (shelf is None or shelf.newest < staging.first_seq)

    def _swap(self, transaction: Transaction, context: str, staging: Staging) -> None:
        shelf = self._writer.ledger.shelves.get(context)
        if shelf is not None:
            transaction.execute("DELETE FROM contexts WHERE id = ?", (shelf.id,))
        transaction.execute(
            "UPDATE contexts SET name = ?, staged_for = NULL, staged_root = NULL, floor = ? WHERE id = ?",
            (context, staging.newest, staging.shelf_id),
        )
        transaction.shelves[context] = Shelf(staging.shelf_id, staging.newest, staging.size)
