"""Power loss at any moment: no acknowledged write is lost, and the store that is found is whole.

First the store alone, in three lives with many checkpoints. Then a whole node from its first start on, keys and network
included, with several writers at once.
"""

import os
import random
import subprocess
import sys
from pathlib import Path

from echonode.errors import StoreError
from echonode.model.record import MAIN
from tests.contracts.store import verdict_of
from tests.e2e.processes import NodeProcess, running
from tests.faults.load import Load
from tests.faults.power import MARK, Entry, images, mark, read_record
from tests.faults.shim import recording
from tests.store.files import opened, run
from tests.store.people import Owner

IMAGES, EARLY_IMAGES, NODE_IMAGES = (14_000, 4_000, 2_000) if os.environ.get("ECHO_TEST_SLOW") else (150, 100, 50)
PLANTED_IMAGES = 150
SEED = int(os.environ.get("ECHO_TEST_SEED", "1"))


def recorded(shim: Path, folder: Path, synchronous: str) -> tuple[list[Entry], Path]:
    """Write with this setting. Return the recorded entries and the folder to which they belong."""
    below, record = folder / "disk", folder / "record"
    below.mkdir()
    command = [sys.executable, "-m", "tests.faults.driver", "record", below / "store.db", record, "40", synchronous]
    subprocess.run(command, check=True, env=recording(shim, under=below, into=record))
    return read_record(record), below


def lost(folder: Path, acknowledged: list[bytes]) -> list[str]:
    """Return in words the acknowledged writes that the store in `folder` lacks, and its problems."""
    counters = {name: int(counter) for name, counter in (line.decode().split() for line in acknowledged)}

    async def go() -> list[str]:
        async with opened(folder / "store.db") as store:
            owner = Owner(store)
            missing: list[str] = []
            for name, counter in counters.items():
                heads = await store.heads(MAIN, owner.id, name)
                if not heads or heads[0].counter < counter:
                    missing.append(f"{name} {counter}")
            return missing + list((await verdict_of(store)).problems)

    try:
        return run(go())
    except StoreError as error:
        return [str(error)]


def test_power_loss_takes_nothing_that_was_acknowledged(shim: Path, tmp_path: Path) -> None:
    entries, below = recorded(shim, tmp_path, "FULL")
    for number, (image, acknowledged) in enumerate(
        images(entries, below, IMAGES, random.Random(SEED), tmp_path / "image")
    ):
        assert lost(image, acknowledged) == [], f"image {number} of seed {SEED}, {len(acknowledged)} acknowledged"
    assert acknowledged, "the last image has some"


def test_power_loss_while_a_store_is_made_leaves_one_that_opens(shim: Path, tmp_path: Path) -> None:
    entries, below = recorded(shim, tmp_path, "FULL")
    made = entries[: next(place for place, entry in enumerate(entries) if entry.kind == MARK)]
    for number, (image, _) in enumerate(images(made, below, EARLY_IMAGES, random.Random(SEED), tmp_path / "image")):
        assert lost(image, []) == [], f"image {number} of seed {SEED}"


def test_a_store_that_syncs_less_loses_what_it_acknowledged(shim: Path, tmp_path: Path) -> None:
    """Prove that the test above would notice: with synchronous=NORMAL some image lacks acknowledged writes."""
    entries, below = recorded(shim, tmp_path, "NORMAL")
    made = images(entries, below, PLANTED_IMAGES, random.Random(SEED), tmp_path / "image")
    assert any("damaged" not in problem for image, acknowledged in made for problem in lost(image, acknowledged))


def test_power_loss_takes_nothing_that_a_node_acknowledged_and_none_of_its_keys(shim: Path, tmp_path: Path) -> None:
    home, record = tmp_path / "home", tmp_path / "record"
    home.mkdir(mode=0o700)
    node = NodeProcess(home, "anna", mdns=False, environ=recording(shim, under=home, into=record))
    for _ in running([node]):
        node.start()
        write_and_mark(node, record)
        assert node.stop() == 0
    made = images(read_record(record), home, NODE_IMAGES, random.Random(SEED), tmp_path / "image")
    for number, (image, acknowledged) in enumerate(made):
        if acknowledged:  # the node was up
            for secret in ("keys/root", "keys/device", "network"):
                assert (image / secret).read_bytes() == (home / secret).read_bytes(), f"image {number} of seed {SEED}"
        assert lost_of_node(image, acknowledged[1:]) == [], f"image {number} of seed {SEED}"
    assert len(acknowledged) > 100, "the last image has most of them"


def write_and_mark(node: NodeProcess, record: Path) -> None:
    """Put load on `node` and marks into its record, an empty one first."""
    descriptor = os.open(record, os.O_WRONLY | os.O_APPEND)
    mark(descriptor, b"")
    load = Load(node, lambda name, number: mark(descriptor, f"{name} {number}".encode())).start()
    load.wait_for(150)
    load.stop()
    os.close(descriptor)


def lost_of_node(home: Path, acknowledged: list[bytes]) -> list[str]:
    """Return in words the acknowledged writes that the store of the node lacks, and its problems."""
    numbers = {name: int(number) for name, number in (line.decode().split() for line in acknowledged)}
    if not (home / "store.db").exists():
        return list(numbers)

    async def go() -> list[str]:
        async with opened(home / "store.db") as store:
            records, _ = await store.scan(MAIN, 0, limit=1000)
            held = {record.name: int(record.body.strip(b".")) for record in records}
            missing = [name for name, number in numbers.items() if held.get(name, 0) < number]
            return missing + list((await verdict_of(store)).problems)

    return run(go())
