"""Messages of the mode `sketch` (PROTOCOL.md §7.1, §8.8).

    SketchInit SketchMore   ->    SketchAnswer or SketchEqual
    SketchWant              ->    Records, then Done

The sizes stand here and in model/sketch.py, as that module loads numpy and this one must not.
"""

from dataclasses import dataclass
from typing import ClassVar, Final

SYMBOL_BYTES: Final = 9  # a symbol of a sketch
ID_PREFIX_BYTES: Final = 4  # the part of a short id by which a leaf is asked for
COUNTS_SIZE_BYTES: Final = 8  # the first of the counts, the number of all leaves
ROOT_TAG_BYTES: Final = 8  # 2^64 sessions compare unequal roots before one of them takes these for equal


@dataclass(frozen=True, slots=True)
class SketchInit:
    """Opens `sketch`. `tag` is the sender's root, in short and keyed for this session.

    It asks for the first `symbols` symbols of the receiver's sketch, and, unless `counts` is empty, for as many as the
    difference needs that these tell. `counts` are of the sender's sketch: the number of all its leaves in 8 bytes, then
    of those in each of the symbols from 1 on modulo 256, one byte each.
    """

    code: ClassVar[int] = 28
    version: tuple[int, int]
    context: str
    tag: bytes
    symbols: int
    counts: bytes


@dataclass(frozen=True, slots=True)
class SketchMore:
    """Asks for more symbols: for `symbols` in all, and by `counts` as SketchInit does. `is_salted`: of the sketch with
    short ids keyed for this session, from now on."""

    code: ClassVar[int] = 29
    is_salted: bool
    symbols: int
    counts: bytes


@dataclass(frozen=True, slots=True)
class SketchAnswer:
    """Symbols from number `start` on: 0, or as many as came before. None: it would take too many.

    `estimate` is about the number of leaves that differ, 0 when no counts came.
    """

    code: ClassVar[int] = 30
    estimate: int
    start: int
    symbols: bytes


@dataclass(frozen=True, slots=True)
class SketchEqual:
    """Ends the conversation: the sender's root has the tag that came."""

    code: ClassVar[int] = 23


@dataclass(frozen=True, slots=True)
class SketchWant:
    """Asks for the heads of leaves, by the first 4 bytes of their short ids. Behind the Puts, which it ends."""

    code: ClassVar[int] = 31
    wanted: bytes
