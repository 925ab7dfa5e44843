"""SyncQueue: the places of syncs on demand. DIALS_MAX run at once, and one with each peer.

    a place is free:  the highest priority goes first, among equals the one that waited longest
    its peer is busy: it waits, and lets others pass

What the scheduler decides by itself is not in this queue: it has places of its own (node/scheduler.py).
"""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from echonode.limits import DIALS_MAX


@dataclass(slots=True, order=True)
class _Waiting:
    rank: int  # the lower, the sooner
    number: int
    key: Hashable = field(compare=False)
    turn: "asyncio.Future[None]" = field(compare=False)


class SyncQueue:
    """The places, and the syncs that wait for one."""

    def __init__(self) -> None:
        self._busy: set[Hashable] = set()
        self._waiting: list[_Waiting] = []
        self._arrivals = 0

    @property
    def waiting(self) -> int:
        """The number of syncs that wait."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """The number of syncs that have a place."""
        return len(self._busy)

    @asynccontextmanager
    async def place(self, key: Hashable, priority: int = 0) -> AsyncIterator[None]:
        """Wait for a place for a sync with the peer `key`, and hold it for a `with` block."""
        self._arrivals += 1
        mine = _Waiting(-priority, self._arrivals, key, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        self._admit()
        try:
            await mine.turn
        except BaseException:
            if mine.turn.done() and not mine.turn.cancelled():
                self._leave(key)
            else:
                self._waiting.remove(mine)
            raise
        try:
            yield
        finally:
            self._leave(key)

    def _leave(self, key: Hashable) -> None:
        self._busy.discard(key)
        self._admit()

    def _admit(self) -> None:
        for each in sorted(self._waiting):
            if len(self._busy) >= DIALS_MAX:
                return
            if each.key not in self._busy and not each.turn.done():
                self._busy.add(each.key)
                self._waiting.remove(each)
                each.turn.set_result(None)
