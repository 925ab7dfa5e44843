"""kill -9 under load, a real node with a real peer: no acknowledged write is lost, and both end equal."""

import os
import random
import socket
from pathlib import Path

from echonode.model.member_secret import MemberSecret
from tests.e2e.processes import NodeProcess, equal, running, wait_for
from tests.faults.load import Load, lost

ROUNDS = 1000 if os.environ.get("ECHO_TEST_SLOW") else 10
NETWORK_SECRET = MemberSecret.from_bytes(bytes(64)).to_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def joined(folder: Path, *names: str) -> list[NodeProcess]:
    """Return nodes of one network that are not started."""
    nodes = [NodeProcess(folder / name, name, mdns=False) for name in names]
    for node in nodes:
        node.cli("network", "set", NETWORK_SECRET)
    return nodes


def test_a_killed_node_holds_what_it_acknowledged(tmp_path: Path) -> None:
    rng = random.Random(1)
    a, b = nodes = joined(tmp_path, "anna", "bert")
    at = {node.name: f"127.0.0.1:{free_port()}" for node in nodes}
    load = Load(a)
    for _ in running(nodes):
        for node, other in ((a, b), (b, a)):
            node.start("--peer", at[other.name], listen=at[node.name])
        for round_ in range(ROUNDS):
            load.start()
            load.wait_for(rng.randrange(20, 200))
            victim, other = (a, b) if round_ % 3 else (b, a)  # the node that is written to, or the one that receives
            victim.stop(kill=True)
            load.stop()
            victim.start("--peer", at[other.name], listen=at[victim.name])
            assert lost(a, load.acknowledged) == [], f"round {round_}"
        assert load.refusals == []
        wait_for(lambda: equal(nodes, "main", "identities"))
        assert lost(b, load.acknowledged) == []
        for node in nodes:
            assert node.json("verify")["ok"]
