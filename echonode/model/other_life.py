"""Another life of a store: a store that was put back, or copied, without notice gives counters twice (PROTOCOL.md
§5.6). Pure.

    this life     1 .. 80  81' .. 85'      Both sign with one key under one instance. So 100 supersedes 85' of the same
    another one   1 .. 80  81  .. 100      record, and 85' supersedes 81, though neither writer saw the other's version.

Any one version of the other life proves a `Fork`. `to_sign_again` finds the versions of a record that no head stands
for, because one of the opposite life took their place. Each stands again as `signed_again` makes it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from echonode.clock import Timestamp
from echonode.model.identity import INSTANCE_BYTES, Instance, SigningKey, Writer, writer_of
from echonode.model.record import Record, VersionId, sign, supersedes


@dataclass(frozen=True, slots=True)
class Fork:
    """A bound of the point where the lives of an instance parted: the least counter and time known of the other one."""

    instance: Instance
    counter: int
    timestamp: Timestamp

    @classmethod
    def proven_by(cls, stranger: Record) -> "Fork":
        """Return the fork that a version of the other life proves."""
        return cls(stranger.instance, stranger.counter, stranger.timestamp)

    def joined(self, other: "Fork") -> "Fork":
        """Return the earliest that this fork and `other`, of the same instance, allow together."""
        return Fork(self.instance, min(self.counter, other.counter), min(self.timestamp, other.timestamp))

    def is_before(self, version: Record) -> bool:
        """Return True if `version`, which this life signed under the instance, is later than the fork for certain.

        Before it no counter was given twice, and every timestamp is lower than all behind it."""
        return version.counter >= self.counter or version.timestamp > self.timestamp


def to_sign_again(
    versions: Iterable[Record], forks: Mapping[Writer, Fork], signed: Callable[[Record], bool | None]
) -> list[Record]:
    """Return those of `versions`, all that is held of one record, which are due to be signed again.

    `signed` returns True for a version of this life, False for one of the other life, None where it cannot know. A
    version is due when it is superseded, but only by versions that did not see it: their entry for its writer is of the
    opposite life."""
    held = {version.id: version for version in versions}
    lives: dict[bool, dict[VersionId, Record]] = {True: {}, False: {}}
    for version in held.values():
        if version.writer in forks and (is_ours := signed(version)) is not None:
            lives[is_ours][version.id] = version
    due: list[Record] = []
    for is_ours, mates in lives.items():
        opposite = lives[not is_ours]
        for version in mates.values():
            if is_ours and not forks[version.writer].is_before(version):
                continue  # the other life knew it
            above = [other for other in held.values() if supersedes(other, version)]
            if not above or any(_stands_for(other, version) for other in held.values()):
                continue
            if not any(_has_seen(other, version, mates, opposite, is_ours=is_ours) for other in above):
                due.append(version)
    return due


def _has_seen(
    newer: Record,
    version: Record,
    mates: Mapping[VersionId, Record],
    opposite: Mapping[VersionId, Record],
    *,
    is_ours: bool,
) -> bool:
    """Return True if `newer`, which supersedes `version`, saw it: its entry for the writer is of the same life.

    That entry is the counter of a version of this record. If no such version is held, the other life wrote it. A
    version is later than all that it covers."""
    if newer.id in opposite or newer.timestamp <= version.timestamp:
        return False
    dot = version.writer, newer.vector[version.writer]
    is_mate = any(dot == (mate.writer, mate.counter) for mate in mates.values())
    is_opposite = any(dot == (other.writer, other.counter) for other in opposite.values())
    return is_mate or not (is_opposite or is_ours)


def _stands_for(other: Record, version: Record) -> bool:
    return (other.kid, other.instance) == (version.kid, _instance_again(version))


def _instance_again(version: Record) -> Instance:
    return Instance(version.id[:INSTANCE_BYTES])


def signed_again(version: Record, key: SigningKey) -> Record:
    """Return `version`, which `key` signed, once more: content and times stay, and what it covers of other writers.

    Its instance is the beginning of the version's id. So it covers no other version that is signed again, and whoever
    signs this one again makes the same bytes."""
    instance = _instance_again(version)
    vector = {writer: counter for writer, counter in version.vector.items() if writer != version.writer}
    vector[writer_of(key.public, instance)] = 1
    return sign(version.draft(), key, instance=instance, vector=vector, timestamp=version.timestamp)
