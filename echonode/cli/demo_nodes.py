"""Real nodes as processes of their own, for the demo and the bench.

    with DemoNodes(services, root) as nodes:      each node's home is a folder in `root`
        nodes.start("node-1", ..)                 returns at once; `wait_ready` waits until the node takes commands

Leaving the block sends SIGTERM to each process, and SIGKILL to those that still run after 10 s.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from echonode.cli.client import ApiClient
from echonode.cli.exit_codes import ExitCode, Failure
from echonode.cli.services import Services
from echonode.client.errors import ClientError, NotRunning
from echonode.client.location import Location, UnixPlace

LOOPBACK: Final = "127.0.0.1"
_MDNS_GROUP: Final = "224.0.0.251"
_MULTICAST_TIMEOUT_S: Final = 1.0
_READY_TIMEOUT_S: Final = 75.0  # joining alone may take 60
_STOP_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.05
_SYNC_COMPLETED: Final = "sync.completed"

Json = dict[str, Any]


def multicast_works(interface: str = LOOPBACK) -> bool:
    """Return True if one socket of `interface` hears what another one sends to the mDNS group, on an unused port."""
    datagram = os.urandom(16)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        try:
            receiver.bind(("", 0))
            membership = socket.inet_aton(_MDNS_GROUP) + socket.inet_aton(interface)
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
            receiver.settimeout(_MULTICAST_TIMEOUT_S)
            sender.sendto(datagram, (_MDNS_GROUP, receiver.getsockname()[1]))
            return receiver.recv(len(datagram)) == datagram
        except OSError:
            return False


def free_ports(wanted: int) -> list[int]:
    """Return `wanted` TCP ports of loopback that are free at the moment."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server((LOOPBACK, 0))) for _ in range(wanted)]
        return [probe.getsockname()[1] for probe in probes]


@contextmanager
def stop_signals() -> Iterator[None]:
    """Turn the first stop signal into an exception that unwinds everything, and ignore the later ones meanwhile."""

    def end(number: int, _: object) -> None:
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(slots=True)
class DemoNode:
    """One node's process. `conversations` holds the sync.completed events heard from it so far."""

    name: str
    process: "subprocess.Popen[bytes]"
    location: Location
    log: Path
    client: ApiClient = field(init=False)
    conversations: list[Json] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = ApiClient(self.location)

    def status(self) -> Json:
        """Return the node's status. Raises ClientError, Failure when its process has ended."""
        try:
            answer: Json = self.client.call("GET", "/v1/status")
        except ClientError:
            self.check()
            raise
        return answer

    def check(self) -> None:
        """Raise Failure if the process has ended, with the last line of its log."""
        code = self.process.poll()
        if code is not None:
            lines = self.log.read_text(errors="replace").split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "its log is empty")
            raise Failure(f"{self.name} ended with exit code {code}: {last}")

    def wait_ready(self) -> Json:
        """Wait until the node takes commands, and return its status. Raises Failure when it ends or takes too long."""
        deadline_s = time.monotonic() + _READY_TIMEOUT_S
        while True:
            with suppress(NotRunning):
                return self.status()
            self.check()
            if time.monotonic() > deadline_s:
                raise Failure(f"{self.name} took no commands within {_READY_TIMEOUT_S:.0f} s", ExitCode.TIMED_OUT)
            time.sleep(_POLL_S)

    def listen(self) -> None:
        """Collect the node's sync.completed events in a thread, from now on."""
        response = self.client.open("GET", "/v1/events", query=[("types", _SYNC_COMPLETED)], timeout_s=None)

        def collect() -> None:
            with suppress(ClientError, OSError):  # the node was stopped: there are no more events
                self.conversations.extend(event for name, event in response.events() if name == _SYNC_COMPLETED)

        threading.Thread(target=collect, name=f"events of {self.name}", daemon=True).start()


class DemoNodes:
    """The demo's processes. `command` is the command line that runs echonode."""

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
        """Start a node in a home of its own, and return without waiting for it."""
        home = self._services.find_home(str(self._root / name))
        log = self._root / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*self._command, "--home", str(home.root), "run", "--name", name, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={key: value for key, value in os.environ.items() if not key.startswith("ECHO_")},
                start_new_session=True,  # Ctrl-C reaches only this process, which then stops the nodes
            )
        node = DemoNode(name, process, Location((UnixPlace(home.api_socket),)), log)
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
