"""The rows of the table `peers`: the peers that were met, each with the addresses at which it was last reached."""

import sqlite3
from typing import Final

from echonode.model.identity import IDENTITY_BYTES, IdentityId
from echonode.store.port import KnownPeer

_QUERY: Final = "SELECT id, name, addresses, seen_ms FROM peers ORDER BY seen_ms DESC, id"


def read_peers(connection: sqlite3.Connection) -> list[KnownPeer]:
    """Return the peers in the table, the latest seen first."""
    return [
        KnownPeer(IdentityId(peer), name, tuple(addresses.split()), seen_ms)
        for peer, name, addresses, seen_ms in connection.execute(_QUERY)
    ]


def read_whole_peers(connection: sqlite3.Connection) -> list[KnownPeer]:
    """Return the peers of a damaged file whose rows have the right shape, none where there is no such table."""
    try:
        rows = connection.execute(_QUERY).fetchall()
    except sqlite3.DatabaseError:
        return []  # peers are saved again when they are met next
    return [
        KnownPeer(IdentityId(peer), name, tuple(addresses.split()), seen_ms)
        for peer, name, addresses, seen_ms in rows
        if isinstance(peer, bytes) and len(peer) == IDENTITY_BYTES and isinstance(name, str)
        if isinstance(addresses, str) and isinstance(seen_ms, int)
    ]
