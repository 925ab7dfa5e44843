"""Strict CBOR against RFC 8949's examples, against cbor2, and against itself."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from echonode.cbor import decode, decode_trusted, encode, item_length
from echonode.errors import Reason, RemoteError
from echonode.limits import CBOR_DEPTH_MAX, CBOR_ITEMS_MAX
from tests.foundation import make_cbor_vectors

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "cbor_appendix_a.json").read_text())
BYTES_AND_INT_MAPS = {"40": b"", "4401020304": bytes([1, 2, 3, 4]), "a201020304": {1: 2, 3: 4}}  # not JSON

UINTS = st.integers(0, 2**64 - 1)
NEGATIVES = st.integers(-(2**64), -1)
KEYS = (UINTS, NEGATIVES, st.binary(max_size=40), st.text(max_size=40))
SCALARS = st.none() | st.booleans() | UINTS | NEGATIVES | st.binary(max_size=300) | st.text(max_size=300)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=30) | st.one_of(*(st.dictionaries(kind, inner, max_size=30) for kind in KEYS))
    ),
    max_leaves=60,
)


def is_ours(value: Any, depth: int = CBOR_DEPTH_MAX) -> bool:
    """Return True if `value` belongs to the subset of CBOR that this project uses."""
    match value:
        case None | bool() | bytes() | str():
            return True
        case int():
            return -(2**64) <= value < 2**64
        case list():
            return depth > 0 and all(is_ours(item, depth - 1) for item in value)
        case dict():
            kinds = {(type(key), isinstance(key, int) and key < 0) for key in value}
            return (
                depth > 0
                and len(kinds) <= 1
                and all(type(key) in (int, bytes, str) and is_ours(key) for key in value)
                and all(is_ours(item, depth - 1) for item in value.values())
            )
    return False


def judged(data: bytes) -> bool:
    """Return True if cbor2 loads all of `data` as a value of that subset and encodes the value to the same bytes."""
    stream = BytesIO(data)
    try:
        value = cbor2.CBORDecoder(stream).decode()
        return stream.tell() == len(data) and is_ours(value) and encode(value) == data
    except Exception:  # its many tags make cbor2 raise many kinds of errors
        return False


def accepted(data: bytes) -> bool:
    try:
        value = decode(data)
    except RemoteError as error:
        assert error.reason is Reason.PROTOCOL_ERROR
        return False
    assert encode(value) == data, "one encoding per value"
    return True


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["hex"][:24])
def test_rfc_8949_examples_are_accepted_exactly_within_our_subset(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    major, info = data[0] >> 5, data[0] & 0x1F
    outside = "diagnostic" in vector and vector["hex"] not in BYTES_AND_INT_MAPS
    wanted = (
        vector["roundtrip"]
        and not outside
        and not isinstance(vector.get("decoded"), float)
        and major != 6  # tags, including bignums
    )
    assert accepted(data) == wanted
    if wanted:
        assert decode(data) == BYTES_AND_INT_MAPS.get(vector["hex"], vector.get("decoded"))
    else:
        assert major in (6, 7) or info == 31 or b"\x9f" in data or b"\xbf" in data


def test_the_examples_cover_both_sides() -> None:
    verdicts = [accepted(bytes.fromhex(vector["hex"])) for vector in VECTORS]
    assert len(verdicts) == 82
    assert sum(verdicts) == 37


def test_the_frozen_items_are_read_or_refused_as_they_say() -> None:
    frozen = json.loads(make_cbor_vectors.PATH.read_text())
    assert make_cbor_vectors.build() == frozen, "the encoding changed: see tests/foundation/make_cbor_vectors.py"
    for what, pieces in frozen["read"].items():
        item = make_cbor_vectors.whole(pieces)
        assert encode(decode(item)) == item and judged(item), what
    for what, refused in frozen["refused"].items():
        item = make_cbor_vectors.whole(refused["bytes"])
        assert not judged(item) or "65,537 items" in what, what  # the judge counts none
        with pytest.raises(RemoteError) as raised:
            decode(item)
        assert raised.value.reason.text == refused["reason"], what


@given(VALUES)
@example({24: 1, 255: 2, 256: 3, 65535: 4, 65536: 5, 2**32 - 1: 6, 2**32: 7, 2**64 - 1: 8})
@example({-1: 1, -24: 2, -25: 3, -256: 4, -257: 5, -(2**64): 6})
@example({"": 1, "b": 2, "aa": 3, "ä": 4, "z" * 24: 5})
@example({b"": 1, b"\xff": 2, b"\x00\x00": 3, bytes(256): 4})
@example([b"x" * 23, b"x" * 24, b"x" * 255, b"x" * 256, b"x" * 65536, "y" * 23, "y" * 24, "y" * 256])
@example([[], {}, [[]], [{}], True, False, None, 0, -1])
def test_what_we_write_we_read(value: Any) -> None:
    data = encode(value)
    assert decode(data) == value
    assert decode_trusted(data) == value


@given(VALUES)
def test_no_part_of_an_encoding_and_nothing_longer_is_an_encoding(value: Any) -> None:
    data = encode(value)
    assert not any(accepted(data[:end]) for end in range(len(data)))
    assert not accepted(data + b"\x00")
    assert not accepted(data + data)


@given(st.binary(max_size=60))
def test_any_bytes_are_accepted_exactly_when_cbor2_would_write_them(data: bytes) -> None:
    assert accepted(data) == judged(data)


@given(VALUES, st.data())
def test_damaged_encodings_are_accepted_exactly_when_cbor2_would_write_them(value: Any, data: st.DataObject) -> None:
    encoded = bytearray(encode(value))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(encoded)))
        removed = data.draw(st.integers(0, 3))
        encoded[at : at + removed] = data.draw(st.binary(max_size=3))
    assert accepted(bytes(encoded)) == judged(bytes(encoded))


@given(VALUES, st.randoms(use_true_random=False))
def test_other_ways_to_write_a_value_are_refused(value: Any, draw: Any) -> None:
    """The other well-formed encodings have wider numbers and lengths, and keys in another order."""

    def head(major: int, argument: int) -> bytes:
        widths = [size for size in (0, 1, 2, 4, 8) if argument < (24 if size == 0 else 1 << 8 * size)]
        size = draw.choice(widths)
        if size == 0:
            return bytes([major << 5 | argument])
        return bytes([major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[size]]) + argument.to_bytes(size, "big")

    def write(item: Any) -> bytes:
        match item:
            case None | bool():
                return encode(item)
            case int():
                return head(0, item) if item >= 0 else head(1, -1 - item)
            case bytes():
                return head(2, len(item)) + item
            case str():
                return head(3, len(item.encode())) + item.encode()
            case list():
                return head(4, len(item)) + b"".join(write(part) for part in item)
        pairs = [write(key) + write(part) for key, part in item.items()]
        draw.shuffle(pairs)
        return head(5, len(item)) + b"".join(pairs)

    written = write(value)
    assert cbor2.loads(written) == value
    assert accepted(written) == (written == encode(value))


def test_as_many_items_as_the_limit_are_read_and_one_more_is_refused() -> None:
    assert len(decode(encode([0] * (CBOR_ITEMS_MAX - 1)))) == CBOR_ITEMS_MAX - 1  # type: ignore[arg-type]
    assert not accepted(encode([0] * CBOR_ITEMS_MAX))
    assert decode(encode([[0], [0]]), items_max=5) == [[0], [0]]
    with pytest.raises(RemoteError, match="too many items"):
        decode(encode([[0], [0]]), items_max=4)
    with pytest.raises(RemoteError, match="too many items"):
        decode(encode({1: 2, 3: 4}), items_max=4)


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {1: inner}], ids=["arrays", "maps"])
def test_nesting_up_to_the_limit_is_read_and_one_deeper_is_refused(wrap: Any) -> None:
    value: Any = 0
    for _ in range(CBOR_DEPTH_MAX):
        value = wrap(value)
    assert decode(encode(value)) == value
    with pytest.raises(RemoteError, match="nested too deeply"):
        decode(encode(wrap(value)))


@given(st.lists(VALUES, min_size=1, max_size=4), st.integers(0, 40))
def test_items_of_a_sequence_are_told_apart(values: list[Any], before: int) -> None:
    data = bytes(before) + b"".join(map(encode, values))
    at = before
    for value in values:
        size = item_length(data, at, bytes_max=10**7)
        assert size is not None and decode(data[at : at + size]) == value
        for part in {0, 1, size // 2, size - 1} - {size}:
            assert item_length(data[: at + part], at, bytes_max=10**7) is None
        at += size
    assert at == len(data)


@pytest.mark.parametrize("begin", ["c0", "5f", "9f", "1c", "f93c00", "fb", "ff", "d81c"])
def test_what_no_item_begins_with_has_no_length(begin: str) -> None:
    with pytest.raises(RemoteError) as caught:
        item_length(bytes.fromhex(begin), 0, bytes_max=100)
    assert caught.value.reason is Reason.PROTOCOL_ERROR


@pytest.mark.parametrize("begin", ["5a00000065", "5bffffffffffffffff", "9865", "b833", "9bffffffffffffffff"])
def test_an_item_that_must_be_too_long_is_refused_by_its_first_bytes(begin: str) -> None:
    with pytest.raises(RemoteError) as caught:
        item_length(bytes.fromhex(begin), 0, bytes_max=100)
    assert caught.value.reason is Reason.TOO_LARGE


def test_an_item_of_more_items_than_are_decoded_is_refused_by_its_first_bytes() -> None:
    assert item_length(encode([0] * (CBOR_ITEMS_MAX - 1)), 0, bytes_max=10**6) is not None
    with pytest.raises(RemoteError):
        item_length(encode([0] * CBOR_ITEMS_MAX), 0, bytes_max=10**6)
