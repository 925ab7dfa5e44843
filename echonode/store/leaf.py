"""One leaf of a store: its versions by place, and the moves between places when more arrive. Pure, for all stores.

    place      versions                                            the rule of heads (model/heads.py) calls them
    LOG        the heads; in the tree, and sent to peers           heads
    SPARE      kept back because the leaf is full                  spare
    HISTORY    kept for a while, for people and for a void key     superseded, and dropped if they were heads or spare

A version that arrives superseded goes to the history like one that was superseded here, so what a store holds does not
depend on the order in which versions came. A version that arrives and fits neither among the heads nor in the spare is
not kept.

While a leaf is not full its heads decide alone, and nothing else of it is read. Once it is full, spare and history have
a say too: a leaf that `is_whole` holds them, the history up to its newest LEAF_HISTORY_MAX versions.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from echonode.model.heads import LeafBounds, LeafVersions, select
from echonode.model.record import Record, Version, VersionId, supersedes


class Place(Enum):
    """A place where a store keeps versions."""

    LOG = "log"
    SPARE = "spare"
    HISTORY = "history"


class Move(NamedTuple):
    """A version that changes its place.

    Without an origin it has just arrived; without a target it is deleted. What arrives, and what comes to the log, is a
    Record; else an outline of the version is enough."""

    version: Version
    origin: Place | None
    target: Place | None

    @property
    def record(self) -> Record:
        """The version, where it is a Record."""
        assert isinstance(self.version, Record), "only a Record arrives or comes to the log"
        return self.version


def joined_moves(earlier: Iterable[Move], later: Iterable[Move]) -> list[Move]:
    """Return one move for each version of both: from where it was before the first to where the last takes it."""
    moves = {move.version.id: move for move in earlier}
    for move in later:
        before = moves.get(move.version.id)
        moves[move.version.id] = Move(move.version, before.origin, move.target) if before else move
    return list(moves.values())


@dataclass(slots=True)
class LeafMerge:
    """The outcome of a merge for one leaf. `heads` are all its heads afterwards, in the order of their ids.

    `had` counts the versions that arrived and are no news; `outranked` are those that were heads or arrived, and do not
    fit; `forked` are heads that share their dot with another. The merge holds only if it `is_certain`: else the leaf is
    full, and has to be read whole."""

    heads: Sequence[VersionId]
    moves: list[Move]
    had: int = 0
    outranked: Sequence[VersionId] = ()
    forked: Sequence[VersionId] = ()
    is_full: bool = False
    is_certain: bool = True

    @classmethod
    def of_new_leaf(cls, record: Record) -> "LeafMerge":
        """Return the merge of one version into a leaf that does not exist yet."""
        return cls((record.id,), [Move(record, None, Place.LOG)])

    def joined(self) -> list[Move]:
        """Return the moves of versions that became heads."""
        return [move for move in self.moves if move.target is Place.LOG]

    def left(self) -> list[Move]:
        """Return the moves of versions that were heads."""
        return [move for move in self.moves if move.origin is Place.LOG]


@dataclass(slots=True)
class Leaf:
    """The versions known of one record, each with its place."""

    is_whole: bool = False
    versions: dict[VersionId, Version] = field(default_factory=dict)
    places: dict[VersionId, Place] = field(default_factory=dict)

    def add(self, place: Place, versions: Iterable[Version]) -> "Leaf":
        """Add versions that are kept at `place`, and return the leaf. A version that it has already stays where it
        is."""
        for version in versions:
            self.versions.setdefault(version.id, version)
            self.places.setdefault(version.id, place)
        return self

    def follow(self, moves: Iterable[Move]) -> None:
        """Carry out `moves`."""
        for move in moves:
            version_id = move.version.id
            if move.target is None:
                self.versions.pop(version_id, None)
                self.places.pop(version_id, None)
            else:
                self.versions.setdefault(version_id, move.version)
                self.places[version_id] = move.target

    def at(self, place: Place) -> list[Version]:
        """Return the versions at `place`."""
        return [version for version_id, version in self.versions.items() if self.places[version_id] is place]

    def merge(self, arrived: Sequence[Record], bounds: LeafBounds) -> LeafMerge:
        """Return what becomes of the leaf when `arrived`, admitted versions of its record, come to it. The leaf itself
        does not change."""
        if len(arrived) == 1 and len(self.versions) == 1 and (merge := self._merge_pair(arrived[0])):
            return merge
        new = {record.id: record for record in arrived}
        before = self.places
        divided = select(
            [*self.versions.values(), *new.values()],
            bounds,
            heads_before={version_id for version_id, place in before.items() if place is Place.LOG},
            spare_before={version_id for version_id, place in before.items() if place is Place.SPARE},
        )
        heads = sorted(divided.heads, key=lambda head: head.id)
        moves = _moves(before, heads, divided)
        joined = sum(move.target is Place.LOG and move.version.id in new for move in moves)
        return LeafMerge(
            heads=tuple(head.id for head in heads),
            moves=moves,
            had=len(arrived) - joined,
            outranked=[
                version.id
                for version in (*divided.spare, *divided.dropped)
                if before.get(version.id, Place.LOG) is Place.LOG
            ],
            forked=_forks(heads),
            is_full=bool(divided.spare),
            is_certain=self.is_whole or not (divided.spare or divided.dropped),
        )

    def _merge_pair(self, record: Record) -> LeafMerge | None:
        """Return the outcome of `merge` for one head and one version of which one supersedes the other: most merges."""
        ((version_id, head),) = self.versions.items()
        if self.places[version_id] is not Place.LOG:
            return None
        if supersedes(record, head):
            return LeafMerge((record.id,), [Move(record, None, Place.LOG), Move(head, Place.LOG, Place.HISTORY)])
        if supersedes(head, record):
            return LeafMerge((version_id,), [Move(record, None, Place.HISTORY)], had=1)
        return None


def _moves(before: Mapping[VersionId, Place], heads: Sequence[Version], divided: LeafVersions[Version]) -> list[Move]:
    moves: list[Move] = []
    for target, versions in (
        (Place.LOG, heads),
        (Place.SPARE, divided.spare),
        (Place.HISTORY, divided.superseded),
        (Place.HISTORY, [version for version in divided.dropped if version.id in before]),
    ):
        for version in versions:
            origin = before.get(version.id)
            if origin is not target:
                moves.append(Move(version, origin, target))
    return moves


def _forks(heads: Sequence[Version]) -> list[VersionId]:
    """Return those of `heads` that share their dot with another: one writer gave one counter twice."""
    if len(heads) < 2:
        return []
    dots = Counter((head.writer, head.counter) for head in heads)
    return [head.id for head in heads if dots[head.writer, head.counter] > 1]
