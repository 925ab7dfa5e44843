"""Snapshots that are cut off, whose peer changes meanwhile, or whose context is no longer empty (I5, I7)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echonode.errors import TransportError
from echonode.limits import BATCH_BYTES_MAX
from echonode.model.identity import Instance
from echonode.model.record import MAIN
from echonode.store.memory import MemoryStore
from echonode.store.port import SnapshotOverError, SnapshotReader
from echonode.sync.conversation import Conversation, Result
from echonode.sync.modes import level_wise, snapshot
from echonode.wire.messages import Done, Message, Page, SnapshotInit
from tests.sync.talk import (
    converse,
    heads_in,
    initiator_of,
    lacks,
    overheard,
    serve,
    to_its_end,
    versions_in,
    virtually,
)
from tests.sync.test_bulk import heavy_heads
from tests.sync.test_liars import broke_the_protocol, lie_to_initiator
from tests.sync.universe import at_once, root_of, universe

BODY = b"x" * (BATCH_BYTES_MAX // 5)  # four of these to a page


def shelf(leaves: int, *, first: int = 0) -> MemoryStore:
    """Return a store of records so large that few of them fill a page; some leaves have two heads."""
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
            talk = await converse(ours, peer, initiator_of(snapshot), cut=breaks)
            if talk.our_end is Result.EQUAL:
                return
            assert isinstance(talk.our_end, TransportError) or versions_in(ours) == versions_in(theirs)
            if versions_in(ours):
                return  # only the Dones were lost
            held = ours.staged(MAIN)
            assert (held.count if held else 0) >= staged, "what was staged stays"
            staged = held.count if held else 0
            assert len(ours.tree(MAIN)) == 0, "nothing is visible before all of it is"
        talk = await converse(ours, theirs, initiator_of(snapshot))
        assert talk.our_end is talk.their_end is Result.EQUAL
        assert versions_in(ours) == versions_in(theirs)
        assert talk.theirs.tally.sent <= total - staged + 2, "the last leaf comes again: its heads may be cut apart"
        assert ours.staged(MAIN) is None

    virtually(main())


def test_a_leaf_whose_heads_a_cut_took_apart_comes_again_whole():
    theirs = heavy_heads(universe(), leaves=2)  # each leaf has more heads than fit a message

    async def main() -> None:
        for cut in range(2, 12):
            ours = universe().store(())
            await converse(ours, theirs, initiator_of(snapshot), cut=cut)
            again = initiator_of(snapshot) if ours.staged(MAIN) else initiator_of(level_wise)
            talk = await converse(ours, theirs, again)
            assert talk.our_end is Result.EQUAL
            assert versions_in(ours) == versions_in(theirs)

    virtually(main())


def test_a_peer_of_another_root_says_so_and_what_was_staged_is_merged(source):
    async def main() -> None:
        ours = universe().store(())
        talk = await converse(ours, source, initiator_of(snapshot), cut=5)
        assert isinstance(talk.our_end, TransportError)
        held = ours.staged(MAIN)
        assert held is not None and held.root == source.tree(MAIN).root
        moved = shelf(10, first=25)
        talk = await converse(ours, moved, initiator_of(snapshot))
        (init,) = [said for said in talk.said if isinstance(said, SnapshotInit)]
        assert init.resume == (held.root, held.last_key)
        (page,) = [said for said in talk.said if isinstance(said, Page)]
        assert (page.records, page.is_last, page.is_cut) == ((), True, True)
        assert talk.our_end is talk.their_end is Result.MOVED
        assert len(versions_in(ours)) == held.count and ours.staged(MAIN) is None
        assert talk.ours.tally.followed is None, "not all of its log is here"
        await converse(ours, moved, initiator_of(level_wise))
        assert versions_in(ours) == versions_in(moved)

    virtually(main())


@given(cuts=st.lists(st.integers(1, 9), min_size=3, max_size=8))
@settings(max_examples=20)
def test_a_peer_that_never_stops_writing_keeps_nobody_from_finishing(cuts):
    async def main() -> None:
        ours, theirs = universe().store(()), shelf(40)
        late = universe().writers[0]
        sent, written, seen = 0, 0, 0

        async def write(_: int, message: Message) -> None:
            nonlocal written
            written += 1
            await theirs.apply(MAIN, [late.record(f"late-{written}")])

        mode = initiator_of(snapshot)
        for cut in cuts:
            talk = await converse(ours, theirs, mode, cut=cut, hook=write)
            sent += talk.theirs.tally.sent
            assert len(versions_in(ours)) >= seen, "what is visible stays so"
            seen = len(versions_in(ours))
            mode = initiator_of(level_wise) if seen else initiator_of(snapshot)
        total = len(versions_in(theirs))
        talk = await converse(ours, theirs, mode)
        if talk.our_end is Result.MOVED:  # the peer had to say that its root has changed
            talk = await converse(ours, theirs, initiator_of(level_wise))
        assert talk.our_end is talk.their_end is Result.EQUAL
        assert versions_in(ours) == versions_in(theirs)
        assert total > written > 0

    virtually(main())


class Hasty(MemoryStore):
    """A store whose snapshots may be read for a few pages only, and which writes behind some of them."""

    pages = 2
    writes_after = 1_000_000

    @asynccontextmanager
    async def snapshot(self, context: str) -> AsyncIterator[SnapshotReader]:
        async with super().snapshot(context) as reader:
            yield _Brief(reader, self.pages)
        self.writes_after -= 1
        if self.writes_after == 0:
            await self.apply(MAIN, [universe().writers[0].record("late")])


class _Brief:
    def __init__(self, reader: SnapshotReader, pages: int) -> None:
        self._reader, self._left, self.stamp = reader, pages, reader.stamp

    async def page(self, after, *, records_max: int, bytes_max: int):
        self._left -= 1
        if self._left < 0:
            raise SnapshotOverError("read for too long")
        return await self._reader.page(after, records_max=records_max, bytes_max=bytes_max)


def hasty(source: MemoryStore) -> Hasty:
    store = Hasty(Instance(bytes(8)))
    for context in source.contexts():
        at_once(store.apply(context, heads_in(source, context)))
    return store


def test_a_snapshot_goes_on_from_another_transaction_that_shows_the_same(source):
    async def main() -> None:
        ours, theirs = universe().store(()), hasty(source)
        talk = await converse(ours, theirs, initiator_of(snapshot))
        assert talk.our_end is talk.their_end is Result.EQUAL
        assert versions_in(ours) == versions_in(source)
        pages = [said for said in talk.said if isinstance(said, Page)]
        assert len(pages) > 2 * theirs.pages
        assert [page.state is not None for page in pages] == [True] + [False] * (len(pages) - 1)
        assert talk.theirs.tally.sent == len(versions_in(source)), "nothing came twice"

    virtually(main())


def test_a_snapshot_is_cut_short_when_no_transaction_shows_the_same_any_more(source):
    async def main() -> None:
        ours, theirs = universe().store(()), hasty(source)
        theirs.writes_after = 2
        talk = await converse(ours, theirs, initiator_of(snapshot))
        assert talk.our_end is talk.their_end is Result.MOVED
        assert 0 < len(versions_in(ours)) == talk.theirs.tally.sent < len(versions_in(source))
        assert ours.staged(MAIN) is None
        await converse(ours, theirs, initiator_of(level_wise))
        assert versions_in(ours) == versions_in(theirs)

    virtually(main())


def test_a_snapshot_of_which_not_a_page_can_be_read_is_cut_short(source):
    async def main() -> None:
        ours, theirs = universe().store(()), hasty(source)
        theirs.pages = 0
        talk = await converse(ours, theirs, initiator_of(snapshot))
        assert talk.our_end is talk.their_end is Result.MOVED
        assert not versions_in(ours)

    virtually(main())


def test_a_page_that_is_cut_and_not_the_last_is_none():
    async def liar(transport, message: Message) -> None:
        if isinstance(message, SnapshotInit):
            await transport.send(Page((bytes(32), 1, 1, bytes(8)), (), False, True))

    async def main() -> None:
        talk = await lie_to_initiator(universe().store(()), initiator_of(snapshot), liar)
        assert broke_the_protocol(talk.our_end)

    virtually(main())


def test_a_peer_that_starts_over_all_the_same_costs_nothing_of_what_was_staged(source):
    async def main() -> None:
        ours = universe().store(())
        await converse(ours, source, initiator_of(snapshot), cut=5)
        held = ours.staged(MAIN)
        theirs = shelf(3, first=28)
        raws = [head.raw for head in sorted(heads_in(theirs), key=lambda head: (head.key, head.id))]

        async def from_the_start(transport, message: Message) -> None:
            if isinstance(message, SnapshotInit):
                state = (theirs.tree(MAIN).root, 3, 1, bytes(8))
                await transport.send(Page(state, tuple(raws), True))
            else:
                await transport.send(Done(theirs.tree(MAIN).root, 3, 1, True))

        talk = await lie_to_initiator(ours, initiator_of(snapshot), from_the_start)
        assert talk.our_end is Result.MOVED
        assert held is not None and len(versions_in(ours)) > held.count
        assert not lacks(ours, heads_in(theirs))

    virtually(main())


@given(mine=st.frozensets(st.integers(0, 250), min_size=1, max_size=20), after=st.integers(1, 6))
@settings(max_examples=25)
def test_what_was_written_here_meanwhile_is_merged_never_overwritten(mine, after):
    async def main() -> None:
        ours, theirs = universe().store(()), universe().store(range(250))

        async def write_here(number: int, _: Message) -> None:
            if number == after:
                await ours.apply(MAIN, universe().some(mine))

        talk = await converse(ours, theirs, initiator_of(snapshot), hook=write_here)
        assert talk.our_end in (Result.EQUAL, Result.MOVED)
        assert not lacks(ours, universe().some(mine) * (len(talk.said) >= after))
        assert not lacks(ours, heads_in(theirs))
        await converse(ours, theirs, initiator_of(level_wise))
        held = set(range(250)) | (mine if len(talk.said) >= after else set())
        assert ours.tree(MAIN).root == theirs.tree(MAIN).root == root_of(universe().some(held))

    virtually(main())


def test_an_empty_snapshot_of_an_empty_context_is_equal_and_said():
    async def main() -> None:
        ours, theirs = universe().store(()), universe().store(())
        talk = await converse(ours, theirs, initiator_of(snapshot))
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


def test_without_a_listener_a_snapshot_is_told_while_it_is_staged_and_not_read_again():
    async def main() -> None:
        ours, theirs = universe().store(()), universe().store(range(300))
        staged: list[bytes] = []
        shown: list[bytes] = []

        def on_staged(records) -> None:
            assert not versions_in(ours) and not shown
            staged.extend(record.id for record in records)

        def on_shown(latest, count) -> None:
            shown.extend(latest)
            assert count == len(latest) == len(staged)

        def on_applied(_) -> None:
            raise AssertionError("nobody listens")

        talk = overheard(ours, theirs)
        heard = Conversation(
            talk.ours.transport,
            ours,
            MAIN,
            on_applied,
            talk.ours.on_progress,
            on_staged=on_staged,
            on_shown=on_shown,
            is_listened=lambda: False,
        )
        ends = await asyncio.gather(
            to_its_end(heard, snapshot.run_initiator(heard)), to_its_end(talk.theirs, serve(talk.theirs))
        )
        assert ends == [Result.EQUAL, Result.EQUAL]
        assert staged == shown and len(staged) == len(set(staged))
        assert set(staged) == versions_in(theirs) == versions_in(ours)

    virtually(main())
