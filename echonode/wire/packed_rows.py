"""Rows of one size, packed: sorted, and the running sums of the ids in them, for large sets (wire/ranges.py).

Every row begins with an item, a timestamp of 8 bytes and an id of 32. Only this module of the room needs numpy; it is
imported when a large set is compared.
"""

from typing import Final

import numpy as np

_TIME_BYTES: Final = 8
_ITEM_BYTES: Final = 40
_WORDS: Final = 8  # of 32 bits in an id
_WORD_BITS: Final = np.uint64(32)


def sorted_rows(rows: bytes, row_bytes: int) -> bytes:
    """Return `rows` in the order of their bytes."""
    return np.sort(np.frombuffer(rows, f"S{row_bytes}")).tobytes()


def has_doubles(rows: bytes, row_bytes: int) -> bool:
    """Return True if two neighbours among `rows` are the same item."""
    items = np.ndarray((len(rows) // row_bytes,), f"S{_ITEM_BYTES}", rows, strides=(row_bytes,))
    return bool((items[1:] == items[:-1]).any())


def running_sums(rows: bytes, row_bytes: int, step: int) -> bytes:
    """Return the sum of the first 0, `step`, 2 `step`, .. ids mod 2^256, 32 bytes each; ids and sums little-endian."""
    steps = len(rows) // row_bytes // step
    ids = np.ndarray((steps, step, _WORDS), "<u4", rows, _TIME_BYTES, (step * row_bytes, row_bytes, 4))
    of_each = np.zeros((steps, _WORDS), np.uint64)
    for place in range(step):
        of_each += ids[:, place]
    sums = np.zeros((_WORDS, steps + 1), np.uint64)
    np.cumsum(of_each.T, axis=1, out=sums[:, 1:])
    for word in range(_WORDS - 1):
        sums[word + 1] += sums[word] >> _WORD_BITS  # the carry
    return sums.T.astype("<u4").tobytes()
