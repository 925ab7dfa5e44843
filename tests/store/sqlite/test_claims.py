"""The claims and counters on disk give the answers of those in memory, and cost as much as is asked for."""

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echonode.errors import StoreError
from echonode.limits import CLAIM_ANSWERS_MAX
from echonode.model.identity import Identity, IdentityId, Instance, Pool, PoolKind, PublicKey, SigningKey
from echonode.model.key_claims import Admission, Claim, Listing, Statement
from echonode.model.keyring import ClaimsInMemory, Keyring
from echonode.model.keys import KeyState
from echonode.model.record import IDENTITIES, MAIN
from echonode.store.counters import CountersInMemory
from echonode.store.sqlite.claim_rows import CLAIMS_TABLE, SAVE_CLAIM, ClaimRows, claim_row
from echonode.store.sqlite.counter_rows import CounterRows
from echonode.store.sqlite.lookups import Lookups, RecentAnswers
from echonode.store.sqlite.migration import WRITERS_TABLE
from echonode.text import to_base32
from tests.contracts.store import verdict_of
from tests.store.files import change, look, opened, run
from tests.store.people import Owner, Person

KEYS = [PublicKey(bytes([number]) * 32) for number in (1, 2)]
PEOPLE = [IdentityId(bytes([number]) * 32) for number in (11, 12, 13)]
KINDS = [PoolKind.COMMON, PoolKind.CLOSED, 3]
POOLS = {IdentityId(bytes([20 + kind]) * 32): kind for kind in KINDS}
AUTHORS = [*PEOPLE, *POOLS]
PAIRS = list(itertools.product(AUTHORS, KEYS))

CLAIMS = st.one_of(
    st.builds(Statement, st.sampled_from(PEOPLE), st.sampled_from(KEYS), st.sampled_from(KeyState)),
    st.builds(
        lambda pool, key, state, owner: Listing(pool, POOLS[pool], key, state, owner),
        st.sampled_from(list(POOLS)),
        st.sampled_from(KEYS),
        st.sampled_from(KeyState),
        st.sampled_from(PEOPLE),
    ),
)


@contextmanager
def empty_table(path: Path) -> Iterator[tuple[sqlite3.Connection, ClaimRows]]:
    """Make a file with the tables that lookups read, and open it."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for statement in CLAIMS_TABLE:
            connection.execute(statement)
        lookups = Lookups(path)
        yield connection, ClaimRows(lookups)
        lookups.close()


def answers(table: ClaimsInMemory | ClaimRows) -> list[object]:
    keyring = Keyring(table)
    return [
        [(table.standing(*pair), keyring.admission_of(*pair), keyring.signers_of(*pair)) for pair in PAIRS],
        [[table.state_of(each, key), sorted(table.pools_of(each, key))] for each in PEOPLE for key in KEYS],
        [table.listed_state(pool, owner, key) for pool in POOLS for owner in PEOPLE for key in KEYS],
        [table.owners_of(*pair) for pair in PAIRS],
        [(table.keys_of(author), table.members_of(author), table.has_author(author)) for author in AUTHORS],
        [table.authors(to_base32(author)[:length]) for author in AUTHORS for length in (0, 1, 4, 52)],
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(CLAIMS, max_size=4), max_size=7))
def test_claims_in_any_order_say_the_same_on_disk_as_in_memory(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Claim]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "claims.db"
    memory = ClaimsInMemory()
    with empty_table(path) as (connection, rows):
        for batch in batches:
            assert Keyring(rows).voided_by(batch) == Keyring(memory).voided_by(batch)
            connection.execute("BEGIN")
            connection.executemany(SAVE_CLAIM, map(claim_row, batch))
            connection.execute("COMMIT")
            rows.add(batch)
            memory.add(batch)
            assert answers(rows) == answers(memory)
        assert answers(ClaimRows(rows._lookups)) == answers(memory), "nothing comes from what was asked before"
        found = connection.execute("SELECT key, owner, author, kind, state FROM claims").fetchall()
        assert sorted(found) == sorted(map(claim_row, memory.claims()))


WRITERS = st.tuples(st.sampled_from(KEYS), st.sampled_from([Instance(b"one life"), Instance(b"another.")]))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.dictionaries(WRITERS, st.integers(1, 2**64 - 1), max_size=3), max_size=5))
def test_counters_are_the_same_on_disk_as_in_memory(
    tmp_path_factory: pytest.TempPathFactory, batches: list[dict[tuple[PublicKey, Instance], int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "counters.db"
    memory = CountersInMemory()
    with empty_table(path) as (connection, claims):
        connection.execute(WRITERS_TABLE)
        rows = CounterRows(claims._lookups)
        for batch in batches:
            for (key, instance), counter in batch.items():
                highest = max(counter, rows.highest(key, instance))
                connection.execute(
                    "INSERT OR REPLACE INTO writers (key, instance, counter) VALUES (?, ?, ?)",
                    (key, instance, highest.to_bytes(8, "big")),
                )
            for table in (rows, memory):
                table.raise_to(batch, {})
            for table in (rows, CounterRows(claims._lookups)):
                for key in KEYS:
                    assert table.by_instance(key) == memory.by_instance(key)
                    assert table.has_signed(key) == memory.has_signed(key)
                    for instance in (Instance(b"one life"), Instance(b"another.")):
                        assert table.highest(key, instance) == memory.highest(key, instance)


def test_memory_holds_the_latest_answers_only() -> None:
    kept: RecentAnswers[int, str] = RecentAnswers(3)
    for number in range(5):
        kept.keep(number, str(number))
        kept.get(2)
    assert set(kept.questions()) == {2, 3, 4}
    assert [kept.get(number) for number in range(5)] == [None, None, "2", "3", "4"]
    kept.drop(3)
    kept.drop(3)
    assert kept.get(3) is None


def test_opening_reads_no_statement_and_asking_reads_only_what_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    strangers = [Person(number) for number in range(2, 12)]

    async def fill() -> None:
        async with opened(path) as store:
            await Owner(store).begin()
            await store.apply(IDENTITIES, [stranger.statement() for stranger in strangers])
            assert len(store._index.claims._standings.questions()) == 0  # type: ignore[attr-defined]

    async def ask() -> None:
        async with opened(path) as store:
            assert (await store.apply(MAIN, [strangers[0].version("a")])).refused == ()
            assert await Owner(store).put("b")
            asked = store._index.claims._standings.questions()  # type: ignore[attr-defined]
            owner = Owner(store)
            known = [(each.id, each.identity.device.public) for each in (strangers[0], owner)]
            assert sorted(asked) == sorted(known)
            problems = (await verdict_of(store)).problems
            assert any("log entry" in problem for problem in problems), "what is damaged is found by verify"

    run(fill())
    change(path, "UPDATE log SET bytes = zeroblob(length(bytes)) WHERE seq > 1")
    run(ask())


def test_a_compromise_holds_over_a_restart_and_voids_at_once(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    person = Person(2)
    version = person.version("a")

    async def go() -> None:
        async with opened(path) as store:
            await store.apply(IDENTITIES, [person.statement()])
            assert (await store.apply(MAIN, [version])).records == (version,)
            applied = await store.apply(IDENTITIES, [person.statement(KeyState.COMPROMISED)])
            assert [voided.version for voided in applied.voided] == [version.id]
            assert store.keyring.admission(version) is Admission.VOID
            await store.apply(IDENTITIES, [person.statement(KeyState.RETIRED)])  # late, and no way back
            assert store.keyring.admission(version) is Admission.VOID
        async with opened(path) as store:
            assert store.keyring.admission(version) is Admission.VOID
            assert (await verdict_of(store)).problems == ()

    run(go())


@pytest.mark.parametrize(
    ("damage", "is_noticed"),
    [
        ("UPDATE claims SET state = 'activd'", True),
        ("UPDATE claims SET kind = 1 WHERE owner = x''", False),
        ("UPDATE claims SET key = zeroblob(32) WHERE state = 'compromised'", False),
        ("DELETE FROM claims WHERE state = 'compromised'", False),
    ],
)
def test_damage_to_the_claims_admits_no_void_key_and_verify_finds_it(
    tmp_path: Path, damage: str, is_noticed: bool
) -> None:
    path = tmp_path / "store.db"
    person = Person(2)

    async def fill() -> None:
        async with opened(path) as store:
            await store.apply(IDENTITIES, [person.statement(), person.statement(KeyState.COMPROMISED)])

    async def ask() -> None:
        async with opened(path) as store:
            try:
                assert store.keyring.admission_of(person.id, person.device.public) is not Admission.ADMITTED
                assert not is_noticed
            except StoreError as error:
                assert is_noticed and "echonode verify --repair" in str(error)
            assert "claims: they are not those of the key statements in the log" in (await verdict_of(store)).problems

    run(fill())
    change(path, damage)
    run(ask())


def test_a_key_that_many_strangers_list_and_state_costs_no_more_than_is_asked(tmp_path: Path) -> None:
    key = KEYS[0]
    crowd = [IdentityId(number.to_bytes(32, "big")) for number in range(3000)]
    (pool, kind), *_ = POOLS.items()
    with empty_table(tmp_path / "claims.db") as (connection, rows):
        claims: list[Claim] = [Statement(each, key, KeyState.ACTIVE) for each in crowd]
        claims += [Listing(pool, kind, key, KeyState.ACTIVE, each) for each in crowd]
        connection.execute("BEGIN")
        connection.executemany(SAVE_CLAIM, map(claim_row, claims))
        connection.execute("COMMIT")
        assert rows.standing(pool, key).admission is Admission.ADMITTED
        assert rows.standing(crowd[5], key).admission is Admission.ADMITTED
        for each in crowd:
            rows.standing(each, KEYS[1])
        assert len(rows._standings.questions()) <= CLAIM_ANSWERS_MAX
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT state FROM claims WHERE key = ? AND owner = ? AND author = ?", (key, b"", pool)
        ).fetchone()
        assert "SEARCH claims USING PRIMARY KEY (key=? AND owner=? AND author=?)" in plan[-1]


def test_what_is_no_id_begins_none_and_a_table_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with empty_table(tmp_path / "claims.db") as (connection, rows):
        assert rows.authors("Not base32") == []
        connection.execute("DROP TABLE claims")
        with pytest.raises(StoreError, match="no such table"):
            rows.has_author(PEOPLE[0])


def test_a_pool_of_the_network_is_read_from_disk(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    pool = Pool(PoolKind.COMMON, SigningKey(b"shared".ljust(32)))
    one, other = Person(2), Person(3)

    async def go() -> None:
        async with opened(path) as store:
            statements = [one.statement(), one.listed(pool), other.listed(pool)]
            await store.apply(IDENTITIES, statements)
        async with opened(path) as store:
            members = {member.owner: member.is_counted for member in store.keyring.members_of(pool.id)}
            assert members == {one.id: True, other.id: False}
            assert store.keyring.signers_of(pool.id, one.device.public) == [one.id]
            assert store.keyring.signers_of(one.id, one.device.public) == [one.id]
            applied = await store.apply(MAIN, [each.version("a", author=pool.id) for each in (one, other)])
            assert len(applied.records) == len(applied.refused) == 1

    run(go())


def test_a_closed_store_answers_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def go() -> None:
        async with opened(path) as store:
            keyring = store.keyring
        with pytest.raises(StoreError, match="the store is closed"):
            keyring.has_author(Identity.from_seeds(b"1" * 32, b"2" * 32).id)

    run(go())
    assert look(path, "SELECT count(*) FROM claims") == [(0,)]
