"""`reconcile`: filtered sets become equal, records that are held are followed, and a peer gains nothing by lies."""

import asyncio
from collections.abc import Collection

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echonode.errors import PeerRefused, Reason, RemoteError, StoreError, TransportError
from echonode.limits import FILTERED_SETS_MAX, NEGENTROPY_MESSAGES_MAX, ROUNDS_MAX
from echonode.model.filter import Filter
from echonode.model.keys import KeyState
from echonode.model.record import IDENTITIES, MAIN, Draft, Record, VersionId
from echonode.store.memory import MemoryStore
from echonode.sync.conversation import Result
from echonode.sync.filtered_set import FilteredSets, FilteredSetsFullError, id_list_digest
from echonode.sync.modes import reconcile
from echonode.sync.work import free
from echonode.wire import messages as m
from echonode.wire.messages import Direction
from echonode.wire.negentropy import Negentropy
from tests.sync.pair import PairedTransport
from tests.sync.talk import AGREEING, converse, heads_in, initiator_of, lacks, versions_in, virtually
from tests.sync.test_liars import lie_to_initiator, lie_to_responder
from tests.sync.universe import naive_merge, two_holdings, universe

reconciled = initiator_of(reconcile)

Holdings = tuple[frozenset[int], frozenset[int]]
ONE, TWO, THREE = universe().writers

# Filters that take all versions of a record, or none.
WHOLE_RECORDS = st.sampled_from(
    [
        Filter(),
        Filter(name="main-1*"),
        Filter(name="crowd-*"),
        Filter(name="nothing"),
        Filter(authors=frozenset({ONE.id})),
        Filter(pools=frozenset({universe().pool}), name="main-?"),
        Filter(not_authors=frozenset({ONE.id})),
        Filter(since_ms=2**50),
    ]
)


def taken(records: Collection[Record], wanted: Filter) -> set[bytes]:
    """Return the ids that `wanted` takes of the heads of these versions."""
    heads = {id for ids in naive_merge(records).values() for id in ids}
    return {record.id for record in records if record.id in heads and wanted.matches(record)}


def held(store: MemoryStore, wanted: Filter) -> set[bytes]:
    """Return the ids of all heads of each record of which `wanted` takes one head."""
    keys = {head.key for head in heads_in(store) if wanted.matches(head)}
    return {head.id for head in heads_in(store) if head.key in keys}


def noted(writer, name: str, *tags: str, covers: Collection[Record] = (), body: bytes = b"x") -> Record:
    """Return a version with these tags; without a body it is a tombstone."""
    author = universe().pool
    draft = Draft(context=MAIN, author=author, name=name, tags=tags, body=body, is_tombstone=not body)
    return writer.version(draft, *covers)


NEWS = Filter(tags_any=frozenset({"news"}))


# -- what it does ------------------------------------------------------------------------------------------------------
@given(holdings=two_holdings(), wanted=WHOLE_RECORDS, follows_all=st.booleans())
@settings(max_examples=30)
def test_both_sides_end_with_all_that_the_filter_takes_and_a_second_time_moves_nothing(
    holdings: Holdings, wanted: Filter, follows_all: bool
):
    async def main() -> None:
        ours, theirs = (universe().store(numbers) for numbers in holdings)
        before = {head.key for head in heads_in(ours)}, {head.key for head in heads_in(theirs)}
        all_of_it = taken(universe().some(holdings[0] | holdings[1]), wanted)
        talk = await converse(ours, theirs, reconciled, wanted=wanted, follows_all=follows_all)
        assert talk.our_end is talk.their_end is Result.EQUAL
        assert held(ours, wanted) == held(theirs, wanted) == all_of_it
        # Nothing else came here. There, all that is held here came when it is followed.
        assert all(head.key in before[0] or wanted.matches(head) for head in heads_in(ours))
        if not follows_all:
            assert all(head.key in before[1] or wanted.matches(head) for head in heads_in(theirs))
        else:
            assert before[0] <= {head.key for head in heads_in(theirs)}
        again = await converse(ours, theirs, reconciled, wanted=wanted, follows_all=follows_all)
        assert again.our_end is again.their_end is Result.EQUAL
        assert again.moved == ()

    virtually(main())


@given(holdings=two_holdings(), wanted=WHOLE_RECORDS, cut=st.integers(0, 14), again=st.sampled_from(list(AGREEING)))
@settings(max_examples=30)
def test_cut_at_any_message_stores_only_grow_and_any_mode_goes_on_from_there(
    holdings: Holdings, wanted: Filter, cut: int, again: str
):
    async def main() -> None:
        ours, theirs = (universe().store(numbers) for numbers in holdings)
        before = heads_in(ours), heads_in(theirs)
        talk = await converse(ours, theirs, reconciled, wanted=wanted, follows_all=True, cut=cut)
        assert not lacks(ours, before[0]) and not lacks(theirs, before[1])
        for end in (talk.our_end, talk.their_end):
            assert isinstance(end, TransportError) or end is Result.EQUAL
        await converse(theirs, ours, AGREEING[again])
        merged = universe().some(holdings[0] | holdings[1])
        assert versions_in(ours) == versions_in(theirs) == taken(merged, Filter())

    virtually(main())


@pytest.mark.parametrize("direction", Direction)
@given(holdings=two_holdings(), wanted=WHOLE_RECORDS)
@settings(max_examples=20)
def test_one_way_nothing_is_missing_and_nothing_changes_where_nothing_may(direction, holdings: Holdings, wanted):
    async def main() -> None:
        ours, theirs = (universe().store(numbers) for numbers in holdings)
        before = versions_in(ours), versions_in(theirs)
        talk = await converse(ours, theirs, reconciled, direction=direction, wanted=wanted, follows_all=False)
        assert talk.our_end is Result.EQUAL
        both = taken(universe().some(holdings[0] | holdings[1]), wanted)
        if direction is Direction.SEND:
            assert versions_in(ours) == before[0]
        else:
            assert held(ours, wanted) == both
        if direction is Direction.RECEIVE:
            assert versions_in(theirs) == before[1]
        else:
            assert held(theirs, wanted) == both

    virtually(main())


# -- following what is held --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("covering", ["edited", "deleted"])
@pytest.mark.parametrize("is_held_as_wanted", [True, False])
def test_a_later_version_that_the_filter_does_not_take_is_followed(covering: str, is_held_as_wanted: bool):
    async def main() -> None:
        first = noted(ONE, "a", "news" if is_held_as_wanted else "other")
        later = noted(TWO, "a", covers=[first], body=b"y" if covering == "edited" else b"")
        ours, theirs = universe().store(()), universe().store(())
        await _put(ours, first)
        await _put(theirs, later, noted(ONE, "b", "other"), noted(ONE, "c", "news"))
        talk = await converse(ours, theirs, reconciled, wanted=NEWS, follows_all=True)
        assert talk.our_end is Result.EQUAL
        assert {(head.name, head.tags, head.body) for head in heads_in(ours)} == {
            ("a", (), b"y" if covering == "edited" else b""),
            ("c", ("news",), b"x"),
        }

    virtually(main())


@pytest.mark.parametrize("is_held", ["here", "there"])
def test_the_other_head_of_a_conflict_is_followed_though_the_filter_does_not_take_it(is_held: str):
    async def main() -> None:
        one, two = noted(ONE, "a", "news"), noted(TWO, "a", "other")
        ours, theirs = universe().store(()), universe().store(())
        await _put(ours, one, *([two] if is_held == "here" else []))
        await _put(theirs, one, *([two] if is_held == "there" else []))
        for follows_all in (True, False):
            talk = await converse(ours, theirs, reconciled, wanted=NEWS, follows_all=follows_all)
            assert talk.our_end is Result.EQUAL
            assert versions_in(ours) == versions_in(theirs) == {one.id, two.id}

    virtually(main())


def test_what_is_written_here_goes_there_whether_the_filter_takes_it_or_not():
    async def main() -> None:
        ours, theirs = universe().store(()), universe().store(())
        mine = [noted(ONE, "a", "other"), noted(ONE, "b", "news")]
        await _put(ours, *mine)
        talk = await converse(ours, theirs, reconciled, wanted=NEWS, follows_all=True)
        assert talk.our_end is Result.EQUAL
        assert versions_in(theirs) == {record.id for record in mine}

    virtually(main())


def test_concurrent_versions_of_which_the_filter_takes_one_are_a_conflict_on_both_sides():
    async def main() -> None:
        ours, theirs = universe().store(()), universe().store(())
        one = ONE.record("a", author=universe().pool, body=b"one")
        two = TWO.version(Draft(context=MAIN, author=universe().pool, name="a", tags=("news",), body=b"two"))  # type: ignore[arg-type]
        await _put(ours, one)
        await _put(theirs, two)
        talk = await converse(ours, theirs, reconciled, wanted=NEWS, follows_all=True)
        assert talk.our_end is Result.EQUAL
        assert versions_in(ours) == versions_in(theirs) == {one.id, two.id}

    virtually(main())


def test_a_conflict_comes_whole_where_one_head_is_wanted():
    async def main() -> None:
        one, two = noted(ONE, "a", "news"), noted(TWO, "a", "other")
        ours, theirs = universe().store(()), universe().store(())
        await _put(ours, one, two)
        talk = await converse(ours, theirs, reconciled, wanted=NEWS, wants_there=NEWS.matches)
        assert talk.our_end is talk.their_end is Result.EQUAL
        assert versions_in(theirs) == {one.id, two.id}

    virtually(main())


def test_what_a_conversation_does_not_want_it_refuses_one_by_one_and_says_so():
    async def main() -> None:
        ours, theirs = universe().store(()), universe().store(())
        await _put(ours, noted(ONE, "a", "news"), noted(ONE, "b", "other"))
        talk = await converse(ours, theirs, reconciled, hook=None, wants_there=NEWS.matches)
        assert talk.our_end is talk.their_end is Result.DIFFERENT
        assert {head.name for head in heads_in(theirs)} == {"a"}
        (refused,) = talk.theirs.tally.refused
        assert refused.reason is Reason.NOT_ACCEPTED
        assert talk.ours.tally.refused_there == 1

    virtually(main())


async def _put(store: MemoryStore, *records: Record) -> None:
    applied = await store.apply(MAIN, records)
    assert not applied.refused


@pytest.mark.parametrize("direction", [Direction.BOTH, Direction.SEND])
def test_what_comes_stale_is_answered_with_what_superseded_it_even_if_the_filter_takes_none_of_it(direction):
    async def main() -> None:
        old = noted(ONE, "a", "news")
        new = noted(TWO, "a", covers=[old])  # the tag is dropped, so the filter does not take it
        ours, theirs = universe().store(()), universe().store(())
        for store in (ours, theirs):
            await store.apply(IDENTITIES, universe().statements)
        await _put(ours, old, new)
        await _put(theirs, old)
        talk = await converse(ours, theirs, reconciled, wanted=NEWS, direction=direction)
        if direction is Direction.BOTH:
            assert talk.our_end is talk.their_end is Result.EQUAL
            assert versions_in(theirs) == versions_in(ours) == {new.id}

    virtually(main())


# -- the survey --------------------------------------------------------------------------------------------------------
@given(holdings=two_holdings(), wanted=WHOLE_RECORDS | st.just(NEWS))
@settings(max_examples=20)
def test_a_survey_that_is_refreshed_is_one_that_is_taken_anew(holdings: Holdings, wanted: Filter):
    async def main() -> None:
        store = universe().store(holdings[0])
        survey = await FilteredSets().of(store, MAIN, wanted)
        assert survey.ids() == held(store, wanted)
        await store.apply(MAIN, universe().some(holdings[1]))
        await survey.refresh()
        assert survey.ids() == held(store, wanted)
        assert await survey.digest() == id_list_digest(held(store, wanted))
        assert len(survey) == len(survey.items()) == len(held(store, wanted))
        assert all(survey.keys_of(head.id) == [head.key] for head in heads_in(store) if wanted.matches(head))
        assert survey.keys_of(bytes(32)) == []
        wanted_keys = {head.key for head in heads_in(store) if wanted.matches(head)}
        assert survey.others() == {head.key for head in heads_in(store)} - wanted_keys

    virtually(main())


def test_a_survey_notices_what_a_compromised_key_takes_with_it():
    async def main() -> None:
        store = universe().store(range(100))
        survey = await FilteredSets().of(store, MAIN, Filter())
        await store.apply(IDENTITIES, [ONE.states(ONE.identity.device.public, KeyState.COMPROMISED)])
        await survey.refresh()
        assert survey.ids() == versions_in(store)

    virtually(main())


def test_the_latest_surveys_are_gone_on_with_and_one_that_broke_off_begins_anew():
    class Breaking(MemoryStore):
        pages = 0
        breaks = False

        async def changes(self, context, after, **bounds):
            self.pages += 1
            if self.breaks:
                raise StoreError("the disk is gone")
            return await super().changes(context, after, **bounds)

        async def filtered(self, context, wanted, after, *, until):
            self.pages += 1
            return await super().filtered(context, wanted, after, until=until)

    async def main() -> None:
        vars(store := Breaking(universe().store(()).instance)).update(vars(universe().store(range(100))))
        surveys = FilteredSets()
        first = await surveys.of(store, MAIN, Filter())
        assert first.ids() == versions_in(store)
        read = store.pages
        await _put(store, noted(ONE, "new", "news"))
        assert await surveys.of(store, MAIN, Filter()) is first
        assert first.ids() == versions_in(store)
        assert store.pages == read + 2, "the new one, and that there are no more"
        await _put(store, noted(ONE, "newer", "news"))
        store.breaks = True
        with pytest.raises(StoreError):
            await surveys.of(store, MAIN, Filter())
        store.breaks = False
        together = await asyncio.gather(*[surveys.of(store, MAIN, Filter()) for _ in range(3)])
        assert {id(each) for each in together} == {id(first)}
        assert first.ids() == versions_in(store)
        assert len(first) == len(versions_in(store))
        del first, together
        for number in range(FILTERED_SETS_MAX):
            await surveys.of(store, MAIN, Filter(name=f"{number}*"))
        read = store.pages
        assert (await surveys.of(store, MAIN, Filter())).ids() == versions_in(store)
        assert store.pages > read + 1, "it was dropped, and is read anew"

    virtually(main())


def test_surveys_are_shared_and_together_they_hold_a_bounded_number_of_heads():
    async def main() -> None:
        store = universe().store(range(100))
        held_here = len(versions_in(store))
        surveys = FilteredSets(items_max=2 * held_here + 1)
        one = await surveys.of(store, MAIN, Filter(), free)
        assert await surveys.of(store, MAIN, Filter(), free) is one
        other = await surveys.of(store, MAIN, Filter(name="*"), free)
        with pytest.raises(FilteredSetsFullError) as full:
            await surveys.of(store, MAIN, Filter(name="**"), free)
        assert full.value.reason is Reason.BUSY
        del full  # its traceback holds surveys
        assert len(await surveys.of(store, MAIN, Filter(name="**"))) == held_here, "what is asked for here goes on"
        del other
        third = await surveys.of(store, MAIN, Filter(name="***"), free)
        assert len(third) == len(one) == held_here

    virtually(main())


def test_a_responder_without_room_says_that_it_is_busy():
    async def main() -> None:
        ours, theirs = universe().store(range(50)), universe().store(range(100))
        talk = await converse(ours, theirs, reconciled, sets_there=FilteredSets(items_max=10))
        assert isinstance(talk.our_end, PeerRefused) and talk.our_end.reason is Reason.BUSY
        assert talk.their_end is Result.REFUSED

    virtually(main())


class Busy(MemoryStore):
    """A store into which a record is written whenever a page of its log is read."""

    news: list[Record]

    async def changes(self, context, after, **bounds):
        return await self._with_news(await super().changes(context, after, **bounds))

    async def filtered(self, context, wanted, after, *, until):
        return await self._with_news(await super().filtered(context, wanted, after, until=until))

    async def _with_news(self, page):
        if self.news:
            await self.apply(MAIN, [self.news.pop()])
        return page


def test_what_is_edited_during_a_survey_is_seen_as_it_is():
    async def main() -> None:
        old = [noted(ONE, f"{number}", "news") for number in range(4)]
        news = [noted(ONE, old[0].name, covers=[old[0]], body=b""), noted(ONE, "new", "news")]
        news.append(noted(ONE, old[1].name, "news", covers=[old[1]]))
        store = Busy(universe().store(()).instance)
        store.news = []
        await store.apply(IDENTITIES, universe().statements)
        await _put(store, *old)
        store.news = list(news)
        survey = await FilteredSets().of(store, MAIN, NEWS)
        assert not store.news
        assert survey.ids() == held(store, NEWS) == {news[1].id, news[2].id, old[2].id, old[3].id}

    virtually(main())


# -- liars -------------------------------------------------------------------------------------------------------------
class Responder:
    """Answers `reconcile` as an honest responder over `store` does; liars override parts of it."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.side: Negentropy | None = None

    async def __call__(self, transport: PairedTransport, message: m.Message) -> None:
        match message:
            case m.ReconcileInit(message=said) | m.Reconcile(said):
                await self.reconcile(transport, said)
            case m.Want(versions):
                records = [head.raw for head in heads_in(self.store) if head.id in versions]
                await transport.send(m.Records(tuple(records), (), False))
            case m.Offers():
                await transport.send(m.Heads((), (), False))
            case m.Put(records):
                await transport.send(m.Stored(0, len(records), ()))
            case m.Done():
                await transport.send(m.Done(id_list_digest(versions_in(self.store)), 0, 0, message.is_final))

    async def reconcile(self, transport: PairedTransport, said: bytes) -> None:
        survey = await FilteredSets().of(self.store, MAIN, Filter())
        answer = Negentropy(survey.items()).answer(said)
        assert answer is not None
        await transport.send(m.Reconcile(answer))


def lied(end: object, reason: Reason = Reason.PROTOCOL_ERROR) -> bool:
    return isinstance(end, RemoteError) and end.reason is reason


@pytest.mark.parametrize("message", [b"\x61\x00", b"\x70", b"\x61" + bytes([0, 0, 9])])
def test_a_message_that_is_no_negentropy_ends_it_on_either_side(message: bytes):
    async def main() -> None:
        class Liar(Responder):
            async def reconcile(self, transport, said):
                await transport.send(m.Reconcile(message))

        store = universe().store(range(50))
        talk = await lie_to_initiator(store, reconciled, Liar(store))
        assert lied(talk.our_end)
        init = m.ReconcileInit((1, 0), MAIN, 0, {}, message)
        talk = await lie_to_responder(store, init)
        assert lied(talk.their_end)

    virtually(main())


def test_a_reconciliation_without_an_end_ends(monkeypatch):
    monkeypatch.setattr(reconcile, "NEGENTROPY_MESSAGES_MAX", 1000)
    assert NEGENTROPY_MESSAGES_MAX > 1000

    async def main() -> None:
        class Liar(Responder):
            async def reconcile(self, transport, said):
                # A fingerprint of the whole range that never fits, so that the range is split again and again.
                await transport.send(m.Reconcile(bytes.fromhex("61 00 00 01") + bytes(16)))

        store = universe().store(range(50))
        talk = await lie_to_initiator(store, reconciled, Liar(store))
        assert lied(talk.our_end, Reason.TOO_LARGE)
        init = m.ReconcileInit((1, 0), MAIN, 0, {}, bytes.fromhex("61 00 00 00"))
        more = [m.Reconcile(init.message)] * 1000
        talk = await lie_to_responder(store, init, *more)
        assert lied(talk.their_end, Reason.TOO_LARGE)

    virtually(main())


def test_a_reconciliation_is_not_begun_again_for_ever():
    async def main() -> None:
        store = universe().store(range(50))
        init = m.ReconcileInit((1, 0), MAIN, 0, {}, bytes.fromhex("61"))
        again = [m.Done(bytes(32), 0, 0, False), m.Reconcile(init.message)] * ROUNDS_MAX
        talk = await lie_to_responder(store, init, *again)
        assert lied(talk.their_end)

    virtually(main())


def test_a_peer_that_claims_a_set_it_does_not_give_is_not_called_equal():
    async def main() -> None:
        claimed = [VersionId(bytes([number]) * 32) for number in range(20)]

        class Liar(Responder):
            async def __call__(self, transport, message):
                if isinstance(message, m.Done):
                    await transport.send(m.Done(id_list_digest(claimed), 20, 0, message.is_final))
                else:
                    await super().__call__(transport, message)

            async def reconcile(self, transport, said):
                await transport.send(m.Reconcile(bytes.fromhex("61 00 00 02 14") + b"".join(claimed)))

        for direction in Direction:
            store = universe().store(range(5))
            liar = Liar(universe().store(range(9)))
            talk = await lie_to_initiator(store, reconciled, liar, direction=direction)
            assert talk.our_end in (Result.MOVED, Result.DIFFERENT)

    virtually(main())


def test_a_peer_that_repeats_our_hash_without_giving_anything_has_said_that_it_is_equal_and_no_more():
    async def main() -> None:
        class Liar(Responder):
            async def __call__(self, transport, message):
                if isinstance(message, m.Done):
                    await transport.send(message)
                else:
                    await super().__call__(transport, message)

        store, theirs = universe().store(range(50)), universe().store(range(30, 60))
        await lie_to_initiator(store, reconciled, Liar(theirs))
        assert not lacks(store, heads_in(theirs))  # it had to send what it claimed to have

    virtually(main())


WANTS = {
    "what was not asked for": lambda asked, other: m.Records((other,), (), False),
    "the same twice": lambda asked, other: m.Records((asked, asked), (), False),
    "a rest": lambda asked, other: m.Records((asked,), (m.LeafRequest(b"", None),), False),
    "nothing and more": lambda asked, other: m.Records((), (), True),
}


@pytest.mark.parametrize("answer", WANTS.values(), ids=WANTS)
def test_versions_asked_for_by_name_come_once_and_no_others(answer):
    async def main() -> None:
        one, other = noted(ONE, "one"), noted(ONE, "other")
        theirs = universe().store(())
        await _put(theirs, one)

        class Liar(Responder):
            async def __call__(self, transport, message):
                if isinstance(message, m.Want):
                    await transport.send(answer(one.raw, other.raw))
                else:
                    await super().__call__(transport, message)

        talk = await lie_to_initiator(universe().store(()), reconciled, Liar(theirs))
        assert lied(talk.our_end)
        assert not versions_in(talk.ours.store)

    virtually(main())


HEADS = {
    "heads of another leaf": lambda ours, other: m.Heads((), (other.raw,), False),
    "the same head twice": lambda ours, other: m.Heads((), (ours.raw, ours.raw), False),
    "a place that was not offered": lambda ours, other: m.Heads((7,), (), False),
    "a place twice": lambda ours, other: m.Heads((0, 0), (), False),
    "a leaf that is lacking and there": lambda ours, other: m.Heads((0,), (ours.raw,), False),
    "nothing and more": lambda ours, other: m.Heads((), (), True),
    "what is lacking before the end": lambda ours, other: m.Heads((0,), (ours.raw,), True),
}


@pytest.mark.parametrize("answer", HEADS.values(), ids=HEADS)
def test_heads_answer_what_was_offered_and_nothing_else(answer):
    async def main() -> None:
        ours, other = noted(ONE, "ours"), noted(ONE, "other")
        store = universe().store(())
        await _put(store, ours)

        class Liar(Responder):
            async def __call__(self, transport, message):
                if isinstance(message, m.Offers):
                    await transport.send(answer(ours, other))
                else:
                    await super().__call__(transport, message)

        talk = await lie_to_initiator(store, reconciled, Liar(universe().store(())))
        assert lied(talk.our_end)
        assert versions_in(store) == {ours.id}

    virtually(main())


@pytest.mark.parametrize("keys", [(bytes(32), bytes(32)), (b"\x02" * 32, b"\x01" * 32)])
def test_offers_out_of_order_are_refused(keys: tuple[bytes, bytes]):
    async def main() -> None:
        init = m.ReconcileInit((1, 0), MAIN, 0, {}, bytes.fromhex("61"))
        offers = m.Offers(tuple((key, bytes(16)) for key in keys))
        talk = await lie_to_responder(universe().store(range(20)), init, offers)
        assert lied(talk.their_end)

    virtually(main())


@pytest.mark.parametrize(
    ("direction", "message"),
    [
        (Direction.SEND, m.Want((bytes(32),))),
        (Direction.RECEIVE, m.Put((b"x",))),
        (Direction.BOTH, m.NodesRequest((b"",))),
    ],
)
def test_a_message_that_has_no_place_ends_it(direction: Direction, message: m.Message):
    async def main() -> None:
        init = m.ReconcileInit((1, 0), MAIN, direction, {}, bytes.fromhex("61"))
        talk = await lie_to_responder(universe().store(range(20)), init, message)
        assert lied(talk.their_end)

    virtually(main())


def test_a_forged_version_is_not_stored_and_ends_it():
    async def main() -> None:
        one = noted(ONE, "one")
        theirs = universe().store(())
        await _put(theirs, one)

        class Liar(Responder):
            async def __call__(self, transport, message):
                if isinstance(message, m.Want):
                    await transport.send(m.Records((one.raw[:-1] + bytes([one.raw[-1] ^ 1]),), (), False))
                else:
                    await super().__call__(transport, message)

        talk = await lie_to_initiator(universe().store(()), reconciled, Liar(theirs))
        assert lied(talk.our_end, Reason.BAD_RECORD)
        assert not versions_in(talk.ours.store)

    virtually(main())


def test_the_items_are_created_in_whole_seconds():
    async def main() -> None:
        record = ONE.version(Draft(context=MAIN, author=ONE.id, name="a", created_ms=1999))
        store = universe().store(())
        await _put(store, record)
        survey = await FilteredSets().of(store, MAIN, Filter())
        assert (survey.items()).at(0) == (1).to_bytes(8, "big") + record.id

    virtually(main())
