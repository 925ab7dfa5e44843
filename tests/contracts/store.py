"""The contract of Store (store/port.py), written once and run on each implementation.

A check takes a fresh store. `CHECKS` lists all checks when the modules store_writing, store_cursors, store_snapshots,
store_voids, store_forgetting and store_leaves are imported too; `holds` runs one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from echonode.clock import TIMESTAMP_MAX
from echonode.errors import Reason
from echonode.limits import CANDIDATES_MAX, FILTERED_PAGE_MAX
from echonode.model.filter import Filter
from echonode.model.heads import winner
from echonode.model.identity import IdentityId
from echonode.model.keys import Admission, KeyState
from echonode.model.merkle import Digest, Tree, state_of
from echonode.model.record import IDENTITIES, MAIN, Record, VersionId, leaf_key
from echonode.store.port import (
    FILTERED_KEY_BYTES,
    FILTERED_ROW_BYTES,
    Audit,
    ContextOrigin,
    FilteredPage,
    KnownPeer,
    Store,
)
from tests.store.people import Person, known

Check = Callable[[Store], Awaitable[None]]

CHECKS: list[Check] = []


def check(function: Check) -> Check:
    CHECKS.append(function)
    return function


async def holds(check: Check, opened: AbstractAsyncContextManager[Store], timeout_s: float = 60) -> None:
    """Run `check` on a fresh store. Assert that the store is sound after it. A check that takes `timeout_s` hangs."""
    async with asyncio.timeout(timeout_s), opened as store:
        await check(store)
        verdict = await verdict_of(store)
        assert verdict.problems == ()


async def verdict_of(store: Store) -> Audit:
    return [audit async for audit in store.audit()][-1]


async def ids(store: Store, context: str = MAIN) -> list[VersionId]:
    """Return the ids of all heads in log order."""
    return [record.id for record in await scanned(store, context)]


async def scanned(store: Store, context: str = MAIN, after: int = 0) -> list[Record]:
    found: list[Record] = []
    while True:
        records, after = await store.scan(context, after, limit=3)
        if not records:
            return found
        found += records


def root_of(*leaves: list[Record]) -> Digest:
    """Return the root of a context with these leaves."""
    return Tree((heads[0].key, state_of(head.id for head in heads)) for heads in leaves).root


async def admit(store: Store, *people: Person) -> None:
    """Store the statements about the keys of `people`, which admit their versions."""
    await store.apply(IDENTITIES, [person.statement() for person in people])


@check
async def a_new_store_holds_nothing(store: Store) -> None:
    assert store.contexts() == ()
    assert store.tree(MAIN).root == Tree().root
    assert (len(store.tree(MAIN)), store.seq(MAIN), store.keyring.authors(""), store.conflicts(MAIN)) == (
        0,
        0,
        [],
        set(),
    )
    assert await store.scan(MAIN, 0, limit=10) == ([], 0)
    assert await store.heads(MAIN, Person(1).id, "none") == []
    assert await store.read(MAIN, [leaf_key(Person(1).id, "none")], bytes_max=100) == ([], 1)
    info = await store.info(MAIN)
    assert (info.name, info.root, info.records, info.bytes, info.seq) == (MAIN, Tree().root, 0, 0, 0)
    assert store.staged(MAIN) is None
    assert (await store.write([], Person(1).device, lambda: pytest.fail("no draft, no tick")))[0] == []


@check
async def what_may_not_stand_is_refused_one_by_one_and_the_rest_is_taken(store: Store) -> None:
    known, stranger, thief = Person(2), Person(3), Person(4)
    await admit(store, known, thief)
    await store.apply(IDENTITIES, [thief.statement(KeyState.COMPROMISED)])
    good, foreign = known.version("good"), known.version("elsewhere", context="other")
    unknown, void = stranger.version("unknown"), thief.version("void")
    applied = await store.apply(MAIN, [unknown, foreign, good, void])
    assert [record.id for record in applied.records] == [good.id]
    assert [(refused.version, refused.reason) for refused in applied.refused] == [
        (unknown.id, Reason.UNKNOWN_KEY),
        (foreign.id, Reason.FOREIGN_CONTEXT),
        (void.id, Reason.KEY_REVOKED),
    ]
    assert await ids(store) == [good.id]
    assert store.contexts() == (IDENTITIES, MAIN)


@check
async def a_key_speaks_only_for_the_identity_whose_root_named_it(store: Store) -> None:
    one, other = Person(2), Person(3)
    await admit(store, one)
    borrowed = other.version("mine", author=one.id)
    applied = await store.apply(MAIN, [borrowed])
    assert [refused.reason for refused in applied.refused] == [Reason.UNKNOWN_KEY]
    await store.apply(IDENTITIES, [one.statement(key=other.device.public)])
    assert (await store.apply(MAIN, [borrowed])).records == (borrowed,)


@check
async def identities_takes_statements_of_roots_and_nothing_else(store: Store) -> None:
    person = Person(2)
    by_device = person.version("not a statement", context=IDENTITIES)
    nothing_said = person.version("not a statement", context=IDENTITIES, key=person.identity.root)
    statement = person.statement()
    applied = await store.apply(IDENTITIES, [by_device, nothing_said, statement])
    assert applied.records == (statement,)
    assert [refused.reason for refused in applied.refused] == [Reason.BAD_RECORD] * 2
    assert store.keyring.state_of(person.id, person.device.public) is KeyState.ACTIVE
    assert await ids(store, IDENTITIES) == [statement.id]


@check
async def a_retired_keys_versions_stand(store: Store) -> None:
    person = Person(2)
    await admit(store, person)
    version = person.version("old")
    await store.apply(MAIN, [version])
    applied = await store.apply(IDENTITIES, [person.statement(KeyState.RETIRED)])
    assert applied.voided == ()
    assert await ids(store) == [version.id]
    assert store.keyring.admission(version) is Admission.ADMITTED


@check
async def applying_again_changes_nothing(store: Store) -> None:
    person = Person(2)
    await admit(store, person)
    versions = [person.version("a"), person.version("b")]
    await store.apply(MAIN, versions)
    seq = store.seq(MAIN)
    applied = await store.apply(MAIN, [*versions, versions[0]])
    assert (applied.records, applied.had, applied.refused) == ((), 3, ())
    assert store.seq(MAIN) == seq


@check
async def a_newer_version_replaces_and_an_older_one_comes_too_late(store: Store) -> None:
    person = Person(2)
    await admit(store, person)
    first = person.version("a", b"first")
    second = person.version("a", b"second", [first])
    third = person.version("a", b"third", [second])
    await store.apply(MAIN, [first])
    assert (await store.apply(MAIN, [third])).records == (third,)
    assert (await store.apply(MAIN, [second, first])).had == 2
    assert await ids(store) == [third.id]
    assert store.tree(MAIN).root == root_of([third])
    assert (await store.info(MAIN)).bytes == len(third.raw)


@check
async def versions_of_one_batch_replace_each_other(store: Store) -> None:
    person = Person(2)
    await admit(store, person)
    first = person.version("a", b"first")
    second = person.version("a", b"second", [first])
    assert (await store.apply(MAIN, [first, second])).records == (second,)
    assert await ids(store) == [second.id]


@check
async def concurrent_versions_are_all_kept_until_one_that_saw_them_all(store: Store) -> None:
    one, two, three = Person(2), Person(3), Person(4)
    await admit(store, one, two, three)
    await store.apply(IDENTITIES, [one.statement(key=p.device.public) for p in (two, three)])
    both = one.version("a", b"left"), two.version("a", b"right", author=one.id)
    right, left = sorted(both, key=lambda version: version.id)  # they do not arrive in the order of their ids
    await store.apply(MAIN, [left])
    assert store.conflicts(MAIN) == set()
    await store.apply(MAIN, [right])
    assert store.conflicts(MAIN) == {left.key}
    heads = await store.heads(MAIN, one.id, "a")
    assert [head.id for head in heads] == sorted([left.id, right.id])
    assert winner(heads).id == max((left.timestamp, left.id), (right.timestamp, right.id))[1]
    assert store.tree(MAIN).root == root_of([left, right])
    third = three.version("a", b"also", author=one.id)
    await store.apply(MAIN, [third])
    half = one.version("a", b"half", [left, right])
    await store.apply(MAIN, [half])
    assert [head.id for head in await store.heads(MAIN, one.id, "a")] == sorted([half.id, third.id])
    full = two.version("a", b"full", [half, third], author=one.id)
    await store.apply(MAIN, [full])
    assert await ids(store) == [full.id]
    assert store.conflicts(MAIN) == set()


@check
async def the_root_does_not_depend_on_the_order_of_arrival(store: Store) -> None:
    one, two = Person(2), Person(3)
    await admit(store, one, two)
    await store.apply(IDENTITIES, [one.statement(key=two.device.public)])
    base = one.version("a", context="forwards")
    for context, backwards in (("forwards", False), ("backwards", True)):
        one, two = Person(2), Person(3)
        base = one.version("a", context=context)
        edits = [one.version("a", b"1", [base], context=context)]
        edits.append(two.version("a", b"2", [base], context=context, author=one.id))
        others = [one.version(f"n{number}", context=context) for number in range(40)]
        versions = [base, *edits, *others]
        for version in reversed(versions) if backwards else versions:
            await store.apply(context, [version])
        assert store.tree(context).root == root_of(edits, *([other] for other in others))


@check
async def a_statement_and_the_versions_it_lets_in_may_come_at_once(store: Store) -> None:
    person = Person(2)
    version = person.version("a")
    _, applied = await asyncio.gather(store.apply(IDENTITIES, [person.statement()]), store.apply(MAIN, [version]))
    assert applied.records == (version,)


@check
async def the_log_gives_heads_in_the_order_they_came(store: Store) -> None:
    person = Person(2)
    await admit(store, person)
    versions = [person.version(f"n{number}") for number in range(10)]
    for version in versions:
        await store.apply(MAIN, [version])
        await store.apply("other", [person.version(version.name, context="other")])
    assert await ids(store) == [version.id for version in versions]
    first, seq = await store.scan(MAIN, 0, limit=4)
    assert [record.id for record in first] == [version.id for version in versions[:4]]
    edit = person.version("n2", b"edit", [versions[2]])
    await store.apply(MAIN, [edit])
    rest, last = await store.scan(MAIN, seq, limit=100)
    assert [record.id for record in rest] == [*(version.id for version in versions[4:]), edit.id]
    assert last == store.seq(MAIN)
    assert await store.scan(MAIN, last, limit=5) == ([], last)


@check
async def a_filtered_read_gives_the_rows_of_what_the_filter_takes(store: Store) -> None:
    person = Person(2)
    await admit(store, person)
    versions = [person.version(f"n{number}") for number in range(FILTERED_PAGE_MAX + 10)]
    await store.apply(MAIN, versions)
    await store.apply("other", [person.version("n1", context="other")])
    await store.apply(MAIN, [edit := person.version("n2", b"edit", [versions[2]])])
    heads = [*versions[:2], *versions[3:], edit]

    async def rows(wanted: Filter, until: int) -> tuple[list[bytes], list[int]]:
        found, seen, after = list[bytes](), list[int](), 0
        while (page := await store.filtered(MAIN, wanted, after, until=until)).seen:
            seen.append(page.seen)
            after = page.seq
            found += [page.rows[at : at + FILTERED_ROW_BYTES] for at in range(0, len(page.rows), FILTERED_ROW_BYTES)]
        assert (page.rows, page.seq) == (b"", after)
        return found, seen

    for wanted in (Filter(), Filter(name="n2*"), Filter(since_ms=heads[0].created_ms + 1), Filter(name="no")):
        found, seen = await rows(wanted, store.seq(MAIN))
        taken = [head for head in heads if wanted.matches(head)]
        assert sorted(found) == sorted(
            (head.created_ms // 1000).to_bytes(8, "big") + head.id + head.key[:FILTERED_KEY_BYTES] for head in taken
        )
        assert seen == [FILTERED_PAGE_MAX, 10]
    assert len((await rows(Filter(), store.seq(MAIN) - 1))[0]) == len(heads) - 1
    assert await store.filtered("nothing", Filter(), 3, until=9) == FilteredPage(b"", 0, 3)


@check
async def reading_takes_whole_leaves_as_they_fit_and_at_least_one(store: Store) -> None:
    one, two = Person(2), Person(3)
    await admit(store, one, two)
    await store.apply(IDENTITIES, [one.statement(key=two.device.public)])
    a, b, other = one.version("a", b"x" * 500), one.version("b"), two.version("a", b"y" * 500, author=one.id)
    await store.apply(MAIN, [a, b, other])
    keys = [a.key, leaf_key(one.id, "missing"), b.key]
    both = sorted([a, other], key=lambda head: head.id)
    raws, taken = await store.read(MAIN, keys, bytes_max=10_000)
    assert (raws, taken) == ([both[0].raw, both[1].raw, b.raw], 3)
    raws, taken = await store.read(MAIN, keys, bytes_max=1)
    assert (raws, taken) == ([both[0].raw, both[1].raw], 1)
    raws, taken = await store.read(MAIN, list(reversed(keys)), bytes_max=len(b.raw))
    assert (raws, taken) == ([b.raw], 2)
    assert await store.read(MAIN, [], bytes_max=1) == ([], 0)


@check
async def many_leaves_are_read_in_the_order_asked_for(store: Store) -> None:
    person = Person(2)
    await admit(store, person)
    versions = [person.version(f"n{number}") for number in range(700)]
    await store.apply(MAIN, versions)
    raws, taken = await store.read(MAIN, [version.key for version in versions], bytes_max=10_000_000)
    assert (raws, taken) == ([version.raw for version in versions], 700)
    edits = [person.version(version.name, b"edit", [version]) for version in versions]
    assert len((await store.apply(MAIN, edits)).records) == 700
    assert await ids(store) == [edit.id for edit in edits]


@check
async def a_counter_as_large_as_a_counter_can_be_is_kept(store: Store) -> None:
    person = Person(2)
    await admit(store, person)
    person.counter = TIMESTAMP_MAX - 1
    version = person.version("a")
    assert (await store.apply(MAIN, [version])).records == (version,)
    assert store.seen(person.device.public) == {person.instance: TIMESTAMP_MAX}


@check
async def peers_are_kept_by_their_ids_until_they_are_forgotten(store: Store) -> None:
    one, two = Person(1).id, Person(2).id
    assert await store.peers() == []
    await store.save_peer(known("vm", one, 5))
    await store.save_peer(known("vm", two, 6))
    assert await store.peers() == [known("vm", two, 6), known("vm", one, 5)], "equal names are two peers"
    await store.save_peer(KnownPeer(one, "renamed", (), 7))
    assert await store.peers() == [KnownPeer(one, "renamed", (), 7), known("vm", two, 6)]
    await store.forget_peer(two)
    await store.forget_peer(two)
    assert await store.peers() == [KnownPeer(one, "renamed", (), 7)]


@check
async def of_too_many_peers_the_longest_unseen_go(store: Store) -> None:
    ids = [IdentityId(number.to_bytes(32, "big")) for number in range(CANDIDATES_MAX + 2)]
    for seen_ms, identity in enumerate(ids):
        await store.save_peer(KnownPeer(identity, "", (), seen_ms))
    assert {peer.id for peer in await store.peers()} == set(ids[2:])


@check
async def origins_are_kept_in_the_order_in_which_contexts_came(store: Store) -> None:
    one, two = Person(1).id, Person(2).id
    assert await store.origins() == []
    for origin in (ContextOrigin("b", one), ContextOrigin("a", two), ContextOrigin("b", two, is_forgotten=True)):
        await store.save_origin(origin)
    assert await store.origins() == [ContextOrigin("b", two, is_forgotten=True), ContextOrigin("a", two)]


@check
async def closing_twice_does_no_harm(store: Store) -> None:
    await store.save_peer(known("anna", Person(1).id))
