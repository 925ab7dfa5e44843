"""MemoryStore judges SqliteStore: the same calls leave both in the same state, after reopening too."""

import asyncio
import tempfile
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import uvloop
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from echonode.errors import LocalError
from echonode.model.heads import select
from echonode.model.identity import IdentityId, Instance
from echonode.model.keys import KeyState
from echonode.model.merkle import Digest, Tree, state_of
from echonode.model.record import IDENTITIES, Record
from echonode.store.memory import MemoryStore
from echonode.store.port import Applied, Cursor, Store
from echonode.store.sqlite.store import SqliteStore
from tests.contracts.store import scanned, verdict_of
from tests.store.people import NOW_MS, Owner, Person

T = TypeVar("T")

CONTEXTS = st.sampled_from(["main", "other"])
NAMES = st.sampled_from(["a", "b", "c", "d"])
PICKS = st.lists(st.integers(0, 1000), max_size=8)
BODIES = st.sampled_from([b"", b"x", b"y" * 300])
PEOPLE = st.integers(0, 2)
PEERS = st.sampled_from([IdentityId(b"p" * 32), IdentityId(b"q" * 32)])
LIVES = st.sampled_from([Instance(b"one life"), Instance(b"another.")])


class Stores(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.judge = MemoryStore(Instance(b"instance"))
        self.disk = self.run(self.open())
        self.people = [Person(number) for number in (2, 3, 4)]
        self.owners = Owner(self.judge), Owner(self.disk)
        self.versions: dict[str, list[Record]] = {"main": [], "other": []}
        self.cursors: list[tuple[Store, str, int, set[bytes]]] = []
        self.seqs: dict[tuple[Store, str], int] = {}
        self.lives = 0

    def run(self, coroutine: Awaitable[T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(60):
                return await coroutine

        return self.runner.run(bounded())

    async def open(self) -> SqliteStore:
        path = Path(self.folder.name) / "store.db"
        return await SqliteStore.open(path, new_instance=lambda: Instance(b"instance"), now_ms=lambda: NOW_MS)

    def agree(self, applied: tuple[Applied, Applied]) -> None:
        ours, theirs = applied
        assert [record.raw for record in ours.records] == [record.raw for record in theirs.records]
        assert (ours.had, ours.refused) == (theirs.had, theirs.refused)
        by_context = [sorted(each.voided, key=lambda version: version.context) for each in applied]
        assert by_context[0] == by_context[1]  # which context comes first is not promised

    def apply(self, context: str, records: list[Record]) -> None:
        self.agree((self.run(self.judge.apply(context, records)), self.run(self.disk.apply(context, records))))

    @initialize()
    def begin(self) -> None:
        """Admit every person as an author of the first one's records."""
        for owner in self.owners:
            self.run(owner.begin())
        first = self.people[0]
        statements = [first.statement(key=person.device.public) for person in self.people]
        self.apply(IDENTITIES, statements)

    @rule(number=PEOPLE, context=CONTEXTS, name=NAMES, body=BODIES, seen=PICKS, is_tombstone=st.booleans())
    def a_person_makes_a_version(
        self, number: int, context: str, name: str, body: bytes, seen: list[int], is_tombstone: bool
    ) -> None:
        """Make a version that has seen some of the earlier ones. No store has it until it is applied."""
        older = [version for version in self.versions[context] if version.name == name]
        over = [older[pick % len(older)] for pick in seen] if older else []
        body = b"" if is_tombstone else body
        author = self.people[0].id
        person = self.people[number]
        version = person.version(name, body, over, context=context, author=author, is_tombstone=is_tombstone)
        self.versions[context].append(version)

    @rule(context=CONTEXTS, into=CONTEXTS, picks=PICKS)
    def some_versions_arrive(self, context: str, into: str, picks: list[int]) -> None:
        """Apply versions in any order, more than once, now and then to the wrong context."""
        known = self.versions[context]
        self.apply(into, [known[pick % len(known)] for pick in picks] if known else [])

    @rule(context=CONTEXTS)
    def all_versions_arrive(self, context: str) -> None:
        self.apply(context, list(reversed(self.versions[context])))

    @rule(context=CONTEXTS, picks=PICKS, peer=PEERS, life=LIVES, seq=st.integers(0, 5))
    def some_versions_arrive_with_a_cursor(
        self, context: str, picks: list[int], peer: IdentityId, life: Instance, seq: int
    ) -> None:
        known = self.versions[context]
        records = [known[pick % len(known)] for pick in picks] if known else []
        cursor = Cursor(peer, life, context, seq)
        self.agree(tuple(self.run(store.apply(context, records, cursor)) for store in (self.judge, self.disk)))

    @rule(calls=st.lists(st.tuples(CONTEXTS, PICKS, st.none() | st.tuples(PEERS, LIVES, st.integers(0, 5)))))
    def several_calls_arrive_at_once(
        self, calls: list[tuple[str, list[int], tuple[IdentityId, Instance, int] | None]]
    ) -> None:
        """Apply batches that share one transaction on disk; each may bring a cursor."""

        async def at_once(store: Store) -> list[Applied]:
            return await asyncio.gather(
                *(
                    store.apply(
                        context,
                        [known[pick % len(known)] for pick in picks] if (known := self.versions[context]) else [],
                        Cursor(place[0], place[1], context, place[2]) if place else None,
                    )
                    for context, picks, place in calls
                )
            )

        for outcomes in zip(self.run(at_once(self.judge)), self.run(at_once(self.disk)), strict=True):
            self.agree(outcomes)

    @rule(context=CONTEXTS, peer=PEERS, life=LIVES, seq=st.integers(0, 5))
    def a_cursor_is_noted(self, context: str, peer: IdentityId, life: Instance, seq: int) -> None:
        for store in (self.judge, self.disk):
            store.note(Cursor(peer, life, context, seq))

    @rule(peer=PEERS, seqs=st.dictionaries(CONTEXTS, st.integers(0, 5)))
    def a_peers_log_is_set_back(self, peer: IdentityId, seqs: dict[str, int]) -> None:
        for store in (self.judge, self.disk):
            store.set_back(peer, seqs)

    @rule(context=CONTEXTS, picks=PICKS, newest=st.integers(0, 2), keeps_bodies=st.booleans())
    def some_leaves_are_forgotten(self, context: str, picks: list[int], newest: int, keeps_bodies: bool) -> None:
        """Forget some leaves, those of the newest log entries among them: their seqs must not come back."""
        known = self.versions[context]
        keys = [known[pick % len(known)].key for pick in picks] if known else []
        heads = self.run(scanned(self.judge, context))
        keys += [head.key for head in heads[len(heads) - newest :]]
        gone = [
            self.run(store.forget(context, keys, lambda head: keeps_bodies and bool(head.body)))
            for store in (self.judge, self.disk)
        ]
        assert gone[0] == gone[1]
        if gone[0]:
            self.audit_and_reopen()

    @rule(
        number=st.integers(1, 2),
        state=st.sampled_from([KeyState.RETIRED, KeyState.COMPROMISED]),
        context=CONTEXTS,
        name=NAMES,
        is_over=st.booleans(),
    )
    def a_key_is_given_up(self, number: int, state: KeyState, context: str, name: str, is_over: bool) -> None:
        """Give a key up just after it signed the newest head, over the other heads of that record or beside them."""
        author = self.people[0].id
        over = self.run(self.judge.heads(context, author, name)) if is_over else []
        version = self.people[number].version(name, b"late", over, context=context, author=author)
        self.versions[context].append(version)
        self.apply(context, [version])
        self.apply(IDENTITIES, [self.people[0].statement(state, self.people[number].device.public)])
        self.audit_and_reopen()

    @rule(
        context=CONTEXTS,
        names=st.lists(NAMES, min_size=1, max_size=5),
        body=BODIES,
        skip=st.booleans(),
        bad=st.booleans(),
    )
    def the_owner_writes(self, context: str, names: list[str], body: bytes, skip: bool, bad: bool) -> None:
        outcomes = []
        for owner in self.owners:
            drafts = [owner.draft(name, body, context) for name in [*names, ""][: len(names) + bad]]
            with suppress(LocalError):
                outcomes.append(self.run(owner.write(*drafts, skip_unchanged=skip)))
        assert len(outcomes) == (0 if bad else 2)
        if outcomes:
            ours, theirs = ([version.raw if version else None for version in versions] for versions, _ in outcomes)
            assert ours == theirs
            self.agree((outcomes[0][1], outcomes[1][1]))

    @rule(context=CONTEXTS, names=st.lists(NAMES, min_size=2, max_size=12), body=BODIES)
    def the_owner_writes_many_at_once(self, context: str, names: list[str], body: bytes) -> None:
        async def at_once(owner: Owner) -> list[bytes]:
            return [
                version.raw for version in await asyncio.gather(*(owner.put(name, body, context) for name in names))
            ]

        assert self.run(at_once(self.owners[0])) == self.run(at_once(self.owners[1]))

    @rule(context=CONTEXTS, name=NAMES)
    def the_owner_deletes(self, context: str, name: str) -> None:
        for owner in self.owners:
            self.run(owner.write(owner.draft(name, context=context, is_tombstone=True)))

    @rule(context=CONTEXTS, picks=PICKS, again=PICKS, is_right=st.booleans(), promote=st.booleans())
    def a_snapshot_comes(self, context: str, picks: list[int], again: list[int], is_right: bool, promote: bool) -> None:
        known = self.versions[context] or [self.people[0].version("a", context=context, author=self.people[0].id)]
        staged = {known[pick % len(known)].id: known[pick % len(known)] for pick in picks}
        records = sorted(staged.values(), key=lambda record: (record.key, record.id))
        admitted = [record for record in records if self.judge._index.refusal(context, record) is None]
        root = self.root_of(admitted) if is_right else Digest(bytes([len(picks)]) * 32)
        more = [records[pick % len(records)] for pick in again] if records else []
        for store in (self.judge, self.disk):
            self.run(store.stage(context, root, records[: len(records) // 2]))
            self.run(store.stage(context, root, records[len(records) // 2 :]))
            self.run(store.stage(context, root, more))
        if promote:
            ours = self.run(self.judge.promote(context, expected=root))
            theirs = self.run(self.disk.promote(context, expected=root))
            assert (ours is None) == (theirs is None)
            if ours and theirs:
                self.agree((ours, theirs))
            self.audit_and_reopen()

    def fresh_root(self, context: str) -> Digest:
        """Return the root of a new tree of the judge's heads."""
        leaves: dict[bytes, list[Record]] = {}
        for record in self.run(scanned(self.judge, context)):
            leaves.setdefault(record.key, []).append(record)
        return Tree((key, state_of(head.id for head in heads)) for key, heads in leaves.items()).root

    @staticmethod
    def root_of(records: list[Record]) -> Digest:
        leaves: dict[bytes, list[Record]] = {}
        for record in records:
            leaves.setdefault(record.key, []).append(record)
        heads = [select(versions).heads for versions in leaves.values()]
        return Tree((leaf[0].key, state_of(head.id for head in leaf)) for leaf in heads).root

    @rule(context=CONTEXTS)
    def a_staged_snapshot_is_promoted(self, context: str) -> None:
        staged = self.judge.staged(context)
        if staged:
            ours = self.run(self.judge.promote(context, expected=staged.root))
            theirs = self.run(self.disk.promote(context, expected=staged.root))
            assert (ours is None) == (theirs is None)
            self.audit_and_reopen()

    @rule(context=CONTEXTS)
    def a_follower_notes_its_cursor(self, context: str) -> None:
        """Note a cursor: a head that comes later must not be missed behind it."""
        for store in (self.judge, self.disk):
            heads: set[bytes] = {record.id for record in self.run(scanned(store, context))}
            self.cursors.append((store, context, store.seq(context), heads))

    def audit_and_reopen(self) -> None:
        """Check that both stores are sound, and that reopening changes nothing."""
        for store in (self.judge, self.disk):
            assert self.run(verdict_of(store)).problems == ()
        self.reopen()
        assert self.run(verdict_of(self.disk)).problems == ()

    @rule()
    def reopen(self) -> None:
        newest = {context: self.disk.seq(context) for context in (IDENTITIES, "main", "other")}
        self.run(self.disk.close())
        cursors = [cursor for cursor in self.cursors if cursor[0] is self.disk]
        seqs = {context: seq for (store, context), seq in self.seqs.items() if store is self.disk}
        disk = self.run(self.open())
        self.cursors = [cursor for cursor in self.cursors if cursor not in cursors]
        self.cursors += [(disk, *cursor[1:]) for cursor in cursors]
        self.seqs.update({(disk, context): seq for context, seq in seqs.items()})
        self.disk = self.owners[1].store = disk
        assert {context: disk.seq(context) for context in newest} == newest

    @rule()
    def the_store_begins_a_new_life(self) -> None:
        self.lives += 1
        for store in (self.judge, self.disk):
            self.run(store.renew_instance(Instance(self.lives.to_bytes(8, "big"))))

    @invariant()
    def both_show_the_same(self) -> None:
        judge, disk = self.judge, self.disk
        assert disk.contexts() == judge.contexts()
        assert disk.keyring.authors("") == judge.keyring.authors("")
        assert disk.instance == judge.instance
        for person in self.people:
            assert disk.seen(person.device.public) == judge.seen(person.device.public)
            admissions = [
                store.keyring.admission_of(self.people[0].id, person.device.public) for store in (judge, disk)
            ]
            assert admissions[0] is admissions[1]
        for context in (IDENTITIES, "main", "other"):
            assert disk.tree(context).root == judge.tree(context).root == self.fresh_root(context)
            assert set(disk.conflicts(context)) == set(judge.conflicts(context))
            assert disk.staged(context) == judge.staged(context)
            ours, theirs = self.run(judge.info(context)), self.run(disk.info(context))
            assert (theirs.records, theirs.bytes) == (ours.records, ours.bytes)
            for peer in (IdentityId(b"p" * 32), IdentityId(b"q" * 32)):
                assert disk.cursor(peer, context) == judge.cursor(peer, context)
            heads = [{record.raw for record in self.run(scanned(store, context))} for store in (judge, disk)]
            assert heads[0] == heads[1]
            for store in (judge, disk):
                assert store.seq(context) >= self.seqs.get((store, context), 0)
                self.seqs[store, context] = store.seq(context)

    @invariant()
    def no_follower_misses_a_head(self) -> None:
        for store, context, seq, before in self.cursors:
            now = {record.id for record in self.run(scanned(store, context))}
            news = {record.id for record in self.run(scanned(store, context, seq))}
            assert now - before <= news

    @invariant()
    def followers_are_told_what_the_log_holds(self) -> None:
        for context in (IDENTITIES, "main", "other"):
            newest = self.disk.seq(context)
            for after in range(max(0, newest - 4), newest + 1):
                told, upto = self.run(self.disk.changes(context, after, records_max=1000, bytes_max=1 << 20))
                held, _ = self.run(self.disk.scan(context, after, limit=1000))
                assert ([entry.version for entry in told], upto) == ([record.id for record in held], newest)

    def teardown(self) -> None:
        try:
            assert self.run(verdict_of(self.disk)).problems == ()
        finally:  # an open store keeps the process from ending, after a failed check too
            self.run(self.disk.close())
            self.runner.close()
            self.folder.cleanup()


TestStores = Stores.TestCase
TestStores.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
