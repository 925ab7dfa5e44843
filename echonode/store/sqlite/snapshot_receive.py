"""Snapshots being received: staged in the log under a context without a name, then shown by naming that context.

    stage     rows in key order, durable, counted, invisible
    promote   recompute the root from the staged (key, id) rows, then
                equal, context still empty    name the staged context: one row changes, however many were staged
                equal, not empty any more     merge in batches by the ordinary rules, then delete
                different                     delete

What is to be deleted loses its `staged_for` at once. `GroupCommit` deletes its rows bit by bit while no call waits.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from echonode.model.merkle import Digest, Tree
from echonode.model.record import IDENTITIES, LeafKey, Record
from echonode.store.leaf import Leaf
from echonode.store.merge import MergeIndex, MergePlan
from echonode.store.port import RefusedVersion, Staged
from echonode.store.sqlite.group_commit import Finish, GroupCommit
from echonode.store.sqlite.leaves import read_leaves
from echonode.store.sqlite.load import StagingContext
from echonode.store.sqlite.log_scan import read_tree
from echonode.store.sqlite.transaction import ContextRow, Transaction


class StagingArea:
    """Every snapshot being received."""

    def __init__(self, commits: GroupCommit, index: MergeIndex, staging: dict[str, StagingContext]) -> None:
        self._commits = commits
        self._index = index
        self.staging = staging

    def staged(self, context: str) -> Staged | None:
        """Return what is staged for `context`, None when there is nothing."""
        staging = self.staging.get(context)
        return Staged(staging.root, staging.last_key, staging.count) if staging and staging.count else None

    async def stage(
        self, transaction: Transaction, context: str, root: Digest, records: Sequence[Record]
    ) -> Finish[tuple[RefusedVersion, ...]]:
        """Plan to keep `records`."""
        before = self.staging.get(context)
        dropped = before if before is not None and before.root != root else None
        if dropped is not None:
            self.add_drop(transaction, context)
        if before is None or dropped is not None:
            last_seq = transaction.last_seq
            after = StagingContext(transaction.new_context_id(), root, last_seq + 1, last_seq, LeafKey(b""), 0, 0)
            transaction.execute(
                "INSERT INTO contexts (id, staged_for, staged_root) VALUES (?, ?, ?)", (after.context_id, context, root)
            )
        else:
            after = replace(before)
            if not after.count:
                after.first_seq, after.newest_seq = transaction.last_seq + 1, transaction.last_seq
        plan = self._index.sort(context, records)
        fresh, others = _divide(plan, after.last_key)
        if others:
            await self._commits.database.run(lambda connection: _merge(connection, after, plan, others))
        transaction.add_counters(self._index.unseen_counters(plan.counters), plan.latest, after.context_id)
        added = fresh + plan.added()
        left = [move.version for _, merge in plan.changes() for move in merge.left()]
        if added:
            transaction.add_staged(after.context_id, fresh, plan)
            after.newest_seq = transaction.last_seq
            after.last_key = max([after.last_key, *(record.key for record in added)])
            after.count += len(added) - len(left)
            after.size_bytes += sum([len(record.raw) for record in added]) - sum(version.size for version in left)

        def finish() -> tuple[RefusedVersion, ...]:
            if dropped is not None:
                self.finish_drop(context)
            self.staging[context] = after
            self._index.counters.raise_to(plan.counters, plan.latest)
            if self._index.is_usage_counted and context != IDENTITIES:
                for usage in (after.usage, self._index.usage):
                    usage.count(left, -1)
                    usage.count(added, 1)
            return tuple(plan.refused)

        return finish

    async def promote(
        self, transaction: Transaction, context: str, expected: Digest | None
    ) -> Finish[StagingContext | int | None]:
        """Plan to show what is staged.

        The finish returns how many heads are shown, None when they were dropped, or the staging context that is left to
        be merged."""
        staging = self.staging.get(context)
        if staging is None:
            return lambda: 0 if expected in (None, Tree().root) else None
        tree, conflicts, root = await self._commits.database.run(lambda connection: _read_state(connection, staging))
        is_expected = expected in (None, root)
        if is_expected and self._may_swap(context, staging):
            self._swap(transaction, context, staging)

            def show() -> int:
                del self.staging[context]
                self._index.trees[context], self._index.conflicts[context] = tree, conflicts
                return staging.count

            return show

        self.add_drop(transaction, context)

        def take_out() -> StagingContext | None:
            if is_expected:
                del self.staging[context]
                self._index.usage.add_all(staging.usage, -1)  # the merge counts what becomes of it
                return staging
            self.finish_drop(context)
            return None

        return take_out

    def add_drop(self, transaction: Transaction, context: str) -> None:
        """Plan to drop what is staged for `context`. Call `finish_drop` once that is durable."""
        context_id = self.staging[context].context_id
        transaction.execute("UPDATE contexts SET staged_for = NULL WHERE id = ?", (context_id,))

    def finish_drop(self, context: str) -> None:
        """Forget what was staged for `context`; its rows are deleted when no call waits."""
        staging = self.staging.pop(context)
        self._index.usage.add_all(staging.usage, -1)
        self._commits.discard(staging.context_id, staging.first_seq)

    def _may_swap(self, context: str, staging: StagingContext) -> bool:
        """Return True when the staged context may take the place of `context`.

        The context must be empty, and no cursor into it may have been given out that would miss a row. Key statements
        have effects of their own, so `identities` is always merged."""
        context_row = self._commits.catalog.rows.get(context)
        is_empty = not len(self._index.trees.get(context, ()))
        return (
            is_empty and context != IDENTITIES and (context_row is None or context_row.newest_seq < staging.first_seq)
        )

    def _swap(self, transaction: Transaction, context: str, staging: StagingContext) -> None:
        context_row = self._commits.catalog.rows.get(context)
        if context_row is not None:
            transaction.execute("DELETE FROM contexts WHERE id = ?", (context_row.id,))
            # A context that a void key left empty still has its history.
            moved = staging.context_id, context_row.id
            transaction.execute("UPDATE history SET context = ? WHERE context = ?", moved)
        transaction.execute(
            "UPDATE contexts SET name = ?, staged_for = NULL, staged_root = NULL, floor = ? WHERE id = ?",
            (context, staging.newest_seq, staging.context_id),
        )
        context_row = ContextRow(staging.context_id, staging.newest_seq, staging.size_bytes)
        context_row.runs.add(staging.first_seq, staging.newest_seq)
        transaction.rows[context] = context_row


def _read_state(
    connection: sqlite3.Connection, staging: StagingContext
) -> tuple[Tree, set[LeafKey], Digest]:
    """Return the tree of what is staged, its conflicts and its root: of a million leaves it takes a second to hash."""
    run = (staging.first_seq, staging.newest_seq)
    tree, conflicts = read_tree(connection, staging.context_id, [run])
    return tree, conflicts, tree.root


def _divide(plan: MergePlan, last_key: LeafKey) -> tuple[list[Record], list[LeafKey]]:
    """Return the versions in `plan` that come alone to a leaf behind `last_key`, which makes them its head, and the
    keys of all other leaves."""
    fresh: list[Record] = []
    others: list[LeafKey] = []
    for key, arrived in plan.arrived.items():
        if len(arrived) == 1 and key > last_key:
            fresh.append(arrived[0])
        else:
            others.append(key)
    return fresh, others


def _merge(connection: sqlite3.Connection, staging: StagingContext, plan: MergePlan, keys: Sequence[LeafKey]) -> None:
    """Merge the leaves `keys` of `plan` into the heads that are staged; nothing else is kept of a staged leaf."""
    for key in keys:
        if key > staging.last_key:
            plan.merge(key, Leaf(is_whole=True))
    known = [key for key in keys if key <= staging.last_key]
    for key, leaf in read_leaves(connection, staging.context_id, known):
        leaf.is_whole = True
        plan.merge(key, leaf)
