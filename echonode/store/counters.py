"""Counters of writers: the highest that a store has seen of each signing key in each life of a store. Pure.

    CounterTable        what the rules of merging ask
    CountersInMemory    the table in dictionaries

A writer is one key in one life (PROTOCOL.md §4.3). Everybody who is let in brings writers of their own, so a store on
disk keeps the table there (store/sqlite/counter_rows.py).
"""

from collections.abc import Mapping
from typing import Protocol, TypeAlias

from echonode.model.identity import Instance, PublicKey

Counters: TypeAlias = Mapping[tuple[PublicKey, Instance], int]


class CounterTable(Protocol):
    """The highest counter seen of each writer."""

    def highest(self, key: PublicKey, instance: Instance) -> int:
        """Return the highest counter seen of one writer, 0 for none."""
        ...

    def by_instance(self, key: PublicKey) -> Mapping[Instance, int]:
        """Return the highest counters seen of `key`."""
        ...

    def has_signed(self, key: PublicKey) -> bool:
        """Return True if a version that `key` signed was seen."""
        ...

    def raise_to(self, counters: Counters) -> None:
        """Take over `counters`, which the store holds from now on. A lower one than before changes nothing."""
        ...


class CountersInMemory:
    """A `CounterTable` in dictionaries."""

    def __init__(self) -> None:
        self._by_key: dict[PublicKey, dict[Instance, int]] = {}

    def highest(self, key: PublicKey, instance: Instance) -> int:
        return self._by_key.get(key, {}).get(instance, 0)

    def by_instance(self, key: PublicKey) -> Mapping[Instance, int]:
        return self._by_key.get(key, {})

    def has_signed(self, key: PublicKey) -> bool:
        return key in self._by_key

    def raise_to(self, counters: Counters) -> None:
        for (key, instance), counter in counters.items():
            seen = self._by_key.setdefault(key, {})
            seen[instance] = max(counter, seen.get(instance, 0))
