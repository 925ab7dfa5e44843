"""Hostile shapes of CBOR, by name: each is refused as the peer's fault, at once, without an allocation for it."""

import tracemalloc

import pytest

from echonode.cbor import decode, encode
from echonode.errors import Reason, RemoteError
from echonode.limits import FRAME_BYTES_MAX

SHAPES = {
    # indefinite lengths
    "indefinite bytes": "5f4101ff",
    "indefinite text": "7f6161ff",
    "indefinite array": "9f01ff",
    "indefinite map": "bf0101ff",
    "indefinite array inside a map": "a1019fff",
    "a break on its own": "ff",
    "a break inside an array": "8101ff",
    # reserved additional information
    "reserved length 28": "1c00",
    "reserved length 29 of bytes": "5d00",
    "reserved length 30 of an array": "9e00",
    # tags
    "a date tag": "c074323031332d30332d32315432303a30343a30305a",
    "a bignum": "c249010000000000000000",
    "a negative bignum": "c349010000000000000000",
    "a regular expression": "d8236161",
    "a shared reference": "d81c80",
    "a self-reference": "d81c81d81d00",
    "a set": "d9010281 01",
    "an unknown tag": "daffffffff00",
    "a tag as a map key": "a1c24101 00",
    # floats and simple values
    "half float": "f93c00",
    "single float": "fa47c35000",
    "double float": "fb3ff199999999999a",
    "not a number": "f97e00",
    "undefined": "f7",
    "simple value 0": "e0",
    "simple value 16": "f0",
    "simple value 24": "f818",
    "false in two bytes": "f814",
    # numbers and lengths not in their shortest form
    "0 in two bytes": "1800",
    "23 in two bytes": "1817",
    "255 in three bytes": "1900ff",
    "65535 in five bytes": "1a0000ffff",
    "2**32-1 in nine bytes": "1b00000000ffffffff",
    "-1 in two bytes": "3800",
    "-256 in three bytes": "3900ff",
    "empty bytes with a long length": "5800",
    "short text with a long length": "780161",
    "short bytes with a long length in an array": "81580161",
    "an array with a long count": "980100",
    "a map with a long count": "b8010000",
    "a map key in two bytes": "a1180000",
    # maps
    "duplicate keys": "a201000100",
    "duplicate text keys": "a2616100616100",
    "duplicate bytes keys": "a2414100414101",
    "unsorted keys": "a202000100",
    "unsorted text keys": "a2616200616100",
    "longer text key first": "a262616100616200",
    "numbers and text as keys": "a20100616100",
    "numbers and bytes as keys": "a20100414100",
    "bytes and text as keys": "a2414100616100",
    "positive and negative numbers as keys": "a201002000",
    "a list as a key": "a1800000",
    "a map as a key": "a1a00000",
    "true as a key": "a1f500",
    "null as a key": "a1f600",
    "a float as a key": "a1f93c0000",
    "a key without a value": "a101",
    # text
    "text that is not UTF-8": "61ff",
    "an overlong encoding": "62c080",
    "a surrogate in UTF-8": "63eda080",
    "a code point past the last": "64f4908080",
    "text cut inside a character": "61c3",
    "text that is not UTF-8 as a key": "a161ff00",
    "long text that is not UTF-8": "7818" + "ff" * 24,
    # ends
    "nothing at all": "",
    "trailing byte": "0000",
    "trailing item": "a000",
    "a number cut off": "1a0000",
    "a two-byte number cut off": "1901",
    "a length cut off": "58",
    "bytes cut off": "42ff",
    "text cut off": "6361",
    "an array cut off": "8201",
    "bytes in an array cut off": "815818ff",
    # declared lengths far beyond the input
    "huge bytes": "5b7fffffffffffffff00",
    "huge text": "7b7fffffffffffffff00",
    "huge array": "9b7fffffffffffffff00",
    "huge map": "bb7fffffffffffffff0000",
    "largest length": "5bffffffffffffffff00",
    "huge array of huge arrays": "9affffffff" * 16,
    "huge bytes as a key": "a15b7fffffffffffffff00",
    "huge bytes as a value": "a1015b7fffffffffffffff00",
    # nesting
    "deeply nested arrays": "81" * 100_000,
    "deeply nested maps": "a101" * 100_000,
    "deeply nested tags": "c1" * 100_000,
    "deeply nested as a key": "a1" * 100_000,
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_hostile_shape_is_refused_as_the_peers_fault(shape: str) -> None:
    with pytest.raises(RemoteError) as caught:
        decode(bytes.fromhex(shape))
    assert caught.value.reason is Reason.PROTOCOL_ERROR
    assert caught.value.detail.startswith("CBOR: ")


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_hostile_shape_is_refused_inside_a_message_too(shape: str) -> None:
    inside = b"\xa1\x01\x82\x00" + bytes.fromhex(shape)
    with pytest.raises(RemoteError):
        decode(inside)


@pytest.mark.parametrize("name", [name for name in SHAPES if "huge" in name or "largest" in name or "deep" in name])
def test_a_declared_length_allocates_nothing(name: str) -> None:
    data = bytes.fromhex(SHAPES[name])
    tracemalloc.start()
    try:
        with pytest.raises(RemoteError):
            decode(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000, f"{name}: {peak} bytes"


def test_a_frame_of_bignum_keys_is_refused_at_the_first() -> None:
    """cbor2 spends 15 s on hashing 1.8 MB of such keys (SECURITY.md §3)."""
    bignum = bytes.fromhex("c249010000000000000000")
    many = b"\xba\x00\x01\x00\x00" + (bignum + b"\x00") * (FRAME_BYTES_MAX // 12)
    with pytest.raises(RemoteError):
        decode(many)
    with pytest.raises(RemoteError, match="not a number, bytes or text"):
        decode(b"\xb9\x10\x00" + (bignum + b"\x00") * 4096)


def test_what_is_not_utf_8_never_shows_in_the_error() -> None:
    with pytest.raises(RemoteError, match="not UTF-8") as caught:
        decode(b"\x78\x18" + b"\x1b[31m" + b"\xff" * 19)
    assert "\x1b" not in str(caught.value)


def test_the_same_value_at_every_width_has_one_encoding() -> None:
    for value in (0, 23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**64 - 1):
        good = [
            data
            for data in (
                bytes([value]) if value < 24 else b"",
                *(
                    bytes([code]) + value.to_bytes(width, "big")
                    for code, width in ((24, 1), (25, 2), (26, 4), (27, 8))
                    if value < 1 << 8 * width
                ),
            )
            if data and accepts(data)
        ]
        assert good == [encode(value)]


def accepts(data: bytes) -> bool:
    try:
        decode(data)
    except RemoteError:
        return False
    return True
