"""Counters of writers: the highest that a store has seen of each signing key in each life of a store. Pure.

    CounterTable        what the rules of merging ask
    CountersInMemory    the table in dictionaries

A writer is one key in one life (PROTOCOL.md §4.3). Everybody who is let in brings writers of their own, so a store on
disk keeps the table there (store/sqlite/counter_rows.py).
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, TypeAlias

from echonode.model.identity import Instance, PublicKey
from echonode.model.record import Record, VersionId

WriterKey: TypeAlias = tuple[PublicKey, Instance]
Counters: TypeAlias = Mapping[WriterKey, int]
Latest: TypeAlias = Mapping[WriterKey, Record]  # the version that has the highest counter of a writer


class SeenVersion(NamedTuple):
    """The version with the highest counter that was seen of one key in one life."""

    instance: Instance
    counter: int
    version: VersionId


class CounterTable(Protocol):
    """The highest counter seen of each writer, and the id of the version that has it."""

    def highest(self, key: PublicKey, instance: Instance) -> int:
        """Return the highest counter seen of one writer, 0 for none."""
        ...

    def by_instance(self, key: PublicKey) -> Mapping[Instance, int]:
        """Return the highest counters seen of `key`."""
        ...

    def latest(self, key: PublicKey) -> list[SeenVersion]:
        """Return the versions with the highest counters of `key`, in any order. A counter that other versions only
        mention has none."""
        ...

    def has_signed(self, key: PublicKey) -> bool:
        """Return True if a version that `key` signed was seen."""
        ...

    def raise_to(self, counters: Counters, latest: Latest) -> None:
        """Take over `counters`, which the store holds from now on, with the versions that have them. A lower one than
        before changes nothing."""
        ...


class CountersInMemory:
    """A `CounterTable` in dictionaries."""

    def __init__(self) -> None:
        self._by_key: dict[PublicKey, dict[Instance, int]] = {}
        self.versions: dict[WriterKey, Record] = {}

    def highest(self, key: PublicKey, instance: Instance) -> int:
        return self._by_key.get(key, {}).get(instance, 0)

    def by_instance(self, key: PublicKey) -> Mapping[Instance, int]:
        return self._by_key.get(key, {})

    def latest(self, key: PublicKey) -> list[SeenVersion]:
        return [
            SeenVersion(instance, counter, version.id)
            for instance, counter in self.by_instance(key).items()
            if (version := self.versions.get((key, instance))) is not None and version.counter == counter
        ]

    def has_signed(self, key: PublicKey) -> bool:
        return key in self._by_key

    def raise_to(self, counters: Counters, latest: Latest) -> None:
        for (key, instance), counter in counters.items():
            seen = self._by_key.setdefault(key, {})
            if counter > seen.get(instance, 0):
                seen[instance] = counter
                if (key, instance) in latest:
                    self.versions[key, instance] = latest[key, instance]
