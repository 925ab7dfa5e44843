"""The duties of a service: sd_notify and signals.

sd_notify(3) is one datagram to a Unix socket. Where there is no service manager, nothing is sent and nothing fails.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Mapping
from types import FrameType
from typing import Final

_PINGS_PER_TIMEOUT: Final = 3  # two would lie half of it apart only on a loop that is never late


class ServiceManager:
    """Sends systemd the state of this process: READY, STATUS, STOPPING, and watchdog pings where the unit has
    WatchdogSec=."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path  # abstract sockets, unix(7)
        meant_for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environ.get("WATCHDOG_USEC", "")
        self._watchdog_s = int(microseconds) / 1e6 if meant_for_us and microseconds.isdecimal() else None

    def ready(self, status: str) -> None:
        """Say that the node listens, with the first line that `systemctl status` shows."""
        self._send("READY=1", "STATUS=" + status.replace("\n", " "))

    def stopping(self) -> None:
        """Say that the process is about to end."""
        self._send("STOPPING=1")

    async def feed_watchdog(self) -> None:
        """Ping for ever, at most half of WatchdogSec= apart (sd_watchdog_enabled(3)); return where nothing watches."""
        while self._watchdog_s and self._address:
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
