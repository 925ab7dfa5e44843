"""Cursors on disk: what is saved with a transaction is what memory shows, after reopening too."""

import asyncio
from pathlib import Path

import pytest

from echonode.limits import CURSORS_MAX
from echonode.model.identity import IdentityId, Instance
from echonode.model.record import MAIN
from echonode.store.port import Cursor
from tests.contracts.store import admit
from tests.store.files import look, opened, run
from tests.store.people import Person, known

PEER, OTHER = IdentityId(b"p" * 32), IdentityId(b"q" * 32)
LIFE = Instance(b"one life")


def cursor(seq: int, peer: IdentityId = PEER, context: str = MAIN) -> Cursor:
    return Cursor(peer, LIFE, context, seq)


def test_a_cursor_saved_after_set_back_in_one_transaction_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def go() -> None:
        async with opened(path) as store:
            person = Person(2)
            await admit(store, person)
            await store.apply(MAIN, [person.version("a")], cursor(5))
            store.set_back(PEER, {MAIN: 2})
            await store.apply(MAIN, [person.version("b")], cursor(2))
            assert store.cursor(PEER, MAIN) == cursor(2)
        async with opened(path) as store:
            assert store.cursor(PEER, MAIN) == cursor(2)

    run(go())


def test_a_later_call_of_a_group_does_not_delete_what_an_earlier_one_saves(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def go() -> None:
        async with opened(path) as store:
            person = Person(2)
            await admit(store, person)
            await store.apply(MAIN, [person.version("a")], cursor(5))
            store.set_back(PEER, {})
            a, b, c = (person.version(name) for name in "bcd")
            await asyncio.gather(  # the first call goes alone; the others wait behind it and share a transaction
                store.save_peer(known("anna", person.id)),
                store.apply(MAIN, [a], cursor(3)),
                store.apply(MAIN, [b], cursor(8, OTHER)),
                store.apply(MAIN, [c], cursor(2)),
            )
            assert (store.cursor(PEER, MAIN), store.cursor(OTHER, MAIN)) == (cursor(3), cursor(8, OTHER))
        async with opened(path) as store:
            assert (store.cursor(PEER, MAIN), store.cursor(OTHER, MAIN)) == (cursor(3), cursor(8, OTHER))

    run(go())


@pytest.mark.parametrize("beyond", [0, 1])
def test_the_oldest_cursors_are_deleted_from_the_file_too(tmp_path: Path, beyond: int) -> None:
    path = tmp_path / "store.db"
    peers = [IdentityId(number.to_bytes(32, "big")) for number in range(CURSORS_MAX + beyond)]

    async def go() -> None:
        async with opened(path) as store:
            for peer in peers[:CURSORS_MAX]:
                store.note(cursor(1, peer))
        async with opened(path) as store:
            for peer in peers[CURSORS_MAX:]:
                store.note(cursor(1, peer))
        assert look(path, "SELECT count(*) FROM cursors") == [(CURSORS_MAX,)]
        async with opened(path) as store:
            assert (store.cursor(peers[0], MAIN) is None) == bool(beyond)
            assert store.cursor(peers[-1], MAIN) == cursor(1, peers[-1])

    run(go())
