"""Floods from outside on a node with little memory: thousands of connections, half handshakes, bytes that drip, false
announcements. The node stays within its memory, serves its real peers meanwhile, and rests afterwards.
"""

import os
import random
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from echonode.limits import CANDIDATES_MAX, CONNECTIONS_MAX, LOG_LINES_PER_S
from echonode.wire.channel import PREAMBLE
from tests.e2e.processes import NodeProcess, equal, running, wait_for
from tests.faults.rooted import little_memory, star
from tests.faults.test_kill import NETWORK_SECRET, free_port

MEMORY_MIB = 128
CONNECTIONS, ANNOUNCEMENTS = (20_000, 50_000) if os.environ.get("ECHO_TEST_SLOW") else (2500, 6000)
_OPEN_MAX = 400
_CALM_TICKS = 10  # hundredths of a second of CPU in about a second


class Flood:
    """Connections to a port, from many addresses.

    Some send nothing, some half a handshake, some noise, some go on byte by byte. New ones replace the oldest.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._rng = random.Random(1)
        self._open: list[socket.socket] = []
        self._is_over = threading.Event()
        self.made = 0
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def going_on(self) -> Iterator["Flood"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._is_over.set()
            self._thread.join()
            for connection in self._open:
                connection.close()

    def _run(self) -> None:
        while not self._is_over.is_set():
            self._connect()
            if len(self._open) > _OPEN_MAX:
                self._open.pop(0).close()
            self._drip(self._rng.choice(self._open))

    def _connect(self) -> None:
        connection = socket.socket()
        connection.settimeout(5)
        host = f"127.{self._rng.randrange(1, 255)}.{self._rng.randrange(256)}.{self._rng.randrange(1, 255)}"
        with suppress(OSError):
            connection.bind((host, 0))
            connection.connect(("127.0.0.1", self._port))
            connection.setblocking(False)
            whole = PREAMBLE + self._rng.randbytes(48)
            connection.send(self._rng.choice((b"", whole[:20], whole, self._rng.randbytes(1000))))
        self._open.append(connection)
        self.made += 1

    def _drip(self, connection: socket.socket) -> None:
        with suppress(OSError):
            connection.send(b"\0")


def ticks_of(node: NodeProcess) -> int:
    """Return the CPU time that the node has used, in hundredths of a second (proc(5))."""
    fields = Path(f"/proc/{node.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def is_at_rest(node: NodeProcess) -> bool:
    before = ticks_of(node)
    threading.Event().wait(1.0)
    return ticks_of(node) - before <= _CALM_TICKS


@pytest.mark.root
def test_a_flood_of_connections_leaves_a_node_with_its_memory_and_its_peers(tmp_path: Path) -> None:
    port = free_port()
    with little_memory(MEMORY_MIB) as limited:
        a = NodeProcess(tmp_path / "anna", "anna", mdns=False, prefix=limited)
        b = NodeProcess(tmp_path / "bert", "bert", mdns=False)
        for _ in running([a, b]):
            for node in (a, b):
                node.cli("network", "set", NETWORK_SECRET)
            a.start(listen=f"127.0.0.1:{port}")
            b.start("--peer", f"127.0.0.1:{port}")
            wait_for(lambda: equal([a, b], "identities"))
            with Flood(port).going_on() as flood:
                wait_for(lambda: flood.made > CONNECTIONS // 3)
                a.cli("put", "from a", "text")
                wait_for(lambda: equal([a, b], "main"))
                b.cli("put", "from b", "text")
                wait_for(lambda: equal([a, b], "main"))
                wait_for(lambda: flood.made > CONNECTIONS)
            assert not a.is_ended, a.log()[-2000:]
            per_second = Counter(event["time"][:19] for event in a.events("session.failed"))
            assert max(per_second.values()) <= 2 * (CONNECTIONS_MAX + LOG_LINES_PER_S), "the rest is folded"
            wait_for(lambda: is_at_rest(a))
            a.cli("put", "afterwards", "text")
            wait_for(lambda: equal([a, b], "main"))
            assert a.stop() == 0


@pytest.mark.root
def test_a_flood_of_announcements_leaves_a_node_with_its_memory_and_its_peers(tmp_path: Path) -> None:
    with star(2) as net, little_memory(MEMORY_MIB) as limited:
        flooder, elsewhere = (net.inside(leaf) for leaf in net.leaves)
        a = NodeProcess(
            tmp_path / "anna",
            "anna",
            interfaces=[net.address(0), net.address(1)],
            prefix=[*limited, *net.inside(net.hub)],
        )
        b, c = (
            NodeProcess(tmp_path / name, name, interfaces=[net.address(1, 2)], prefix=elsewhere)
            for name in ("bert", "cleo")
        )
        nodes = [a, b, c]
        flood = [*flooder, sys.executable, "-m", "tests.faults.mdns_flood", net.address(0, 2)]
        for _ in running(nodes):
            for node in nodes:
                node.cli("network", "set", NETWORK_SECRET)
            a.start(listen="0.0.0.0:0")
            b.start(listen="0.0.0.0:0")
            wait_for(lambda: equal([a, b], "identities"))
            subprocess.run([*flood, str(ANNOUNCEMENTS)], check=True)
            wait_for(lambda: len(a.json("peers")["peers"]) > CANDIDATES_MAX / 2)
            a.cli("put", "from a", "text")
            wait_for(lambda: equal([a, b], "main"))
            c.start(listen="0.0.0.0:0")  # a member that comes when strangers fill the table
            wait_for(lambda: equal(nodes, "main", "identities"))
            peers = a.json("peers")["peers"]
            assert len(peers) <= CANDIDATES_MAX
            assert {peer["name"] for peer in peers if peer["id"]} >= {"bert", "cleo"}
            assert len(a.lines) < ANNOUNCEMENTS, "not every stranger gets a line in the log"
            wait_for(lambda: is_at_rest(a))
            assert a.stop() == 0
