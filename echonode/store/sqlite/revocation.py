"""The effects of a compromised key: every version that it signed is void, in every context, and older versions return.

Revocations are rare and may be large. So this module reads what it needs in place (the bytes of a version hold its key
at a fixed offset) and returns the rows to write. Heads are derived again from the log and the local history.
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
    """The effects on one context. `leaves` holds the heads of every leaf that changes, `restored` those of them that
    were no heads before. `size_bytes` is the size of the versions that went, less those that returned."""

    count: int = 0
    size_bytes: int = 0
    log_seqs: list[int] = field(default_factory=list)
    history_rows: list[int] = field(default_factory=list)
    restored: list[Record] = field(default_factory=list)
    leaves: dict[LeafKey, list[VersionId]] = field(default_factory=dict)


def find_revocations(
    connection: sqlite3.Connection, revoked: Revoked, *, named_ids: Collection[int], staged_ids: Collection[int]
) -> tuple[dict[int, Revocation], set[int]]:
    """Return, by context among `named_ids`, what is void, and those of `staged_ids` that hold a voided version.

    A staged snapshot with a voided version can never reach its root, so it goes as a whole."""
    revocations: dict[int, Revocation] = {}
    spoilt: set[int] = set()
    for context_id, key in sorted(_signed_leaves(connection, revoked)):
        if context_id in named_ids:
            _derive_heads(connection, context_id, key, revoked, revocations.setdefault(context_id, Revocation()))
        elif context_id in staged_ids:
            spoilt.add(context_id)
    return revocations, spoilt


def _signed_leaves(connection: sqlite3.Connection, revoked: Revoked) -> set[tuple[int, LeafKey]]:
    """Return the leaves where a revoked key signed a version."""
    kids = {kid for _, kid in revoked}
    marks = ", ".join("?" * len(kids))
    touched: set[tuple[int, LeafKey]] = set()
    for table in ("log", "history"):
        rows = connection.execute(
            f"SELECT context, key, id, bytes FROM {table} WHERE substr(bytes, ?, ?) IN ({marks})",
            (KID_AT + 1, KEY_BYTES, *kids),
        )
        touched.update(
            (context_id, key)
            for context_id, key, version, raw in rows
            if _is_revoked(read_record(raw, version), revoked)
        )
    return touched


def _derive_heads(
    connection: sqlite3.Connection, context_id: int, key: LeafKey, revoked: Revoked, revocation: Revocation
) -> None:
    logged = _versions(connection, "SELECT seq, id, bytes FROM log", context_id, key)
    older = _versions(connection, "SELECT n, id, bytes FROM history", context_id, key)
    known = [record for _, record in logged + older]
    heads = heads_among(record for record in known if not _is_revoked(record, revoked))
    logged_ids = {record.id for _, record in logged}
    head_ids = {head.id for head in heads}
    revocation.count += sum(_is_revoked(record, revoked) for record in known)
    revocation.log_seqs += [seq for seq, record in logged if record.id not in head_ids]
    revocation.history_rows += [n for n, record in older if record.id in head_ids or _is_revoked(record, revoked)]
    revocation.restored += [head for head in heads if head.id not in logged_ids]
    revocation.leaves[key] = [head.id for head in heads]
    revocation.size_bytes += sum(len(record.raw) for _, record in logged) - sum(len(head.raw) for head in heads)


def _versions(connection: sqlite3.Connection, select: str, context_id: int, key: LeafKey) -> list[tuple[int, Record]]:
    rows = connection.execute(f"{select} WHERE context = ? AND key = ?", (context_id, key)).fetchall()
    return [(number, read_record(raw, version)) for number, version, raw in rows]


def _is_revoked(record: Record, revoked: Revoked) -> bool:
    return (record.author, record.kid) in revoked
