"""Connecting: from the sighting of a peer until both nodes have proved that they are equal, over TCP.

    python -m tests.bench.connect

Both nodes hold the same records from the first meeting on. Then one of them starts anew, again and again, and is told
where the other is. Dial, handshake, admission, hello and the comparison of roots are in the time. Both nodes share a
process and its interpreter.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from echonode.app import _loop_factory
from echonode.host.system import SystemEntropy
from echonode.model.identity import Identity
from echonode.model.record import MAIN, Draft
from echonode.node.events import Event
from tests.bench.live import node_at

_RECORDS = 500
_TIMES = 15
_WITHIN_S = 30.0


async def _measure(folder: Path) -> dict[str, float]:
    entropy = SystemEntropy()
    ids = [Identity.from_seeds(entropy.random_bytes(32), entropy.random_bytes(32)) for _ in range(2)]
    a, a_listens = await node_at(folder, "a", asyncio.Queue(), ids[0])
    await a.records.put_all(
        [Draft(context=MAIN, author=a.id, name=f"record-{number}", body=bytes(200)) for number in range(_RECORDS)]
    )
    wall, cpu = [], []
    for _ in range(1 + _TIMES):
        events: asyncio.Queue[Event] = asyncio.Queue()
        b, b_listens = await node_at(folder, "b", events, ids[1])
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        b.add_peer(a_listens.addresses[0])
        async with asyncio.timeout(_WITHIN_S):
            while not any(view.in_sync for view in b.peers()):
                await events.get()
        wall.append(time.perf_counter() - began_s)
        cpu.append(time.process_time() - began_cpu_s)
        await b_listens.close()
        await b.stop()
    await a_listens.close()
    await a.stop()
    del wall[0], cpu[0]  # the first meeting moved the records
    return {
        "connect_ms": round(1000 * statistics.median(wall), 2),
        "connect_worst_ms": round(1000 * max(wall), 2),
        "connect_cpu_ms": round(1000 * statistics.median(cpu), 2),
    }


def figures() -> dict[str, float]:
    """Return the median and the worst time in milliseconds, and the CPU time of both ends."""
    with tempfile.TemporaryDirectory(prefix="echonode-connect-") as folder, asyncio.Runner(
        loop_factory=_loop_factory()
    ) as runner:
        return runner.run(_measure(Path(folder)))


if __name__ == "__main__":
    for name, value in figures().items():
        print(f"{name:36} {value}")
