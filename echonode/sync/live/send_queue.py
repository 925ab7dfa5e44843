"""The state that sender and receiver of one link share: what waits to be sent, the tally, and ways into the node."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from echonode.clock import Entropy
from echonode.limits import ANNOUNCEMENT_WEIGHT
from echonode.model.identity import IdentityId, Instance
from echonode.model.record import Record
from echonode.store.port import Cursor, Outranked, RefusedVersion, Store, VoidedVersion
from echonode.sync.live.plumtree import Plumtree, ShortId
from echonode.sync.transport import SyncTransport
from echonode.wire.messages import Commits, Message


@dataclass(slots=True)
class LinkTally:
    """One link's counters of records. `announced`: by the peer; `fetched`: of these, those that were asked for."""

    sent: int = 0
    received: int = 0
    had: int = 0
    announced: int = 0
    fetched: int = 0
    refused: int = 0


class LinkOwner(Protocol):
    """The node, as its link with one peer needs it (node/live_links.py)."""

    @property
    def wants_all(self) -> bool:
        """True while this node wants all contexts whole; without that nothing more is received."""
        ...

    def takes(self, context: str) -> bool:
        """Return True for a context that is wanted here."""
        ...

    def judge(self, context: str, records: Sequence[Record]) -> Sequence[RefusedVersion]:
        """Return those of `records` that are too much for this node, each with the reason."""
        ...

    async def pace(self, records: int) -> None:
        """Count records that the peer brings; return when so many may come."""
        ...

    async def charge(self, cost_s: float) -> None:
        """Charge work that the peer asked for (sync/work.py)."""
        ...

    def applied(self, context: str, records: Sequence[Record]) -> None:
        """Hear of records of the peer that became heads."""
        ...

    def strangers(self, strangers: Sequence[Record]) -> None:
        """Hear of versions in this store's name that it never signed."""
        ...

    def outranked(self, context: str, outranked: Sequence[Outranked]) -> None:
        """Hear of versions that do not fit beside the other heads of their records."""
        ...

    def voided(self, voided: Sequence[VoidedVersion]) -> None:
        """Hear of versions that are no heads any more, because a statement of the peer's voids their key."""

    def refused(self, context: str, records: Sequence[Record], refused: Sequence[RefusedVersion]) -> None:
        """Hear of `records` of the peer of which some versions were refused here, and which."""
        ...

    def compared(self, is_equal: bool) -> None:
        """Hear, after roots came or the store changed, whether all that is followed is equal."""
        ...

    def suspect(self) -> None:
        """Hear that trees should be compared: a root stays different, or a key is unknown."""
        ...

    def answered(self) -> None:
        """Hear that the peer answered after `Link.probe`."""
        ...

    @property
    def has_many_peers(self) -> bool:
        """True among so many peers that roots are told seldom."""
        ...


class LinkProgress(Protocol):
    """The link, as its sender and its receiver tell it what happens."""

    def moved(self, context: str) -> None:
        """Hear that records of `context` were sent or received."""
        ...

    def unequal(self, context: str) -> None:
        """Hear that the roots of `context` differ, though records of it may still be on their way."""
        ...

    def compared(self, is_equal: bool) -> None:
        """Hear whether all that is followed is equal."""
        ...

    def suspect(self) -> None:
        """Hear that trees should be compared."""
        ...


@dataclass(frozen=True, slots=True)
class LinkEnvironment:
    """A link's surroundings: the transport to the peer, what all links share, and the node that owns it.

    `instance` is the life of the peer's store whose log is followed; `entropy` draws jitter; `roots` are those of the
    peer's hello, by context.
    """

    transport: SyncTransport
    plumtree: Plumtree
    peer: IdentityId
    instance: Instance
    owner: LinkOwner
    entropy: Entropy
    roots: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        """The local store."""
        return self.plumtree.store

    def note_followed(self, context: str, seq: int) -> None:
        """Note that nothing of the peer's log up to `seq` is missing here."""
        self.store.note(self.cursor(context, seq))

    def cursor(self, context: str, seq: int) -> Cursor:
        """Return the cursor at `seq` of the peer's log."""
        return Cursor(self.peer, self.instance, context, seq)


@dataclass(slots=True)
class SendQueue:
    """One link's outgoing messages, with the state that decides how changes are sent.

    `is_eager`      records travel whole, either way; else they are announced
    `known`         versions that the peer is known to have, and was not sent
    `latest_roots`  by context, the root that the peer told last over the link
    `outbox`        messages to send before any change is sent
    `wake`          set when there may be something to send
    `progress`      the link, which hears of what happens
    """

    environment: LinkEnvironment
    progress: LinkProgress
    is_eager: bool = True
    known: "OrderedDict[ShortId, None]" = field(default_factory=OrderedDict)
    latest_roots: dict[str, bytes] = field(default_factory=dict)
    outbox: deque[Message] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    tally: LinkTally = field(default_factory=LinkTally)

    def roots_of(self, context: str) -> tuple[bytes, ...]:
        """Return roots that the peer had: what was in them it holds for good, or what supersedes that."""
        told = self.environment.roots.get(context), self.latest_roots.get(context)
        return tuple(root for root in told if root is not None)

    def send_soon(self, message: Message) -> None:
        """Queue `message` and wake the sender."""
        self.outbox.append(message)
        self.wake.set()


def weight(message: Commits) -> int:
    """Return what `message` takes of its receiver's window, in bytes."""
    return sum(map(len, message.records)) + ANNOUNCEMENT_WEIGHT * (1 + len(message.announced))
