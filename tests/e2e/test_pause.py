"""A pause of a real node outlasts a restart, is shown by status, and ends by a command."""

from pathlib import Path

from tests.e2e.processes import NodeProcess, equal, running, wait_for


def test_a_pause_outlasts_a_restart_and_the_screen_says_so(tmp_path: Path) -> None:
    ours, theirs = (NodeProcess(tmp_path / name, name, mdns=False) for name in ("ours", "theirs"))
    for _ in running([ours, theirs]):
        theirs.start("--open")
        ours.start("--open", "--peer", theirs.address())
        ours.cli("put", "a", "1")
        wait_for(lambda: equal([ours, theirs], "main"))
        address = ours.address()
        told = ours.cli("pause", "--for", "2h")
        assert told.stderr.startswith(b"paused with every peer, until 20")
        assert ours.stop() == 0
        ours.start("--open", "--peer", theirs.address(), listen=address)
        shown = ours.cli("status").stdout.decode()
        assert "paused      with every peer, until 20" in shown
        ours.cli("put", "b", "1")
        wait_for(lambda: [line for line in theirs.events("session.failed") if line["reason"] == "paused"])
        assert not equal([ours, theirs], "main")
        assert ours.cli("resume").returncode == 0
        wait_for(lambda: equal([ours, theirs], "main"))
        assert ours.json("status")["paused"] is None
        again = ours.cli("resume", check=False)
        assert again.returncode == 1
        assert b"nothing is paused" in again.stderr
