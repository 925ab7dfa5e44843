"""The contract of Store for snapshots: those that it serves, and those that it receives."""

from echonode.errors import Reason
from echonode.model.merkle import Digest, Tree
from echonode.model.record import IDENTITIES, MAIN, Record, from_store, parse, verify
from echonode.model.usage import Usage
from echonode.store.port import Store
from tests.contracts.store import admit, check, ids, root_of, scanned
from tests.store.people import Owner, Person


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
async def what_comes_from_a_peer_is_stored_without_reading_more_of_it_than_its_heading(store: Store) -> None:
    person = Person(2)
    await admit(store, person)
    come = sorted((verify(parse(person.version(f"n{n}").raw)) for n in range(8)), key=lambda record: record.key)
    await store.stage(MAIN, root_of(come[:4]), come[:4])
    await store.promote(MAIN, expected=None)
    await store.apply(MAIN, come[4:])
    assert len(store.tree(MAIN)) == 8
    # Decoding a payload costs as much as all else that is done for a version beside its signature.
    assert [record._kept_fields for record in come] == [None] * 8


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
    assert (applied.records, applied.had, applied.refused, applied.shown) == ((), 0, (), 40)
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
    assert (applied.records, applied.had, applied.refused, applied.shown) == ((), 1, (), 0)
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
    assert store.keyring.authors("") == []
    assert await store.promote(IDENTITIES, expected=root_of([statement])) is not None
    assert (await store.apply(MAIN, [version])).records == (version,)
    assert store.keyring.authors("") == [person.id]


@check
async def what_is_staged_may_be_shown_unfinished(store: Store) -> None:
    person = Person(2)
    await admit(store, person)
    versions = sorted((person.version(f"n{number}") for number in range(6)), key=lambda version: version.key)
    await store.stage(MAIN, Digest(bytes(32)), versions[:3])
    assert await store.promote(MAIN, expected=None) is not None
    assert store.tree(MAIN).root == root_of(*[[version] for version in versions[:3]])
    assert store.staged(MAIN) is None
    # The second snapshot is merged into what is there by now.
    await store.stage(MAIN, Digest(bytes(32)), versions[2:5])
    applied = await store.promote(MAIN, expected=None)
    assert applied is not None and applied.had == 1
    assert store.tree(MAIN).root == root_of(*[[version] for version in versions[:5]])
    nothing = await store.promote(MAIN, expected=None)
    assert nothing is not None and nothing.records == ()


@check
async def what_is_staged_is_in_the_usage_until_it_is_dropped_and_once_when_it_is_shown(store: Store) -> None:
    one, other = Person(2), Person(3)
    await admit(store, one, other)
    old = one.version("a", bytes(5000))
    new, gone = one.version("a", b"new", [old]), one.version("b", is_tombstone=True)
    root = root_of([new], [gone])
    await store.stage(MAIN, root, [gone] if gone.key < old.key else [old])
    await store.stage(MAIN, root, [old] if gone.key < old.key else [gone])
    assert store.usage.of(one.id) == store.usage.total == Usage(2, old.size + gone.size, 1)
    await store.stage(MAIN, root, [new])
    assert store.usage.of(one.id) == Usage(2, new.size + gone.size, 1)
    await store.stage("other", root_of(), [other.version("x", context="other")])
    assert store.usage.total.records == 3
    await store.stage("other", root, [])
    assert store.usage.of(other.id) == Usage(), "another root drops what was staged"
    assert await store.promote(MAIN, expected=root) is not None
    assert store.usage.of(one.id) == store.usage.total == Usage(2, new.size + gone.size, 1)
    await store.stage(MAIN, root, [new])
    assert await store.promote(MAIN, expected=None) is not None
    assert store.usage.total == Usage(2, new.size + gone.size, 1), "it was merged into what was there"
    await store.stage(MAIN, root, [new, other.version("x")])
    assert await store.promote(MAIN, expected=root) is None
    assert store.usage.total == Usage(2, new.size + gone.size, 1)
