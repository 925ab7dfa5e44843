"""The main task on real input: nodes of three machines find each other over mDNS and become equal.

Each change runs it on a slice of the data; ECHO_TEST_SLOW=1 on all of it, about 150,000 characters.
"""

import json
import os
import random
from pathlib import Path

from tests.e2e.data import characters, packages, write_lines
from tests.e2e.processes import NodeProcess, equal, running, wait_for

WHOLE = os.environ.get("ECHO_TEST_SLOW") == "1"
EVERY, PACKAGES, EDITS, SHARED, SETTLE_S = (1, None, 500, 100, 300.0) if WHOLE else (40, 200, 60, 20, 60.0)
CONTEXTS = ("characters", "packages", "main", "identities")


def _import(node: NodeProcess, path: Path, records: list[dict[str, object]], context: str) -> None:
    write_lines(path, iter(records))
    node.cli("import", str(path), "-c", context)


def test_nodes_that_were_apart_become_equal_with_every_conflict_kept_until_resolved(tmp_path: Path) -> None:
    a, b, c = nodes = [NodeProcess(tmp_path / name, name) for name in ("alpha", "beta", "gamma")]
    for _ in running(nodes):
        everything = list(characters(EVERY))
        a.start()
        _import(a, tmp_path / "characters.jsonl", everything, "characters")
        write_lines(tmp_path / "packages.jsonl", packages(PACKAGES))
        a.cli("import", str(tmp_path / "packages.jsonl"), "-c", "packages")

        # B writes a record before it joins, and that record reaches A. C joins empty.
        b.start()
        b.cli("put", "greeting", "written before joining")
        b.cli("join", a.cli("invite").stdout.decode().strip())
        c.start("--join", a.cli("invite").stdout.decode().strip())
        wait_for(lambda: equal(nodes, *CONTEXTS), SETTLE_S)
        greeting = f"{b.json('status')['id']}/greeting"
        assert a.cli("get", greeting).stdout == b"written before joining"
        modes = {(e["context"], e["mode"]) for e in c.events("sync.completed") if e["role"] == "initiator"}
        assert ("characters", "snapshot") in modes
        assert {"mdns"} == {peer["found_by"] for peer in c.json("status")["peers"]}

        # While C is stopped, A edits, deletes and adds its own records, and B adds its own.
        assert c.stop() == 0
        shuffle = random.Random(22)
        chosen = shuffle.sample([str(record["name"]) for record in everything], 2 * EDITS)
        edited = [{"name": n, "body": {"edited": True}, "model": "character"} for n in chosen[:EDITS]]
        added = [{"name": f"added-{n}", "body": f"by a, {n}"} for n in range(EDITS)]
        _import(a, tmp_path / "edited.jsonl", [*edited, *added], "characters")
        for name in chosen[EDITS : EDITS + max(10, EDITS // 10)]:
            a.cli("delete", name, "-c", "characters")
        _import(b, tmp_path / "b.jsonl", [{"name": f"b-{n}", "body": n} for n in range(EDITS)], "characters")
        wait_for(lambda: equal([a, b], *CONTEXTS), SETTLE_S)

        # With A and B cut from each other, both edit the same shared records.
        assert b.stop() == 0
        for node, others in ((a, [b]), (b, [a])):
            if node.is_ended:
                node.start()
            lines = [{"name": f"shared/{n}", "body": f"{node.name} says {n}"} for n in range(SHARED)]
            if node is a:
                _import(a, tmp_path / "shared-a.jsonl", lines, "main")
                assert a.stop() == 0
            else:
                _import(b, tmp_path / "shared-b.jsonl", lines, "main")
            assert all(other.is_ended for other in others)
        a.start()
        c.start()
        wait_for(lambda: equal(nodes, *CONTEXTS), SETTLE_S)
        conflicts = [node.json("conflicts")["conflicts"] for node in nodes]
        assert [len(found) for found in conflicts] == [SHARED] * 3
        winners = [[node.cli("get", f"shared/{n}").stdout for n in range(SHARED)] for node in nodes]
        assert winners[0] == winners[1] == winners[2]

        # One node that holds all versions writes the records again, which ends the conflicts on every node.
        lines = [{"name": f"shared/{n}", "body": "agreed"} for n in range(SHARED)]
        _import(c, tmp_path / "agreed.jsonl", lines, "main")
        wait_for(lambda: equal(nodes, *CONTEXTS), SETTLE_S)
        assert [node.json("conflicts")["conflicts"] for node in nodes] == [[]] * 3
        assert a.cli("get", "shared/0").stdout == b"agreed"
        assert a.cli("sync").returncode == 0
        for node in nodes:
            verdict = json.loads(node.cli("verify", "--json").stdout.splitlines()[-1])
            assert verdict["ok"], verdict
        assert [node.stop() for node in nodes] == [0, 0, 0]
