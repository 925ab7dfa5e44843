"""From earlier schemas to the present one. Every version is kept.

    3 to 4    `spare`, `sums`, leaves within their bounds, `origins`, and `peers` in place of pinned names
    4 to 5    `claims`, from the key statements in the log
    5 to 6    `log` with `created`, from the bytes of each version, and with a smaller index; sums and orders that
              follow from the log are kept no more
    6 to 7    `writers` with the version that has each counter, known from the next one on; `own`, `forks`

Schema 3 knew no bounds for the heads of a record. A leaf with more of them than the rule of heads takes (PROTOCOL.md
§4.4) keeps those of the rule; the others become spare or history. Without its bounds no store would agree with others.
"""

import sqlite3
from typing import Final

from echonode.errors import RemoteError
from echonode.limits import HEADS_PER_KEY_MAX
from echonode.model.fields import CREATED
from echonode.model.heads import LEAF_BOUNDS, Outline
from echonode.model.keys import read_stored_statement
from echonode.model.record import IDENTITIES, fields_of
from echonode.store.leaf import Leaf, Place
from echonode.store.sqlite.claim_rows import CLAIMS_TABLE, SAVE_CLAIM, claim_row
from echonode.store.sqlite.connection import DamageError, read_record
from echonode.store.sqlite.log_columns import created_column
from echonode.store.sqlite.own_rows import OWN_TABLES

SPARE_TABLES: Final = (
    "CREATE TABLE spare (n INTEGER PRIMARY KEY, context INTEGER NOT NULL, key BLOB NOT NULL, id BLOB NOT NULL,"
    " bytes BLOB NOT NULL) STRICT",
    "CREATE UNIQUE INDEX spare_version ON spare (context, key, id)",
    "CREATE TABLE sums (place TEXT PRIMARY KEY, versions INTEGER NOT NULL, bytes INTEGER NOT NULL)"
    " STRICT, WITHOUT ROWID",
    *(
        statement
        for place in ("history", "spare")
        for statement in (
            f"INSERT INTO sums VALUES ('{place}', 0, 0)",
            f"CREATE TRIGGER {place}_added AFTER INSERT ON {place} BEGIN UPDATE sums SET versions = versions + 1,"
            f" bytes = bytes + length(new.bytes) WHERE place = '{place}'; END",
            f"CREATE TRIGGER {place}_deleted AFTER DELETE ON {place} BEGIN UPDATE sums SET versions = versions - 1,"
            f" bytes = bytes - length(old.bytes) WHERE place = '{place}'; END",
        )
    ),
)
LOG_TABLE: Final = (
    "CREATE TABLE log (seq INTEGER PRIMARY KEY, context INTEGER NOT NULL, key BLOB NOT NULL, id BLOB NOT NULL,"
    " created BLOB NOT NULL, bytes BLOB NOT NULL) STRICT",
    "CREATE INDEX log_leaf ON log (context, substr(key, 1, 8))",
)
WRITERS_TABLE: Final = (
    "CREATE TABLE writers (key BLOB NOT NULL, instance BLOB NOT NULL, counter BLOB NOT NULL, context INTEGER,"
    " leaf BLOB, version BLOB, PRIMARY KEY (key, instance)) STRICT, WITHOUT ROWID"
)
PEERS_TABLE: Final = (
    "CREATE TABLE peers (id BLOB PRIMARY KEY, name TEXT NOT NULL, addresses TEXT NOT NULL, seen_ms INTEGER NOT NULL)"
    " STRICT, WITHOUT ROWID"
)
ORIGINS_TABLE: Final = (
    "CREATE TABLE origins (n INTEGER PRIMARY KEY, context TEXT NOT NULL UNIQUE, identity BLOB NOT NULL,"
    " is_forgotten INTEGER NOT NULL) STRICT"
)
_HEADS_ALWAYS_WITHIN_BOUNDS: Final = HEADS_PER_KEY_MAX  # of schema 3: with its vectors so many always fit


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring the tables of schema `version` up to date, inside the caller's transaction.

    Raises DamageError where a key statement or a version of a crowded leaf cannot be read."""
    if version < 4:
        _migrate_3(connection)
    if version < 5:
        _migrate_4(connection)
    if version < 6:
        _migrate_5(connection)
    _migrate_6(connection)


def _migrate_6(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE writers RENAME TO writers_6")
    for statement in (WRITERS_TABLE, *OWN_TABLES):
        connection.execute(statement)
    connection.execute("INSERT INTO writers (key, instance, counter) SELECT key, instance, counter FROM writers_6")
    connection.execute("DROP TABLE writers_6")


def _migrate_5(connection: sqlite3.Connection) -> None:
    connection.create_function("created_of", 1, _created_of, deterministic=True)
    # The sequence of the old table may be ahead of its rows, and no seq may come back.
    connection.execute(
        "UPDATE contexts SET floor = given.seq FROM sqlite_sequence AS given WHERE contexts.name IS NOT NULL"
        " AND given.name = 'log' AND given.seq > (SELECT ifnull(max(seq), 0) FROM log)"
    )
    connection.execute("DROP INDEX log_leaf")
    connection.execute("DROP INDEX log_order")
    connection.execute("ALTER TABLE log RENAME TO log_5")
    table, index = LOG_TABLE
    connection.execute(table)
    connection.execute(
        "INSERT INTO log SELECT seq, context, key, id, created_of(bytes), bytes FROM log_5 ORDER BY seq"
    )
    connection.execute(index)
    connection.execute("DROP TABLE log_5")
    connection.execute("ALTER TABLE contexts DROP COLUMN bytes")


def _created_of(raw: bytes) -> bytes:
    """Return the column for a version in the log; zeros for one that is damaged, which `echonode verify` names."""
    try:
        return created_column(fields_of(raw)[CREATED])  # type: ignore[arg-type]  # an int
    except Exception:  # bytes that were damaged may lead to any error
        return created_column(0)


def _migrate_4(connection: sqlite3.Connection) -> None:
    for statement in CLAIMS_TABLE:
        connection.execute(statement)
    rows = connection.execute(
        "SELECT log.id, log.bytes FROM log JOIN contexts ON contexts.id = log.context WHERE contexts.name = ?",
        (IDENTITIES,),
    )
    for version, raw in rows:
        try:
            claim = read_stored_statement(read_record(raw, version))
        except RemoteError as error:
            raise DamageError(f"a key statement cannot be read: {error.detail}") from error
        connection.execute(SAVE_CLAIM, claim_row(claim))


def _migrate_3(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM history WHERE n NOT IN (SELECT min(n) FROM history GROUP BY context, key, id)")
    connection.execute("DROP INDEX history_leaf")
    connection.execute("CREATE UNIQUE INDEX history_version ON history (context, key, id)")
    connection.execute("DROP TABLE pins")
    for statement in (PEERS_TABLE, ORIGINS_TABLE, *SPARE_TABLES):
        connection.execute(statement)
    connection.execute(
        "UPDATE sums SET (versions, bytes) = (SELECT count(*), ifnull(sum(length(bytes)), 0) FROM history)"
        " WHERE place = 'history'"
    )
    large_leaves = connection.execute(
        "SELECT context, key FROM log GROUP BY context, key HAVING count(*) > ?", (_HEADS_ALWAYS_WITHIN_BOUNDS,)
    )
    for context_id, key in large_leaves.fetchall():
        _bring_within_bounds(connection, context_id, key)


def _bring_within_bounds(connection: sqlite3.Connection, context_id: int, key: bytes) -> None:
    leaf = Leaf(is_whole=True)
    rows = connection.execute("SELECT id, bytes FROM log WHERE context = ? AND key = ?", (context_id, key))
    for version, raw in rows:
        leaf.add(Place.LOG, (Outline.of(read_record(raw, version)),))
    for move in leaf.merge((), LEAF_BOUNDS).moves:
        row = (context_id, key, move.version.id)
        if move.target is Place.SPARE:
            connection.execute(
                "INSERT INTO spare (context, key, id, bytes)"
                " SELECT context, key, id, bytes FROM log WHERE context = ? AND key = ? AND id = ?",
                row,
            )
        else:
            connection.execute(
                "INSERT INTO history (context, key, id, bytes, superseded_ms) SELECT context, key, id, bytes,"
                " 1000 * strftime('%s', 'now') FROM log WHERE context = ? AND key = ? AND id = ?",
                row,
            )
        connection.execute("DELETE FROM log WHERE context = ? AND key = ? AND id = ?", row)
        connection.execute("UPDATE contexts SET bytes = bytes - ? WHERE id = ?", (move.version.size, context_id))
