"""One link's common ground: what its two directions, telling and being told, share."""

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
    """What a link moved. `announced`: by the peer; `fetched`: of that, what nobody else brought."""

    sent: int = 0
    received: int = 0
    had: int = 0
    announced: int = 0
    fetched: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class LinkContext:
    """What a link works with, and whom it tells of what it finds.

    `takes`: whether a context is wanted here; `on_applied`: records became heads; `on_equal`: whether all that is
    followed is equal by now; `on_suspect`: a root stays another, or a key is unknown: trees should be compared;
    `uniform` draws jitter; `is_on`: whether all of everything is wanted here, without which nothing more is taken.
    """

    transport: SyncTransport
    spread: Plumtree
    peer: IdentityId
    instance: Instance
    takes: Callable[[str], bool]
    on_applied: Callable[[str, Sequence[Record]], None]
    on_equal: Callable[[bool], None]
    on_suspect: Callable[[], None]
    uniform: Callable[[float, float], float]
    is_on: Callable[[], bool]

    @property
    def store(self) -> Store:
        """Ours."""
        return self.spread.store

    def note(self, context: str, seq: int) -> None:
        """Nothing of the peer's log up to `seq` is missing here."""
        self.store.note(self.cursor(context, seq))

    def cursor(self, context: str, seq: int) -> Cursor:
        """The cursor that says so."""
        return Cursor(self.peer, self.instance, context, seq)


@dataclass(slots=True)
class SendQueue:
    """`is_eager`: records travel whole, either way; else they are announced. `known`: what the peer is known to have
    and was not told. `outbox`: what is to be sent before anything is told; `wake` says that there is something."""

    ends: LinkContext
    is_eager: bool = True
    known: dict[ShortId, None] = field(default_factory=dict)
    outbox: deque[Message] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    figures: LinkTally = field(default_factory=LinkTally)
    on_moved: Callable[[str], None] = lambda _: None

    def say(self, message: Message) -> None:
        """Send `message` soon."""
        self.outbox.append(message)
        self.wake.set()


def weight(message: Commits) -> int:
    """What `message` takes of its receiver's window."""
    return sum(map(len, message.records)) + ANNOUNCEMENT_WEIGHT * (1 + len(message.announced))
