"""RunLog: the lines of this run that are kept in memory, and the levels that decide which of them are written.

    event, or a line of the process ──> note ──> two rings: the usual levels, and debug
                                    └─> admits ──> host/logs.py writes the line, or does not

The rings hold more than the log that is stored: lines of every level, before folding. Debug lines have a ring of their
own, so that a busy hour does not push out what matters. Lines are kept as values, and get their JSON form when they are
read.
"""

import asyncio
import dataclasses
import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import merge
from typing import Any, Final

from echonode.clock import Clock
from echonode.errors import LocalError
from echonode.limits import LOG_PEERS_MAX, LOG_RING_LINES, PEER_TEXT_CHARS_MAX
from echonode.node.events import Event, RecordsApplied
from echonode.text import escape, to_base32

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
REDACTED: Final = "(redacted)"

_LIST_ITEMS_MAX: Final = 64
_NEVER: Final = float("inf")
# What a library may put into a message: a bearer token, or a token in a query.
_SECRETS: Final = re.compile(r"(?i)(\bbearer\s+|\b(?:token|secret|passphrase|password)=)[^\s&\"',;]+")

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line: `number` counts the lines of this run, `ms` is the wall clock's time."""

    number: int
    ms: int
    name: str
    level: str
    fields: Mapping[str, Any]

    def as_json(self) -> Fields:
        """Return the line as the log has it, with ids in base32 and text of peers escaped."""
        return {
            "time": time_text(self.ms),
            "level": self.level,
            "event": self.name,
            **{key: json_form(value, PEER_TEXT_CHARS_MAX) for key, value in self.fields.items()},
        }


@dataclass(slots=True)
class LevelOverride:
    """A level that counts until `until_s` of the monotonic clock."""

    level: str
    until_s: float = _NEVER


class RunLog:
    """The lines and the levels of one run. `note` may be called from any thread."""

    def __init__(self, clock: Clock, level: str = "info") -> None:
        self._clock = clock
        self._usual: deque[LogLine] = deque(maxlen=LOG_RING_LINES)
        self._debug: deque[LogLine] = deque(maxlen=LOG_RING_LINES)
        self._count = 0
        self._waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._configured = _checked(level)
        self._override: LevelOverride | None = None
        self._peers: dict[bytes, LevelOverride] = {}

    # -- levels ------------------------------------------------------------------------------------------------------

    @property
    def level(self) -> str:
        """The lowest level that is written, of lines about any peer."""
        override = self._override
        if override is not None and self._clock.monotonic_s() >= override.until_s:
            override = self._override = None
        return self._configured if override is None else override.level

    def configure(self, level: str) -> None:
        """Take the level that the configuration names. Raises LocalError for a word that is no level."""
        self._configured = _checked(level)

    def set_level(self, level: str, *, for_s: float | None = None, peer: bytes | None = None) -> None:
        """Write lines from `level` on, for `for_s` seconds, of one `peer` or of all. Raises LocalError."""
        override = LevelOverride(_checked(level), _NEVER if for_s is None else self._clock.monotonic_s() + for_s)
        if peer is None:
            self._override = override
            return
        self._forget_past()
        if peer not in self._peers and len(self._peers) >= LOG_PEERS_MAX:
            raise LocalError(f"at most {LOG_PEERS_MAX} peers have a level of their own")
        self._peers[peer] = override

    def reset(self, peer: bytes | None = None) -> None:
        """Go back to the configured level, for one `peer` or for all."""
        if peer is None:
            self._override = None
            self._peers.clear()
        else:
            self._peers.pop(peer, None)

    def left_s(self) -> float | None:
        """Return for how long `level` counts; None for as long as the node runs."""
        return None if self.level == self._configured or self._override is None else self._left(self._override)

    def peer_levels(self) -> dict[bytes, tuple[str, float | None]]:
        """Return the level of each peer that has one of its own, and for how long; None as in `left_s`."""
        self._forget_past()
        return {peer: (override.level, self._left(override)) for peer, override in self._peers.items()}

    def admits(self, level: str, peer: object = b"") -> bool:
        """Return True if a line of `level` about `peer` is to be written."""
        least = LEVELS[self.level]
        if self._peers and isinstance(peer, bytes) and (override := self._peers.get(peer)) is not None:
            if self._clock.monotonic_s() >= override.until_s:
                self._forget_past()
            else:
                least = LEVELS[override.level]
        return LEVELS[level] >= least

    def _left(self, override: LevelOverride) -> float | None:
        return None if override.until_s == _NEVER else max(0.0, override.until_s - self._clock.monotonic_s())

    def _forget_past(self) -> None:
        now_s = self._clock.monotonic_s()
        self._peers = {peer: override for peer, override in self._peers.items() if override.until_s > now_s}

    # -- lines -------------------------------------------------------------------------------------------------------

    def note(self, name: str, level: str, fields: Mapping[str, Any]) -> None:
        """Keep a line."""
        self._count += 1
        line = LogLine(self._count, self._clock.now_ms(), name, level, fields)
        (self._debug if level == "debug" else self._usual).append(line)
        for event, loop in tuple(self._waiting.items()):
            loop.call_soon_threadsafe(event.set)

    @property
    def first_ms(self) -> int | None:
        """The time of the oldest line of the usual levels that is still here, None when there is none."""
        return self._usual[0].ms if self._usual else None

    @property
    def last(self) -> int:
        """The number of the newest line, 0 when there is none."""
        return self._count

    def lines(self, after: int = 0, *, least: str = "debug") -> Iterator[LogLine]:
        """Yield the lines behind number `after` from the level `least` on, the oldest first."""
        usual = [line for line in tuple(self._usual) if line.number > after and LEVELS[line.level] >= LEVELS[least]]
        debug = [line for line in tuple(self._debug) if line.number > after] if least == "debug" else []
        return merge(usual, debug, key=lambda line: line.number)

    async def wait(self, after: int) -> None:
        """Wait until there is a line behind number `after`."""
        event = asyncio.Event()
        self._waiting[event] = asyncio.get_running_loop()
        try:
            while self._count <= after:
                await event.wait()
                event.clear()
        finally:
            del self._waiting[event]


def fields_of(event: Event) -> Fields:
    """Return the fields of `event` for its line. Records are counted: what they hold stays out of every log."""
    fields = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    if isinstance(event, RecordsApplied):
        fields["records"] = len(event.records)
    return fields


def peer_in(fields: Mapping[str, Any]) -> object:
    """Return the id of the peer that a line is about, b"" for none."""
    return fields.get("peer") or fields.get("source") or b""


def json_form(value: object, chars_max: int) -> object:
    """Return `value` in its JSON form, safe to show: ids in base32, text escaped and cut to `chars_max`."""
    match value:
        case bytes():
            return to_base32(value)
        case str():
            return escape(redacted(value), chars_max)
        case None | bool() | int():
            return value
        case float():
            return round(value, 6)
        case tuple() | list():
            return [json_form(each, chars_max) for each in value[:_LIST_ITEMS_MAX]]
        case _:
            return escape(redacted(str(value)), chars_max)


def redacted(text: str) -> str:
    """Return `text` without tokens and passwords that a library may have put into it."""
    return _SECRETS.sub(lambda found: found[1] + REDACTED, text)


def time_text(ms: int) -> str:
    """Return a time in ms since 1970 as lines have it: RFC 3339, UTC, with milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _checked(level: str) -> str:
    if level not in LEVELS:
        raise LocalError(f"'{escape(level)}' is no log level: one of {', '.join(LEVELS)} is expected")
    return level
