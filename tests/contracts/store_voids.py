"""The contract of Store for a compromised key."""

from echonode.errors import Reason
from echonode.model.keys import KeyState
from echonode.model.record import IDENTITIES, MAIN
from echonode.store.port import Store
from tests.contracts.store import admit, check, ids, root_of, scanned
from tests.store.people import Person


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
async def a_snapshot_begun_after_a_context_was_emptied_is_swapped_in(store: Store) -> None:
    one, thief = Person(2), Person(3)
    await admit(store, one, thief)
    await store.apply(MAIN, [thief.version("a")])
    seq = store.seq(MAIN)
    await store.apply(IDENTITIES, [thief.statement(KeyState.COMPROMISED)])
    version = one.version("b")
    await store.stage(MAIN, root_of([version]), [version])
    assert await store.promote(MAIN, expected=root_of([version])) is not None
    assert [record.id for record in await scanned(store, after=seq)] == [version.id]
    assert store.seq(MAIN) > seq


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
