"""The rows of the table `origins`: who introduced each context, in the order in which they were saved first."""

import sqlite3
from typing import Final

from echonode.model.identity import IdentityId
from echonode.store.port import ContextOrigin

SAVE_ORIGIN: Final = (
    "INSERT INTO origins (context, identity, is_forgotten) VALUES (?, ?, ?) ON CONFLICT (context)"
    " DO UPDATE SET identity = excluded.identity, is_forgotten = excluded.is_forgotten"
)


def read_origins(connection: sqlite3.Connection) -> list[ContextOrigin]:
    """Return the rows of the table."""
    rows = connection.execute("SELECT context, identity, is_forgotten FROM origins ORDER BY n")
    return [ContextOrigin(context, IdentityId(identity), bool(forgotten)) for context, identity, forgotten in rows]
