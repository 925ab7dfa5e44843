"""EventRing: the latest events of a node, each with an id, for readers that come, go and come again.

    publish ──> add ──> ring, bounded in bytes and number; the oldest go
                          └─ readers: each is a number, the place up to which it has read

A reader that is slow holds nothing: what it did not read in time is gone, and it is told how many events that were. An
event is written as JSON once, when the first reader comes to it. An id is NUMBER-RUN; RUN is new after a restart.
Versions of denied nodes are in no event that tells of records.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from typing import Final

from echonode.api.json_forms import encode, event_form
from echonode.api.shutdown import Stop, Stopping
from echonode.api.streams import KEEP_ALIVE_S
from echonode.limits import EVENTS_WAITING_BYTES_MAX, EVENTS_WAITING_MAX
from echonode.model.identity import IdentityId
from echonode.node.event_bus import bytes_of
from echonode.node.events import Event, NodeStopped, RecordsApplied
from echonode.node.node import Node

_EVENT_BYTES: Final = 512  # about what an event without records takes
_STOPPING: Final = "stopping"
_SLOW: Final = "slow reader"
_RESTARTED: Final = "restarted"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """The events that a reader wants. `kinds`: globs on names; an empty part takes everything."""

    kinds: tuple[str, ...] = ()
    context: str | None = None
    peer: IdentityId | None = None

    def takes(self, event: Event) -> bool:
        """Return True if `event` is wanted. Events about no context or peer are not about the one that is asked for."""
        if self.kinds and not any(fnmatchcase(event.name, kind) for kind in self.kinds):
            return False
        if self.context is not None and getattr(event, "context", None) != self.context:
            return False
        return self.peer is None or self.peer in (getattr(event, "peer", None), getattr(event, "source", None))


@dataclass(slots=True, eq=False)
class _Entry:
    event: Event
    size: int
    encoded: bytes | None = None


class EventRing:
    """The latest events of `node`, up to EVENTS_WAITING_MAX and EVENTS_WAITING_BYTES_MAX."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._run = secrets.token_hex(4)
        self._entries: deque[_Entry] = deque()
        self._first = 0  # the number of the oldest entry
        self._waiting: set[asyncio.Future[None]] = set()
        self._was_read = False  # from then on every record is told: a reader that comes again misses none
        self.size_bytes = 0
        node.bus.hear(self._add, lambda: self._was_read)

    @property
    def readers(self) -> int:
        """The number of readers that wait for the next event."""
        return len(self._waiting)

    def _add(self, event: Event) -> None:
        if not self._was_read:
            self._first += 1  # nobody has an id to ask for it by
            return
        if isinstance(event, RecordsApplied) and event.records:
            event = replace(event, records=tuple(self._node.records.denials.shown(event.records)))
            if not event.records:
                return  # all of them are hidden from readers
        size = _EVENT_BYTES + bytes_of(event)
        self._entries.append(_Entry(event, size))
        self.size_bytes += size
        while len(self._entries) > EVENTS_WAITING_MAX or (
            self.size_bytes > EVENTS_WAITING_BYTES_MAX and len(self._entries) > 1
        ):
            self.size_bytes -= self._entries.popleft().size
            self._first += 1
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def read(self, wanted: EventFilter, last_id: str | None, stop: Stop) -> AsyncGenerator[bytes]:
        """Yield server-sent events (WHATWG HTML §9.2): those behind `last_id`, without one those from now on.

        A comment says that listening has begun; another one every 15 s says that it goes on. `gap` says that events
        were lost: the reader should read the state anew. The last event is `end` with the data {"reason": "stopping"}.
        """
        self._was_read = True
        place = self._end if last_id is None else self._place_of(last_id)
        yield b": listening\n\n"
        if place is None:
            place = self._end
            yield _sse(None, "gap", {"reason": _RESTARTED, "lost": None})
        while True:
            if place < self._first:
                yield _sse(None, "gap", {"reason": _SLOW, "lost": self._first - place})
                place = self._first
            if place < self._end:
                told, is_last = self._told(place, wanted)
                place += 1
                if told is not None:
                    yield told
                if is_last:
                    yield _sse(None, "end", {"reason": _STOPPING})
                    return
                continue
            try:
                with stop.ends_waiting():
                    async with asyncio.timeout(KEEP_ALIVE_S):
                        await self._wait(place)
            except TimeoutError:
                yield b": still listening\n\n"
            except Stopping:
                break
        yield _sse(None, "end", {"reason": _STOPPING})

    def _told(self, number: int, wanted: EventFilter) -> tuple[bytes | None, bool]:
        """Return the event `number` as JSON, None for one that is not wanted, and True for the last of all.

        A reader that stands in the midst of a `yield` holds no event by that."""
        entry = self._entries[number - self._first]
        told = self._encoded(number, entry) if wanted.takes(entry.event) else None
        return told, isinstance(entry.event, NodeStopped)

    @property
    def _end(self) -> int:
        """The number that the next event gets."""
        return self._first + len(self._entries)

    def _place_of(self, last_id: str) -> int | None:
        """Return the place behind the event with that id; None for an id of an earlier run, or none of ours."""
        number, _, run = last_id.partition("-")
        if run != self._run or not (number.isascii() and number.isdigit() and len(number) < 20):
            return None
        return min(int(number) + 1, self._end)

    async def _wait(self, place: int) -> None:
        while self._end <= place:
            future = asyncio.get_running_loop().create_future()
            self._waiting.add(future)
            try:
                await future
            finally:
                self._waiting.discard(future)

    def _encoded(self, number: int, entry: _Entry) -> bytes:
        if entry.encoded is None:
            form = event_form(entry.event, self._node.records.label, cache(self._node.addresses.author_text))
            entry.encoded = _sse(f"{number}-{self._run}", entry.event.name, form)
        return entry.encoded


def kinds_of(text: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the globs in `text`, separated by commas. Raises ValueError with the one that fits none of `names`."""
    kinds = tuple(text.split(",")) if text else ()
    for kind in kinds:
        if not any(fnmatchcase(name, kind) for name in names):
            raise ValueError(kind)
    return kinds


def _sse(event_id: str | None, name: str, data: object) -> bytes:
    place = "" if event_id is None else f"id: {event_id}\n"
    return f"{place}event: {name}\ndata: ".encode() + encode(data) + b"\n\n"
