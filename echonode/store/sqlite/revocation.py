"""What a compromised key takes with it: all it ever signed, in every context, and the older versions that return.

Voiding is rare and may be large, so it reads what it needs in place (a version's bytes name its key at a fixed place)
and gives back the rows to write. Heads are derived again from what the log and the local history hold.
"""

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass, field

from echonode.model.identity import KEY_BYTES, IdentityId, PublicKey
from echonode.model.record import KID_AT, LeafKey, Record, VersionId
from echonode.store.merge import heads_among
from echonode.store.sqlite.connection import read_record

Revoked = Collection[tuple[IdentityId, PublicKey]]


@dataclass(slots=True)
class Revocation:
    """The effects on one context. `leaves`: the heads of every leaf that changes; `restored`: those of them that were
    none before; `size`: bytes of versions that went, less those that returned."""

    count: int = 0
    size: int = 0
    log: list[int] = field(default_factory=list)
    history: list[int] = field(default_factory=list)
    restored: list[Record] = field(default_factory=list)
    leaves: dict[LeafKey, list[VersionId]] = field(default_factory=dict)


def find_void(
    connection: sqlite3.Connection, revoked: Revoked, *, named: Collection[int], staged: Collection[int]
) -> tuple[dict[int, Revocation], set[int]]:
    """Per context among `named`, what is void; and which of `staged` hold anything void: as their root can never be
    reached any more, they go as a whole."""
    voids: dict[int, Revocation] = {}
    spoilt: set[int] = set()
    for shelf_id, key in sorted(_touched(connection, revoked)):
        if shelf_id in named:
            _derive(connection, shelf_id, key, revoked, voids.setdefault(shelf_id, Revocation()))
        elif shelf_id in staged:
            spoilt.add(shelf_id)
    return voids, spoilt


def _touched(connection: sqlite3.Connection, revoked: Revoked) -> set[tuple[int, LeafKey]]:
    """The leaves where a revoked key signed something."""
    kids = {kid for _, kid in revoked}
    marks = ", ".join("?" * len(kids))
    touched: set[tuple[int, LeafKey]] = set()
    for table in ("log", "history"):
        rows = connection.execute(
            f"SELECT context, key, id, bytes FROM {table} WHERE substr(bytes, ?, ?) IN ({marks})",
            (KID_AT + 1, KEY_BYTES, *kids),
        )
        touched.update(
            (shelf_id, key) for shelf_id, key, version, raw in rows if _is_revoked(read_record(raw, version), revoked)
        )
    return touched


def _derive(connection: sqlite3.Connection, shelf_id: int, key: LeafKey, revoked: Revoked, void: Revocation) -> None:
    logged = _versions(connection, "SELECT seq, id, bytes FROM log", shelf_id, key)
    older = _versions(connection, "SELECT n, id, bytes FROM history", shelf_id, key)
    known = [record for _, record in logged + older]
    heads = heads_among(record for record in known if not _is_revoked(record, revoked))
    were = {record.id for _, record in logged}
    are = {head.id for head in heads}
    void.count += sum(_is_revoked(record, revoked) for record in known)
    void.log += [seq for seq, record in logged if record.id not in are]
    void.history += [n for n, record in older if record.id in are or _is_revoked(record, revoked)]
    void.restored += [head for head in heads if head.id not in were]
    void.leaves[key] = [head.id for head in heads]
    void.size += sum(len(record.raw) for _, record in logged) - sum(len(head.raw) for head in heads)


def _versions(connection: sqlite3.Connection, select: str, shelf_id: int, key: LeafKey) -> list[tuple[int, Record]]:
    rows = connection.execute(f"{select} WHERE context = ? AND key = ?", (shelf_id, key)).fetchall()
    return [(number, read_record(raw, version)) for number, version, raw in rows]


def _is_revoked(record: Record, revoked: Revoked) -> bool:
    return (record.author, record.kid) in revoked
