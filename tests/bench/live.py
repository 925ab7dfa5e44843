"""Live latency: from a put at one node until its follower can read the record, durable on both, over TCP.

    python -m tests.bench.live

The same run measures how long the disk alone takes for one durable row. A live put needs two of these, one after the
other; the rest of the time is the node's. Both nodes share a process and its interpreter, so nothing runs in parallel.
"""

import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from echonode.app import _loop_factory
from echonode.host.system import SystemClock, SystemEntropy
from echonode.host.tcp import Listener, TcpDial
from echonode.model.identity import Identity, Instance
from echonode.model.member_secret import MemberSecret
from echonode.model.record import MAIN, Draft
from echonode.node.events import Event, RecordsApplied
from echonode.node.node import Node, Settings
from echonode.store.sqlite.store import SqliteStore
from tests.kept import Kept

_PUTS = 500
_SECRET = MemberSecret.of_lone_key(bytes(32))


async def node_at(
    folder: Path, name: str, observe: "asyncio.Queue[Event]", identity: Identity | None = None
) -> tuple[Node, Listener]:
    """Start a node over the store `name` in `folder`, made when there is none, and listen on loopback. `observe` gets
    its events. Without `identity` it is a new one."""
    clock, entropy = SystemClock(), SystemEntropy()
    store = await SqliteStore.open(
        folder / f"{name}.db", new_instance=lambda: Instance(entropy.random_bytes(8)), now_ms=clock.now_ms
    )
    node = Node(
        store,
        identity or Identity.from_seeds(entropy.random_bytes(32), entropy.random_bytes(32)),
        Settings(name=name, member_secret=_SECRET),
        clock=clock,
        entropy=entropy,
        dial=TcpDial(),
        observe=observe.put_nowait,
        announce=lambda _: None,
        save_secret=lambda *_: None,
        save_name=lambda name: None,
        safe=Kept(),
    )
    listener = Listener()
    await listener.start("127.0.0.1:0", node.accept, lambda _: None)
    await node.start(listener.addresses)
    return node, listener


async def _measure(folder: Path) -> dict[str, float]:
    events: asyncio.Queue[Event] = asyncio.Queue()
    a, a_listens = await node_at(folder, "a", asyncio.Queue())
    b, b_listens = await node_at(folder, "b", events)
    b.add_peer(a_listens.addresses[0])
    while not any(view.following for view in b.peers()):
        await events.get()
    both, alone, bare = [], [], []
    cpu_s = 0.0
    with sqlite3.connect(folder / "bare.db", isolation_level=None) as disk:
        disk.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE log (bytes BLOB)")
        for number in range(_PUTS):
            draft = Draft(context=MAIN, author=a.id, name=f"live-{number}", body=bytes(200))
            began_s, began_cpu_s = time.perf_counter(), time.process_time()
            await a.records.put(draft)
            alone.append(time.perf_counter() - began_s)
            while not isinstance(event := await events.get(), RecordsApplied) or event.records[0].name != draft.name:
                pass
            both.append(time.perf_counter() - began_s)
            cpu_s += time.process_time() - began_cpu_s
            began_s = time.perf_counter()
            disk.execute("INSERT INTO log VALUES (?)", (bytes(600),))
            bare.append(time.perf_counter() - began_s)
            await asyncio.sleep(0.005)
    disk.close()
    for node, listener in ((a, a_listens), (b, b_listens)):
        await listener.close()
        await node.stop()
    return {
        "live_p50_ms": _ms(both, 0.5),
        "live_p99_ms": _ms(both, 0.99),
        "durable_put_p50_ms": _ms(alone, 0.5),
        "durable_put_p99_ms": _ms(alone, 0.99),
        "bare_durable_row_p50_ms": _ms(bare, 0.5),
        "bare_durable_row_p99_ms": _ms(bare, 0.99),
        "live_cpu_ms": round(1000 * cpu_s / _PUTS, 2),
        "live_p50_in_bare_rows": round(statistics.median(both) / statistics.median(bare), 1),
    }


def _ms(times_s: Sequence[float], share: float) -> float:
    """Return the time in milliseconds below which that share of the times lies."""
    return round(1000 * sorted(times_s)[min(len(times_s) - 1, int(share * len(times_s)))], 2)


def latency() -> dict[str, float]:
    """Return medians and 99th percentiles in milliseconds, and the CPU time of both ends for one put."""
    with tempfile.TemporaryDirectory(prefix="echonode-live-") as folder, asyncio.Runner(
        loop_factory=_loop_factory()
    ) as runner:
        return runner.run(_measure(Path(folder)))


if __name__ == "__main__":
    for name, value in latency().items():
        print(f"{name:36} {value}")
