"""The duties of a service: sd_notify and signals.

    EXTEND_TIMEOUT_USEC   the start goes on: while a large store is opened
    READY, STATUS         the node listens; one line for `systemctl status`, sent again when it has changed
    RELOADING, READY      around each reading of the configuration
    WATCHDOG              while the loop runs and the node says that it is healthy
    STOPPING              the process is about to end

sd_notify(3) is one datagram to a Unix socket. Where there is no service manager, nothing is sent and nothing fails.
"""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Final

_PINGS_PER_TIMEOUT: Final = 3  # two would lie half of it apart only on a loop that is never late
_START_EXTENSION_S: Final = 60.0  # for the next sign of progress while a store is opened
_EXTENSION_INTERVAL_S: Final = 5.0
_STATUS_CHARS_MAX: Final = 300  # of a line that `systemctl status` shows


class ServiceManager:
    """Tells systemd the state of this process: READY, STATUS, RELOADING, STOPPING, watchdog pings where the unit has
    WatchdogSec=, and that a start takes longer."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path  # abstract sockets, unix(7)
        meant_for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environ.get("WATCHDOG_USEC", "")
        self._watchdog_s = int(microseconds) / 1e6 if meant_for_us and microseconds.isdecimal() else None
        self._status = ""
        self._extended_s = float("-inf")

    @property
    def is_there(self) -> bool:
        """True when a service manager takes what this process says."""
        return bool(self._address)

    def ready(self, status: str) -> None:
        """Say that the node listens, with the first line that `systemctl status` shows."""
        self._status = _one_line(status)
        self._send("READY=1", f"STATUS={self._status}")

    def set_status(self, status: str) -> None:
        """Say the line that `systemctl status` shows. The same line is not sent twice."""
        line = _one_line(status)
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def extend_start(self) -> None:
        """Say that the start makes progress. May be called often and from any thread; few calls send something."""
        now_s = time.monotonic()
        if now_s - self._extended_s >= _EXTENSION_INTERVAL_S:
            self._extended_s = now_s
            self._send(f"EXTEND_TIMEOUT_USEC={int(_START_EXTENSION_S * 1e6)}")

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Say that the configuration is read while the block runs, and that the node is ready behind it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            self._send("READY=1")

    def stopping(self) -> None:
        """Say that the process is about to end."""
        self._send("STOPPING=1", "STATUS=stopping")

    async def feed_watchdog(self, is_healthy: Callable[[], bool]) -> None:
        """Ping while `is_healthy`, at most half of WatchdogSec= apart (sd_watchdog_enabled(3)); return where nothing
        watches.

        A node that is not healthy for the rest of WatchdogSec= is killed, and started again."""
        while self._watchdog_s and self._address:
            if is_healthy():
                self._send("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_s / _PINGS_PER_TIMEOUT)

    def _send(self, *assignments: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
                datagram.connect(self._address)
                datagram.send("\n".join(assignments).encode())
        except OSError:
            pass  # the node goes on without its service manager


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_STATUS_CHARS_MAX]


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGINT and SIGTERM set in the running loop. A second signal ends the process at once: 130 or
    143.

    The second signal is handled outside the loop, so that it works on a loop that hangs."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def first(_: int) -> None:
        stop.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
            signal.signal(number, _exit_now)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, first, number)
    return stop


def reload_on_hangup(stop: asyncio.Event) -> asyncio.Event:
    """Return an event that each SIGHUP sets in the running loop. The reader of the event clears it.

    Where the process was started on a terminal and that is gone now, SIGHUP came from its end: it sets `stop` instead.
    """
    reload = asyncio.Event()
    was_on_terminal = _is_on_terminal()

    def hangup() -> None:
        (stop if was_on_terminal and not _is_on_terminal() else reload).set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangup)
    return reload


def _is_on_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _exit_now(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)
