"""Dropping damaged leaves of a store that is open: those of which the bytes of a head are not what was written.

Such a leaf goes with all that is kept of it, and its whole versions come back by way of a merge, in one transaction.
So the newest whole version stands until a peer brings the head. No peer could be sent the damaged bytes: every read
refuses them.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from echonode.errors import RemoteError
from echonode.model.record import LeafKey, Record, SignedRecord, VersionId, parse, verify
from echonode.store.leaf import Place
from echonode.store.sqlite.log_columns import BY_LEAF, leaf_values


@dataclass(frozen=True, slots=True)
class KeptVersion:
    """A row of a leaf, with the place that it has."""

    place: Place
    version: VersionId
    raw: bytes


@dataclass(frozen=True, slots=True)
class DamagedLeaf:
    """A leaf with a damaged head: the ids of its damaged heads, the bytes of all its heads, those heads of which the
    author, for whom they were counted, can be read still, and all whole versions of it."""

    damaged: tuple[VersionId, ...]
    size_bytes: int
    counted: tuple[SignedRecord, ...]
    whole: tuple[Record, ...]


def read_leaf_rows(
    context_id: int, keys: Sequence[LeafKey], connection: sqlite3.Connection
) -> dict[LeafKey, list[KeptVersion]]:
    """Return every row of each leaf, whatever its bytes are on the disk."""
    connection.execute("PRAGMA shrink_memory")  # pages that this connection read before the damage would hide it
    return {
        key: [
            KeptVersion(place, version, raw if isinstance(raw, bytes) else b"")
            for place in Place
            for version, raw in connection.execute(
                f"SELECT id, bytes FROM {place.value} WHERE {BY_LEAF}", leaf_values(context_id, key)
            )
        ]
        for key in keys
    }


def find_damaged(leaves: dict[LeafKey, list[KeptVersion]]) -> dict[LeafKey, DamagedLeaf]:
    """Verify every version. Return the leaves of which a head is damaged."""
    found: dict[LeafKey, DamagedLeaf] = {}
    for key, rows in leaves.items():
        whole = [(row.place, record) for row in rows if (record := _verified(row)) is not None]
        heads = tuple(record for place, record in whole if place is Place.LOG)
        stored = [row for row in rows if row.place is Place.LOG]
        damaged = {row.version for row in stored} - {head.id for head in heads}
        if damaged:
            size = sum(len(row.raw) for row in stored)
            rotten = (maybe for row in stored if row.version in damaged and (maybe := _readable(row, key)) is not None)
            counted = (*heads, *rotten)
            found[key] = DamagedLeaf(tuple(sorted(damaged)), size, counted, tuple(record for _, record in whole))
    return found


def _readable(row: KeptVersion, key: LeafKey) -> SignedRecord | None:
    """Return what damaged bytes say where they still name the record of their leaf, and so its author."""
    try:
        signed = parse(row.raw)
    except RemoteError:
        return None
    return signed if signed.key == key else None


def _verified(row: KeptVersion) -> Record | None:
    try:
        record = verify(parse(row.raw))
    except RemoteError:
        return None
    return record if record.id == row.version else None
