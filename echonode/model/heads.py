"""The heads of a record: which of its versions its leaf shows, and in which bounds (PROTOCOL.md §4.4). Pure.

    select(versions) --> heads        shown in the tree: no other head supersedes them, and they fit the bounds
                         spare        kept back: no head supersedes them, and they do not fit
                         superseded   a head has seen all that they have, and more
                         dropped      they fit neither among the heads nor in the spare
    winner(heads)                     the head that readers get

A version's rank is (sum of its vector's counters, timestamp, id). It rises along supersession: a version that has seen
more has a greater sum. `select` goes down the ranks and takes each version that fits, so a version can only be shut out
by versions of a higher rank. Every set of versions that contains its own heads therefore leads to the same heads or to
higher ones, and nodes that exchange their heads come to an end, whatever vectors claim.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeAlias, TypeVar

from echonode.clock import Timestamp
from echonode.limits import (
    HEADS_BYTES_MAX,
    HEADS_ENTRIES_MAX,
    HEADS_MAX,
    HEADS_PER_KEY_MAX,
    SPARE_MAX,
    VECTOR_ENTRIES_MAX,
)
from echonode.model.identity import IdentityId, PublicKey, Writer
from echonode.model.record import Record, Vector, Version, VersionId, supersedes

V = TypeVar("V", bound=Version)
Rank: TypeAlias = tuple[int, Timestamp, VersionId]


@dataclass(frozen=True, slots=True)
class LeafBounds:
    """The bounds of one leaf: `entries` of vectors and `size_bytes` of all heads together, and the same of the spare.
    """

    heads: int = HEADS_MAX
    heads_per_key: int = HEADS_PER_KEY_MAX
    entries: int = HEADS_ENTRIES_MAX
    size_bytes: int = HEADS_BYTES_MAX
    spare: int = SPARE_MAX
    spare_entries: int = HEADS_ENTRIES_MAX
    spare_size_bytes: int = HEADS_BYTES_MAX


LEAF_BOUNDS: Final = LeafBounds()


_NOBODY: Final = IdentityId(b"")


@dataclass(slots=True, eq=False)
class Outline:
    """The parts of a version that the rule looks at, without its bytes; and what else is counted of it."""

    id: VersionId
    kid: PublicKey
    vector: Vector
    timestamp: Timestamp
    writer: Writer
    size: int
    author: IdentityId = _NOBODY
    is_tombstone: bool = False

    @classmethod
    def of(cls, version: Version) -> "Outline":
        """Return the outline of `version`."""
        return cls(
            version.id,
            version.kid,
            version.vector,
            version.timestamp,
            version.writer,
            version.size,
            version.author,
            version.is_tombstone,
        )

    @property
    def counter(self) -> int:
        """The counter of its own dot."""
        return self.vector[self.writer]


@dataclass(frozen=True, slots=True)
class LeafVersions(Generic[V]):
    """The versions of one leaf, divided; each list goes down the ranks."""

    heads: list[V] = field(default_factory=list)
    spare: list[V] = field(default_factory=list)
    superseded: list[V] = field(default_factory=list)
    dropped: list[V] = field(default_factory=list)


def rank(version: Version) -> Rank:
    """Return the rank of `version` among the versions of its record: a greater one goes first."""
    return sum(version.vector.values()), version.timestamp, version.id


def select(
    versions: Iterable[V],
    bounds: LeafBounds = LEAF_BOUNDS,
    *,
    heads_before: Collection[VersionId] = (),
    spare_before: Collection[VersionId] = (),
) -> LeafVersions[V]:
    """Return which of `versions`, the admitted versions known of one record, are its heads, and what the others are.

    The result does not depend on their order, and a version that stands twice counts once. `heads_before` and
    `spare_before` are an earlier result for some of them: no head superseded one of these, so that need not be looked
    at again. They change the cost only."""
    divided: LeafVersions[V] = LeafVersions()
    heads, per_key = divided.heads, Counter[PublicKey]()
    room = _Room(bounds.heads, bounds.entries, bounds.size_bytes)
    new_heads: list[V] = []
    outranked: list[V] = []
    for version in sorted({version.id: version for version in versions}.values(), key=rank, reverse=True):
        is_compared = version.id in heads_before or version.id in spare_before
        if any(supersedes(head, version) for head in (new_heads if is_compared else heads)):
            divided.superseded.append(version)
        elif per_key[version.kid] < bounds.heads_per_key and room.take(version):
            per_key[version.kid] += 1
            heads.append(version)
            if version.id not in heads_before:
                new_heads.append(version)
        else:
            outranked.append(version)
    # No head supersedes one of these: the heads of a higher rank were compared, and those of a lower rank cannot.
    room = _Room(bounds.spare, bounds.spare_entries, bounds.spare_size_bytes)
    for version in outranked:
        (divided.spare if room.take(version) else divided.dropped).append(version)
    return divided


class _Room:
    """The room that is left for versions, their vectors' entries and their bytes."""

    def __init__(self, count: int, entries: int, size_bytes: int) -> None:
        self._count, self._entries, self._size_bytes = count, entries, size_bytes

    def take(self, version: Version) -> bool:
        """Return True, with less room left, if `version` fits; a later and smaller one may fit where it does not."""
        entries, size = len(version.vector), version.size
        if self._count < 1 or self._entries < entries or self._size_bytes < size:
            return False
        self._count, self._entries, self._size_bytes = self._count - 1, self._entries - entries, self._size_bytes - size
        return True


def winner(heads: Sequence[Record]) -> Record:
    """Return the head that readers get. It does not depend on the order of `heads`."""
    return max(heads, key=lambda head: (head.timestamp, head.id))


def cover(heads: Iterable[Version], writer: Writer) -> dict[Writer, int]:
    """Return the union of the vectors of those heads that a new version of `writer` covers (PROTOCOL.md §4.3).

    It goes down the ranks and covers each head whose entries still fit beside the writer's own. The others stay beside
    the new version, so that a full vector keeps no record from being written."""
    vector: dict[Writer, int] = {}
    for head in sorted(heads, key=rank, reverse=True):
        union = {**head.vector, **vector}
        if len(union) + (writer not in union) <= VECTOR_ENTRIES_MAX:
            for other, counter in head.vector.items():
                union[other] = max(counter, union[other])
            vector = union
    return vector
