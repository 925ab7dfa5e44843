"""A LAN of five hosts, and what happens to it: cables, addresses, interfaces, partitions, loss, power cuts, neighbours.

One network of nodes serves all tests of this file. Each leaves it whole, and asks `status` of the nodes for the truth.
"""

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from echonode.host.tcp import DEFAULT_PORT
from tests.e2e.hosts import Host, lan
from tests.e2e.processes import NodeProcess, equal, running, wait_for

pytestmark = pytest.mark.root

EVERYWHERE = f"0.0.0.0:{DEFAULT_PORT}"
HOSTS = 5
_CHAIN = "table inet {0} {{\n chain c {{\n  type filter hook input priority 0\n  {1}\n }}\n}}\n"


@dataclass
class Lan:
    """Hosts, and the node on each."""

    hosts: Sequence[Host]
    nodes: Sequence[NodeProcess]

    def start(self) -> None:
        """Start all nodes at once, and wait for their sockets: commands in a loop would take the processor."""
        sockets = [node.home / "api.sock" for node in self.nodes]
        for socket in sockets:
            socket.unlink(missing_ok=True)  # a killed node leaves it
        for node in self.nodes:
            node.spawn("--open", listen=EVERYWHERE)
        wait_for(lambda: all(socket.exists() for socket in sockets))

    def is_whole(self) -> bool:
        """Return True once each node knows all others to be connected, and all hold the same."""
        return all(
            sum(peer["state"] == "connected" for peer in node.json("peers")["peers"]) == HOSTS - 1
            for node in self.nodes
        ) and equal(list(self.nodes), "main", "identities")


def node_on(host: Host, home: Path, name: str) -> NodeProcess:
    return NodeProcess(home, name, interfaces=(), prefix=host.prefix)


@pytest.fixture(scope="module")
def network() -> Iterator[Lan]:
    with tempfile.TemporaryDirectory() as folder, lan(HOSTS) as hosts:
        nodes = [node_on(host, Path(folder) / str(number), f"n{number}") for number, host in enumerate(hosts)]
        for _ in running(nodes):
            made = Lan(hosts, nodes)
            made.start()
            nodes[0].cli("put", "first", "1")
            wait_for(made.is_whole)
            yield made


def seen(node: NodeProcess, other: str) -> dict[str, Any]:
    """Return what `node` says of the peer of that name."""
    (peer,) = (peer for peer in node.json("peers")["peers"] if peer["name"] == other)
    return dict(peer)


def broken(node: NodeProcess) -> list[dict[str, Any]]:
    """Return the sessions that ended for another reason than a lost connection."""
    return [each for each in node.events("session.failed") if each["reason"] != "transport"]


@contextmanager
def rule(host: Host, name: str, *statements: str) -> Iterator[None]:
    """Filter what arrives at `host`."""
    nft = [*host.prefix, "nft", "-f", "-"]
    subprocess.run(nft, input=_CHAIN.format(name, "\n  ".join(statements)).encode(), check=True)
    try:
        yield
    finally:
        subprocess.run(nft, input=f"delete table inet {name}\n".encode(), check=True)


def test_a_pulled_cable_is_noticed_and_a_new_address_is_used_at_once(network: Lan) -> None:
    first, moved, host = network.nodes[0], network.nodes[1], network.hosts[1]
    host.ip_command("link", "set", "eth0", "down")
    first.cli("put", "while apart", "1")
    moved.cli("put", "on the other side", "1")
    wait_for(lambda: seen(first, "n1")["state"] == "absent", 45)
    assert seen(first, "n1")["in_sync"] is not True
    host.ip_command("addr", "flush", "dev", "eth0")
    host.ip_command("addr", "add", "10.77.88.99/24", "dev", "eth0")
    host.ip_command("link", "set", "eth0", "up")
    wait_for(network.is_whole)
    assert seen(first, "n1")["address"].startswith("10.77.88.99:")


def test_a_partition_is_shown_and_heals(network: Lan) -> None:
    first, far = network.nodes[0], network.nodes[3]
    others = "ip saddr { 10.77.88.12, 10.77.88.13, 10.77.88.14 } drop"
    with ExitStack() as stack:
        for host in network.hosts[:2]:
            stack.enter_context(rule(host, "cut", others, "ip6 saddr fe80::/10 drop"))
        wait_for(lambda: seen(first, "n3")["state"] == seen(far, "n0")["state"] == "absent", 45)
        first.cli("put", "here", "1")
        far.cli("put", "there", "1")
        wait_for(lambda: equal([first, network.nodes[1]], "main"))
        assert seen(first, "n1")["state"] == "connected"
        assert not equal([first, far], "main")
    wait_for(network.is_whole)


def test_a_second_interface_takes_over(network: Lan) -> None:
    (first, second), (here, there) = network.nodes[:2], network.hosts[:2]
    here.ip_command("link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", there.namespace)
    for host, address in ((here, "10.77.99.1/24"), (there, "10.77.99.2/24")):
        host.ip_command("addr", "add", address, "dev", "eth1")
        host.ip_command("link", "set", "eth1", "up")
    here.ip_command("link", "set", "eth0", "down")
    try:
        wait_for(lambda: seen(first, "n1")["address"].startswith("10.77.99.2:"))
        first.cli("put", "by another way", "1")
        wait_for(lambda: equal([first, second], "main"))
    finally:
        here.ip_command("link", "set", "eth0", "up")
        here.ip_command("route", "replace", "default", "via", "10.77.88.1")
        here.ip_command("link", "del", "eth1")
    wait_for(network.is_whole)


def test_a_third_of_all_packets_may_be_lost(network: Lan) -> None:
    loss = "numgen random mod 100 < 30 drop"
    with rule(network.hosts[0], "loss", loss), rule(network.hosts[2], "loss", loss):
        for node in network.nodes:
            node.cli("put", "in the rain", "1")
        wait_for(lambda: equal(list(network.nodes), "main"))
    wait_for(network.is_whole)


def test_after_a_power_cut_all_start_at_once_and_are_whole_again(network: Lan) -> None:
    for node in network.nodes:
        node.stop(kill=True)
    network.start()
    wait_for(network.is_whole)
    assert not any(broken(node) for node in network.nodes)


def test_two_networks_on_one_lan_leave_each_other_alone(network: Lan, tmp_path: Path) -> None:
    private = [node_on(host, tmp_path / host.namespace, f"private-{number}") for number, host in
               enumerate(network.hosts[:2])]
    for _ in running(private):
        private[0].start(listen="0.0.0.0:22097")
        secret = private[0].json("network", "show")["secret"]
        private[1].cli("network", "set", stdin=secret.encode())
        private[1].start(listen="0.0.0.0:22097")
        private[0].cli("put", "ours", "1")
        wait_for(lambda: equal(private, "main"))
        wait_for(lambda: any(not each["same_network"] for each in private[0].events("peer.sighted")))
        for node, others in ((private[0], ["private-1"]), (network.nodes[0], ["n1", "n2", "n3", "n4"])):
            assert sorted(peer["name"] for peer in node.json("peers")["peers"] if peer["id"]) == others
        assert not broken(private[0])


def test_two_hosts_that_have_link_local_addresses_alone_meet(tmp_path: Path) -> None:
    with lan(2, "el") as hosts:
        for host in hosts:
            host.ip_command("addr", "flush", "dev", "eth0", "scope", "global")
        nodes = [node_on(host, tmp_path / host.namespace, f"n{number}") for number, host in enumerate(hosts)]
        for _ in running(nodes):
            for node in nodes:
                node.start("--open", listen=f"[::]:{DEFAULT_PORT}")
            nodes[0].cli("put", "hello", "1")
            wait_for(lambda: equal(nodes, "main"))
            assert seen(nodes[0], "n1")["address"].startswith("[fe80::")
