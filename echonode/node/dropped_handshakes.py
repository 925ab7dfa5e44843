"""DroppedHandshakes: counts the connections that were closed before their handshake, and reports them together.

The first is reported at once. Those that follow are reported every HANDSHAKES_REPORT_S, until none followed.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from echonode.limits import HANDSHAKES_REPORT_S
from echonode.node.event_bus import EventBus
from echonode.node.events import HandshakesDropped


class DroppedHandshakes:
    """`spawn` runs a task of the node."""

    def __init__(self, bus: EventBus, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self.total = 0  # since the start
        self._bus = bus
        self._spawn = spawn
        self._is_reporting = False

    def count(self, host: str) -> None:
        """Count a handshake of a peer at `host` that was dropped."""
        self.total += 1
        if not self._is_reporting:
            self._is_reporting = True
            self._bus.publish(HandshakesDropped(address=host, count=1))
            self._spawn(self._report(host))

    async def _report(self, host: str) -> None:
        reported = self.total
        while True:
            await asyncio.sleep(HANDSHAKES_REPORT_S)
            count, reported = self.total - reported, self.total
            if not count:
                self._is_reporting = False
                return
            self._bus.publish(HandshakesDropped(address=host, count=count))
