"""Mistakes and accidents of real people: one plain sentence, the right exit code, no traceback, no damage."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.processes import NodeProcess, code_in, equal, running, wait_for


def _plain(done: "subprocess.CompletedProcess[bytes]", *, code: int, says: str) -> None:
    text = done.stderr.decode()
    assert done.returncode == code, (done.returncode, text)
    assert says in text, text
    assert "Traceback" not in text
    assert len(text.strip().splitlines()) == 1, text


def _run_fails(node: NodeProcess, *options: str, code: int = 2, says: str) -> None:
    _plain(node.cli("run", "--no-mdns", "--listen", "127.0.0.1:0", *options, check=False), code=code, says=says)


def test_commands_without_a_running_node_exit_5_with_what_to_type(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path / "a", "a")
    for command in (["status"], ["put", "x", "y"], ["list"], ["sync"], ["verify"], ["peers"], ["invite"]):
        _plain(node.cli(*command, check=False), code=5, says="not running")


def test_a_second_node_on_one_home_refuses_to_start(tmp_path: Path) -> None:
    first = NodeProcess(tmp_path / "a", "a", mdns=False)
    for _ in running([first]):
        first.start()
        _run_fails(NodeProcess(tmp_path / "a", "b"), says="already runs")
        assert first.cli("status").returncode == 0


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(tmp_path: Path) -> None:
    first = NodeProcess(tmp_path / "a", "a", mdns=False)
    for _ in running([first]):
        first.start()
        second = NodeProcess(tmp_path / "b", "b")
        done = second.cli("run", "--no-mdns", "--listen", first.address(), check=False)
        _plain(done, code=2, says="another program has that port")


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    _run_fails(NodeProcess(tmp_path / "file" / "home", "a"), says=str(tmp_path / "file"))


def test_an_unknown_setting_names_file_and_key(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.toml").write_text('nmae = "x"\n')
    _run_fails(NodeProcess(tmp_path / "a", "a"), says="config.toml")


@pytest.mark.parametrize("damage", ["garbage", "newer schema"])
def test_a_database_that_cannot_be_used_is_left_as_it_is(tmp_path: Path, damage: str) -> None:
    node = NodeProcess(tmp_path / "a", "a", mdns=False)
    for _ in running([node]):
        node.start()
        node.cli("put", "x", "y")
        assert node.stop() == 0
    store = tmp_path / "a" / "store.db"
    if damage == "garbage":
        store.write_bytes(b"this is no database at all" * 1000)
    else:
        with sqlite3.connect(store) as connection:
            connection.execute("PRAGMA user_version = 999")
        connection.close()
    before = store.read_bytes()
    _run_fails(node, code=1, says="store.db" if damage == "garbage" else "newer")
    assert store.read_bytes() == before


def test_a_wrong_network_key_is_silence_on_the_wire_and_one_line_in_the_log(tmp_path: Path) -> None:
    a, b = nodes = [NodeProcess(tmp_path / name, name, mdns=False) for name in ("a", "b")]
    for _ in running(nodes):
        a.start()
        b.start("--peer", a.address())
        wait_for(lambda: a.events("session.failed"))
        (line,) = a.events("session.failed")[:1]
        assert "not of our network" in line["detail"]
        assert (line["peer"], line["session"]) == ("", "")
        (peer,) = wait_for(lambda: [p for p in b.json("status")["peers"] if p["reason"]])
        assert "another network" in peer["reason"]
        assert a.json("status")["peers"] == []


def test_wrong_spent_and_expired_invitation_codes_are_refused_in_words(tmp_path: Path) -> None:
    a, b = nodes = [NodeProcess(tmp_path / name, name, mdns=False) for name in ("a", "b")]
    for _ in running(nodes):
        a.start()
        b.start()
        at = a.address()
        code = code_in(a.cli("invite").stdout.decode())
        slot, first, second = code.split("-")
        other = "adviser" if first != "adviser" else "aftermath"
        wrong = f"{slot}-{other}-{second}"
        _plain(b.cli("join", "not a code", check=False), code=2, says="code")
        _plain(b.cli("join", wrong, "--at", at, check=False), code=1, says="not the code")
        assert b.cli("join", code, "--at", at).returncode == 0
        _plain(b.cli("join", code, "--at", at, check=False), code=1, says="spent or expired")
        brief = code_in(a.cli("invite", "--expires", "0.01s").stdout.decode())  # over before the next command
        _plain(b.cli("join", brief, "--at", at, check=False), code=1, says="spent or expired")
        closed = code_in(a.cli("invite").stdout.decode())
        slot, first, second = closed.split("-")
        wrong = f"{slot}-{'adviser' if first != 'adviser' else 'aftermath'}-{second}"
        for _ in range(3):
            b.cli("join", wrong, "--at", at, check=False)
        _plain(b.cli("join", closed, "--at", at, check=False), code=1, says="spent or expired")


def test_the_open_network_is_refused_on_a_private_home(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path / "a", "a", mdns=False)
    for _ in running([node]):
        node.start()
        node.stop()
        _run_fails(node, "--open", says="private network")


def test_a_key_that_is_missing_beside_its_store_is_not_made_anew(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path / "a", "a", mdns=False)
    for _ in running([node]):
        node.start()
        node.stop()
    (tmp_path / "a" / "keys" / "device").unlink()
    _run_fails(node, says="keys/device is missing")
    assert not (tmp_path / "a" / "keys" / "device").exists()


def test_a_context_that_the_configuration_does_not_list_is_not_written(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path / "a", "a", mdns=False)
    (tmp_path / "a").mkdir(mode=0o700)
    (tmp_path / "a" / "config.toml").write_text('contexts = ["main"]\n')
    for _ in running([node]):
        node.start()
        _plain(node.cli("put", "x", "y", "-c", "other", check=False), code=1, says="not kept here")
        assert node.cli("put", "x", "y").returncode == 0


def test_a_peer_that_comes_back_on_another_port_is_told_of_changes_at_once(tmp_path: Path) -> None:
    a, b = nodes = [NodeProcess(tmp_path / name, name, mdns=False) for name in ("a", "b")]
    for _ in running(nodes):
        a.start()
        key = a.cli("network", "show").stdout
        b.cli("network", "set", stdin=key)
        b.start("--peer", a.address())
        wait_for(lambda: equal(nodes, "identities"))
        b.stop()
        b.start("--peer", a.address())
        wait_for(lambda: [p for p in a.json("status")["peers"] if p["following"]])
        for number in range(3):
            a.cli("put", f"n{number}", "x")
            wait_for(lambda number=number: b.cli("get", f"{a.json('status')['id']}/n{number}", check=False).stdout, 10)


LENIENT = """
import sys
from nacl import bindings
bindings.crypto_sign_open = lambda signed, key: signed[64:]
from echonode.app import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", [["run", "--no-mdns"], ["verify", "--repair"]], ids=" ".join)
def test_a_libsodium_that_judges_otherwise_stops_the_node_before_it_opens_anything(
    tmp_path: Path, command: list[str]
) -> None:
    home = tmp_path / "a"
    arguments = [sys.executable, "-c", LENIENT, "--home", str(home), *command]
    _plain(subprocess.run(arguments, capture_output=True, check=False), code=1, says="split the network")
    assert not home.exists()
