"""A LAN of five hosts, and what happens to it: cables, addresses, interfaces, sleep, partitions, loss, neighbours.

One network of nodes serves most tests of this file. Each leaves it whole, and asks `status` of the nodes for the truth.
Times are printed (pytest -s), not judged: the machine may be busy.
"""

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from echonode.host.tcp import DEFAULT_PORT
from tests.e2e.avahi import avahi_on
from tests.e2e.hosts import Host, lan
from tests.e2e.processes import NodeProcess, equal, running, wait_for

pytestmark = pytest.mark.root

EVERYWHERE = f"0.0.0.0:{DEFAULT_PORT}"
HOSTS = 5
CROWD = 20 if os.environ.get("ECHO_TEST_SLOW") else 10
DIALS_A_PAIR_MAX = 6  # a machine that is busy with many starts answers late, and is asked again
_CHAIN = "table inet {0} {{\n chain c {{\n  type filter hook input priority 0\n  {1}\n }}\n}}\n"


@dataclass
class Lan:
    """Hosts, and the node on each."""

    hosts: Sequence[Host]
    nodes: Sequence[NodeProcess]

    def start(self, nodes: Sequence[NodeProcess] = ()) -> None:
        """Start nodes at once, all or those named, and wait for their sockets."""
        nodes = nodes or self.nodes
        sockets = [node.home / "api.sock" for node in nodes]
        for node, socket in zip(nodes, sockets, strict=True):
            socket.unlink(missing_ok=True)  # a killed node leaves it
            node.lines.clear()
        for node in nodes:
            node.spawn("--open", listen=EVERYWHERE)
        wait_for(lambda: all(socket.exists() for socket in sockets))

    def discovery_s(self) -> float | None:
        """Return the seconds from the start of the last node until each had seen all others; None before that."""
        began_s, seen_s = [], []
        for node, own in zip(self.nodes, self.hosts, strict=True):
            sightings = {each["address"].partition(":")[0]: time_of(each) for each in node.events("peer.sighted")}
            others = {host.ip for host in self.hosts if host != own}
            if not node.events("node.started") or not others <= sightings.keys():
                return None
            began_s.append(time_of(node.events("node.started")[0]))
            seen_s.append(max(sightings[ip] for ip in others))
        return max(seen_s) - max(began_s)

    def is_equal(self) -> bool:
        """Return True once each node knows all others to be there, and all hold the same."""
        states = [node.status() for node in self.nodes]
        roots = {context["root"] for state in states for context in state["contexts"] if context["name"] == "main"}
        return len(roots) == 1 and all(
            sum(peer["state"] in ("connected", "reachable") for peer in state["peers"]) == len(self.nodes) - 1
            for state in states
        )

    def is_whole(self) -> bool:
        """Return True once each node knows all others to be connected, and all hold the same."""
        return all(
            sum(peer["state"] == "connected" for peer in node.status()["peers"]) == HOSTS - 1
            for node in self.nodes
        ) and equal(list(self.nodes), "main", "identities")


def time_of(line: dict[str, Any]) -> float:
    """Return when a log line was written."""
    return datetime.fromisoformat(line["time"]).timestamp()


def node_on(host: Host, home: Path, name: str) -> NodeProcess:
    return NodeProcess(home, name, interfaces=(), prefix=host.prefix)


@pytest.fixture(scope="module")
def network() -> Iterator[Lan]:
    with tempfile.TemporaryDirectory() as folder, lan(HOSTS) as hosts:
        nodes = [node_on(host, Path(folder) / str(number), f"n{number}") for number, host in enumerate(hosts)]
        for _ in running(nodes):
            made = Lan(hosts, nodes)
            made.start()
            print(f"{HOSTS} nodes: each saw all others {wait_for(made.discovery_s):.1f} s after the last was up")
            nodes[0].cli("put", "first", "1")
            wait_for(made.is_whole)
            yield made


def seen(node: NodeProcess, other: str) -> dict[str, Any]:
    """Return what `node` says of the peer of that name."""
    (peer,) = (peer for peer in node.status()["peers"] if peer["name"] == other)
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


@contextmanager
def parted(network: Lan) -> Iterator[None]:
    """Keep the first two hosts from the other three."""
    others = "ip saddr { 10.77.88.12, 10.77.88.13, 10.77.88.14 } drop"
    with ExitStack() as stack:
        for host in network.hosts[:2]:
            stack.enter_context(rule(host, "cut", others, "ip6 saddr fe80::/10 drop"))
        yield


def test_a_pulled_cable_is_noticed_and_a_new_address_is_used_at_once_also_by_a_node_that_slept(network: Lan) -> None:
    first, moved, host, sleeper = network.nodes[0], network.nodes[1], network.hosts[1], network.nodes[4]
    sleeper.signal(signal.SIGSTOP)
    host.ip_command("link", "set", "eth0", "down")
    first.cli("put", "while apart", "1")
    moved.cli("put", "on the other side", "1")
    wait_for(lambda: seen(first, "n1")["state"] == "absent", 45)
    assert seen(first, "n1")["in_sync"] is not True
    wait_for(lambda: seen(first, "n4")["state"] == "absent", 45)  # it says nothing, as a machine that sleeps
    host.ip_command("addr", "flush", "dev", "eth0")
    host.ip_command("addr", "add", "10.77.88.99/24", "dev", "eth0")
    host.ip_command("link", "set", "eth0", "up")
    wait_for(lambda: equal([first, moved], "main"))
    sleeper.signal(signal.SIGCONT)
    wait_for(network.is_whole)
    for node in (first, sleeper):
        assert seen(node, "n1")["address"].startswith("10.77.88.99:")


def test_a_partition_is_shown_and_heals(network: Lan) -> None:
    first, far = network.nodes[0], network.nodes[3]
    with parted(network):
        wait_for(lambda: seen(first, "n3")["state"] == seen(far, "n0")["state"] == "absent", 45)
        first.cli("put", "here", "1")
        far.cli("put", "there", "1")
        wait_for(lambda: equal([first, network.nodes[1]], "main"))
        assert seen(first, "n1")["state"] == "connected"
        assert not equal([first, far], "main")
    wait_for(network.is_whole)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("ECHO_TEST_SLOW"), reason="takes ten minutes; run it with ECHO_TEST_SLOW=1")
def test_a_partition_of_ten_minutes_heals_within_ten_seconds(network: Lan) -> None:
    first, far = network.nodes[0], network.nodes[3]
    with parted(network):
        threading.Event().wait(600)
        assert seen(first, "n3")["state"] == seen(far, "n0")["state"] == "absent"
        first.cli("put", "ten minutes here", "1")
        far.cli("put", "ten minutes there", "1")
    healed_s = time.monotonic()
    wait_for(lambda: equal(list(network.nodes), "main"), 10)
    print(f"equal {time.monotonic() - healed_s:.1f} s after a partition of ten minutes")
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


def test_avahi_on_the_host_of_a_node_resolves_every_node_of_the_lan(network: Lan, tmp_path: Path) -> None:
    unmoved = {host.ip for host in network.hosts if host is not network.hosts[1]}
    with avahi_on(network.hosts[4], tmp_path) as avahi:
        found = wait_for(lambda: len(services := avahi.resolved()) >= HOSTS and services)
    assert {port for *_, port, _ in found} == {str(DEFAULT_PORT)}
    assert unmoved < {address for *_, address, _, _ in found}
    assert all('"txtvers=1"' in txt for *_, txt in found)


def test_a_third_of_all_packets_may_be_lost(network: Lan) -> None:
    loss = "numgen random mod 100 < 30 drop"
    with rule(network.hosts[0], "loss", loss), rule(network.hosts[2], "loss", loss):
        for node in network.nodes:
            node.cli("put", "in the rain", "1")
        wait_for(lambda: equal(list(network.nodes), "main"))
    wait_for(network.is_whole)


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


def test_where_mdns_is_blocked_remembered_addresses_and_static_peers_lead_to_each_other_and_doctor_says_so(
    network: Lan, tmp_path: Path
) -> None:
    first = network.nodes[0]
    with ExitStack() as stack:
        for each in network.hosts:
            stack.enter_context(rule(each, "deaf", "udp dport 5353 drop"))
        for node in network.nodes[:2]:
            node.stop(kill=True)
        network.start(network.nodes[:2])
        wait_for(network.is_whole)
        assert not first.events("peer.sighted")
        strangers = [node_on(each, tmp_path / each.namespace, f"new-{number}") for number, each in
                     enumerate(network.hosts[:2])]
        for _ in running(strangers):
            strangers[0].start("--open", "--peer", f"{network.hosts[2].ip}:{DEFAULT_PORT}", listen="0.0.0.0:22097")
            strangers[1].start("--open", listen="0.0.0.0:22097")
            wait_for(lambda: equal([first, strangers[0]], "main"))
            assert seen(strangers[0], "n2")["state"] == "connected"
            assert strangers[1].status()["peers"] == []
            doctor = [*network.hosts[1].prefix, *strangers[1].command("doctor", "--json")]
            said = subprocess.run(doctor, capture_output=True, check=False).stdout
            found = [json.loads(line) for line in said.splitlines()]
        (peers,) = (check for check in found if check["area"] == "peers")
        assert (peers["verdict"], peers["text"]) == ("warning", "no other node of this network was seen")
        (mdns,) = (check for check in found if check["area"] == "mdns")
        assert mdns["verdict"] == "error" and "what is sent there does not come back" in mdns["text"]
        assert "let UDP port 5353" in mdns["what_to_do"]
    wait_for(network.is_whole)


def test_two_hosts_with_ipv6_alone_meet_by_their_link_local_addresses(tmp_path: Path) -> None:
    with lan(2, "el") as hosts:
        for number, host in enumerate(hosts):
            host.ip_command("addr", "flush", "dev", "eth0", "scope", "global")
            host.ip_command("addr", "add", f"fd77::{number + 1}/64", "dev", "eth0", "nodad")
        nodes = [node_on(host, tmp_path / host.namespace, f"n{number}") for number, host in enumerate(hosts)]
        for _ in running(nodes):
            for node in nodes:
                node.start("--open", listen=f"[::]:{DEFAULT_PORT}")
            nodes[0].cli("put", "hello", "1")
            wait_for(lambda: equal(nodes, "main"))
            assert seen(nodes[0], "n1")["address"].startswith("[fe80::")


def test_many_nodes_that_start_at_once_and_again_find_each_other_with_few_dials_and_are_equal(tmp_path: Path) -> None:
    with lan(CROWD, "es") as hosts, ExitStack() as stack:
        for host in hosts:
            stack.enter_context(rule(host, "dials", f"tcp dport {DEFAULT_PORT} tcp flags & (syn|ack) == syn counter"))
        nodes = [node_on(host, tmp_path / host.namespace, f"n{number}") for number, host in enumerate(hosts)]
        crowd = Lan(hosts, nodes)
        for _ in running(nodes):
            crowd.start()
            found_s = wait_for(crowd.discovery_s)
            for round_number in (1, 2):
                up_s = time.monotonic()
                nodes[round_number].cli("put", "hello", "1")
                wait_for(crowd.is_equal)
                dials = sum(map(dials_to, hosts))
                equal_s = time.monotonic() - up_s
                print(f"{CROWD} nodes: each saw all others after {found_s:.1f} s, equal {equal_s:.1f} s, {dials} dials")
                assert dials <= round_number * DIALS_A_PAIR_MAX * CROWD * (CROWD - 1) / 2
                assert all(len(node.events("peer.connected")) < 2 * CROWD for node in nodes)
                assert not any(broken(node) for node in nodes)
                if round_number == 1:
                    for node in nodes:
                        node.stop(kill=True)
                    crowd.start()


def dials_to(host: Host) -> int:
    """Return how many connections were begun to a host under the rule `dials`."""
    asked = [*host.prefix, "nft", "-j", "list", "table", "inet", "dials"]
    listed = json.loads(subprocess.run(asked, check=True, capture_output=True).stdout)["nftables"]
    parts = [part for each in listed if "rule" in each for part in each["rule"]["expr"]]
    return sum(part["counter"]["packets"] for part in parts if "counter" in part)
