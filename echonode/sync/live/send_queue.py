"""The state that sender and receiver of one link share: what waits to be sent, the tally, and ways into the node."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from echonode.limits import ANNOUNCEMENT_WEIGHT
from echonode.model.identity import IdentityId, Instance
from echonode.model.record import Record
from echonode.store.port import Cursor, Store
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


@dataclass(frozen=True, slots=True)
class LinkEnvironment:
    """A link's surroundings: the transport to the peer, what all links share, and listeners in the node.

    `instance`    the life of the peer's store whose log is followed
    `takes`       returns True for a context that is wanted here
    `on_applied`  is told of records that became heads, with their context
    `on_equal`    is told, after roots came or the store changed, True when all that is followed is equal
    `on_suspect`  is told that trees should be compared: a root stays different, or a key is unknown
    `on_alive`    is told that the peer answered after `Link.probe`
    `uniform`     draws a number between two, for jitter
    `has_many`    returns True among so many peers that roots are told seldom
    `is_on`       returns True while this node wants all contexts whole; without that nothing more is received
    """

    transport: SyncTransport
    plumtree: Plumtree
    peer: IdentityId
    instance: Instance
    takes: Callable[[str], bool]
    on_applied: Callable[[str, Sequence[Record]], None]
    on_equal: Callable[[bool], None]
    on_suspect: Callable[[], None]
    uniform: Callable[[float, float], float]
    is_on: Callable[[], bool]
    on_alive: Callable[[], None] = lambda: None
    has_many: Callable[[], bool] = lambda: False

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

    `is_eager`    records travel whole, either way; else they are announced
    `known`       versions that the peer is known to have, and was not sent
    `outbox`      messages to send before any change is sent
    `wake`        set when there may be something to send
    `on_moved`    is told the context of records that were sent or received
    `on_unequal`  is told the context whose roots differ, though records may still be on their way
    """

    environment: LinkEnvironment
    is_eager: bool = True
    known: dict[ShortId, None] = field(default_factory=dict)
    outbox: deque[Message] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    tally: LinkTally = field(default_factory=LinkTally)
    on_moved: Callable[[str], None] = lambda _: None
    on_unequal: Callable[[str], None] = lambda _: None

    def send_soon(self, message: Message) -> None:
        """Queue `message` and wake the sender."""
        self.outbox.append(message)
        self.wake.set()


def weight(message: Commits) -> int:
    """Return what `message` takes of its receiver's window, in bytes."""
    return sum(map(len, message.records)) + ANNOUNCEMENT_WEIGHT * (1 + len(message.announced))
