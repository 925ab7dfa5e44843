"""A node that runs on while its surroundings change: its socket file is removed, its configuration edited."""

import os
import pty
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import NodeProcess, wait_for


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    process = NodeProcess(tmp_path / "home", "one", mdns=False)
    try:
        yield process
    finally:
        if not process.is_ended:
            process.stop(kill=True)


def test_a_socket_file_that_was_removed_is_said_and_then_there_again(node: NodeProcess) -> None:
    node.start()
    (node.home / "api.sock").unlink()
    failed = node.cli("put", "a", "b", check=False)
    if failed.returncode:  # the node had not looked yet
        said = failed.stderr.decode()
        assert f"the node runs (process {node.pid})" in said
        assert "is gone" in said
    wait_for((node.home / "api.sock").exists)
    assert node.cli("put", "a", "b").returncode == 0
    assert len(node.events("api.socket_made_anew")) == 1
    assert node.stop() == 0
    assert not (node.home / "api.sock").exists()


def test_a_socket_in_a_folder_of_its_own_comes_back_with_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path of the home is too long for a socket, which is therefore under $XDG_RUNTIME_DIR."""
    runtime = Path(tempfile.mkdtemp(dir="/tmp"))  # tmp_path is too long for a socket under some runners
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    node = NodeProcess(tmp_path / ("h" * 120), "one", mdns=False)
    try:
        node.start()
        (socket,) = (runtime / "echonode").iterdir()
        socket.unlink()
        socket.parent.rmdir()
        wait_for(socket.exists)
        assert socket.parent.stat().st_mode & 0o777 == 0o700
        node.cli("status")
    finally:
        node.stop(kill=True)
        shutil.rmtree(runtime)


def test_sighup_takes_what_can_change_at_run_time(node: NodeProcess, tmp_path: Path) -> None:
    """The peer that the new file names is dialled, and sees the new models; a record that is not wanted stays away."""
    peer = NodeProcess(tmp_path / "peer", "two", mdns=False)
    try:
        node.start("--open")
        peer.start("--open")
        config = node.home / "config.toml"
        config.write_text(
            f'peers = ["{peer.address()}"]\nmodels = ["task@1.2"]\n[subscriptions]\nmain = ["tag=a"]\n'
            '[log]\nlevel = "debug"\n'
        )
        node.signal(signal.SIGHUP)
        (reloaded,) = wait_for(lambda: node.events("config.reloaded"))
        assert reloaded["changed"] == ["peers", "models", "subscriptions", "log.level"]
        assert (reloaded["level"], reloaded["needs_restart"]) == ("info", [])
        wait_for(lambda: [each["models"] for each in peer.json("peers")["peers"]] == [{"task": "1.2"}])
        peer.cli("put", "wanted", "x", "-t", "a")
        peer.cli("put", "unwanted", "x")
        peer.cli("put", "wanted too", "x", "-t", "a")
        wait_for(lambda: len(node.lines_of("list")) == 2)
        assert {line["name"] for line in node.lines_of("list")} == {"wanted", "wanted too"}

        config.write_text(config.read_text().replace("task@1.2", "task@2.0").replace('main = ["tag=a"]', ""))
        node.signal(signal.SIGHUP)
        wait_for(lambda: len(node.events("config.reloaded")) == 2)
        wait_for(lambda: [each["models"] for each in peer.json("peers")["peers"]] == [{"task": "2.0"}])
        wait_for(lambda: len(node.lines_of("list")) == 3)
        assert node.stop() == peer.stop() == 0
    finally:
        peer.stop(kill=True)


def test_sighup_says_what_needs_another_start_and_refuses_a_broken_file(node: NodeProcess) -> None:
    node.start()
    config = node.home / "config.toml"
    config.write_text('mdns = false\ncontexts = ["main", "b"]\n[log]\nlevel = "debug"\n')
    node.signal(signal.SIGHUP)
    (reloaded,) = wait_for(lambda: node.events("config.reloaded"))
    assert (reloaded["changed"], reloaded["needs_restart"]) == (["log.level"], ["contexts"])
    assert reloaded["level"] == "warning"
    config.write_text('peers = "x"\n')
    node.signal(signal.SIGHUP)
    (refused,) = wait_for(lambda: node.events("config.refused"))
    assert (refused["level"], refused["reason"]) == (
        "error",
        f"{config}: peers: a list of addresses like '192.168.1.20:22087' is expected",
    )
    config.write_text('[log]\nlevel = "debug"\n')
    node.signal(signal.SIGHUP)
    wait_for(lambda: len(node.events("config.reloaded")) == 2)
    assert node.events("config.reloaded")[1]["changed"] == []
    assert node.stop() == 0


def test_a_node_whose_terminal_is_closed_stops_as_asked(node: NodeProcess) -> None:
    ours, theirs = pty.openpty()
    command = node.command("run", "--no-mdns", "--listen", "127.0.0.1:0")
    with subprocess.Popen(
        ["setsid", "--ctty", "--wait", *command], stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        wait_for(lambda: node.cli("status", check=False).returncode == 0)
        os.close(ours)
        assert process.wait(30) == 0
    assert not (node.home / "api.sock").exists()
