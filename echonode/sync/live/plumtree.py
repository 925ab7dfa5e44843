"""What the links of one node share: who brought what lately, who was asked for what, and the newest end of each log.

A version travels once to each node, along those links that tell it whole, and is announced on the others. The links
find out by themselves which are which (Leitao, Pereira, Rodrigues: Epidemic Broadcast Trees, 2007): who is told whole
what another told before asks for announcements instead; who is announced what nobody told asks for it, and to be told
whole from then on. So the links that tell whole become a tree, and one that breaks is mended by the next announcement.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from echonode.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, RECENT_VERSIONS_MAX
from echonode.model.identity import IdentityId
from echonode.model.record import Record, VersionId
from echonode.store.port import Change, Store

ShortId: TypeAlias = bytes

_SHORT_BYTES: Final = 16  # of an id in an announcement; as hard to collide with as our tree's digests


def short(version: VersionId) -> ShortId:
    """A version as announcements name it."""
    return version[:_SHORT_BYTES]


def remember(known: dict[ShortId, None], ids: Sequence[ShortId]) -> None:
    """Add `ids` to a memory of bounded size; the oldest go."""
    for each in ids:
        known[each] = None
    while len(known) > RECENT_VERSIONS_MAX:
        del known[next(iter(known))]


class Linked(Protocol):
    """A link, as the others see it."""

    def changed(self) -> None:
        """The store changed: there may be something to tell."""
        ...

    def arrived(self, ids: Sequence[ShortId]) -> None:
        """These versions are stored, whoever brought them."""
        ...

    def ask_again(self, ids: Sequence[ShortId]) -> None:
        """Whoever was asked for these is gone; ask for those that were announced here."""
        ...


@dataclass(slots=True)
class Plumtree:
    """Shared by all links of a node, by peer."""

    store: Store
    tail: "Tail" = field(init=False)
    links: dict[IdentityId, Linked] = field(default_factory=dict)
    _brought_by: dict[ShortId, IdentityId | None] = field(default_factory=dict)
    _asked: dict[ShortId, Linked] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tail = Tail(self.store)

    def stored(self, records: Sequence[Record], source: IdentityId | None) -> None:
        """`records` became heads here. `source`: the peer that brought them, None for our own."""
        self.came([short(record.id) for record in records[-RECENT_VERSIONS_MAX:]], source)
        for link in list(self.links.values()):
            link.changed()

    def came(self, ids: Sequence[ShortId], source: IdentityId | None) -> None:
        """`source` brought these, if not another before: they are stored, or superseded here; nobody is asked for them
        any more."""
        for each in ids:
            self._brought_by.setdefault(each, source)
            self._asked.pop(each, None)
        while len(self._brought_by) > RECENT_VERSIONS_MAX:
            del self._brought_by[next(iter(self._brought_by))]
        for link in list(self.links.values()):
            link.arrived(ids)

    def is_here(self, version: ShortId) -> bool:
        """Whether it was stored lately."""
        return version in self._brought_by

    def came_by_another(self, version: ShortId, than: IdentityId) -> bool:
        """Whether another peer, whose link is up, brought it before `than` did."""
        source = self._brought_by.get(version)
        return source is not None and source != than and source in self.links

    @property
    def asked_count(self) -> int:
        """The number of versions that a peer was asked for and has not sent yet."""
        return len(self._asked)

    def is_asked(self, version: ShortId) -> bool:
        """Whether somebody has been asked for it, and may still answer."""
        return version in self._asked

    def ask(self, version: ShortId, link: Linked) -> None:
        """`link` asks its peer for it."""
        self._asked[version] = link

    def unanswered(self, ids: Sequence[ShortId], link: Linked) -> None:
        """Whom `link` asked for these does not have them; whoever else announced them is asked."""
        for version in ids:
            self._asked.pop(version, None)
        for other in list(self.links.values()):
            if other is not link:
                other.ask_again([version for version in ids if version not in self._asked])

    def late(self, ids: Sequence[ShortId], link: Linked) -> None:
        """Whom `link` asked for these has not answered."""
        self.unanswered([version for version in ids if self._asked.get(version) is link], link)

    def left(self, peer: IdentityId, link: Linked) -> None:
        """A link is over: what its peer was asked for, others are."""
        if self.links.get(peer) is link:
            del self.links[peer]
        self.unanswered([version for version, asked in self._asked.items() if asked is link], link)


@dataclass(slots=True)
class _Part:
    """The log of one context between two seqs: behind `start`, up to `upto`."""

    start: int
    upto: int
    entries: deque[Change] = field(default_factory=deque)
    size: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Tail:
    """The newest entries of each log, read once for all who are told of them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._parts: dict[str, _Part] = {}

    async def read(self, context: str, after: int) -> tuple[list[Change], int]:
        """The entries behind `after` that fit one message, and up to which seq nothing is missing."""
        part = self._parts.setdefault(context, _Part(after, after))
        async with part.lock:
            if part.start <= after and part.upto < self._store.seq(context):
                await self._read_on(context, part)
        if not part.start <= after <= part.upto:
            return await self._store.changes(
                context, after, records_max=BATCH_RECORDS_MAX, bytes_max=BATCH_BYTES_MAX
            )
        found: list[Change] = []
        for entry in reversed(part.entries):
            if entry.seq <= after:
                break
            found.append(entry)
        return found[::-1], part.upto

    async def find(self, context: str, seq: int) -> Change | None:
        """The entry of that seq; None when it has left the log."""
        part = self._parts.get(context)
        if part is not None and part.start < seq <= part.upto:
            return next((entry for entry in part.entries if entry.seq == seq), None)
        if not 0 < seq <= self._store.seq(context):
            return None
        entries, _ = await self._store.changes(context, seq - 1, records_max=1, bytes_max=1)
        return entries[0] if entries and entries[0].seq == seq else None

    async def _read_on(self, context: str, part: _Part) -> None:
        entries, part.upto = await self._store.changes(
            context, part.upto, records_max=BATCH_RECORDS_MAX, bytes_max=BATCH_BYTES_MAX
        )
        part.entries += entries
        part.size += sum(len(entry.raw) for entry in entries)
        while len(part.entries) > BATCH_RECORDS_MAX or (part.size > BATCH_BYTES_MAX and len(part.entries) > 1):
            gone = part.entries.popleft()
            part.size -= len(gone.raw)
            part.start = gone.seq
