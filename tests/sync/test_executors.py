"""Properties of every mode with any two stores: they end equal, lose nothing, and only true results are returned."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echonode.errors import TransportError
from echonode.model.record import MAIN
from echonode.sync.conversation import Result
from echonode.sync.modes import snapshot
from echonode.wire.messages import Direction
from tests.sync.talk import AGREEING, converse, heads_in, initiator_of, lacks, versions_in, virtually
from tests.sync.universe import OTHER, root_of, two_holdings, universe

walks = pytest.mark.parametrize("walk", AGREEING.values(), ids=list(AGREEING))
widths = st.sampled_from([16, 32])
Holdings = tuple[frozenset[int], frozenset[int]]


def root(store, context=MAIN):
    return store.tree(context).root


@walks
@given(held=two_holdings(), width=widths)
@settings(max_examples=20)
def test_both_stores_end_as_the_merge_of_both_and_a_second_conversation_moves_nothing(walk, held: Holdings, width: int):
    async def main() -> None:
        ours, theirs = (universe().store(numbers) for numbers in held)
        merged = root_of(universe().some(held[0] | held[1]))
        talk = await converse(ours, theirs, walk, width=width)
        assert (talk.our_end, talk.their_end) == (Result.EQUAL, Result.EQUAL)
        assert root(ours) == root(theirs) == merged
        again = await converse(ours, theirs, walk, width=width)
        assert (again.our_end, again.their_end) == (Result.EQUAL, Result.EQUAL)
        assert again.moved == ()
        for side in (again.ours.tally, again.theirs.tally):
            assert (side.sent, side.received, side.had, side.refused, side.refused_there) == (0, 0, 0, [], 0)

    virtually(main())


@walks
@given(held=two_holdings(OTHER))
@settings(max_examples=8)
def test_one_context_is_made_equal_and_no_other_is_touched(walk, held: Holdings):
    async def main() -> None:
        ours, theirs = (universe().store(numbers, OTHER) for numbers in held)
        await ours.apply(MAIN, universe().some(range(10)))
        before = root(ours), root(theirs)
        talk = await converse(ours, theirs, walk, context=OTHER)
        assert talk.our_end is Result.EQUAL
        assert root(ours, OTHER) == root(theirs, OTHER) == root_of(universe().some(held[0] | held[1], OTHER))
        assert (root(ours), root(theirs)) == before

    virtually(main())


@given(held=two_holdings())
@settings(max_examples=20)
def test_a_snapshot_into_an_empty_store_gives_what_every_other_mode_gives(held: Holdings):
    async def main() -> None:
        ours, theirs = universe().store(()), universe().store(held[1])
        talk = await converse(ours, theirs, initiator_of(snapshot))
        assert (talk.our_end, talk.their_end) == (Result.EQUAL, Result.EQUAL)
        assert versions_in(ours) == versions_in(theirs)
        assert talk.ours.tally.received == talk.theirs.tally.sent == len(versions_in(theirs))
        for walk in AGREEING.values():
            other = universe().store(())
            await converse(other, theirs, walk)
            assert root(other) == root(ours)

    virtually(main())


@walks
@given(held=two_holdings(), cut=st.integers(0, 12), again=st.sampled_from(list(AGREEING.values())))
@settings(max_examples=20)
def test_cut_at_any_message_stores_only_grow_and_the_next_conversation_converges(walk, held: Holdings, cut, again):
    async def main() -> None:
        ours, theirs = (universe().store(numbers) for numbers in held)
        before = heads_in(ours), heads_in(theirs)
        talk = await converse(ours, theirs, walk, cut=cut)
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


# -- one way ---------------------------------------------------------------------------------------------------------


@walks
@given(held=two_holdings(), width=widths)
@settings(max_examples=20)
def test_a_pull_leaves_nothing_missing_here_and_changes_nothing_there(walk, held: Holdings, width: int):
    async def main() -> None:
        ours, theirs = (universe().store(numbers) for numbers in held)
        before = versions_in(theirs)
        talk = await converse(ours, theirs, walk, direction=Direction.RECEIVE, width=width)
        assert talk.our_end is Result.EQUAL
        assert talk.their_end in (Result.ONE_WAY, Result.EQUAL)
        assert root(ours) == root_of(universe().some(held[0] | held[1]))
        assert versions_in(theirs) == before
        assert talk.ours.tally.sent == talk.theirs.tally.received == 0

    virtually(main())


@walks
def test_a_pull_of_nothing_but_what_ours_supersedes_is_verified_at_once(walk):
    async def main() -> None:
        one = universe().writers[0]
        old = [one.record(f"old-{number}") for number in range(5)]
        ours, theirs = universe().store(range(100)), universe().store(range(100))
        await theirs.apply(MAIN, old)
        await ours.apply(MAIN, [one.record(record.name, record, body=b"newer") for record in old])
        talk = await converse(ours, theirs, walk, direction=Direction.RECEIVE)
        assert talk.our_end is Result.EQUAL
        assert (talk.ours.tally.received, talk.ours.tally.had) == (0, 5)

    virtually(main())


@walks
@given(held=two_holdings(), width=widths)
@settings(max_examples=20)
def test_a_push_leaves_nothing_missing_there_and_changes_nothing_here(walk, held: Holdings, width: int):
    async def main() -> None:
        ours, theirs = (universe().store(numbers) for numbers in held)
        before = versions_in(ours)
        talk = await converse(ours, theirs, walk, direction=Direction.SEND, width=width)
        assert talk.our_end is Result.EQUAL
        assert talk.their_end in (Result.ONE_WAY, Result.EQUAL)
        assert root(theirs) == root_of(universe().some(held[0] | held[1]))
        assert versions_in(ours) == before
        assert talk.ours.tally.received == talk.theirs.tally.sent == 0

    virtually(main())
