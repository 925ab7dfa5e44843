"""Writes on either side during a conversation: none is lost, and only equal stores are called equal (I6)."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import count, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echonode.clock import HybridClock, Timestamp
from echonode.limits import ROUNDS_MAX, SMALL_SUBTREE_LEAVES
from echonode.model.record import MAIN, Draft, Record
from echonode.store.port import Store
from echonode.sync.conversation import Result
from echonode.sync.modes import level_wise, snapshot
from echonode.wire.messages import Direction, Done, Fetch, Message, Nodes
from tests.sync.talk import AGREEING, Hook, Talk, converse, heads_in, initiator_of, lacks, versions_in, virtually
from tests.sync.universe import Universe, crowded_names, root_of, two_holdings, universe

walks = pytest.mark.parametrize("walk", AGREEING.values(), ids=list(AGREEING))
# The number of the message, the side, and the write: an own record, one of the shared pool, or many at once.
writes = st.lists(
    st.tuples(st.integers(1, 12), st.integers(0, 1), st.sampled_from(["own", "pool", "delete", "many", "crowd"])),
    min_size=1,
    max_size=4,
)


class Scribe:
    """Writes into two stores behind the k-th message of a conversation, and remembers the records."""

    def __init__(self, world: Universe, stores: Sequence[Store], planned: Sequence[tuple[int, int, str]]) -> None:
        self._world = world
        self._stores = stores
        self._planned = planned
        self._clock = HybridClock()
        self._times_ms = count(1_800_000_000_000)
        self.written: tuple[list[Record], list[Record]] = ([], [])

    async def __call__(self, number: int, _: Message) -> None:
        for at, side, kind in self._planned:
            if at == number:
                await self.write(side, kind, number)

    def _tick(self) -> Timestamp:
        return self._clock.tick(next(self._times_ms))

    async def write(self, side: int, kind: str, number: int) -> None:
        writer = self._world.writers[side]
        match kind:
            case "own":
                names, author = [f"meanwhile-{number}"], writer.id
            case "pool" | "delete":
                names, author = [f"main-{3 + 6 * (number % 4)}"], self._world.pool
            case "many":
                names, author = [f"meanwhile-{number}-{more}" for more in range(40)], writer.id
            case _:
                names, author = list(crowded_names(self._world.writers[0].id)[:5]), self._world.pool
        body = b"" if kind == "delete" else b"meanwhile"
        drafts = [
            Draft(context=MAIN, author=author, name=name, body=body, is_tombstone=not body) for name in names
        ]
        records, applied = await self._stores[side].write(drafts, writer.identity.device, self._tick)
        assert not applied.refused
        self.written[side].extend(record for record in records if record is not None)


def vouched_for(talk: Talk, direction: Direction, versions: Sequence[Record]) -> bool:
    """Return True when the initiator's result is right, judged by what the responder held at its last Done."""
    ours, theirs = heads_in(talk.ours.store), talk.at_done[-1]
    if direction is Direction.BOTH:
        return {head.id for head in ours} == theirs
    if direction is Direction.RECEIVE:
        return not lacks(talk.ours.store, [version for version in versions if version.id in theirs])
    return not lacks(talk.theirs.store, ours)


async def written_into(walk, held, planned, direction: Direction, **options) -> None:
    ours, theirs = (universe().store(numbers) for numbers in held)
    scribe = Scribe(universe(), (ours, theirs), planned)
    talk = await converse(ours, theirs, walk, hook=scribe, direction=direction, **options)
    assert talk.our_end in (Result.EQUAL, Result.MOVED)
    assert talk.their_end in (Result.EQUAL, Result.MOVED, Result.ONE_WAY)
    versions = universe().some(held[0] | held[1]) + scribe.written[0] + scribe.written[1]
    if talk.our_end is Result.EQUAL:
        assert vouched_for(talk, direction, versions)
    assert not lacks(ours, scribe.written[0])
    assert not lacks(theirs, scribe.written[1])
    quiet = await converse(theirs, ours, walk)
    assert quiet.our_end is quiet.their_end is Result.EQUAL
    assert ours.tree(MAIN).root == theirs.tree(MAIN).root == root_of(versions)


@walks
@given(held=two_holdings(), planned=writes)
@settings(max_examples=15)
def test_writes_during_a_conversation_are_kept_and_never_taken_for_equal(walk, held, planned):
    virtually(written_into(walk, held, planned, Direction.BOTH))


@walks
@given(held=two_holdings(), planned=writes)
@settings(max_examples=15)
def test_a_pull_vouches_only_for_what_the_peer_held_at_its_end(walk, held, planned):
    virtually(written_into(walk, held, planned, Direction.RECEIVE))


@walks
@given(held=two_holdings(), planned=writes)
@settings(max_examples=15)
def test_a_push_vouches_only_for_what_was_here_at_its_end(walk, held, planned):
    virtually(written_into(walk, held, planned, Direction.SEND))


# -- single races ----------------------------------------------------------------------------------------------------


def behind(kind: type[Message], what: Callable[[], Awaitable[object]], *, nth: int = 1) -> Hook:
    """Return a hook that does `what` once, when the n-th message of a kind has been sent."""
    left = count(nth, -1)

    async def hook(_: int, message: Message) -> None:
        if isinstance(message, kind) and next(left) == 1:
            await what()

    return hook


def test_a_write_while_the_dones_cross_ends_the_conversation_for_both():
    # The responder sees equal roots and ends; the initiator must not go on alone.
    async def main() -> None:
        ours, theirs = universe().store(()), universe().store({0})
        scribe = Scribe(universe(), (ours, theirs), ())
        for (side, nth), walk in product([(0, 1), (0, 2), (1, 2)], AGREEING.values()):
            meanwhile = behind(Done, partial(scribe.write, side, "many", 1), nth=nth)
            talk = await converse(ours, theirs, walk, hook=meanwhile)
            assert talk.their_end is Result.EQUAL
            assert talk.our_end is (Result.MOVED if side == 0 else Result.EQUAL)
            await converse(ours, theirs, walk)
            assert versions_in(ours) == versions_in(theirs)

    virtually(main())


def test_a_subtree_that_outgrew_its_description_is_not_taken_for_fetched():
    # The walk names leaves below a prefix; before they are fetched, more than twice a bucket of leaves join them.
    async def main() -> None:
        scattered = set(range(95, len(universe().versions[MAIN])))
        ours = universe().store(scattered - set(range(200, 220)) | {0})
        theirs = universe().store(scattered | {0, 1, 2, 3})
        before = heads_in(theirs)
        two = universe().writers[1]
        crowd = universe().some(range(70)) + [two.record(name) for name in crowded_names(two.id)]
        assert len(crowd) > 2 * SMALL_SUBTREE_LEAVES
        outgrow = behind(Fetch, lambda: theirs.apply(MAIN, crowd))
        talk = await converse(ours, theirs, initiator_of(level_wise), hook=outgrow, direction=Direction.RECEIVE)
        if talk.our_end is Result.EQUAL:
            assert not lacks(ours, heads_in(theirs))
        again = await converse(ours, theirs, initiator_of(level_wise), direction=Direction.RECEIVE)
        assert again.our_end is Result.EQUAL
        assert not lacks(ours, heads_in(theirs) + before)

    virtually(main())


def test_a_peer_that_never_stops_writing_ends_in_moved_after_a_few_walks():
    async def main() -> None:
        ours, theirs = universe().store(range(50)), universe().store(range(60))
        scribe = Scribe(universe(), (ours, theirs), ())

        async def hook(number: int, message: Message) -> None:
            if isinstance(message, Nodes | Done):
                await scribe.write(1, "own", number)

        talk = await converse(ours, theirs, initiator_of(level_wise), hook=hook)
        assert talk.our_end is talk.their_end is Result.MOVED
        dones = [message for message in talk.said if isinstance(message, Done)]
        assert len(dones) == 2 * ROUNDS_MAX
        assert [done.is_final for done in dones[::2]] == [False] * (ROUNDS_MAX - 1) + [True]

    virtually(main())


def test_writes_on_a_busy_peer_do_not_keep_a_newcomer_from_its_snapshot():
    async def main() -> None:
        ours, theirs = universe().store(()), universe().store(range(200))
        was_there = heads_in(theirs)
        scribe = Scribe(universe(), (ours, theirs), [(number, 1, "own") for number in range(2, 20)])
        talk = await converse(ours, theirs, initiator_of(snapshot), hook=scribe)
        assert talk.our_end is talk.their_end is Result.MOVED
        assert not lacks(ours, was_there)
        assert not set(versions_in(ours)) & {record.id for record in scribe.written[1]}

    virtually(main())
