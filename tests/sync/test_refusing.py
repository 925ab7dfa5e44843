"""Refusals: records of unknown or compromised keys are refused one by one, a forged one with its whole batch."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from echonode.errors import Reason, RemoteError
from echonode.limits import REFUSALS_KEPT, VERIFY_CHUNK
from echonode.model.keys import KeyState
from echonode.model.record import IDENTITIES, MAIN, Record, VersionId
from echonode.store.memory import MemoryStore
from echonode.store.port import RefusedVersion
from echonode.sync.conversation import Conversation, Result, Tally
from echonode.sync.modes import level_wise, snapshot
from echonode.sync.tree_parts import encode_node
from echonode.sync.verify_apply import verify_all
from echonode.wire.messages import (
    Direction,
    Done,
    Fetch,
    LevelWiseInit,
    Nodes,
    Page,
    Put,
    Records,
    Refusal,
    Stored,
)
from tests.sync.talk import (
    AGREEING,
    WALKS,
    converse,
    heads_in,
    initiator_of,
    overheard,
    to_its_end,
    versions_in,
    virtually,
)
from tests.sync.universe import OTHER, root_of, universe

walks = pytest.mark.parametrize("walk", AGREEING.values(), ids=list(AGREEING))


# -- refused one by one ----------------------------------------------------------------------------------------------


def of_third(store: MemoryStore) -> list[Record]:
    third = universe().writers[2].identity.device.public
    return [head for head in heads_in(store) if head.kid == third]


def without_third() -> list[Record]:
    third = universe().writers[2].identity.device.public
    return [one for one in universe().statements if third not in one.body]


@walks
def test_records_of_an_unknown_key_are_refused_by_name_and_the_rest_is_taken(walk):
    async def main() -> None:
        knowing = universe().store(range(300))
        everything = heads_in(knowing)
        unknown = of_third(knowing)
        assert unknown

        ours = MemoryStore(knowing.instance)
        await ours.apply(IDENTITIES, without_third())
        talk = await converse(ours, knowing, walk)
        assert talk.our_end is Result.DIFFERENT
        assert talk.their_end is Result.MOVED  # the responder is not told why; to it the roots still differ
        assert {refused.version for refused in talk.ours.tally.refused} == {record.id for record in unknown}
        assert {refused.reason for refused in talk.ours.tally.refused} == {Reason.UNKNOWN_KEY}
        assert versions_in(ours) == {record.id for record in everything} - {record.id for record in unknown}

        theirs = MemoryStore(knowing.instance)
        await theirs.apply(IDENTITIES, without_third())
        talk = await converse(knowing, theirs, walk)
        assert talk.our_end is talk.their_end is Result.DIFFERENT
        assert talk.ours.tally.refused_there == len(talk.theirs.tally.refused) >= len(unknown)
        refusals = [refusal for said in talk.said if isinstance(said, Stored) for refusal in said.refused]
        assert set(refusals) == {Refusal(record.id, Reason.UNKNOWN_KEY) for record in unknown}
        assert versions_in(theirs) == versions_in(ours)

        await theirs.apply(IDENTITIES, universe().statements)
        assert (await converse(knowing, theirs, walk)).our_end is Result.EQUAL

    virtually(main())


@walks
@pytest.mark.parametrize("direction", [Direction.RECEIVE, Direction.BOTH])
def test_records_of_a_compromised_key_are_refused_by_name_whichever_way_they_come(walk, direction):
    async def main() -> None:
        unaware, aware = universe().store(range(300)), universe().store(range(300))
        one = universe().writers[0]
        revoked = one.states(one.identity.device.public, KeyState.COMPROMISED)
        void = {head.id for head in heads_in(unaware) if head.author == one.id}
        applied = await aware.apply(IDENTITIES, [revoked])
        assert len(applied.voided) >= len(void) > 0
        assert not versions_in(aware) & void

        talk = await converse(aware, unaware, walk, direction=direction)
        assert talk.our_end is Result.DIFFERENT
        assert {refused.reason for refused in talk.ours.tally.refused} == {Reason.KEY_REVOKED}
        assert not versions_in(aware) & void

        await unaware.apply(IDENTITIES, [revoked])
        assert (await converse(aware, unaware, walk)).our_end is Result.EQUAL

    virtually(main())


def test_a_push_that_is_refused_is_not_tried_again_in_the_same_conversation():
    async def main() -> None:
        knowing, theirs = universe().store(range(300)), MemoryStore(universe().store(()).instance)
        talk = await converse(knowing, theirs, initiator_of(level_wise), direction=Direction.SEND)
        assert talk.our_end is Result.DIFFERENT
        assert talk.ours.tally.refused_there == talk.ours.tally.sent == len(versions_in(knowing))

    virtually(main())


@pytest.mark.parametrize("walk", WALKS.values(), ids=list(WALKS))
def test_a_walk_of_which_all_was_refused_ends_with_a_second_done_and_no_second_walk(walk):
    async def main() -> None:
        one, _, third = universe().writers[:3]
        knowing, theirs = universe().store(()), MemoryStore(universe().store(()).instance)
        await theirs.apply(IDENTITIES, without_third())
        known = one.record("known to both")
        for store in (knowing, theirs):
            await store.apply(MAIN, [known])
        await knowing.apply(MAIN, [third.record(f"unknown there {number}") for number in range(40)])
        talk = await converse(knowing, theirs, walk)
        assert talk.our_end is Result.DIFFERENT and talk.their_end is Result.DIFFERENT
        assert talk.ours.tally.refused_there == talk.ours.tally.sent == 40
        said = [type(said) for said in talk.said]
        assert [done.is_final for done in talk.said if isinstance(done, Done)] == [False, False, True, True]
        assert {*said[said.index(Done) :]} <= {Done, Stored}

    virtually(main())


@pytest.mark.parametrize("walk", [*AGREEING.values(), initiator_of(snapshot)], ids=[*AGREEING, "snapshot"])
def test_nothing_of_it_is_called_equal_when_a_snapshot_or_walk_was_refused_in_part(walk):
    async def main() -> None:
        ours, theirs = MemoryStore(universe().store(()).instance), universe().store(range(300))
        await ours.apply(IDENTITIES, without_third())
        talk = await converse(ours, theirs, walk)
        assert talk.our_end is Result.DIFFERENT
        assert {refused.version for refused in talk.ours.tally.refused} == {record.id for record in of_third(theirs)}

    virtually(main())


def test_refusals_are_all_counted_and_only_so_many_kept():
    unwanted = RefusedVersion(VersionId(bytes(32)), Reason.NOT_ACCEPTED, "it is not wanted here")
    tally = Tally()
    for _ in range(5):
        tally.refuse([unwanted] * (REFUSALS_KEPT // 2 + 1))
    assert (tally.refused_here, len(tally.refused)) == (5 * (REFUSALS_KEPT // 2 + 1), REFUSALS_KEPT)
    assert not tally.lacks_key
    tally.refuse([replace(unwanted, reason=Reason.UNKNOWN_KEY)])
    assert tally.lacks_key, "whether it was kept or not"


# -- forged ----------------------------------------------------------------------------------------------------------


def flipped(record: Record) -> bytes:
    """Return the same version with a signature that its key did not make."""
    return record.raw[:-1] + bytes((record.raw[-1] ^ 1,))


def bodies() -> dict[str, tuple[bytes, Reason]]:
    """Return records that no honest peer sends in the context `main`, by name: the bytes and the reason."""
    good = universe().versions[MAIN][100]
    foreign = universe().versions[OTHER][0]
    return {
        "bad signature": (flipped(good), Reason.BAD_RECORD),
        "not a record": (b"\xff" * 200, Reason.BAD_RECORD),
        "cut short": (good.raw[:-1], Reason.BAD_RECORD),
        "not canonical inside": (good.raw[:43] + bytes((good.raw[43] ^ 1,)) + good.raw[44:], Reason.BAD_RECORD),
        "another context": (foreign.raw, Reason.FOREIGN_CONTEXT),
    }


@pytest.mark.parametrize("apart", [1, VERIFY_CHUNK], ids=["of one chunk", "of two chunks"])
@pytest.mark.parametrize("first, later", [("bad signature", "another context"), ("another context", "bad signature")])
def test_of_two_versions_with_faults_the_first_decides(first: str, later: str, apart: int) -> None:
    good = [version.raw for version in universe().versions[MAIN][: VERIFY_CHUNK + 20]]
    raw, reason = bodies()[first]
    raws = [*good[:10], raw, *good[10 : 9 + apart], bodies()[later][0], *good[9 + apart :]]
    with pytest.raises(RemoteError) as caught:
        asyncio.run(verify_all(raws, MAIN))
    assert caught.value.reason is reason


forgeries = pytest.mark.parametrize("forgery", list(bodies()))
Liar = Callable[[Conversation], Awaitable[Result]]


async def against(victim: Awaitable[Result], talk, liar: Awaitable[Result]) -> RemoteError:
    """Run both sides and return the error of `victim`, which must end."""
    ends = await asyncio.gather(to_its_end(talk.ours, victim), to_its_end(talk.theirs, liar))
    assert isinstance(ends[0], RemoteError), ends
    return ends[0]


@forgeries
def test_a_forged_record_in_an_answer_ends_the_session_and_nothing_of_its_batch_is_stored(forgery):
    raw, reason = bodies()[forgery]

    async def main() -> None:
        ours, theirs = universe().store(()), universe().store(range(300))

        async def liar(conversation: Conversation) -> Result:
            transport, tree = conversation.transport, theirs.tree(MAIN)
            while True:
                match await transport.recv():
                    case LevelWiseInit(prefixes=prefixes):
                        await transport.send(Nodes(tree.root, tuple(encode_node(tree, at, 16) for at in prefixes)))
                    case Fetch(wanted):
                        keys = sorted(key for item in wanted for key, _ in tree.leaves_at(item.prefix))
                        raws, _ = await theirs.read(MAIN, keys, bytes_max=1 << 19)
                        await transport.send(Records((*raws, raw), (), False))
                    case other:
                        raise AssertionError(other)

        talk = overheard(ours, theirs)
        error = await against(level_wise.run_initiator(talk.ours), talk, liar(talk.theirs))
        assert error.reason is reason
        assert not versions_in(ours)

    virtually(main())


@forgeries
def test_a_forged_record_in_a_put_ends_the_session_and_nothing_of_its_batch_is_stored(forgery):
    raw, reason = bodies()[forgery]

    async def main() -> None:
        ours, theirs = universe().store(()), universe().store(())

        async def liar(conversation: Conversation) -> Result:
            good = tuple(record.raw for record in universe().some(range(10)))
            await conversation.transport.send(LevelWiseInit((1, 0), MAIN, Direction.BOTH, 16, (b"",)))
            await conversation.transport.recv()
            await conversation.transport.send(Put(good))
            await conversation.transport.recv()
            more = tuple(record.raw for record in universe().some(range(70, 80)))
            await conversation.transport.send(Put((*more, raw)))
            await conversation.transport.recv()
            raise AssertionError("it was answered")

        talk = overheard(ours, theirs)
        init = LevelWiseInit((1, 0), MAIN, Direction.BOTH, 16, (b"",))

        async def victim() -> Result:
            assert await talk.ours.transport.recv() == init
            return await level_wise.run_responder(talk.ours, init)

        error = await against(victim(), talk, liar(talk.theirs))
        assert error.reason is reason
        assert ours.tree(MAIN).root == root_of(universe().some(range(10)))

    virtually(main())


@forgeries
def test_a_forged_record_in_a_snapshot_ends_the_session_and_nothing_is_visible(forgery):
    raw, reason = bodies()[forgery]

    async def main() -> None:
        ours, theirs = universe().store(()), universe().store(range(300))

        async def liar(conversation: Conversation) -> Result:
            await conversation.transport.recv()
            records = sorted(heads_in(theirs), key=lambda head: (head.key, head.id))
            state = (theirs.tree(MAIN).root, len(records), 1, bytes(8))
            await conversation.transport.send(Page(state, tuple(record.raw for record in records[:50]), False))
            await conversation.transport.send(Page(None, (*[record.raw for record in records[50:]], raw), True))
            return Result.MOVED

        talk = overheard(ours, theirs)
        error = await against(snapshot.run_initiator(talk.ours), talk, liar(talk.theirs))
        assert error.reason is reason
        assert not versions_in(ours)
        assert len(ours.tree(MAIN)) == 0

    virtually(main())
