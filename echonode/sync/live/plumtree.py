"""The state that all links of a node share: which link brought or was asked for a version, and the end of each log.

A version reaches each node whole over one link, and is announced over the others. The links find out by themselves
which are which (Leitao, Pereira, Rodrigues: Epidemic Broadcast Trees, 2007):

    a link brings whole versions that another link brought first    it is switched to announcements
    a link announces versions that no link brought                  they are asked for; it is switched to whole ones

So the links that carry whole versions become a tree. A tree that breaks is mended by the next announcement.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from echonode.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, COMMITS_RECORDS_MAX, RECENT_VERSIONS_MAX
from echonode.model.identity import IdentityId
from echonode.model.record import VersionId
from echonode.store.port import Change, Store

ShortId: TypeAlias = bytes

_SHORT_BYTES: Final = 16  # of an id in an announcement: as hard to collide with as the digests of a tree


def short_id(version: VersionId) -> ShortId:
    """Return the id by which announcements name a version."""
    return version[:_SHORT_BYTES]


def remember(known: "OrderedDict[ShortId, None]", ids: Sequence[ShortId]) -> None:
    """Add `ids` to `known`, and drop the oldest beyond RECENT_VERSIONS_MAX."""
    for each in ids:
        known[each] = None
    while len(known) > RECENT_VERSIONS_MAX:  # to find the oldest of a plain dict takes 20 times as long
        known.popitem(last=False)


class PlumtreeLink(Protocol):
    """A link, as the shared state sees it."""

    def on_store_changed(self) -> None:
        """Send changes soon: the store may hold some that the peer was not told of."""
        ...

    def on_arrived(self, ids: Sequence[ShortId]) -> None:
        """Wait no more for these versions: they are stored, by whichever link they came."""
        ...

    def ask_again(self, ids: Sequence[ShortId]) -> None:
        """Ask the peer for those of `ids` that it announced: no other link is asked for them now."""
        ...


@dataclass(slots=True)
class Plumtree:
    """The shared state, and the node's links by peer."""

    store: Store
    tail: "LogTail" = field(init=False)
    links: dict[IdentityId, PlumtreeLink] = field(default_factory=dict)
    _brought_by: "OrderedDict[ShortId, IdentityId | None]" = field(default_factory=OrderedDict)  # the latest versions
    _asked: dict[ShortId, PlumtreeLink] = field(default_factory=dict)  # versions on their way

    def __post_init__(self) -> None:
        self.tail = LogTail(self.store)

    def stored(self, versions: Sequence[VersionId], source: IdentityId | None) -> None:
        """Tell all links that `versions` became heads here. `source`: the peer that brought them, None for our own."""
        self.note_arrived([short_id(version) for version in versions], source)
        for link in list(self.links.values()):
            link.on_store_changed()

    def note_arrived(self, ids: Sequence[ShortId], source: IdentityId | None) -> None:
        """Note that `source` brought these versions, unless another peer did before. They are stored or superseded
        here, so no link waits for them any more."""
        for each in ids:
            self._brought_by.setdefault(each, source)
            self._asked.pop(each, None)
        while len(self._brought_by) > RECENT_VERSIONS_MAX:
            self._brought_by.popitem(last=False)
        for link in list(self.links.values()):
            link.on_arrived(ids)

    def has_arrived(self, version: ShortId) -> bool:
        """Return True when a link brought the version lately, or this node wrote it."""
        return version in self._brought_by

    def was_brought_by_another(self, version: ShortId, peer: IdentityId) -> bool:
        """Return True when another peer, whose link is up, brought the version before `peer` did."""
        source = self._brought_by.get(version)
        return source is not None and source != peer and source in self.links

    @property
    def asked_count(self) -> int:
        """The number of versions that a peer was asked for and has not sent yet."""
        return len(self._asked)

    def is_asked(self, version: ShortId) -> bool:
        """Return True when a link has asked for the version and may still get it."""
        return version in self._asked

    def ask(self, version: ShortId, link: PlumtreeLink) -> None:
        """Note that `link` asks its peer for the version."""
        self._asked[version] = link

    def note_unanswered(self, ids: Sequence[ShortId], link: PlumtreeLink) -> None:
        """Let other links ask for these versions: the peer of `link` was asked and does not have them."""
        for version in ids:
            self._asked.pop(version, None)
        for other in list(self.links.values()):
            if other is not link:
                other.ask_again([version for version in ids if version not in self._asked])

    def note_late(self, ids: Sequence[ShortId], link: PlumtreeLink) -> None:
        """Let other links ask for those of `ids` that the peer of `link` was asked for and has not sent."""
        self.note_unanswered([version for version in ids if self._asked.get(version) is link], link)

    def remove(self, peer: IdentityId, link: PlumtreeLink) -> None:
        """Remove a link that has ended. Let other links ask for the versions it waited for."""
        if self.links.get(peer) is link:
            del self.links[peer]
        self.note_unanswered([version for version, asked in self._asked.items() if asked is link], link)


@dataclass(slots=True)
class _LogPart:
    """The log of one context behind seq `start`, up to seq `upto`. `size`: bytes of its entries."""

    start: int
    upto: int
    entries: deque[Change] = field(default_factory=deque)
    size: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class LogTail:
    """The newest entries of each context's log, read from the store once for all links."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._parts: dict[str, _LogPart] = {}

    async def read(self, context: str, after: int) -> tuple[list[Change], int]:
        """Return the entries behind seq `after` that fit one Commits, and the seq up to which none is missing."""
        part = self._parts.setdefault(context, _LogPart(after, after))
        async with part.lock:
            if part.start <= after and part.upto < self._store.seq(context):
                await self._read_on(context, part)
        if not part.start <= after <= part.upto:
            return await self._store.changes(
                context, after, records_max=COMMITS_RECORDS_MAX, bytes_max=BATCH_BYTES_MAX
            )
        found: list[Change] = []
        for entry in reversed(part.entries):
            if entry.seq <= after:
                break
            found.append(entry)
        if len(found) > COMMITS_RECORDS_MAX:
            return found[: -COMMITS_RECORDS_MAX - 1 : -1], found[-COMMITS_RECORDS_MAX].seq
        return found[::-1], part.upto

    async def find(self, context: str, seq: int) -> Change | None:
        """Return the entry of that seq, None when it has left the log."""
        part = self._parts.get(context)
        if part is not None and part.start < seq <= part.upto:
            return next((entry for entry in part.entries if entry.seq == seq), None)
        if not 0 < seq <= self._store.seq(context):
            return None
        entries, _ = await self._store.changes(context, seq - 1, records_max=1, bytes_max=1)
        return entries[0] if entries and entries[0].seq == seq else None

    async def _read_on(self, context: str, part: _LogPart) -> None:
        """Read entries behind the part, and drop its oldest until it fits one message."""
        entries, part.upto = await self._store.changes(
            context, part.upto, records_max=BATCH_RECORDS_MAX, bytes_max=BATCH_BYTES_MAX
        )
        part.entries += entries
        part.size += sum(len(entry.raw) for entry in entries)
        while len(part.entries) > BATCH_RECORDS_MAX or (part.size > BATCH_BYTES_MAX and len(part.entries) > 1):
            gone = part.entries.popleft()
            part.size -= len(gone.raw)
            part.start = gone.seq
