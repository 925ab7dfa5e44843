"""Messages that compare two trees: the modes `level_wise` and `hash_comparison` (PROTOCOL.md §7, §8.1, §8.2).

    level_wise        LevelWiseInit NodesRequest    ->    Nodes          one request for each level
    hash_comparison   HashComparisonInit CompareRequest  ->  Differences    several levels in one answer

Nodes of a tree travel as parts. The first byte of a part is its kind:

    0  branch   two bytes that name the children with leaves, child 0 in the highest bit; their digests in order
    1  bucket   the digests of all its leaves, in key order
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class LevelWiseInit:
    """Opens `level_wise`. `width` is the number of bytes of each digest on the wire, 16 or 32."""

    code: ClassVar[int] = 16
    version: tuple[int, int]
    context: str
    direction: int
    width: int
    prefixes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class NodesRequest:
    """Asks for the parts at these prefixes."""

    code: ClassVar[int] = 17
    prefixes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Nodes:
    """Answers LevelWiseInit and NodesRequest: one part for each prefix, in order. `root` is the sender's now."""

    code: ClassVar[int] = 18
    root: bytes
    parts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class HashComparisonInit:
    """Opens `hash_comparison`. `children` is the initiator's branch part of the root."""

    code: ClassVar[int] = 20
    version: tuple[int, int]
    context: str
    direction: int
    width: int
    max_depth: int
    children: bytes


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """Asks for the differences below `prefix`. `children` is the sender's branch part there."""

    code: ClassVar[int] = 21
    prefix: bytes
    children: bytes


@dataclass(frozen=True, slots=True)
class Differences:
    """Answers HashComparisonInit and CompareRequest: (prefix, part) of each child that differs, parents first."""

    code: ClassVar[int] = 22
    root: bytes
    parts: tuple[tuple[bytes, bytes], ...]
