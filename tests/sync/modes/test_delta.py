"""`delta`: stores are equal afterwards, also after cuts and writes; and no cursor claims too much."""


import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echonode.errors import Reason, RemoteError, TransportError
from echonode.limits import BATCH_RECORDS_MAX, WINDOW
from echonode.model.identity import IdentityId, Instance
from echonode.model.record import IDENTITIES, MAIN, Record
from echonode.store.memory import MemoryStore
from echonode.store.port import Change, Cursor
from echonode.sync.conversation import Result
from echonode.sync.modes import delta
from echonode.wire import messages as m
from echonode.wire.messages import Direction
from tests.sync.pair import PairedTransport
from tests.sync.talk import Talk, converse, heads_in, initiator_of, lacks, versions_in, virtually
from tests.sync.test_liars import broke_the_protocol, lie_to_initiator, sorted_raws
from tests.sync.test_writing_meanwhile import Scribe, writes
from tests.sync.universe import at_once, root_of, two_holdings, universe

PEER = IdentityId(b"p" * 32)
LIFE = Instance(bytes(8))
numbers = st.frozensets(st.integers(0, len(universe().versions[MAIN]) - 1), max_size=40)
Holdings = tuple[frozenset[int], frozenset[int]]


def follow(store: MemoryStore, peer: MemoryStore, seq: int | None = None) -> None:
    """Note in `store` that it has followed the log of `peer` up to `seq`, or to its end."""
    store.note(Cursor(PEER, LIFE, MAIN, peer.seq(MAIN) if seq is None else seq))


def cursor_of(store: MemoryStore) -> Cursor:
    return store.cursor(PEER, MAIN) or Cursor(PEER, LIFE, MAIN, 0)


def acquainted(before: Holdings, *more: frozenset[int]) -> tuple[MemoryStore, MemoryStore]:
    """Return two stores that were equal and had followed each other, and that have each stored one of `more` since."""
    stores = tuple(universe().store(before[0] | before[1]) for _ in range(2))
    for store, other in (stores, stores[::-1]):
        follow(store, other)
    for store, some in zip(stores, more, strict=True):
        at_once(store.apply(MAIN, universe().some(some)))
    return stores


async def caught_up(ours: MemoryStore, theirs: MemoryStore, direction: Direction = Direction.BOTH, **options) -> Talk:
    opener = initiator_of(delta, cursor=cursor_of(ours), direction=direction)
    followed = theirs.cursor(PEER, MAIN)
    talk = await converse(ours, theirs, opener, followed=None if followed is None else followed.seq, **options)
    for store, conversation in ((ours, talk.ours), (theirs, talk.theirs)):
        if conversation.tally.followed is not None:  # as a node does behind each conversation
            follow(store, ours if store is theirs else theirs, conversation.tally.followed)
    return talk


def tells_the_truth(store: MemoryStore, peer: MemoryStore) -> bool:
    """Return True when `store` holds all that the log of `peer` holds up to the cursor."""
    upto = cursor_of(store).seq
    entries = [record for seq, record in peer._log.items() if seq <= upto and record.context == MAIN]
    return not lacks(store, entries)


@given(before=two_holdings(), ours=numbers, theirs=numbers)
@settings(max_examples=40)
def test_both_end_as_the_merge_of_both_and_again_nothing_moves(before, ours, theirs):
    async def main() -> None:
        here, there = acquainted(before, ours, theirs)
        talk = await caught_up(here, there)
        assert (talk.our_end, talk.their_end) == (Result.EQUAL, Result.EQUAL)
        assert here.tree(MAIN).root == root_of(universe().some(before[0] | before[1] | ours | theirs))
        assert tells_the_truth(here, there) and tells_the_truth(there, here)
        again = await caught_up(here, there)
        assert again.our_end is Result.EQUAL
        assert sum(again.moved) == 0
        back = await caught_up(there, here)
        assert back.our_end is Result.EQUAL
        assert sum(back.moved) == 0

    virtually(main())


@given(before=two_holdings(), ours=numbers, theirs=numbers, cut=st.integers(0, 8))
@settings(max_examples=40)
def test_cut_at_any_message_stores_only_grow_and_the_cursor_that_is_left_leads_on(before, ours, theirs, cut):
    async def main() -> None:
        here, there = acquainted(before, ours, theirs)
        held = heads_in(here), heads_in(there)
        talk = await caught_up(here, there, cut=cut)
        assert talk.our_end is Result.EQUAL or isinstance(talk.our_end, TransportError)
        assert not lacks(here, held[0]) and not lacks(there, held[1])
        assert tells_the_truth(here, there) and tells_the_truth(there, here)
        for one, other in ((there, here), (here, there)):
            assert (await caught_up(one, other)).our_end is Result.EQUAL
        assert here.tree(MAIN).root == root_of(universe().some(before[0] | before[1] | ours | theirs))

    virtually(main())


@given(before=two_holdings(), ours=numbers, theirs=numbers, planned=writes)
@settings(max_examples=40)
def test_writes_meanwhile_are_kept_and_found_from_the_cursor_that_is_left(before, ours, theirs, planned):
    async def main() -> None:
        here, there = acquainted(before, ours, theirs)
        scribe = Scribe(universe(), (here, there), planned)
        talk = await caught_up(here, there, hook=scribe)
        assert talk.our_end in (Result.EQUAL, Result.MOVED)
        assert tells_the_truth(here, there) and tells_the_truth(there, here)
        assert (await caught_up(here, there)).our_end is Result.EQUAL
        assert not lacks(here, [*scribe.written[0], *scribe.written[1]])
        assert versions_in(here) == versions_in(there)

    virtually(main())


@given(before=two_holdings(), ours=numbers, theirs=numbers)
@settings(max_examples=20)
def test_one_way_nothing_moves_the_other_way(before, ours, theirs):
    async def main() -> None:
        here, there = acquainted(before, ours, theirs)
        held = versions_in(here), versions_in(there)
        await caught_up(here, there, Direction.RECEIVE)
        assert versions_in(there) == held[1]
        assert not lacks(here, heads_in(there))
        here, there = acquainted(before, ours, theirs)
        await caught_up(here, there, Direction.SEND)
        assert versions_in(here) == held[0]
        assert not lacks(there, heads_in(here))
        assert tells_the_truth(here, there) and tells_the_truth(there, here)

    virtually(main())


@pytest.mark.parametrize("followed", [None, 10_000], ids=["never", "another life of ours"])
def test_a_peer_that_has_not_followed_us_gets_nothing_and_the_roots_tell(followed):
    async def main() -> None:
        here, there = universe().store(range(50)), universe().store(range(40))
        follow(here, there)
        await there.apply(MAIN, universe().some({60}))
        talk = await converse(
            here, there, initiator_of(delta, cursor=cursor_of(here)), followed=followed
        )
        assert talk.our_end is Result.DIFFERENT
        assert (talk.ours.tally.received, talk.ours.tally.sent) == (1, 0)

    virtually(main())


def many(count: int) -> list[Record]:
    writer = universe().writers[0]
    return [writer.record(f"many-{number}") for number in range(count)]


def test_a_long_log_comes_in_messages_under_credit_and_leaves_no_more_than_a_window_in_flight():
    async def main() -> None:
        here, there = acquainted((frozenset(), frozenset()), frozenset(), frozenset())
        await there.apply(MAIN, many(7 * BATCH_RECORDS_MAX))
        talk = await caught_up(here, there)
        assert talk.our_end is Result.EQUAL
        sizes = [len(message.records) for message in talk.said if isinstance(message, m.Changes)]
        assert sizes[:4] == [BATCH_RECORDS_MAX] * 4
        assert sum(sizes) == 7 * BATCH_RECORDS_MAX
        assert sizes == sorted(sizes, reverse=True), "the end is told in small parts"
        credit = WINDOW
        for message in talk.said:
            credit += isinstance(message, m.Credit) - isinstance(message, m.Changes)
            assert credit >= 0

    virtually(main())


class Unread(MemoryStore):
    """A store whose log nobody may read."""

    async def changes(self, context: str, after: int, *, records_max: int, bytes_max: int) -> tuple[list[Change], int]:
        raise AssertionError("its log is read")


@pytest.mark.parametrize("is_written", [False, True])
def test_a_log_in_which_all_that_is_new_came_from_the_peer_is_not_read(is_written):
    async def main() -> None:
        here, there = acquainted((frozenset(range(20)), frozenset()), frozenset(), frozenset())
        await there.apply(MAIN, many(600))
        if is_written:
            await here.apply(MAIN, [universe().writers[1].record("ours")])
        vars(unread := Unread(here.instance)).update(vars(here))
        if is_written:
            with pytest.raises(AssertionError):
                await caught_up(unread, there)
        else:
            talk = await caught_up(unread, there)
            assert (talk.our_end, talk.their_end) == (Result.EQUAL, Result.EQUAL)
            assert talk.ours.tally.received == 600

    virtually(main())


def test_who_is_too_far_behind_goes_on_in_the_next_conversation(monkeypatch):
    monkeypatch.setattr(delta, "DELTA_RECORDS_MAX", 1500)

    async def main() -> None:
        here, there = acquainted((frozenset(), frozenset()), frozenset(), frozenset())
        await there.apply(MAIN, many(4000))
        ends = [(await caught_up(here, there)).our_end for _ in range(3)]
        assert ends == [Result.MOVED, Result.MOVED, Result.EQUAL]

    virtually(main())


def test_an_unknown_key_holds_the_cursor_up_until_its_statement_is_there():
    async def main() -> None:
        here = universe().store((), knows=universe().statements[:1])
        there = universe().store(())
        follow(here, there)
        one, two = universe().writers[:2]
        for writer, name in ((one, "a"), (two, "b"), (one, "c")):
            await there.apply(MAIN, [writer.record(name)])
        talk = await caught_up(here, there)
        assert talk.our_end is Result.DIFFERENT
        assert [refused.reason for refused in talk.ours.tally.refused] == [Reason.UNKNOWN_KEY]
        assert tells_the_truth(here, there)
        assert cursor_of(here).seq < there.seq(MAIN)
        await here.apply(IDENTITIES, universe().statements)
        assert (await caught_up(here, there)).our_end is Result.EQUAL

    virtually(main())


def test_a_gap_in_the_first_changes_holds_the_cursor_through_all_later_ones():
    async def main() -> None:
        here = universe().store((), knows=universe().statements[:1])
        there = universe().store(())
        follow(here, there)
        known, stranger = universe().writers[:2]
        await there.apply(MAIN, [stranger.record("unknown")])
        for number in range(3):
            records = [known.record(f"page-{number}-{each}") for each in range(1000)]
            await there.apply(MAIN, records)
        before = cursor_of(here).seq
        talk = await caught_up(here, there)
        assert talk.our_end is Result.DIFFERENT
        assert talk.ours.tally.received == 3000, "the rest is taken"
        assert cursor_of(here).seq == before, "and nothing is vouched for"

    virtually(main())


# -- liars -----------------------------------------------------------------------------------------------------------


def told(*said: m.Message):
    async def liar(transport: PairedTransport, message: m.Message) -> None:
        if isinstance(message, m.DeltaInit):
            for each in said:
                await transport.send(each)

    return liar


RAWS = sorted_raws(universe().store(range(150, 250)))
BAD = {
    "a seq that goes back": [m.Changes(50, RAWS[:5], False, None), m.Changes(49, RAWS[5:6], True, None)],
    "a seq before the cursor": [m.Changes(2, (), True, None)],
    "more records than seqs": [m.Changes(10, RAWS[:20], True, None)],
    "nothing and more to come": [m.Changes(10, (), False, None)],
    "the same again": [m.Changes(50, RAWS[:5], False, None), m.Changes(90, RAWS[4:6], True, None)],
    "the same twice at once": [m.Changes(50, RAWS[:2] * 2, True, None)],
    "something else": [m.Records((), (), False)],
    "done at once": [m.Done(bytes(32), 0, 0, True)],
}


@pytest.mark.parametrize("said", BAD.values(), ids=list(BAD))
def test_changes_that_no_log_holds_end_the_session(said):
    async def main() -> None:
        ours = universe().store(range(100))
        before = heads_in(ours)
        opener = initiator_of(delta, cursor=Cursor(PEER, LIFE, MAIN, 3))
        talk = await lie_to_initiator(ours, opener, told(*said))
        assert broke_the_protocol(talk.our_end), talk.our_end
        assert not lacks(ours, before)

    virtually(main())


def test_changes_without_end_are_given_up(monkeypatch):
    monkeypatch.setattr(delta, "DELTA_RECORDS_MAX", 60)
    writer, seq = universe().writers[0], 3

    async def liar(transport: PairedTransport, _: m.Message) -> None:
        nonlocal seq
        seq += 10
        records = tuple(writer.record(f"endless-{seq + number}").raw for number in range(10))
        await transport.send(m.Changes(seq, records, False, None))

    async def main() -> None:
        opener = initiator_of(delta, cursor=Cursor(PEER, LIFE, MAIN, 3))
        talk = await lie_to_initiator(universe().store(()), opener, liar)
        assert isinstance(talk.our_end, RemoteError)
        assert len(talk.said) < 20

    virtually(main())


def test_a_root_that_is_claimed_and_not_held_is_never_called_equal():
    async def liar(transport: PairedTransport, message: m.Message) -> None:
        match message:
            case m.DeltaInit():
                await transport.send(m.Changes(5, RAWS[:1], True, None))
            case m.Done():
                await transport.send(m.Done(bytes(range(32)), 1, 5, True))

    async def main() -> None:
        opener = initiator_of(delta, cursor=Cursor(PEER, LIFE, MAIN, 3))
        talk = await lie_to_initiator(universe().store(range(100)), opener, liar)
        assert talk.our_end is Result.DIFFERENT
        assert talk.ours.tally.followed is None

    virtually(main())
