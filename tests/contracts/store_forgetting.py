"""The contract of Store for forgetting: records that it forgets are gone, and no tree, log or cursor mentions them."""

from echonode.model.identity import IdentityId, Instance
from echonode.model.keys import KeyState
from echonode.model.merkle import Tree
from echonode.model.record import IDENTITIES, MAIN
from echonode.model.usage import Usage
from echonode.store.port import Cursor, Store
from tests.contracts.store import admit, check, ids, root_of
from tests.store.people import Owner, Person


def nothing(_: object) -> bool:
    return False


@check
async def forgotten_leaves_are_gone_and_the_rest_stands(store: Store) -> None:
    person = Person(2)
    await admit(store, person)
    a, b, c = (person.version(name) for name in "abc")
    await store.apply(MAIN, [a, b, c])
    before = await store.info(MAIN)
    assert await store.forget(MAIN, [a.key, b.key, a.key], lambda head: head.id == b.id) == 1
    assert await ids(store) == [b.id, c.id]
    assert store.tree(MAIN).root == root_of([b], [c])
    info = await store.info(MAIN)
    assert (info.records, info.bytes) == (2, before.bytes - len(a.raw))
    assert await store.read(MAIN, [a.key], bytes_max=10**6) == ([], 1)


@check
async def what_was_forgotten_is_news_when_it_comes_again_under_a_new_seq(store: Store) -> None:
    person = Person(2)
    await admit(store, person)
    a = person.version("a")
    await store.apply(MAIN, [a])
    seq = store.seq(MAIN)
    assert await store.forget(MAIN, [a.key], nothing) == 1
    assert (store.tree(MAIN).root, store.seq(MAIN)) == (Tree().root, seq)
    assert (await store.apply(MAIN, [a])).records == (a,)
    assert store.seq(MAIN) > seq


@check
async def a_conflict_is_forgotten_whole_or_not_at_all(store: Store) -> None:
    one, other = Person(2), Person(3)
    await admit(store, one, other)
    await store.apply(IDENTITIES, [one.statement(key=other.device.public)])
    ours, theirs = one.version("a"), other.version("a", author=one.id)
    await store.apply(MAIN, [ours, theirs])
    assert await store.forget(MAIN, [ours.key], lambda head: head.id == theirs.id) == 0
    assert set(await ids(store)) == {ours.id, theirs.id} and store.conflicts(MAIN)
    assert await store.forget(MAIN, [ours.key], nothing) == 1
    assert await ids(store) == [] and not store.conflicts(MAIN)


@check
async def history_is_forgotten_too_and_no_voided_key_brings_it_back(store: Store) -> None:
    one, thief = Person(2), Person(3)
    await admit(store, one)
    await store.apply(IDENTITIES, [one.statement(key=thief.device.public)])
    old = one.version("a")
    new = thief.version("a", over=[old], author=one.id)
    await store.apply(MAIN, [old])
    await store.apply(MAIN, [new])
    assert await store.forget(MAIN, [old.key], nothing) == 1
    await store.apply(IDENTITIES, [one.statement(KeyState.COMPROMISED, key=thief.device.public)])
    assert await ids(store) == []


@check
async def counters_stay_so_that_what_is_written_next_is_newer(store: Store) -> None:
    owner = Owner(store)
    await owner.begin()
    first = await owner.put("a")
    assert await store.forget(MAIN, [first.key], nothing) == 1
    assert (await owner.put("a")).counter > first.counter


@check
async def cursors_of_the_context_go_and_those_of_others_stay(store: Store) -> None:
    person = Person(2)
    await admit(store, person)
    a = person.version("a")
    peer, life = IdentityId(b"\1" * 32), Instance(b"a life..")
    await store.apply(MAIN, [a], Cursor(peer, life, MAIN, 5))
    store.note(Cursor(peer, life, "other", 6))
    assert await store.forget(MAIN, [a.key], lambda _: True) == 0
    assert store.cursor(peer, MAIN) is not None
    assert await store.forget(MAIN, [a.key], nothing) == 1
    assert store.cursor(peer, MAIN) is None
    assert store.cursor(peer, "other") is not None


@check
async def there_is_nothing_to_forget_of_what_is_not_there(store: Store) -> None:
    assert await store.forget("nowhere", [Person(2).version("a").key], nothing) == 0
    await admit(store, Person(2))
    assert await store.forget(MAIN, [Person(2).version("a").key], nothing) == 0


@check
async def usage_is_that_of_the_heads_whatever_becomes_of_them(store: Store) -> None:
    one, other = Person(2), Person(3)
    await admit(store, one, other)
    one_a, one_b, other_a = one.version("a"), one.version("b", body=bytes(9000)), other.version("a", context="books")
    await store.apply(MAIN, [one_a, one_b])
    await store.apply("books", [other_a])
    assert store.usage.of(one.id) == Usage(2, one_a.size + one_b.size, 0)
    gone = one.version("a", over=[one_a], is_tombstone=True)
    await store.apply(MAIN, [gone])
    assert store.usage.of(one.id) == Usage(2, gone.size + one_b.size, 1)
    assert store.usage.of_key(one.id, one.device.public) == store.usage.of(one.id)
    assert store.usage.total == Usage(3, gone.size + one_b.size + other_a.size, 1)
    await store.forget(MAIN, [one_b.key], nothing)
    assert store.usage.of(one.id) == Usage(1, gone.size, 1)
    await store.apply(IDENTITIES, [one.statement(KeyState.COMPROMISED)])
    assert store.usage.of(one.id) == Usage()
    assert store.usage.total == Usage(1, other_a.size, 0)
