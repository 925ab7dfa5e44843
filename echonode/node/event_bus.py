"""One event stream, many readers: the log, the API's subscribers, metrics. A slow reader loses its place, not ours."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from echonode.node.events import Event, Observer

_WAITING_MAX: Final = 4096  # events a reader may lag behind


class EventBus:
    """An Observer that passes every event on."""

    def __init__(self, observe: Observer) -> None:
        self._observe = observe
        self._readers: set[asyncio.Queue[Event | None]] = set()

    def __call__(self, event: Event) -> None:
        self._observe(event)
        for queue in list(self._readers):
            if queue.qsize() >= _WAITING_MAX:
                self._readers.discard(queue)
                queue.put_nowait(None)
            else:
                queue.put_nowait(event)

    @contextmanager
    def subscribe(self) -> "Iterator[asyncio.Queue[Event | None]]":
        """Every event from now on. None ends it: the reader lagged too far behind, or the node stopped."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._readers.add(queue)
        try:
            yield queue
        finally:
            self._readers.discard(queue)

    def end(self) -> None:
        """No more events will come."""
        for queue in self._readers:
            queue.put_nowait(None)
        self._readers.clear()
