"""A disk that fills up under a running node. Writes are refused in plain words, reads go on, and nothing is lost. When
there is room again, everything goes on by itself. Then the same with no byte left at all, across a restart.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from echonode.limits import BALLAST_BYTES, FREE_SPACE_BYTES_MIN, MIB
from tests.e2e.processes import NodeProcess, equal, running, wait_for
from tests.faults.rooted import small_disk
from tests.faults.test_kill import NETWORK_SECRET, free_port


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", FREE_SPACE_BYTES_MIN // MIB + 8) as folder:
        yield folder


def fill(disk: Path, left: int) -> None:
    """Fill the disk, as another program would, until only `left` bytes are free."""
    with (disk / "filler").open("ab") as filler:
        if size := free(disk) - left:
            os.posix_fallocate(filler.fileno(), filler.tell(), size)


def free(disk: Path) -> int:
    """Return the free bytes of the disk."""
    usage = os.statvfs(disk)
    return usage.f_bavail * usage.f_frsize


def refusal(node: NodeProcess, name: str) -> str:
    """Try to write and return the reason for which `node` refuses."""
    done = node.cli("put", name, "text", check=False)
    assert done.returncode == 1, done
    return done.stderr.decode()


@pytest.mark.root
def test_a_full_disk_refuses_writes_goes_on_reading_and_recovers(disk: Path, tmp_path: Path) -> None:
    a, b = nodes = [NodeProcess(disk / "anna", "anna", mdns=False), NodeProcess(tmp_path / "bert", "bert", mdns=False)]
    ballast = a.home / "store.db-ballast"
    at = f"127.0.0.1:{free_port()}"
    for _ in running(nodes):
        for node in nodes:
            node.cli("network", "set", NETWORK_SECRET)
        a.start(listen=at)
        b.start("--peer", at)
        a.cli("put", "before", "written before")
        wait_for(lambda: equal(nodes, "main", "identities"))
        assert ballast.stat().st_blocks * 512 >= BALLAST_BYTES, "it takes room, and not only a name"

        fill(disk, FREE_SPACE_BYTES_MIN // 2)
        wait_for(lambda: a.cli("put", "another", "text", check=False).returncode == 1)  # free space is checked seldom
        # Writes before that check grew the write-ahead log; a refused write takes no room.
        assert FREE_SPACE_BYTES_MIN // 2 - MIB < free(disk) <= FREE_SPACE_BYTES_MIN // 2
        assert f"disk nearly full: {free(disk) // MIB} MiB left" in refusal(a, "more")
        b.cli("put", "from b", "does not fit")
        wait_for(lambda: any("disk nearly full" in event["detail"] for event in a.events("session.failed")))
        assert a.cli("get", "before").stdout == b"written before"

        fill(disk, 0)
        assert a.cli("get", "before").stdout == b"written before"
        assert "disk nearly full: 0 MiB left" in refusal(a, "more")
        assert a.stop() == 0  # stopping frees the room of the write-ahead log; take that too
        fill(disk, 0)
        a.start(listen=at)
        assert not ballast.exists(), "its room is what the node runs on"
        assert a.cli("get", "before").stdout == b"written before"
        assert "disk nearly full" in refusal(a, "more")
        assert a.json("verify")["ok"]

        (disk / "filler").unlink()
        a.cli("put", "after", "written after")
        wait_for(lambda: equal(nodes, "main", "identities"))
        assert a.cli("get", f"{b.json('status')['id']}/from b").stdout == b"does not fit"
        assert b.cli("get", f"{a.json('status')['id']}/after").stdout == b"written after"
        wait_for(ballast.exists)
        assert a.json("verify")["ok"]
