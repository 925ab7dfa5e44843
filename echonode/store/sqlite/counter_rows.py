"""The table `writers` as the `CounterTable` of a store on disk. The counters asked for lately are in memory."""

from collections.abc import Mapping
from typing import Any, Final

from echonode.limits import COUNTER_ANSWERS_MAX
from echonode.model.identity import Instance, PublicKey
from echonode.model.record import Record
from echonode.store.counters import Counters, Latest, SeenVersion, WriterKey
from echonode.store.sqlite.log_columns import BY_VERSION, LEAF_PREFIX, version_values
from echonode.store.sqlite.lookups import Lookups, RecentAnswers

# Several calls of one group may save counters of one writer, in any order. A counter never goes back.
SAVE_COUNTER: Final = (
    "INSERT INTO writers (key, instance, counter, context, leaf, version) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (key, instance) DO UPDATE SET counter = excluded.counter, context = excluded.context,"
    " leaf = excluded.leaf, version = excluded.version WHERE excluded.counter > counter"
)
_BY_VERSION_ANYWHERE: Final = (
    f"context IN (SELECT id FROM contexts WHERE name IS NOT NULL) AND {LEAF_PREFIX} = ? AND key = ? AND id = ?"
)


def counter_row(writer: WriterKey, counter: int, version: Record | None, context_id: int) -> tuple[Any, ...]:
    """Return the values for SAVE_COUNTER. `version` has the highest dot that came; others may mention higher ones."""
    is_held = version is not None and version.counter == counter
    place = (context_id, version.key, version.id) if version is not None and is_held else (None, None, None)
    return (*writer, counter.to_bytes(8, "big"), *place)


class CounterRows:
    """The highest counter held of each writer."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups
        self._answers: RecentAnswers[WriterKey, int] = RecentAnswers(COUNTER_ANSWERS_MAX)

    def highest(self, key: PublicKey, instance: Instance) -> int:
        known = self._answers.get((key, instance))
        if known is None:
            rows = self._lookups.rows("SELECT counter FROM writers WHERE key = ? AND instance = ?", key, instance)
            known = int.from_bytes(rows[0][0], "big") if rows else 0
            self._answers.keep((key, instance), known)
        return known

    def by_instance(self, key: PublicKey) -> Mapping[Instance, int]:
        rows = self._lookups.rows("SELECT instance, counter FROM writers WHERE key = ?", key)
        return {instance: int.from_bytes(counter, "big") for instance, counter in rows}

    def latest(self, key: PublicKey) -> list[SeenVersion]:
        rows = self._lookups.rows(
            "SELECT instance, counter, version FROM writers WHERE key = ? AND version IS NOT NULL", key
        )
        return [SeenVersion(instance, int.from_bytes(counter, "big"), version) for instance, counter, version in rows]

    def bytes_of_latest(self, key: PublicKey, instance: Instance) -> bytes | None:
        """Return the version that `latest` names, as stored; None where it is not kept any more."""
        places = self._lookups.rows(
            "SELECT context, leaf, version FROM writers WHERE key = ? AND instance = ? AND version IS NOT NULL",
            key,
            instance,
        )
        for place in places:
            values = version_values(*place)
            # What came in a snapshot that was merged or dropped stands in a context with a name by now.
            for where, bound in ((BY_VERSION, values), (_BY_VERSION_ANYWHERE, values[1:])):
                for table in ("log", "history", "spare"):
                    rows = self._lookups.rows(f"SELECT bytes FROM {table} WHERE {where}", *bound)
                    if rows:
                        return rows[0][0]  # type: ignore[no-any-return]
        return None

    def has_signed(self, key: PublicKey) -> bool:
        return bool(self._lookups.rows("SELECT 1 FROM writers WHERE key = ? LIMIT 1", key))

    def raise_to(self, counters: Counters, latest: Latest) -> None:
        # The rows are there already.
        for writer, counter in counters.items():
            self._answers.keep(writer, max(counter, self._answers.get(writer) or 0))
