"""The contract of Store for the owner's own writes."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

from echonode.errors import LocalError
from echonode.limits import COUNTER_MENTIONED_MAX, NAME_BYTES_MAX, VECTOR_ENTRIES_MAX
from echonode.model.identity import Instance, Writer, writer_of
from echonode.model.record import IDENTITIES, MAIN, Record, VersionId, from_store
from echonode.store.draft_signing import DraftError
from echonode.store.port import Applied, HeadsMovedError, StaleWriterError, Store
from tests.contracts.store import admit, check, ids, root_of, scanned
from tests.store.people import Owner, Person


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
    assert store.keyring.authors("") == [owner.id]
    info = await store.info(MAIN)
    assert (info.records, info.bytes) == (2, sum(len(record.raw) for record in applied.records))
    assert info.root == root_of([applied.records[0]], [applied.records[1]]) == store.tree(MAIN).root
    assert (info.seq, store.seq(MAIN)) == (store.seq(MAIN), (await store.scan(MAIN, 0, limit=9))[1])


@check
async def a_write_covers_all_heads_its_store_knows(store: Store) -> None:
    owner, other = Owner(store), Person(2)
    await owner.begin()
    root = Person(1)  # another store with the owner's own keys
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
async def counters_go_on_over_all_contexts_and_past_what_others_have_seen(store: Store) -> None:
    owner, other = Owner(store), Person(2)
    await owner.begin()
    await admit(store, other)
    first, second = await owner.put("a"), await owner.put("a", context="other")
    assert second.counter == first.counter + 1
    assert store.seen(owner.identity.device.public) == {store.instance: second.counter}
    # A store that was rolled back must not give out counters that the other store has seen.
    own = writer_of(owner.identity.device.public, store.instance)
    ahead = Person(2).version("b")
    ahead = other.version("b", b"saw more", [_with_vector(ahead, {own: second.counter + 7})])
    await store.apply(MAIN, [ahead])
    assert (await owner.put("c")).counter == second.counter + 8


def _with_vector(record: Record, vector: Mapping[Writer, int]) -> Record:
    """Return a stand-in for a version with the vector `vector`."""
    copy = from_store(record.raw)
    copy.vector = dict(vector)
    return copy


@check
async def what_others_claim_of_our_counter_beyond_reason_is_not_believed(store: Store) -> None:
    owner, other = Owner(store), Person(2)
    await owner.begin()
    await store.apply(IDENTITIES, [Person(1).statement(key=other.device.public)])
    own = writer_of(owner.identity.device.public, store.instance)
    liar = other.version(
        "a", b"lie", [_with_vector(other.version("a"), {own: COUNTER_MENTIONED_MAX + 1})], author=owner.id
    )
    await store.apply(MAIN, [liar])
    assert (await owner.put("b")).counter == 2
    with pytest.raises(StaleWriterError):
        await owner.put("a")
    await store.renew_instance(Instance(b"renewed!"))
    assert (await owner.put("a")).vector[own] == COUNTER_MENTIONED_MAX + 1
    assert len(await store.heads(MAIN, owner.id, "a")) == 1


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
async def a_record_that_as_many_writers_have_edited_as_fit_takes_one_more_beside_them(store: Store) -> None:
    owner, other = Owner(store), Person(2)
    await owner.begin()
    await store.apply(IDENTITIES, [Person(1).statement(key=other.device.public)])
    crowd = {Writer(number.to_bytes(16, "big")): 1 for number in range(VECTOR_ENTRIES_MAX - 1)}
    full = other.version("a", b"full", [_with_vector(other.version("a"), crowd)], author=owner.id)
    await store.apply(MAIN, [full])
    (_, edit), applied = await owner.write(owner.draft("b"), owner.draft("a", b"edit"))
    assert edit is not None and applied.beside == ((edit.id, 1),)
    assert set(await ids(store)) >= {full.id, edit.id}
    (gone,), applied = await owner.write(owner.draft("a", is_tombstone=True))
    assert gone is not None and applied.beside == ((gone.id, 1),)
    assert {head.id for head in await store.heads(MAIN, owner.id, "a")} == {full.id, gone.id}
    assert store.history().versions == 1, "the edit; no key statement was superseded"


@check
async def writes_of_one_record_at_once_follow_each_other(store: Store) -> None:
    owner = Owner(store)
    await owner.begin()
    versions = await asyncio.gather(*(owner.put("same", bytes([number])) for number in range(20)))
    (head,) = await store.heads(MAIN, owner.id, "same")
    assert head.counter == max(version.counter for version in versions) == 21
    assert store.conflicts(MAIN) == set()


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
async def what_is_stored_is_reported_whether_or_not_its_caller_gave_up(store: Store) -> None:
    owner, other, reported = Owner(store), Person(2), list[Applied]()
    await owner.begin()
    await admit(store, other)
    calls = [
        store.write([owner.draft(f"n{number}")], owner.identity.device, owner.tick, report=reported.append)
        if number % 2
        else store.apply(MAIN, [other.version(f"n{number}")], report=reported.append)
        for number in range(30)
    ]
    tasks = [asyncio.create_task(call) for call in calls]
    for turns, task in enumerate(tasks):
        for _ in range(turns % 4):
            await asyncio.sleep(0)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    stored = sorted(record.id for record in await scanned(store))
    assert sorted(record.id for applied in reported for record in applied.records) == stored
    _, applied = await store.write([owner.draft("z")], owner.identity.device, owner.tick, report=reported.append)
    assert reported[-1] == applied


@check
async def an_error_of_a_report_is_the_callers_alone(store: Store) -> None:
    owner = Owner(store)
    await owner.begin()

    def fail(applied: Applied) -> None:
        raise ZeroDivisionError

    draft = owner.draft("a")
    outcomes = await asyncio.gather(
        store.write([draft], owner.identity.device, owner.tick, report=fail), owner.put("b"), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [ZeroDivisionError, Record]
    assert sorted(record.name for record in await scanned(store)) == ["a", "b"]


@check
async def a_draft_that_expects_other_heads_is_not_written(store: Store) -> None:
    owner = Owner(store)
    await owner.begin()

    async def write(body: bytes, expects: set[VersionId], names: str = "a") -> Record:
        drafts = [replace(owner.draft(name, body), expects=frozenset(expects)) for name in names]
        record = (await owner.write(*drafts))[0][0]
        assert record is not None
        return record

    first = await write(b"1", set())
    for stale in (set(), {first.id, VersionId(bytes(32))}):
        with pytest.raises(HeadsMovedError):
            await write(b"2", stale)
    with pytest.raises(HeadsMovedError) as caught:
        await write(b"2", {first.id}, "ab")
    assert (caught.value.place, await ids(store)) == (1, [first.id])
    results = await asyncio.gather(*(write(b"%d" % n, {first.id}) for n in range(5)), return_exceptions=True)
    assert sum(isinstance(result, HeadsMovedError) for result in results) == 4
    assert len(await ids(store)) == 1


@check
async def a_write_says_where_its_last_version_stands_in_the_log(store: Store) -> None:
    owner = Owner(store)
    await owner.begin()
    contexts = [MAIN if number % 3 else "other" for number in range(12)]
    written = await asyncio.gather(
        *(owner.write(owner.draft(f"n{number}", context=context)) for number, context in enumerate(contexts))
    )
    for context, ((record,), applied) in zip(contexts, written, strict=True):
        entries, _ = await store.changes(context, applied.seq - 1, records_max=1, bytes_max=1)
        assert record is not None and [(each.version, each.seq) for each in entries] == [(record.id, applied.seq)]
