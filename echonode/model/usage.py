"""Usage: how much of a store the heads of each author take, by the key that signed them. For quotas; never saved.

What a snapshot brings is counted as it is staged: a quota bounds it from its first batch on.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from echonode.model.identity import IdentityId, PublicKey


class CountedVersion(Protocol):
    """The parts of a version that are counted: a record has them, and the outline of a stored one."""

    @property
    def author(self) -> IdentityId: ...

    @property
    def kid(self) -> PublicKey: ...

    @property
    def size(self) -> int: ...

    @property
    def is_tombstone(self) -> bool: ...


@dataclass(slots=True)
class Usage:
    """Heads, the bytes of these, and how many of them are tombstones."""

    records: int = 0
    bytes: int = 0
    tombstones: int = 0

    def add(self, records: int, size: int, tombstones: int) -> None:
        """Add so much, or take it away. What is not there cannot go."""
        self.records = max(0, self.records + records)
        self.bytes = max(0, self.bytes + size)
        self.tombstones = max(0, self.tombstones + tombstones)


@dataclass(slots=True)
class UsageTable:
    """The usage of a whole store, but for key statements: `total`, and that of each author and key."""

    total: Usage = field(default_factory=Usage)
    _by_author: dict[IdentityId, dict[PublicKey, Usage]] = field(default_factory=dict)

    def of(self, author: IdentityId) -> Usage:
        """Return the usage of one author, whichever keys signed."""
        found = Usage()
        for usage in self._by_author.get(author, {}).values():
            found.add(usage.records, usage.bytes, usage.tombstones)
        return found

    def of_key(self, author: IdentityId, key: PublicKey) -> Usage:
        """Return the usage of what `key` signed for `author`, a pool."""
        return self._by_author.get(author, {}).get(key, Usage())

    def of_others(self, authors: Iterable[IdentityId]) -> Usage:
        """Return the usage of all authors but these, each named once."""
        found = Usage(self.total.records, self.total.bytes, self.total.tombstones)
        for author in authors:
            usage = self.of(author)
            found.add(-usage.records, -usage.bytes, -usage.tombstones)
        return found

    def add_all(self, other: "UsageTable", sign: int = 1) -> None:
        """Add all of `other`, with `sign` -1 take it away."""
        for author, by_key in other._by_author.items():
            for key, usage in by_key.items():
                self.add(author, key, sign * usage.records, sign * usage.bytes, sign * usage.tombstones)

    def count(self, versions: Iterable[CountedVersion], sign: int) -> None:
        """Count `versions` as new heads, with `sign` -1 as heads no more."""
        author, key = IdentityId(b""), PublicKey(b"")
        records = size = tombstones = 0
        for version in versions:
            if version.kid != key or version.author != author:  # most come in rows of one author
                if records:
                    self.add(author, key, sign * records, sign * size, sign * tombstones)
                author, key = version.author, version.kid
                records = size = tombstones = 0
            records += 1
            size += version.size
            tombstones += version.is_tombstone
        if records:
            self.add(author, key, sign * records, sign * size, sign * tombstones)

    def add(self, author: IdentityId, key: PublicKey, records: int, size: int, tombstones: int) -> None:
        """Add so much, or take it away."""
        self.total.add(records, size, tombstones)
        by_key = self._by_author.setdefault(author, {})
        usage = by_key.setdefault(key, Usage())
        usage.add(records, size, tombstones)
        if not usage.records:
            del by_key[key]
            if not by_key:
                del self._by_author[author]
