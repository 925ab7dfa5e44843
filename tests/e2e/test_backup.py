"""Backups of real nodes: made while they run, restored beside a peer that saw more, scheduled, damaged."""

import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from tests.e2e.processes import NodeProcess, equal, running, wait_for


def test_a_restored_node_takes_back_what_it_wrote_since_before_it_writes(tmp_path: Path) -> None:
    ours, theirs = (NodeProcess(tmp_path / name, name, mdns=False) for name in ("ours", "theirs"))
    restored = NodeProcess(tmp_path / "new place", "ours", mdns=False)
    for _ in running([ours, theirs, restored]):
        theirs.start()
        code = theirs.json("invite")["code"]
        ours.start("--join", code, "--at", theirs.address())
        ours.cli("put", "kept", "1")
        ours.cli("put", "edited", "before")
        ours.cli("put", "shared/list", "before")
        backup = tmp_path / "ours.backup"
        done = ours.cli("backup", str(backup))
        assert b"opened again and verified" in done.stderr
        assert backup.stat().st_mode & 0o777 == 0o600
        before = ours.json("status")
        ours.cli("put", "edited", "since")
        ours.cli("put", "later", "since")
        wait_for(lambda: equal([ours, theirs], "main"))
        address = ours.address()
        assert ours.stop(kill=True) == -9
        shutil.rmtree(ours.home)

        told = restored.cli("restore", str(backup))
        assert told.stdout.decode().strip() == str(restored.home)
        refused = restored.cli("restore", str(backup), check=False)
        assert refused.returncode == 2
        assert b"there is a node in" in refused.stderr
        restored.start("--peer", theirs.address(), listen=address)
        restored.cli("put", "edited", "after")  # at once: it waits for what the peer has
        after = restored.json("status")
        assert (after["id"], after["network"]) == (before["id"], before["network"])
        assert after["instance"] != before["instance"]
        assert restored.cli("get", "later").stdout == b"since"
        wait_for(lambda: equal([restored, theirs], "main"))
        for node in (restored, theirs):
            assert node.json("conflicts")["conflicts"] == []
        assert [event["peers"] for event in restored.events("node.caught_up")] == [1]
        assert not (restored.home / "restored").exists()
        restored.cli("verify")


def test_a_backup_under_load_is_one_moment_of_the_store_and_replaces_the_last_one_whole(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path / "home", "node", mdns=False)
    lines = tmp_path / "many.jsonl"
    lines.write_text("".join(json.dumps({"name": f"r{number}", "body": "x" * 200}) + "\n" for number in range(6_000)))
    backup, restored = tmp_path / "node.backup", NodeProcess(tmp_path / "restored", "restored", mdns=False)
    for _ in running([node]):
        node.start()
        load = threading.Thread(target=node.cli, args=("import", str(lines)))
        load.start()
        wait_for(lambda: node.root("main"))
        sizes = []
        while load.is_alive():
            node.cli("backup", str(backup))
            sizes.append(backup.stat().st_size)
        load.join()
        assert sizes
        assert sizes == sorted(sizes)
        assert [path.name for path in tmp_path.iterdir() if ".backup" in path.name] == ["node.backup"]
        with backup.open("r+b") as file:  # one flipped bit in a version
            data = file.read()
            file.seek(data.index(b"x" * 200) + 100)
            file.write(b"y")
        refused = restored.cli("restore", str(backup), check=False)
        assert refused.returncode == 1
        assert b"the copy is not whole" in refused.stderr
        assert not [path for path in restored.home.rglob("*") if path.is_file() and path.name != "lock"]
        assert node.cli("backup", str(backup)).returncode == 0
        restored.cli("restore", str(backup))
        names = {each["name"]: each["records"] for each in restored.json("contexts")["contexts"]}
        assert names["main"] == 6_000


def test_backups_are_made_when_due_and_the_oldest_go(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path / "home", "node", mdns=False)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    beginning = node.start().json("status")["id"][:8]
    node.stop()
    (node.home / "config.toml").write_text(f'[backup]\nevery = "1h"\nkeep = 2\nfolder = "{folder}"\n')
    for age in (3, 4, 5):  # hours: one is due, and two too many are there
        old = folder / f"echonode-{beginning}-{age}.backup"
        old.write_bytes(b"")
        os.utime(old, (time.time() - 3600 * age,) * 2)
    others = {"mine.txt", "echonode-zzzzzzzz-6.backup"}
    for name in others:
        (folder / name).write_text("not a backup of this node")
    for _ in running([node]):
        node.start()
        (written,) = wait_for(lambda: node.events("backup.written"))
        assert written["deleted"] == 2
        assert Path(written["path"]).stat().st_size == written["bytes"] > 0
        kept = {path.name for path in folder.iterdir()}
        assert kept == {f"echonode-{beginning}-3.backup", *others, Path(written["path"]).name}
    other = NodeProcess(tmp_path / "other", "other", mdns=False)
    other.cli("restore", written["path"])
    assert other.cli("status", check=False).returncode == 5


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("config.toml", b"not an echonode store"),
        ("store.db", b"a store, and no backup"),
        ("nothing", b"there is no file"),
    ],
)
def test_what_is_no_backup_is_refused_in_a_sentence(name: str, reason: bytes, tmp_path: Path) -> None:
    node = NodeProcess(tmp_path / "home", "node", mdns=False)
    for _ in running([node]):
        node.start()
    (node.home / "config.toml").write_text("# nothing\n")
    other = NodeProcess(tmp_path / "other", "other", mdns=False)
    refused = other.cli("restore", str(node.home / name), check=False)
    assert refused.returncode in (1, 2)
    assert reason in b" ".join(refused.stderr.split())
    assert not (other.home / "store.db").exists()
