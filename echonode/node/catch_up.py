"""CatchUp: a node that was restored from a backup takes back what it wrote since, before it writes anything.

    restored ──> writes wait ──a peer is equal──────────────────> writes go on
                             ──no peer was equal in time────────> writes go on, and the log says so

A write before that would stand beside the node's own later versions as a conflict: the restored node does not know
them. A node that knows no peer waits for less long, since perhaps there is none.
"""

import asyncio
from typing import Final

from echonode.limits import RESTORED_WAIT_S
from echonode.node.event_bus import EventBus
from echonode.node.events import CaughtUp, LinkEqual, SyncCompleted
from echonode.node.peer_table import PeerTable

_SETTLE_S: Final = 0.05  # from an event to what the peer table makes of it


class CatchUp:
    """Holds back the writes of a restored node from now on, until `run` ends. CaughtUp is published then."""

    def __init__(self, bus: EventBus, table: PeerTable, may_write: asyncio.Event) -> None:
        self._table = table
        self._bus = bus
        self._may_write = may_write
        self._changed = asyncio.Event()
        may_write.clear()
        bus.on(SyncCompleted, lambda _: self._changed.set())
        bus.on(LinkEqual, lambda _: self._changed.set())

    async def run(self) -> None:
        """Wait until a peer is equal, or for RESTORED_WAIT_S. Then let writes go on."""
        alone_s, known_s = RESTORED_WAIT_S
        try:
            async with asyncio.timeout(known_s if self._table.peers else alone_s):
                while not self._is_equal_with_one():
                    await self._changed.wait()
                    self._changed.clear()
                    await asyncio.sleep(_SETTLE_S)
        except TimeoutError:
            pass
        finally:
            self._may_write.set()
        self._bus.publish(CaughtUp(peers=sum(entry.in_sync is True for entry in self._table.peers.values())))

    def _is_equal_with_one(self) -> bool:
        return any(entry.in_sync is True for entry in self._table.peers.values())
