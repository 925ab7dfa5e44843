"""Many records and large ones: paging with `rest`, answers of several messages, and the round trips they cost."""

from itertools import pairwise

import pytest

from echonode.limits import (
    BATCH_BYTES_MAX,
    BATCH_RECORDS_MAX,
    BODY_BYTES_MAX,
    FRAME_BYTES_MAX,
    KIB,
    RECORD_BYTES_MAX,
    WINDOW,
)
from echonode.model.merkle import Tree
from echonode.model.record import MAIN
from echonode.store.memory import MemoryStore
from echonode.sync.conversation import Result, Tally
from echonode.sync.modes import hash_comparison, level_wise, snapshot
from echonode.sync.record_batches import batches
from echonode.wire.codec import encode
from echonode.wire.messages import Credit, Direction, Fetch, Nodes, NodesRequest, Page, Put, Records
from tests.sync.talk import WALKS, converse, heads_in, initiator_of, versions_in, virtually
from tests.sync.universe import Universe, at_once, universe

walks = pytest.mark.parametrize("walk", WALKS.values(), ids=list(WALKS))
every_mode = pytest.mark.parametrize("opener", [*WALKS.values(), initiator_of(snapshot)], ids=[*WALKS, "snapshot"])
MANY = 5000


class Library:
    """Many small records of one author, made once."""

    def __init__(self, count: int) -> None:
        one = universe().writers[0]
        self.records = [one.record(f"book-{number}", body=b"x" * 20) for number in range(count)]

    def store(self, first: int = 0, last: int | None = None) -> MemoryStore:
        store = universe().store(())
        at_once(store.apply(MAIN, self.records[first:last]))
        return store


@pytest.fixture(scope="module")
def library() -> Library:
    return Library(MANY)


@every_mode
def test_five_thousand_records_into_an_empty_store(library, opener):
    ours, theirs = library.store(0, 0), library.store()

    async def main() -> None:
        talk = await converse(ours, theirs, opener)
        assert talk.our_end is talk.their_end is Result.EQUAL
        assert len(versions_in(ours)) == talk.ours.tally.received == talk.theirs.tally.sent == MANY
        carried = [said for said in talk.said if isinstance(said, Records | Page)]
        assert all(0 < len(one.records) <= BATCH_RECORDS_MAX for one in carried)
        assert all(sum(map(len, one.records)) <= BATCH_BYTES_MAX for one in carried)

    virtually(main())


@walks
def test_five_thousand_records_to_an_empty_store(library, walk):
    ours, theirs = library.store(), library.store(0, 0)

    async def main() -> None:
        talk = await converse(ours, theirs, walk, direction=Direction.SEND)
        assert talk.our_end is Result.EQUAL
        assert len(versions_in(theirs)) == talk.ours.tally.sent == talk.theirs.tally.received == MANY
        assert max(len(said.records) for said in talk.said if isinstance(said, Put)) <= BATCH_RECORDS_MAX

    virtually(main())


@walks
def test_whole_subtrees_of_more_than_a_batch_are_fetched_page_by_page(library, walk):
    # We lack one first-level subtree: that one is fetched whole, and nothing else.
    ours, theirs = universe().store(()), library.store()
    lacking = {head.id for head in library.records if head.key[0] >> 4 == 7}
    kept = [head for head in library.records if head.id not in lacking]
    at_once(ours.apply(MAIN, kept))

    async def main() -> None:
        talk = await converse(ours, theirs, walk)
        assert talk.our_end is Result.EQUAL
        assert talk.ours.tally.received == len(lacking)
        assert talk.ours.tally.had == 0
        wanted = [item for said in talk.said if isinstance(said, Fetch) for item in said.wanted]
        assert [item.prefix for item in wanted if item.leaves is None] == [b"\x07"]

    virtually(main())


def test_a_rest_is_asked_for_from_where_it_begins(library):
    ours, theirs = library.store(0, 1), library.store()

    async def main() -> None:
        talk = await converse(ours, theirs, initiator_of(level_wise), direction=Direction.RECEIVE)
        assert talk.our_end is Result.EQUAL
        rests = [said.rest for said in talk.said if isinstance(said, Records) and said.rest]
        asked = [said.wanted for said in talk.said if isinstance(said, Fetch)]
        assert rests
        assert all(rest in asked for rest in rests)
        assert any(rest[0].after is not None for rest in rests), "a subtree was left in its middle"
        assert talk.ours.tally.received == MANY - 1
        assert talk.ours.tally.had == 0, "nothing came twice"

    virtually(main())


@walks
def test_scattered_differences_cost_little_more_than_themselves(library, walk):
    ours, theirs = library.store(100), library.store(0, -100)

    async def main() -> None:
        talk = await converse(ours, theirs, walk)
        assert talk.our_end is Result.EQUAL
        assert (talk.ours.tally.received, talk.ours.tally.sent) == (100, 100)
        carried = sum(len(said.records) for said in talk.said if isinstance(said, Records | Put))
        assert carried == 200

    virtually(main())


def test_small_subtrees_that_only_we_have_are_offered_together(library):
    # A few hundred of thousands, scattered: most of them are alone below some prefix.
    ours, theirs = library.store(), library.store(0, -300)

    async def main() -> None:
        talk = await converse(ours, theirs, initiator_of(level_wise))
        assert talk.our_end is Result.EQUAL
        assert any(len(said.prefixes) > 100 for said in talk.said if isinstance(said, NodesRequest))
        assert [len(said.records) for said in talk.said if isinstance(said, Put)] == [300]

    virtually(main())


# -- large records ---------------------------------------------------------------------------------------------------


def heavy_heads(world: Universe, leaves: int = 1) -> MemoryStore:
    """Return a store in which three writers wrote the same pool records concurrently, as large as they may be."""
    store = world.store(())
    for number in range(leaves):
        for writer in world.writers:
            body = writer.identity.device.public * (BODY_BYTES_MAX // 32)
            at_once(store.apply(MAIN, [writer.record(f"heavy-{number}", author=world.pool, body=body)]))
            more = writer.record(f"heavy-{number}", author=world.pool, body=body[:-32] + bytes(32))
            at_once(store.apply(MAIN, [more]))
    return store


@every_mode
def test_heads_of_one_leaf_that_fill_several_messages(opener):
    theirs = heavy_heads(universe())
    heads = heads_in(theirs)
    assert len(theirs.tree(MAIN)) == 1 and sum(len(head.raw) for head in heads) > FRAME_BYTES_MAX // 2

    async def main() -> None:
        ours = universe().store(())
        talk = await converse(ours, theirs, opener)
        assert talk.our_end is talk.their_end is Result.EQUAL
        assert versions_in(ours) == versions_in(theirs)
        carried = [said for said in talk.said if isinstance(said, Records | Page)]
        assert len(carried) > 1
        if isinstance(carried[0], Records):
            assert [one.more for one in carried] == [True] * (len(carried) - 1) + [False]

    virtually(main())


@walks
def test_named_leaves_too_large_for_one_answer_come_in_several(walk):
    # Both have the leaves. Theirs have newer heads, and are named one by one.
    (one, *_), leaves = universe().writers, 24
    older = [one.record(f"named-{number}") for number in range(leaves)]
    newer = [one.record(old.name, old, body=b"x" * (BATCH_BYTES_MAX // 4)) for old in older]
    ours, theirs = universe().store(()), universe().store(())
    at_once(ours.apply(MAIN, older))
    at_once(theirs.apply(MAIN, newer))

    async def main() -> None:
        talk = await converse(ours, theirs, walk, direction=Direction.RECEIVE)
        assert talk.our_end is Result.EQUAL
        assert talk.ours.tally.received == leaves
        rests = [said.rest[0] for said in talk.said if isinstance(said, Records) and said.rest]
        assert rests and all(rest.leaves is not None for rest in rests)

    virtually(main())


@walks
def test_large_heads_are_pushed_in_messages_that_fit(walk):
    ours, theirs = heavy_heads(universe(), leaves=3), universe().store(())

    async def main() -> None:
        talk = await converse(ours, theirs, walk)
        assert talk.our_end is talk.their_end is Result.EQUAL
        puts = [said for said in talk.said if isinstance(said, Put)]
        assert len(puts) > 1
        assert max(len(encode(put)) for put in puts) <= FRAME_BYTES_MAX

    virtually(main())


def test_batches_are_as_full_as_fits_and_keep_the_order():
    sizes = [1, BATCH_BYTES_MAX, 1, 1, RECORD_BYTES_MAX, RECORD_BYTES_MAX, RECORD_BYTES_MAX] + [1] * (
        2 * BATCH_RECORDS_MAX + 1
    )
    raws = [number.to_bytes(2, "big") + bytes(size) for number, size in enumerate(sizes)]
    found = list(batches(raws))
    assert [raw for batch in found for raw in batch] == raws
    for batch, following in pairwise(found):
        size = sum(map(len, batch))
        assert len(batch) == 1 or size <= BATCH_BYTES_MAX
        assert len(batch) == BATCH_RECORDS_MAX or size + len(following[0]) > BATCH_BYTES_MAX
    assert list(batches([])) == []


# -- round trips -----------------------------------------------------------------------------------------------------


def test_requests_in_flight_together_count_as_one_round_trip():
    tally = Tally()
    for _ in range(3):
        tally.ask()
    for _ in range(3):
        tally.answered()
    assert tally.round_trips == 1
    tally.ask()
    tally.answered()
    assert tally.round_trips == 2
    tally.ask()
    tally.ask()
    tally.answered()
    tally.ask()  # because of that answer
    tally.answered()
    tally.answered()
    assert tally.round_trips == 4
    tally.ask()
    tally.forget_asked()
    tally.ask()
    tally.answered()
    assert tally.round_trips == 5


def test_equal_stores_take_two_round_trips(library):
    async def main() -> None:
        for walk in WALKS.values():
            talk = await converse(library_pair[0], library_pair[1], walk)
            assert talk.ours.tally.round_trips == 2
            assert talk.theirs.tally.round_trips == 0
            assert len(talk.said) == 4

    library_pair = library.store(), library.store()
    virtually(main())


def test_one_difference_takes_a_round_trip_a_level_then_one_for_the_record_and_one_to_agree(library):
    one = universe().writers[0]

    async def main() -> None:
        for walk, levels in ((initiator_of(level_wise), depth_of(theirs.tree(MAIN), new.key)), *COMPARED):
            ours = library.store()
            talk = await converse(ours, theirs, walk)
            assert talk.our_end is Result.EQUAL
            assert talk.ours.tally.round_trips <= levels + 2
            assert talk.ours.tally.received == 1

    theirs = library.store()
    new = one.record("the only one")
    at_once(theirs.apply(MAIN, [new]))
    virtually(main())


def depth_of(tree: Tree, key: bytes) -> int:
    """Return the number of tree levels down to the bucket that holds `key`, the bucket included."""
    digits = [int(digit, 16) for digit in key.hex()]
    return next(depth + 1 for depth in range(64) if tree.count_at(bytes(digits[:depth])) <= 16)


# 5,000 leaves: the second level has about 20 below each, which come whole.
COMPARED = [(walk, 2) for name, walk in WALKS.items() if not name.endswith(" 1") and name != "level_wise"]


def test_what_only_one_side_has_takes_no_round_trip_more_than_a_walk_that_finds_nothing_to_put(library):
    async def main() -> None:
        for walk in WALKS.values():
            ours, theirs = library.store(), library.store()
            await ours.apply(MAIN, [new])
            talk = await converse(ours, theirs, walk)
            assert talk.our_end is talk.their_end is Result.EQUAL
            put = await converse(library.store(), theirs, walk, direction=Direction.BOTH)
            assert put.ours.tally.received == talk.ours.tally.sent == 1
            assert talk.ours.tally.round_trips < put.ours.tally.round_trips

    new = universe().writers[0].record("the only one")
    virtually(main())


def test_a_level_is_one_request_however_many_prefixes_differ(library):
    ours, theirs = library.store(0, MANY // 2), library.store(MANY // 2)

    async def main() -> None:
        talk = await converse(ours, theirs, initiator_of(level_wise))
        assert talk.our_end is Result.EQUAL
        requests = [said for said in talk.said if isinstance(said, NodesRequest)]
        assert len(requests) <= 4
        assert max(len(said.prefixes) for said in requests) > 200

    virtually(main())


def test_a_level_of_more_prefixes_than_fit_a_message_takes_several(monkeypatch):
    monkeypatch.setattr(level_wise, "PREFIXES_PER_MESSAGE_MAX", 16)

    async def main() -> None:
        ours, theirs = library.store(0, 1000), library.store(1000)
        talk = await converse(ours, theirs, initiator_of(level_wise))
        assert talk.our_end is Result.EQUAL
        requests = [said for said in talk.said if isinstance(said, NodesRequest)]
        assert max(len(said.prefixes) for said in requests) == 16
        assert len(requests) > WINDOW
        assert len(requests) == len([said for said in talk.said if isinstance(said, Nodes)]) - 1

    library = Library(2000)
    virtually(main())


def test_a_snapshot_is_sent_a_window_ahead_and_then_a_page_for_each_that_was_staged():
    theirs = heavy_heads(universe(), leaves=4)

    async def main() -> None:
        ours = universe().store(())
        talk = await converse(ours, theirs, initiator_of(snapshot))
        assert talk.our_end is Result.EQUAL
        pages = [said for said in talk.said if isinstance(said, Page)]
        assert len(pages) > WINDOW
        assert len([said for said in talk.said if isinstance(said, Credit)]) == len(pages) - 1
        ahead = 0
        for said in talk.said:
            ahead += isinstance(said, Page) - isinstance(said, Credit)
            assert ahead <= WINDOW
        assert max(len(encode(page)) for page in pages) <= BATCH_BYTES_MAX + KIB

    virtually(main())


def test_depth_saves_round_trips_where_the_tree_is_deep():
    # A crowd below three nibbles, where both have most of it: each request sees `max_depth` levels at once.
    crowd = set(range(70))
    costs = {}

    async def main() -> None:
        for depth in (1, 2, 4):
            ours, theirs = universe().store(crowd - {1}), universe().store(crowd)
            talk = await converse(ours, theirs, initiator_of(hash_comparison), max_depth=depth)
            assert talk.our_end is Result.EQUAL
            costs[depth] = talk.ours.tally.round_trips

    virtually(main())
    assert costs[1] > costs[2] > costs[4]
