"""The store of a stopped node, read by commands; and a node that starts while one of them reads."""

import os
import subprocess
from pathlib import Path

import pytest

from echonode.host.home import Home
from tests.e2e.processes import NodeProcess, running

SAID = "the node is not running: this is read from its store\n"


def test_what_a_stopped_node_holds_is_read_and_nothing_is_changed(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path / "a", "a", mdns=False)
    for _ in running([node]):
        node.start()
        node.cli("put", "note", "text", "-t", "x")
        node.cli("put", "shared/todo", "milk")
        before = {command: node.cli(*command.split()).stdout for command in ("list", "export", "contexts", "get note")}
        held = node.json("status")["contexts"]
        assert node.stop() == 0

    for command, stdout in before.items():
        done = node.cli(*command.split())
        assert (done.stdout, done.stderr.decode().startswith(SAID)) == (stdout, True), command
    assert node.cli("get", "shared/todo").stdout == b"milk"
    assert "all is well" in node.cli("verify").stderr.decode()
    status = node.cli("status", "--json", check=False)
    assert (status.returncode, status.stderr.decode()) == (5, SAID)
    assert node.cli("put", "a", "b", check=False).returncode == 5
    assert sorted(path.name for path in node.home.iterdir() if "sock" in path.name) == []
    umask = os.umask(0o022)
    node.cli("export", str(tmp_path / "out.jsonl"))
    os.umask(umask)
    assert (tmp_path / "out.jsonl").stat().st_mode & 0o777 == 0o644

    for _ in running([node]):
        node.start()
        assert node.json("status")["contexts"] == held
        assert node.cli("verify").returncode == node.stop() == 0


def test_a_node_that_starts_while_its_store_is_read_waits_for_the_reader(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path / "a", "a", mdns=False)
    for _ in running([node]):
        node.start()
        assert node.stop() == 0
        with Home.find(str(node.home), {}).locked(is_reader=True):
            starting = subprocess.Popen(
                node.command("run", "--no-mdns", "--listen", "127.0.0.1:0"), stderr=subprocess.DEVNULL
            )
            with pytest.raises(subprocess.TimeoutExpired):
                starting.wait(2.0)
        while node.cli("status", check=False).returncode == 5:
            assert starting.poll() is None
        starting.terminate()
        assert starting.wait(30) == 0
