"""EventBus: the one way in which the parts of a node hear of each other.

    publish(event) ──> the observer: the log, the simulator's trace
                   ├─> streams: readers at their own pace, such as the API's clients
                   └─> handlers, by the type of the event: the parts of the node

All of them have the event before `publish` returns, in this order. No node waits for a slow reader: its stream ends.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from echonode.node.events import Event, LinkEqual, Observer

E = TypeVar("E")

WAITING_MAX: Final = 4096  # events that a stream holds for its reader


class EventBus:
    """Passes every event on, to `observe` first."""

    def __init__(self, observe: Observer) -> None:
        self._observe = observe
        self._handlers: dict[type, list[Callable[[Any], None]]] = defaultdict(list)
        self._streams: set[asyncio.Queue[Event | None]] = set()

    @property
    def streams(self) -> int:
        """The number of streams that are open."""
        return len(self._streams)

    def on(self, kind: type[E], handler: Callable[[E], None]) -> None:
        """Call `handler` with every event of that type from now on, behind the handlers that are there."""
        self._handlers[kind].append(handler)

    def publish(self, event: Event | LinkEqual) -> None:
        """Pass `event` to the observer, to streams and to the handlers of its type; a LinkEqual to handlers alone."""
        if not isinstance(event, LinkEqual):
            self._observe(event)
            for queue in list(self._streams):
                if queue.qsize() >= WAITING_MAX:
                    self._streams.discard(queue)
                    queue.put_nowait(None)
                else:
                    queue.put_nowait(event)
        for handler in self._handlers[type(event)]:
            handler(event)

    @contextmanager
    def stream(self) -> "Iterator[asyncio.Queue[Event | None]]":
        """Queue every event from now on; then None, when the reader lagged too far behind or the node stopped."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._streams.add(queue)
        try:
            yield queue
        finally:
            self._streams.discard(queue)

    def end(self) -> None:
        """End all streams: no more events will come."""
        for queue in self._streams:
            queue.put_nowait(None)
        self._streams.clear()
