"""Real nodes that stand still, and imports beside live puts: no honest pair ends in a protocol error, and what is shown
is true.

Each change runs short ones; ECHO_TEST_SLOW=1 runs 15 s of silence and 100,000 records.
"""

import http.client
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.e2e.processes import NodeProcess, code_in, equal, running, wait_for

IS_SLOW = os.environ.get("ECHO_TEST_SLOW") == "1"
RECORDS = 100_000 if IS_SLOW else 8_000
STALL_S = 15.0 if IS_SLOW else 4.0


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[NodeProcess]]:
    """Three linked nodes of one network."""
    nodes = [NodeProcess(tmp_path / name, name, mdns=False) for name in ("a", "b", "c")]
    for _ in running(nodes):
        first = nodes[0].start()
        code = code_in(first.cli("invite", "--uses", "2").stdout.decode())
        for node in nodes[1:]:
            node.start("--join", code, "--peer", first.address())
        nodes[2].cli("sync")
        wait_for(lambda: all(following(node) == 2 for node in nodes) or equal(nodes, "identities"))
        for node in nodes:  # a node that joins is a stranger before
            node.lines.clear()
        yield nodes


def following(node: NodeProcess) -> int:
    return sum(peer["following"] for peer in node.json("peers")["peers"])


def put(node: NodeProcess, name: str) -> None:
    """Put a small record into `main` over the node's socket."""
    connection = http.client.HTTPConnection("node", timeout=30)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(node.home / "api.sock"))
    connection.request("PUT", "/v1/records/main?" + urlencode({"id": name}), body=b"x")
    assert connection.getresponse().status in (200, 201)
    connection.close()


def protocol_errors(nodes: list[NodeProcess]) -> list[dict[str, object]]:
    return [line for node in nodes for line in node.events("session.failed") if line["reason"] == "protocol_error"]


def keep_putting(node: NodeProcess, is_over: threading.Event) -> threading.Thread:
    def work() -> None:
        number = 0
        while not is_over.wait(0.25):
            number += 1
            put(node, f"live-{number}")

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_silence_under_writes_is_no_error_and_ends_in_equality(nodes: list[NodeProcess]) -> None:
    is_over = threading.Event()
    writer = keep_putting(nodes[0], is_over)
    try:
        for _ in range(2):
            nodes[2].signal(signal.SIGSTOP)
            threading.Event().wait(STALL_S)
            nodes[2].signal(signal.SIGCONT)
            wait_for(lambda: equal(nodes, "identities"))
    finally:
        is_over.set()
        writer.join()
    wait_for(lambda: equal(nodes, "main"))
    assert not protocol_errors(nodes)


def test_an_import_beside_live_puts_and_a_stall_is_no_error_and_ends_in_equality(
    nodes: list[NodeProcess], tmp_path: Path
) -> None:
    lines = tmp_path / "books.jsonl"
    lines.write_text("".join(f'{{"name": "b{number}", "body": {number}}}\n' for number in range(RECORDS)))
    is_over = threading.Event()
    writer = keep_putting(nodes[1], is_over)
    try:
        importing = threading.Thread(target=nodes[0].cli, args=("import", "-c", "books", str(lines)))
        importing.start()
        nodes[2].signal(signal.SIGSTOP)
        threading.Event().wait(STALL_S)
        nodes[2].signal(signal.SIGCONT)
        importing.join()
    finally:
        is_over.set()
        writer.join()
    wait_for(lambda: equal(nodes, "books", "main"), 300)
    assert not protocol_errors(nodes)
    wait_for(lambda: all(peer["in_sync"] and not peer["lag"] for peer in nodes[0].json("peers")["peers"]))
