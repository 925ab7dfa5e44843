"""The rules by which versions enter a store, and the index in memory that they need. Pure, shared by all stores.

    plan = index.plan(context, records, heads)      compute the changes; nothing is changed yet
    (the store writes the plan in one transaction)
    index.commit(plan)                              bring trees, keyring, conflicts and counters up to date

A store that writes several plans in one transaction keeps them in `PendingMerges`. A later plan then sees the effects
of the earlier ones, while the index, and every reader with it, still shows only what is durable.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from echonode.errors import Reason, RemoteError
from echonode.limits import COUNTER_MENTIONED_MAX, FORKS_REMEMBERED
from echonode.model.identity import IdentityId, Instance, PublicKey, Writer, writer_of
from echonode.model.keys import Admission, Keyring, KeyState, Statement, read_statement
from echonode.model.merkle import State, Tree, state_of
from echonode.model.record import IDENTITIES, LeafKey, Record, VersionId, merge_heads
from echonode.store.port import Applied, RefusedVersion


@dataclass(slots=True)
class MergePlan:
    """The effects of one batch on one context. `before` and `after` hold the heads of every leaf that changes."""

    context: str
    before: dict[LeafKey, list[Record]] = field(default_factory=dict)
    after: dict[LeafKey, list[Record]] = field(default_factory=dict)
    had: int = 0
    refused: list[RefusedVersion] = field(default_factory=list)
    counters: dict[tuple[PublicKey, Instance], int] = field(default_factory=dict)

    def added(self) -> list[Record]:
        """Return the new heads, in the order in which their leaves were first touched."""
        added: list[Record] = []
        for key, heads in self.after.items():
            before = self.before[key]
            added += [head for head in heads if all(head.id != old.id for old in before)] if before else heads
        return added

    def removed(self) -> list[Record]:
        """Return the versions that were heads and are heads no longer."""
        removed: list[Record] = []
        for key, before in self.before.items():
            if before:
                after = self.after[key]
                removed += [old for old in before if all(old.id != head.id for head in after)]
        return removed

    def applied(self, voided: int = 0) -> Applied:
        """Return the outcome to report."""
        return Applied(tuple(self.added()), self.had, tuple(self.refused), voided)

    def statements(self) -> list[Statement]:
        """Return the key statements among the new heads; there are some in the context `identities` only."""
        return [read_statement(record) for record in self.added()] if self.context == IDENTITIES else []

    def compromised(self) -> list[Statement]:
        """Return the statements that void every signature of a key."""
        return [statement for statement in self.statements() if statement.state is KeyState.COMPROMISED]


class PendingMerges:
    """The heads and counters that plans lead to which are made and not yet durable."""

    def __init__(self) -> None:
        self.counters: dict[tuple[PublicKey, Instance], int] = {}
        self._heads: dict[str, dict[LeafKey, list[Record]]] = {}

    def add(self, plan: MergePlan) -> None:
        """Add the effects of `plan`."""
        self._heads.setdefault(plan.context, {}).update(plan.after)
        for writer_key, counter in plan.counters.items():
            self.counters[writer_key] = max(counter, self.counters.get(writer_key, 0))

    def heads(self, context: str, keys: Iterable[LeafKey]) -> dict[LeafKey, list[Record]]:
        """Return the heads that pending plans lead to, for those of `keys` that they touch."""
        pending = self._heads.get(context)
        return {key: pending[key] for key in keys if key in pending} if pending else {}


class MergeIndex:
    """The trees, keyring, conflicts and counters of one store, in memory."""

    def __init__(self) -> None:
        self.keyring = Keyring()
        self.trees: dict[str, Tree] = {}
        self.conflicts: dict[str, set[LeafKey]] = {}
        self.authors: set[IdentityId] = set()
        self.seen: dict[PublicKey, dict[Instance, int]] = {}
        self.forked: set[VersionId] = set()
        self._own_writers: dict[Writer, tuple[PublicKey, Instance]] = {}

    def contexts(self) -> tuple[str, ...]:
        """Return the contexts that hold anything: `identities` first, the others sorted."""
        names = (name for name, tree in self.trees.items() if len(tree))
        return tuple(sorted(names, key=lambda name: (name != IDENTITIES, name)))

    def watch_writer(self, key: PublicKey, instance: Instance) -> None:
        """Note that this store writes as (key, instance), so that vectors of other writers bound its next counter."""
        self._own_writers[writer_of(key, instance)] = (key, instance)

    def next_counter(self, instance: Instance, pending: Mapping[tuple[PublicKey, Instance], int] | None = None) -> int:
        """Return 1 + the highest counter known of this instance, whichever key signed it.

        `pending` holds counters that were given and are not yet durable."""
        highest = 0
        for key, of_instance in self._own_writers.values():
            if of_instance == instance:
                given = (pending or {}).get((key, instance), 0)
                highest = max(highest, given, self.seen.get(key, {}).get(instance, 0))
        return 1 + highest

    def look_up(self, context: str, records: Iterable[Record]) -> tuple[list[LeafKey], set[LeafKey]]:
        """Return two sets of leaves among those that `records` touch: those that differ, and those that are identical.

        The caller reads the heads of the first set for `plan`. A leaf of the second set has one head, the very version
        that comes. All other leaves that `records` touch do not exist."""
        tree = self.trees.get(context)
        to_read: dict[LeafKey, None] = {}
        identical: set[LeafKey] = set()
        if tree:
            for record in records:
                state = tree.get(record.key)
                if state is not None:
                    if state == state_of((record.id,)):
                        identical.add(record.key)
                    else:
                        to_read[record.key] = None
        return list(to_read), identical

    def plan(
        self,
        context: str,
        records: Sequence[Record],
        heads: Mapping[LeafKey, list[Record]],
        identical: Collection[LeafKey] = (),
    ) -> MergePlan:
        """Return the changes that applying `records` to `context` would make.

        `heads` and `identical` cover every existing leaf among those touched, as `look_up` divides them. Where a leaf
        is in both, `heads` counts."""
        plan = MergePlan(context)
        for record in records:
            refused = self.refusal(context, record)
            if refused is not None:
                plan.refused.append(refused)
                continue
            self._add_counters(plan, record)
            key = record.key
            current = plan.after.get(key) or heads.get(key)
            if current is None:
                if key in identical:
                    plan.had += 1
                else:
                    plan.before[key] = []
                    plan.after[key] = [record]
                continue
            merged = merge_heads(current, record)
            if merged == current:
                plan.had += 1
                continue
            plan.before.setdefault(key, current)
            plan.after[key] = merged
        return plan

    def commit(self, plan: MergePlan) -> None:
        """Apply `plan` to the index; call it once the plan is durable."""
        for statement in plan.statements():
            self.keyring.add(statement)
        self.replace_heads(plan.context, {key: [head.id for head in heads] for key, heads in plan.after.items()})
        self.authors.update({heads[0].author for heads in plan.after.values()})
        self.raise_counters(plan.counters)
        for head in (head for heads in plan.after.values() if len(heads) > 1 for head in _forks(heads)):
            if len(self.forked) < FORKS_REMEMBERED:
                self.forked.add(head.id)

    def replace_heads(self, context: str, heads: Mapping[LeafKey, Sequence[VersionId]]) -> None:
        """Set the leaves of `context` to these heads; an empty list removes the leaf."""
        tree = self.trees.setdefault(context, Tree())
        conflicts = self.conflicts.setdefault(context, set())
        for key, ids in heads.items():
            if ids:
                tree.put(key, State(state_of(ids)))
            else:
                tree.remove(key)
            if len(ids) > 1:
                conflicts.add(key)
            else:
                conflicts.discard(key)

    def raise_counters(self, counters: Mapping[tuple[PublicKey, Instance], int]) -> None:
        """Raise the highest counters seen."""
        for (key, instance), counter in counters.items():
            seen = self.seen.setdefault(key, {})
            seen[instance] = max(counter, seen.get(instance, 0))

    def unseen_counters(
        self, counters: Mapping[tuple[PublicKey, Instance], int]
    ) -> dict[tuple[PublicKey, Instance], int]:
        """Return those of `counters` that are higher than the highest seen."""
        return {
            (key, instance): counter
            for (key, instance), counter in counters.items()
            if counter > self.seen.get(key, {}).get(instance, 0)
        }

    def _add_counters(self, plan: MergePlan, record: Record) -> None:
        dots = [((record.kid, record.instance), record.counter)]
        if len(record.vector) > 1:
            dots += [
                (own, counter)
                for writer, counter in record.vector.items()
                # Vectors of other writers may raise our counter, but only so far: a lie must not use the counters up.
                if counter <= COUNTER_MENTIONED_MAX and (own := self._own_writers.get(writer))
            ]
        for writer_key, counter in dots:
            if plan.counters.get(writer_key, 0) < counter:
                plan.counters[writer_key] = counter

    def refusal(self, context: str, record: Record) -> RefusedVersion | None:
        """Return the reason why `record` may not enter `context`, None when it may."""
        if record.context != context:
            return RefusedVersion(record.id, Reason.FOREIGN_CONTEXT, "it belongs to another context")
        if context == IDENTITIES:
            try:
                read_statement(record)
            except RemoteError as error:
                return RefusedVersion(record.id, error.reason, error.detail)
            return None
        match self.keyring.admission(record):
            case Admission.ADMITTED:
                return None
            case Admission.UNKNOWN:
                why = "no statement says that its key speaks for its author"
                return RefusedVersion(record.id, Reason.UNKNOWN_KEY, why)
            case Admission.VOID:
                return RefusedVersion(record.id, Reason.KEY_REVOKED, "its key is compromised")


def _forks(heads: Sequence[Record]) -> Iterator[Record]:
    """Yield those of `heads` that share their dot with another: one writer gave one counter twice."""
    dots = Counter((head.writer, head.counter) for head in heads)
    return (head for head in heads if dots[head.writer, head.counter] > 1)


def heads_among(versions: Iterable[Record]) -> list[Record]:
    """Return the versions that no other of `versions` dominates."""
    heads: list[Record] = []
    for version in versions:
        heads = merge_heads(heads, version)
    return heads
