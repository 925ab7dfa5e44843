"""Messages of the mode `sketch` (PROTOCOL.md §7.1, §8.8).

    SketchInit SketchMore   ->    SketchAnswer, then Records of its `leaves`

The sizes stand here and in model/sketch.py, as that module loads numpy and this one must not.
"""

from dataclasses import dataclass
from typing import ClassVar, Final

SYMBOL_BYTES: Final = 12  # a symbol of a sketch
ID_PREFIX_BYTES: Final = 5  # the part of a short id by which a leaf is asked for


@dataclass(frozen=True, slots=True)
class SketchInit:
    """Opens `sketch`. `root` and `count` are those of the sender's tree.

    `symbols` are the first of its sketch, 12 bytes each; `counts` says for the first of these, in one byte each, the
    number of leaves in it modulo 256.
    """

    code: ClassVar[int] = 28
    version: tuple[int, int]
    context: str
    root: bytes
    count: int
    counts: bytes
    symbols: bytes


@dataclass(frozen=True, slots=True)
class SketchMore:
    """Symbols from number `start` on.

    `start` is 0 when the sender's set has changed, or when its short ids are now keyed for this session (`is_salted`).
    `counts`, unless empty, replace those of SketchInit.
    """

    code: ClassVar[int] = 29
    is_salted: bool
    start: int
    counts: bytes
    symbols: bytes


@dataclass(frozen=True, slots=True)
class SketchAnswer:
    """The result of the symbols so far. `estimate` is about the number of leaves that differ.

    `is_read` true: `wanted` holds the first 5 bytes of each short id that the sender lacks, and Records of `leaves`
    leaves follow. `is_read` false: the sender needs `symbols` symbols in all, or gives up when that is 0.
    """

    code: ClassVar[int] = 30
    root: bytes
    estimate: int
    is_read: bool
    symbols: int
    wanted: bytes
    leaves: int
