"""A disk that goes back as a whole, as a snapshot of a virtual machine, LVM or ZFS does: its marks go back too.

The home lies on an image that is copied and put back while it is not mounted, so inodes and birth times are those of
the copy. No look at the disk can tell; the peer does (PROTOCOL.md §5.6).
"""

import shutil
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.processes import NodeProcess, equal, running, wait_for
from tests.faults.file_systems import mounted, new_image
from tests.faults.rooted import command
from tests.faults.test_kill import NETWORK_SECRET, free_port

FIRST, SECOND = b"first life", b"second life"


def conflict(node: NodeProcess) -> bool:
    shown = node.cli("conflicts", "--json").stdout
    return FIRST in shown and SECOND in shown


def renewals(node: NodeProcess) -> list[str]:
    return [event["why"] for event in node.events("node.instance_renewed")]


@pytest.mark.root
def test_a_disk_that_goes_back_as_a_whole_is_noticed_by_peers_and_both_lives_edits_stand(tmp_path: Path) -> None:
    disk, place = new_image(tmp_path, "ext4"), tmp_path / "disk"
    snapshot = tmp_path / "snapshot.img"
    place.mkdir()
    a, b = NodeProcess(place / "a", "a", mdns=False), NodeProcess(tmp_path / "b", "b", mdns=False)
    at = f"127.0.0.1:{free_port()}"
    for _ in running([a, b]):
        with mounted(place, "-o", "loop", disk):
            for node in (a, b):
                node.cli("network", "set", NETWORK_SECRET)
            b.start(listen=at)
            a.start("--peer", at)
            a.cli("put", "shared/plan", "as it was")
            wait_for(lambda: equal([a, b], "main"))
            assert a.stop() == 0
        command("cp", "--sparse=always", disk, snapshot)

        with mounted(place, "-o", "loop", disk):
            a.start("--peer", at)
            a.cli("put", "shared/plan", FIRST.decode())
            a.cli("put", "diary", "of the first life")
            wait_for(lambda: equal([a, b], "main"))
            assert not renewals(a)
            assert (a.stop(), b.stop()) == (0, 0)
        shutil.move(snapshot, disk)

        with mounted(place, "-o", "loop", disk):
            a.start("--peer", at)
            before = a.json("status")["instance"]
            a.cli("put", "notes", "of the second life")  # under the counter of the first life's plan
            a.cli("put", "shared/plan", SECOND.decode())
            a.cli("put", "notes", "more of it")
            assert not renewals(a), "nothing on this machine tells"
            b.start(listen=at)
            wait_for(lambda: renewals(a))
            wait_for(partial(equal, [a, b], "main"))
            assert a.json("status")["instance"] != before
            assert not renewals(b)
            for node in (a, b):
                wait_for(partial(conflict, node))
            assert a.cli("get", "diary").stdout.strip() == b"of the first life"
            assert [event["record"] for event in a.events("record.signed_again")] == ["plan"]
            assert a.stop() == 0
