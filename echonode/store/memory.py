"""A store in memory: the same contract as the store on disk, without durability.

Simulation runs on it, and the state machine in tests/store/test_machine.py judges the store on disk by it.
"""

import itertools
import sys
from bisect import bisect_right
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from echonode.errors import RemoteError
from echonode.limits import BATCH_RECORDS_MAX, CANDIDATES_MAX, FILTERED_PAGE_MAX, LEAF_HISTORY_MAX
from echonode.model.filter import Filter
from echonode.model.heads import LeafBounds, select
from echonode.model.identity import IdentityId, Instance, PublicKey, SigningKey
from echonode.model.keyring import ClaimsInMemory, Keyring
from echonode.model.keys import Admission, read_statement
from echonode.model.merkle import Digest, State, Tree, state_of
from echonode.model.other_life import Fork
from echonode.model.record import (
    IDENTITIES,
    Draft,
    LeafKey,
    Record,
    SignedRecord,
    Version,
    VersionId,
    leaf_key,
    parse,
    verify,
)
from echonode.model.usage import UsageTable
from echonode.store.counters import CountersInMemory, SeenVersion
from echonode.store.cursors import Cursors
from echonode.store.draft_signing import common_context, prepare_versions, sign_versions
from echonode.store.leaf import Leaf, LeafMerge, Move, Place
from echonode.store.merge import MergeIndex, MergePlan, voided_versions
from echonode.store.own_versions import OwnVersionsInMemory
from echonode.store.paging import fit_changes, fit_leaves
from echonode.store.port import (
    FILTERED_KEY_BYTES,
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


class MemoryStore:
    """Implements `Store` in dictionaries. No method yields to the event loop before its end."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._own, self._counters = OwnVersionsInMemory(), CountersInMemory()
        self._index = MergeIndex(ClaimsInMemory(), self._counters, self._own)
        self._heads: dict[str, dict[LeafKey, list[Record]]] = {}
        self._spare: dict[str, dict[LeafKey, dict[VersionId, Record]]] = {}
        self._history: dict[str, dict[LeafKey, dict[VersionId, Record]]] = {}
        self._log: dict[int, Record] = {}
        self._seqs: list[int] = []  # ascending: every seq of the log, and some that have left it
        self._seq_of: dict[bytes, int] = {}
        self._newest_seqs: dict[str, int] = {}
        self._last_seq = 0
        self._staging: dict[str, tuple[Digest, dict[LeafKey, list[Record]]]] = {}
        self._peers: dict[IdentityId, KnownPeer] = {}
        self._origins: dict[str, ContextOrigin] = {}
        self._cursors = Cursors()

    @property
    def instance(self) -> Instance:
        return self._instance

    @property
    def second_life(self) -> str | None:
        return None

    @property
    def keyring(self) -> Keyring:
        return self._index.keyring

    def contexts(self) -> tuple[str, ...]:
        return self._index.contexts()

    def tree(self, context: str) -> Tree:
        return self._index.trees.get(context) or Tree()

    def seq(self, context: str) -> int:
        return self._newest_seqs.get(context, 0)

    def seen(self, key: PublicKey) -> Mapping[Instance, int]:
        return self._index.counters.by_instance(key)

    def latest(self, key: PublicKey) -> list[SeenVersion]:
        return self._counters.latest(key)

    def bytes_of_latest(self, key: PublicKey, instance: Instance) -> bytes | None:
        version = self._counters.versions.get((key, instance))
        return version.raw if version is not None and self.keeps(version) else None

    def conflicts(self, context: str) -> Collection[LeafKey]:
        return self._index.conflicts.get(context, set())

    def forked(self) -> Collection[VersionId]:
        return self._index.forked

    @property
    def usage(self) -> UsageTable:
        return self._index.usage

    async def info(self, context: str) -> ContextInfo:
        tree = self.tree(context)
        size = sum(len(head.raw) for heads in self._heads.get(context, {}).values() for head in heads)
        return ContextInfo(context, tree.root, len(tree), size, self.seq(context))

    def bound_leaves(self, bounds: LeafBounds) -> None:
        """Take other bounds than those of the protocol, while the store is empty."""
        self._index.bounds = bounds

    def keeps(self, version: Record) -> bool:
        """Return True if `version` is kept, as a head or beside the heads."""
        context, key = version.context, version.key
        return (
            version.id in self._seq_of
            or version.id in self._spare.get(context, {}).get(key, {})
            or version.id in self._history.get(context, {}).get(key, {})
        )

    def history(self) -> HistoryInfo:
        spare, older = (
            [version for leaves in kept.values() for leaf in leaves.values() for version in leaf.values()]
            for kept in (self._spare, self._history)
        )
        return HistoryInfo(len(spare) + len(older), sum(version.size for version in (*spare, *older)), len(spare))

    async def apply(
        self, context: str, records: Sequence[Record], cursor: Cursor | None = None, *, report: Report | None = None
    ) -> Applied:
        _, applied = self._apply(context, records, is_brought=True)
        if cursor is not None and not applied.is_gap:
            self._cursors.note(cursor)
        if report is not None:
            report(applied)
        return applied

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
        self._index.watch_writer(key.public, self._instance)
        heads = self._heads.get(context, {})
        keys = [leaf_key(draft.author, draft.name) for draft in drafts]
        unchanged = {
            place
            for place, (draft, each) in enumerate(zip(drafts, keys, strict=True))
            if len(heads.get(each, ())) == 1 and draft.is_same_as(heads[each][0])
        }
        prepared = prepare_versions(
            drafts,
            keys,
            key.public,
            heads,
            instance=self._instance,
            next_counter=self._index.next_counter(self._instance),
            tick=tick,
            created_ms=created_ms,
            unchanged=unchanged if skip_unchanged else None,
        )
        versions = sign_versions(prepared, key)
        signed = [version for version in versions if version is not None]
        plan, applied = self._apply(context, signed)
        if signed:
            self._own.add(self._instance, signed[0].counter, [version.id for version in signed])
        applied = replace(applied, beside=tuple(plan.beside()), seq=self.seq(context))
        if report is not None:
            report(applied)
        return versions, applied

    async def forget(self, context: str, keys: Sequence[LeafKey], keeps: Callable[[Record], bool]) -> int:
        leaves = self._heads.get(context, {})
        gone = [key for key in dict.fromkeys(keys) if key in leaves and not any(map(keeps, leaves[key]))]
        heads = [head for key in gone for head in leaves[key]]
        for key in gone:
            for head in leaves.pop(key):
                self._log.pop(self._seq_of.pop(head.id))
            self._spare.get(context, {}).pop(key, None)
            self._history.get(context, {}).pop(key, None)
        if gone:
            self._index.forget_leaves(context, gone, heads)
            self._cursors.drop(context)
        return len(gone)

    async def read(self, context: str, keys: Sequence[LeafKey], *, bytes_max: int) -> tuple[list[bytes], int]:
        leaves = self._heads.get(context, {})
        records, taken, _ = fit_leaves((_raws(leaves.get(key, [])) for key in keys), bytes_max=bytes_max)
        return records, taken

    async def heads(self, context: str, author: IdentityId, name: str) -> list[Record]:
        return list(self._heads.get(context, {}).get(leaf_key(author, name), []))

    async def earlier(self, context: str, author: IdentityId, name: str, *, limit: int) -> list[EarlierVersion]:
        history = self._history.get(context, {}).get(leaf_key(author, name), {})
        return [EarlierVersion(record, None) for record in list(history.values())[::-1][:limit]]

    async def earlier_by(self, key: PublicKey, after: int, *, limit: int) -> tuple[list[Record], int]:
        leaves = [leaf for of_context in self._history.values() for leaf in of_context.values()]
        versions = [version for leaf in leaves for version in leaf.values() if version.kid == key]
        found = versions[after : after + limit]
        return found, after + len(found)

    async def scan(self, context: str, after: int, *, limit: int) -> tuple[list[Record], int]:
        found = list(itertools.islice(self._entries_after(context, after), limit))
        return [record for _, record in found], found[-1][0] if found else after

    async def changes(self, context: str, after: int, *, records_max: int, bytes_max: int) -> tuple[list[Change], int]:
        entries = (Change(seq, record.id, record.raw) for seq, record in self._entries_after(context, after))
        found, is_all = fit_changes(entries, records_max=records_max, bytes_max=bytes_max)
        return found, max(self.seq(context), after) if is_all else found[-1].seq

    async def filtered(self, context: str, wanted: Filter, after: int, *, until: int) -> FilteredPage:
        entries = itertools.takewhile(lambda entry: entry[0] <= until, self._entries_after(context, after))
        page = list(itertools.islice(entries, FILTERED_PAGE_MAX))
        rows = [
            (record.created_ms // 1000).to_bytes(8, "big") + record.id + record.key[:FILTERED_KEY_BYTES]
            for _, record in page
            if wanted.matches(record)
        ]
        return FilteredPage(b"".join(rows), len(page), page[-1][0] if page else after)

    def _entries_after(self, context: str, after: int) -> Iterator[tuple[int, Record]]:
        for at in range(bisect_right(self._seqs, after), len(self._seqs)):
            record = self._log.get(self._seqs[at])
            if record is not None and record.context == context:
                yield self._seqs[at], record

    @asynccontextmanager
    async def snapshot(self, context: str) -> AsyncIterator[SnapshotReader]:
        tree = self.tree(context)
        stamp = StateStamp(tree.root, len(tree), self.seq(context), self._instance)
        yield _MemorySnapshot(stamp, dict(self._heads.get(context, {})))

    async def stage(self, context: str, root: Digest, records: Sequence[Record]) -> tuple[RefusedVersion, ...]:
        known, staging = self._staging.get(context, (root, {}))
        if known != root:
            self._uncount(context, staging)
            staging = {}
        self._staging[context] = (root, staging)
        plan = self._index.sort(context, records)
        for key in plan.arrived:
            plan.merge(key, Leaf(is_whole=True).add(Place.LOG, staging.get(key, ())))
            by_id = {record.id: record for record in (*staging.get(key, ()), *plan.arrived[key])}
            if key in plan.merges:
                self._uncount(context, {key: staging.get(key, [])})
                staging[key] = [by_id[version] for version in plan.merges[key].heads]
                if context != IDENTITIES:
                    self._index.usage.count(staging[key], 1)
        self._index.counters.raise_to(plan.counters, plan.latest)
        return tuple(plan.refused)

    def _uncount(self, context: str, staging: Mapping[LeafKey, Sequence[Record]]) -> None:
        """Take what is staged for `context` out of the usage."""
        if context != IDENTITIES:
            self._index.usage.count(itertools.chain.from_iterable(staging.values()), -1)

    def staged(self, context: str) -> Staged | None:
        root, staging = self._staging.get(context, (Digest(b""), {}))
        return Staged(root, max(staging), sum(map(len, staging.values()))) if staging else None

    async def promote(self, context: str, *, expected: Digest | None) -> Applied | None:
        _, staging = self._staging.pop(context, (Digest(b""), {}))
        self._uncount(context, staging)
        staged = Tree((key, State(state_of(head.id for head in heads))) for key, heads in staging.items())
        if expected is not None and staged.root != expected:
            return None
        was_empty = not len(self.tree(context)) and context != IDENTITIES
        _, applied = self._apply(context, [head for key in sorted(staging) for head in staging[key]])
        shown = len(applied.records) if was_empty else 0
        return Applied((), applied.had, applied.refused, applied.voided, shown=shown)

    @property
    def forks(self) -> Mapping[Instance, Fork]:
        return self._own.forks

    def has_signed(self, version: SignedRecord) -> bool | None:
        return self._index.has_signed(version)

    async def save_fork(self, fork: Fork) -> None:
        self._own.add_fork(fork)

    async def renew_instance(self, instance: Instance) -> None:
        self._instance = instance
        self._own.renew(instance)

    async def peers(self) -> list[KnownPeer]:
        return sorted(self._peers.values(), key=lambda peer: (-peer.seen_ms, peer.id))

    async def save_peer(self, peer: KnownPeer) -> None:
        self._peers[peer.id] = peer
        while len(self._peers) > CANDIDATES_MAX:
            del self._peers[min(self._peers.values(), key=lambda each: (each.seen_ms, each.id)).id]

    async def forget_peer(self, peer: IdentityId) -> None:
        self._peers.pop(peer, None)

    async def origins(self) -> list[ContextOrigin]:
        return list(self._origins.values())

    async def save_origin(self, origin: ContextOrigin) -> None:
        self._origins[origin.context] = origin

    async def drop_damaged(self, context: str, keys: Sequence[LeafKey]) -> list[VersionId]:
        """Return none: objects in memory stay what they were when they were verified."""
        return []

    async def audit(self) -> AsyncGenerator[Audit, None]:
        checked, problems = 0, []
        statements = (head for heads in self._heads.get(IDENTITIES, {}).values() for head in heads)
        keyring = Keyring(ClaimsInMemory(map(read_statement, statements)))
        for context, leaves in self._heads.items():
            tree = Tree((key, state_of(head.id for head in heads)) for key, heads in leaves.items() if heads)
            if tree.root != self.tree(context).root:
                problems.append(f"{context}: the tree is not that of its records")
            for key, heads in leaves.items():
                spare = self._spare.get(context, {}).get(key, {})
                selection = select([*heads, *spare.values()], self._index.bounds)
                if (
                    sorted(head.id for head in selection.heads) != [head.id for head in heads]
                    or {each.id for each in selection.spare} != spare.keys()
                    or bool(spare) != self._index.is_full(context, key)
                ):
                    problems.append(f"{context}: {heads[0].name}: its heads are not those of the rule")
            for record in [head for heads in leaves.values() for head in heads]:
                checked += 1
                try:
                    verify(parse(record.raw))
                except RemoteError as error:
                    problems.append(f"{context}: {record.name}: {error.detail}")
                if context != IDENTITIES and keyring.admission(record) is not Admission.ADMITTED:
                    problems.append(f"{context}: {record.name}: its key does not speak for its author")
        yield Audit(checked, tuple(problems))

    async def close(self) -> None:
        """Do nothing: no file is open."""

    def _apply(
        self, context: str, records: Sequence[Record], *, is_brought: bool = False
    ) -> tuple[MergePlan, Applied]:
        plan = self._index.sort(context, records)
        if is_brought:
            self._index.note_strangers(plan)
        for key in self._index.merge_unread(plan):
            leaf = Leaf().add(Place.LOG, self._heads.get(context, {}).get(key, ()))
            if self._index.is_full(context, key) or not plan.merge(key, leaf):
                plan.merge(key, self._whole_leaf(context, key, leaf))
        for key, merge in plan.changes():
            self._move(context, key, merge)
        revoked = self._index.revoked_by(plan)
        self._index.commit(plan)
        return plan, plan.applied(self._void(revoked) if revoked else ())

    def _whole_leaf(self, context: str, key: LeafKey, leaf: Leaf, history_max: int = LEAF_HISTORY_MAX) -> Leaf:
        leaf.is_whole = True
        history = [
            version
            for version in list(self._history.get(context, {}).get(key, {}).values())[-history_max:]
            if context == IDENTITIES or self._index.keyring.admission(version) is Admission.ADMITTED
        ]
        spare = self._spare.get(context, {}).get(key, {}).values()
        return leaf.add(Place.SPARE, spare).add(Place.HISTORY, history)

    def _move(self, context: str, key: LeafKey, merge: LeafMerge) -> None:
        """Carry out the moves of one leaf."""
        leaves = self._heads.setdefault(context, {})
        if key not in leaves and len(merge.moves) == 1:  # a new leaf: most of them
            leaves[key] = [merge.moves[0].record]
            self._append(merge.moves[0].record)
            return
        spare = self._spare.setdefault(context, {}).setdefault(key, {})
        history = self._history.setdefault(context, {}).setdefault(key, {})
        heads = {head.id: head for head in leaves.get(key, ())}
        for move in merge.moves:
            version = move.version
            assert isinstance(version, Record), "memory keeps whole versions"
            for place, versions in ((Place.LOG, heads), (Place.SPARE, spare), (Place.HISTORY, history)):
                if move.origin is place:
                    del versions[version.id]
                if move.target is place:
                    versions[version.id] = version
            if move.origin is Place.LOG:
                self._log.pop(self._seq_of.pop(version.id))
            if move.target is Place.LOG:
                self._append(version)
        if merge.heads:
            leaves[key] = [heads[version] for version in merge.heads]
        else:
            leaves.pop(key, None)
        for kept, versions in ((self._spare, spare), (self._history, history)):
            if not versions:
                del kept[context][key]

    def _append(self, record: Record) -> None:
        self._last_seq += 1
        self._log[self._last_seq] = record
        self._seqs.append(self._last_seq)
        if len(self._seqs) > 2 * len(self._log) + BATCH_RECORDS_MAX:
            self._seqs = list(self._log)
        self._seq_of[record.id] = self._newest_seqs[record.context] = self._last_seq

    def _void(self, revoked: Collection[tuple[IdentityId, PublicKey]]) -> list[VoidedVersion]:
        """Move every version of the `revoked` keys to the history, and make older versions heads again; return those
        that were heads or spare.

        A staged snapshot that holds such a version is dropped as a whole, because its root cannot be reached any more.
        """

        def is_void(record: Version) -> bool:
            return isinstance(record, Record) and (record.author, record.kid) in revoked

        voided: list[VoidedVersion] = []
        for context in [name for name in self._heads if name != IDENTITIES]:
            for key in sorted({*self._heads[context], *self._history.get(context, {})}):
                leaf = Leaf().add(Place.LOG, self._heads[context].get(key, ()))
                leaf = self._whole_leaf(context, key, leaf, history_max=sys.maxsize)
                gone = [version for version in leaf.versions.values() if is_void(version)]
                if not gone:
                    continue
                moves = [Move(version, leaf.places[version.id], Place.HISTORY) for version in gone]
                leaf.follow([Move(version, None, None) for version in gone])
                merge = leaf.merge((), self._index.bounds)
                merge.moves += moves
                voided += voided_versions(context, [merge], revoked)
                self._move(context, key, merge)
                self._index.replace_leaves(context, {key: merge})
        for context, (_, staging) in list(self._staging.items()):
            if any(is_void(record) for heads in staging.values() for record in heads):
                self._uncount(context, staging)
                del self._staging[context]
        return voided


class _MemorySnapshot:
    def __init__(self, stamp: StateStamp, leaves: dict[LeafKey, list[Record]]) -> None:
        self._stamp = stamp
        self._leaves = leaves
        self._keys = sorted(leaves)

    @property
    def stamp(self) -> StateStamp:
        return self._stamp

    async def page(self, after: LeafKey | None, *, records_max: int, bytes_max: int) -> tuple[list[bytes], bool]:
        at = 0 if after is None else bisect_right(self._keys, after)
        leaves = (_raws(self._leaves[self._keys[each]]) for each in range(at, len(self._keys)))
        records, _, is_all = fit_leaves(leaves, records_max=min(records_max, BATCH_RECORDS_MAX), bytes_max=bytes_max)
        return records, is_all


def _raws(heads: Sequence[Record]) -> list[bytes]:
    return [head.raw for head in heads]
