"""The contract of Store for a compromised key."""

from echonode.errors import Reason
from echonode.model.identity import IdentityId, Instance, Pool, PoolKind, SigningKey
from echonode.model.keys import KeyState
from echonode.model.record import IDENTITIES, MAIN, Record
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
    assert len(applied.voided) == 4
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
    applied = await store.apply(IDENTITIES, [one.statement(KeyState.COMPROMISED, rogue.device.public)])
    assert [each.version for each in applied.voided] == [fourth.id]
    assert await ids(store) == [third.id]
    applied = await store.apply(IDENTITIES, [one.statement(KeyState.COMPROMISED, thief.device.public)])
    assert [each.version for each in applied.voided] == [third.id], "which was in the history and had returned"
    assert await ids(store) == [second.id]
    assert store.tree(MAIN).root == root_of([second])


def lives_of(person: Person, count: int, author: IdentityId | None = None) -> list[Record]:
    """Return versions of one record that know nothing of each other, each of another life of the person's store."""
    versions: list[Record] = []
    for number in range(count):
        person.instance = Instance(bytes([number]) * 8)
        versions.append(person.version("b", bytes([number]), author=author))
    return versions


@check
async def voided_versions_stay_readable_in_the_history_and_never_return(store: Store) -> None:
    one, thief = Person(2), Person(3)
    await admit(store, one)
    await store.apply(IDENTITIES, [one.statement(key=thief.device.public)])
    old = one.version("a", b"old")
    forged = thief.version("a", b"forged", [old], author=one.id)
    crowd = lives_of(thief, 18, author=one.id)  # two of them are spare
    await store.apply(MAIN, [old, forged, *crowd])
    applied = await store.apply(IDENTITIES, [one.statement(KeyState.COMPROMISED, thief.device.public)])
    told = {(each.context, each.author, each.name, each.version, each.key) for each in applied.voided}
    assert told == {(MAIN, one.id, each.name, each.id, thief.device.public) for each in (forged, *crowd)}
    assert [each.record.id for each in await store.earlier(MAIN, one.id, "a", limit=9)] == [forged.id]
    assert {each.record.id for each in await store.earlier(MAIN, one.id, "b", limit=99)} == {each.id for each in crowd}
    assert store.history().spare == 0
    assert (await store.earlier_by(one.device.public, 0, limit=99))[0] == []
    first, place = await store.earlier_by(thief.device.public, 0, limit=4)
    rest, end = await store.earlier_by(thief.device.public, place, limit=99)
    assert len(first) == 4
    assert {each.id for each in (*first, *rest)} == {each.id for each in (forged, *crowd)}
    assert await store.earlier_by(thief.device.public, end, limit=9) == ([], end)
    many = lives_of(one, 17)  # a full leaf looks at its history again
    await store.apply(MAIN, many[:9])
    await store.apply(MAIN, many[9:])
    assert {head.kid for head in await store.heads(MAIN, one.id, "b")} == {one.device.public}
    rogue = Person(4)
    await store.apply(IDENTITIES, [one.statement(key=rogue.device.public)])
    await store.apply(MAIN, [rogue.version("a", b"rogue", [old], author=one.id)])
    await store.apply(IDENTITIES, [one.statement(KeyState.COMPROMISED, rogue.device.public)])
    assert [head.id for head in await store.heads(MAIN, one.id, "a")] == [old.id]


POOL = Pool(PoolKind.COMMON, SigningKey(b"a common pool".ljust(32)))
TEAM = Pool(PoolKind.CLOSED, SigningKey(b"a closed pool".ljust(32)))


@check
async def a_pools_record_waits_for_a_listing_and_the_owners_own_statement(store: Store) -> None:
    one, two = Person(2), Person(3)
    version = one.version("a", author=POOL.id)
    for statement in (one.listed(POOL), one.statement()):
        applied = await store.apply(MAIN, [version])
        assert [each.reason for each in applied.refused] == [Reason.UNKNOWN_KEY]
        assert applied.is_gap, "it is asked for again"
        await store.apply(IDENTITIES, [statement])
    assert (await store.apply(MAIN, [version])).records == (version,)
    by_another = two.version("a", author=POOL.id)
    assert [each.reason for each in (await store.apply(MAIN, [by_another])).refused] == [Reason.UNKNOWN_KEY]


@check
async def nobody_but_the_owner_voids_a_key_of_a_common_pool(store: Store) -> None:
    one, thief = Person(2), Person(3)
    await admit(store, one, thief)
    await store.apply(IDENTITIES, [one.listed(POOL), thief.listed(POOL)])
    version = one.version("a", author=POOL.id)
    await store.apply(MAIN, [version])
    applied = await store.apply(IDENTITIES, [one.listed(POOL, state) for state in list(KeyState)[1:]])
    assert [each.reason for each in applied.refused] == [Reason.BAD_RECORD] * 2
    applied = await store.apply(IDENTITIES, [thief.statement(KeyState.COMPROMISED, one.device.public)])
    assert (len(applied.records), applied.voided) == (1, ()), "the thief speaks for the thief alone"
    assert await ids(store) == [version.id]
    applied = await store.apply(IDENTITIES, [one.statement(KeyState.COMPROMISED)])
    assert [each.version for each in applied.voided] == [version.id]
    assert await ids(store) == []


@check
async def a_listing_that_comes_late_voids_what_its_owner_gave_up(store: Store) -> None:
    """The key is listed for two owners; the one who said compromised is listed last."""
    one, two = Person(2), Person(3)
    await admit(store, one)
    await store.apply(IDENTITIES, [one.listed(POOL), two.statement(KeyState.COMPROMISED, one.device.public)])
    version = one.version("a", author=POOL.id)
    own = one.version("a")
    await store.apply(MAIN, [version, own])
    assert len(await ids(store)) == 2
    applied = await store.apply(IDENTITIES, [one.listed(POOL, owner=two.id)])
    assert [each.version for each in applied.voided] == [version.id]
    assert await ids(store) == [own.id]


@check
async def the_root_of_a_closed_pool_removes_a_member_with_all_it_wrote(store: Store) -> None:
    one, two = Person(2), Person(3)
    await admit(store, one, two)
    await store.apply(IDENTITIES, [one.listed(TEAM), two.listed(TEAM)])
    first = one.version("a", b"1", author=TEAM.id)
    second = two.version("a", b"2", [first], author=TEAM.id)
    await store.apply(MAIN, [first, second])
    await store.apply(IDENTITIES, [two.listed(TEAM, KeyState.RETIRED)])
    assert await ids(store) == [second.id], "what a retired member wrote stands"
    applied = await store.apply(IDENTITIES, [two.listed(TEAM, KeyState.COMPROMISED)])
    assert [each.version for each in applied.voided] == [second.id]
    assert await ids(store) == [first.id]
    assert (await store.apply(MAIN, [two.version("b")])).refused == (), "it writes for itself as before"


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
    assert len(await store.earlier(MAIN, thief.id, "a", limit=9)) == 1, "what was voided is still readable"
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
