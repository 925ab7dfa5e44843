"""`python -m tests.bench.inside [--records N]`: costs of one store and one tree, in CPU time and in pages written.

A store is filled with N records by writes of 1,000, then written to one record at a time, closed and opened again. A
tree of N leaves is changed in batches of 1,000.
"""

import argparse
import asyncio
import os
import statistics
import struct
import tempfile
import time
from pathlib import Path

from echonode.clock import HybridClock
from echonode.host.system import SystemClock, SystemEntropy
from echonode.model.identity import Instance
from echonode.model.merkle import State, Tree
from echonode.model.record import IDENTITIES, MAIN, Draft, LeafKey
from echonode.store.sqlite.store import SqliteStore
from tests.store.people import Person

_BATCH = 1000
_BATCHES = 10
_PUTS = 100
_BODY_BYTES = 150
_WAL_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24


def figures(folder: Path, count: int) -> dict[str, float]:
    """Return the figures of a store and a tree of `count` records, at least 2,000."""
    return asyncio.run(_store(folder / "inside.db", count)) | _tree(count)


async def _open(path: Path) -> SqliteStore:
    entropy = SystemEntropy()
    return await SqliteStore.open(
        path, new_instance=lambda: Instance(entropy.random_bytes(8)), now_ms=SystemClock().now_ms
    )


async def _store(path: Path, count: int) -> dict[str, float]:
    person, clock, wall = Person(2), HybridClock(), SystemClock()
    store = await _open(path)
    await store.apply(IDENTITIES, [person.statement()])

    async def write(first: int, last: int) -> float:
        drafts = [
            Draft(context=MAIN, author=person.id, name=f"record-{number}", body=os.urandom(_BODY_BYTES))
            for number in range(first, last)
        ]
        began_s = time.process_time()
        await store.write(drafts, person.device, lambda: clock.tick(wall.now_ms()))
        return (time.process_time() - began_s) / (last - first)

    costs = [await write(first, first + _BATCH) for first in range(0, count, _BATCH)]
    wal = path.with_name(path.name + "-wal")
    database = store._commits.database
    await database.run(lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    for number in range(count, count + _PUTS):
        await write(number, number + 1)
    pages = _frames(wal)
    info = await store.info(MAIN)
    await store.close()
    began_s = time.process_time()
    store = await _open(path)
    open_s = time.process_time() - began_s
    await store.close()
    few = min(_BATCHES, len(costs) // 2)
    first, last = statistics.median(costs[:few]), statistics.median(costs[-few:])
    return {
        "write_cpu_us": round(1e6 * last, 1),
        "write_cpu_growth": round(last / first, 2),
        "wal_pages_a_put": round(pages / _PUTS, 2),
        "store_bytes_per_record_byte": round(_size(path) / info.bytes, 2),
        "store_open_cpu_s": round(open_s, 2),
    }


def _frames(wal: Path) -> int:
    """Return the pages written since the log was truncated (SQLite file format, §4.1)."""
    (page_bytes,) = struct.unpack(">I", wal.read_bytes()[8:12])
    return (wal.stat().st_size - _WAL_HEADER_BYTES) // (page_bytes + _FRAME_HEADER_BYTES)


def _size(path: Path) -> int:
    return path.stat().st_size


def _tree(count: int) -> dict[str, float]:
    tree = Tree((LeafKey(os.urandom(32)), State(os.urandom(32))) for _ in range(count))
    assert tree.root
    upkeep, single = [], []
    for _ in range(_BATCHES):
        leaves = [(LeafKey(os.urandom(32)), State(os.urandom(32))) for _ in range(_BATCH)]
        began_s = time.thread_time()
        tree.put_all(leaves)
        assert tree.root
        upkeep.append((time.thread_time() - began_s) / _BATCH)
        began_s = time.thread_time()
        tree.put(LeafKey(os.urandom(32)), State(os.urandom(32)))
        assert tree.root
        single.append(time.thread_time() - began_s)
    return {
        "tree_upkeep_us": round(1e6 * statistics.median(upkeep), 1),
        "tree_root_after_one_ms": round(1e3 * statistics.median(single), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.inside")
    parser.add_argument("--records", type=int, default=100_000)
    with tempfile.TemporaryDirectory(prefix="echonode-inside-") as folder:
        for name, value in figures(Path(folder), parser.parse_args().records).items():
            print(f"{name:36} {value}")


if __name__ == "__main__":
    main()
