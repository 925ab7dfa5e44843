"""EventBus: the one way in which the parts of a node hear of each other.

    publish(event) ──> the observer: the log, the simulator's trace
                   ├─> listeners, of every event: the ring of the API
                   ├─> streams: readers at their own pace
                   └─> handlers, by the type of the event: the parts of the node

All of them have the event before `publish` returns, in this order. No node waits for a slow reader: its stream ends
when too many events wait, or too many bytes of them.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from echonode.limits import EVENTS_WAITING_BYTES_MAX, EVENTS_WAITING_MAX
from echonode.node.events import Event, Inside, Observer, RecordsApplied

E = TypeVar("E")
T = TypeVar("T")

_COPIES: Final = 3  # of a record's bytes in memory: as received, as signed, and as fields
_RECORD_BYTES: Final = 800  # about what a record takes beside them


class EventStream:
    """The events that wait for one reader.

    It is full when EVENTS_WAITING_MAX events wait, or the records of those that wait take more than
    EVENTS_WAITING_BYTES_MAX bytes of memory. One event may always wait, whatever its size.
    """

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[Event, int] | None] = asyncio.Queue()
        self.waiting_bytes = 0

    def qsize(self) -> int:
        """Return the number of events that wait."""
        return self._queue.qsize()

    def add(self, event: Event) -> bool:
        """Let `event` wait for the reader. Return False when the stream is full, and has ended for that reason."""
        size, count = bytes_of(event), self._queue.qsize()
        if count and (count >= EVENTS_WAITING_MAX or self.waiting_bytes + size > EVENTS_WAITING_BYTES_MAX):
            self.end()
            return False
        self.waiting_bytes += size
        self._queue.put_nowait((event, size))
        return True

    def end(self) -> None:
        """Let the reader see the end behind all that waits."""
        self._queue.put_nowait(None)

    async def get(self) -> Event | None:
        """Wait for the next event and return it; None at the end."""
        return self._taken(await self._queue.get())

    def get_nowait(self) -> Event | None:
        """Return the next event; None at the end. Raises asyncio.QueueEmpty."""
        return self._taken(self._queue.get_nowait())

    def _taken(self, item: tuple[Event, int] | None) -> Event | None:
        if item is None:
            return None
        self.waiting_bytes -= item[1]
        return item[0]


class EventBus:
    """Passes every event on, to `observe` first."""

    def __init__(self, observe: Observer) -> None:
        self._observe = observe
        self._listeners: list[Callable[[Event], None]] = []
        self._readers: list[Callable[[], bool]] = []
        self._handlers: dict[type, list[Callable[[Any], None]]] = defaultdict(list)
        self._streams: set[EventStream] = set()

    @property
    def streams(self) -> int:
        """The number of streams that are open."""
        return len(self._streams)

    @property
    def is_read(self) -> bool:
        """True while somebody wants to be told of every record: a stream is open, or a listener has readers."""
        return self.streams > 0 or any(has_readers() for has_readers in self._readers)

    def on(self, kind: type[E], handler: Callable[[E], None]) -> None:
        """Call `handler` with every event of that type from now on, behind the handlers that are there."""
        self._handlers[kind].append(handler)

    def hear(self, listener: Callable[[Event], None], has_readers: Callable[[], bool] = lambda: False) -> None:
        """Call `listener` with every event from now on, as the observer. `has_readers` returns True while it passes
        them on to somebody."""
        self._listeners.append(listener)
        self._readers.append(has_readers)

    def publish(self, event: Event | Inside) -> None:
        """Pass `event` to the observer, to listeners, streams and the handlers of its type; one of `Inside` to the
        handlers alone."""
        if not isinstance(event, Inside):
            self._observe(event)
            for listener in self._listeners:
                listener(event)
            for stream in list(self._streams):
                if not stream.add(event):
                    self._streams.discard(stream)
        for handler in self._handlers[type(event)]:
            handler(event)

    @contextmanager
    def stream(self) -> Iterator[EventStream]:
        """Queue every event from now on; then None, when the reader lagged too far behind or the node stopped."""
        stream = EventStream()
        self._streams.add(stream)
        try:
            yield stream
        finally:
            self._streams.discard(stream)

    def end(self) -> None:
        """End all streams: no more events will come."""
        for stream in self._streams:
            stream.end()
        self._streams.clear()


def bytes_of(event: Event) -> int:
    """Return what the records in `event` take in memory; other events are small, and their number bounds them."""
    if not isinstance(event, RecordsApplied):
        return 0
    return sum(_RECORD_BYTES + _COPIES * record.size for record in event.records)
