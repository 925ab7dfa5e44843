"""The tables `own` and `forks` as the `OwnVersions` of a store on disk.

A row of `own` has the ids of versions that were written together, 8 bytes of each: a put adds a short row at the end.
"""

import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from echonode.clock import Timestamp
from echonode.limits import SEEN_INSTANCES_MAX
from echonode.model.identity import Instance
from echonode.model.other_life import Fork
from echonode.model.record import VersionId
from echonode.store.own_versions import ID_PREFIX_BYTES
from echonode.store.sqlite.lookups import Lookups

OWN_TABLES: Final = (
    "CREATE TABLE own (instance BLOB NOT NULL, first INTEGER NOT NULL, ids BLOB NOT NULL,"
    " PRIMARY KEY (instance, first)) STRICT, WITHOUT ROWID",
    "CREATE TABLE forks (n INTEGER PRIMARY KEY, instance BLOB NOT NULL UNIQUE, counter BLOB NOT NULL,"
    " timestamp BLOB NOT NULL) STRICT",
)
_FIRST_MAX: Final = 2**63 - 1  # SQLite binds no greater integer; a forged version may claim one
SAVE_OWN: Final = "INSERT OR REPLACE INTO own VALUES (?, ?, ?)"
# All rows but the last of those that begin at or before that counter: some of its ids may be behind it.
DELETE_OWN: Final = (
    "DELETE FROM own WHERE instance = ?1 AND first <"
    " (SELECT max(first) FROM own WHERE instance = ?1 AND first <= ?2)"
)
DELETE_OTHERS: Final = "DELETE FROM own WHERE instance <> ? AND instance NOT IN (SELECT instance FROM forks)"
SAVE_FORK: Final = (
    "INSERT INTO forks (instance, counter, timestamp) VALUES (?, ?, ?) ON CONFLICT (instance) DO UPDATE"
    " SET counter = min(counter, excluded.counter), timestamp = min(timestamp, excluded.timestamp)"
)
DELETE_OLD_FORKS: Final = (
    f"DELETE FROM forks WHERE n NOT IN (SELECT n FROM forks ORDER BY n DESC LIMIT {SEEN_INSTANCES_MAX})"
)


def fork_row(fork: Fork) -> tuple[Any, ...]:
    """Return the values for SAVE_FORK. SQLite's integers are signed, so numbers of 64 bits are bytes."""
    return fork.instance, fork.counter.to_bytes(8, "big"), fork.timestamp.to_bytes(8, "big")


class OwnRows:
    """The ids of the store's own versions, on disk, and its forks, in memory too."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups
        self._forks: dict[Instance, Fork] = {}

    @property
    def forks(self) -> Mapping[Instance, Fork]:
        return self._forks

    def load(self, connection: sqlite3.Connection) -> None:
        """Read the forks."""
        rows = connection.execute("SELECT instance, counter, timestamp FROM forks ORDER BY n")
        self._forks = {
            instance: Fork(instance, int.from_bytes(counter, "big"), Timestamp(int.from_bytes(timestamp, "big")))
            for instance, counter, timestamp in rows
        }

    def add_fork(self, fork: Fork) -> None:
        """Take over a fork, which is saved."""
        known = self._forks.get(fork.instance)
        self._forks[fork.instance] = known.joined(fork) if known else fork
        while len(self._forks) > SEEN_INSTANCES_MAX:
            del self._forks[next(iter(self._forks))]

    def has_signed(self, instance: Instance, counter: int, version: VersionId) -> bool | None:
        rows = self._lookups.rows(
            "SELECT first, ids FROM own WHERE instance = ? AND first <= ? ORDER BY first DESC LIMIT 1",
            instance,
            min(counter, _FIRST_MAX),
        )
        if not rows:
            return None
        first, ids = rows[0]
        at = (counter - first) * ID_PREFIX_BYTES
        return bool(ids[at : at + ID_PREFIX_BYTES] == version[:ID_PREFIX_BYTES])
