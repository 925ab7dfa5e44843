"""The effects of a void key: every version that it signed goes to the history, in every context, and older ones return.

Revocations are rare and may be large. So this module reads what it needs in place: the bytes of a version hold its key
at a fixed offset. Heads are derived again from all that is kept of a leaf, its history piece by piece.
"""

import sqlite3
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from echonode.limits import HEADS_BYTES_MAX
from echonode.model.heads import LeafBounds
from echonode.model.identity import KEY_BYTES, IdentityId, PublicKey
from echonode.model.record import KID_AT, LeafKey, Record
from echonode.store.leaf import Leaf, LeafMerge, Move, Place, joined_moves
from echonode.store.merge import voided_versions
from echonode.store.port import VoidedVersion
from echonode.store.sqlite.connection import read_record
from echonode.store.sqlite.log_columns import BY_LEAF, leaf_values

Revoked = Collection[tuple[IdentityId, PublicKey]]

_PIECE_BYTES: Final = HEADS_BYTES_MAX  # of history merged at once


@dataclass(slots=True)
class Revocation:
    """The effects on one context: the versions that are heads or spare no more, and what becomes of every leaf that
    changes."""

    voided: list[VoidedVersion] = field(default_factory=list)
    merges: dict[LeafKey, LeafMerge] = field(default_factory=dict)


def find_revocations(
    connection: sqlite3.Connection,
    revoked: Revoked,
    bounds: LeafBounds,
    is_void: Callable[[Record], bool],
    *,
    names: Mapping[int, str],
    staged_ids: Collection[int],
) -> tuple[dict[int, Revocation], set[int]]:
    """Return, by context among `names`, what is void, and those of `staged_ids` that hold a voided version.

    `is_void` says it of versions in the history, of keys that became void earlier.
    A staged snapshot with a voided version can never reach its root, so it goes as a whole."""
    revocations: dict[int, Revocation] = {}
    spoilt: set[int] = set()
    for context_id, key in sorted(_signed_leaves(connection, revoked)):
        if context_id in names:
            revocation = revocations.setdefault(context_id, Revocation())
            merge = _derive_heads(connection, context_id, key, revoked, bounds, is_void)
            revocation.merges[key] = merge
            revocation.voided += voided_versions(names[context_id], [merge], revoked)
        elif context_id in staged_ids:
            spoilt.add(context_id)
    return revocations, spoilt


def _signed_leaves(connection: sqlite3.Connection, revoked: Revoked) -> set[tuple[int, LeafKey]]:
    """Return the leaves where a revoked key signed a version."""
    kids = {kid for _, kid in revoked}
    marks = ", ".join("?" * len(kids))
    touched: set[tuple[int, LeafKey]] = set()
    for place in Place:
        rows = connection.execute(
            f"SELECT context, key, id, bytes FROM {place.value} WHERE substr(bytes, ?, ?) IN ({marks})",
            (KID_AT + 1, KEY_BYTES, *kids),
        )
        touched.update(
            (context_id, key)
            for context_id, key, version, raw in rows
            if _is_revoked(read_record(raw, version), revoked)
        )
    return touched


def _derive_heads(
    connection: sqlite3.Connection,
    context_id: int,
    key: LeafKey,
    revoked: Revoked,
    bounds: LeafBounds,
    is_void: Callable[[Record], bool],
) -> LeafMerge:
    """Return what becomes of a leaf without its void versions."""
    leaf = Leaf(is_whole=True)
    moves: list[Move] = []
    size = 0
    for place in Place:  # the history last, its newest versions first
        rows = connection.execute(
            f"SELECT id, bytes FROM {place.value} WHERE {BY_LEAF}"
            + (" ORDER BY n DESC" if place is not Place.LOG else ""),
            leaf_values(context_id, key),
        )
        with closing(rows):
            for version, raw in rows:
                record = read_record(raw, version)
                if _is_revoked(record, revoked) or (place is Place.HISTORY and is_void(record)):
                    if place is not Place.HISTORY:
                        moves.append(Move(record, place, Place.HISTORY))
                    continue
                leaf.add(place, (record,))
                size += record.size
                if place is Place.HISTORY and size > _PIECE_BYTES:
                    moves = joined_moves(moves, _merge_piece(leaf, bounds).moves)
                    size = 0
    merge = _merge_piece(leaf, bounds)
    merge.moves = [move for move in joined_moves(moves, merge.moves) if move.origin is not move.target]
    return merge


def _merge_piece(leaf: Leaf, bounds: LeafBounds) -> LeafMerge:
    """Merge what is in `leaf`, and drop from memory what is superseded."""
    merge = leaf.merge((), bounds)
    leaf.follow(merge.moves)
    leaf.follow([Move(version, Place.HISTORY, None) for version in leaf.at(Place.HISTORY)])
    return merge


def _is_revoked(record: Record, revoked: Revoked) -> bool:
    return (record.author, record.kid) in revoked
