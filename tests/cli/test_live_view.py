"""`run --live`: a table on a terminal, drawn by a thread beside the node."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.harness import Shell

WITHIN_S = 60.0


def test_it_needs_a_terminal(shell: Shell) -> None:
    assert "--live" in shell.fails(2, "run", "--live")
    assert shell.services.runs == []


def test_a_terminal_shows_the_node_and_is_given_back_at_the_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "echonode", "--home", str(tmp_path / "home"), "run", "--live", "--no-mdns"]
    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    with subprocess.Popen(
        [*command, "--name", "kitchen", "--listen", "127.0.0.1:0"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environ,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        try:
            shown = _read_until(ours, b"identities")
            assert shown.startswith(b"\x1b[?1049h"), "another screen, so that the shell's comes back"
            assert b"kitchen in the network " in shown
            assert b"echonode run --join " in shown
            process.send_signal(signal.SIGINT)
            shown += _read_until(ours, b"\x1b[?1049l")
            assert process.wait(WITHIN_S) in (0, 130)
        finally:
            process.kill()
            os.close(ours)
    assert b"Traceback" not in shown


def _read_until(descriptor: int, mark: bytes) -> bytes:
    until_s, data = time.monotonic() + WITHIN_S, b""
    while mark not in data:
        left_s = until_s - time.monotonic()
        if left_s <= 0 or not select.select([descriptor], [], [], left_s)[0]:
            pytest.fail(f"{mark!r} did not come: {data[-2000:]!r}")
        try:
            data += os.read(descriptor, 65_536)
        except OSError:
            pytest.fail(f"the terminal ended: {data[-2000:]!r}")
    return data
