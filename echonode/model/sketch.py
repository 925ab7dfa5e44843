"""A rateless sketch of a set of leaves (PROTOCOL.md §7.1). Its size depends on the difference of two sets, not on them.

    short id   48 bits that name a leaf: 20 of its key, which locate it in the tree, 28 of a keyed hash of its state
    symbol     the sum of the ids of its leaves, and the sum of their checks: 9 bytes
    sketch     symbols 0, 1, 2, .. Symbol 0 holds every leaf, symbol i about one in 1 + i/2

The difference of two sketches is the sketch of the difference. A symbol with a single id shows that id: the check
fits, and the id belongs there. It is then taken out of its other symbols, and so on until all are empty. About 1.4
symbols for each id are enough. Any beginning of a sketch is a sketch, so a side that sent too few symbols sends the
next ones. (Yang, Gilad, Alizadeh: Practical Rateless Set Reconciliation, SIGCOMM 2024. They XOR; this code sums, so
that the sign tells the side of a leaf.)

Ids can collide and a peer can lie: the result of a sketch is a hint, and roots decide. Numbers wrap around, floats are
IEEE 754 doubles in single operations, so every platform computes the same. Only this module needs numpy, so its users
import it when they build the first sketch.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from echonode.limits import SKETCH_SYMBOLS_MAX

ShortIds: TypeAlias = NDArray[np.uint64]
_Words: TypeAlias = NDArray[np.uint64]

ID_BYTES: Final = 6  # few enough to travel in every symbol; of 10,000 differing ids two are the same once in a million
SYMBOL_BYTES: Final = ID_BYTES + 3  # an id's check has 24 bits, and the place of the symbol says as much again
ID_PREFIX_BYTES: Final = 4  # the first bytes of a short id: enough to find a leaf in its place in the tree
SIZE_BYTES: Final = 8  # of the first of the counts, the number of all leaves
_PLACE_BITS: Final = 20
_HASH_BITS: Final = 8 * ID_BYTES - _PLACE_BITS
_ENTRY: Final = 64  # bytes of a leaf in a tree's buckets: key, state
_CHUNK: Final = 16_384  # leaves processed at once: their columns fit a processor's cache
_ROUNDS_MAX: Final = 400  # rounds of peeling; an honest sketch takes a tenth of it, only a forged one takes more
_STEP: Final = np.uint64(0xDA942042E4DD58B5)
_ID_BITS: Final = np.uint64(2 ** (8 * ID_BYTES) - 1)
_CHECK_BITS: Final = np.uint64(0xFF_FFFF)


# -- short ids -------------------------------------------------------------------------------------------------------


def short_ids(entries: bytes, key: bytes) -> ShortIds:
    """Return the short id of each leaf in `entries` (key and state, 64 bytes each) under the 16-byte `key`."""
    rows = np.frombuffer(entries, "<u8").reshape(-1, _ENTRY // 8)
    ids = np.empty(len(rows), np.uint64)
    for at in range(0, len(rows), _CHUNK):
        chunk = rows[at : at + _CHUNK]
        hashed = _siphash([np.ascontiguousarray(chunk[:, column], np.uint64) for column in range(4, 8)], key)
        place = chunk[:, 0].byteswap().astype(np.uint64) >> np.uint64(64 - _PLACE_BITS)
        ids[at : at + _CHUNK] = place << np.uint64(_HASH_BITS) | hashed & np.uint64((1 << _HASH_BITS) - 1)
    return ids


def prefixes_of(ids: ShortIds) -> list[bytes]:
    """Return the prefixes (five nibbles) of the leaves with these ids, each once, in order."""
    found = np.unique(ids >> np.uint64(_HASH_BITS)).tolist()
    return [bytes(place >> shift & 15 for shift in range(_PLACE_BITS - 4, -4, -4)) for place in found]


def find_keys(entries: bytes, key: bytes, ids: ShortIds, *, bits: int = 8 * ID_BYTES) -> list[bytes]:
    """Return the keys of all leaves in `entries` that share the first `bits` of the short id with one of `ids`."""
    shift = np.uint64(8 * ID_BYTES - bits)
    own = short_ids(entries, key) >> shift
    rows = np.nonzero(np.isin(own, ids >> shift))[0].tolist()
    return [entries[row * _ENTRY : row * _ENTRY + 32] for row in rows]


def _siphash(words: list[_Words], key: bytes) -> _Words:
    """Return SipHash-2-4 (Aumasson and Bernstein, 2012) of messages: column i holds word i of each, 8 bytes."""
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:16], "little")
    size = len(words[0])
    start = (0x736F6D6570736575 ^ k0, 0x646F72616E646F6D ^ k1, 0x6C7967656E657261 ^ k0, 0x7465646279746573 ^ k1)
    v0, v1, v2, v3 = (np.full(size, value, np.uint64) for value in start)
    spare = np.empty(size, np.uint64)

    def turn(words: _Words, bits: int) -> None:
        np.right_shift(words, np.uint64(64 - bits), out=spare)
        np.left_shift(words, np.uint64(bits), out=words)
        np.bitwise_or(words, spare, out=words)

    def mix(into: _Words, turned: _Words, bits: int) -> None:
        np.add(into, turned, out=into)
        turn(turned, bits)
        np.bitwise_xor(turned, into, out=turned)

    def rounds(count: int) -> None:
        for _ in range(count):
            mix(v0, v1, 13)
            turn(v0, 32)
            mix(v2, v3, 16)
            mix(v0, v3, 21)
            mix(v2, v1, 17)
            turn(v2, 32)

    for word in (*words, np.full(size, 8 * len(words) << 56, np.uint64)):
        np.bitwise_xor(v3, word, out=v3)
        rounds(2)
        np.bitwise_xor(v0, word, out=v0)
    np.bitwise_xor(v2, np.uint64(0xFF), out=v2)
    rounds(4)
    return v0 ^ v1 ^ v2 ^ v3


# -- symbols ---------------------------------------------------------------------------------------------------------


def _scrambled(ids: ShortIds) -> _Words:
    """Return `ids` through SplitMix64's finalizer. The upper 24 bits are an id's check; all 64 start the id's walk."""
    mixed = (ids ^ ids >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return mixed ^ mixed >> np.uint64(31)


def _checks(ids: ShortIds) -> _Words:
    return _scrambled(ids) >> np.uint64(40)


def _walk(ids: ShortIds, count: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.int64]]]:
    """Yield (rows, symbols) step by step: ids[rows[i]] falls into symbols[i]. End when all are past `count` symbols."""
    rows = np.arange(len(ids))
    at = np.zeros(len(ids), np.int64)
    state = _scrambled(ids) | np.uint64(1)
    while len(rows):
        yield rows, at
        state = state * _STEP
        # One rounded operation at a time, none fused: every machine computes the same next symbol.
        skip = (state >> np.uint64(32)).astype(np.float64) + 1.0
        np.sqrt(skip, out=skip)
        np.divide(65536.0, skip, out=skip)
        np.subtract(skip, 1.0, out=skip)
        np.multiply(skip, at + 1.5, out=skip)
        np.ceil(skip, out=skip)
        np.maximum(skip, 1.0, out=skip)
        at = at + skip.astype(np.int64)
        kept = at < count
        rows, at, state = rows[kept], at[kept], state[kept]


@dataclass(frozen=True, slots=True)
class SketchDifference:
    """The difference of two sets: ids that only the other set has (`theirs`), ids that only this one has (`ours`)."""

    theirs: ShortIds
    ours: ShortIds


class Sketch:
    """The first symbols of a set's sketch, kept up to date as leaves come and go."""

    def __init__(self, count: int = SKETCH_SYMBOLS_MAX) -> None:
        self._ids = np.zeros(count, np.uint64)
        self._checks = np.zeros(count, np.uint64)
        self._counts = np.zeros(count, np.uint64)

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, ids: ShortIds) -> None:
        """Add the ids of leaves that joined the set."""
        self._change(ids, np.add)

    def remove(self, ids: ShortIds) -> None:
        """Remove the ids of leaves that left the set."""
        self._change(ids, np.subtract)

    def _change(self, ids: ShortIds, change: np.ufunc) -> None:
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            checks = _checks(chunk)
            for rows, at in _walk(chunk, len(self)):
                change.at(self._ids, at, chunk[rows])
                change.at(self._checks, at, checks[rows])
                change.at(self._counts, at, np.uint64(1))

    def symbols(self, start: int, end: int) -> bytes:
        """Return symbols `start` to `end` as they travel: the id sum in 6 bytes, the check sum in 3, big-endian."""
        block = np.empty((end - start, SYMBOL_BYTES), np.uint8)
        block[:, :ID_BYTES] = _last_bytes(self._ids[start:end], ID_BYTES)
        block[:, ID_BYTES:] = _last_bytes(self._checks[start:end], SYMBOL_BYTES - ID_BYTES)
        return block.tobytes()

    def counts(self, end: int) -> bytes:
        """Return the number of all leaves in 8 bytes, and of those in each of symbols 1 to `end`, without it, modulo
        256: one byte each."""
        size = int(self._counts[0])
        return size.to_bytes(SIZE_BYTES, "big") + self._counts[1:end].astype(np.uint8).tobytes()

    def estimate(self, counts: bytes) -> int:
        """Return about the number of leaves in which two sets differ, never less than one has more than the other.

        `counts` are the other sketch's. Of d differing leaves about d/(1 + i/2) fall into symbol i, and their signed
        number has that variance: each symbol is a sample.
        """
        surplus = int.from_bytes(counts[:SIZE_BYTES], "big") - int(self._counts[0])
        theirs = np.frombuffer(counts, np.uint8, offset=SIZE_BYTES)
        ours = self._counts[1 : len(theirs) + 1].astype(np.uint8)
        signed = (theirs - ours).astype(np.int8).astype(np.float64)
        share = 1.0 / (1.0 + np.arange(1, len(theirs) + 1) / 2)
        expected = (surplus * share + 128.0) % 256.0 - 128.0
        # The first symbols hold so many leaves that a number modulo 256 tells nothing.
        few = min(_SAMPLED_FROM, len(theirs) // 2)
        squares = (((signed - expected + 128.0) % 256.0 - 128.0) ** 2)[few:]
        spread = (share * (1.0 - share))[few:]
        found = float(squares.sum() / spread.sum()) if len(squares) else 0.0
        for _ in range(2):  # weigh each sample by what it tells of a difference of that size
            weights = spread / (1.0 + 2.0 * spread * max(found, 1.0))
            found = float((weights * squares / np.maximum(spread, 1e-9)).sum() / max(weights.sum(), 1e-9))
        return max(round(found), abs(surplus))

    def difference_from(self, symbols: bytes) -> Callable[[], SketchDifference | None]:
        """Return a function that computes the difference from the set with these first symbols.

        It uses this sketch as it is now and may run on any thread. It returns None when the symbols are too few.
        """
        theirs = np.frombuffer(symbols, np.uint8).reshape(-1, SYMBOL_BYTES)
        count = len(theirs)
        ids = _of_last_bytes(theirs[:, :ID_BYTES]) - self._ids[:count] & _ID_BITS
        checks = _of_last_bytes(theirs[:, ID_BYTES:]) - self._checks[:count] & _CHECK_BITS
        return partial(_peel, ids, checks)


_SAMPLED_FROM: Final = 7


def _last_bytes(words: _Words, size: int) -> NDArray[np.uint8]:
    """Return the lower `size` bytes of each word, big-endian: a row each."""
    return words.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 8 - size :]


def _of_last_bytes(rows: NDArray[np.uint8]) -> _Words:
    """Return the words of which each row holds the lower bytes, big-endian."""
    whole = np.zeros((len(rows), 8), np.uint8)
    whole[:, 8 - rows.shape[1] :] = rows
    return whole.reshape(-1).view(">u8").astype(np.uint64)


def _peel(ids: _Words, checks: _Words) -> SketchDifference | None:
    """Return the difference in these symbols, None if they do not tell. The arrays are consumed.

    More ids than symbols, or too many rounds, end the work: a forged sketch costs no more.
    """
    found: list[tuple[ShortIds, ShortIds]] = []
    ids_left = len(ids)
    touched = np.arange(len(ids))
    for _ in range(_ROUNDS_MAX):
        sums, sums_of_checks = ids[touched], checks[touched]
        opposite = np.uint64(0) - sums & _ID_BITS
        is_theirs = (_checks(sums) == sums_of_checks) & (sums != 0)
        is_ours = (_checks(opposite) == (np.uint64(0) - sums_of_checks & _CHECK_BITS)) & (sums != 0)
        theirs, touched_first = _take_out(ids, checks, sums[is_theirs], touched[is_theirs], np.subtract)
        ours, touched_then = _take_out(ids, checks, opposite[is_ours], touched[is_ours], np.add)
        ids_left -= len(theirs) + len(ours)
        if ids_left < 0:
            return None
        if not len(theirs) and not len(ours):
            break
        found.append((theirs, ours))
        touched = np.unique(np.concatenate([touched_first, touched_then]))
        np.bitwise_and(ids, _ID_BITS, out=ids)
        np.bitwise_and(checks, _CHECK_BITS, out=checks)
    if not len(ids) or ids.any() or checks.any():
        return None
    nothing = np.empty(0, np.uint64)
    return SketchDifference(
        np.concatenate([nothing, *(theirs for theirs, _ in found)]),
        np.concatenate([nothing, *(ours for _, ours in found)]),
    )


def _take_out(
    ids: _Words, checks: _Words, shown: ShortIds, shown_at: NDArray[np.intp], change: np.ufunc
) -> tuple[ShortIds, NDArray[np.intp]]:
    """Take the ids `shown` out of all their symbols, but for those that do not belong where they are shown.

    Return them, each once, and the numbers of these symbols."""
    known, first = np.unique(shown, return_index=True)
    steps = list(_walk(known, len(ids)))
    rows = np.concatenate([np.empty(0, np.intp), *(rows for rows, _ in steps)])
    at = np.concatenate([np.empty(0, np.int64), *(at for _, at in steps)])
    belongs = np.zeros(len(known), bool)
    belongs[rows[at == shown_at[first][rows]]] = True
    kept = belongs[rows]
    rows, at = rows[kept], at[kept]
    change.at(ids, at, known[rows])
    change.at(checks, at, _checks(known)[rows])
    return known[belongs], at


# -- ids as they travel ----------------------------------------------------------------------------------------------


def id_prefixes(ids: ShortIds) -> bytes:
    """Return the prefixes of `ids`, 4 bytes each, ascending, each once, joined."""
    found = np.unique(ids >> np.uint64(8 * (ID_BYTES - ID_PREFIX_BYTES)))
    return found.astype(">u4").tobytes()


def ids_from_prefixes(prefixes: bytes) -> ShortIds:
    """Return ids with these prefixes, as `id_prefixes` joined them. The other bits are zero."""
    return np.frombuffer(prefixes, ">u4").astype(np.uint64) << np.uint64(8 * (ID_BYTES - ID_PREFIX_BYTES))


def make_sketch(pieces: Iterable[bytes], key: bytes, count: int = SKETCH_SYMBOLS_MAX) -> Sketch:
    """Return the sketch, of `count` symbols, of all leaves in `pieces` (key and state, 64 bytes each)."""
    sketch = Sketch(count)
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        if len(waiting) >= _CHUNK * _ENTRY:
            sketch.add(short_ids(bytes(waiting), key))
            waiting.clear()
    sketch.add(short_ids(bytes(waiting), key))
    return sketch
