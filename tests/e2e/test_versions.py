"""This version beside the next minor and the next major one, each in a process of its own (PROTOCOL.md §11)."""

import json
from base64 import b64encode
from functools import partial
from pathlib import Path

import pytest

from echonode import cbor
from echonode.errors import Reason
from echonode.node.hello import NAMES
from tests.e2e.data import write_lines
from tests.e2e.next_version import NEXT_MAJOR, NEXT_MINOR, environment
from tests.e2e.processes import NodeProcess, equal, running, wait_for


def later_of(name: str) -> str:
    """Return the field that the next minor version writes into every record, as this version's export shows it."""
    return b64encode(cbor.encode({14: {"of": [name, 1]}})).decode()


def exported(node: NodeProcess, *options: str) -> dict[str, dict[str, object]]:
    lines = node.cli("export", *options).stdout.splitlines()
    return {line["name"]: line for line in map(json.loads, lines)}


def test_the_next_minor_is_spoken_with_and_what_it_adds_is_kept_and_handed_on(tmp_path: Path) -> None:
    later = NodeProcess(tmp_path / "later", "later", mdns=False, environ=environment(tmp_path / "code", NEXT_MINOR))
    ours, third = (NodeProcess(tmp_path / name, name, mdns=False) for name in ("ours", "third"))
    for _ in running([later, ours, third]):
        ours.start("--open")
        write_lines(tmp_path / "in.jsonl", iter([{"name": f"ours-{n}", "body": n} for n in range(30)]))
        ours.cli("import", str(tmp_path / "in.jsonl"))
        later.start("--open", "--peer", ours.address())
        write_lines(tmp_path / "in.jsonl", iter([{"name": f"later-{n}", "body": n} for n in range(30)]))
        later.cli("import", str(tmp_path / "in.jsonl"))
        later.cli("put", "later-0", "edited")
        wait_for(partial(equal, [later, ours], "main", "identities"))

        # From here on the third node can hear of these records from this version's node only.
        address = later.json("status")["id"]
        assert later.stop() == 0
        third.start("--open", "--peer", ours.address())
        wait_for(partial(equal, [ours, third], "main", "identities"))
        for node in (ours, third):
            theirs = exported(node, "--author", address)
            assert {name: line["later"] for name, line in theirs.items()} == {
                f"me/{name}": later_of(name) for name in [f"later-{n}" for n in range(30)]
            }
            assert not any("later" in line for line in exported(node, "--author", ours.json("status")["id"]).values())
            assert node.json("verify")["ok"] is True

        # A node that does not know the later field writes the records again from the export.
        ours.cli("export", str(tmp_path / "out.jsonl"), "--author", address)
        third.cli("import", str(tmp_path / "out.jsonl"), "-c", "restored")
        wait_for(partial(equal, [ours, third], "restored"))
        restored = exported(ours, "--author", third.json("status")["id"], "-c", "restored")
        assert {name: line["later"] for name, line in restored.items()} == {
            name: line["later"] for name, line in theirs.items()
        }

        # The later node opened its new mode although the hello does not list it. It was refused, the session went on.
        asked = later.events("hologram.refused")
        assert asked
        for answer in asked:
            assert (answer["hello"], answer["reason"]) == ([1, 0], Reason.UNSUPPORTED_MODE)
            assert answer["supported"] == answer["modes"] == list(NAMES)
        assert not ours.events("session.failed") and not later.events("session.failed")


@pytest.mark.parametrize("who_dials", ["this version", "the next"])
def test_the_next_major_is_refused_and_both_sides_say_which_versions_are_spoken(who_dials: str, tmp_path: Path) -> None:
    later = NodeProcess(tmp_path / "later", "later", mdns=False, environ=environment(tmp_path / "code", NEXT_MAJOR))
    ours = NodeProcess(tmp_path / "ours", "ours", mdns=False)
    first, second = (later, ours) if who_dials == "this version" else (ours, later)
    for _ in running([later, ours]):
        first.start("--open")
        first.cli("put", "a", "1")
        second.start("--open", "--peer", first.address())
        for node, other, theirs, own in ((ours, later, "2.0", "1.0"), (later, ours, "1.0", "2.0")):
            (peer,) = wait_for(lambda node=node: node.json("peers")["peers"])
            assert (peer["id"], peer["state"]) == (other.json("status")["id"], "refused")
            assert peer["reason"] == f"it speaks protocol {theirs}, and this node {own}"
            assert peer["reason"] in node.cli("peers").stdout.decode()
            failed, *_ = wait_for(partial(node.events, "session.failed"))
            assert failed["reason"] == Reason.UNSUPPORTED_PROTOCOL.text
            # The node that notices first names both versions, and sends the other its own.
            assert ("it speaks" in failed["detail"]) == (node is second)
            assert (own if node is second else theirs) in failed["detail"].partition("what would do: ")[2]
        assert second.root("main") is None


def test_a_model_is_read_in_the_major_that_the_configuration_names_and_kept_in_any(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path / "a", "a", mdns=False)
    node.home.mkdir()
    (node.home / "config.toml").write_text('models = ["task@1.2"]\n')
    for _ in running([node]):
        node.start("--open")
        assert "reads       task 1.2" in node.cli("status").stdout.decode()
        node.cli("put", "a", "body", "--model", "task@2.0")
        refused = node.cli("get", "a", check=False)
        assert (refused.returncode, refused.stdout) == (1, b"")
        assert "of the model task 2.0, and here task 1.2 is read" in refused.stderr.decode()
        assert node.cli("get", "a", "--any-model").stdout == b"body"
        assert node.json("get", "a", "--any-model")["model_version"] == "2.0"
