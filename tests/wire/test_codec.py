"""The codec: every message there and back, every bound, hostile shapes in every place, and arbitrary bytes."""

import sys
import tracemalloc
import unicodedata
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echonode import cbor
from echonode.errors import Reason, RemoteError
from echonode.limits import FRAME_BYTES_MAX
from echonode.wire import messages as m
from echonode.wire.codec import _SHAPES, decode, encode
from tests.foundation.test_hostile_cbor import SHAPES
from tests.wire.bounds import BOUNDS, IDS, PART
from tests.wire.make_message_vectors import SAMPLES
from tests.wire.payloads import Path, accepts, can_be_marked, places, plain, replaced, sample, spliced
from tests.wire.strategies import MESSAGES, messages

# An unknown kind may be the InitPayload of a later mode and can be refused as such. All else breaks the protocol.
REASONS = (Reason.PROTOCOL_ERROR, Reason.UNSUPPORTED_MODE)
KINDS = {kind.__name__: kind for kind in MESSAGES}


def refused(payload: bytes) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        decode(payload)
    assert caught.value.reason in REASONS
    return caught.value


# -- there and back ----------------------------------------------------------------------------------------------------
def test_the_table_holds_every_message_and_no_other() -> None:
    assert set(_SHAPES) == set(m.Message.__args__)  # type: ignore[attr-defined]
    assert len({kind.code for kind in _SHAPES}) == len(_SHAPES)


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
    """Return `payload` with a few bytes replaced, removed or inserted."""
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
        assert error.reason in REASONS
    else:
        assert encode(decoded) == payload


@given(st.binary(max_size=200) | st.integers(0, 60).flatmap(lambda code: st.binary().map(cbor.encode([code]).__add__)))
def test_any_bytes_are_a_message_or_the_peers_fault(payload: bytes) -> None:
    try:
        decoded = decode(payload)
    except RemoteError as error:
        assert error.reason in REASONS
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


# -- what is no message ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("value", [None, True, 1, b"", "auth", {}, [], [None], [True], ["1"], [b"\x01"], [-1], [[1]]])
def test_what_does_not_begin_with_a_code_is_no_message(value: Any) -> None:
    assert "begins with its code" in refused(cbor.encode(value)).detail or value == [-1]


@pytest.mark.parametrize("code", [-1, 0, 15, 19, 27, 36, 55, 69, 255, 2**64 - 1])
def test_an_unknown_code_is_refused_by_its_number(code: int) -> None:
    error = refused(cbor.encode([code]))
    assert (error.detail, error.reason) == (f"there is no message {code}", Reason.UNSUPPORTED_MODE)


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
    assert refused(cbor.encode(value)).detail == "Hello: not 1 to 64 bytes of text"


# -- hostile shapes at every place -------------------------------------------------------------------------------------
def is_fixed(message: m.Message, path: Path) -> bool:
    """Return True if the list at `path` has a fixed length: a pair, a part or a state."""
    field = fields(message)[path[0] - 1].name
    if field == "filter":
        return False  # a map of lists of any length
    return field in ("version", "resume", "state") if len(path) == 1 else len(path) == 2


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_every_hostile_shape_is_refused_at_every_place_of_every_message(message: m.Message) -> None:
    value = plain(message)
    shapes = [bytes.fromhex(shape) for shape in SHAPES.values()]
    for path, _ in places(value):
        if can_be_marked(value, path):
            for shape in shapes:
                assert not accepts(spliced(value, path, shape)), (path, shape[:20].hex())


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_a_value_of_another_type_is_refused_at_every_place(message: m.Message) -> None:
    value = plain(message)
    for path, there in places(value):
        for other in (None, True, 2**63, -1, b"", "", [], {}, {0: 0}, [[]]):
            if type(other) is not type(there) and can_be_marked(value, path, other):
                is_accepted = accepts(cbor.encode(replaced(value, path, other)))
                assert is_accepted == (other is None and (type(message), path) in MAY_BE_NULL), (path, other)


MAY_BE_NULL = {
    (m.SnapshotInit, (3,)),
    (m.Page, (1,)),
    (m.Changes, (4,)),
    *((m.FollowInit, (3, place, 1)) for place in range(2)),
    (m.Follow, (1, 0, 1)),
    *((m.Fetch, (1, item, place)) for item in range(3) for place in (1, 2)),
    *((m.Records, (2, 0, place)) for place in (1, 2)),
    *((m.GetInit, (3, item, 1)) for item in range(2)),
    (m.GetMore, (1, 0, 1)),
}


# -- bounds ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("kind", "path", "edge", "over"), BOUNDS, ids=IDS)
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
    opening = (m.LevelWiseInit, m.HashComparisonInit, m.SnapshotInit, m.SketchInit)
    repeated = {(kind, 1) for kind in opening}  # tested in another message
    repeated |= {(kind, 2) for kind in (m.HashComparisonInit, m.SnapshotInit)} | {(m.Differences, 1)}  # and here
    opening = (m.ReconcileInit, m.PullInit, m.GetInit, m.PutInit)
    repeated |= {(kind, place) for kind in opening for place in (1, 2)}
    assert tested | repeated == {(kind, place + 1) for kind in MESSAGES for place in range(len(fields(kind)))}


@given(st.text(max_size=8))
def test_text_is_accepted_without_controls_whatever_its_normal_form(value: str) -> None:
    is_good = bool(value) and not any(unicodedata.category(char) == "Cc" for char in value)
    payload = sample(m.Turn)
    payload[1] = [value]
    assert accepts(cbor.encode(payload)) == is_good


# -- bounded work ------------------------------------------------------------------------------------------------------
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
    "one text as long as a frame": lambda: cbor.encode(
        replaced(sample(m.Hello), (3,), "é" * (FRAME_BYTES_MAX // 2 - 400))
    ),
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
