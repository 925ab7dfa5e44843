"""Sorted items, (timestamp, id), with a fingerprint of any range in a few microseconds (PROTOCOL.md §8.10).

    items = Items(item(timestamp, id) for ..)
    items.find(bound)                 how many items lie below a bound
    items.fingerprint(lower, upper)   16 bytes over items[lower:upper]

An item is 40 bytes: the timestamp, 8 bytes big-endian, and the id. So the order of the bytes is the order of the
Negentropy protocol. The fingerprint of a range needs the sum of its ids mod 2^256. The sum up to every eighth item is
kept, so a fingerprint costs two of these sums and at most fourteen additions.
"""

from collections.abc import Iterable
from hashlib import sha256
from itertools import accumulate, islice
from operator import eq
from typing import Final

from echonode.errors import LocalError

ID_BYTES: Final = 32
INFINITY: Final = 2**64 - 1  # as a timestamp: greater than that of every item
FINGERPRINT_BYTES: Final = 16

TIME_BYTES: Final = 8
_ITEM_BYTES: Final = TIME_BYTES + ID_BYTES
_STEP: Final = 8  # items between two kept sums: 8 bytes of memory an item, half a microsecond a fingerprint
_SUM_MASK: Final = (1 << 8 * ID_BYTES) - 1


def item(timestamp: int, id: bytes) -> bytes:
    """Return the 40 bytes of an item. Raises LocalError for a timestamp or an id out of bounds."""
    if not 0 <= timestamp < INFINITY or len(id) != ID_BYTES:
        raise LocalError("an item is a timestamp below 2^64 - 1 and an id of 32 bytes")
    return timestamp.to_bytes(TIME_BYTES, "big") + id


def bound(timestamp: int, prefix: bytes = b"") -> bytes:
    """Return a bound that sorts before the items of `timestamp` with ids from `prefix` on, and behind all others."""
    return timestamp.to_bytes(TIME_BYTES, "big") + prefix


class Items:
    """Items in order, each once. Raises LocalError for an item given twice."""

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
        """Return the item at `index`, as `item` makes it."""
        return self._data[index * _ITEM_BYTES : (index + 1) * _ITEM_BYTES]

    def ids(self, lower: int, upper: int) -> list[bytes]:
        """Return the ids of the items from `lower` up to, without, `upper`, in order."""
        data = self._data
        starts = range(lower * _ITEM_BYTES + TIME_BYTES, upper * _ITEM_BYTES, _ITEM_BYTES)
        return [data[start : start + ID_BYTES] for start in starts]

    def find(self, bound: bytes, lower: int = 0) -> int:
        """Return the first index, from `lower` on, of an item that is not below `bound`."""
        data, upper = self._data, self._count
        while lower < upper:
            middle = (lower + upper) // 2
            if data[middle * _ITEM_BYTES : (middle + 1) * _ITEM_BYTES] < bound:
                lower = middle + 1
            else:
                upper = middle
        return lower

    def fingerprint(self, lower: int, upper: int) -> bytes:
        """Return the 16-byte fingerprint of the items from `lower` up to, without, `upper`."""
        total = (self._sum(upper) - self._sum(lower)) & _SUM_MASK
        return sha256(total.to_bytes(ID_BYTES, "little") + varint(upper - lower)).digest()[:FINGERPRINT_BYTES]

    def _sum(self, end: int) -> int:
        """Return the sum of all ids before the index `end`."""
        whole, data = end // _STEP, self._data
        total = self._sums[whole]
        for start in range(whole * _STEP * _ITEM_BYTES + TIME_BYTES, end * _ITEM_BYTES, _ITEM_BYTES):
            total += int.from_bytes(data[start : start + ID_BYTES], "little")
        return total


def varint(value: int) -> bytes:
    """Return `value` in base 128: the most significant digit first, the high bit set on all digits but the last."""
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F | 0x80)
    return bytes(reversed(digits))
