"""Live latency: a put at one node until its record is readable at one that follows it, durable on both, over TCP."""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from echonode.host.system import SystemClock, SystemEntropy
from echonode.host.tcp import Listener, TcpDial
from echonode.model.identity import Identity, Instance
from echonode.model.record import MAIN, Draft
from echonode.node.events import Event, RecordsApplied
from echonode.node.node import Node, Settings
from echonode.store.sqlite import SqliteStore

_PUTS = 200
_KEY = bytes(32)


async def _node(folder: Path, name: str, observe: "asyncio.Queue[Event]") -> tuple[Node, Listener]:
    clock, entropy = SystemClock(), SystemEntropy()
    store = await SqliteStore.open(
        folder / f"{name}.db", new_instance=lambda: Instance(entropy.random_bytes(8)), now_ms=clock.now_ms
    )
    node = Node(
        store,
        Identity.from_seeds(entropy.random_bytes(32), entropy.random_bytes(32)),
        Settings(name=name, network_key=_KEY),
        clock=clock,
        entropy=entropy,
        dial=TcpDial(),
        observe=observe.put_nowait,
        announce=lambda _: None,
        save_network_key=lambda _: None,
    )
    listener = Listener()
    await listener.start("127.0.0.1:0", node.accept, lambda _: None)
    await node.start(listener.addresses)
    return node, listener


async def _measure(folder: Path) -> dict[str, float]:
    heard: asyncio.Queue[Event] = asyncio.Queue()
    a, a_listens = await _node(folder, "a", asyncio.Queue())
    b, b_listens = await _node(folder, "b", heard)
    b.add_peer(a_listens.addresses[0])
    while not any(view.following for view in b.peers()):
        await heard.get()
    both, alone = [], []
    for number in range(_PUTS):
        draft = Draft(context=MAIN, author=a.id, name=f"live-{number}", body=bytes(200))
        began_s = time.perf_counter()
        await a.put(draft)
        alone.append(time.perf_counter() - began_s)
        while not isinstance(event := await heard.get(), RecordsApplied) or event.records[0].name != draft.name:
            pass
        both.append(time.perf_counter() - began_s)
        await asyncio.sleep(0.005)
    for node, listener in ((a, a_listens), (b, b_listens)):
        await listener.close()
        await node.stop()
    return {
        "live_p50_ms": round(1000 * statistics.median(both), 2),
        "live_p95_ms": round(1000 * sorted(both)[int(0.95 * _PUTS)], 2),
        "durable_put_p50_ms": round(1000 * statistics.median(alone), 2),
    }


def latency() -> dict[str, float]:
    """Median and worst of most, beside what the put alone takes."""
    with tempfile.TemporaryDirectory(prefix="echonode-live-") as folder:
        return asyncio.run(_measure(Path(folder)))
