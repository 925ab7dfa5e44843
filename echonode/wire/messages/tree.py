"""Messages that compare two trees: the modes `level_wise` and `hash_comparison` (PROTOCOL.md §8.1, §8.2)."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class LevelWiseInit:
    """Opens `level_wise`. `width`: bytes of each digest on the wire, 16 or 32."""

    code: ClassVar[int] = 16
    version: tuple[int, int]
    context: str
    direction: int
    width: int
    prefixes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class NodesRequest:
    """Asks what stands at each of these prefixes."""

    code: ClassVar[int] = 17
    prefixes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Nodes:
    """One part per prefix, in order; `root` is the sender's at that moment.

    A part is a kind byte, then: 0 (branch) two bytes naming the non-empty children, first child in the highest bit,
    and their digests in order; 1 (bucket) the digests of its leaves in key order.
    """

    code: ClassVar[int] = 18
    root: bytes
    parts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class HashComparisonInit:
    """Opens `hash_comparison`. `children` is the initiator's own branch part of the root."""

    code: ClassVar[int] = 20
    version: tuple[int, int]
    context: str
    direction: int
    width: int
    max_depth: int
    children: bytes


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """What differs below `prefix`, where the sender has the branch part `children`?"""

    code: ClassVar[int] = 21
    prefix: bytes
    children: bytes


@dataclass(frozen=True, slots=True)
class Differences:
    """(prefix, part) pairs, parents before children; parts as in `Nodes`, for what differs and lies deepest."""

    code: ClassVar[int] = 22
    root: bytes
    parts: tuple[tuple[bytes, bytes], ...]
