"""Links: each side soon holds what the other stores; a version travels whole once; and liars cost little."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import combinations, count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echonode.errors import EchonodeError, Reason, RemoteError, TransportError
from echonode.limits import (
    ANNOUNCE_DELAY_S,
    FOLLOW_WINDOW_BYTES,
    FRAME_TIMEOUT_S,
    HEARTBEAT_S,
    REQUEST_RETRY_S,
    ROOTS_DELAY_S,
    ROOTS_INTERVAL_S,
)
from echonode.model.identity import IdentityId, Instance
from echonode.model.record import IDENTITIES, MAIN, Record
from echonode.store.memory import MemoryStore
from echonode.store.port import Applied, Cursor, Outranked, RefusedVersion, Report, VoidedVersion
from echonode.sync.live import receiver
from echonode.sync.live.link import Link
from echonode.sync.live.plumtree import Plumtree, short_id
from echonode.sync.live.send_queue import LinkEnvironment
from echonode.wire import messages as m
from echonode.wire.messages import ContextCursor, Message
from tests.node.timetable import Drawn
from tests.sync.modes.test_delta import numbers
from tests.sync.pair import Cut, PairedTransport, paired
from tests.sync.talk import heads_in, lacks, versions_in, virtually
from tests.sync.universe import OTHER, root_of, two_holdings, universe

LIFE = Instance(bytes(8))
SETTLED_S = ROOTS_INTERVAL_S + 2 * ROOTS_DELAY_S[1] + ANNOUNCE_DELAY_S


@dataclass
class Spot:
    """A node, as far as a link knows one."""

    number: int
    store: MemoryStore
    takes: Callable[[str], bool] = lambda context: True
    suspects: int = 0
    answers: int = 0  # to probes
    has_many_peers: bool = False
    equal: dict[int, bool] = field(default_factory=dict)
    links: dict[int, "asyncio.Task[EchonodeError | None]"] = field(default_factory=dict)
    is_told: asyncio.Event = field(default_factory=asyncio.Event)
    plumtree: Plumtree = field(init=False)

    def __post_init__(self) -> None:
        self.plumtree = Plumtree(self.store)

    @property
    def id(self) -> IdentityId:
        return IdentityId(bytes([self.number]) * 32)

    async def write(self, records: Sequence[Record], context: str = MAIN) -> None:
        applied = await self.store.apply(context, records)
        self.plumtree.stored([record.id for record in applied.records], None)

    def ends(self, other: "Spot", transport: PairedTransport) -> LinkEnvironment:
        return LinkEnvironment(
            transport=transport,
            plumtree=self.plumtree,
            peer=other.id,
            instance=LIFE,
            owner=Owner(self, other),
            entropy=Drawn(),
        )

    def places(self, other: "Spot", contexts: Sequence[str] = (IDENTITIES, MAIN)) -> tuple[ContextCursor, ...]:
        def since(context: str) -> int | None:
            cursor = self.store.cursor(other.id, context)
            return None if cursor is None else cursor.seq

        return tuple(ContextCursor(context, since(context)) for context in contexts)

    def follow_from_here(self, other: "Spot") -> None:
        """Note that this node holds all that `other` holds."""
        for context in (IDENTITIES, MAIN):
            self.store.note(Cursor(other.id, LIFE, context, other.store.seq(context)))

    def tells_the_truth_of(self, other: "Spot") -> bool:
        upto = self.places(other, [MAIN])[0].since or 0
        entries = [record for seq, record in other.store._log.items() if seq <= upto and record.context == MAIN]
        return not lacks(self.store, entries)


@dataclass
class Owner:
    """The node at `spot`, as its link with `other` needs it."""

    spot: Spot
    other: Spot
    wants_all: bool = True

    def takes(self, context: str) -> bool:
        return self.spot.takes(context)

    def applied(self, _context: str, records: Sequence[Record]) -> None:
        self.spot.is_told.set()
        self.spot.plumtree.stored([record.id for record in records], self.other.id)

    def strangers(self, strangers: Sequence[Record]) -> None: ...
    def outranked(self, context: str, outranked: Sequence[Outranked]) -> None: ...

    def voided(self, voided: Sequence[VoidedVersion]) -> None: ...

    async def charge(self, cost_s: float) -> None: ...

    async def pace(self, records: int) -> None: ...

    def judge(self, context: str, records: Sequence[Record]) -> Sequence[RefusedVersion]:
        return ()

    def refused(self, context: str, records: Sequence[Record], refused: Sequence[RefusedVersion]) -> None: ...

    def compared(self, is_equal: bool) -> None:
        self.spot.equal[self.other.number] = is_equal

    def suspect(self) -> None:
        self.spot.suspects += 1

    def answered(self) -> None:
        self.spot.answers += 1

    @property
    def has_many_peers(self) -> bool:
        return self.spot.has_many_peers


def link_up(one: Spot, other: Spot, cut: Cut | None = None) -> tuple[PairedTransport, PairedTransport]:
    ends = paired(cut)
    for spot, peer, end in ((one, other, ends[0]), (other, one, ends[1])):
        link = Link(spot.ends(peer, end), spot.places(peer), peer.places(spot))
        spot.links[peer.number] = asyncio.create_task(to_its_end(link, end))
    return ends


async def to_its_end(link: Link, end: PairedTransport) -> EchonodeError | None:
    try:
        await link.run(1e9)
    except EchonodeError as error:
        return error
    finally:
        end.end()
    return None


async def over(*spots: Spot) -> list[EchonodeError | None]:
    """End the links that are still up. Return how each link ended."""
    ends: list[EchonodeError | None] = []
    for spot in spots:
        for task in spot.links.values():
            task.cancel()
            with suppress(asyncio.CancelledError):
                ends.append(await task)
    return ends


def met(count: int, holds: Sequence[int] | frozenset[int] = ()) -> list[Spot]:
    """Return nodes that hold the same records and have followed each other so far."""
    spots = [Spot(number, universe().store(holds)) for number in range(1, count + 1)]
    for one, other in combinations(spots, 2):
        one.follow_from_here(other)
        other.follow_from_here(one)
    return spots


def news(count: int, who: int = 0, size: int = 10) -> list[Record]:
    writer = universe().writers[who]
    return [writer.record(f"news-{next(_NUMBERS)}", body=bytes(size)) for _ in range(count)]


_NUMBERS = count()
writes = st.lists(st.tuples(st.integers(0, 1), numbers, st.floats(0, 1)), max_size=5)


# -- what it is for --------------------------------------------------------------------------------------------------


@given(before=two_holdings(), behind=numbers, planned=writes)
@settings(max_examples=30)
def test_whatever_is_stored_on_either_side_is_on_both_and_known_to_be(before, behind, planned):
    async def main() -> None:
        spots = met(2, before[0])
        await spots[1].write(universe().some(behind))  # the cursor has to catch up with these
        link_up(*spots)
        for side, some, pause_s in planned:
            await spots[side].write(universe().some(some))
            await asyncio.sleep(pause_s)
        await asyncio.sleep(SETTLED_S)
        written = before[0] | behind | frozenset[int]().union(*[some for _, some, _ in planned])
        for spot, other in (spots, spots[::-1]):
            assert spot.store.tree(MAIN).root == root_of(universe().some(written))
            assert spot.equal == {other.number: True}
            assert spot.suspects == 0
            assert spot.places(other)[1].since == other.store.seq(MAIN)
        assert not any(await over(*spots))

    virtually(main())


@given(before=two_holdings(), planned=writes, after=st.integers(0, 12))
@settings(max_examples=40)
def test_cut_at_any_message_cursors_say_no_more_than_is_true_and_the_next_link_goes_on_from_them(
    before, planned, after
):
    async def main() -> None:
        spots = met(2, before[0])
        link_up(*spots, cut=Cut(after))
        for side, some, pause_s in planned:
            await spots[side].write(universe().some(some))
            await asyncio.sleep(pause_s)
        await asyncio.sleep(SETTLED_S)
        for spot, other in (spots, spots[::-1]):
            assert spot.tells_the_truth_of(other)
        assert {type(end) for end in await over(*spots)} <= {TransportError, type(None)}
        link_up(*spots)
        await asyncio.sleep(SETTLED_S)
        written = before[0] | frozenset[int]().union(*[some for _, some, _ in planned])
        for spot in spots:
            assert spot.store.tree(MAIN).root == root_of(universe().some(written))
        await over(*spots)

    virtually(main())


def test_what_is_written_arrives_without_waiting_for_any_timer():
    async def main() -> None:
        spots = met(2)
        link_up(*spots)
        await asyncio.sleep(SETTLED_S)
        began_s = asyncio.get_running_loop().time()
        (record,) = news(1)
        await spots[0].write([record])
        await spots[1].is_told.wait()
        assert record.id in versions_in(spots[1].store)
        assert asyncio.get_running_loop().time() == began_s
        await over(*spots)

    virtually(main())


def test_much_told_at_once_by_both_keeps_to_the_window_and_all_of_it_comes():
    async def main() -> None:
        spots = met(2)
        ends = link_up(*spots)
        for who, spot in enumerate(spots):
            await spot.write(news(60, who, size=150_000))
        await asyncio.sleep(SETTLED_S)
        assert versions_in(spots[0].store) == versions_in(spots[1].store)
        for end in ends:
            told = sum(sum(map(len, each.records)) for each in end.sent if isinstance(each, m.Commits))
            assert told > 4 * FOLLOW_WINDOW_BYTES
        for end, other in (ends, ends[::-1]):
            taken = sum(each.weight for each in other.sent if isinstance(each, m.Taken))
            assert told - taken <= FOLLOW_WINDOW_BYTES
            assert not [each for each in end.sent if isinstance(each, m.Lazy)]
        assert not any(await over(*spots))

    virtually(main())


def test_a_link_with_nothing_to_tell_tells_its_roots_and_that_it_is_alive():
    async def main() -> None:
        spots = met(2, range(20))
        ends = link_up(*spots)
        await asyncio.sleep(3600)
        for end in ends:
            assert {type(each) for each in end.sent} <= {m.Roots, m.Ping}
            roots = [each for each in end.sent if isinstance(each, m.Roots)]
            assert 3600 / HEARTBEAT_S[1] <= len(roots) <= 3600 / HEARTBEAT_S[0] + 1
        await over(*spots)

    virtually(main())


def test_a_context_that_comes_to_be_is_told_of_to_who_takes_it():
    async def main() -> None:
        spots = met(3)
        spots[2].takes = lambda context: context != OTHER
        link_up(spots[0], spots[1])
        ends = link_up(spots[0], spots[2])
        await spots[0].write(universe().some(range(20), OTHER), OTHER)
        await asyncio.sleep(SETTLED_S)
        assert spots[1].store.tree(OTHER).root == spots[0].store.tree(OTHER).root
        assert OTHER not in spots[2].store.contexts()
        await spots[1].write(universe().some(range(20, 40), OTHER), OTHER)
        await asyncio.sleep(SETTLED_S)
        assert spots[1].store.tree(OTHER).root == spots[0].store.tree(OTHER).root
        assert sum(isinstance(each, m.Roots) and each.roots[0].context == OTHER for each in ends[0].sent) == 1
        await over(*spots)

    virtually(main())


def test_a_link_is_not_equal_while_the_peer_says_nothing_of_a_context_that_came_to_be():
    async def main() -> None:
        (ours,) = met(1)
        theirs = by_hand(ours, Spot(9, universe().store(())))

        async def tell(*contexts: str) -> bool:
            marks = [m.ContextRoot(name, ours.store.tree(name).root, 5) for name in contexts]
            await theirs.send(m.Roots(tuple(marks)))
            await asyncio.sleep(0.1)
            return ours.equal[9]

        assert await tell(IDENTITIES, MAIN)
        await ours.write(universe().some(range(3), OTHER), OTHER)
        assert not await tell(IDENTITIES, MAIN)
        await tell(OTHER)  # which it offers
        assert await tell(OTHER)
        await over(ours)

    virtually(main())


def test_a_context_both_have_and_never_followed_is_compared_and_followed_from_then_on():
    async def main() -> None:
        spots = met(2)
        for spot, some in zip(spots, (range(5), range(8)), strict=True):
            await spot.store.apply(OTHER, universe().some(some, OTHER))
        link_up(*spots)
        await asyncio.sleep(SETTLED_S)
        assert all(spot.suspects for spot in spots)
        await spots[0].store.apply(OTHER, universe().some(range(8), OTHER))  # as a comparison would
        late = universe().some(range(8, 12), OTHER)
        await spots[1].write(late, OTHER)
        await asyncio.sleep(SETTLED_S)
        assert not lacks(spots[0].store, late, OTHER)
        assert spots[0].places(spots[1], [OTHER])[0].since == spots[1].store.seq(OTHER)
        await over(*spots)

    virtually(main())


# -- cursors ---------------------------------------------------------------------------------------------------------


def test_an_unknown_key_holds_the_cursor_up_until_roots_are_equal():
    async def main() -> None:
        spots = met(2)
        ours = Spot(7, universe().store((), knows=universe().statements[:1]))
        link_up(ours, spots[1])
        await spots[1].write([universe().writers[1].record("by a stranger")])
        await spots[1].write([universe().writers[0].record("by one we know")])
        await asyncio.sleep(0.1)
        assert ours.suspects and len(versions_in(ours.store)) == 1
        assert ours.tells_the_truth_of(spots[1])
        await ours.store.apply(IDENTITIES, universe().statements)  # as a comparison would
        await ours.store.apply(MAIN, heads_in(spots[1].store))
        await spots[1].write(news(1))
        await asyncio.sleep(SETTLED_S)
        assert ours.places(spots[1])[1].since == spots[1].store.seq(MAIN)
        await over(ours, spots[1])

    virtually(main())


def test_a_root_that_stays_another_though_nothing_is_on_its_way_is_suspected():
    async def main() -> None:
        spots = met(2)
        link_up(*spots)
        await asyncio.sleep(SETTLED_S)
        await spots[0].store.apply(MAIN, news(1))  # and no link is told
        spots[0].follow_from_here(spots[1])
        spots[1].plumtree.stored([], None)
        assert spots[0].suspects == spots[1].suspects == 0
        await asyncio.sleep(2 * HEARTBEAT_S[1])
        assert spots[1].suspects or versions_in(spots[1].store) == versions_in(spots[0].store)
        assert not any(await over(*spots))

    virtually(main())


def test_another_root_told_on_a_quiet_link_is_looked_into_and_our_own_is_not():
    async def main() -> None:
        (ours,) = met(1, range(20))
        theirs = by_hand(ours, Spot(9, universe().store(())), (ContextCursor(IDENTITIES, 0), ContextCursor(MAIN, 0)))
        await asyncio.sleep(SETTLED_S)
        await theirs.send(m.Roots((m.ContextRoot(MAIN, ours.store.tree(MAIN).root, 4),)))
        await asyncio.sleep(SETTLED_S)
        assert ours.suspects == 0
        await theirs.send(m.Roots((m.ContextRoot(MAIN, bytes(range(32)), 5),)))
        await asyncio.sleep(1)
        assert ours.suspects == 1
        await over(ours)

    virtually(main())


# -- whole or announced ----------------------------------------------------------------------------------------------


def sent(kind: type[Message], *links: tuple[PairedTransport, PairedTransport]) -> list[Message]:
    return [each for link in links for end in link for each in end.sent if isinstance(each, kind)]


def bodies(*links: tuple[PairedTransport, PairedTransport]) -> int:
    return sum(len(each.records) for each in sent(m.Commits, *links) + sent(m.Bodies, *links))  # type: ignore[attr-defined]


def test_a_version_travels_whole_once_to_every_node_whoever_writes_it():
    async def main() -> None:
        spots = met(5)
        links = [link_up(*pair) for pair in combinations(spots, 2)]
        for turn in range(6):  # until each link has become eager or announcing
            await spots[turn % 5].write(news(1, turn % 3))
            await asyncio.sleep(SETTLED_S)
        before = bodies(*links)
        for turn in range(20):
            await spots[turn % 5].write(news(1, turn % 3))
            await asyncio.sleep(1)
        await asyncio.sleep(SETTLED_S)
        assert len({frozenset(versions_in(spot.store)) for spot in spots}) == 1
        assert bodies(*links) - before == 20 * 4
        assert sent(m.Lazy, *links)
        announced = sum(len(each.announced) for each in sent(m.Commits, *links))
        assert announced <= 20 * (10 - 4) * 2 + 6 * 20
        for one, other in combinations(spots, 2):
            assert one.equal[other.number] and other.equal[one.number]
            assert one.places(other)[1].since == other.store.seq(MAIN)
        await over(*spots)

    virtually(main())


def test_when_the_link_that_told_whole_breaks_announcements_are_asked_for_and_another_takes_its_place():
    async def main() -> None:
        one, two, three = spots = met(3)
        _, _, links = [link_up(*pair) for pair in combinations(spots, 2)]
        for _ in range(3):
            await one.write(news(1))
            await asyncio.sleep(SETTLED_S)
        assert sent(m.Lazy, links)
        for spot, other in ((one, three), (three, one)):  # three hears of one only by two, which announces
            spot.links.pop(other.number).cancel()
        await asyncio.sleep(1)
        for _ in range(3):
            await one.write(news(1))
            await asyncio.sleep(SETTLED_S)
            assert versions_in(three.store) == versions_in(one.store)
        assert len(sent(m.Missing, links)) == len(sent(m.Bodies, links)) == 1, "then it is told whole"
        assert three.places(two)[1].since == two.store.seq(MAIN)
        assert not any(await over(*spots))

    virtually(main())


@pytest.mark.parametrize("how", ["it breaks off", "it has none of it any more", "it keeps still"])
def test_what_one_announced_and_does_not_send_is_asked_of_others(how):
    async def main() -> None:
        ours, honest = met(2)
        liar = Spot(9, universe().store(()))
        (record,) = news(1)
        theirs = by_hand(ours, liar)
        link_up(ours, honest)
        await theirs.send(m.Commits(MAIN, 50, (), ((50, short_id(record.id)),)))
        assert isinstance(await heard(theirs, m.Missing), m.Missing)
        await honest.store.apply(MAIN, [record])
        honest.plumtree.links[ours.id]._queue.is_eager = False  # type: ignore[attr-defined]
        honest.plumtree.stored([record.id], None)
        await asyncio.sleep(1)
        assert record.id not in versions_in(ours.store)
        if how == "it breaks off":
            theirs.end()
        elif how == "it has none of it any more":
            await theirs.send(m.Bodies(MAIN, (50,), ()))
        await asyncio.sleep(REQUEST_RETRY_S if how == "it keeps still" else 1)
        assert record.id in versions_in(ours.store)
        await over(ours, honest)

    virtually(main())


def test_what_comes_too_late_to_be_a_head_is_waited_for_no_more_by_any_link():
    async def main() -> None:
        (ours,) = met(1)
        one, other = Spot(8, universe().store(())), Spot(9, universe().store(()))
        writer = universe().writers[0]
        old = writer.record(f"news-{next(_NUMBERS)}")
        new = writer.record(old.name, old)
        first, second = by_hand(ours, one), by_hand(ours, other)
        await first.send(commits(50, announced=((50, short_id(old.id)),)))
        assert isinstance(await heard(first, m.Missing), m.Missing)
        await second.send(commits(70, announced=((70, short_id(old.id)),)))
        await asyncio.sleep(0.1)
        await ours.write([new])
        await first.send(m.Bodies(MAIN, (50,), (old.raw,)))
        await asyncio.sleep(0.1)
        assert not ours.plumtree.asked_count
        for link in ours.plumtree.links.values():
            assert not link._receiver._announced  # type: ignore[attr-defined]
        cursor = ours.store.cursor(other.id, MAIN)
        assert cursor is not None
        assert cursor.seq == 70
        await over(ours)

    virtually(main())


# -- liars -----------------------------------------------------------------------------------------------------------


FROM_NOW_ON = (ContextCursor(IDENTITIES, None), ContextCursor(MAIN, None))


def by_hand(ours: Spot, liar: Spot, places: tuple[ContextCursor, ...] = FROM_NOW_ON):
    """Link `ours` with a transport that the test holds, and return the transport."""
    here, there = paired()
    link = Link(ours.ends(liar, here), (ContextCursor(IDENTITIES, 0), ContextCursor(MAIN, 0)), places)
    ours.links[liar.number] = asyncio.create_task(to_its_end(link, here))
    return there


async def heard(end: PairedTransport, kind: type[Message]) -> Message:
    while not isinstance(message := await end.recv(), kind):
        pass
    return message


def commits(seq: int, *records: Record, announced: tuple[tuple[int, bytes], ...] = ()) -> m.Commits:
    return m.Commits(MAIN, seq, tuple(record.raw for record in records), announced)


RECORDS = universe().some(range(100, 140))
ID = bytes(16)
BAD: dict[str, list[Message]] = {
    "a seq that goes back": [commits(50, RECORDS[0]), commits(49, RECORDS[1])],
    "the same seq again": [commits(50, RECORDS[0]), commits(50, RECORDS[1])],
    "more records than seqs": [commits(3, *RECORDS[:5])],
    "nothing": [commits(7)],
    "announcements out of order": [commits(9, announced=((5, ID), (4, bytes(15) + b"1")))],
    "an announcement ahead of the log": [commits(9, announced=((10, ID),))],
    "an announcement from behind": [commits(9, RECORDS[0]), commits(20, announced=((8, ID),))],
    "another context": [m.Commits("nowhere", 5, (RECORDS[0].raw,), ())],
    "bodies nobody asked for": [m.Bodies(MAIN, (5,), (RECORDS[0].raw,))],
    "another body than was announced": [commits(9, announced=((5, ID),)), m.Bodies(MAIN, (5,), (RECORDS[0].raw,))],
    "a log that went back": [commits(50, RECORDS[0]), m.Roots((m.ContextRoot(MAIN, bytes(32), 49),))],
    "a want of another context": [m.Missing("nowhere", (1,))],
    "taking more than was told": [m.Taken(1)],
    "a context twice": [m.Follow((ContextCursor(MAIN, 0),))],
    "a cursor ahead of us": [m.Follow((ContextCursor("new", 1),))],
    "a conversation": [m.LevelWiseInit((1, 0), MAIN, 0, 16, (b"",))],
    "a want of what was not announced": [m.Missing(MAIN, (1,))],
}


@pytest.mark.parametrize("said", BAD.values(), ids=list(BAD))
def test_what_has_no_place_in_a_link_ends_it(said):
    async def main() -> None:
        (ours,) = met(1, range(20))
        before = heads_in(ours.store)
        theirs = by_hand(ours, Spot(9, universe().store(())))
        for message in said:
            await theirs.send(message)
        await asyncio.sleep(1)
        end = ours.links[9].result()
        assert isinstance(end, RemoteError) and end.reason is Reason.PROTOCOL_ERROR, end
        assert not lacks(ours.store, before)

    virtually(main())


@pytest.mark.parametrize("how", ["twice", "without waiting"])
def test_what_was_announced_can_be_asked_for_once_and_not_all_at_once(how):
    async def main() -> None:
        (ours,) = met(1)
        theirs = by_hand(ours, Spot(9, universe().store(())))
        await theirs.send(m.Lazy())
        await asyncio.sleep(0.1)
        await ours.write(news(30))
        told = await heard(theirs, m.Commits)
        assert isinstance(told, m.Commits)
        wants = [m.Missing(MAIN, (seq,)) for seq, _ in told.announced]
        if how == "twice":
            await theirs.send(wants[0])
            assert await heard(theirs, m.Bodies)
            wants = [m.Missing(MAIN, tuple(seq for seq, _ in told.announced))]
        for want in wants:
            await theirs.send(want)
        await asyncio.sleep(1)
        (end,) = await over(ours)
        assert isinstance(end, RemoteError)
        assert end.reason is Reason.PROTOCOL_ERROR
        assert ("more than was announced" if how == "twice" else "without waiting") in str(end)

    virtually(main())


async def flood(ours: Spot, messages: Callable[[int], Message], most: int) -> EchonodeError | None:
    """Send message after message until the link ends, which must be before `most` messages."""
    theirs = by_hand(ours, Spot(9, universe().store(())))
    for number in range(most):
        if ours.links[9].done():
            return ours.links[9].result()
        await theirs.send(messages(number))
        await asyncio.sleep(0.001)
    raise AssertionError("it was listened to for too long")


def test_the_same_again_and_again_is_given_up(monkeypatch):
    monkeypatch.setattr(receiver, "REPLAYS_MAX", 100)

    async def main() -> None:
        (ours,) = met(1, range(20))
        replayed = heads_in(ours.store)[:10]
        end = await flood(ours, lambda number: commits(100 + 10 * number, *replayed), 100)
        assert isinstance(end, RemoteError)

    virtually(main())


def test_announcements_that_are_never_delivered_fill_the_window_and_no_more():
    def announce(number: int) -> Message:
        seqs = range(100 * number + 1, 100 * number + 101)
        return commits(seqs[-1], announced=tuple((seq, seq.to_bytes(16, "big")) for seq in seqs))

    async def main() -> None:
        (ours,) = met(1)
        end = await flood(ours, announce, 100)
        assert isinstance(end, RemoteError)

    virtually(main())


def test_a_cursor_does_not_pass_what_was_announced_until_it_is_here():
    async def main() -> None:
        (ours,) = met(1)
        liar = Spot(9, universe().store(()))
        announced, told = news(2)
        theirs = by_hand(ours, liar, (ContextCursor(IDENTITIES, 0), ContextCursor(MAIN, 0)))
        await theirs.send(commits(5, announced=((5, short_id(announced.id)),)))
        await theirs.send(commits(6, told))
        await asyncio.sleep(SETTLED_S)
        assert told.id in versions_in(ours.store)
        cursor = ours.store.cursor(liar.id, MAIN)
        assert cursor is None or cursor.seq < 5
        await theirs.send(m.Bodies(MAIN, (5,), (announced.raw,)))
        await asyncio.sleep(SETTLED_S)
        assert announced.id in versions_in(ours.store)
        cursor = ours.store.cursor(liar.id, MAIN)
        assert cursor is not None
        assert cursor.seq == 6
        await over(ours)

    virtually(main())


class SlowStore(MemoryStore):
    """A disk on which a commit takes a second."""

    async def apply(
        self, context: str, records: Sequence[Record], cursor: Cursor | None = None, *, report: Report | None = None
    ) -> Applied:
        await asyncio.sleep(1)
        return await super().apply(context, records, cursor, report=report)


def test_a_cursor_does_not_pass_what_is_still_being_stored():
    async def main() -> None:
        (ours,) = met(1)
        vars(slow := SlowStore(ours.store.instance)).update(vars(ours.store))
        ours.store = ours.plumtree.store = slow
        liar = Spot(9, universe().store(()))
        announced, told = news(2)
        theirs = by_hand(ours, liar, (ContextCursor(IDENTITIES, 0), ContextCursor(MAIN, 0)))
        await theirs.send(commits(5, announced=((5, short_id(announced.id)),)))
        await theirs.send(commits(6, told))
        await asyncio.sleep(0.5)
        await MemoryStore.apply(slow, MAIN, [announced])
        ours.plumtree.stored([announced.id], None)
        cursor = slow.cursor(liar.id, MAIN)
        assert cursor is not None
        assert cursor.seq == 5
        await asyncio.sleep(1)
        assert told.id in versions_in(slow)
        cursor = slow.cursor(liar.id, MAIN)
        assert cursor is not None
        assert cursor.seq == 6
        await over(ours)

    virtually(main())


def test_who_does_not_deliver_what_it_announced_is_left_in_time():
    async def main() -> None:
        (ours,) = met(1)
        theirs = by_hand(ours, Spot(9, universe().store(())))
        await theirs.send(commits(5, announced=((5, ID),)))
        await asyncio.sleep(FRAME_TIMEOUT_S + 2 * HEARTBEAT_S[1])
        assert isinstance(ours.links[9].result(), TransportError)

    virtually(main())


def a_message() -> st.SearchStrategy[Message]:
    record = st.sampled_from([one.raw for one in universe().versions[MAIN]])
    ids = st.sampled_from([ID, *[short_id(one.id) for one in universe().versions[MAIN][:5]]])
    seqs = st.integers(0, 60)
    context = st.sampled_from([MAIN, MAIN, IDENTITIES, "new"])
    some = {"max_size": 3}
    raws = st.lists(record, **some).map(tuple)
    mark = st.builds(m.ContextRoot, context, st.just(bytes(32)), seqs)
    return st.one_of(
        st.builds(
            m.Commits,
            context,
            seqs,
            raws,
            st.lists(st.tuples(seqs, ids), **some).map(tuple),
        ),
        st.builds(m.Missing, context, st.lists(seqs, min_size=1, **some).map(tuple)),
        st.builds(m.Bodies, context, st.lists(seqs, min_size=1, **some).map(tuple), raws),
        st.builds(m.Roots, st.lists(mark, min_size=1, **some).map(tuple)),
        st.builds(m.Taken, st.integers(1, 5000)),
        st.builds(m.Follow, st.lists(st.builds(ContextCursor, context, st.none() | seqs), **some).map(tuple)),
        st.just(m.Lazy()),
    )


@given(said=st.lists(a_message(), max_size=12), held=st.sampled_from([(), tuple(range(0, 250, 2))]))
@settings(max_examples=100)
def test_whatever_a_peer_says_a_link_goes_on_or_ends_by_name_and_loses_nothing(said, held):
    async def main() -> None:
        (ours,) = met(1, held)
        before = heads_in(ours.store)
        theirs = by_hand(ours, Spot(9, universe().store(())))
        for message in said:
            await theirs.send(message)
            await asyncio.sleep(0.01)
        await ours.write(news(2))
        await asyncio.sleep(SETTLED_S)
        assert all(isinstance(end, EchonodeError | None) for end in await over(ours))
        assert root_of(heads_in(ours.store)) == ours.store.tree(MAIN).root
        assert not lacks(ours.store, before)

    virtually(main())


@pytest.mark.parametrize("is_told", [False, True], ids=["it told another root", "it told the same root"])
def test_what_a_third_peer_brings_is_not_told_to_a_peer_with_the_same_root(is_told: bool) -> None:
    async def main() -> None:
        one, other = (Spot(number, universe().store(())) for number in (1, 2))
        records = news(20)
        await other.store.apply(MAIN, records)
        root = other.store.tree(MAIN).root
        here, there = paired()
        link = Link(replace(one.ends(other, here), roots={MAIN: root}), one.places(other), other.places(one))
        one.links[2] = asyncio.create_task(to_its_end(link, here))
        peer = Link(other.ends(one, there), other.places(one), one.places(other))
        other.links[1] = asyncio.create_task(to_its_end(peer, there))
        await asyncio.sleep(0)
        one.plumtree.note_held([record.id for record in records], root if is_told else bytes(32))
        await one.write(records)
        await asyncio.sleep(SETTLED_S)
        assert link.tally.sent == (0 if is_told else len(records))
        assert one.equal == {2: True} and other.equal == {1: True}
        await over(one, other)

    virtually(main())
