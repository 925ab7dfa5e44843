"""Snapshots that break off, change under way, or find the context no longer empty (I5, I7)."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echonode.errors import TransportError
from echonode.limits import BATCH_BYTES_MAX
from echonode.model.record import MAIN
from echonode.store.memory import MemoryStore
from echonode.sync import level_wise, snapshot
from echonode.sync.outcome import Conversation, Result
from echonode.wire.messages import Message, Page, SnapshotInit
from tests.sync.talk import converse, heads_in, lacks, overheard, serve, to_its_end, versions_in, virtually
from tests.sync.universe import at_once, root_of, universe

BODY = b"x" * (BATCH_BYTES_MAX // 5)  # four of these to a page


def shelf(leaves: int, *, first: int = 0) -> MemoryStore:
    """A store of records so large that few of them fill a page; some leaves have two heads."""
    store, (one, two, _) = universe().store(()), universe().writers
    for number in range(first, first + leaves):
        heads = [one.record(f"large-{number}", author=universe().pool, body=BODY)]
        if number % 3 == 0:
            heads.append(two.record(f"large-{number}", author=universe().pool, body=BODY))
        at_once(store.apply(MAIN, heads))
    return store


@pytest.fixture(scope="module")
def source() -> MemoryStore:
    return shelf(30)


@given(cut=st.integers(0, 25), again=st.integers(0, 25))
@settings(max_examples=25)
def test_what_was_staged_before_a_cut_is_not_sent_again_by_any_peer_of_the_same_root(cut, again):
    theirs = shelf(30)
    other_peer = universe().store(())
    at_once(other_peer.apply(MAIN, heads_in(theirs)))
    total = len(versions_in(theirs))

    async def main() -> None:
        ours = universe().store(())
        staged = 0
        for peer, breaks in ((theirs, cut), (other_peer, again)):
            talk = await converse(ours, peer, snapshot.run_initiator, cut=breaks)
            if talk.our_end is Result.EQUAL:
                return
            assert isinstance(talk.our_end, TransportError) or versions_in(ours) == versions_in(theirs)
            if versions_in(ours):
                return  # only the last words were lost
            held = ours.staged(MAIN)
            assert (held.count if held else 0) >= staged, "what was staged stays"
            staged = held.count if held else 0
            assert len(ours.tree(MAIN)) == 0, "nothing is visible before all of it is"
        talk = await converse(ours, theirs, snapshot.run_initiator)
        assert talk.our_end is talk.their_end is Result.EQUAL
        assert versions_in(ours) == versions_in(theirs)
        assert talk.theirs.tally.sent <= total - staged + 2, "the last leaf comes again: its heads may be cut apart"
        assert ours.staged(MAIN) is None

    virtually(main())


def test_a_peer_of_another_root_starts_over(source):
    async def main() -> None:
        ours = universe().store(())
        talk = await converse(ours, source, snapshot.run_initiator, cut=5)
        assert isinstance(talk.our_end, TransportError)
        held = ours.staged(MAIN)
        assert held is not None and held.root == source.tree(MAIN).root
        moved = shelf(10, first=25)
        talk = await converse(ours, moved, snapshot.run_initiator)
        (init,) = [said for said in talk.said if isinstance(said, SnapshotInit)]
        assert init.resume == (held.root, held.last_key)
        assert talk.our_end is Result.EQUAL
        assert versions_in(ours) == versions_in(moved)
        assert talk.theirs.tally.sent == len(versions_in(moved))

    virtually(main())


def test_a_peer_that_wrote_since_the_cut_starts_over_and_everything_arrives(source):
    async def main() -> None:
        ours, theirs = universe().store(()), shelf(12)
        await converse(ours, theirs, snapshot.run_initiator, cut=4)
        assert ours.staged(MAIN) is not None
        await theirs.apply(MAIN, heads_in(source))
        talk = await converse(ours, theirs, snapshot.run_initiator)
        assert talk.our_end is Result.EQUAL
        assert versions_in(ours) == versions_in(theirs)

    virtually(main())


@given(mine=st.frozensets(st.integers(0, 250), min_size=1, max_size=20), after=st.integers(1, 6))
@settings(max_examples=25)
def test_what_was_written_here_meanwhile_is_merged_never_overwritten(mine, after):
    async def main() -> None:
        ours, theirs = universe().store(()), universe().store(range(250))

        async def write_here(number: int, _: Message) -> None:
            if number == after:
                await ours.apply(MAIN, universe().some(mine))

        talk = await converse(ours, theirs, snapshot.run_initiator, hook=write_here)
        assert talk.our_end in (Result.EQUAL, Result.MOVED)
        assert not lacks(ours, universe().some(mine) * (len(talk.said) >= after))
        assert not lacks(ours, heads_in(theirs))
        await converse(ours, theirs, level_wise.run_initiator)
        held = set(range(250)) | (mine if len(talk.said) >= after else set())
        assert ours.tree(MAIN).root == theirs.tree(MAIN).root == root_of(universe().some(held))

    virtually(main())


def test_an_empty_snapshot_of_an_empty_context_is_equal_and_said():
    async def main() -> None:
        ours, theirs = universe().store(()), universe().store(())
        talk = await converse(ours, theirs, snapshot.run_initiator)
        assert talk.our_end is talk.their_end is Result.EQUAL
        (page,) = [said for said in talk.said if isinstance(said, Page)]
        assert page.is_last and page.records == ()
        assert ours.staged(MAIN) is None

    virtually(main())


def test_what_a_snapshot_brought_is_told_in_batches_once_it_is_visible():
    async def main() -> None:
        ours, theirs = universe().store(()), universe().store(range(300))
        told: list[bytes] = []

        def on_applied(records) -> None:
            assert set(versions_in(ours)) >= {record.id for record in records}
            told.extend(record.id for record in records)

        talk = overheard(ours, theirs)
        heard = Conversation(talk.ours.transport, ours, MAIN, on_applied, talk.ours.on_progress)
        ends = await asyncio.gather(
            to_its_end(heard, snapshot.run_initiator(heard)), to_its_end(talk.theirs, serve(talk.theirs))
        )
        assert ends == [Result.EQUAL, Result.EQUAL]
        assert len(told) == len(set(told))
        assert set(told) == versions_in(theirs)

    virtually(main())
