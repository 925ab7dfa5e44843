"""The versions that a store signed itself, by counter: what it can know of its own life (PROTOCOL.md §5.6). Pure.

    OwnVersions            what the rules ask
    OwnVersionsInMemory    the ids in dictionaries

A store that was put back without notice finds that a peer holds another version under a counter than it gave itself.
The last OWN_IDS_KEPT versions of an instance are known. What came before proves nothing either way.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from echonode.limits import OWN_IDS_KEPT, SEEN_INSTANCES_MAX
from echonode.model.identity import Instance
from echonode.model.other_life import Fork
from echonode.model.record import VersionId

ID_PREFIX_BYTES: Final = 8  # only this store's own key makes versions to compare with, so none is sought to agree


class OwnVersions(Protocol):
    """The ids of the store's own versions, and the forks that became known of its instances."""

    @property
    def forks(self) -> Mapping[Instance, Fork]:
        """The forks known, the latest last, at most SEEN_INSTANCES_MAX."""
        ...

    def has_signed(self, instance: Instance, counter: int, version: VersionId) -> bool | None:
        """Return whether the store gave this counter of its instance to `version`; None where it cannot know."""
        ...


class OwnVersionsInMemory:
    """`OwnVersions` in dictionaries."""

    def __init__(self) -> None:
        self.forks: dict[Instance, Fork] = {}
        self._ids: dict[Instance, OrderedDict[int, bytes]] = {}

    def has_signed(self, instance: Instance, counter: int, version: VersionId) -> bool | None:
        ids = self._ids.get(instance)
        if not ids or counter < next(iter(ids)):
            return None
        return ids.get(counter) == version[:ID_PREFIX_BYTES]

    def add(self, instance: Instance, first_counter: int, versions: Sequence[VersionId]) -> None:
        """Note that the store gave `first_counter` and those behind it to `versions`."""
        ids = self._ids.setdefault(instance, OrderedDict())
        for counter, version in enumerate(versions, first_counter):
            ids[counter] = version[:ID_PREFIX_BYTES]
        while len(ids) > OWN_IDS_KEPT:
            ids.popitem(last=False)

    def add_fork(self, fork: Fork) -> None:
        """Note a fork, joined with what is known of its instance."""
        known = self.forks.get(fork.instance)
        self.forks[fork.instance] = known.joined(fork) if known else fork
        while len(self.forks) > SEEN_INSTANCES_MAX:
            del self.forks[next(iter(self.forks))]

    def renew(self, instance: Instance) -> None:
        """Forget the ids of instances other than `instance` and those of forks."""
        self._ids = {each: ids for each, ids in self._ids.items() if each in self.forks or each == instance}
