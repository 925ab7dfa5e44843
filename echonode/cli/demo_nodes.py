"""Real nodes as processes of their own, for the demo: started, waited for, listened to, and taken away again.

    with DemoNodes(services, root) as nodes:      each node's home is a folder in `root`
        nodes.start("node-1", ..)             returns at once; `wait_ready` until it takes commands
    (left, however: SIGTERM to each, then SIGKILL to whoever is deaf)
"""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from echonode.cli.client import Client
from echonode.cli.exit_codes import ExitCode, Failure, NotRunning
from echonode.cli.services import Services

LOOPBACK: Final = "127.0.0.1"
_MDNS_GROUP: Final = "224.0.0.251"
_MULTICAST_TIMEOUT_S: Final = 1.0
_READY_TIMEOUT_S: Final = 75.0  # joining alone may take 60
_STOP_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.05
_SYNC_COMPLETED: Final = "sync.completed"

Json = dict[str, Any]


def multicast_works(interface: str = LOOPBACK) -> bool:
    """Whether one socket of `interface` hears what another one says to the mDNS group (on a port of our own)."""
    word = os.urandom(16)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth,
    ):
        try:
            ear.bind(("", 0))
            membership = socket.inet_aton(_MDNS_GROUP) + socket.inet_aton(interface)
            ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
            mouth.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
            mouth.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
            ear.settimeout(_MULTICAST_TIMEOUT_S)
            mouth.sendto(word, (_MDNS_GROUP, ear.getsockname()[1]))
            return ear.recv(len(word)) == word
        except OSError:
            return False


def free_ports(wanted: int) -> list[int]:
    """TCP ports of loopback that nobody uses at the moment."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server((LOOPBACK, 0))) for _ in range(wanted)]
        return [probe.getsockname()[1] for probe in probes]


@dataclass(slots=True)
class DemoNode:
    """One process. `conversations`: the sync.completed events heard from it so far."""

    name: str
    process: "subprocess.Popen[bytes]"
    client: Client
    log: Path
    conversations: list[Json] = field(default_factory=list)

    def status(self) -> Json:
        """What the node says of itself. Raises Failure."""
        try:
            answer: Json = self.client.call("GET", "/v1/status")
        except Failure:
            self.check()
            raise
        return answer

    def check(self) -> None:
        """Raises Failure when the process has ended."""
        code = self.process.poll()
        if code is not None:
            lines = self.log.read_text(errors="replace").split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
            raise Failure(f"{self.name} ended with exit code {code}: {last}")

    def wait_ready(self) -> Json:
        """Its status, once it takes commands. Raises Failure."""
        deadline_s = time.monotonic() + _READY_TIMEOUT_S
        while True:
            with suppress(NotRunning):
                return self.status()
            self.check()
            if time.monotonic() > deadline_s:
                raise Failure(f"{self.name} took no commands within {_READY_TIMEOUT_S:.0f} s", ExitCode.TIMED_OUT)
            time.sleep(_POLL_S)

    def listen(self) -> None:
        """Collect what its syncs cost, from now on."""
        response = self.client.open("GET", "/v1/events", query=[("types", _SYNC_COMPLETED)], timeout_s=None)

        def collect() -> None:
            with suppress(Failure, OSError):  # the node was stopped: there is nothing more to hear
                self.conversations.extend(event for name, event in response.events() if name == _SYNC_COMPLETED)

        threading.Thread(target=collect, name=f"events of {self.name}", daemon=True).start()


class DemoNodes:
    """The demo's processes. `command` is what runs an echonode."""

    def __init__(
        self, services: Services, root: Path, command: Sequence[str] = (sys.executable, "-m", "echonode")
    ) -> None:
        self._services = services
        self._root = root
        self._command = tuple(command)
        self._running: list[DemoNode] = []

    def __enter__(self) -> "DemoNodes":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop()

    def start(self, name: str, arguments: Sequence[str]) -> DemoNode:
        """A node that is starting, in a home of its own."""
        home = self._services.find_home(str(self._root / name))
        log = self._root / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*self._command, "--home", str(home.root), "run", "--name", name, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={key: value for key, value in os.environ.items() if not key.startswith("ECHO_")},
                start_new_session=True,  # Ctrl-C is for us, and we stop them
            )
        node = DemoNode(name, process, Client([home.api_socket]), log)
        self._running.append(node)
        return node

    def stop(self) -> None:
        """End every process that still runs."""
        for node in self._running:
            if node.process.poll() is None:
                node.process.terminate()
        deadline_s = time.monotonic() + _STOP_TIMEOUT_S
        for node in self._running:
            try:
                node.process.wait(max(0.0, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                node.process.kill()
                node.process.wait()
        self._running.clear()
