"""What every Store does, written once and run on each implementation (store/port.py).

A check takes a fresh store. `CHECKS` holds them all; `holds` runs one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from echonode.errors import LocalError, Reason
from echonode.limits import NAME_BYTES_MAX
from echonode.model.identity import Instance, writer_of
from echonode.model.keys import Admission, KeyState
from echonode.model.merkle import Digest, Tree, state_of
from echonode.model.record import IDENTITIES, MAIN, Record, VersionId, from_store, leaf_key, winner
from echonode.store.port import Audit, Store
from echonode.store.writing import DraftError
from tests.store.people import Owner, Person

Check = Callable[[Store], Awaitable[None]]

CHECKS: list[Check] = []


def check(function: Check) -> Check:
    CHECKS.append(function)
    return function


async def holds(check: Check, opened: AbstractAsyncContextManager[Store], timeout_s: float = 60) -> None:
    """Run `check` on a fresh store, which is sound and clean afterwards. Nothing but a hang takes `timeout_s`."""
    async with asyncio.timeout(timeout_s), opened as store:
        await check(store)
        verdict = await verdict_of(store)
        assert verdict.problems == ()


async def verdict_of(store: Store) -> Audit:
    return [audit async for audit in store.audit()][-1]


async def ids(store: Store, context: str = MAIN) -> list[VersionId]:
    """All heads in log order."""
    return [record.id for record in await scanned(store, context)]


async def scanned(store: Store, context: str = MAIN, after: int = 0) -> list[Record]:
    found: list[Record] = []
    while True:
        records, after = await store.scan(context, after, limit=3)
        if not records:
            return found
        found += records


def root_of(*leaves: list[Record]) -> Digest:
    """The root of a context with these leaves."""
    return Tree((heads[0].key, state_of(head.id for head in heads)) for heads in leaves).root


async def admit(store: Store, *people: Person) -> None:
    """Let the versions of `people` in."""
    await store.apply(IDENTITIES, [person.statement() for person in people])


@check
async def a_new_store_holds_nothing(store: Store) -> None:
    assert store.contexts() == ()
    assert store.tree(MAIN).root == Tree().root
    assert (len(store.tree(MAIN)), store.seq(MAIN), store.authors(), store.conflicts(MAIN)) == (0, 0, set(), set())
    assert await store.scan(MAIN, 0, limit=10) == ([], 0)
    assert await store.heads(MAIN, Person(1).id, "none") == []
    assert await store.read(MAIN, [leaf_key(Person(1).id, "none")], bytes_max=100) == ([], 1)
    info = await store.info(MAIN)
    assert (info.name, info.root, info.records, info.bytes, info.seq) == (MAIN, Tree().root, 0, 0, 0)
    assert store.staged(MAIN) is None
    assert (await store.write([], Person(1).device, lambda: pytest.fail("no draft, no tick")))[0] == []


@check
async def what_is_written_is_read_back_as_it_was_signed(store: Store) -> None:
    owner = Owner(store)
    await owner.begin()
    versions, applied = await owner.write(owner.draft("a", b"one"), owner.draft("b", b"two"))
    assert [record.body for record in applied.records] == [b"one", b"two"]
    (head,) = await store.heads(MAIN, owner.id, "b")
    assert versions[1] is not None
    assert head.raw == versions[1].raw
    assert store.contexts() == (IDENTITIES, MAIN)
    assert store.authors() == {owner.id}
    info = await store.info(MAIN)
    assert (info.records, info.bytes) == (2, sum(len(record.raw) for record in applied.records))
    assert info.root == root_of([applied.records[0]], [applied.records[1]]) == store.tree(MAIN).root
    assert (info.seq, store.seq(MAIN)) == (store.seq(MAIN), (await store.scan(MAIN, 0, limit=9))[1])


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
    assert applied.voided == 0
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
    left, right = one.version("a", b"left"), two.version("a", b"right", author=one.id)
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
    assert {head.id for head in await store.heads(MAIN, one.id, "a")} == {half.id, third.id}
    full = two.version("a", b"full", [half, third], author=one.id)
    await store.apply(MAIN, [full])
    assert await ids(store) == [full.id]
    assert store.conflicts(MAIN) == set()


@check
async def a_write_covers_all_heads_its_store_knows(store: Store) -> None:
    owner, other = Owner(store), Person(2)
    await owner.begin()
    root = Person(1)  # the owner's own keys, speaking from elsewhere
    await store.apply(IDENTITIES, [root.statement(key=other.device.public)])
    theirs = [other.version("a", body, author=owner.id) for body in (b"x",)]
    ours = await owner.put("a", b"y")
    await store.apply(MAIN, theirs)
    assert store.conflicts(MAIN) == {ours.key}
    (settled,), _ = await owner.write(owner.draft("a", is_tombstone=True))
    assert settled is not None
    assert [head.id for head in await store.heads(MAIN, owner.id, "a")] == [settled.id]
    assert settled.is_tombstone
    assert settled.vector.keys() == ours.vector.keys() | theirs[0].vector.keys()
    assert len(store.tree(MAIN)) == 1


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
async def counters_go_on_over_all_contexts_and_past_what_others_have_seen(store: Store) -> None:
    owner, other = Owner(store), Person(2)
    await owner.begin()
    await admit(store, other)
    first, second = await owner.put("a"), await owner.put("a", context="other")
    assert second.counter == first.counter + 1
    assert store.seen(owner.identity.device.public) == {store.instance: second.counter}
    # A store rolled back to before what the other has seen must not give those counters out again.
    own = writer_of(owner.identity.device.public, store.instance)
    ahead = Person(2).version("b")
    ahead = other.version("b", b"saw more", [_with_vector(ahead, own, second.counter + 7)])
    await store.apply(MAIN, [ahead])
    assert (await owner.put("c")).counter == second.counter + 8


def _with_vector(record: Record, writer: bytes, counter: int) -> Record:
    """A stand-in that has only a vector."""
    copy = from_store(record.raw)
    copy._fields = {**copy._fields, 6: {writer: counter}}
    return copy


@check
async def writing_what_stands_already_can_be_skipped(store: Store) -> None:
    owner = Owner(store)
    await owner.begin()
    await owner.write(owner.draft("a", b"1"), owner.draft("b", b"2"))
    seq = store.seq(MAIN)
    versions, applied = await owner.write(owner.draft("a", b"1"), owner.draft("b", b"2"), skip_unchanged=True)
    assert (versions, applied.records, store.seq(MAIN)) == ([None, None], (), seq)
    versions, applied = await owner.write(owner.draft("a", b"1"), owner.draft("b", b"3"), skip_unchanged=True)
    assert versions[0] is None
    assert [record.body for record in applied.records] == [b"3"]
    again, _ = await owner.write(owner.draft("a", b"1"))
    assert again[0] is not None


@check
async def a_later_draft_of_a_batch_covers_an_earlier_one_of_the_same_record(store: Store) -> None:
    owner = Owner(store)
    await owner.begin()
    versions, applied = await owner.write(owner.draft("a", b"1"), owner.draft("b"), owner.draft("a", b"2"))
    assert [record.body for record in applied.records] == [b"2", b""]
    assert len({version.counter for version in versions if version}) == 3
    assert store.conflicts(MAIN) == set()


@check
async def a_draft_outside_the_limits_is_named_and_nothing_of_its_batch_is_written(store: Store) -> None:
    owner = Owner(store)
    await owner.begin()
    with pytest.raises(DraftError) as raised:
        await owner.write(owner.draft("fine"), owner.draft("n" * (NAME_BYTES_MAX + 1)), owner.draft("also fine"))
    assert raised.value.place == 1
    with pytest.raises(LocalError, match="one context"):
        await owner.write(owner.draft("fine"), owner.draft("fine", context="other"))
    assert await ids(store) == []
    assert (await owner.put("next")).counter == 2, "the statement had 1; a draft refused takes none"


@check
async def a_bad_batch_does_not_spoil_those_written_beside_it(store: Store) -> None:
    owner = Owner(store)
    await owner.begin()
    outcomes = await asyncio.gather(
        *(owner.put("" if number % 3 == 0 else f"n{number}") for number in range(12)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [DraftError if n % 3 == 0 else Record for n in range(12)]
    assert len(await ids(store)) == 8
    counters = sorted(outcome.counter for outcome in outcomes if isinstance(outcome, Record))
    assert counters == list(range(2, 10))


@check
async def writes_of_one_record_at_once_follow_each_other(store: Store) -> None:
    owner = Owner(store)
    await owner.begin()
    versions = await asyncio.gather(*(owner.put("same", bytes([number])) for number in range(20)))
    (head,) = await store.heads(MAIN, owner.id, "same")
    assert head.counter == max(version.counter for version in versions) == 21
    assert store.conflicts(MAIN) == set()


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
async def a_snapshot_shows_one_state_in_key_order_whatever_is_written_meanwhile(store: Store) -> None:
    one, two = Person(2), Person(3)
    await admit(store, one, two)
    await store.apply(IDENTITIES, [one.statement(key=two.device.public)])
    versions = [one.version(f"n{number}") for number in range(30)]
    twins = [two.version(f"n{number}", author=one.id) for number in range(10)]
    await store.apply(MAIN, [*versions, *twins])
    async with store.snapshot(MAIN) as snapshot:
        root, count, seq, instance = store.tree(MAIN).root, 30, store.seq(MAIN), store.instance
        stamp = snapshot.stamp
        assert (stamp.root, stamp.count, stamp.seq, stamp.instance) == (root, count, seq, instance)
        leaves: dict[bytes, list[Record]] = {}
        after, is_last = None, False
        while not is_last:
            raws, is_last = await snapshot.page(after, records_max=7, bytes_max=3 * len(versions[0].raw) + 10)
            records = [from_store(raw) for raw in raws]
            assert 1 <= len(records) <= 3
            assert not {record.key for record in records} & leaves.keys()
            for record in records:
                assert after is None or record.key >= after
                after = record.key
                leaves.setdefault(record.key, []).append(record)
            await store.apply(MAIN, [one.version(f"new{len(leaves)}")])
            await store.apply(MAIN, [one.version("n1", b"edit", [versions[1]])])
        assert root_of(*leaves.values()) == root
        assert len(await snapshot.page(None, records_max=5, bytes_max=1 << 20)) == 2
    assert store.tree(MAIN).root != root


@check
async def a_snapshot_of_nothing_is_one_empty_last_page(store: Store) -> None:
    async with store.snapshot(MAIN) as snapshot:
        assert (snapshot.stamp.count, snapshot.stamp.root) == (0, Tree().root)
        assert await snapshot.page(None, records_max=10, bytes_max=1000) == ([], True)


@check
async def several_snapshots_may_be_read_at_once(store: Store) -> None:
    person = Person(2)
    await admit(store, person)
    async with store.snapshot(MAIN) as before:
        await store.apply(MAIN, [person.version("a")])
        async with store.snapshot(MAIN) as after:
            assert (before.stamp.count, after.stamp.count) == (0, 1)
            assert len((await before.page(None, records_max=9, bytes_max=999))[0]) == 0
            assert len((await after.page(None, records_max=9, bytes_max=999))[0]) == 1


@check
async def what_is_staged_is_seen_by_nobody_until_it_is_promoted(store: Store) -> None:
    person = Person(2)
    await admit(store, person)
    versions = sorted((person.version(f"n{number}") for number in range(40)), key=lambda record: record.key)
    root = root_of(*([version] for version in versions))
    for start in range(0, 40, 15):
        assert await store.stage(MAIN, root, versions[start : start + 15]) == ()
    staged = store.staged(MAIN)
    assert staged is not None
    assert (staged.root, staged.last_key, staged.count) == (root, versions[-1].key, 40)
    assert store.contexts() == (IDENTITIES,)
    assert (len(store.tree(MAIN)), store.seq(MAIN), await ids(store)) == (0, 0, [])
    assert await store.heads(MAIN, person.id, "n1") == []
    assert (await store.info(MAIN)).bytes == 0
    applied = await store.promote(MAIN, expected=root)
    assert applied is not None
    assert (applied.records, applied.had, applied.refused) == ((), 0, ())
    assert store.staged(MAIN) is None
    assert store.tree(MAIN).root == root
    assert await ids(store) == [version.id for version in versions]
    assert (await store.info(MAIN)).bytes == sum(len(version.raw) for version in versions)
    assert store.seq(MAIN) == (await store.scan(MAIN, 0, limit=100))[1]
    assert store.seen(person.device.public)[person.instance] == max(version.counter for version in versions)
    edit = person.version("n7", b"edit", [record for record in versions if record.name == "n7"])
    assert (await store.apply(MAIN, [edit, *versions])).had == 40
    assert (await store.heads(MAIN, person.id, "n7"))[0].id == edit.id


@check
async def staging_keeps_conflicts_and_takes_repeats(store: Store) -> None:
    one, two = Person(2), Person(3)
    await admit(store, one, two)
    await store.apply(IDENTITIES, [one.statement(key=two.device.public)])
    left, right = one.version("a", b"left"), two.version("a", b"right", author=one.id)
    newer, plain = one.version("b", b"new", [one.version("b")]), one.version("c")
    root = root_of([left, right], [newer], [plain])
    await store.stage(MAIN, root, [right, plain])
    await store.stage(MAIN, root, [right, left, plain, newer])
    staged = store.staged(MAIN)
    assert staged is not None
    assert (staged.count, staged.last_key) == (4, max(left.key, newer.key, plain.key))
    assert await store.promote(MAIN, expected=root) is not None
    assert store.conflicts(MAIN) == {left.key}
    assert {head.id for head in await store.heads(MAIN, one.id, "a")} == {left.id, right.id}


@check
async def a_staged_version_gives_way_to_a_newer_one(store: Store) -> None:
    person = Person(2)
    await admit(store, person)
    old = person.version("a", b"old")
    new = person.version("a", b"new", [old])
    await store.stage(MAIN, root_of([new]), [old])
    await store.stage(MAIN, root_of([new]), [new])
    assert await store.promote(MAIN, expected=root_of([new])) is not None
    assert await ids(store) == [new.id]
    assert (await store.info(MAIN)).bytes == len(new.raw)


@check
async def what_may_not_stand_is_not_staged(store: Store) -> None:
    known, stranger = Person(2), Person(3)
    await admit(store, known)
    good, bad = known.version("a"), stranger.version("b")
    refused = await store.stage(MAIN, root_of([good], [bad]), [good, bad, known.version("c", context="other")])
    assert [one.reason for one in refused] == [Reason.UNKNOWN_KEY, Reason.FOREIGN_CONTEXT]
    assert await store.promote(MAIN, expected=root_of([good], [bad])) is None
    assert store.staged(MAIN) is None
    assert (store.contexts(), await ids(store)) == ((IDENTITIES,), [])


@check
async def another_root_starts_staging_over(store: Store) -> None:
    person = Person(2)
    await admit(store, person)
    first, second = person.version("a"), person.version("b")
    await store.stage(MAIN, root_of([first]), [first])
    await store.stage(MAIN, root_of([second]), [])
    assert store.staged(MAIN) is None
    await store.stage(MAIN, root_of([second]), [second])
    staged = store.staged(MAIN)
    assert staged is not None
    assert staged.count == 1
    assert await store.promote(MAIN, expected=root_of([second])) is not None
    assert await ids(store) == [second.id]


@check
async def contexts_are_staged_apart(store: Store) -> None:
    person = Person(2)
    await admit(store, person)
    here, there = person.version("a"), person.version("a", context="other")
    await store.stage(MAIN, root_of([here]), [here])
    await store.stage("other", root_of([there]), [there])
    assert await store.promote("other", expected=root_of([there])) is not None
    assert store.contexts() == (IDENTITIES, "other")
    assert await store.promote(MAIN, expected=root_of([here])) is not None
    assert (await ids(store), await ids(store, "other")) == ([here.id], [there.id])


@check
async def a_snapshot_of_nothing_is_promoted_as_nothing(store: Store) -> None:
    applied = await store.promote(MAIN, expected=Tree().root)
    assert applied is not None
    assert applied.records == ()
    assert await store.promote(MAIN, expected=Digest(bytes(32))) is None
    await store.stage(MAIN, Tree().root, [])
    assert await store.promote(MAIN, expected=Tree().root) is not None
    assert store.contexts() == ()


@check
async def a_snapshot_is_merged_into_a_context_that_is_not_empty_any_more(store: Store) -> None:
    owner, person = Owner(store), Person(2)
    await owner.begin()
    await admit(store, person)
    versions = sorted((person.version(f"n{number}") for number in range(25)), key=lambda record: record.key)
    root = root_of(*([version] for version in versions))
    await store.stage(MAIN, root, versions)
    ours = await owner.put("mine")
    newer = person.version("n3", b"newer", [record for record in versions if record.name == "n3"])
    await store.apply(MAIN, [newer])
    seq = store.seq(MAIN)
    applied = await store.promote(MAIN, expected=root)
    assert applied is not None
    assert (applied.records, applied.had, applied.refused) == ((), 1, ())
    assert store.staged(MAIN) is None
    left = [version for version in versions if version.name != "n3"]
    assert store.tree(MAIN).root == root_of([ours], [newer], *([version] for version in left))
    assert [record.id for record in await scanned(store, after=seq)] == [version.id for version in left]


@check
async def statements_come_into_force_only_when_their_snapshot_is_promoted(store: Store) -> None:
    person = Person(2)
    statement = person.statement()
    await store.stage(IDENTITIES, root_of([statement]), [statement])
    version = person.version("a")
    assert (await store.apply(MAIN, [version])).refused[0].reason is Reason.UNKNOWN_KEY
    assert store.authors() == set()
    assert await store.promote(IDENTITIES, expected=root_of([statement])) is not None
    assert (await store.apply(MAIN, [version])).records == (version,)
    assert store.authors() == {person.id}


@check
async def a_compromised_keys_versions_are_void_everywhere_and_older_ones_return(store: Store) -> None:
    one, thief = Person(2), Person(3)
    await admit(store, one)
    await store.apply(IDENTITIES, [one.statement(key=thief.device.public)])
    theirs = {"author": one.id}
    old = one.version("a", b"old")
    forged = thief.version("a", b"forged", [old], author=one.id)
    alone = thief.version("b", b"alone", **theirs)  # type: ignore[arg-type]
    untouched = one.version("c")
    beside, left = thief.version("d", b"beside", author=one.id), one.version("d", b"left")
    elsewhere = thief.version("e", context="other", author=one.id)
    await store.apply(MAIN, [old, untouched])
    await store.apply(MAIN, [forged, alone, beside, left])
    await store.apply("other", [elsewhere])
    seqs = store.seq(MAIN), store.seq("other")
    assert store.conflicts(MAIN) == {left.key}
    applied = await store.apply(IDENTITIES, [one.statement(KeyState.COMPROMISED, thief.device.public)])
    assert applied.voided == 4
    assert store.tree(MAIN).root == root_of([old], [untouched], [left])
    assert set(await ids(store)) == {old.id, untouched.id, left.id}
    assert await ids(store, "other") == []
    assert store.contexts() == (IDENTITIES, MAIN)
    assert store.conflicts(MAIN) == set()
    assert (await store.info(MAIN)).bytes == sum(len(version.raw) for version in (old, untouched, left))
    assert (await store.info("other")).bytes == 0
    assert store.seq(MAIN) > seqs[0], "what returned is news to those who follow"
    assert store.seq("other") >= seqs[1], "a seq given out never comes back"
    assert [record.id for record in await scanned(store, after=seqs[0])] == [old.id]
    applied = await store.apply(MAIN, [forged, alone])
    assert [refused.reason for refused in applied.refused] == [Reason.KEY_REVOKED] * 2
    again = one.version("a", b"again", [old])
    assert (await store.apply(MAIN, [again])).records == (again,)
    assert await ids(store, "other") == []
    fresh = one.version("e", context="other")
    await store.apply("other", [fresh])
    assert [record.id for record in await scanned(store, "other", seqs[1])] == [fresh.id]


@check
async def what_a_compromised_key_superseded_twice_returns_only_to_its_last_honest_version(store: Store) -> None:
    one, thief, rogue = Person(2), Person(3), Person(4)
    await admit(store, one)
    await store.apply(IDENTITIES, [one.statement(key=person.device.public) for person in (thief, rogue)])
    first = one.version("a", b"first")
    second = one.version("a", b"second", [first])
    third = thief.version("a", b"third", [second], author=one.id)
    fourth = rogue.version("a", b"fourth", [third], author=one.id)
    for version in (first, second, third, fourth):
        await store.apply(MAIN, [version])
    assert (await store.apply(IDENTITIES, [one.statement(KeyState.COMPROMISED, rogue.device.public)])).voided == 1
    assert await ids(store) == [third.id]
    assert (await store.apply(IDENTITIES, [one.statement(KeyState.COMPROMISED, thief.device.public)])).voided == 1
    assert await ids(store) == [second.id]
    assert store.tree(MAIN).root == root_of([second])


@check
async def a_compromise_drops_a_snapshot_that_holds_what_it_made_void(store: Store) -> None:
    one, thief = Person(2), Person(3)
    await admit(store, one, thief)
    good, void = one.version("a"), thief.version("b")
    await store.stage(MAIN, root_of([good], [void]), [good, void])
    kept = one.version("a", context="other")
    await store.stage("other", root_of([kept]), [kept])
    await store.apply(IDENTITIES, [thief.statement(KeyState.COMPROMISED)])
    assert store.staged(MAIN) is None
    assert await store.promote(MAIN, expected=root_of([good], [void])) is None
    assert await store.promote("other", expected=root_of([kept])) is not None


@check
async def a_context_emptied_by_a_compromise_can_be_filled_by_a_snapshot(store: Store) -> None:
    one, thief = Person(2), Person(3)
    await admit(store, one, thief)
    await store.apply(MAIN, [thief.version("a")])
    early, late = sorted((one.version("b"), one.version("c")), key=lambda record: record.key)
    root = root_of([early], [late])
    await store.stage(MAIN, root, [early])
    await store.apply(MAIN, [thief.version("d")])
    seq = store.seq(MAIN)
    await store.apply(IDENTITIES, [thief.statement(KeyState.COMPROMISED)])
    assert (len(store.tree(MAIN)), store.seq(MAIN) >= seq) == (0, True)
    await store.stage(MAIN, root, [late])
    assert await store.promote(MAIN, expected=root) is not None
    assert store.tree(MAIN).root == root
    assert {record.id for record in await scanned(store, after=seq)} == {early.id, late.id}, "no cursor misses any"


@check
async def a_new_instance_begins_with_a_writer_nobody_has_seen(store: Store) -> None:
    owner = Owner(store)
    await owner.begin()
    before = await owner.put("a", b"1")
    old = store.instance
    await store.renew_instance(Instance(b"renewed!"))
    assert store.instance == b"renewed!" != old
    after = await owner.put("a", b"2")
    assert (after.instance, after.counter) == (b"renewed!", 1)
    assert after.vector.keys() == {*before.vector, after.writer}
    assert store.seen(owner.identity.device.public) == {old: 2, Instance(b"renewed!"): 1}


@check
async def pins_are_kept_by_kind_and_value(store: Store) -> None:
    one, two = Person(1).id, Person(2).id
    assert await store.pins() == {}
    await store.pin("name", "anna", one)
    await store.pin("address", "anna", two)
    await store.pin("name", "anna", two)
    assert await store.pins() == {("name", "anna"): two, ("address", "anna"): two}


@check
async def contexts_are_sorted_with_identities_first(store: Store) -> None:
    owner = Owner(store)
    await owner.put("a", context="zebra")
    assert store.contexts() == (), "its key is unknown yet"
    await owner.begin()
    for context in ("zebra", "apple", "main"):
        await owner.put("a", context=context)
    assert store.contexts() == (IDENTITIES, "apple", "main", "zebra")


@check
async def a_caller_that_gives_up_leaves_a_whole_store(store: Store) -> None:
    owner = Owner(store)
    await owner.begin()
    tasks = [asyncio.create_task(owner.put(f"n{number}")) for number in range(30)]
    for turns, task in enumerate(tasks):
        for _ in range(turns % 4):
            await asyncio.sleep(0)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    last = await owner.put("last")
    written = await scanned(store)
    assert written[-1].id == last.id
    assert len({record.counter for record in written}) == len(written)
    assert len(store.tree(MAIN)) == len(written)


@check
async def closing_twice_does_no_harm(store: Store) -> None:
    await store.pin("name", "anna", Person(1).id)
