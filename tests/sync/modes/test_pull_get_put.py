"""`pull`, `get` and `put`: list a peer's records, fetch some of them, and offer some of ours."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echonode.errors import Reason, RemoteError
from echonode.limits import BATCH_RECORDS_MAX, PULL_SCAN_MAX
from echonode.model.filter import Filter
from echonode.model.record import IDENTITIES, MAIN, Draft, LeafKey, Record, leaf_key
from echonode.store.memory import MemoryStore
from echonode.sync.conversation import Conversation, Result
from echonode.sync.modes import get, pull, put
from echonode.sync.modes.put import Outcome
from echonode.wire import messages as m
from tests.sync.talk import Talk, converse, heads_in, versions_in, virtually
from tests.sync.test_liars import lie_to_initiator, lie_to_responder
from tests.sync.universe import two_holdings, universe

ONE, TWO, _ = universe().writers


async def pulled(conversation: Conversation, *, wanted: Filter | None = None, after: int = 0, limit: int = 10**6):
    return await pull.run_initiator(conversation, pull.IdQuery(wanted or Filter(), after, limit))


async def got(conversation: Conversation, *, wanted: list[m.RecordRequest]):
    return await get.run_initiator(conversation, wanted)


async def offered(conversation: Conversation, *, keys: list[LeafKey]):
    return await put.run_initiator(conversation, keys)


def lied(end: object) -> bool:
    return isinstance(end, RemoteError) and end.reason is Reason.PROTOCOL_ERROR


async def _put(store: MemoryStore, *records: Record) -> None:
    applied = await store.apply(MAIN, records)
    assert not applied.refused


def many(count: int, start: int = 0) -> list[Record]:
    return [ONE.record(f"many-{number:06}") for number in range(start, start + count)]


def told_no_more(talk: Talk) -> bool:
    """Return True when the responder served the conversation to its end."""
    return talk.their_end is Result.ANSWERED


# -- pull --------------------------------------------------------------------------------------------------------------
@given(held=st.frozensets(st.integers(0, 250)), name=st.sampled_from(["", "main-1*", "crowd-*", "none"]))
@settings(max_examples=20)
def test_a_pull_lists_what_the_filter_takes_in_log_order_and_moves_nothing(held: frozenset[int], name: str):
    async def main() -> None:
        theirs, ours = universe().store(held), universe().store(())
        talk = await converse(ours, theirs, pulled, wanted=Filter(name=name))
        expected = [record for record in theirs._log.values() if record.context == MAIN]
        taken = [record for record in expected if Filter(name=name).matches(record)]
        assert talk.our_end.ids == tuple(m.RecordId(r.author, r.name, r.id) for r in taken)
        assert talk.our_end.is_last and told_no_more(talk)
        assert not versions_in(ours)

    virtually(main())


def test_a_pull_goes_on_where_the_last_one_ended():
    async def main() -> None:
        theirs, ours = universe().store(()), universe().store(())
        await _put(theirs, *many(10))
        talk = await converse(ours, theirs, pulled)
        await _put(theirs, *many(3, start=10))
        talk = await converse(ours, theirs, pulled, after=talk.our_end.after)
        assert [one.name for one in talk.our_end.ids] == [record.name for record in many(3, start=10)]
        talk = await converse(ours, theirs, pulled, after=talk.our_end.after)
        assert (talk.our_end.ids, talk.our_end.is_last) == ((), True)

    virtually(main())


def test_a_pull_takes_whole_pages_until_it_has_enough():
    async def main() -> None:
        theirs, ours = universe().store(()), universe().store(())
        await _put(theirs, *many(2 * BATCH_RECORDS_MAX + 5))
        talk = await converse(ours, theirs, pulled, limit=1)
        assert (len(talk.our_end.ids), talk.our_end.is_last) == (BATCH_RECORDS_MAX, False)
        talk = await converse(ours, theirs, pulled, limit=10**6)
        assert (len(talk.our_end.ids), talk.our_end.is_last) == (2 * BATCH_RECORDS_MAX + 5, True)

    virtually(main())


def test_a_page_looks_through_a_bounded_piece_of_the_log():
    async def main() -> None:
        theirs, ours = universe().store(()), universe().store(())
        count = PULL_SCAN_MAX * BATCH_RECORDS_MAX + 1
        await _put(theirs, *many(count))
        talk = await converse(ours, theirs, pulled, wanted=Filter(name=f"many-{count - 1:06}"))
        pages = [message for message in talk.said if isinstance(message, m.Ids)]
        assert [len(page.ids) for page in pages] == [0, 1]
        assert len(talk.our_end.ids) == 1

    virtually(main())


@pytest.mark.parametrize(
    "page", [m.Ids((), 5, False), m.Ids((), 4, True), m.Ids((), 0, False)], ids=["stands", "goes back", "at the start"]
)
def test_a_page_that_leads_nowhere_is_refused(page: m.Ids):
    async def main() -> None:
        async def liar(transport, message):
            await transport.send(page)

        assert lied((await lie_to_initiator(universe().store(()), pulled, liar, after=5)).our_end)

    virtually(main())


# -- get ---------------------------------------------------------------------------------------------------------------
@given(held=two_holdings(), data=st.data())
@settings(max_examples=20)
def test_a_get_brings_what_is_named_and_there_and_nothing_else(held, data):
    async def main() -> None:
        ours, theirs = (universe().store(numbers) for numbers in held)
        before = heads_in(ours)
        there = {}
        for head in heads_in(theirs):
            there.setdefault(head.key, []).append(head.id)
        named = data.draw(st.sets(st.sampled_from(sorted(there)), max_size=5) if there else st.just(set()))
        wanted = [m.RecordRequest(key, data.draw(st.sampled_from([None, *there[key]]))) for key in sorted(named)]
        wanted.append(m.RecordRequest(leaf_key(ONE.id, "not there"), None))
        talk = await converse(ours, theirs, got, wanted=wanted)
        expected = {id for one in wanted for id in there.get(one.key, []) if one.version in (None, id)}
        assert talk.our_end.versions.keys() == expected
        assert talk.our_end.refused == {} and told_no_more(talk)
        fetched = [head for head in heads_in(theirs) if head.id in expected]
        await (merged := MemoryStore(ours.instance)).apply(IDENTITIES, universe().statements)
        await merged.apply(MAIN, [*before, *fetched])
        assert versions_in(ours) == versions_in(merged)

    virtually(main())


def test_a_get_of_more_than_a_message_holds_asks_several_times_and_the_first_time_alone():
    async def main() -> None:
        theirs, ours = universe().store(()), universe().store(())
        records = many(3 * BATCH_RECORDS_MAX)
        await _put(theirs, *records)
        talk = await converse(ours, theirs, got, wanted=[m.RecordRequest(record.key, record.id) for record in records])
        assert len(talk.our_end.versions) == len(records) == len(versions_in(ours))
        kinds = [type(message) for message in talk.said]
        assert kinds[0] is m.GetInit and kinds[1] is m.Records
        assert kinds.count(m.GetMore) == 2

    virtually(main())


def test_one_record_named_twice_comes_once_and_whole_where_it_is_named_whole():
    async def main() -> None:
        theirs, ours = universe().store(()), universe().store(())
        one = ONE.record("a", author=universe().pool)
        two = TWO.record("a", author=universe().pool)
        await _put(theirs, one, two)
        for named, expected in (
            ([one.id, one.id], {one.id}),
            ([one.id, two.id], {one.id, two.id}),
            ([one.id, None], {one.id, two.id}),
            ([None, one.id], {one.id, two.id}),
        ):
            talk = await converse(ours, theirs, got, wanted=[m.RecordRequest(one.key, version) for version in named])
            assert talk.our_end.versions == dict.fromkeys(expected, one.key)

    virtually(main())


def test_a_version_that_cannot_be_kept_is_reported_with_the_reason():
    async def main() -> None:
        theirs, ours = universe().store(()), universe().store((), knows=[])
        record = ONE.record("a")
        await _put(theirs, record)
        talk = await converse(ours, theirs, got, wanted=[m.RecordRequest(record.key, None)])
        assert talk.our_end.refused == {record.id: Reason.UNKNOWN_KEY}

    virtually(main())


def test_a_version_of_another_record_than_was_named_is_refused():
    async def main() -> None:
        record, other = ONE.record("a"), ONE.record("b")

        async def liar(transport, message):
            await transport.send(m.Records((other.raw,), (), False))

        wanted = [m.RecordRequest(record.key, None)]
        assert lied((await lie_to_initiator(universe().store(()), got, liar, wanted=wanted)).our_end)

    virtually(main())


# -- put ---------------------------------------------------------------------------------------------------------------
def test_of_every_version_offered_it_is_said_what_became_of_it():
    async def main() -> None:
        pool = universe().pool
        new, had, unwanted = ONE.record("new"), ONE.record("had"), ONE.record("unwanted")
        stale = ONE.record("stale", author=pool)
        newer = TWO.record("stale", stale, author=pool, body=b"newer")
        contested = ONE.record("contested", author=pool)
        rival = TWO.record("contested", author=pool)
        shared, beside = ONE.record("beside", author=pool), TWO.record("beside", author=pool)
        later = ONE.record("later", author=pool)
        covering = ONE.record("later", later, author=pool, body=b"covering")
        ours, theirs = universe().store(()), universe().store(())
        await _put(ours, new, had, unwanted, stale, contested, shared, beside, covering)
        await _put(theirs, had, newer, rival, shared, later)
        talk = await converse(
            ours,
            theirs,
            offered,
            keys=[record.key for record in (new, had, unwanted, stale, contested, shared, covering)],
            wants_there=lambda record: record.name != "unwanted",
        )
        assert {(answer.version, answer.outcome, answer.reason) for answer in talk.our_end} == {
            (new.id, Outcome.STORED, None),
            (had.id, Outcome.HAD, None),
            (unwanted.id, Outcome.REFUSED, Reason.NOT_ACCEPTED),
            (stale.id, Outcome.STALE, None),
            (contested.id, Outcome.STORED, None),
            (shared.id, Outcome.HAD, None),
            (beside.id, Outcome.STORED, None),
            (covering.id, Outcome.STORED, None),
        }
        both = {new.id, had.id, newer.id, contested.id, rival.id, shared.id, beside.id, covering.id}
        assert versions_in(theirs) == both
        assert versions_in(ours) == both | {unwanted.id}
        assert told_no_more(talk)

    virtually(main())


def test_an_offer_of_what_is_there_moves_no_record():
    async def main() -> None:
        ours, theirs = universe().store(range(100)), universe().store(range(100))
        talk = await converse(ours, theirs, offered, keys=[head.key for head in heads_in(ours)])
        assert {answer.outcome for answer in talk.our_end} == {Outcome.HAD}
        assert talk.moved == ()

    virtually(main())


def test_an_offer_of_more_than_a_message_holds_goes_page_by_page():
    async def main() -> None:
        ours, theirs = universe().store(()), universe().store(())
        await _put(ours, *many(2 * BATCH_RECORDS_MAX + 1))
        talk = await converse(ours, theirs, offered, keys=[head.key for head in heads_in(ours)])
        assert len(talk.our_end) == 2 * BATCH_RECORDS_MAX + 1
        assert {answer.outcome for answer in talk.our_end} == {Outcome.STORED}
        assert [type(message) for message in talk.said][:2] == [m.PutInit, m.Heads]
        assert sum(isinstance(message, m.Offers) for message in talk.said) == 2
        assert versions_in(ours) == versions_in(theirs)

    virtually(main())


def test_a_reason_that_is_not_known_counts_as_an_error_of_the_protocol():
    async def main() -> None:
        record = ONE.record("a")
        ours = universe().store(())
        await _put(ours, record)

        async def liar(transport, message):
            match message:
                case m.PutInit():
                    await transport.send(m.Heads((0,), (), False))
                case m.Put():
                    await transport.send(m.Stored(0, 0, (m.Refusal(record.id, 200),)))
                case m.Done():
                    await transport.send(message)

        (answer,) = (await lie_to_initiator(ours, offered, liar, keys=[record.key])).our_end
        assert (answer.outcome, answer.reason) == (Outcome.REFUSED, Reason.PROTOCOL_ERROR)

    virtually(main())


# -- all of them -------------------------------------------------------------------------------------------------------
OPENINGS = [
    m.PullInit((1, 0), MAIN, {}, 0),
    m.GetInit((1, 0), MAIN, (m.RecordRequest(bytes(32), None),)),
    m.PutInit((1, 0), MAIN, ((bytes([1]) * 32, bytes(16)),)),
]


@pytest.mark.parametrize("opening", OPENINGS, ids=lambda opening: type(opening).__name__)
def test_a_message_that_has_no_place_ends_it(opening: m.Message):
    async def main() -> None:
        for message in (m.NodesRequest((b"",)), m.Want((bytes(32),)), opening):
            assert lied((await lie_to_responder(universe().store(range(9)), opening, message)).their_end)

    virtually(main())


def test_what_is_asked_of_a_context_that_is_not_there_is_not_there():
    async def main() -> None:
        ours, theirs = universe().store(()), universe().store(())
        record = ONE.version(Draft(context="elsewhere", author=ONE.id, name="a"))
        await ours.apply("elsewhere", [record])
        talk = await converse(ours, theirs, pulled, context="elsewhere")
        assert (talk.our_end.ids, talk.our_end.is_last) == ((), True)
        talk = await converse(ours, theirs, got, context="elsewhere", wanted=[m.RecordRequest(record.key, None)])
        assert talk.our_end.versions == {}
        talk = await converse(ours, theirs, offered, context="elsewhere", keys=[record.key])
        assert [answer.outcome for answer in talk.our_end] == [Outcome.STORED]
        assert theirs.contexts() == (IDENTITIES, "elsewhere")

    virtually(main())
