"""doctor and support-bundle: findings with what to do, and an archive without names."""

import json
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from echonode.cli.redaction import Redaction
from tests.cli.harness import LiveNode, Shell, live_node


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveNode]:
    with live_node(tmp_path / "home", name="laboratory") as live:
        yield live


def test_a_stopped_node_is_said_and_the_machine_looked_at(shell: Shell) -> None:
    result = shell("doctor")
    assert result.code == 0
    lines = result.text.splitlines()
    assert lines[0] == "warning   node          the node is not running"
    assert lines[1].lstrip() == "=> start it: echonode run, or echonode service install"
    assert lines[2].startswith("fine      disk          all is well")
    assert lines[-1] == "1 finding to look at, marked above."


def test_every_peer_that_is_not_equal_is_named_with_what_to_do(shell: Shell, live: LiveNode) -> None:
    table = live.served.node.peer_table
    table.opened(bytes(32), "kitchen", "10.0.0.1:2", target=None, is_initiator=False)
    table.closed(0, int(time.time() * 1000), bytes(32), in_sync=None, reason="")
    table.missed(bytes(32), "the connection to 10.0.0.1:2 timed out")
    found = {check["area"]: check for check in shell("doctor", "--json").json_lines}
    assert found["node"]["text"].startswith("laboratory runs")
    assert found["peers"]["verdict"] == "warning"
    assert found["peers"]["text"].startswith("kitchen: it is absent")
    assert "firewall" in found["peers"]["what_to_do"]
    assert found["log"]["verdict"] == "fine"
    live.served.run_log.note("tcp.port_taken", "warning", {})
    found = {check["area"]: check for check in shell("doctor", "--json").json_lines}
    assert "echonode logs" in found["log"]["what_to_do"]


def test_the_archive_has_no_names_and_no_bodies(shell: Shell, live: LiveNode, tmp_path: Path) -> None:
    table = live.served.node.peer_table
    table.opened(bytes(32), "grandmother", "10.0.0.1:2", target=None, is_initiator=False)
    shell("put", "diary/monday", "dear diary", "-c", "private")
    event = {"record": "diary/monday", "context": "private", "why": "diary/monday of grandmother at 8.8.8.8:1"}
    live.served.run_log.note("record.conflict", "warning", event)
    path = tmp_path / "b.tar.gz"
    result = shell("support-bundle", "-o", str(path))
    assert (result.code, result.text) == (0, f"{path}\n")
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as tar:
        texts = {entry.name: tar.extractfile(entry).read().decode() for entry in tar}
    assert {"about.json", "doctor.jsonl", "settings.jsonl", "status.json", "log.jsonl"} <= set(texts)
    everything = "".join(texts.values())
    for word in ("diary", "private", "grandmother", "laboratory", "8.8.8.8", str(tmp_path)):
        assert word not in everything, word
    last = json.loads(texts["log.jsonl"].splitlines()[-1])
    assert last["why"].startswith(f"{last['record']} of name-")
    assert last["event"] == "record.conflict"
    assert "127.0.0.1" in everything, "addresses that mean nothing elsewhere stay"
    assert "cannot be written" in shell.fails(1, "support-bundle", "-o", str(tmp_path / "none" / "b"))
    assert list(path.parent.glob(".b.tar.gz*")) == []


def test_secrets_are_left_out_whatever_field_they_stand_in() -> None:
    redaction = Redaction(b"k" * 32, {"/srv/echo": "HOME"})
    value = {"token": "abc", "api_key": "def", "text": "at /srv/echo/api.sock", "count": 3, "list": ["fe80::1", None]}
    assert redaction.redacted(value) == {
        "token": "(redacted)",
        "api_key": "(redacted)",
        "text": "at HOME/api.sock",
        "count": 3,
        "list": ["fe80::1", None],
    }
    assert redaction.redacted("2606:4700::1111").startswith("address-")
