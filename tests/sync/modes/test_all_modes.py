"""Every mode leads two stores to the same state (I4), also when the conversation is cut at any message, when a store is
written into meanwhile, and when both ends open one at once. A mode joins by its line in tests/sync/talk.py."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echonode.errors import TransportError
from echonode.model.record import MAIN
from echonode.sync.conversation import Result
from echonode.sync.modes import snapshot
from echonode.wire.messages import DeltaInit, Direction, GetInit, InitPayload, PullInit, PutInit, SnapshotInit
from tests.sync.talk import MODES, converse, heads_in, initiator_of, lacks, versions_in, virtually
from tests.sync.test_writing_meanwhile import Scribe, vouched_for, writes
from tests.sync.universe import root_of, two_holdings, universe

modes = pytest.mark.parametrize("mode", MODES.values(), ids=list(MODES))
another = st.sampled_from(list(MODES.values()))
Holdings = tuple[frozenset[int], frozenset[int]]


def root(store):
    return store.tree(MAIN).root


def test_every_mode_that_opens_a_conversation_is_here():
    async def opens(mode) -> type:
        talk = await converse(universe().store(range(9)), universe().store(range(5, 20)), mode)
        return type(talk.said[0])

    async def main() -> None:
        one_side_is_special = {SnapshotInit, DeltaInit}  # those need an empty store, or a cursor
        found = {await opens(mode) for mode in MODES.values()}
        asked_for = {PullInit, GetInit, PutInit}  # those answer questions, and make nothing equal
        assert found | one_side_is_special | asked_for == set(InitPayload.__args__)  # type: ignore[attr-defined]

    virtually(main())


@modes
@given(held=two_holdings())
@settings(max_examples=15)
def test_both_stores_end_as_the_merge_of_both_and_a_second_conversation_moves_nothing(mode, held: Holdings):
    async def main() -> None:
        ours, theirs = (universe().store(numbers) for numbers in held)
        talk = await converse(ours, theirs, mode)
        assert (talk.our_end, talk.their_end) == (Result.EQUAL, Result.EQUAL)
        assert root(ours) == root(theirs) == root_of(universe().some(held[0] | held[1]))
        again = await converse(ours, theirs, mode)
        assert (again.our_end, again.their_end) == (Result.EQUAL, Result.EQUAL)
        assert again.moved == ()
        for side in (again.ours.tally, again.theirs.tally):
            assert (side.sent, side.received, side.had, side.refused, side.refused_there) == (0, 0, 0, [], 0)

    virtually(main())


@modes
@given(held=two_holdings())
@settings(max_examples=8)
def test_it_does_not_matter_who_begins_nor_whether_one_is_empty(mode, held: Holdings):
    async def main() -> None:
        merged = root_of(universe().some(held[0] | held[1]))
        for first, second in (held, held[::-1], ((), held[0] | held[1]), (held[0] | held[1], ())):
            ours, theirs = universe().store(first), universe().store(second)
            talk = await converse(ours, theirs, mode)
            assert talk.our_end is talk.their_end is Result.EQUAL
            assert root(ours) == root(theirs) == merged
        filled = universe().store(())
        await converse(filled, theirs, initiator_of(snapshot))
        assert versions_in(filled) == versions_in(theirs)

    virtually(main())


@modes
@given(held=two_holdings(), cut=st.integers(0, 12), again=another)
@settings(max_examples=15)
def test_cut_at_any_message_stores_only_grow_and_any_other_mode_converges(mode, held: Holdings, cut: int, again):
    async def main() -> None:
        ours, theirs = (universe().store(numbers) for numbers in held)
        before = heads_in(ours), heads_in(theirs)
        talk = await converse(ours, theirs, mode, cut=cut)
        assert not lacks(ours, before[0])
        assert not lacks(theirs, before[1])
        for end, conversation in ((talk.our_end, talk.ours), (talk.their_end, talk.theirs)):
            if not isinstance(end, TransportError):
                assert end is Result.EQUAL
                assert root(conversation.store) == root_of(universe().some(held[0] | held[1]))
        after = await converse(theirs, ours, again)
        assert after.our_end is Result.EQUAL
        assert root(ours) == root(theirs) == root_of(universe().some(held[0] | held[1]))

    virtually(main())


@modes
@given(held=two_holdings(), planned=writes, again=another)
@settings(max_examples=15)
def test_writes_during_a_conversation_are_kept_and_never_taken_for_equal(mode, held: Holdings, planned, again):
    async def main() -> None:
        ours, theirs = (universe().store(numbers) for numbers in held)
        scribe = Scribe(universe(), (ours, theirs), planned)
        talk = await converse(ours, theirs, mode, hook=scribe)
        assert talk.our_end in (Result.EQUAL, Result.MOVED)
        assert talk.their_end in (Result.EQUAL, Result.MOVED)
        versions = universe().some(held[0] | held[1]) + scribe.written[0] + scribe.written[1]
        if talk.our_end is Result.EQUAL and talk.at_done:
            assert vouched_for(talk, Direction.BOTH, versions)
        assert not lacks(ours, scribe.written[0])
        assert not lacks(theirs, scribe.written[1])
        quiet = await converse(theirs, ours, again)
        assert quiet.our_end is quiet.their_end is Result.EQUAL
        assert root(ours) == root(theirs) == root_of(versions)

    virtually(main())


@modes
@given(held=two_holdings(), other=another, seed=st.integers(0, 99))
@settings(max_examples=15)
def test_both_may_begin_at_once_in_any_two_modes(mode, held: Holdings, other, seed: int):
    async def main() -> None:
        ours, theirs = (universe().store(numbers) for numbers in held)
        one, two = await asyncio.gather(converse(ours, theirs, mode), converse(theirs, ours, other))
        for talk in (one, two):
            assert talk.our_end in (Result.EQUAL, Result.MOVED)
            assert talk.their_end in (Result.EQUAL, Result.MOVED)
        await converse(ours, theirs, mode)
        assert root(ours) == root(theirs) == root_of(universe().some(held[0] | held[1]))

    virtually(main(), seed=seed)
