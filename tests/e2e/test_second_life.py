"""A home put back from a backup, and two machines made from one image: the edits of both lives are heads everywhere.

Both write the same record before they meet a peer again (PROTOCOL.md §4.3).
"""

import shutil
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.processes import NodeProcess, equal, running, wait_for
from tests.faults.test_kill import NETWORK_SECRET, free_port

FIRST, SECOND = b"first life", b"second life"


def with_network(*nodes: NodeProcess) -> None:
    for node in nodes:
        node.cli("network", "set", NETWORK_SECRET)


def copied(home: Path, to: Path) -> None:
    """Copy the home of a stopped node."""
    shutil.copytree(home, to, symlinks=True, ignore=shutil.ignore_patterns("api.sock"))


def shows_both(node: NodeProcess) -> bool:
    conflicts = node.cli("conflicts", "--json").stdout
    return FIRST in conflicts and SECOND in conflicts


def renewals(node: NodeProcess) -> list[str]:
    return [event["why"] for event in node.events("node.instance_renewed")]


@pytest.mark.parametrize("is_clone", [False, True], ids=["restored", "cloned"])
def test_what_both_lives_wrote_offline_is_a_conflict_on_every_node(tmp_path: Path, is_clone: bool) -> None:
    a, b, second = (NodeProcess(tmp_path / name, name, mdns=False) for name in ("a", "b", "second"))
    at = f"127.0.0.1:{free_port()}"
    for _ in running([a, b, second]):
        with_network(a, b)
        b.start(listen=at)
        a.start("--peer", at)
        a.cli("put", "shared/plan", "as backed up")
        wait_for(lambda: equal([a, b], "main"))
        assert a.stop() == 0
        copied(a.home, second.home)

        a.start("--peer", at)
        assert b.stop() == 0
        a.cli("put", "shared/plan", FIRST.decode())
        if not is_clone:
            b.start(listen=at)
            wait_for(lambda: equal([a, b], "main"))
            assert (a.stop(), b.stop()) == (0, 0)
            shutil.rmtree(a.home)

        second.start("--peer", at)
        second.cli("put", "diary", "something else")
        second.cli("put", "shared/plan", SECOND.decode())
        b.start(listen=at)
        living = [b, second, a] if is_clone else [b, second]
        for node in living:
            wait_for(partial(shows_both, node))
        assert renewals(second) == ["the link `life` beside the database is a copy"]
        assert not renewals(a)
        assert not renewals(b)


def test_restarts_and_kills_take_no_new_instance(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path / "a", "a", mdns=False)
    for _ in running([node]):
        with_network(node)
        instances = set()
        for is_kill in (False, True, True, False):
            node.start()
            node.cli("put", "text", "body")
            instances.add(node.json("status")["instance"])
            node.stop(kill=is_kill)
        assert len(instances) == 1
        assert not renewals(node)
