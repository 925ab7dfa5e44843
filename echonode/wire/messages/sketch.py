"""Messages of the mode `sketch` (PROTOCOL.md §8.8). A part of `messages`, which names them."""

from dataclasses import dataclass
from typing import ClassVar, Final

SYMBOL_BYTES: Final = 12  # of a sketch (PROTOCOL.md §7.1)
ID_PREFIX_BYTES: Final = 5  # of a short id, by which a leaf is asked for


@dataclass(frozen=True, slots=True)
class SketchInit:
    """Opens `sketch`: the sender's root and number of leaves, the first symbols of its sketch, 12 bytes each, and how
    many leaves each of the first symbols holds, modulo 256, one byte each."""

    code: ClassVar[int] = 28
    version: tuple[int, int]
    context: str
    root: bytes
    count: int
    counts: bytes
    symbols: bytes


@dataclass(frozen=True, slots=True)
class SketchMore:
    """Symbols from number `start` on; from 0 when the sender's set has changed, or when its short ids are now keyed for
    this session (`is_salted`). `counts` as in SketchInit; when there are any they replace those."""

    code: ClassVar[int] = 29
    is_salted: bool
    start: int
    counts: bytes
    symbols: bytes


@dataclass(frozen=True, slots=True)
class SketchAnswer:
    """What came of the symbols so far. Not read: `symbols` are needed in all, or, when that is 0, the sketch is given
    up. Read: `wanted` holds the first 5 bytes of each short id that the sender lacks, and Records of `leaves` leaves
    follow. `estimate`: about how many leaves differ."""

    code: ClassVar[int] = 30
    root: bytes
    estimate: int
    is_read: bool
    symbols: int
    wanted: bytes
    leaves: int
