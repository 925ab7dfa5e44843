"""Real nodes in real processes, driven by the command line as a person would."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from echonode.client.synchronous import Client

START_S = 20.0
DEADLINE_S = 60.0
_POLL_S = 0.05


class NodeProcess:
    """`echonode run` on a home of its own, and commands that speak to it."""

    def __init__(
        self,
        home: Path,
        name: str,
        *,
        mdns: bool = True,
        interfaces: Sequence[str] = ("127.0.0.1",),
        environ: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        """`environ` replaces the environment of the node alone. `prefix` is a command that runs the node."""
        self.home = home
        self.name = name
        self._environ = environ
        self._prefix = prefix
        self._discovery = [part for each in interfaces for part in ("--interface", each)] if mdns else ["--no-mdns"]
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self.lines: list[bytes] = []

    def start(self, *options: str, listen: str = "127.0.0.1:0") -> "NodeProcess":
        """Run the node until its API answers."""
        if not self.begin(*options, listen=listen):
            assert self._process is not None
            raise AssertionError(f"{self.name} ended with {self._process.returncode}: {self.log()}")
        return self

    def begin(self, *options: str, listen: str = "127.0.0.1:0") -> bool:
        """Run the node until its API answers or the process ends. Return True if it answers."""
        self.spawn(*options, listen=listen)
        wait_for(lambda: self.is_ended or self.cli("status", "--json", check=False).returncode == 0, START_S)
        return not self.is_ended

    def spawn(self, *options: str, listen: str = "127.0.0.1:0") -> None:
        """Run the node."""
        arguments = ["run", "--name", self.name, "--listen", listen, "--log-format", "json", *self._discovery, *options]
        command = [*self._prefix, *self.command(*arguments)]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, env=self._environ or _environment())
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.lines.append(line)

    @property
    def is_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, *, kill: bool = False) -> int:
        """Stop the process with SIGTERM, or with SIGKILL, and return its exit code."""
        if self._process is None:
            return 0
        if kill:
            self._process.kill()
        else:
            self._process.terminate()
        code = self._process.wait(START_S)
        assert self._reader is not None
        self._reader.join(START_S)
        return code

    def cli(
        self, *arguments: str, check: bool = True, stdin: bytes | None = None, timeout_s: float = 600
    ) -> "subprocess.CompletedProcess[bytes]":
        done = subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            env=_environment(),
            timeout=timeout_s,
            check=False,
        )
        assert not check or done.returncode == 0, (arguments, done.returncode, done.stderr.decode(), self.log()[-3000:])
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self.cli(*arguments, "--json").stdout)

    def status(self) -> dict[str, Any]:
        """Return what `echonode status --json` shows, without the cost of a process."""
        return Client(home=self.home, timeout=START_S, retry=0).status()

    def lines_of(self, *arguments: str) -> list[Any]:
        return [json.loads(line) for line in self.cli(*arguments, "--json").stdout.splitlines()]

    def root(self, context: str) -> str | None:
        found = [each["root"] for each in self.status()["contexts"] if each["name"] == context]
        return found[0] if found else None

    def address(self) -> str:
        return str(self.status()["listen"][0])

    def log(self) -> str:
        return b"".join(self.lines).decode("utf-8", "replace")

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log lines with this event name."""
        parsed = (json.loads(line) for line in self.lines if line.startswith(b"{"))
        return [line for line in parsed if line["event"] == name]

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of `echonode` with this node's home."""
        return [sys.executable, "-m", "echonode", "--home", str(self.home), *arguments]


def wait_for(condition: Callable[[], Any], timeout_s: float = DEADLINE_S) -> Any:
    """Wait until `condition` returns something true, and return that. Raises AssertionError after `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not within {timeout_s} s: {condition}")
        threading.Event().wait(_POLL_S)
    return found


def equal(nodes: "list[NodeProcess]", *contexts: str) -> bool:
    """Return True if all nodes have the same root in each of `contexts`."""
    return all(
        len({node.root(context) for node in nodes}) == 1 and nodes[0].root(context) is not None for context in contexts
    )


def code_in(text: str) -> str:
    found = re.search(r"\b\d{1,2}-[a-z]+-[a-z]+\b", text)
    assert found, text
    return found.group()


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("ECHO_")}


def running(nodes: "list[NodeProcess]") -> Iterator[None]:
    """Run the block once, and stop every node at its end."""
    try:
        yield
    finally:
        for node in nodes:
            if not node.is_ended:
                node.stop(kill=True)
