"""The state that all links of a node share: which link brought or was asked for a version.

A version reaches each node whole over one link, and is announced over the others. The links find out by themselves
which are which (Leitao, Pereira, Rodrigues: Epidemic Broadcast Trees, 2007):

    a link brings whole versions that another link brought first    it is switched to announcements
    a link announces versions that no link brought                  they are asked for; it is switched to whole ones

So the links that carry whole versions become a tree. A tree that breaks is mended by the next announcement.
"""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from echonode.limits import RECENT_VERSIONS_MAX
from echonode.model.identity import IdentityId
from echonode.model.record import VersionId
from echonode.store.port import Store

ShortId: TypeAlias = bytes

_NO_ROOT: Final = b""
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
    links: dict[IdentityId, PlumtreeLink] = field(default_factory=dict)
    _brought_by: "OrderedDict[ShortId, IdentityId | None]" = field(default_factory=OrderedDict)  # the latest versions
    _held_in: "OrderedDict[ShortId, bytes]" = field(default_factory=OrderedDict)  # the latest of conversations
    _asked: dict[ShortId, PlumtreeLink] = field(default_factory=dict)  # versions on their way

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

    def note_held(self, versions: Sequence[VersionId], root: bytes) -> None:
        """Note that a peer with this root of their context brings `versions`: whoever had the same root holds them too.
        What the peer wrote since then is mistaken for such until roots are compared."""
        for version in versions:
            self._held_in[short_id(version)] = root
        while len(self._held_in) > RECENT_VERSIONS_MAX:
            self._held_in.popitem(last=False)

    def is_held_in(self, version: ShortId, roots: Collection[bytes]) -> bool:
        """Return True when a peer with one of these roots brought the version lately."""
        return self._held_in.get(version, _NO_ROOT) in roots

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
