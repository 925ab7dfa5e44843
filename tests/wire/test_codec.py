"""Messages to bytes and back: every message, every bound, every hostile shape at every place, any bytes at all."""

import sys
import tracemalloc
import unicodedata
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echonode import cbor
from echonode.errors import Reason, RemoteError
from echonode.limits import FRAME_BYTES_MAX
from echonode.wire import messages as m
from echonode.wire.codec import decode, encode
from tests.foundation.test_hostile_cbor import SHAPES
from tests.wire.make_message_vectors import SAMPLES
from tests.wire.strategies import MESSAGES, messages

KINDS = {kind.__name__: kind for kind in MESSAGES}
Path = tuple[int, ...]


def plain(message: m.Message) -> list[Any]:
    """The array that `message` is on the wire."""
    value = cbor.decode(encode(message))
    assert isinstance(value, list)
    return value


def refused(payload: bytes) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        decode(payload)
    assert caught.value.reason is Reason.PROTOCOL_ERROR
    return caught.value


def accepts(payload: bytes) -> bool:
    try:
        decode(payload)
    except RemoteError:
        return False
    return True


# -- there and back ----------------------------------------------------------------------------------------------------
def test_there_is_a_strategy_for_every_message() -> None:
    assert set(MESSAGES) == set(m.Message.__args__) | set(m.InitPayload.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@given(st.data())
def test_what_is_encoded_decodes_to_the_same(kind: type[Any], data: st.DataObject) -> None:
    message = data.draw(MESSAGES[kind])
    decoded = decode(encode(message))
    assert type(decoded) is kind
    assert decoded == message


def mutations(payload: bytes, change: st.DataObject) -> bytes:
    """A few bytes of `payload` replaced, left out or put in."""
    for _ in range(change.draw(st.integers(1, 3))):
        at = change.draw(st.integers(0, max(0, len(payload) - 1)))
        end = change.draw(st.sampled_from([at, at + 1, len(payload)]))
        payload = payload[:at] + change.draw(st.binary(max_size=2)) + payload[end:]
    return payload


@given(messages, st.data())
def test_whatever_is_accepted_is_the_encoding_of_what_it_means(message: m.Message, data: st.DataObject) -> None:
    payload = mutations(encode(message), data)
    try:
        decoded = decode(payload)
    except RemoteError as error:
        assert error.reason is Reason.PROTOCOL_ERROR
    else:
        assert encode(decoded) == payload


@given(st.binary(max_size=200) | st.integers(0, 60).flatmap(lambda code: st.binary().map(cbor.encode([code]).__add__)))
def test_any_bytes_are_a_message_or_the_peers_fault(payload: bytes) -> None:
    try:
        decoded = decode(payload)
    except RemoteError as error:
        assert error.reason is Reason.PROTOCOL_ERROR
    else:
        assert encode(decoded) == payload


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.integers(0, 9), inner, max_size=3),
    max_leaves=12,
)


@given(st.sampled_from(sorted(kind.code for kind in MESSAGES)), st.lists(_values, max_size=11))
def test_any_values_behind_a_code_are_a_message_or_the_peers_fault(code: int, values: list[Any]) -> None:
    payload = cbor.encode([code, *values])
    if accepts(payload):
        assert encode(decode(payload)) == payload


# -- what is no message --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("value", [None, True, 1, b"", "auth", {}, [], [None], [True], ["1"], [b"\x01"], [-1], [[1]]])
def test_what_does_not_begin_with_a_code_is_no_message(value: Any) -> None:
    assert "begins with its code" in refused(cbor.encode(value)).detail or value == [-1]


@pytest.mark.parametrize("code", [-1, 0, 9, 15, 19, 23, 27, 36, 52, 255, 2**64 - 1])
def test_an_unknown_code_is_refused_by_its_number(code: int) -> None:
    assert refused(cbor.encode([code])).detail == f"there is no message {code}"


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_a_field_too_few_or_too_many_is_refused(message: m.Message) -> None:
    value = plain(message)
    for path, part in [((), value), *places(value)]:
        if type(part) is list and (path == () or is_fixed(message, path)):
            for changed in (part[:-1], [*part, 0]):
                if changed:
                    assert not accepts(cbor.encode(replaced(value, path, changed))), (path, changed)


def test_a_refusal_names_the_message_and_shows_nothing_of_the_peers_bytes() -> None:
    value = plain(SAMPLES[1])
    value[3] = "\x1b[31m"
    assert refused(cbor.encode(value)).detail == "Hello: not 1 to 64 bytes of NFC text"


# -- hostile shapes at every place -----------------------------------------------------------------------------------------
def places(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every place below `value`: list items by number, map entries by twice theirs (the key) and one more (the value)."""
    inner = value if type(value) is list else [x for pair in value.items() for x in pair] if type(value) is dict else []
    for number, item in enumerate(inner):
        yield (*path, number), item
        yield from places(item, (*path, number))


def replaced(value: Any, path: Path, new: Any) -> Any:
    """`value` with `new` at `path`."""
    if not path:
        return new
    if type(value) is dict:
        flat = [x for pair in value.items() for x in pair]
        flat[path[0]] = replaced(flat[path[0]], path[1:], new)
        return dict(zip(flat[::2], flat[1::2], strict=True))
    return [replaced(item, path[1:], new) if number == path[0] else item for number, item in enumerate(value)]


def is_fixed(message: m.Message, path: Path) -> bool:
    """Whether the list at `path` has its one length: pairs, parts and states, not lists of many."""
    field = fields(message)[path[0] - 1].name
    return field in ("version", "resume", "state") if len(path) == 1 else len(path) == 2


MARK = b"\xf0place to be taken\xf1"


def spliced(value: Any, path: Path, raw: bytes) -> bytes:
    """The encoding of `value` with the bytes `raw` at `path`, whether they are CBOR or not."""
    payload = cbor.encode(replaced(value, path, MARK))
    assert payload.count(cbor.encode(MARK)) == 1
    return payload.replace(cbor.encode(MARK), raw)


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_every_hostile_shape_is_refused_at_every_place_of_every_message(message: m.Message) -> None:
    value = plain(message)
    shapes = [bytes.fromhex(shape) for shape in SHAPES.values()]
    for path, _ in places(value):
        if has_one_kind_of_key(value, path):
            for shape in shapes:
                assert not accepts(spliced(value, path, shape)), (path, shape[:20].hex())


def has_one_kind_of_key(value: Any, path: Path) -> bool:
    """False for the keys of a map of several: the marker among them would be sorted to another place."""
    inside: Any = value
    for number in path[:-1]:
        inside = [x for pair in inside.items() for x in pair][number] if type(inside) is dict else inside[number]
    return not (type(inside) is dict and path[-1] % 2 == 0 and len(inside) > 1)


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_a_value_of_another_type_is_refused_at_every_place(message: m.Message) -> None:
    value = plain(message)
    for path, there in places(value):
        if type(there) is bytes and there == b"":
            continue
        for other in (None, True, 2**63, -1, b"", "", [], {}, {0: 0}, [[]], b"\xff" * 5, "not it"):
            if type(other) is type(there) or other.__hash__ is None and is_key(value, path):
                continue
            payload = cbor.encode(replaced(value, path, other)) if has_one_kind_of_key(value, path) else None
            if payload is not None and accepts(payload):
                assert (type(message), path) in MAY_BE_ABSENT and other in (None, b"\xff" * 5), (path, other)


# Where None stands in place of a value, or a value in place of None.
MAY_BE_ABSENT = {
    (m.SnapshotInit, (4,)),
    (m.SnapshotInit, (3,)),
    (m.Page, (1,)),
    *((m.Fetch, (1, item, place)) for item in range(3) for place in (1, 2)),
    *((m.Records, (2, 0, place)) for place in (1, 2)),
}


def is_key(value: Any, path: Path) -> bool:
    inside: Any = value
    for number in path[:-1]:
        inside = [x for pair in inside.items() for x in pair][number] if type(inside) is dict else inside[number]
    return type(inside) is dict and path[-1] % 2 == 0


# -- bounds ----------------------------------------------------------------------------------------------------------------
def sample(kind: type[Any]) -> list[Any]:
    return plain(next(message for message in SAMPLES if type(message) is kind))


def text(size: int) -> str:
    return "x" * size


U16, U64 = 2**16 - 1, 2**64 - 1
WIDE = "é" * 32  # 64 bytes in 32 characters
PART = b"\x00\x80\x00" + bytes(16)
LEAVES = [b"\x01", bytes(16), None]

# (message, where, what is accepted there at the edge, what lies just over it)
BOUNDS: list[tuple[type[Any], Path, list[Any], list[Any]]] = [
    (m.Auth, (1,), [[[bytes(32), bytes(32), b"s", bytes(64)]] * 4], [[], [[bytes(32), bytes(32), b"s", bytes(64)]] * 5]),
    (m.Auth, (1, 0, 0), [bytes(32)], [bytes(31), bytes(33)]),
    (m.Auth, (1, 0, 1), [bytes(32)], [bytes(31), bytes(33)]),
    (m.Auth, (1, 0, 2), [b"s", bytes(1024)], [b"", bytes(1025)]),
    (m.Auth, (1, 0, 3), [bytes(64)], [bytes(63), bytes(65)]),
    (m.Hello, (1,), [[0, 0], [U16, U16]], [[U16 + 1, 0], [0, U16 + 1], [1, -1], [1], [1, 0, 0], [True, 0]]),
    (m.Hello, (2,), [bytes(16)], [bytes(15), bytes(17)]),
    (m.Hello, (3,), ["x", text(64), WIDE], ["", text(65), WIDE + "x", "e\u0301", "a\nb", "a\x7f", "\x00"]),
    (m.Hello, (4,), [bytes(8)], [bytes(7), bytes(9)]),
    (m.Hello, (5,), [bytes(8)], [bytes(7), bytes(9)]),
    (m.Hello, (6,), [0, U16], [U16 + 1, -1]),
    (
        m.Hello,
        (7,),
        [{}, {text(200): [0, U16]}, {f"{number:02}": [1, 0] for number in range(64)}],
        [{text(201): [1, 0]}, {"": [1, 0]}, {"note": [1]}, {1: [1, 0]}, {f"{n:02}": [1, 0] for n in range(65)}, []],
    ),
    (m.Hello, (8,), [[], ["x"] * 32, [text(200)]], [["x"] * 33, [text(201)], [""], {}]),
    (m.Hello, (9,), [[], [["x", bytes(32), 0, 0, PART, False]] * 65], [[["x", bytes(32), 0, 0, PART, False]] * 66]),
    (m.Hello, (9, 0, 0), [text(64)], [text(65), ""]),
    (m.Hello, (9, 0, 1), [bytes(32)], [bytes(31), bytes(33)]),
    (m.Hello, (9, 0, 2), [0, U64], [-1]),
    (m.Hello, (9, 0, 3), [0, U64], [-1]),
    (m.Hello, (9, 0, 4), [b"\x00", bytes(259)], [b"", bytes(260)]),
    (m.Hello, (9, 0, 5), [True, False], [0, 1, None]),
    (
        m.Hello,
        (10,),
        [{}, {bytes(8): U64}, {bytes([number]) * 8: 0 for number in range(16)}],
        [{bytes(7): 0}, {bytes(9): 0}, {bytes(8): -1}, {bytes([number]) * 8: 0 for number in range(17)}],
    ),
    (m.Close, (1,), [0, 255], [-1, 256, True]),
    (m.Close, (2,), [["x"] * 32, [text(200)]], [["x"] * 33, [text(201)], [b"x"]]),
    (m.Done, (1,), [bytes(32)], [bytes(31), bytes(33)]),
    (m.Done, (2,), [0, U64], [-1]),
    (m.Done, (3,), [0, U64], [-1]),
    (m.Done, (4,), [True, False], [0, 1]),
    (m.Refused, (1,), [0, 255], [-1, 256]),
    (m.Refused, (2,), [["x"] * 32], [["x"] * 33]),
    (m.Turn, (1,), [[], ["x"] * 65], [["x"] * 66, [text(65)]]),
    (m.LevelWiseInit, (2,), ["x", text(64)], ["", text(65)]),
    (m.LevelWiseInit, (3,), [0, 1, 2], [-1, 3, False]),
    (m.LevelWiseInit, (4,), [16, 32], [0, 15, 17, 31, 33, True]),
    (m.LevelWiseInit, (5,), [[b""], [b""] * 1024, [bytes([15]) * 64]], [[], [b""] * 1025, [bytes(65)], [b"\x10"]]),
    (m.NodesRequest, (1,), [[b""], [b""] * 1024, [bytes(64)]], [[], [b""] * 1025, [bytes(65)], [b"\x00\xff"]]),
    (m.Nodes, (1,), [bytes(32)], [bytes(31), bytes(33)]),
    (m.Nodes, (2,), [[], [b"\x01"] * 1024, [bytes(2051)]], [[b"\x01"] * 1025, [bytes(2052)], [b""]]),
    (m.HashComparisonInit, (3,), [0, 1, 2], [-1, 3]),
    (m.HashComparisonInit, (4,), [16, 32], [8, 64]),
    (m.HashComparisonInit, (5,), [1, 2, 3, 4], [0, 5]),
    (m.HashComparisonInit, (6,), [b"\x00", bytes(2051)], [b"", bytes(2052)]),
    (m.CompareRequest, (1,), [b"", bytes([15]) * 64], [b"\x10", bytes(65)]),
    (m.CompareRequest, (2,), [b"\x00", bytes(2051)], [b"", bytes(2052)]),
    (m.Differences, (2,), [[], [[b"", b"\x01"]] * 1024], [[[b"", b"\x01"]] * 1025, [[b""]], [[b"\x10", b"\x01"]]]),
    (m.SnapshotInit, (3,), [None, [bytes(32), bytes(32)]], [[bytes(32)], [bytes(31), bytes(32)], [None, None], []]),
    (m.Credit, (1,), [1, 4], [0, 5]),
    (
        m.Page,
        (1,),
        [None, [bytes(32), 0, U64, bytes(8)]],
        [[bytes(32), 0, 0], [bytes(31), 0, 0, bytes(8)], [bytes(32), -1, 0, bytes(8)], [bytes(32), 0, 0, bytes(7)]],
    ),
    (m.Page, (2,), [[], [b"r"] * 1000, [bytes(256 * 1024)]], [[b""], [b"r"] * 1001, [bytes(256 * 1024 + 1)]]),
    (m.Page, (3,), [True, False], [0, None]),
    (m.Fetch, (1,), [[LEAVES] * 1024], [[], [LEAVES] * 1025, [[b""]], [LEAVES[:2]]]),
    (m.Fetch, (1, 0, 0), [b"", bytes(64)], [bytes(65), b"\x10"]),
    (m.Fetch, (1, 0, 1), [None, bytes(16), bytes(262_144)], [b"", bytes(15), bytes(17), bytes(262_160)]),
    (m.Fetch, (1, 0, 2), [None, bytes(32)], [bytes(31), bytes(33)]),
    (m.Records, (1,), [[], [b"r"] * 1000], [[b""], [b"r"] * 1001]),
    (m.Records, (2,), [[], [LEAVES] * 1024], [[LEAVES] * 1025]),
    (m.Records, (3,), [True, False], [0, None]),
    (m.Put, (1,), [[b"r"] * 1000, [bytes(256 * 1024)]], [[], [b""], [b"r"] * 1001, [bytes(256 * 1024 + 1)]]),
    (m.Stored, (1,), [0, 1000], [-1, 1001]),
    (m.Stored, (2,), [0, 1000], [-1, 1001]),
    (m.Stored, (3,), [[], [[bytes(32), 255]] * 1000], [[[bytes(32), 0]] * 1001, [[bytes(31), 0]], [[bytes(32), 256]]]),
    (m.PairStart, (1,), [bytes(33)], [bytes(32), bytes(34)]),
    (m.PairAnswer, (1,), [bytes(33)], [bytes(32), bytes(34)]),
    (m.PairConfirm, (1,), [bytes(32)], [bytes(31), bytes(33)]),
    (m.PairFinish, (1,), [bytes(32)], [bytes(31), bytes(33)]),
    (m.PairFinish, (2,), [bytes(48)], [bytes(47), bytes(49)]),
]


@pytest.mark.parametrize(
    ("kind", "path", "edge", "over"), BOUNDS, ids=[f"{kind.__name__}-{'.'.join(map(str, path))}" for kind, path, *_ in BOUNDS]
)
def test_a_field_is_accepted_at_its_bound_and_refused_just_over_it(
    kind: type[Any], path: Path, edge: list[Any], over: list[Any]
) -> None:
    value = sample(kind)
    for good in edge:
        payload = cbor.encode(replaced(value, path, good))
        assert encode(decode(payload)) == payload, good
    for bad in over:
        refused(cbor.encode(replaced(value, path, bad)))


def test_every_field_of_every_message_has_its_bounds_tested() -> None:
    tested = {(kind, path[0]) for kind, path, *_ in BOUNDS}
    repeated = {(kind, 1) for kind in (m.LevelWiseInit, m.HashComparisonInit, m.SnapshotInit)}  # as in Hello
    repeated |= {(kind, 2) for kind in (m.HashComparisonInit, m.SnapshotInit)} | {(m.Differences, 1)}  # as in LevelWise
    assert tested | repeated == {(kind, place + 1) for kind in MESSAGES for place in range(len(fields(kind)))}


@given(st.text(max_size=8))
def test_text_is_accepted_in_nfc_without_controls_and_in_no_other_form(value: str) -> None:
    is_good = value == unicodedata.normalize("NFC", value) and bool(value)
    is_good = is_good and not any(unicodedata.category(char) == "Cc" for char in value)
    payload = sample(m.Turn)
    payload[1] = [value]
    assert accepts(cbor.encode(payload)) == is_good


def test_text_in_another_normal_form_is_refused() -> None:
    value = sample(m.Turn)
    for form, is_good in (("NFC", True), ("NFD", False)):
        value[1] = [unicodedata.normalize(form, "Küche")]
        assert accepts(cbor.encode(value)) == is_good


# -- bounded work ------------------------------------------------------------------------------------------------------------
def large(kind: type[Any], path: Path, item: Any, count: int) -> bytes:
    return cbor.encode(replaced(sample(kind), path, [item] * count))


HEAVY = {
    "a frame of prefixes": lambda: large(m.NodesRequest, (1,), bytes(64), 15_000),
    "a frame of offers": lambda: large(m.Auth, (1,), [bytes(32), bytes(32), b"s", bytes(64)], 7_000),
    "a frame of summaries": lambda: large(m.Hello, (9,), ["x", bytes(32), 0, 0, PART, False], 10_000),
    "a frame of wanted": lambda: large(m.Fetch, (1,), [b"", None, None], 16_000),
    "a frame of parts of all sizes": lambda: large(m.Nodes, (2,), PART, 40_000),
    "a frame of tiny records": lambda: large(m.Put, (1,), b"r", 60_000),
    "a frame of numbers": lambda: cbor.encode([17, list(range(60_000))]),
    "a frame of modes that are no text": lambda: large(m.Hello, (8,), b"x" * 15, 60_000),
    "one text as long as a frame": lambda: cbor.encode(replaced(sample(m.Hello), (3,), "é" * (FRAME_BYTES_MAX // 2 - 400))),
    "a map with too many keys": lambda: cbor.encode(
        replaced(sample(m.Hello), (7,), {f"{number:05}": [1, 0] for number in range(16_000)})
    ),
    "one leaf list as long as a frame": lambda: cbor.encode([32, [[b"", bytes(FRAME_BYTES_MAX - 64), None]]]),
}


@pytest.mark.parametrize("name", HEAVY)
def test_a_frame_full_of_the_wrong_thing_costs_work_and_memory_in_proportion_to_its_size(name: str) -> None:
    payload = HEAVY[name]()
    assert len(payload) <= FRAME_BYTES_MAX
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    tracemalloc.start()
    sys.setprofile(count)
    try:
        refused(payload)
    finally:
        sys.setprofile(None)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert calls < 400_000, f"{calls} calls"
    assert peak < 16 * FRAME_BYTES_MAX, f"{peak} bytes"
