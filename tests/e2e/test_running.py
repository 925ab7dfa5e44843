"""A node that runs on while its surroundings change: its socket file is removed, its configuration edited."""

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
    wait_for(lambda: (node.home / "api.sock").exists())
    assert node.cli("put", "a", "b").returncode == 0
    assert len(node.events("api.socket_made_anew")) == 1
    assert node.stop() == 0
    assert not (node.home / "api.sock").exists()


def test_a_socket_in_a_folder_of_its_own_comes_back_with_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path of the home is too long for a socket, which is therefore under $XDG_RUNTIME_DIR."""
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
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
