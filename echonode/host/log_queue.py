"""Log lines on their way to a file descriptor: a thread writes them, so that no reader of the log can stop the node.

    any thread     write(line) --> at most LOG_QUEUE_BYTES_MAX wait --> the writing thread --> the descriptor
                        no room: the line is dropped and counted; one line tells the count where the lines are missing

A write to a pipe blocks when its reader stops (a pager, a terminal held by Ctrl-S, a log collector that hangs). It
would block the event loop with it. O_NONBLOCK is no way out: it would change the terminal for other processes too.
"""

import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from echonode.limits import LOG_QUEUE_BYTES_MAX

_CHUNK_BYTES: Final = 64 * 1024  # written at once: a pipe's usual size
_CLOSE_TIMEOUT_S: Final = 1.0  # the time that a reader has to take the last lines


@dataclass(slots=True)
class _Gap:
    """So many lines were dropped in this place."""

    count: int


class LogQueue:
    """A file for `structlog.BytesLogger`, which writes whole lines to it. `gap_line` returns the line for a gap."""

    def __init__(self, descriptor: int) -> None:
        self.gap_line: Callable[[int], bytes] = lambda count: b"%d log lines were dropped\n" % count
        self._descriptor = descriptor
        self._waiting: deque[bytes | _Gap] = deque()
        self._waiting_bytes = 0
        self._failed = 0  # lines that the descriptor did not take, not yet told
        self._changed = threading.Condition()
        self._is_closed = False
        # A daemon: a thread that hangs in a write must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> int:
        """Queue `line`, or count it as dropped when there is no room. Never blocks."""
        with self._changed:
            if self._is_closed:
                return len(line)
            if self._waiting_bytes + len(line) <= LOG_QUEUE_BYTES_MAX:
                self._waiting.append(line)
                self._waiting_bytes += len(line)
                self._changed.notify_all()
            elif self._waiting and isinstance(gap := self._waiting[-1], _Gap):
                gap.count += 1
            else:
                self._waiting.append(_Gap(1))
        return len(line)

    def flush(self) -> None:
        """Do nothing: lines are written as soon as the reader takes them."""

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return True when the descriptor is a terminal."""
        return os.isatty(self._descriptor)

    def close(self, timeout_s: float = _CLOSE_TIMEOUT_S) -> None:
        """Wait until everything is written, for `timeout_s` at most, and take no more lines. Safe to call twice."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (lines := self._next_lines()) is not None:
            count = sum(line.count if isinstance(line, _Gap) else 1 for line in lines)
            data = b"".join(self.gap_line(line.count) if isinstance(line, _Gap) else line for line in lines)
            if self._failed:
                data = self.gap_line(self._failed) + data
            self._failed = 0 if self._write_all(data) else self._failed + count

    def _next_lines(self) -> list[bytes | _Gap] | None:
        """Wait for lines and return as many as fit into one chunk; None once the queue is closed and empty."""
        with self._changed:
            while not self._waiting:
                if self._is_closed:
                    return None
                self._changed.wait()
            lines: list[bytes | _Gap] = []
            size = 0
            while self._waiting and size < _CHUNK_BYTES:
                line = self._waiting.popleft()
                lines.append(line)
                if isinstance(line, bytes):
                    size += len(line)
            self._waiting_bytes -= size
            return lines

    def _write_all(self, data: bytes) -> bool:
        """Write `data`; return False when the descriptor does not take it: a closed pipe, a full disk."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # another process made the descriptor non-blocking
                select.select([], [self._descriptor], [])
            except OSError:
                return False
        return True


def stderr_queue() -> LogQueue:
    """Return a queue to this process's stderr."""
    sys.stderr.flush()
    return LogQueue(sys.stderr.fileno())
