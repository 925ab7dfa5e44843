"""LiveView: what `run --live` shows: this node, its contexts and peers, and what happened last, drawn anew each second.

The node runs in the main thread and takes the signals; the view asks it over its own socket, as any command would.
"""

import sys
import threading
import time
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from echonode.cli.columns import terminal_width, wrap
from echonode.cli.commands.status import context_lines, peer_lines, verdict
from echonode.cli.node_lookup import NodeLookup
from echonode.cli.output import is_coloured, safe
from echonode.errors import EchonodeError

_INTERVAL_S: Final = 1.0
_TIMEOUT_S: Final = 5.0
_NOTICES_MAX: Final = 3
_LOG_LINES: Final = 50  # asked for; as many are shown as fit
_BEGIN: Final = "\x1b[?1049h\x1b[?25l"  # another screen, no cursor
_END: Final = "\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_CLEAR_LINE: Final = "\x1b[K"
_CLEAR_BELOW: Final = "\x1b[J"


class LiveView:
    """Draws on stdout, which is a terminal, while the `with` block runs."""

    def __init__(self, lookup: NodeLookup) -> None:
        self._lookup = lookup
        self._ended = threading.Event()
        self._notices: deque[str] = deque(maxlen=_NOTICES_MAX)
        self._thread = threading.Thread(target=self._run, name="live view", daemon=True)

    def say(self, text: str) -> None:
        """Show a sentence for the person at the terminal."""
        self._notices.extend(line for line in text.splitlines() if line)

    def __enter__(self) -> Self:
        sys.stdout.write(_BEGIN)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join(_TIMEOUT_S)
        sys.stdout.write(_END)
        sys.stdout.flush()
        for notice in self._notices if error is not None else ():
            sys.stderr.write(f"{notice}\n")

    def _run(self) -> None:
        while not self._ended.wait(_INTERVAL_S):
            with suppress(EchonodeError, OSError):  # not up yet, or on its way down
                self._draw()

    def _draw(self) -> None:
        from shutil import get_terminal_size

        client = self._lookup.client()
        status = client.call("GET", "/v1/status", timeout_s=_TIMEOUT_S)
        with client.open("GET", "/v1/logs", query=[("level", "info")], timeout_s=_TIMEOUT_S) as response:
            log = deque(response.values(), maxlen=_LOG_LINES)
        _, height = get_terminal_size()
        lines = [*self._state(status), *self._recent(status, log)]
        shown = [line + _CLEAR_LINE for line in lines[: height - 1]]
        sys.stdout.write(_HOME + "\r\n".join(shown) + _CLEAR_BELOW)
        sys.stdout.flush()

    def _state(self, status: dict[str, Any]) -> list[str]:
        width = terminal_width()
        what = "is joining a network" if status.get("joining") else f"in the network {status['network']}"
        lines = list(wrap(f"{safe(status.get('label') or status['name'])} {safe(what)}; stop it with Ctrl-C", width))
        lines += [*(each for notice in self._notices for each in wrap(safe(notice), width)), ""]
        lines += [*context_lines(status["contexts"]), ""]
        now_s = time.time()
        if status["peers"]:
            lines += [*peer_lines(status["peers"], now_s), ""]
        return [*lines, *wrap(verdict(status["peers"], now_s), width), ""]

    def _recent(self, status: dict[str, Any], log: deque[dict[str, Any]]) -> list[str]:
        """Return the last lines of the log that a person wants to see, the latest first: the old ones may not fit."""
        from echonode.manual.log_lines import LineForm

        labels = {peer["id"]: safe(peer.get("label") or peer["name"]) for peer in status["peers"] if peer["id"]}
        form = LineForm(width=terminal_width(), is_coloured=is_coloured(sys.stdout), labels=labels)
        return [line for line in (form.calm(each) for each in reversed(log)) if line is not None]
