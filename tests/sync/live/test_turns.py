"""A link is fair and alive: contexts take turns, requests wait for answers, and silence ends it in time."""

import asyncio
from collections.abc import Sequence

import pytest

from echonode.errors import Reason, RemoteError
from echonode.limits import (
    COMMITS_RECORDS_MAX,
    CONTEXTS_TOLD_MAX,
    LINK_PROBE_S,
    LINK_SILENCE_TICKS,
    LINK_TICK_S,
    REPLAYS_MAX,
    REQUESTS_MAX,
    ROOTS_DELAY_S,
    UNTAKEN_RECORDS_MAX,
)
from echonode.model.record import IDENTITIES, MAIN, Record
from echonode.store.memory import MemoryStore
from echonode.store.port import Applied, Cursor, Report
from echonode.sync.live import receiver
from echonode.sync.live.link import Link, PeerSilentError
from echonode.sync.live.plumtree import short_id
from echonode.wire import messages as m
from echonode.wire.messages import ContextCursor
from tests.sync.live.test_link import FROM_NOW_ON, Spot, by_hand, heard, link_up, met, news, over, sent
from tests.sync.pair import paired
from tests.sync.talk import heads_in, versions_in, virtually
from tests.sync.universe import OTHER, universe

EVERYTHING = (*FROM_NOW_ON, ContextCursor(OTHER, None))


def bulk(count: int, prefix: str = "bulk") -> list[Record]:
    writer = universe().writers[0]
    return [writer.record(f"{prefix}-{number}", context=OTHER, body=b"x") for number in range(count)]


class SlowStore(MemoryStore):
    """A disk on which a commit takes a second. `order`: the context and the size of each."""

    order: list[tuple[str, int]]

    async def apply(
        self, context: str, records: Sequence[Record], cursor: Cursor | None = None, *, report: Report | None = None
    ) -> Applied:
        await asyncio.sleep(1)
        self.order.append((context, len(records)))
        return await super().apply(context, records, cursor, report=report)


def slowed(spot: Spot) -> SlowStore:
    """Give `spot` a slow disk that holds what its own one did."""
    vars(slow := SlowStore(spot.store.instance)).update(vars(spot.store))
    slow.order = []
    spot.store = spot.plumtree.store = slow
    return slow


def link_by_hand(ours: Spot, liar: Spot, places: tuple[ContextCursor, ...] = EVERYTHING):
    """Link `ours` in three contexts with a transport that the test holds. Return the link and the transport."""
    here, there = paired()
    link = Link(ours.ends(liar, here), [ContextCursor(each, 0) for each in (IDENTITIES, MAIN, OTHER)], places)
    ours.links[liar.number] = asyncio.create_task(to_its_end(link))
    return link, there


async def to_its_end(link: Link):
    try:
        await link.run(1e9)
    except (RemoteError, PeerSilentError) as error:
        return error
    return None


# -- turns -----------------------------------------------------------------------------------------------------------


def test_of_one_context_no_more_than_a_thousand_records_are_told_and_not_taken_and_another_passes_them():
    async def main() -> None:
        (ours,) = met(1)
        _, theirs = link_by_hand(ours, Spot(9, universe().store(())))
        await ours.write(bulk(2500), OTHER)
        await asyncio.sleep(1)

        async def told() -> list[tuple[str, int]]:
            found = []
            while not theirs._inbox.empty():
                message = await theirs.recv()
                if isinstance(message, m.Commits):
                    found.append((message.context, len(message.records)))
            return found

        assert await told() == [(OTHER, COMMITS_RECORDS_MAX)] * (UNTAKEN_RECORDS_MAX // COMMITS_RECORDS_MAX)
        await ours.write(news(1))
        await asyncio.sleep(0.1)
        assert await told() == [(MAIN, 1)], "the other context waits, and this one does not"
        await over(ours)

    virtually(main())


def test_contexts_are_taken_in_turn_so_news_passes_a_bulk_that_is_verified_or_stored():
    async def main() -> None:
        (ours,) = met(1)
        slow = slowed(ours)
        _, theirs = link_by_hand(ours, Spot(9, universe().store(())))
        records = bulk(1000)
        for first in range(0, 1000, 250):
            part = records[first : first + 250]
            await theirs.send(m.Commits(OTHER, first + 250, tuple(record.raw for record in part), ()))
        (live,) = news(1)
        await theirs.send(m.Commits(MAIN, 1, (live.raw,), ()))
        await asyncio.sleep(10)
        assert (MAIN, 1) in slow.order[:2]
        assert sum(size for context, size in slow.order if context == OTHER) == 1000
        assert max(size for _, size in slow.order) <= 2 * COMMITS_RECORDS_MAX
        await over(ours)

    virtually(main())


def test_news_is_stored_while_a_bulk_of_another_context_is_and_a_second_bulk_waits_for_the_first():
    async def main() -> None:
        (ours,) = met(1)
        slow = slowed(ours)
        _, theirs = link_by_hand(ours, Spot(9, universe().store(())))
        first, second = bulk(100), [universe().writers[0].record(f"main-{number}") for number in range(100)]
        await theirs.send(m.Commits(OTHER, 100, tuple(record.raw for record in first), ()))
        await asyncio.sleep(0.5)  # its commit takes a second
        (live,) = news(1)
        await theirs.send(m.Commits(MAIN, 1, (live.raw,), ()))
        await asyncio.sleep(0.1)
        await theirs.send(m.Commits(MAIN, 101, tuple(record.raw for record in second), ()))
        await asyncio.sleep(0.65)
        assert slow.order == [(OTHER, 100)]
        await asyncio.sleep(0.5)
        assert slow.order == [(OTHER, 100), (MAIN, 1)], "half a second behind the bulk, not one"
        await asyncio.sleep(1)
        assert slow.order == [(OTHER, 100), (MAIN, 1), (MAIN, 100)]
        await over(ours)

    virtually(main())


def test_a_bulk_with_a_bad_record_ends_the_link_and_stores_nothing_of_it():
    async def main() -> None:
        (ours,) = met(1)
        _, theirs = link_by_hand(ours, Spot(9, universe().store(())))
        raws = [record.raw for record in bulk(100)]
        raws[70] = raws[70][:-1] + bytes([raws[70][-1] ^ 1])
        await theirs.send(m.Commits(OTHER, 100, tuple(raws), ()))
        await asyncio.sleep(1)
        error = ours.links[9].result()
        assert isinstance(error, RemoteError) and error.reason is Reason.BAD_RECORD
        assert not len(ours.store.tree(OTHER))

    virtually(main())


def test_keys_are_told_and_taken_before_the_records_they_sign_whatever_the_turn():
    async def main() -> None:
        (ours,) = met(1)
        slow = slowed(ours)
        _, theirs = link_by_hand(ours, Spot(9, universe().store(())))
        for seq, context in enumerate((OTHER, MAIN, OTHER, IDENTITIES), start=1):
            record = universe().statements[0] if context == IDENTITIES else bulk(1)[0]
            record = news(1)[0] if context == MAIN else record
            await theirs.send(m.Commits(context, seq, (record.raw,), ()))
        await asyncio.sleep(10)
        assert [context for context, _ in slow.order][:2] in ([OTHER, IDENTITIES], [IDENTITIES, OTHER])
        await over(ours)

    virtually(main())


def test_a_bulk_and_live_news_both_arrive_and_nobody_breaks_the_protocol():
    async def main() -> None:
        spots = met(2)
        ends = link_up(*spots)
        await asyncio.sleep(1)
        await spots[0].write(bulk(3000), OTHER)
        for _ in range(20):
            await spots[1].write(news(1))
            await spots[0].write(news(1, 1))
            await asyncio.sleep(0.1)
        await asyncio.sleep(20)
        assert spots[0].store.tree(OTHER).root == spots[1].store.tree(OTHER).root
        assert versions_in(spots[0].store) == versions_in(spots[1].store)
        assert not any(await over(*spots))
        assert not [each for end in ends for each in end.sent if isinstance(each, m.Missing)]

    virtually(main())


# -- requests --------------------------------------------------------------------------------------------------------


def test_no_more_than_sixteen_requests_wait_for_an_answer_and_the_rest_is_asked_for_later():
    async def main() -> None:
        (ours,) = met(1)
        theirs = by_hand(ours, Spot(9, universe().store(())))
        records = news(40)
        for seq, record in enumerate(records, start=1):
            await theirs.send(m.Commits(MAIN, seq, (), ((seq, short_id(record.id)),)))
        await asyncio.sleep(0.1)
        asked: list[int] = []
        for _ in range(REQUESTS_MAX):
            message = await heard(theirs, m.Missing)
            assert isinstance(message, m.Missing)
            asked += message.seqs
        await asyncio.sleep(0.1)
        assert (len(asked), theirs._inbox.empty()) == (REQUESTS_MAX, True)
        await theirs.send(m.Bodies(MAIN, (asked[0],), (records[asked[0] - 1].raw,)))
        message = await heard(theirs, m.Missing)
        assert isinstance(message, m.Missing)
        assert len(message.seqs) == 40 - REQUESTS_MAX, "all that was held back is one request"
        for seq in (*asked[1:], *message.seqs):
            await theirs.send(m.Bodies(MAIN, (seq,), (records[seq - 1].raw,)))
        await asyncio.sleep(0.1)
        assert len(versions_in(ours.store)) == 40
        assert not ours.links[9].done()
        await over(ours)

    virtually(main())


# -- what is said of it ----------------------------------------------------------------------------------------------


def test_an_equal_pair_says_so_within_two_seconds_and_nothing_is_behind():
    async def main() -> None:
        spots = met(3)
        links = [link_up(*pair) for pair in ((spots[0], spots[1]), (spots[0], spots[2]), (spots[1], spots[2]))]
        await asyncio.sleep(5)
        for turn in range(6):
            await spots[turn % 3].write(news(2, turn % 3))
            for spot in spots:
                spot.equal.clear()
            await asyncio.sleep(2)
            for spot in spots:
                assert set(spot.equal.values()) == {True} and len(spot.equal) == 2
                assert [link.behind() for link in spot.plumtree.links.values()] == [0, 0]  # type: ignore[attr-defined]
        assert sent(m.Lazy, *links), "not every link is told whole"
        await over(*spots)

    virtually(main())


def test_roots_name_only_what_moved_and_come_while_another_context_moves():
    async def main() -> None:
        spots = met(2)
        (end, _) = link_up(*spots)
        await asyncio.sleep(5)
        before = len(end.sent)
        await spots[0].write(news(1))
        for number in range(30):
            await spots[0].write(bulk(1, f"busy-{number}"), OTHER)
            await asyncio.sleep(ROOTS_DELAY_S[0] / 2)
        roots = [each for each in end.sent[before:] if isinstance(each, m.Roots)]
        assert [MAIN] in [[root.context for root in each.roots] for each in roots]
        assert IDENTITIES not in [root.context for each in roots for root in each.roots]
        await over(*spots)

    virtually(main())


def test_behind_is_what_was_not_taken_told_or_not():
    async def main() -> None:
        (ours,) = met(1)
        link, theirs = link_by_hand(ours, Spot(9, universe().store(())))
        records = news(3)
        await ours.write(records)
        await asyncio.sleep(0.1)
        assert link.behind() == 3, "told, and not taken"
        weight = sum(len(record.raw) for record in records) + 512
        await theirs.send(m.Taken(weight))
        await asyncio.sleep(0.1)
        assert link.behind() == 0
        await over(ours)

    virtually(main())


# -- signs of life ---------------------------------------------------------------------------------------------------


def test_a_peer_of_which_nothing_is_heard_is_given_up_within_thirty_seconds():
    async def main() -> None:
        (ours,) = met(1)
        by_hand(ours, Spot(9, universe().store(())))
        loop = asyncio.get_running_loop()
        (ended,) = ours.links.values()
        await asyncio.wait([ended])
        assert LINK_SILENCE_TICKS * LINK_TICK_S[0] <= loop.time() <= 30

    virtually(main())


@pytest.mark.parametrize("is_hung", [True, False])
def test_a_peer_in_doubt_answers_at_once_or_is_given_up_within_seconds(is_hung):
    async def main() -> None:
        spots = met(2)
        ends = link_up(*spots)
        await asyncio.sleep(1)
        ends[1].is_hung = is_hung
        if is_hung:
            spots[1].links[1].cancel()
            ends[0]._inbox.get_nowait() if not ends[0]._inbox.empty() else None
        (link,) = spots[0].plumtree.links.values()
        began_s = asyncio.get_running_loop().time()
        link.probe()  # type: ignore[attr-defined]
        await asyncio.sleep(LINK_PROBE_S + 1)
        assert spots[0].links[2].done() == is_hung
        assert spots[0].answers == (not is_hung)
        assert asyncio.get_running_loop().time() - began_s <= LINK_PROBE_S + 1
        await over(*spots)

    virtually(main())


# -- liars -----------------------------------------------------------------------------------------------------------


def test_a_liar_that_names_thousands_of_contexts_costs_no_memory():
    async def main() -> None:
        (ours,) = met(1)
        theirs = by_hand(ours, Spot(9, universe().store(())))
        for first in range(0, 6500, 65):
            roots = [m.ContextRoot(f"c{number}", bytes(range(32)), 5) for number in range(first, first + 65)]
            await theirs.send(m.Roots(tuple(roots)))
        await asyncio.sleep(1)
        (link,) = ours.plumtree.links.values()
        inner = link._receiver  # type: ignore[attr-defined]
        assert len(inner._progress) == CONTEXTS_TOLD_MAX
        assert not inner._inbox and not inner._inbox_bytes
        assert len(link._roots_due) <= 2  # type: ignore[attr-defined]
        assert ours.store.contexts() == (IDENTITIES,)
        assert not ours.links[9].done()
        await over(ours)

    virtually(main())


@pytest.mark.parametrize(("more", "is_over"), [(0, False), (1, True)])
def test_a_link_has_a_bounded_number_of_contexts(more, is_over):
    async def main() -> None:
        (ours,) = met(1)
        theirs = by_hand(ours, Spot(9, universe().store(())))
        names = [f"c{number}" for number in range(CONTEXTS_TOLD_MAX - len(FROM_NOW_ON) + more)]
        for name in names:
            await theirs.send(m.Follow((ContextCursor(name, None),)))
        await asyncio.sleep(1)
        assert ours.links[9].done() == is_over
        if is_over:
            end = ours.links[9].result()
            assert isinstance(end, RemoteError) and end.reason is Reason.PROTOCOL_ERROR
        await over(ours)

    virtually(main())


def test_replays_of_one_context_are_given_up_whatever_news_another_brings(monkeypatch):
    monkeypatch.setattr(receiver, "REPLAYS_MAX", 100)
    assert REPLAYS_MAX > 100

    async def main() -> None:
        (ours,) = met(1, range(20))
        replayed = heads_in(ours.store)[:10]
        _, theirs = link_by_hand(ours, Spot(9, universe().store(())))
        for number, record in enumerate(bulk(40), start=1):
            if ours.links[9].done():
                break
            await theirs.send(m.Commits(MAIN, 100 + 10 * number, tuple(each.raw for each in replayed), ()))
            await theirs.send(m.Commits(OTHER, number, (record.raw,), ()))
            await asyncio.sleep(0.01)
        assert isinstance(ours.links[9].result(), RemoteError)

    virtually(main())
