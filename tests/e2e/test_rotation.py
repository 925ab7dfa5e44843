"""The network secret is rotated without one node, by the command line: it stays behind, and the others go on."""

from pathlib import Path

from tests.e2e.processes import NodeProcess, equal, running, wait_for
from tests.faults.test_kill import NETWORK_SECRET


def said(node: NodeProcess, *arguments: str) -> str:
    """Return what a command printed, errors too, whether it succeeded or not."""
    done = node.cli(*arguments, check=False)
    return (done.stdout + done.stderr).decode()


def network_of(node: NodeProcess) -> str:
    return str(node.json("status")["network"])


def test_a_node_that_a_rotation_leaves_out_is_told_and_the_others_go_on_with_shared(tmp_path: Path) -> None:
    a, b, out = nodes = [NodeProcess(tmp_path / name, name, mdns=False) for name in ("a", "b", "out")]
    for _ in running(nodes):
        for node in nodes:
            node.cli("network", "set", stdin=NETWORK_SECRET.encode())
        a.start()
        at = a.address()
        b.start("--peer", at)
        out.start("--peer", at)
        for node in nodes:
            node.cli("put", f"shared/{node.name}", node.name)
        wait_for(lambda: equal(nodes, "main"))
        assert "is known as nobody" in said(a, "network", "rotate", "--without", "nobody")
        assert b.stop() == 0  # off while the secret changes

        report = a.json("network", "rotate", "--without", "out")
        assert (report["copied"], report["without"]) == (2, ["@out"])
        assert NETWORK_SECRET not in said(a, "network", "show")
        wait_for(lambda: "rotated without this node, says @a" in " ".join(said(out, "status").split()))
        assert out.events("network.left_out")

        b.start("--peer", at)
        wait_for(lambda: network_of(b) == network_of(a) and equal([a, b], "main"))
        b.cli("put", "shared/new", "after")
        wait_for(lambda: said(a, "get", "shared/new") == "after")
        assert said(a, "get", f"@{report['past_pool']}/out") == "out"
        assert "there is no record" in said(a, "get", "shared/out")
        assert "there is no record" in said(out, "get", "shared/new")
        a.cli("network", "rotate")
        assert network_of(a) != report["network"]
        wait_for(lambda: network_of(a) == network_of(b))
