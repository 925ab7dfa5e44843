"""Two real nodes that never meet exchange through a folder, and end equal; a stopped one writes its file too."""

import json
import shutil
from pathlib import Path

from tests.e2e.processes import NodeProcess, running

VERSION = bytes.fromhex("845826")  # the first bytes of a version


def roots(node: NodeProcess) -> dict[str, str]:
    return {each["name"]: each["root"] for each in node.json("status")["contexts"]}


def test_two_nodes_that_never_meet_become_equal_by_a_stick_that_goes_there_and_back(tmp_path: Path) -> None:
    a, b = (NodeProcess(tmp_path / name, name, mdns=False) for name in "ab")
    here, there = tmp_path / "here", tmp_path / "there"  # the stick, in the one machine and in the other
    here.mkdir()
    for _ in running([a, b]):
        a.start()
        b.cli("network", "set", stdin=a.cli("network", "show").stdout)
        b.start()
        a.cli("import", "-", "-c", "books", stdin=b"".join(b'{"name": "n%d"}\n' % number for number in range(1500)))
        for node in (a, b):
            node.cli("put", "shared/plan", f"plan of {node.name}")

        a.cli("sync", "--path", str(here))
        shutil.move(here, there)
        done = b.cli("sync", "--path", str(there), check=False)
        assert done.returncode == 3 and b"1 record in conflict" in done.stderr, "as over the wire"
        shutil.move(there, here)
        back = a.cli("sync", "--path", str(here), "--json", check=False)
        (row,) = json.loads(back.stdout)["taken"]
        assert (row["is_equal"], row["refused"], back.returncode) == (True, 0, 3)
        assert roots(a) == roots(b) and set(roots(a)) == {"identities", "main", "books"}

        b.cli("put", "shared/plan", "agreed")
        b.cli("sync", "--path", str(here))
        a.cli("sync", "--path", str(here))
        assert a.cli("get", "shared/plan").stdout == b"agreed"
        me = a.events("node.started")[0]["id"]
        assert b.cli("get", f"{me}/n7", "-c", "books").stdout == b""
        assert a.events("peer.connected") == b.events("peer.connected") == []

        a.cli("export", "--signed", str(tmp_path / "running.echo"))
        assert a.stop() == 0
        a.cli("export", "--signed", str(tmp_path / "stopped.echo"))
        running_file, stopped_file = ((tmp_path / f"{each}.echo").read_bytes() for each in ("running", "stopped"))
        assert running_file.partition(VERSION)[2] == stopped_file.partition(VERSION)[2], "but for the name"
        assert b" 0 versions new" in b.cli("import", "--signed", str(tmp_path / "stopped.echo")).stderr
