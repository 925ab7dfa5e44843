"""The table `writers` as the `CounterTable` of a store on disk. The counters asked for lately are in memory."""

from collections.abc import Mapping

from echonode.limits import COUNTER_ANSWERS_MAX
from echonode.model.identity import Instance, PublicKey
from echonode.store.counters import Counters
from echonode.store.sqlite.lookups import Lookups, RecentAnswers


class CounterRows:
    """The highest counter held of each writer."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups
        self._answers: RecentAnswers[tuple[PublicKey, Instance], int] = RecentAnswers(COUNTER_ANSWERS_MAX)

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

    def has_signed(self, key: PublicKey) -> bool:
        return bool(self._lookups.rows("SELECT 1 FROM writers WHERE key = ? LIMIT 1", key))

    def raise_to(self, counters: Counters) -> None:
        # The rows are there already.
        for writer, counter in counters.items():
            self._answers.keep(writer, max(counter, self._answers.get(writer) or 0))
