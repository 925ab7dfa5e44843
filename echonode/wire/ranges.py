"""A frozen set of (timestamp, id) items, sorted, of which every range is summed up in a few microseconds.

    items = Items(item(timestamp, id) for ..)
    items.find(bound)                 how many items lie below a bound
    items.fingerprint(lower, upper)   16 bytes over items[lower:upper]

An item is 40 bytes: the timestamp in 8, big-endian, and the id; so that their order as bytes is the protocol's order.
A range's fingerprint needs the sum of its ids mod 2^256. Sums of all items up to every eighth are kept, so it costs two
of them and at most fourteen additions, whatever the range.
"""

from collections.abc import Iterable
from hashlib import sha256
from itertools import accumulate, islice
from operator import eq
from typing import Final

from echonode.errors import LocalError

ID_BYTES: Final = 32
INFINITY: Final = 2**64 - 1  # as a timestamp: behind all items
FINGERPRINT_BYTES: Final = 16

TIME_BYTES: Final = 8
_ITEM_BYTES: Final = TIME_BYTES + ID_BYTES
_STEP: Final = 8  # a sum every so many items: 8 bytes of memory an item, and half a microsecond a fingerprint
_SUM_MASK: Final = (1 << 8 * ID_BYTES) - 1


def item(timestamp: int, id: bytes) -> bytes:
    """The item as it is sorted. Raises LocalError for what is none."""
    if not 0 <= timestamp < INFINITY or len(id) != ID_BYTES:
        raise LocalError("an item is a timestamp below 2^64 - 1 and an id of 32 bytes")
    return timestamp.to_bytes(TIME_BYTES, "big") + id


def bound(timestamp: int, prefix: bytes = b"") -> bytes:
    """The place before every item of `timestamp` whose id begins with `prefix`, or follows it."""
    return timestamp.to_bytes(TIME_BYTES, "big") + prefix


class Items:
    """Sorted items, each once."""

    def __init__(self, items: Iterable[bytes]) -> None:
        ordered = sorted(items)
        self._data = b"".join(ordered)
        self._count = len(ordered)
        if any(map(eq, ordered, islice(ordered, 1, None))):
            raise LocalError("an item stands in a set once")
        from_bytes = int.from_bytes
        numbers = [from_bytes(each[TIME_BYTES:], "little") for each in ordered]
        self._sums = list(accumulate(numbers, initial=0))[::_STEP]

    def __len__(self) -> int:
        return self._count

    def at(self, index: int) -> bytes:
        """The item there, as `item` makes it."""
        return self._data[index * _ITEM_BYTES : (index + 1) * _ITEM_BYTES]

    def ids(self, lower: int, upper: int) -> list[bytes]:
        """The ids of a range, in order."""
        data = self._data
        starts = range(lower * _ITEM_BYTES + TIME_BYTES, upper * _ITEM_BYTES, _ITEM_BYTES)
        return [data[start : start + ID_BYTES] for start in starts]

    def find(self, bound: bytes, lower: int = 0) -> int:
        """The first index from `lower` on whose item is not below `bound`."""
        data, upper = self._data, self._count
        while lower < upper:
            middle = (lower + upper) // 2
            if data[middle * _ITEM_BYTES : (middle + 1) * _ITEM_BYTES] < bound:
                lower = middle + 1
            else:
                upper = middle
        return lower

    def fingerprint(self, lower: int, upper: int) -> bytes:
        """Of the items from `lower` up to, without, `upper`."""
        total = (self._sum(upper) - self._sum(lower)) & _SUM_MASK
        return sha256(total.to_bytes(ID_BYTES, "little") + varint(upper - lower)).digest()[:FINGERPRINT_BYTES]

    def _sum(self, end: int) -> int:
        """Of all ids before `end`."""
        whole, data = end // _STEP, self._data
        total = self._sums[whole]
        for start in range(whole * _STEP * _ITEM_BYTES + TIME_BYTES, end * _ITEM_BYTES, _ITEM_BYTES):
            total += int.from_bytes(data[start : start + ID_BYTES], "little")
        return total


def varint(value: int) -> bytes:
    """Base 128, most significant digit first, the high bit set on all digits but the last."""
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F | 0x80)
    return bytes(reversed(digits))
