"""Deterministic CBOR (RFC 8949 §4.2.1): one encoding per value, the only door to cbor2.

`decode` accepts exactly what `encode` writes: no tags, floats, undefined, indefinite lengths, non-minimal numbers,
unsorted or duplicate keys, and no bytes after the end. It is written here because cbor2 accepts all of those. cbor2
encodes, and the tests compare `decode` with it (PROTOCOL.md §2.1).

Data that end too early are noticed without a check of each length. A slice past the end is short and no error, but the
position behind it lies past the end. Positions only grow, so either the next byte read raises IndexError or `decode`
finds the position past the end. A declared length allocates nothing.
"""

from typing import Final, TypeAlias

import cbor2

from echonode.errors import Reason, RemoteError
from echonode.limits import CBOR_DEPTH_MAX, CBOR_ITEMS_MAX

Key: TypeAlias = int | bytes | str
Value: TypeAlias = "int | bytes | str | bool | list[Value] | dict[Key, Value] | None"

# Initial bytes (RFC 8949 §3): the major type is in the upper three bits. Each name is the first byte behind its kind.
_TINY_UINTS: Final = 0x18  # a tiny one is the number itself, 0 to 23
_UINTS: Final = 0x20
_INTS: Final = 0x40
_BYTES_1: Final = 0x58  # this byte itself: a byte string with its length in the next byte
_BYTES_2: Final = 0x59  # the same with its length in the next two bytes
_BYTES: Final = 0x60
_SHORT_TEXT: Final = 0x78  # a short one has less than 24 bytes
_TEXT: Final = 0x80
_ARRAYS: Final = 0xA0
_MAPS: Final = 0xC0
_TAGS: Final = 0xE0


def encode(value: object) -> bytes:
    """Return the one encoding of `value`, made of None, bool, 64-bit int, bytes, str, list, tuple and dict.

    The keys of a map must all be of one kind: bytes, text, numbers or negative numbers. Only then does the order of
    cbor2, shorter first (RFC 7049 §3.9), equal that of RFC 8949.
    """
    return cbor2.dumps(value, canonical=True)


def encode_ordered(value: object) -> bytes:
    """Return `encode(value)`. Every map in `value` must be in key order already. Twice as fast: nothing is sorted."""
    return cbor2.dumps(value)


def decode_trusted(data: bytes) -> Value:
    """Decode bytes that `decode` accepted before, such as those on our own disk. Several times as fast."""
    value: Value = cbor2.loads(data)
    return value


def decode(data: bytes, *, items_max: int = CBOR_ITEMS_MAX) -> Value:
    """Return the value whose encoding is `data`. Raises RemoteError (PROTOCOL_ERROR) for all other bytes.

    `items_max` and the length of `data` bound time and memory; the lengths declared inside it do not.
    """
    try:
        value, end = _item(data, 0, CBOR_DEPTH_MAX, [items_max - 1])
    except IndexError:
        raise _bad("it ends too early") from None
    except UnicodeDecodeError:
        raise _bad("text is not UTF-8, or ends too early") from None
    if end != len(data):
        raise _bad("it ends too early" if end > len(data) else "something follows the end")
    return value


def item_length(data: bytes | bytearray, at: int, *, bytes_max: int) -> int | None:
    """Return the length of the item that begins at `at`, None while `data` ends before that item does.

    For items that follow each other (RFC 8742). Only lengths are read; `decode` checks what the item is made of. Raises
    RemoteError: PROTOCOL_ERROR for what no item of ours begins with, TOO_LARGE as soon as it must be over `bytes_max`.
    """
    start, items, budget = at, 1, CBOR_ITEMS_MAX
    while items:
        if at >= len(data):
            return None
        kind, argument = divmod(data[at], 32)
        at += 1
        if argument >= 24:
            if kind == 7 or argument > 27:
                raise _bad("indefinite lengths, floats and reserved values are not used")
            size = 1 << (argument - 24)
            if at + size > len(data):
                return None
            argument = int.from_bytes(data[at : at + size], "big")
            at += size
        if kind in (2, 3):  # bytes, text
            at += argument
        elif kind in (4, 5):  # an array, a map
            items += argument if kind == 4 else 2 * argument
        elif kind == 6:
            raise _bad("tags are not used")
        items -= 1
        budget -= 1
        if at - start + items > bytes_max or items > budget:
            raise RemoteError(Reason.TOO_LARGE, f"an item is larger than {bytes_max} bytes")
    return at - start if at <= len(data) else None


def _bad(detail: str) -> RemoteError:
    return RemoteError(Reason.PROTOCOL_ERROR, f"CBOR: {detail}")


def _item(data: bytes, at: int, depth: int, budget: list[int]) -> tuple[Value, int]:
    """Return the item at `at` and the position behind it. `budget[0]` is the number of further items allowed."""
    initial = data[at]
    at += 1
    argument = initial & 0x1F
    if argument >= 24 and initial < _TAGS:
        if argument == 24:
            argument, least = data[at], 24
            at += 1
        elif argument == 25:
            argument, least = data[at] << 8 | data[at + 1], 1 << 8
            at += 2
        elif argument == 26:
            argument, least = int.from_bytes(data[at : at + 4], "big"), 1 << 16
            at += 4
        elif argument == 27:
            argument, least = int.from_bytes(data[at : at + 8], "big"), 1 << 32
            at += 8
        else:
            raise _bad("indefinite lengths are not used")
        if argument < least:
            raise _bad("a number is not in its shortest form, or ends too early")
    if initial < _INTS:
        return (argument if initial < _UINTS else -1 - argument), at
    if initial < _TEXT:
        end = at + argument
        return (data[at:end] if initial < _BYTES else data[at:end].decode()), end
    if initial < _ARRAYS:
        return _array(data, at, depth, budget, argument)
    if initial < _MAPS:
        return _map(data, at, depth, budget, argument)
    if initial < _TAGS:
        raise _bad("tags are not used")
    return _simple(initial), at


def _simple(initial: int) -> bool | None:
    match initial:
        case 0xF4:
            return False
        case 0xF5:
            return True
        case 0xF6:
            return None
    raise _bad("floats, undefined and reserved values are not used")


def _enter(depth: int, budget: list[int], items: int) -> None:
    """Count the items of a container against `budget` before the first is read. Raises RemoteError."""
    if depth == 0:
        raise _bad("nested too deeply")
    budget[0] -= items
    if budget[0] < 0:
        raise _bad("too many items")


# The two loops below read tiny numbers and short texts in place; the first also reads hashes and records in place. A
# call for each would double the cost of a record and of a tree walk.


def _array(data: bytes, at: int, depth: int, budget: list[int], count: int) -> tuple[list[Value], int]:
    _enter(depth, budget, count)
    values: list[Value] = []
    for _ in range(count):
        initial = data[at]
        if initial < _TINY_UINTS:
            at += 1
            values.append(initial)
        elif _BYTES <= initial < _SHORT_TEXT:
            start = at + 1
            at = start + initial - _BYTES
            values.append(data[start:at].decode())
        elif initial == _BYTES_1 and data[at + 1] >= 24:
            start = at + 2
            at = start + data[at + 1]
            values.append(data[start:at])
        elif initial == _BYTES_2 and data[at + 1]:
            start = at + 3
            at = start + (data[at + 1] << 8 | data[at + 2])
            values.append(data[start:at])
        else:
            value, at = _item(data, at, depth - 1, budget)
            values.append(value)
    return values, at


def _map(data: bytes, at: int, depth: int, budget: list[int], count: int) -> tuple[dict[Key, Value], int]:
    _enter(depth, budget, 2 * count)
    values: dict[Key, Value] = {}
    first = data[at : at + 1]
    before = b""
    for _ in range(count):
        start = at
        initial = data[at]
        key: Key
        if initial < _TINY_UINTS:
            key = initial
            at += 1
        elif initial < _TEXT:
            item, at = _item(data, at, 0, budget)
            assert isinstance(item, int | bytes | str), "what begins below _TEXT is nothing else"
            key = item
        else:
            raise _bad("a map key is not a number, bytes or text")
        encoded = data[start:at]
        if encoded <= before:
            raise _bad("map keys are out of order or appear twice")
        before = encoded
        initial = data[at]
        if initial < _TINY_UINTS:
            at += 1
            values[key] = initial
        elif _BYTES <= initial < _SHORT_TEXT:
            start = at + 1
            at = start + initial - _BYTES
            values[key] = data[start:at].decode()
        else:
            values[key], at = _item(data, at, depth - 1, budget)
    if count > 1 and first[0] >> 5 != before[0] >> 5:  # the keys are sorted: equal kinds at both ends mean one kind
        raise _bad("map keys are not all of one kind")
    return values, at
