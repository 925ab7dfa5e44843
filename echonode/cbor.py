"""Deterministic CBOR (RFC 8949 §4.2.1): one encoding per value, the only door to cbor2.

`decode` accepts exactly what `encode` writes and nothing else: no tags, floats, indefinite lengths, undefined,
non-minimal numbers, unsorted or duplicate keys, and nothing after the end. It is written here because cbor2 accepts
all of those; cbor2 encodes, and judges `decode` in the tests.
"""

from typing import Final, TypeAlias

import cbor2

from echonode.errors import Reason, RemoteError
from echonode.limits import CBOR_DEPTH_MAX, CBOR_ITEMS_MAX

Value: TypeAlias = "int | bytes | str | bool | None | list[Value] | dict[int | bytes | str, Value]"

_WIDTHS: Final = {24: 1, 25: 2, 26: 4, 27: 8}
# The least argument that needs each width: anything smaller has a shorter form (RFC 8949 §4.2.1).
_LEAST: Final = {24: 24, 25: 1 << 8, 26: 1 << 16, 27: 1 << 32}


def encode(value: object) -> bytes:
    """The one encoding of `value`. Map keys must all be of one kind, so that RFC 7049 order equals RFC 8949 order."""
    return cbor2.dumps(value, canonical=True)


def decode_trusted(data: bytes) -> Value:
    """Decode bytes that `decode` accepted before (they come from our own disk). Ten times faster than `decode`."""
    value: Value = cbor2.loads(data)
    return value


def decode(data: bytes, *, items_max: int = CBOR_ITEMS_MAX) -> Value:
    """The value whose encoding is `data`. Raises RemoteError (PROTOCOL_ERROR) for every other input."""
    try:
        value, end, _ = _item(data, 0, CBOR_DEPTH_MAX, items_max)
    except IndexError:
        raise _bad("it ends too early") from None
    if end != len(data):
        raise _bad("something follows the end")
    return value


def _bad(detail: str) -> RemoteError:
    return RemoteError(Reason.PROTOCOL_ERROR, f"CBOR: {detail}")


def _item(data: bytes, at: int, depth: int, items: int) -> tuple[Value, int, int]:
    """The item at `at`, the position behind it, and how many more items may come. IndexError when data runs out."""
    if items <= 0:
        raise _bad("too many items")
    items -= 1
    initial = data[at]
    at += 1
    major, argument = initial >> 5, initial & 0x1F
    if argument >= 24:
        if major == 7:
            raise _bad("floats, undefined and reserved values are not used")
        width = _WIDTHS.get(argument)
        if width is None:
            raise _bad("indefinite lengths are not used")
        end = at + width
        least = _LEAST[argument]
        argument = int.from_bytes(data[at:end], "big")
        if end > len(data):
            raise IndexError
        if argument < least:
            raise _bad("a number is not in its shortest form")
        at = end
    match major:
        case 0:
            return argument, at, items
        case 1:
            return -1 - argument, at, items
        case 2 | 3:
            end = at + argument
            if end > len(data):
                raise IndexError
            if major == 2:
                return data[at:end], end, items
            try:
                return data[at:end].decode("utf-8"), end, items
            except UnicodeDecodeError:
                raise _bad("text is not UTF-8") from None
        case 4 | 5:
            if depth == 0:
                raise _bad("nested too deeply")
            # An item is a byte at least: a count larger than what is left is refused before anything is allocated.
            if argument * (major - 3) > len(data) - at:
                raise IndexError
            if major == 4:
                return _array(data, at, depth - 1, items, argument)
            return _map(data, at, depth - 1, items, argument)
        case 7 if 20 <= argument <= 22:
            return (False, True, None)[argument - 20], at, items
    raise _bad("tags and reserved values are not used")


def _array(data: bytes, at: int, depth: int, items: int, count: int) -> tuple[list[Value], int, int]:
    values: list[Value] = []
    for _ in range(count):
        value, at, items = _item(data, at, depth, items)
        values.append(value)
    return values, at, items


def _map(
    data: bytes, at: int, depth: int, items: int, count: int
) -> tuple[dict[int | bytes | str, Value], int, int]:
    values: dict[int | bytes | str, Value] = {}
    before = b""
    kind: type | None = None
    for _ in range(count):
        start = at
        key, at, items = _item(data, at, 0, items)
        encoded = data[start:at]
        if encoded <= before:
            raise _bad("map keys are out of order or appear twice")
        before = encoded
        if kind is None:
            kind = type(key)
        if type(key) is not kind or not isinstance(key, int | bytes | str) or kind is bool:
            raise _bad("map keys are not all numbers, all bytes or all text")
        values[key], at, items = _item(data, at, depth, items)
    return values, at, items
