"""Sorted items, (timestamp, id), with a fingerprint of any range in a few microseconds (PROTOCOL.md §8.10).

    items = Items(item(timestamp, id) for ..)
    items = Items(.., tail_bytes=8)   each item followed by 8 bytes of the caller's, which count for nothing here
    items = Items([rows, row, ..])    items may also come joined
    items.find(bound)                 how many items lie below a bound
    items.fingerprint(lower, upper)   16 bytes over items[lower:upper]

An item is 40 bytes: the timestamp, 8 bytes big-endian, and the id. So the order of the bytes is the order of the
Negentropy protocol. The fingerprint of a range needs the sum of its ids mod 2^256. The sum up to every fourth item is
kept, so a fingerprint costs two of these sums and at most six additions. All of it is packed: 48 bytes an item and its
tail. numpy sorts and sums large sets; small ones need no numpy, and come out the same.
"""

from array import array
from collections.abc import Iterable
from hashlib import sha256
from itertools import islice
from operator import eq
from typing import Final

from echonode.errors import LocalError

ID_BYTES: Final = 32
INFINITY: Final = 2**64 - 1  # as a timestamp: greater than that of every item
FINGERPRINT_BYTES: Final = 16

TIME_BYTES: Final = 8
_ITEM_BYTES: Final = TIME_BYTES + ID_BYTES
_STEP: Final = 4  # items between two kept sums: 8 bytes of memory an item, two additions a fingerprint less
_NEAR: Final = 31  # items to the next bound where sets differ much: ranges of more are split
_LARGE: Final = 4096  # items from which on numpy is worth its 13 MiB
_SUM_MASK: Final = (1 << 8 * ID_BYTES) - 1


def item(timestamp: int, id: bytes) -> bytes:
    """Return the 40 bytes of an item. Raises LocalError for a timestamp or an id out of bounds."""
    if not 0 <= timestamp < INFINITY or len(id) != ID_BYTES:
        raise LocalError("an item is a timestamp below 2^64 - 1 and an id of 32 bytes")
    return timestamp.to_bytes(TIME_BYTES, "big") + id


def bound(timestamp: int, prefix: bytes = b"") -> bytes:
    """Return a bound that sorts before the items of `timestamp` with ids from `prefix` on, and behind all others."""
    return timestamp.to_bytes(TIME_BYTES, "big") + prefix


_DIGITS: Final = [bytes((value,)) for value in range(0x80)]  # of numbers of one digit


class Items:
    """Items in order, each once. Raises LocalError for an item given twice."""

    def __init__(self, items: Iterable[bytes], tail_bytes: int = 0) -> None:
        rows = b"".join(items)
        self._last_sum = 0, 0  # of a fingerprint: an index, and the sum of all ids before it
        self._row = row = _ITEM_BYTES + tail_bytes
        self._count = len(rows) // row
        if self._count >= _LARGE:
            from echonode.wire import packed_rows

            self._data = packed_rows.sorted_rows(rows, row)
            has_doubles = packed_rows.has_doubles(self._data, row)
            self._sums = packed_rows.running_sums(self._data, row, _STEP)
        else:
            ordered = sorted(rows[start : start + row] for start in range(0, len(rows), row))
            self._data = b"".join(ordered)
            found = [each[:_ITEM_BYTES] for each in ordered]
            has_doubles = any(map(eq, found, islice(found, 1, None)))
            self._sums = self._running_sums()
        if has_doubles:
            raise LocalError("an item stands in a set once")

    def _running_sums(self) -> bytes:
        row, total, sums = self._row, 0, bytearray(ID_BYTES)
        for end in range(_STEP, self._count + 1, _STEP):
            for start in range((end - _STEP) * row + TIME_BYTES, end * row, row):
                total += int.from_bytes(self._data[start : start + ID_BYTES], "little")
            total &= _SUM_MASK
            sums += total.to_bytes(ID_BYTES, "little")
        return bytes(sums)

    def __len__(self) -> int:
        return self._count

    def at(self, index: int) -> bytes:
        """Return the item at `index`, as `item` makes it."""
        start = index * self._row
        return self._data[start : start + _ITEM_BYTES]

    def id_at(self, index: int) -> bytes:
        """Return the id of the item at `index`."""
        start = index * self._row + TIME_BYTES
        return self._data[start : start + ID_BYTES]

    def tail_at(self, index: int) -> bytes:
        """Return the tail of the item at `index`."""
        return self._data[index * self._row + _ITEM_BYTES : (index + 1) * self._row]

    def rows(self) -> bytes:
        """Return all items with their tails, in order and joined."""
        return self._data

    def ids(self, lower: int, upper: int) -> list[bytes]:
        """Return the ids of the items from `lower` up to, without, `upper`, in order."""
        data, row = self._data, self._row
        starts = range(lower * row + TIME_BYTES, upper * row, row)
        return [data[start : start + ID_BYTES] for start in starts]

    def order_of_ids(self) -> "array[int]":
        """Return the indexes of all items, in the order of their ids."""
        return array("I", sorted(range(self._count), key=self.id_at))

    def find(self, bound: bytes, lower: int = 0) -> int:
        """Return the first index, from `lower` on, of an item that is not below `bound`."""
        data, row, upper, step = self._data, self._row, self._count, _NEAR
        # Most bounds are near the one before: look there first, and then in steps that grow.
        while lower + step < upper:
            ahead = (lower + step) * row
            if data[ahead : ahead + _ITEM_BYTES] >= bound:
                upper = lower + step
                break
            lower += step + 1
            step *= 4
        while lower < upper:
            middle = (lower + upper) // 2
            if data[middle * row : middle * row + _ITEM_BYTES] < bound:
                lower = middle + 1
            else:
                upper = middle
        return lower

    def fingerprint(self, lower: int, upper: int) -> bytes:
        """Return the 16-byte fingerprint of the items from `lower` up to, without, `upper`."""
        at, below = self._last_sum  # ranges come one behind the other, and each begins where the last one ended
        above = self._sum(upper)
        total = (above - (below if at == lower else self._sum(lower))) & _SUM_MASK
        self._last_sum = upper, above
        return sha256(total.to_bytes(ID_BYTES, "little") + varint(upper - lower)).digest()[:FINGERPRINT_BYTES]

    def _sum(self, end: int) -> int:
        """Return the sum of all ids before the index `end`, mod 2^256 but for the last few."""
        whole, data, row = end // _STEP, self._data, self._row
        total = int.from_bytes(self._sums[whole * ID_BYTES : (whole + 1) * ID_BYTES], "little")
        for start in range(whole * _STEP * row + TIME_BYTES, end * row, row):
            total += int.from_bytes(data[start : start + ID_BYTES], "little")
        return total


def varint(value: int) -> bytes:
    """Return `value` in base 128: the most significant digit first, the high bit set on all digits but the last."""
    if value < 0x80:
        return _DIGITS[value]
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F | 0x80)
    return bytes(reversed(digits))
