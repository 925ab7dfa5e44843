"""The quick reader of payloads takes nothing that the strict one refuses, and reads the same fields."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echonode import cbor
from echonode.limits import NAME_BYTES_MAX
from echonode.model.common_layout import read_heading, write_payload
from echonode.model.cose import split
from echonode.model.fields import check_fields
from echonode.model.record import MAIN, Draft, parse
from tests.model.forge import PERSON, PLAIN, WRITER, forged, written

COMMON = {**PLAIN, 9: 1 << 40}  # a time of creation that takes eight bytes, as all since 1970-02-20 do


def is_read_as_the_strict_reader_does(payload: bytes) -> bool:
    """Return True if the quick reader takes `payload`; fail if the strict one refuses it or reads something else."""
    heading = read_heading(payload)
    if heading is None:
        return False
    strict: Any = cbor.decode(payload)
    check_fields(strict)
    assert repr(heading) == repr((*[strict[number] for number in (1, 2, 3, 4, 5, 6, 9)], 13 in strict)), "True is not 1"
    assert repr(cbor.decode_trusted(payload)) == repr(strict), "and the order is that of the payload"
    return True


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({}, id="required fields alone"),
        pytest.param({3: "n" * 23}, id="longest short name"),
        pytest.param({3: "n" * 24}, id="shortest long name"),
        pytest.param({3: "n" * NAME_BYTES_MAX}, id="longest name"),
        pytest.param({3: "é" * (NAME_BYTES_MAX // 2)}, id="longest name that is not ASCII"),
        *[pytest.param({6: {WRITER: count}}, id=f"counter {count}") for count in (23, 24, 255, 256, 65_535, 65_536)],
        *[pytest.param({6: {WRITER: count}}, id=f"counter {count}") for count in (2**32 - 1, 2**32, 2**64 - 1)],
        pytest.param({8: [23, 0]}, id="a version of the model"),
        pytest.param({10: ["a", "b"], 11: "text/plain", 12: b"body"}, id="every field but one"),
        pytest.param({10: [f"t{number:02}" for number in range(23)]}, id="many tags"),
        *[pytest.param({12: bytes(size)}, id=f"a body of {size}") for size in (1, 23, 24, 255, 256, 65_535)],
        pytest.param({10: ["a"], 13: True}, id="a tombstone"),
    ],
)
def test_common_payloads_are_taken(more: dict[Any, Any]) -> None:
    assert is_read_as_the_strict_reader_does(cbor.encode({**COMMON, **more}))


@pytest.mark.parametrize(
    "rare",
    [
        pytest.param({1: "c" * 24}, id="long context"),
        pytest.param({4: 1}, id="early timestamp"),
        pytest.param({6: {WRITER: 1, bytes(16): 2}}, id="two writers"),
        pytest.param({8: [24, 0]}, id="late version of the model"),
        pytest.param({9: 0}, id="early time of creation"),
        pytest.param({12: bytes(65_536)}, id="long body"),
        pytest.param({14: 1}, id="a field of a later version"),
    ],
)
def test_rare_payloads_are_left_to_the_strict_reader(rare: dict[Any, Any]) -> None:
    payload = cbor.encode({**COMMON, **rare})
    assert read_heading(payload) is None
    assert parse(forged({**COMMON, **rare})).id


def neighbours(payload: bytes) -> Iterator[bytes]:
    """Yield the payloads that differ from `payload` in one byte, are cut, have a byte more, or one left out."""
    for place in range(len(payload)):
        for other in range(256):
            yield payload[:place] + bytes((other,)) + payload[place + 1 :]
        yield payload[:place]
        yield payload[:place] + payload[place + 1 :]
        yield payload[:place] + payload[place : place + 1] + payload[place:]
    yield payload + b"\x00"


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({**COMMON, 6: {WRITER: 300}, 10: ["a", "b"], 11: "text/plain", 12: b"body"}, id="with a body"),
        pytest.param({**COMMON, 3: "n" * 24, 13: True}, id="a tombstone"),
        pytest.param({**COMMON, 12: bytes(300)}, id="a longer body"),
    ],
)
def test_no_neighbour_of_a_common_payload_is_taken_that_the_strict_reader_refuses(fields: dict[Any, Any]) -> None:
    read = [is_read_as_the_strict_reader_does(payload) for payload in neighbours(cbor.encode(fields))]
    assert any(read) and not all(read)


TEXTS = st.text(max_size=30)
FIELDS = st.fixed_dictionaries(
    {
        1: TEXTS | st.just("main"),
        2: st.binary(min_size=31, max_size=33) | st.just(bytes(32)),
        3: TEXTS,
        4: st.integers(0, 2**64 - 1),
        5: st.just(b"instance") | st.binary(max_size=9),
        6: st.dictionaries(st.just(WRITER) | st.just(bytes(16)), st.integers(0, 2**64 - 1), max_size=2),
        7: TEXTS | st.just("note"),
        8: st.just([1, 0]) | st.lists(st.integers(0, 30), max_size=3),
        9: st.integers(0, 2**64 - 1),
    },
    optional={
        10: st.lists(TEXTS, max_size=4).map(sorted),
        11: TEXTS,
        12: st.binary(max_size=300),
        13: st.booleans(),
        14: st.none() | TEXTS,
    },
)
WRITABLE = FIELDS.map(
    lambda fields: {number: number == 13 or each for number, each in fields.items() if number < 14}
)


@given(FIELDS, st.integers(0, 500), st.binary(max_size=3))
def test_the_quick_reader_never_takes_more_than_the_strict_one(fields: dict[Any, Any], at: int, noise: bytes) -> None:
    payload = cbor.encode(fields)
    is_read_as_the_strict_reader_does(payload)
    is_read_as_the_strict_reader_does(payload[:at] + noise + payload[at + len(noise) :])


def quick_payload(fields: dict[int, Any]) -> bytes | None:
    """Return the payload that the quick writer makes of `fields`."""
    heading = (*[fields[number] for number in (1, 2, 3, 4, 5, 6, 9)], 13 in fields)
    return write_payload(
        heading, fields[7], tuple(fields[8]), fields.get(10, ()), fields.get(11, ""), fields.get(12, b"")
    )


def is_written_as_the_encoder_does(fields: dict[int, Any]) -> bool:
    """Return True if the quick writer takes `fields`; fail if they are not valid or it writes something else."""
    quick = quick_payload(fields)
    if quick is None:
        return False
    fields = {number: value for number, value in fields.items() if value not in ([], "", b"")}
    if 10 in fields:
        fields[10] = sorted(set(fields[10]))
    check_fields(fields)
    assert quick == cbor.encode(fields)
    assert cbor.decode(quick) == fields
    is_read_as_the_strict_reader_does(quick)
    return True


@given(WRITABLE)
def test_the_quick_writer_writes_what_the_encoder_does_or_nothing(fields: dict[int, Any]) -> None:
    is_written_as_the_encoder_does(fields)


PLAIN_TEXTS = st.text("abc /é\n", min_size=1, max_size=25)
LIKELY = st.fixed_dictionaries(
    {
        1: st.just("main") | PLAIN_TEXTS,
        2: st.just(bytes(32)),
        3: st.text("abc", min_size=1, max_size=NAME_BYTES_MAX + 1) | PLAIN_TEXTS,
        4: st.integers(2**32 - 1, 2**64),
        5: st.just(b"instance"),
        6: st.integers(0, 70_000).map(lambda count: {WRITER: count}),
        7: st.just("note") | PLAIN_TEXTS,
        8: st.lists(st.integers(0, 24) | st.just(True), min_size=2, max_size=2),
        9: st.integers(2**32 - 1, 2**64),
    },
    optional={10: st.lists(PLAIN_TEXTS, max_size=3), 11: PLAIN_TEXTS, 12: st.binary(max_size=300), 13: st.just(True)},
)


@given(LIKELY)
def test_the_quick_writer_takes_no_bad_draft(fields: dict[int, Any]) -> None:
    is_written_as_the_encoder_does(fields)


@pytest.mark.parametrize("size", [1, 23, 24, 255, 256, 65_535])
@pytest.mark.parametrize("counter", [1, 23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**64 - 1])
def test_sizes_and_counters_are_written_in_their_shortest_form(size: int, counter: int) -> None:
    fields = {**COMMON, 3: "n" * min(size, NAME_BYTES_MAX), 6: {WRITER: counter}, 12: bytes(size)}
    assert is_written_as_the_encoder_does(fields)
    assert quick_payload({**fields, 12: bytes(65_536)}) is None


@pytest.mark.parametrize("counter", [0, -1, True, 2**64, "1"])
def test_what_is_no_counter_is_left_to_the_strict_writer(counter: object) -> None:
    assert quick_payload({**COMMON, 6: {WRITER: counter}}) is None


def test_a_version_written_here_is_of_the_common_layout() -> None:
    draft = Draft(context=MAIN, author=PERSON.id, name="name", body=b"{}", media_type="application/json", tags=("t",))
    _, _, payload = split(written(draft).raw)
    assert is_read_as_the_strict_reader_does(payload)
