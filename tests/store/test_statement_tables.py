"""Decision tables of statements: kind x state x signer x owner x order of arrival, on both stores beside a judge.

One key signs a version of its owner and one of a pool. Statements about the key come in any order, a thief's and forged
ones among them. After each of them both versions are offered once more: a store holds what the statements so far admit,
as a second implementation of the rule says (sim/invariants/stated_keys.py), and names the reason for the rest.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest

from echonode.errors import Reason
from echonode.model.identity import Pool, PoolKind, SigningKey
from echonode.model.key_claims import member_proof
from echonode.model.keys import KeyState, listing_draft, read_statement, statement_draft
from echonode.model.record import IDENTITIES, MAIN, Record
from echonode.sim.invariants.stated_keys import StatedKeys
from echonode.store.memory import MemoryStore
from echonode.store.port import Store
from tests.contracts.store import verdict_of
from tests.store.files import INSTANCE, open_store, run
from tests.store.people import Person

TABLES = 60  # for each kind of pool


def statements(pool: Pool, owner: Person, thief: Person) -> list[tuple[Record, bool]]:
    """Return one of every statement that can be made about the owner's key, and False with those that are forged."""
    key, states = owner.device.public, list(KeyState)
    good = [who.statement(state, key) for who in (owner, thief) for state in states]
    of_pool = states if pool.kind is PoolKind.CLOSED else [KeyState.ACTIVE]
    good += [owner.listed(pool, state, owner=who.id) for who in (owner, thief) for state in of_pool]
    thief_root, proof = thief.identity.root, member_proof(pool.id, owner.id, owner.device)
    forged = [
        owner._sign(statement_draft(owner.id, key, KeyState.COMPROMISED), thief_root, ()),
        owner._sign(listing_draft(pool, owner.id, key, proof, KeyState.ACTIVE), thief_root, ()),
        owner._sign(listing_draft(pool, owner.id, key, bytes(64), KeyState.ACTIVE), pool.root, ()),
        owner._sign(listing_draft(pool, thief.id, key, proof, KeyState.ACTIVE), pool.root, ()),
        owner._sign(
            listing_draft(pool, owner.id, key, member_proof(pool.id, owner.id, thief.device), KeyState.COMPROMISED),
            pool.root,
            (),
        ),
    ]
    return [*((record, True) for record in good), *((record, False) for record in forged)]


def expected(judge: StatedKeys, version: Record) -> Reason | None:
    """Return why a store may not hold `version`, None where it must."""
    if judge.is_void(version.author, version.kid):
        return Reason.KEY_REVOKED
    return None if judge.is_admitted(version.author, version.kid) else Reason.UNKNOWN_KEY


async def check_table(stores: Sequence[Store], kind: PoolKind, number: int) -> set[Reason | None]:
    """Let drawn statements come to each of the stores. Return what became of the pool's version after each."""
    draw = Random(f"{kind}/{number}")
    owner, thief = Person(2 * number + 2), Person(2 * number + 3)
    pool = Pool(kind, SigningKey(draw.randbytes(32)))
    coming = draw.sample(statements(pool, owner, thief), draw.randint(3, 7))
    name = f"table {number}"
    versions = [owner.version(name), owner.version(name, author=pool.id)]
    judge, became = StatedKeys(), set[Reason | None]()
    for statement, is_good in coming:
        if is_good:
            judge.note(read_statement(statement))
        for store in stores:
            applied = await store.apply(IDENTITIES, [statement])
            refused = [] if is_good else [(statement.id, Reason.BAD_RECORD)]
            assert [(one.version, one.reason) for one in applied.refused] == refused, number
            again = {one.version: one.reason for one in (await store.apply(MAIN, versions)).refused}
            for version in versions:
                why = expected(judge, version)
                held = [head.id for head in await store.heads(MAIN, version.author, name)]
                assert (again.get(version.id), held) == (why, [] if why else [version.id]), number
        became.add(expected(judge, versions[1]))
        assert len({store.tree(MAIN).root for store in stores}) == 1, number
    return became


@pytest.mark.parametrize("kind", list(PoolKind), ids=lambda kind: kind.name.lower())
def test_statements_in_any_order_admit_and_void_the_same_versions_in_both_stores(
    tmp_path: Path, kind: PoolKind
) -> None:
    async def work() -> None:
        async with AsyncExitStack() as stack:
            disk = await open_store(tmp_path / "echonode.db")
            stack.push_async_callback(disk.close)
            stores: list[Store] = [MemoryStore(INSTANCE), disk]
            became: set[Reason | None] = set()
            for number in range(TABLES):
                became |= await check_table(stores, kind, number)
            assert became == {None, Reason.UNKNOWN_KEY, Reason.KEY_REVOKED}, "each end is met"
            for store in stores:
                assert (await verdict_of(store)).problems == ()

    run(work())
