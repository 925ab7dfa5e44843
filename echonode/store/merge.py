"""What every store keeps in memory beside its rows, and the rules by which versions enter: pure, shared by all stores.

    plan = index.plan(context, records, heads)      what would change; nothing has
    (the store writes the plan in one transaction)
    index.commit(plan)                              trees, keyring, conflicts and counters follow

A store that writes several plans in one transaction keeps them in a `Pending`, so that a later one sees the earlier
ones' effects while the index, and with it every reader, still shows only what is durable.
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
class Plan:
    """The effects of one batch on one context. `before` and `after`: the heads of every leaf that changes."""

    context: str
    before: dict[LeafKey, list[Record]] = field(default_factory=dict)
    after: dict[LeafKey, list[Record]] = field(default_factory=dict)
    had: int = 0
    refused: list[RefusedVersion] = field(default_factory=list)
    counters: dict[tuple[PublicKey, Instance], int] = field(default_factory=dict)

    def added(self) -> list[Record]:
        """New heads, in the order their leaves were first touched."""
        added: list[Record] = []
        for key, heads in self.after.items():
            before = self.before[key]
            added += [head for head in heads if all(head.id != old.id for old in before)] if before else heads
        return added

    def removed(self) -> list[Record]:
        """Heads that are none any more."""
        removed: list[Record] = []
        for key, before in self.before.items():
            if before:
                after = self.after[key]
                removed += [old for old in before if all(old.id != head.id for head in after)]
        return removed

    def applied(self, voided: int = 0) -> Applied:
        """The outcome to report."""
        return Applied(tuple(self.added()), self.had, tuple(self.refused), voided)

    def statements(self) -> list[Statement]:
        """What the new heads state, when the context is `identities`."""
        return [read_statement(record) for record in self.added()] if self.context == IDENTITIES else []

    def compromised(self) -> list[Statement]:
        """Keys whose every signature this batch makes void."""
        return [statement for statement in self.statements() if statement.state is KeyState.COMPROMISED]


class Pending:
    """Plans made, not yet durable: the heads and counters they lead to."""

    def __init__(self) -> None:
        self.counters: dict[tuple[PublicKey, Instance], int] = {}
        self._heads: dict[str, dict[LeafKey, list[Record]]] = {}

    def add(self, plan: Plan) -> None:
        """Take note of the effects of `plan`."""
        self._heads.setdefault(plan.context, {}).update(plan.after)
        for which, counter in plan.counters.items():
            self.counters[which] = max(counter, self.counters.get(which, 0))

    def heads(self, context: str, keys: Iterable[LeafKey]) -> dict[LeafKey, list[Record]]:
        """The heads that pending plans lead to, for those of `keys` that they touch."""
        pending = self._heads.get(context)
        return {key: pending[key] for key in keys if key in pending} if pending else {}


class LeafIndex:
    """Trees, keyring, conflicts and counters of one store."""

    def __init__(self) -> None:
        self.keyring = Keyring()
        self.trees: dict[str, Tree] = {}
        self.conflicts: dict[str, set[LeafKey]] = {}
        self.authors: set[IdentityId] = set()
        self.seen: dict[PublicKey, dict[Instance, int]] = {}
        self.forked: set[VersionId] = set()
        self._own: dict[Writer, tuple[PublicKey, Instance]] = {}

    def contexts(self) -> tuple[str, ...]:
        """Contexts with anything in them, `identities` first."""
        names = (name for name, tree in self.trees.items() if len(tree))
        return tuple(sorted(names, key=lambda name: (name != IDENTITIES, name)))

    def watch_writer(self, key: PublicKey, instance: Instance) -> None:
        """This store writes as (key, instance): what others' vectors say of that writer bounds its next counter."""
        self._own[writer_of(key, instance)] = (key, instance)

    def next_counter(self, instance: Instance, pending: Mapping[tuple[PublicKey, Instance], int] | None = None) -> int:
        """1 + the highest counter known of anything this store wrote in this life, whichever key signed it; `pending`
        holds counters given and not yet durable."""
        highest = 0
        for key, of_instance in self._own.values():
            if of_instance == instance:
                given = (pending or {}).get((key, instance), 0)
                highest = max(highest, given, self.seen.get(key, {}).get(instance, 0))
        return 1 + highest

    def look_up(self, context: str, records: Iterable[Record]) -> tuple[list[LeafKey], set[LeafKey]]:
        """What stands where `records` want to: the leaves whose heads `plan` must be given, and those whose one head
        is the very version that comes. All other leaves that `records` touch do not exist."""
        tree = self.trees.get(context)
        differ: dict[LeafKey, None] = {}
        same: set[LeafKey] = set()
        if tree:
            for record in records:
                state = tree.get(record.key)
                if state is not None:
                    if state == state_of((record.id,)):
                        same.add(record.key)
                    else:
                        differ[record.key] = None
        return list(differ), same

    def plan(
        self,
        context: str,
        records: Sequence[Record],
        heads: Mapping[LeafKey, list[Record]],
        same: Collection[LeafKey] = (),
    ) -> Plan:
        """What applying `records` to `context` would change. `heads` and `same` hold every leaf that exists among
        those touched, as `look_up` tells them apart; a leaf in both is as `heads` says."""
        plan = Plan(context)
        for record in records:
            refused = self.refusal(context, record)
            if refused is not None:
                plan.refused.append(refused)
                continue
            self._count(plan, record)
            key = record.key
            current = plan.after.get(key) or heads.get(key)
            if current is None:
                if key in same:
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

    def commit(self, plan: Plan) -> None:
        """The plan is durable: follow it."""
        for statement in plan.statements():
            self.keyring.add(statement)
        self.replace_heads(plan.context, {key: [head.id for head in heads] for key, heads in plan.after.items()})
        self.authors.update({heads[0].author for heads in plan.after.values()})
        self.count(plan.counters)
        if len(self.forked) < FORKS_REMEMBERED:
            self.forked.update(head.id for heads in plan.after.values() if len(heads) > 1 for head in _forks(heads))

    def replace_heads(self, context: str, heads: Mapping[LeafKey, Sequence[VersionId]]) -> None:
        """Set the leaves of `context` to these heads; no heads removes a leaf."""
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

    def count(self, counters: Mapping[tuple[PublicKey, Instance], int]) -> None:
        """Raise the highest counters seen."""
        for (key, instance), counter in counters.items():
            seen = self.seen.setdefault(key, {})
            seen[instance] = max(counter, seen.get(instance, 0))

    def news(self, counters: Mapping[tuple[PublicKey, Instance], int]) -> dict[tuple[PublicKey, Instance], int]:
        """Those of `counters` that are higher than what was seen."""
        return {
            (key, instance): counter
            for (key, instance), counter in counters.items()
            if counter > self.seen.get(key, {}).get(instance, 0)
        }

    def _count(self, plan: Plan, record: Record) -> None:
        dots = [((record.kid, record.instance), record.counter)]
        if len(record.vector) > 1:
            dots += [
                (own, counter)
                for writer, counter in record.vector.items()
                # What others say of our counter is followed, not believed: past this it would leave us none.
                if counter <= COUNTER_MENTIONED_MAX and (own := self._own.get(writer))
            ]
        for which, counter in dots:
            if plan.counters.get(which, 0) < counter:
                plan.counters[which] = counter

    def refusal(self, context: str, record: Record) -> RefusedVersion | None:
        """Why `record` may not stand in `context`, None when it may."""
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
    """Those of `heads` that share their dot with another: one writer gave one counter twice."""
    dots = Counter((head.writer, head.counter) for head in heads)
    return (head for head in heads if dots[head.writer, head.counter] > 1)


def heads_among(versions: Iterable[Record]) -> list[Record]:
    """The versions that no other of `versions` dominates."""
    heads: list[Record] = []
    for version in versions:
        heads = merge_heads(heads, version)
    return heads
