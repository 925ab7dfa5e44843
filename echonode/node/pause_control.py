"""PauseControl: a pause begins and ends here, by a person or by the clock.

    pause    sessions and links with the peer end; it is neither dialled nor let in (Reason.PAUSED); writes go on here
    resume   the peer is dialled again at once, and both become equal
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from echonode.clock import Clock
from echonode.errors import LocalError
from echonode.model.identity import IdentityId
from echonode.node.addresses import Addresses
from echonode.node.connections import Connections
from echonode.node.events import NodePaused, NodeResumed
from echonode.node.pauses import Pause, Pauses
from echonode.text import escape


class PauseControl:
    """The pauses of a node, and what follows from them."""

    def __init__(self, connections: Connections, addresses: Addresses) -> None:
        self._connections = connections
        self._addresses = addresses
        self._changed = asyncio.Event()
        self._is_watched = False

    @property
    def pauses(self) -> Pauses:
        """The pauses that hold now."""
        return self._connections.table.pauses

    @property
    def _clock(self) -> Clock:
        return self._connections.clock

    def load(self, pauses: Iterable[Pause]) -> None:
        """Take in what was kept over a restart."""
        self.pauses.load(pauses)
        self._watch()

    def check(self, peers: Iterable[IdentityId]) -> None:
        """Raise LocalError where there is a pause with one of `peers`."""
        if any(self.pauses.of(peer) is not None for peer in peers):
            raise LocalError("paused: to end that, type: echonode resume")

    @contextmanager
    def lifted(self, peers: Sequence[IdentityId]) -> Iterator[None]:
        """Ignore the pauses with `peers` inside the block. Those that then still hold end what it opened."""
        for peer in peers:
            self.pauses.lift(peer)
        try:
            yield
        finally:
            for peer in peers:
                self.pauses.lower(peer)
                if self.pauses.of(peer) is not None:
                    self._connections.links.end(peer)
                    self._connections.registry.drop(peer)

    def _watch(self) -> None:
        """End pauses when their time is over, as long as there are any."""
        self._changed.set()
        if not self._is_watched and self.pauses.next_end_ms() is not None:
            self._is_watched = True
            self._connections.spawn(self._end_in_time())

    def pause(self, text: str | None, for_s: float | None) -> Pause:
        """Pause with the peer that `text` names, or with all, for a time or until `resume`. Raises LocalError."""
        peer = None if text is None else self._addresses.resolve_peer(text)
        until_ms = None if for_s is None else self._clock.now_ms() + round(for_s * 1000)
        pause = Pause(peer, until_ms)
        self.pauses.begin(pause)
        connections = self._connections
        connections.links.end(peer)
        connections.registry.drop(peer)
        connections.bus.publish(NodePaused(peer=peer or b"", until_ms=until_ms or 0))
        self._watch()
        connections.wake.set()
        return pause

    def resume(self, text: str | None) -> None:
        """End the pause with the peer that `text` names; None: every pause. Raises LocalError where there is none."""
        if text is None:
            ended = [pause.peer for pause in self.pauses]
        else:
            peer = self._addresses.resolve_peer(text)
            if self.pauses.of(peer) is not None and not any(pause.peer == peer for pause in self.pauses):
                raise LocalError("this node is paused with every peer: resume it without naming one")
            ended = [pause.peer for pause in self.pauses if pause.peer == peer]
        if not ended:
            raise LocalError("nothing is paused" if text is None else f"there is no pause with {escape(text)}")
        for each in ended:
            self._end(each)

    def _end(self, peer: IdentityId | None) -> None:
        self.pauses.end(peer)
        connections = self._connections
        connections.bus.publish(NodeResumed(peer=peer or b""))
        connections.compare_with_all()
        self._changed.set()

    async def _end_in_time(self) -> None:
        """End each pause when its time is over, until none is left that ends by itself."""
        while (end_ms := self.pauses.next_end_ms()) is not None:
            self._changed.clear()
            try:
                async with asyncio.timeout(max(0.0, (end_ms - self._clock.now_ms()) / 1000)):
                    await self._changed.wait()
            except TimeoutError:
                pass
            for pause in self.pauses.over(self._clock.now_ms()):
                self._end(pause.peer)
        self._is_watched = False
