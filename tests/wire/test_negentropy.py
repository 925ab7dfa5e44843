"""Range-based reconciliation: the reference's conversations byte for byte, any two sets, and arbitrary bytes."""

import json
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echonode.errors import LocalError, Reason, RemoteError
from echonode.limits import NEGENTROPY_RANGES_MAX
from echonode.wire import ranges
from echonode.wire.negentropy import LIMIT_BYTES_MIN, VERSION, Negentropy
from echonode.wire.ranges import INFINITY, Items, bound, item, varint

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "negentropy_v1.json").read_text())["vectors"]
by_name = pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])

Pair = tuple[int, bytes]


def side(items: Iterable[Pair], limit: int = 0) -> Negentropy:
    return Negentropy(Items(item(timestamp, id) for timestamp, id in items), limit=limit)


def from_vector(vector: dict[str, Any], who: str) -> Negentropy:
    items = [(timestamp, bytes.fromhex(id)) for timestamp, id in vector[f"{who}_items"]]
    return side(items, vector[f"frame_limit_{who}"])


def talk(initiator: Negentropy, responder: Negentropy) -> list[bytes]:
    """Run a reconciliation. Return every message."""
    said = []
    message: bytes | None = initiator.initiate()
    while message is not None:
        said.append(message)
        message = (responder if len(said) % 2 else initiator).answer(message)
    return said


# -- the reference -----------------------------------------------------------------------------------------------------
@by_name
@pytest.mark.parametrize("who", ["initiator", "responder"])
def test_every_message_is_that_of_the_reference_implementation(vector: dict[str, Any], who: str) -> None:
    end = from_vector(vector, who)
    last: bytes | None = None
    for number, recorded in enumerate(vector["messages"]):
        message = bytes.fromhex(recorded["hex"])
        if recorded["from"] == who:
            assert (end.answer(last) if number and last is not None else end.initiate()) == message
        last = message
    if who == "initiator":
        assert last is not None
        assert end.answer(last) is None
        assert sorted(id.hex() for id in end.have) == sorted(vector["have"])
        assert sorted(id.hex() for id in end.need) == sorted(vector["need"])


# -- any two sets ------------------------------------------------------------------------------------------------------
# A fingerprint is a sum. Ids in which few bits vary, as those of one random byte, have equal sums now and then, and
# such ranges count as equal: ids of the protocol are hashes, and the list of all ids is compared at the end (§8.10).
ids = st.binary(min_size=32, max_size=32) | st.integers(0, 255).map(lambda bit: (1 << bit).to_bytes(32, "big"))
timestamps = st.integers(0, 40) | st.integers(0, INFINITY - 1)


@st.composite
def two_sets(draw: st.DrawFn) -> tuple[set[Pair], set[Pair]]:
    """Draw two sets of up to a thousand items, similar or not; many items share a timestamp and most of their id."""
    rnd = Random(draw(st.integers(0, 2**32 - 1)))
    times, width = draw(st.sampled_from([1, 3, 50, 10**6])), draw(st.sampled_from([8, 32]))
    count = draw(st.sampled_from([0, 1, 31, 32, 33, 100, 500, 1000]))
    when = {rnd.randbytes(width).rjust(32, b"\1"): rnd.randrange(times) for _ in range(count)}
    when |= draw(st.dictionaries(ids, timestamps, max_size=5))
    everything = [(timestamp, id) for id, timestamp in when.items()]
    share = draw(st.sampled_from([0.0, 0.01, 0.2, 0.5, 1.0]))
    ours = {each for each in everything if rnd.random() >= share / 2}
    return ours, {each for each in everything if each not in ours or rnd.random() >= share / 2}


limits = st.sampled_from([0, LIMIT_BYTES_MIN, 5000, 20_000])


@given(two_sets(), limits, limits)
def test_what_is_found_are_the_differences_of_the_sets(
    sets: tuple[set[Pair], set[Pair]], our_limit: int, their_limit: int
) -> None:
    ours, theirs = sets
    initiator = side(ours, our_limit)
    said = talk(initiator, side(theirs, their_limit))
    assert set(initiator.have) == {id for _, id in ours} - {id for _, id in theirs}
    assert set(initiator.need) == {id for _, id in theirs} - {id for _, id in ours}
    if not our_limit and not their_limit:  # a rest that did not fit is compared again
        assert len(initiator.have) + len(initiator.need) == len(ours ^ theirs)
    assert all(len(message) <= (our_limit or len(message)) for message in said[::2])
    assert all(len(message) <= (their_limit or len(message)) for message in said[1::2])


def test_a_message_has_so_many_ranges_and_no_more() -> None:
    empty = b"\x01\x00\x00"  # up to where the one before it ends, to be skipped
    assert side([]).answer(bytes((VERSION,)) + empty * NEGENTROPY_RANGES_MAX) == bytes((VERSION,))
    with pytest.raises(RemoteError, match="too many ranges"):
        side([]).answer(bytes((VERSION,)) + empty * (NEGENTROPY_RANGES_MAX + 1))


@given(two_sets())
def test_equal_sets_take_one_round_trip(sets: tuple[set[Pair], set[Pair]]) -> None:
    ours, _ = sets
    initiator = side(ours)
    assert len(talk(initiator, side(ours))) == 2
    assert (initiator.have, initiator.need) == ([], [])


@given(two_sets(), st.data())
def test_the_sum_of_any_range_is_that_of_its_ids(sets: tuple[set[Pair], set[Pair]], data: st.DataObject) -> None:
    ours, _ = sets
    items, ordered = Items(item(*each) for each in ours), sorted(ours)
    lower = data.draw(st.integers(0, len(ours)))
    upper = data.draw(st.integers(lower, len(ours)))
    listed = [id for _, id in ordered[lower:upper]]
    assert items.ids(lower, upper) == listed
    total = sum(int.from_bytes(id, "little") for id in listed) % 2**256
    counted = sha256(total.to_bytes(32, "little") + varint(upper - lower)).digest()
    assert items.fingerprint(lower, upper) == counted[:16]


@given(two_sets(), st.integers(0, 9), st.randoms())
def test_a_large_set_is_packed_as_a_small_one_is(sets: tuple[set[Pair], set[Pair]], tail: int, rnd: Random) -> None:
    rows = [item(*each) + rnd.randbytes(tail) for each in sets[0] | sets[1]]
    rnd.shuffle(rows)
    small = Items(rows, tail)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "_LARGE", 1)
        large = Items([b"".join(rows[:9]), *rows[9:]], tail)
    assert large.rows() == small.rows() == b"".join(sorted(rows))
    assert large._sums == small._sums


def test_an_item_that_stands_twice_in_a_large_set_is_refused() -> None:
    rows = [item(number, bytes(32)) + bytes(8) for number in range(ranges._LARGE)]
    assert len(Items(rows, 8)) == len(rows)
    rows[7] = rows[9][:40] + b"another."
    with pytest.raises(LocalError):
        Items(rows, 8)


@given(two_sets(), timestamps, st.binary(max_size=32))
def test_below_a_bound_lie_the_items_that_are_less(
    sets: tuple[set[Pair], set[Pair]], timestamp: int, prefix: bytes
) -> None:
    ours, _ = sets
    place = Items(item(*each) for each in ours).find(bound(timestamp, prefix))
    assert place == sum(each < (timestamp, prefix.ljust(32, b"\0")) for each in ours)


# -- what is wrong -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("items", [[(1, bytes(32))] * 2, [(INFINITY, bytes(32))], [(-1, bytes(32))], [(1, bytes(31))]])
def test_items_that_are_none_or_stand_twice_are_refused(items: list[Pair]) -> None:
    with pytest.raises(LocalError):
        side(items)


@pytest.mark.parametrize("limit", [1, LIMIT_BYTES_MIN - 1])
def test_a_limit_that_holds_no_message_is_refused(limit: int) -> None:
    with pytest.raises(LocalError):
        side([], limit)


@pytest.mark.parametrize("version", [0x60, 0x62, 0x6F])
def test_a_responder_answers_another_version_with_its_own_alone(version: int) -> None:
    assert side([]).answer(bytes((version,)) + b"whatever") == bytes((VERSION,))
    initiator = side([])
    initiator.initiate()
    with pytest.raises(RemoteError) as caught:
        initiator.answer(bytes((version,)))
    assert caught.value.reason is Reason.UNSUPPORTED_PROTOCOL


SPOILT = {
    "nothing": "",
    "no version": "5f",
    "another protocol": "70",
    "a bound that ends early": "61 01",
    "a bound longer than an id": "61 01 21" + "00" * 33 + "00",
    "a prefix that ends early": "61 01 05 0000",
    "no mode": "61 00 00",
    "an unknown mode": "61 00 00 03",
    "a fingerprint that ends early": "61 00 00 01" + "00" * 15,
    "an id list that ends early": "61 00 00 02 02" + "00" * 63,
    "more ids than there can be": "61 00 00 02 81ffffffffffffffff7f",
    "a number past 64 bits": "61 82808080808080808000 00 00",
    "a number without an end": "61 81" + "80" * 20,
    "a number not in its shortest form": "61 8001 00 00",
    "ranges that go backwards": "61 00 01 05 00 01 01 04 00",
}


@pytest.mark.parametrize("message", SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize("initiates", [False, True])
def test_a_message_that_is_none_is_the_peers_fault(message: str, initiates: bool) -> None:
    end = side([(1, bytes(32))])
    if initiates:
        end.initiate()
    with pytest.raises(RemoteError) as caught:
        end.answer(bytes.fromhex(message))
    assert caught.value.reason is Reason.PROTOCOL_ERROR


def test_timestamps_past_the_last_are_the_last() -> None:
    message = bytes.fromhex("61") + 2 * (varint(INFINITY) + bytes.fromhex("00 00")) + bytes.fromhex("00 00 02 00")
    assert side([(1, bytes(32))]).answer(message) == bytes.fromhex("61 00 00 00 00 00 02 00")


@given(st.binary(max_size=300), two_sets(), st.booleans())
def test_any_bytes_give_an_answer_or_a_remote_error(
    garbage: bytes, sets: tuple[set[Pair], set[Pair]], initiates: bool
) -> None:
    end = side(sets[0], LIMIT_BYTES_MIN)
    if initiates:
        end.initiate()
    try:
        answer = end.answer(bytes((VERSION,)) + garbage)
    except RemoteError:
        return
    assert answer is None or len(answer) <= LIMIT_BYTES_MIN


@given(two_sets(), st.data())
def test_a_message_altered_anywhere_gives_an_answer_or_a_remote_error(
    sets: tuple[set[Pair], set[Pair]], data: st.DataObject
) -> None:
    ours, theirs = sets
    message = bytearray(side(ours).initiate())
    message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    end = side(theirs, LIMIT_BYTES_MIN)
    try:
        answer = end.answer(bytes(message))
    except RemoteError:
        return
    assert answer is not None and len(answer) <= LIMIT_BYTES_MIN
