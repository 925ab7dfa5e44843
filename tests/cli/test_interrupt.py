"""Ctrl-C while a command waits for the node: exit code 130, not a word, and files whole or not there."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from echonode.cli.exit_codes import ExitCode
from tests.cli.harness import scripted_server

WITHIN_S = 60
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: 1000\r\n\r\n"
HALF = HEAD + b'{"name": "a", "bo'
COMMANDS = (
    "status",
    "peers",
    "get x",
    "put x 1",
    "delete x",
    "list",
    "import in.jsonl",
    "export out.jsonl",
    "import --signed in.jsonl",
    "sync --path .",
    "why x",
    "trace x",
    "logs -f",
    "log-level debug --for 1m",
    "doctor",
    "support-bundle -o bundle.tar.gz",
    "sync",
    "verify",
    "watch",
    "invite",
    "conflicts",
    "history x",
    "rename x",
    "network show",
    "pull --from x",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_waits_ends_at_ctrl_c_and_leaves_nothing_half_done(tmp_path: Path, command: str) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    here.mkdir()
    (here / "in.jsonl").write_text('{"name": "a", "body": 1}\n')
    environ = {key: value for key, value in os.environ.items() if not key.startswith("ECHO_")}
    with scripted_server(home / "api.sock", HALF, hangs_up=False, reads_body=False) as heard:
        process = subprocess.Popen(
            [sys.executable, "-m", "echonode", "--home", str(home), *command.split()],
            cwd=here,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            _wait_for_request(process, heard)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=WITHIN_S)
        finally:
            process.kill()
    assert process.returncode == ExitCode.INTERRUPTED, said
    assert b"Traceback" not in said
    assert [path.name for path in here.iterdir()] == ["in.jsonl"]


def _wait_for_request(process: "subprocess.Popen[bytes]", heard: list[bytes]) -> None:
    """Wait until the command has sent its request."""
    until_s = time.monotonic() + WITHIN_S
    while not heard:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until_s
        threading.Event().wait(0.01)
