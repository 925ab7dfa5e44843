"""Hosts on a LAN meet: with equal names and equal bridge addresses, over restarts, late, and when one is a copy."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from echonode.host.tcp import DEFAULT_PORT
from tests.e2e.hosts import Host, lan
from tests.e2e.processes import NodeProcess, code_in, equal, running, wait_for

EVERYWHERE = f"0.0.0.0:{DEFAULT_PORT}"


def node_on(host: Host, home: Path, name: str, *, mdns: bool = True) -> NodeProcess:
    return NodeProcess(home, name, mdns=mdns, interfaces=(), prefix=host.prefix)


def linked(nodes: Sequence[NodeProcess]) -> bool:
    """Return True once each node is connected with all the others."""
    return all(
        sum(peer["state"] == "connected" for peer in node.json("peers")["peers"]) == len(nodes) - 1 for node in nodes
    )


def test_three_hosts_of_one_name_behind_the_same_bridge_address_meet_and_meet_again_without_discovery(
    tmp_path: Path,
) -> None:
    with lan(3) as hosts:
        for host in hosts:
            host.add_container_bridge()
        nodes = [node_on(host, tmp_path / host.namespace, "raspberrypi") for host in hosts]
        for _ in running(nodes):
            first, *others = nodes
            first.start(listen=EVERYWHERE)
            code = code_in(first.cli("invite", "--uses", "2").stdout.decode())
            for node in others:
                node.start("--join", code, listen=EVERYWHERE)
            wait_for(lambda: linked(nodes))
            for number, node in enumerate(nodes):
                node.cli("put", f"shared/from-{number}", "hello")
            wait_for(lambda: equal(nodes, "main", "identities"))
            for node in nodes:
                labels = [peer["label"] for peer in node.json("peers")["peers"]]
                assert len(set(labels)) == 2 and all(label.startswith("raspberrypi @") for label in labels)
                node.cli("sync", "--node-id", labels[0])
                assert not node.events("node.copy_seen") and not node.events("session.failed")
            for node in nodes:
                node.stop()
        again = [node_on(host, tmp_path / host.namespace, "raspberrypi", mdns=False) for host in hosts]
        for _ in running(again):
            for node in again:
                node.start(listen=EVERYWHERE)
                assert "2 peers known" in node.cli("status").stdout.decode()
            again[0].cli("put", "shared/after", "hello")
            wait_for(lambda: equal(again, "main"), 30)


def test_a_configured_peer_that_comes_late_is_named_until_then_and_synced_with_at_once(tmp_path: Path) -> None:
    with lan(2) as (here, there):
        ours, theirs = (node_on(host, tmp_path / host.namespace, name, mdns=False)
                        for host, name in ((here, "ours"), (there, "theirs")))
        for _ in running([ours, theirs]):
            theirs.start(listen=EVERYWHERE)
            code, address = code_in(theirs.cli("invite").stdout.decode()), f"{there.ip}:{DEFAULT_PORT}"
            ours.start("--join", code, "--at", address, listen=EVERYWHERE)
            wait_for(lambda: linked([ours, theirs]))
            ours.stop()
            theirs.stop()
            ours.start("--peer", address, listen=EVERYWHERE)
            wait_for(lambda: ours.events("peer.unreachable"))
            (peer,) = ours.json("peers")["peers"]
            assert (peer["name"], peer["state"], peer["address"]) == ("theirs", "absent", address)
            assert "theirs" in ours.cli("sync", check=False).stdout.decode()
            theirs.start(listen=EVERYWHERE)
            ours.cli("sync")
            wait_for(lambda: linked([ours, theirs]), 10)
            assert len(ours.events("peer.unreachable")) == 1


def test_a_copy_of_a_node_is_named_with_its_place(tmp_path: Path) -> None:
    with lan(2) as hosts:
        original, clone = (node_on(host, tmp_path / host.namespace, "image") for host in hosts)
        for _ in running([original, clone]):
            original.start(listen=EVERYWHERE)
            original.stop()
            shutil.copytree(original.home, clone.home, symlinks=True)
            original.start(listen=EVERYWHERE)
            clone.start(listen=EVERYWHERE)
            for node, other in ((original, hosts[1]), (clone, hosts[0])):
                wait_for(lambda: node.events("node.copy_seen"))  # noqa: B023  called before the next turn
                status = " ".join(node.cli("status").stdout.decode().split())
                assert other.ip in status and "a copy of this node runs there" in status
                (copy,) = node.json("peers")["peers"]
                assert copy["state"] == "copy" and copy["address"].startswith(other.ip)
