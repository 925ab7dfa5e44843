"""Logs: a reading of the event stream, one JSON object a line. The only door to structlog.

    {"time": "2025-03-01T09:30:00.123Z", "level": "info", "event": "sync.completed", "session": .., <more fields>}

`event` is the stable dotted name of node/events.py, ids are base32, and text that a peer may have chosen is escaped. A
terminal shows what a person wants of it (manual/log_lines.py), or everything where the level is `debug`. Under journald
each line is an entry with fields (journal.py), or, where the journal takes none, begins with its priority (`<4>{..}`,
sd-daemon(3)), which the journal removes again. Lines of libraries
(asyncio, zeroconf, uvicorn) join the stream as `library.message`, from warnings up. The RunLog keeps every line in
memory, also those below the level (node/run_log.py).

More than LOG_LINES_PER_S lines a second of one event about one peer are counted, and a `log.folded` line has the count.
A line longer than LOG_LINE_BYTES_MAX loses its longest fields, which `cut` names. When the reader of the log stops,
lines are dropped, and a `log.dropped` line has their count (log_queue.py).
"""

import asyncio
import logging
import os
import sys
import traceback
from collections.abc import Mapping
from types import ModuleType
from typing import Any, BinaryIO, Final, Protocol, cast

import msgspec

from echonode.clock import Clock
from echonode.errors import ConfigError, LocalError
from echonode.host.journal import JournalEntries
from echonode.host.log_queue import LogQueue, stderr_queue
from echonode.limits import CONNECTIONS_MAX, LOG_LINE_BYTES_MAX, LOG_LINES_PER_S, PEER_TEXT_CHARS_MAX
from echonode.manual.log_lines import LineForm
from echonode.node.events import Event
from echonode.node.run_log import LEVELS, RunLog, fields_of, json_form, peer_in, time_text
from echonode.text import escape

# structlog.dev imports rich, if it can, for tracebacks that no log here draws: 4.5 MiB and 70 ms of each start.
_rich = sys.modules.get("rich")
sys.modules["rich"] = cast(ModuleType, None)
try:
    import structlog
finally:
    if _rich is None:
        del sys.modules["rich"]
    else:
        sys.modules["rich"] = _rich

FORMATS: Final = ("auto", "json", "console")

_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3}  # syslog(3)
_PREFIX_BYTES: Final = len("<6>")
_TEXT_CHARS_MAX: Final = 1024  # for text of this process: a path is longer than any text of a peer
_LIST_ITEMS_MAX: Final = 64
_FOLD_INTERVAL_S: Final = 1.0

Fields = dict[str, Any]


class LineFile(Protocol):
    """The parts of a binary file that logs need."""

    def write(self, line: bytes, /) -> int:
        """Write a whole line."""
        ...

    def flush(self) -> None:
        """Write what is buffered."""
        ...

    def isatty(self) -> bool:
        """Return True for a terminal."""
        ...


class Logs:
    """An Observer that writes lines to `file`. Writing never raises: a node goes on without its log.

    `run_log` keeps the lines and says which levels are written. `journal` takes entries, if `file` leads to it too.
    """

    def __init__(
        self,
        file: LineFile,
        clock: Clock,
        *,
        level: str = "info",
        console: bool = False,
        journal: JournalEntries | None = None,
    ) -> None:
        self._file = file  # keeps the file open: BytesLogger holds it weakly
        self._out = structlog.BytesLogger(cast(BinaryIO, file))
        self._clock = clock
        self._form = LineForm(is_coloured=_is_coloured(file)) if console else None
        self._journal = journal
        self._encoder = msgspec.json.Encoder()
        self._folder = _LineFolder()
        self.is_silenced = False  # a live table has the terminal
        try:
            self.run_log = RunLog(clock, level)
        except LocalError as error:
            raise ConfigError(str(error)) from None

    @property
    def level(self) -> str:
        """The lowest level that is written."""
        return self.run_log.level

    @level.setter
    def level(self, name: str) -> None:
        try:
            self.run_log.configure(name)
        except LocalError as error:
            raise ConfigError(str(error)) from None

    def __call__(self, event: Event) -> None:
        """Keep one node event, and write it if its level is written."""
        fields = fields_of(event)
        self.run_log.note(event.name, event.level, fields)
        if self.run_log.admits(event.level, peer_in(fields)):
            self._fold_or_write(event.name, event.level, fields, PEER_TEXT_CHARS_MAX)

    def log(self, name: str, level: str, /, **fields: object) -> None:
        """Write a line about the process itself, which is no event of the node."""
        shown = {key: json_form(value, _TEXT_CHARS_MAX) for key, value in fields.items()}
        self.run_log.note(name, level, shown)
        if self.run_log.admits(level):
            self._fold_or_write(name, level, shown, _TEXT_CHARS_MAX)

    def flush(self) -> None:
        """Write how many lines were folded up to now. Runs by itself a second after the first of them."""
        for (name, about), (count, level) in self._folder.take().items():
            self._write("log.folded", level, {"folded": name, "about": about, "count": count})

    def close(self) -> None:
        """Write what was folded, and wait for a moment until the log's reader has taken the last lines."""
        self.flush()
        if isinstance(self._file, LogQueue):
            self._file.close()

    def gap_line(self, count: int) -> bytes:
        """Return the line that stands in the place of `count` dropped ones."""
        line = self._render("log.dropped", "warning", {"count": count}) or b""
        return (line if self._journal is None else self._prioritized(line, "warning")) + b"\n"

    def route_libraries(self) -> None:
        """Route the standard library's logging, and Python's warnings, into this stream."""
        root = logging.getLogger()
        for handler in root.handlers[:]:
            root.removeHandler(handler)
        root.addHandler(_LibraryHandler(self))
        root.setLevel(logging.WARNING)
        logging.captureWarnings(True)

    def _fold_or_write(self, name: str, level: str, fields: Fields, chars_max: int) -> None:
        json_fields = {key: json_form(value, chars_max) for key, value in fields.items()}
        # Without the port: a flood comes from many ports of one host.
        host = str(json_fields.get("address") or "").rpartition(":")[0]
        about = str(json_fields.get("peer") or host or json_fields.get("logger") or "")
        if self._folder.window_ends(self._clock.monotonic_s()):
            self.flush()
        if self._folder.admits(name, about, level):
            self._write(name, level, json_fields)
        elif self._folder.is_first:
            try:
                asyncio.get_running_loop().call_later(_FOLD_INTERVAL_S, self.flush)
            except RuntimeError:
                pass  # without a loop the next line flushes the count

    def _write(self, name: str, level: str, fields: Fields) -> None:
        try:
            line = self._render(name, level, fields)
            if line is None:
                return
            if self._journal is None:
                self._out.msg(line)
            elif not self._journal.send(line, _PRIORITIES[level], {"event": name, **fields}):
                self._out.msg(self._prioritized(line, level))
        except (OSError, ValueError):
            pass  # a closed pipe or a full disk: there is no other place to report it

    def _render(self, name: str, level: str, fields: Fields) -> bytes | None:
        """Return the line; None for one that is not shown on this terminal."""
        line = {"time": time_text(self._clock.now_ms()), "level": level, "event": name, **fields}
        if self._form is not None:
            text = self._shown(self._form, line)
            return None if text is None else text.encode("utf-8", "backslashreplace")
        return self._encode_within_limit(line)

    @staticmethod
    def _prioritized(line: bytes, level: str) -> bytes:
        return b"<%d>%b" % (_PRIORITIES[level], line)

    def _shown(self, form: LineForm, line: Fields) -> str | None:
        form.width = _width(self._file)
        is_debug = self.run_log.level == "debug" or line["level"] == "debug"  # a person looks closer
        text = form.full(line) if is_debug else form.calm(line)
        return None if self.is_silenced else text

    def _encode_within_limit(self, line: Fields) -> bytes:
        encoded = self._encoder.encode(line)
        cut: list[str] = []
        while len(encoded) > LOG_LINE_BYTES_MAX - _PREFIX_BYTES - 1:
            longest = max(list(line)[3:], key=lambda key: len(self._encoder.encode(line[key])) * (key != "cut"))
            del line[longest]
            line["cut"] = cut = [*cut, longest][:_LIST_ITEMS_MAX]
            encoded = self._encoder.encode(line)
        return encoded


class _LineFolder:
    """Counts lines by (event name, the peer or host that the line is about), within windows of a second."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._levels: dict[tuple[str, str], str] = {}
        self._started_s = float("-inf")
        self.is_first = False  # True when the line folded last was the first one in this window

    def window_ends(self, now_s: float) -> bool:
        """Return True when a window has ended. The next one has begun then, once `take` is called."""
        if now_s - self._started_s < _FOLD_INTERVAL_S:
            return False
        self._started_s = now_s
        return True

    def admits(self, name: str, about: str, level: str) -> bool:
        """Return True when this line is to be written, False when it is only counted."""
        key = (name, about)
        if key not in self._counts and len(self._counts) >= CONNECTIONS_MAX:
            key = (name, "")  # more than there can be peers: a flood from made-up addresses
        self._counts[key] = self._counts.get(key, 0) + 1
        if self._counts[key] <= LOG_LINES_PER_S:
            return True
        self.is_first = not self._levels
        self._levels[key] = level
        return False

    def take(self) -> dict[tuple[str, str], tuple[int, str]]:
        """Return the counts of lines not written, each with its level, and start counting anew."""
        folded = {key: (self._counts[key] - LOG_LINES_PER_S, level) for key, level in self._levels.items()}
        self._counts, self._levels = {}, {}
        return folded


class _LibraryHandler(logging.Handler):
    def __init__(self, logs: Logs) -> None:
        super().__init__()
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        fields: Fields = {"logger": record.name, "message": record.getMessage()}
        if record.exc_info and record.exc_info[0] is not None:
            fields["traceback"] = "".join(traceback.format_exception(*record.exc_info)).splitlines()[-_LIST_ITEMS_MAX:]
        level = next((name for name, number in reversed(LEVELS.items()) if record.levelno >= number), "debug")
        self._logs.log("library.message", level, **fields)


def open_logs(level: str, format_name: str, clock: Clock, environ: Mapping[str, str]) -> Logs:
    """Return logs on stderr in the given format; "auto" chooses by where stderr goes. Raises ConfigError."""
    if format_name not in FORMATS:
        raise ConfigError(f"'{escape(format_name)}' is no log format: one of {', '.join(FORMATS)} is expected")
    file = stderr_queue()
    console = format_name == "console" or (format_name == "auto" and file.isatty())
    is_in_journal = not console and is_journal(file.fileno(), environ)
    journal = JournalEntries() if is_in_journal else None
    logs = Logs(file, clock, level=level, console=console, journal=journal)
    file.gap_line = logs.gap_line
    return logs


def is_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Return True when `descriptor` is connected to journald (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _is_coloured(file: LineFile) -> bool:
    """Return True for a terminal that shows colours, unless NO_COLOR forbids them."""
    return file.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _width(file: LineFile) -> int | None:
    """Return the columns of the terminal behind `file`, None where there is none."""
    if not isinstance(file, LogQueue) or not file.isatty():
        return None
    return os.get_terminal_size(file.fileno()).columns or None
