"""Real nodes: one that was never met waits for a person, and a denied one's records are hidden and still passed on."""

from pathlib import Path

from tests.e2e.processes import NodeProcess, equal, running, wait_for


def test_a_stranger_waits_until_it_is_approved_and_what_a_denied_node_writes_is_hidden_and_kept(tmp_path: Path) -> None:
    ours, theirs = (NodeProcess(tmp_path / name, name, mdns=False) for name in ("ours", "theirs"))
    ours.home.mkdir()
    (ours.home / "config.toml").write_text('[trust]\npolicy = "approve"\n')
    for _ in running([ours, theirs]):
        theirs.start("--open")
        ours.start("--open", "--peer", theirs.address())
        theirs.cli("put", "a", "secret")
        wait_for(lambda: ours.json("peers", "--pending")["peers"])
        (waiting,) = ours.json("peers", "--pending")["peers"]
        assert (waiting["name"], waiting["state"], waiting["id"]) == ("theirs", "pending", theirs.json("status")["id"])
        assert len(ours.events("peer.pending")) == 1
        assert not equal([ours, theirs], "main")
        ours.cli("peers", "approve", "theirs")
        wait_for(lambda: equal([ours, theirs], "main"))
        assert ours.cli("get", "@theirs/a").stdout == b"secret"

        ours.cli("deny", "theirs")
        theirs.cli("put", "b", "more")
        wait_for(lambda: equal([ours, theirs], "main"))
        hidden = ours.cli("get", "@theirs/b", check=False)
        assert (hidden.returncode, b"@theirs is denied here" in hidden.stderr) == (1, True)
        assert ours.lines_of("list") == []
        assert ours.cli("export", "--author", "theirs").stdout == b""
        assert b"denied  a version of it is here" in ours.cli("why", "@theirs/b").stdout
        address = ours.address()
        assert ours.stop() == 0
        assert b"is denied here" in ours.cli("get", "@theirs/b", check=False).stderr, "of a stopped node, too"
        ours.start("--open", "--peer", theirs.address(), listen=address)
        wait_for(lambda: ours.json("peers")["peers"][0]["state"] == "connected")
        assert not ours.json("peers", "--pending")["peers"], "it was approved for good"
        assert ours.cli("get", "@theirs/b", check=False).returncode == 1
        ours.cli("allow", "theirs")
        assert ours.cli("get", "@theirs/b").stdout == b"more"

        ours.cli("peers", "reject", "theirs")
        wait_for(lambda: theirs.json("peers")["peers"][0]["state"] == "refused")
        assert "a person there has to let this node in" in theirs.json("peers")["peers"][0]["reason"]
