"""The rules by which versions enter a store, and the index in memory that they need. Pure, shared by all stores.

    plan = index.sort(context, records)     who may enter, by leaf; nothing is changed yet
    plan.merge(key, leaf, ..)               what becomes of each leaf, by the rule of heads (store/leaf.py)
    (the store writes the plan in one transaction)
    index.commit(plan)                      bring trees, claims, conflicts and counters up to date

A store that writes several plans in one transaction keeps them in `PendingMerges`. A later plan then sees the effects
of the earlier ones, while the index, and every reader with it, still shows only what is durable.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from echonode.errors import Reason, RemoteError
from echonode.limits import COUNTER_MENTIONED_MAX, FORKS_REMEMBERED
from echonode.model.heads import LEAF_BOUNDS, LeafBounds
from echonode.model.identity import IdentityId, Instance, PublicKey, Writer, writer_of
from echonode.model.keyring import ClaimTable, Keyring
from echonode.model.keys import Admission, Claim, read_statement
from echonode.model.merkle import State, Tree, state_of
from echonode.model.record import IDENTITIES, LeafKey, Record, SignedRecord, Version, VersionId
from echonode.model.usage import CountedVersion, UsageTable
from echonode.store.counters import Counters, CounterTable, WriterKey
from echonode.store.leaf import Leaf, LeafMerge, Move, Place, joined_moves
from echonode.store.own_versions import OwnVersions
from echonode.store.port import Applied, Outranked, RefusedVersion, VoidedVersion


@dataclass(slots=True)
class MergePlan:
    """The effects of one batch on one context.

    `arrived` holds the admitted versions by leaf, in the order in which leaves were first touched; `merges` what
    becomes of each leaf that changes; `latest` the versions that have the highest counters of `counters`; `strangers`
    those signed in this store's name, but never by it."""

    context: str
    bounds: LeafBounds
    arrived: dict[LeafKey, list[Record]] = field(default_factory=dict)
    merges: dict[LeafKey, LeafMerge] = field(default_factory=dict)
    had: int = 0
    refused: list[RefusedVersion] = field(default_factory=list)
    counters: dict[WriterKey, int] = field(default_factory=dict)
    latest: dict[WriterKey, Record] = field(default_factory=dict)
    strangers: list[Record] = field(default_factory=list)

    def merge(self, key: LeafKey, leaf: Leaf) -> bool:
        """Merge what arrived for the leaf `key` into it. Return False, with nothing noted, when it has to be read
        whole."""
        merge = leaf.merge(self.arrived[key], self.bounds)
        if not merge.is_certain:
            return False
        self.had += merge.had
        if merge.moves or merge.outranked:
            self.merges[key] = merge
        return True

    def merge_new(self, key: LeafKey, record: Record) -> None:
        """Note that `record` makes a leaf of its own."""
        self.merges[key] = LeafMerge.of_new_leaf(record)

    def changes(self) -> Iterable[tuple[LeafKey, LeafMerge]]:
        """Yield the leaves that change, in the order in which they were first touched."""
        for key in self.arrived:
            if key in self.merges:
                yield key, self.merges[key]

    def added(self) -> list[Record]:
        """Return the new heads, in the order in which their leaves were first touched."""
        return [move.record for _, merge in self.changes() for move in merge.moves if move.target is Place.LOG]

    def applied(self, voided: Iterable[VoidedVersion] = ()) -> Applied:
        """Return the outcome to report."""
        outranked = [
            Outranked(self.arrived[key][0].author, self.arrived[key][0].name, merge.outranked)
            for key, merge in self.changes()
            if merge.outranked
        ]
        return Applied(
            tuple(self.added()),
            self.had,
            tuple(self.refused),
            tuple(voided),
            tuple(outranked),
            strangers=tuple(self.strangers),
        )

    @property
    def is_gap(self) -> bool:
        """True when a refused version may be admitted later, so that it has to be sent again."""
        return any(refused.reason is Reason.UNKNOWN_KEY for refused in self.refused)

    def beside(self) -> list[tuple[VersionId, int]]:
        """Return how many heads stand beside each version that arrived, where there are any."""
        found: list[tuple[VersionId, int]] = []
        for key, merge in self.changes():
            for record in self.arrived[key]:
                count = len(merge.heads) - (record.id in merge.heads)
                if count:
                    found.append((record.id, count))
        return found

    def claims(self) -> list[Claim]:
        """Return what the new heads state of keys; only those of the context `identities` state anything."""
        return [read_statement(record) for record in self.added()] if self.context == IDENTITIES else []


class PendingMerges:
    """The moves and counters of plans that are made and not yet durable."""

    def __init__(self) -> None:
        self.counters: dict[tuple[PublicKey, Instance], int] = {}
        self._moves: dict[tuple[str, LeafKey], list[Move]] = {}  # one for each version

    def add(self, plan: MergePlan) -> None:
        """Add the effects of `plan`."""
        self.add_merges(plan.context, plan.merges)
        for writer_key, counter in plan.counters.items():
            self.counters[writer_key] = max(counter, self.counters.get(writer_key, 0))

    def add_merges(self, context: str, merges: Mapping[LeafKey, LeafMerge]) -> None:
        """Add the moves of some leaves of `context`."""
        for key, merge in merges.items():
            earlier = self._moves.get((context, key))
            self._moves[context, key] = joined_moves(earlier, merge.moves) if earlier else merge.moves

    @property
    def has_moves(self) -> bool:
        """True when a version changes its place."""
        return any(self._moves.values())

    def touches(self, context: str, key: LeafKey) -> bool:
        """Return True if a pending plan changes the leaf."""
        return (context, key) in self._moves

    def moves(self, context: str, key: LeafKey) -> Iterable[Move]:
        """Return what is pending in one leaf: a move for each version, from where it is kept to where it goes."""
        return self._moves.get((context, key), ())

    def all_moves(self) -> Iterable[tuple[str, LeafKey, Move]]:
        """Yield the context, the leaf and the move of each version that changes its place."""
        for (context, key), moves in self._moves.items():
            for move in moves:
                yield context, key, move


class MergeIndex:
    """The trees and conflicts of one store, in memory, and its tables of claims and counters."""

    def __init__(self, claims: ClaimTable, counters: CounterTable, own: OwnVersions) -> None:
        self.claims = claims
        self.keyring = Keyring(claims)
        self.counters = counters
        self.own = own
        self.trees: dict[str, Tree] = {}
        self.bounds = LEAF_BOUNDS
        self.usage = UsageTable()
        self.is_usage_counted = True  # False: `usage` holds what changed since the store was opened, for nobody to read
        self.conflicts: dict[str, set[LeafKey]] = {}
        self.full_leaves: dict[str, set[LeafKey]] = {}  # those with a spare
        self.forked: set[VersionId] = set()
        self._own_writers: dict[Writer, tuple[PublicKey, Instance]] = {}

    def contexts(self) -> tuple[str, ...]:
        """Return the contexts that hold anything: `identities` first, the others sorted."""
        names = (name for name, tree in self.trees.items() if len(tree))
        return tuple(sorted(names, key=lambda name: (name != IDENTITIES, name)))

    def watch_writer(self, key: PublicKey, instance: Instance) -> None:
        """Note that this store writes as (key, instance), so that vectors of other writers bound its next counter."""
        self._own_writers[writer_of(key, instance)] = (key, instance)

    def has_signed(self, version: SignedRecord) -> bool | None:
        """Return whether this store signed `version`, of an instance of its own; None where it cannot know."""
        known = self.own.has_signed(version.instance, version.counter, version.id)
        if known is None and version.counter > self.counters.highest(version.kid, version.instance):
            return False
        return known

    def note_strangers(self, plan: MergePlan) -> None:
        """Note in `plan` which versions, brought by a peer, another life of this store signed (PROTOCOL.md §5.6)."""
        for arrived in plan.arrived.values():
            for record in arrived:
                if record.writer in self._own_writers and self.has_signed(record) is False:
                    plan.strangers.append(record)

    def next_counter(self, instance: Instance, pending: Mapping[WriterKey, int] | None = None) -> int:
        """Return 1 + the highest counter known of this instance, whichever key signed it.

        `pending` holds counters that were given and are not yet durable."""
        highest = 0
        for key, of_instance in self._own_writers.values():
            if of_instance == instance:
                given = (pending or {}).get((key, instance), 0)
                highest = max(highest, given, self.counters.highest(key, instance))
        return 1 + highest

    def sort(self, context: str, records: Sequence[Record]) -> MergePlan:
        """Return a plan with those of `records` that may enter `context`, by leaf, and the reasons for the others."""
        plan = MergePlan(context, self.bounds)
        admitted: tuple[IdentityId, PublicKey] | None = None  # of the version before: most come from one author
        for record in records:
            if (record.author, record.kid) != admitted or record.context != context or context == IDENTITIES:
                refused = self.refusal(context, record)
                if refused is not None:
                    plan.refused.append(refused)
                    continue
                admitted = record.author, record.kid
            self._add_counters(plan, record)
            plan.arrived.setdefault(record.key, []).append(record)
        return plan

    def merge_unread(
        self, plan: MergePlan, pending: PendingMerges | None = None, present: Collection[LeafKey] | None = None
    ) -> list[LeafKey]:
        """Merge the leaves of `plan` of which nothing has to be read; return the others.

        These are new leaves to which one version comes, and leaves whose one head is the very version that comes.
        `present`: those that there are, where they were looked up already."""
        tree = self.trees.get(plan.context)
        others: list[LeafKey] = []
        for key, arrived in plan.arrived.items():
            state = tree.get(key) if tree is not None and (present is None or key in present) else None
            if len(arrived) > 1 or (pending is not None and pending.touches(plan.context, key)):
                others.append(key)
            elif state is None:
                plan.merge_new(key, arrived[0])
            elif state == state_of((arrived[0].id,)):
                plan.had += 1
            else:
                others.append(key)
        return others

    def revoked_by(self, plan: MergePlan) -> set[tuple[IdentityId, PublicKey]]:
        """Return each (author, key) that `plan` makes void, and whose versions may be here. `plan` is not committed."""
        # A key that signed nothing held here voids nothing, and the search for its versions reads every one.
        return {pair for pair in self.keyring.voided_by(plan.claims()) if self.counters.has_signed(pair[1])}

    def is_full(self, context: str, key: LeafKey) -> bool:
        """Return True if the leaf has a spare."""
        return key in self.full_leaves.get(context, ())

    def commit(self, plan: MergePlan) -> None:
        """Apply `plan` to the index; call it once the plan is durable."""
        self.claims.add(plan.claims())
        self.replace_leaves(plan.context, plan.merges)
        self.counters.raise_to(plan.counters, plan.latest)
        for version in (version for merge in plan.merges.values() for version in merge.forked):
            if len(self.forked) < FORKS_REMEMBERED:
                self.forked.add(version)

    def replace_leaves(self, context: str, merges: Mapping[LeafKey, LeafMerge]) -> None:
        """Set the leaves of `context` to what became of them."""
        heads: dict[LeafKey, Sequence[VersionId]] = {}
        left: list[Version] = []
        joined: list[Version] = []
        for key, merge in merges.items():
            for version, origin, target in merge.moves:
                if origin is Place.LOG or target is Place.LOG:
                    heads[key] = merge.heads
                    (left if origin is Place.LOG else joined).append(version)
        self.replace_heads(context, heads)
        if context != IDENTITIES:
            self.usage.count(left, -1)
            self.usage.count(joined, 1)
        full = self.full_leaves.setdefault(context, set())
        for key, merge in merges.items():
            if merge.is_full:
                full.add(key)
            elif full:
                full.discard(key)

    def replace_heads(self, context: str, heads: Mapping[LeafKey, Sequence[VersionId]]) -> None:
        """Set the leaves of `context` to these heads; an empty list removes the leaf."""
        tree = self.trees.setdefault(context, Tree())
        tree.put_all([(key, State(state_of(ids))) for key, ids in heads.items() if ids])
        conflicts = self.conflicts.setdefault(context, set())
        for key, ids in heads.items():
            if not ids:
                tree.remove(key)
            if len(ids) > 1:
                conflicts.add(key)
            elif conflicts:
                conflicts.discard(key)

    def forget_leaves(self, context: str, keys: Collection[LeafKey], heads: Iterable[CountedVersion]) -> None:
        """Remove leaves with all that is kept of them; `heads` are all their heads that were counted."""
        self.usage.count(heads, -1)
        self.replace_heads(context, dict.fromkeys(keys, ()))
        self.full_leaves.setdefault(context, set()).difference_update(keys)

    def unseen_counters(self, counters: Counters) -> Counters:
        """Return those of `counters` that are higher than the highest seen."""
        return {writer: counter for writer, counter in counters.items() if counter > self.counters.highest(*writer)}

    def _add_counters(self, plan: MergePlan, record: Record) -> None:
        counters, vector = plan.counters, record.vector
        dot, counter = (record.kid, record.instance), vector[record.writer]
        if counters.get(dot, 0) < counter:
            counters[dot] = counter
            plan.latest[dot] = record
        if len(vector) == 1:
            return
        for writer, counter in vector.items():
            own = self._own_writers.get(writer)
            # Vectors of other writers may raise our counter, but only so far: a lie must not use the counters up.
            if own is not None and counters.get(own, 0) < counter <= COUNTER_MENTIONED_MAX:
                counters[own] = counter

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
                return RefusedVersion(record.id, Reason.KEY_REVOKED, "its key is void: it was stated compromised")


def voided_versions(
    context: str, merges: Iterable[LeafMerge], revoked: Collection[tuple[IdentityId, PublicKey]]
) -> list[VoidedVersion]:
    """Return the versions by `revoked` keys that `merges` take out of the heads and spares of `context`; those of a
    leaf come in the order of their ids."""
    return [
        VoidedVersion(context, record.author, record.name, record.id, record.kid)
        for merge in merges
        for move in sorted(merge.moves, key=lambda move: move.version.id)
        if move.origin in (Place.LOG, Place.SPARE)
        and isinstance(record := move.version, Record)
        and (record.author, record.kid) in revoked
    ]
