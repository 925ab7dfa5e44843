"""Peers that fall silent: a process that is stopped, and a link over which nothing passes. The node notices, gives them
up and serves all other peers; when they are back, all nodes become equal.
"""

import json
import signal
from pathlib import Path

import pytest

from tests.e2e.data import write_lines
from tests.e2e.processes import NodeProcess, equal, running, wait_for
from tests.faults.rooted import command, star
from tests.faults.test_kill import NETWORK_SECRET

RECORDS = 600
_PORT = 4100


def state_of(node: NodeProcess, name: str) -> str:
    """Return the state in which `node` sees the peer called `name`."""
    found = [peer["state"] for peer in node.json("peers")["peers"] if peer["name"] == name]
    return str(found[0]) if found else "unknown"


def lost_by(node: NodeProcess) -> list[object]:
    """Return the ids of the peers whose sessions with `node` ended because nothing passed."""
    return [event["peer"] for event in node.events("session.failed") if event["reason"] == "transport"]


@pytest.mark.root
def test_silent_peers_are_given_up_and_the_others_go_on(tmp_path: Path) -> None:
    with star(2) as net:
        hub = net.inside(net.hub)
        a = NodeProcess(tmp_path / "anna", "anna", mdns=False, prefix=hub)
        near = NodeProcess(tmp_path / "dora", "dora", mdns=False, prefix=hub)
        stopped = NodeProcess(tmp_path / "bert", "bert", mdns=False, prefix=net.inside(net.leaves[0]))
        cut = NodeProcess(tmp_path / "cleo", "cleo", mdns=False, prefix=net.inside(net.leaves[1]))
        nodes = [a, near, stopped, cut]
        for _ in running(nodes):
            for node in nodes:
                node.cli("network", "set", NETWORK_SECRET)
            a.start(listen=f"0.0.0.0:{_PORT}")
            write_lines(tmp_path / "lines", ({"name": f"n{n}", "body": "x" * 8000} for n in range(RECORDS)))
            a.cli("import", str(tmp_path / "lines"))
            # 3 MB at 4 Mbit/s: the link is cut in the middle of it.
            tc = (*hub, "tc", "qdisc")
            command(*tc, "add", "dev", "v1", "root", "tbf", "rate", "4mbit", "burst", "20k", "latency", "1s")
            stopped.start("--peer", f"{net.address(0)}:{_PORT}", listen=f"0.0.0.0:{_PORT}")
            cut.start("--peer", f"{net.address(1)}:{_PORT}", listen=f"0.0.0.0:{_PORT}")
            wait_for(lambda: state_of(a, "cleo") == "connected")
            ids = {node.name: node.json("status")["id"] for node in (stopped, cut)}
            net.cut(1)
            wait_for(lambda: equal([a, stopped], "main"))
            stopped.signal(signal.SIGSTOP)

            near.start("--peer", f"127.0.0.1:{_PORT}", listen=f"127.0.0.1:{_PORT + 1}")
            ids["dora"] = near.json("status")["id"]
            a.cli("put", "meanwhile", "written meanwhile")
            wait_for(lambda: equal([a, near], "main", "identities"))
            wait_for(lambda: state_of(a, "cleo") != "connected")
            wait_for(lambda lost=ids["cleo"]: lost in lost_by(a))  # FRAME_TIMEOUT_S after the last byte
            asked = a.cli("sync", "--json", check=False)
            verified = {peer["id"]: peer["verified"] for peer in json.loads(asked.stdout)["peers"]}
            assert (asked.returncode, verified[ids["dora"]], verified[ids["bert"]]) == (3, True, False)

            stopped.signal(signal.SIGCONT)
            net.mend(1)
            command(*tc, "delete", "dev", "v1", "root")
            for node in (stopped, cut):
                node.cli("sync", check=False)  # do not wait for their back-off
            wait_for(lambda: equal(nodes, "main", "identities"))
