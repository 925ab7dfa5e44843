"""A store put back from a backup, beside a peer that has followed it further (PROTOCOL.md §8.9): real files."""

import shutil
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.processes import NodeProcess, equal, running, wait_for


def is_linked(node: NodeProcess) -> bool:
    """Return True if `node` follows its one peer, holds what the peer holds, and says so."""
    peers = [peer for peer in node.json("peers")["peers"] if peer["id"]]
    return [(peer["following"], peer["lag"], peer["in_sync"]) for peer in peers] == [(True, 0, True)]


def put_back(node: NodeProcess, backup: Path) -> None:
    for part in node.home.glob("store.db*"):
        part.unlink()
    shutil.copy(backup, node.home / "store.db")


@pytest.mark.parametrize("whose", ["what the other wrote", "its own"])
def test_a_store_that_is_put_back_is_followed_again_and_nobody_is_blamed(whose: str, tmp_path: Path) -> None:
    ours, theirs = (NodeProcess(tmp_path / name, name, mdns=False) for name in ("ours", "theirs"))
    both = [ours, theirs]
    for _ in running(both):
        theirs.start("--open")
        ours.start("--open", "--peer", theirs.address())
        ours.cli("put", "kept", "1")
        wait_for(lambda: all(map(is_linked, both)) and equal(both, "main"))
        assert ours.stop() == 0
        backup = Path(shutil.copy(ours.home / "store.db", tmp_path / "backup"))
        ours.start("--open", "--peer", theirs.address())
        for number in range(10):  # ten versions of one record: the restored log must go on behind all ten
            (theirs if whose == "what the other wrote" else ours).cli("put", "edited", str(number))
        wait_for(lambda: all(map(is_linked, both)) and equal(both, "main"))
        root = theirs.root("main")
        assert ours.stop() == 0
        put_back(ours, backup)
        ours.start("--open", "--peer", theirs.address())
        wait_for(lambda: all(map(is_linked, both)) and equal(both, "main"))
        assert ours.root("main") == root
        for node in both:
            node.cli("put", f"by {node.name}", "1")
        wait_for(partial(equal, both, "main"))
        reasons = {event["reason"] for node in both for event in node.events("session.failed")}
        assert reasons <= {"transport"}, reasons
