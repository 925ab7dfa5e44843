"""EventBus: the one way in which the parts of a node hear of each other.

    publish(event) ──> the observer: the log, the simulator's trace
                   ├─> listeners, of every event: the ring of the API
                   └─> handlers, by the type of the event: the parts of the node

All of them have the event before `publish` returns, in this order. No node waits for a slow reader: the ring keeps the
latest events for those at their own pace.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final, TypeVar

from echonode.node.events import Event, Inside, Observer, RecordsApplied

E = TypeVar("E")

_COPIES: Final = 3  # of a record's bytes in memory: as received, as signed, and as fields
_RECORD_BYTES: Final = 800  # about what a record takes beside them


class EventBus:
    """Passes every event on, to `observe` first."""

    def __init__(self, observe: Observer) -> None:
        self._observe = observe
        self._listeners: list[Callable[[Event], None]] = []
        self._readers: list[Callable[[], bool]] = []
        self._handlers: dict[type, list[Callable[[Any], None]]] = defaultdict(list)

    @property
    def is_read(self) -> bool:
        """True while somebody wants to be told of every record: a listener has readers."""
        return any(has_readers() for has_readers in self._readers)

    def on(self, kind: type[E], handler: Callable[[E], None]) -> None:
        """Call `handler` with every event of that type from now on, behind the handlers that are there."""
        self._handlers[kind].append(handler)

    def hear(self, listener: Callable[[Event], None], has_readers: Callable[[], bool] = lambda: False) -> None:
        """Call `listener` with every event from now on, as the observer. `has_readers` returns True while it passes
        them on to somebody."""
        self._listeners.append(listener)
        self._readers.append(has_readers)

    def publish(self, event: Event | Inside) -> None:
        """Pass `event` to the observer, to listeners and the handlers of its type; one of `Inside` to the handlers
        alone."""
        if not isinstance(event, Inside):
            self._observe(event)
            for listener in self._listeners:
                listener(event)
        for handler in self._handlers[type(event)]:
            handler(event)


def bytes_of(event: Event) -> int:
    """Return what the records in `event` take in memory; other events are small, and their number bounds them."""
    if not isinstance(event, RecordsApplied):
        return 0
    return sum(_RECORD_BYTES + _COPIES * record.size for record in event.records)
