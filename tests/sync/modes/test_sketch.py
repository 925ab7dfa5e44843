"""`sketch`: few round trips and bytes; unreadable sketches are salted, then trees walked; forged ones cost little."""

import asyncio
from random import Random

import pytest

from echonode.errors import PeerRefused, Reason, RemoteError
from echonode.limits import SKETCH_BLOCKS_MAX, SKETCH_SYMBOLS_MAX
from echonode.model.merkle import Tree
from echonode.model.record import MAIN, Record
from echonode.model.sketch import Sketch, short_ids
from echonode.store.memory import MemoryStore
from echonode.sync import sketch_cache
from echonode.sync.conversation import Result
from echonode.sync.modes import sketch
from echonode.sync.sketch_cache import SketchCache
from echonode.wire import messages as m
from echonode.wire.messages import Message, SketchAnswer, SketchEqual, SketchInit, SketchMore, SketchWant
from echonode.wire.messages.sketch import SYMBOL_BYTES
from tests.sync.talk import (
    Talk,
    converse,
    heads_in,
    initiator_of,
    lacks,
    overheard,
    serve,
    to_its_end,
    versions_in,
    virtually,
)
from tests.sync.test_liars import broke_the_protocol, lie_to_initiator, lie_to_responder
from tests.sync.universe import at_once, root_of, universe

UNESTIMATED = initiator_of(sketch, expected=None)
NOISE = Random(1).randbytes(SYMBOL_BYTES * 64)


def library(first: int, last: int) -> MemoryStore:
    store = universe().store(())
    at_once(store.apply(MAIN, BOOKS[first:last]))
    return store


def _books() -> list[Record]:
    one = universe().writers[0]
    return [one.record(f"sketched-{number}") for number in range(1300)]


BOOKS = _books()


def said(talk: Talk, kind: type[Message]) -> list[Message]:
    return [message for message in talk.said if isinstance(message, kind)]


# -- what it costs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("apart", [100, 300])
def test_two_round_trips_whatever_differs(apart):
    async def main() -> None:
        ours, theirs = library(0, 1300 - apart), library(apart, 1300)
        talk = await converse(ours, theirs, UNESTIMATED)
        assert talk.our_end is talk.their_end is Result.EQUAL
        again = len(said(talk, SketchMore))  # one estimate in twenty is too low
        assert talk.ours.tally.round_trips == 2 + again and again <= 1
        assert (talk.ours.tally.received, talk.ours.tally.sent) == (apart, apart)
        assert (talk.ours.tally.had, talk.theirs.tally.had) == (0, 0)
        carried = sum(len(raw) + 3 for message in talk.said for raw in getattr(message, "records", ()))
        counted = talk.ours.transport.bytes_sent + talk.ours.transport.bytes_received - carried
        assert counted < 25 * 2 * apart

    virtually(main())


def test_less_is_said_when_little_is_expected_and_least_when_nothing_differs():
    async def main() -> None:
        ours, theirs = library(0, 1000), library(2, 1001)
        talk = await converse(ours, theirs, initiator_of(sketch), expected=3)
        assert talk.our_end is Result.EQUAL and talk.ours.tally.round_trips == 2
        again = await converse(ours, theirs, initiator_of(sketch), expected=0)
        assert again.our_end is again.their_end is Result.EQUAL
        assert again.ours.tally.round_trips == 1
        assert again.ours.transport.bytes_sent + again.ours.transport.bytes_received == 24

    virtually(main())


def test_an_expectation_that_is_far_off_costs_one_round_trip_more():
    async def main() -> None:
        ours, theirs = library(0, 1000), library(300, 1300)
        for expected in (0, 1):
            ours, theirs = library(0, 1000), library(300, 1300)
            talk = await converse(ours, theirs, initiator_of(sketch), expected=expected)
            assert talk.our_end is Result.EQUAL and talk.ours.tally.note == ""
            more, *again = said(talk, SketchMore)
            assert len(more.counts) == 8 + 191  # type: ignore[attr-defined]
            assert talk.ours.tally.round_trips == 3 + len(again) <= 4

    virtually(main())


def test_edits_travel_once_and_only_where_they_are_lacking():
    # Both have the record: theirs is newer, ours is newer, or both are heads now.
    one, two, _ = universe().writers
    old = [one.record(f"edited-{number}", author=universe().pool) for number in range(30)]
    ours, theirs = library(0, 200), library(0, 200)
    for store in (ours, theirs):
        at_once(store.apply(MAIN, old))
    at_once(ours.apply(MAIN, [one.record(each.name, each, author=universe().pool, body=b"1") for each in old[:20]]))
    at_once(theirs.apply(MAIN, [two.record(each.name, each, author=universe().pool, body=b"2") for each in old[10:]]))

    async def main() -> None:
        talk = await converse(ours, theirs, UNESTIMATED)
        assert talk.our_end is talk.their_end is Result.EQUAL
        assert talk.ours.tally.note == ""
        # We put every leaf that they lack: 10 old ones, 10 that join theirs as heads, 10 newer ones.
        assert (talk.theirs.tally.received, talk.theirs.tally.had) == (20, 10)
        # They send what we still lack: two heads where ours joined theirs, one of them our own, and 10 newer ones.
        assert (talk.ours.tally.received, talk.ours.tally.had) == (20, 10)

    virtually(main())


def test_a_kept_sketch_follows_its_tree():
    async def main() -> None:
        sketches = SketchCache()
        ours, theirs = library(0, 500), library(400, 900)
        for store in (ours, theirs):
            made = await sketches.of(MAIN, store.tree(MAIN))
            assert made.symbols(0, 90) == built(store.tree(MAIN), sketches).symbols(0, 90)
        made = await sketches.of(MAIN, ours.tree(MAIN))
        await ours.apply(MAIN, BOOKS[500:700])
        await ours.apply(MAIN, [universe().writers[0].tombstone(BOOKS[3])])
        assert await sketches.of(MAIN, ours.tree(MAIN)) is made
        assert made.symbols(0, 90) == built(ours.tree(MAIN), sketches).symbols(0, 90)

    virtually(main())


def built(tree: Tree, sketches: SketchCache, session: bytes = b"") -> Sketch:
    made = Sketch(90)
    made.add(short_ids(b"".join(tree.entries_around(b"")), sketches.key(MAIN, session)))
    return made


def test_few_sketches_are_kept_and_those_used_last(monkeypatch):
    monkeypatch.setattr(sketch_cache, "SKETCHES_MAX", 2)

    async def main() -> None:
        sketches, tree = SketchCache(), library(0, 20).tree(MAIN)
        trees = {name: library(0, 20).tree(MAIN) for name in ("a", "b", "c")}
        first = await sketches.of("a", trees["a"])
        second = await sketches.of("b", trees["b"])
        assert await sketches.of("a", trees["a"]) is first
        await sketches.of("c", trees["c"])
        assert await sketches.of("a", trees["a"]) is first
        assert await sketches.of("b", trees["b"]) is not second
        assert await sketches.of("a", tree) is not first, "another tree took its place"

    virtually(main())


def test_a_network_that_is_joined_has_other_ids():
    async def main() -> None:
        netid = [b"one"]
        sketches, tree = SketchCache(lambda: netid[0]), library(0, 50).tree(MAIN)
        before = (await sketches.of(MAIN, tree)).symbols(0, 9)
        salted = (await sketches.of(MAIN, tree, b"session")).symbols(0, 9)
        netid[0] = b"other"
        after = (await sketches.of(MAIN, tree)).symbols(0, 9)
        assert len({before, salted, after}) == 3

    virtually(main())


# -- what happens under way --------------------------------------------------------------------------------------------


def test_a_write_between_two_blocks_makes_the_sketch_begin_anew():
    async def main() -> None:
        ours, theirs = library(0, 1000), library(300, 1300)
        early, late = (universe().writers[0].record(name) for name in ("early", "late"))

        async def write(_: int, message: Message) -> None:
            if isinstance(message, SketchMore):
                await theirs.apply(MAIN, [early])
            if isinstance(message, SketchAnswer) and message.start == 0:
                await ours.apply(MAIN, [late])

        talk = await converse(ours, theirs, initiator_of(sketch), expected=2, hook=write)
        assert talk.our_end is talk.their_end is Result.EQUAL
        assert talk.ours.tally.note == ""
        answers = said(talk, SketchAnswer)
        assert [answer.start for answer in answers] == [0, 0]  # type: ignore[attr-defined]
        assert not lacks(theirs, [late]) and not lacks(ours, [early])

    virtually(main())


def test_what_comes_in_after_the_reading_is_walked_to():
    async def main() -> None:
        ours, theirs = library(0, 1000), library(300, 1300)
        late = universe().writers[0].record("late")

        async def write(_: int, message: Message) -> None:
            if isinstance(message, SketchWant):
                await theirs.apply(MAIN, [late])

        talk = await converse(ours, theirs, UNESTIMATED, hook=write)
        assert talk.our_end is talk.their_end is Result.EQUAL
        assert "roots differed" in talk.ours.tally.note
        assert said(talk, m.NodesRequest) and not lacks(ours, [late])

    virtually(main())


class Colliding(SketchCache):
    """Sketches in which the short ids of two leaves collide, so that no symbol ever shows one of them alone.
    `even_salted`: they collide also with a key for the session, which no attacker can know."""

    def __init__(self, *, even_salted: bool) -> None:
        super().__init__()
        self._even_salted = even_salted

    async def of(self, context: str, tree: Tree, session: bytes = b"") -> Sketch:
        made = await super().of(context, tree, session)
        if self._even_salted or not session:
            twins = Sketch()
            twins.add(short_ids(bytes(128), bytes(16)))
            for own, more in ((made._ids, twins._ids), (made._checks, twins._checks), (made._counts, twins._counts)):
                own += more
        return made


def strange(ours: MemoryStore, theirs: MemoryStore, *, even_salted: bool) -> Talk:
    talk = overheard(ours, theirs)
    object.__setattr__(talk.ours, "sketches", Colliding(even_salted=even_salted))
    for side in (talk.ours, talk.theirs):
        object.__setattr__(side, "session", b"one session's 16")
    return talk


async def run(talk: Talk) -> None:
    talk.our_end, talk.their_end = await asyncio.gather(
        to_its_end(talk.ours, UNESTIMATED(talk.ours)), to_its_end(talk.theirs, serve(talk.theirs))
    )


def test_what_cannot_be_read_is_read_with_ids_of_this_session():
    async def main() -> None:
        ours, theirs = library(0, 500), library(20, 510)
        talk = strange(ours, theirs, even_salted=False)
        await run(talk)
        assert talk.our_end is talk.their_end is Result.EQUAL
        assert talk.ours.tally.note == ""
        assert said(talk, SketchMore)[-1].is_salted  # type: ignore[attr-defined]
        assert not said(talk, m.NodesRequest)
        assert root_of(BOOKS[:510]) == ours.tree(MAIN).root

    virtually(main())


def test_what_cannot_be_read_even_so_is_walked_to():
    async def main() -> None:
        ours, theirs = library(0, 500), library(20, 510)
        talk = strange(ours, theirs, even_salted=True)
        await run(talk)
        assert talk.our_end is talk.their_end is Result.EQUAL
        assert "could not be read" in talk.ours.tally.note
        assert len(said(talk, SketchMore)) <= SKETCH_BLOCKS_MAX
        assert root_of(BOOKS[:510]) == ours.tree(MAIN).root == theirs.tree(MAIN).root

    virtually(main())


def test_more_than_a_sketch_can_tell_is_walked_to_at_once(monkeypatch):
    monkeypatch.setattr(sketch, "SKETCH_SYMBOLS_MAX", 200)

    async def main() -> None:
        ours, theirs = library(0, 900), library(600, 1300)
        talk = await converse(ours, theirs, UNESTIMATED)
        assert talk.our_end is Result.EQUAL
        assert not said(talk, SketchMore)
        assert len(said(talk, m.NodesRequest)[0].prefixes) > 1, "from the level that the estimate suggests"

    virtually(main())


# -- peers that lie ----------------------------------------------------------------------------------------------------


def opening(*, symbols: int = 0, counts: bytes = bytes(256)) -> SketchInit:
    return SketchInit((1, 0), MAIN, bytes(8), symbols, counts)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param((opening(counts=bytes(7)),), id="counts without a number of leaves"),
        pytest.param((opening(), SketchMore(False, 9, bytes(1))), id="such counts later"),
        pytest.param((opening(), SketchWant(b""), SketchMore(False, 9, b"")), id="more symbols at the end"),
        pytest.param((opening(), SketchWant(b""), SketchWant(b"")), id="the end twice"),
        pytest.param((opening(), SketchWant(b"12345")), id="half a beginning"),
        pytest.param((opening(), SketchWant(b""), m.NodesRequest((b"",))), id="a walk before the Dones"),
        pytest.param((opening(), m.NodesRequest((b"",)), SketchWant(b"")), id="the end behind a walk"),
        pytest.param((opening(), *[SketchMore(False, 9, b"")] * (SKETCH_BLOCKS_MAX + 1)), id="questions without end"),
    ],
)
def test_requests_of_no_form_or_place_end_the_session(said):
    async def main() -> None:
        talk = await lie_to_responder(library(0, 300), *said)
        assert broke_the_protocol(talk.their_end)

    virtually(main())


def test_forged_counts_ask_for_no_more_than_a_sketch_has():
    async def main() -> None:
        some = (300).to_bytes(8, "big")
        for counts in (bytes([255]) * 263, some + Random(3).randbytes(1023), bytes(8) + b"\x7f\x80" * 128):
            talk = await lie_to_responder(library(0, 300), opening(counts=counts))
            (answer,) = said(talk, SketchAnswer)
            assert len(answer.symbols) <= SKETCH_SYMBOLS_MAX * SYMBOL_BYTES  # type: ignore[attr-defined]

    virtually(main())


def test_ids_that_nobody_has_are_passed_over():
    async def main() -> None:
        # In a question: nothing is sent but the Done.
        theirs = library(0, 300)
        talk = await lie_to_responder(theirs, opening(), SketchWant(Random(4).randbytes(20)))
        assert said(talk, m.Records) == [records()]
        assert [done.root for done in said(talk, m.Done)] == [theirs.tree(MAIN).root]  # type: ignore[attr-defined]
        # And in an answer: the initiator puts what it has of the ids, which is nothing.
        made = built(theirs.tree(MAIN), SketchCache())
        made.remove(short_ids(Random(9).randbytes(64 * 5), bytes(16)))
        before = versions_in(theirs)
        symbols = SketchAnswer(5, 0, made.symbols(0, 40))
        talk = await lie_to_initiator(theirs, UNESTIMATED, Answering(symbols))
        assert not said(talk, m.Put) and versions_in(theirs) == before

    virtually(main())


def test_a_tag_holds_for_one_session_and_one_root():
    talks = [overheard(library(0, 20), library(0, 20)) for _ in range(2)]
    object.__setattr__(talks[1].ours, "session", b"one session's 16")
    roots = [library(0, size).tree(MAIN).root for size in (20, 21)]
    tags = {sketch.root_tag(talk.ours, root) for talk in talks for root in roots}
    assert len(tags) == 4 and {len(tag) for tag in tags} == {8}


def test_what_was_put_beside_other_heads_comes_back_with_them():
    async def main() -> None:
        one, two, _ = universe().writers
        mine, other = (writer.record("todo", author=universe().pool) for writer in (one, two))
        theirs = library(0, 20)
        await theirs.apply(MAIN, [other])
        put = m.Put((mine.raw, BOOKS[3].raw))
        talk = await lie_to_responder(theirs, opening(), put, SketchWant(b""))
        (sent,) = said(talk, m.Records)
        assert set(sent.records) == {mine.raw, other.raw}  # type: ignore[attr-defined]

    virtually(main())


class Answering:
    """Answers a sketch with these messages, and every other request as an empty store does."""

    def __init__(self, *messages: Message) -> None:
        self._messages = messages
        self._is_done_told = False

    async def __call__(self, transport, message: Message) -> None:
        match message:
            case SketchInit() | SketchMore():
                await transport.send(self._messages[0])
            case SketchWant():
                for each in (*self._messages[1:], DONE):
                    await transport.send(each)
                self._is_done_told = True
            case m.NodesRequest(prefixes):
                await transport.send(m.Nodes(bytes(32), tuple(b"\1" for _ in prefixes)))
            case m.Put(records):
                await transport.send(m.Stored(0, len(records), ()))
            case m.Done() if self._is_done_told:
                self._is_done_told = False
            case m.Done():
                await transport.send(m.Done(bytes(32), 0, 0, message.is_final))


def records(*which: Record, more: bool = False, rest: tuple[m.LeafRequest, ...] = ()) -> m.Records:
    return m.Records(tuple(record.raw for record in which), rest, more)


DONE = m.Done(bytes(32), 0, 0, False)
READ = SketchAnswer(3, 0, built(library(0, 300).tree(MAIN), SketchCache()).symbols(0, 40))  # nothing differs
IN_ORDER = sorted(BOOKS[1000:1003], key=lambda record: record.key)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((SketchAnswer(1, 0, NOISE[:-1]),), id="half a symbol"),
        pytest.param((SketchAnswer(1, 7, NOISE),), id="symbols that do not join"),
        pytest.param((READ, records(*IN_ORDER[::-1])), id="records out of order"),
        pytest.param((READ, records(*IN_ORDER, more=True), records(*IN_ORDER)), id="the same records again"),
        pytest.param((READ, records(more=True)), id="nothing, and more of it"),
        pytest.param((READ, records(*IN_ORDER, rest=(m.LeafRequest(b"", None),))), id="a rest that nobody can ask for"),
        pytest.param((READ, READ), id="two answers"),
        pytest.param((READ, records(), READ), id="no Done"),
        pytest.param((m.Nodes(bytes(32), ()),), id="another mode's answer"),
    ],
)
def test_answers_of_no_form_end_the_session(answer):
    async def main() -> None:
        ours = library(0, 300)
        talk = await lie_to_initiator(ours, UNESTIMATED, Answering(*answer))
        assert broke_the_protocol(talk.our_end)
        assert not lacks(ours, BOOKS[:300])

    virtually(main())


def test_a_peer_that_never_has_enough_is_walked_with():
    async def main() -> None:
        for answer in (SketchAnswer(10, 0, NOISE), SketchAnswer(2**60, 0, b""), SketchAnswer(5, 0, NOISE[:9])):
            insatiable = Answering(answer)
            talk = await lie_to_initiator(library(0, 300), UNESTIMATED, insatiable)
            assert talk.our_end in (Result.MOVED, Result.DIFFERENT)
            assert "could not be read" in talk.ours.tally.note
            assert len(said(talk, SketchMore)) <= SKETCH_BLOCKS_MAX

    virtually(main())


@pytest.mark.parametrize(
    "most", [pytest.param(64, id="all that a sketch has"), pytest.param(100, id="as much with ids of the session")]
)
def test_what_a_whole_sketch_does_not_tell_is_walked_to(monkeypatch, most):
    monkeypatch.setattr(sketch, "SKETCH_SYMBOLS_MAX", most)

    async def main() -> None:
        talk = await lie_to_initiator(library(0, 300), UNESTIMATED, Answering(SketchAnswer(10, 0, NOISE)))
        assert "could not be read" in talk.ours.tally.note
        assert len(said(talk, SketchMore)) == (0 if most == 64 else 3)

    virtually(main())


def test_more_symbols_than_a_sketch_has_end_the_session(monkeypatch):
    monkeypatch.setattr(sketch, "SKETCH_SYMBOLS_MAX", 63)

    async def main() -> None:
        talk = await lie_to_initiator(library(0, 300), UNESTIMATED, Answering(SketchAnswer(10, 0, NOISE)))
        assert broke_the_protocol(talk.our_end)

    virtually(main())


def test_a_root_that_is_claimed_and_not_held_is_never_called_equal():
    async def main() -> None:
        ours = library(0, 300)

        async def claims(transport, message: Message) -> None:
            if isinstance(message, SketchInit):
                await transport.send(SketchEqual())
                await ours.apply(MAIN, BOOKS[300:301])

        # It says that it holds our root, so both sides may end with equal roots; but ours has changed since.
        talk = await lie_to_initiator(ours, UNESTIMATED, claims)
        assert talk.our_end is Result.MOVED
        talk = await lie_to_initiator(library(0, 300), UNESTIMATED, Answering(READ, records(*IN_ORDER)))
        assert talk.our_end in (Result.MOVED, Result.DIFFERENT)

    virtually(main())


def test_a_refusal_ends_the_conversation():
    async def main() -> None:
        refusing = Answering(m.Refused(Reason.UNSUPPORTED_MODE, ("level_wise",)))
        talk = await lie_to_initiator(library(0, 30), UNESTIMATED, refusing)
        assert isinstance(talk.our_end, PeerRefused) and talk.our_end.reason is Reason.UNSUPPORTED_MODE

    virtually(main())


def test_records_that_are_none_are_not_stored():
    async def main() -> None:
        ours = library(0, 300)
        bad = m.Records((IN_ORDER[0].raw[:-1] + bytes([IN_ORDER[0].raw[-1] ^ 1]),), (), False)
        talk = await lie_to_initiator(ours, UNESTIMATED, Answering(READ, bad))
        assert isinstance(talk.our_end, RemoteError) and talk.our_end.reason is Reason.BAD_RECORD
        assert len(heads_in(ours)) == 300

    virtually(main())
