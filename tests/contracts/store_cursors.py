"""The contract of Store for change logs: it reads its own log in order, and keeps cursors of the logs of peers."""

from echonode.limits import CURSORS_MAX
from echonode.model.identity import IdentityId, Instance
from echonode.model.record import IDENTITIES, MAIN
from echonode.store.port import Cursor, Store
from tests.contracts.store import admit, check
from tests.store.people import Owner, Person

PEER, OTHER = IdentityId(b"\1" * 32), IdentityId(b"\2" * 32)
LIFE, NEXT_LIFE = Instance(b"first..."), Instance(b"second..")


def cursor(seq: int, *, peer: IdentityId = PEER, instance: Instance = LIFE, context: str = MAIN) -> Cursor:
    return Cursor(peer, instance, context, seq)


@check
async def a_cursor_comes_with_the_records_it_covers(store: Store) -> None:
    person = Person(2)
    await admit(store, person)
    assert store.cursor(PEER, MAIN) is None
    a, b = person.version("a"), person.version("b")
    await store.apply(MAIN, [a], cursor(5))
    assert store.cursor(PEER, MAIN) == cursor(5)
    await store.apply(MAIN, [b])
    assert store.cursor(PEER, MAIN) == cursor(5)
    await store.apply(MAIN, [a, b], cursor(7))
    assert store.cursor(PEER, MAIN) == cursor(7), "nothing was new, and that is known up to there"


@check
async def a_cursor_waits_for_a_key_and_for_nothing_else(store: Store) -> None:
    known, stranger = Person(2), Person(3)
    await admit(store, known)
    early = stranger.version("early")
    await store.apply(MAIN, [known.version("a"), early], cursor(5))
    assert store.cursor(PEER, MAIN) is None
    await admit(store, stranger)
    await store.apply(MAIN, [early], cursor(5))
    assert store.cursor(PEER, MAIN) == cursor(5)
    await store.apply(MAIN, [known.version("elsewhere", context="other")], cursor(6))
    assert store.cursor(PEER, MAIN) == cursor(6), "what no statement can admit is not waited for"


@check
async def cursors_are_kept_apart_by_peer_and_context(store: Store) -> None:
    for each in (cursor(1), cursor(2, peer=OTHER), cursor(3, context="other")):
        store.note(each)
    assert store.cursor(PEER, MAIN) == cursor(1)
    assert store.cursor(OTHER, MAIN) == cursor(2, peer=OTHER)
    assert store.cursor(PEER, "other") == cursor(3, context="other")


@check
async def a_cursor_never_goes_back_but_in_another_life(store: Store) -> None:
    store.note(cursor(9))
    store.note(cursor(4))
    assert store.cursor(PEER, MAIN) == cursor(9)
    store.note(cursor(4, instance=NEXT_LIFE))
    assert store.cursor(PEER, MAIN) == cursor(4, instance=NEXT_LIFE)


@check
async def a_cursor_beyond_where_the_peer_says_it_stands_is_forgotten(store: Store) -> None:
    for each in (cursor(8), cursor(3, context="other"), cursor(9, peer=OTHER)):
        store.note(each)
    store.set_back(PEER, {MAIN: 8, "other": 3})
    assert store.cursor(PEER, MAIN) == cursor(8)
    store.set_back(PEER, {MAIN: 7})
    assert store.cursor(PEER, MAIN) is None
    assert store.cursor(PEER, "other") is None, "of that it says that it holds nothing"
    assert store.cursor(OTHER, MAIN) == cursor(9, peer=OTHER)


@check
async def the_oldest_cursors_go_when_there_are_too_many(store: Store) -> None:
    peers = [IdentityId(number.to_bytes(32, "big")) for number in range(CURSORS_MAX + 1)]
    for peer in peers[:-1]:
        store.note(cursor(1, peer=peer))
    store.note(cursor(2, peer=peers[0]))
    store.note(cursor(1, peer=peers[-1]))
    assert store.cursor(peers[0], MAIN) == cursor(2, peer=peers[0])
    assert store.cursor(peers[1], MAIN) is None
    assert store.cursor(peers[-1], MAIN) == cursor(1, peer=peers[-1])


@check
async def the_log_is_read_in_order_from_behind_a_seq_as_much_as_fits(store: Store) -> None:
    person = Person(2)
    await admit(store, person)
    versions = [person.version(name, b"x" * 100) for name in "abcde"]
    await store.apply(MAIN, versions[:3])
    await store.apply("other", [person.version("elsewhere", context="other")])
    await store.apply(MAIN, versions[3:])
    found, upto = await store.changes(MAIN, 0, records_max=100, bytes_max=10**6)
    assert [(entry.version, entry.raw) for entry in found] == [(version.id, version.raw) for version in versions]
    assert [entry.seq for entry in found] == sorted({entry.seq for entry in found})
    assert upto == found[-1].seq == store.seq(MAIN)
    some, upto = await store.changes(MAIN, 0, records_max=2, bytes_max=10**6)
    assert (some, upto) == (found[:2], found[1].seq)
    some, upto = await store.changes(MAIN, found[1].seq, records_max=100, bytes_max=1)
    assert (some, upto) == ([found[2]], found[2].seq)
    some, upto = await store.changes(MAIN, found[3].seq, records_max=1, bytes_max=1)
    assert (some, upto) == ([found[4]], store.seq(MAIN))
    assert await store.changes(MAIN, upto, records_max=1, bytes_max=1) == ([], upto)
    assert await store.changes(MAIN, upto + 7, records_max=1, bytes_max=1) == ([], upto + 7)
    assert await store.changes("nothing", 3, records_max=1, bytes_max=1) == ([], 3)


@check
async def what_is_superseded_has_left_the_log(store: Store) -> None:
    owner = Owner(store)
    await owner.begin()
    await owner.put("a", b"1")
    b = await owner.put("b")
    edit = await owner.put("a", b"2")
    found, upto = await store.changes(MAIN, 0, records_max=100, bytes_max=10**6)
    assert [entry.version for entry in found] == [b.id, edit.id]
    assert upto == store.seq(MAIN)
    assert (await store.changes(IDENTITIES, 0, records_max=9, bytes_max=10**6))[1] == store.seq(IDENTITIES)
