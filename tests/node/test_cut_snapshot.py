"""A snapshot that is cut costs its server nothing: no transaction, no place, no task is kept for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from echonode.model.record import MAIN, Draft
from echonode.sim.tcp_link import LinkConditions
from echonode.sim.world import World
from echonode.store.memory import MemoryStore
from echonode.store.port import SnapshotReader
from tests.node.test_on_demand import until
from tests.node.worlds import in_a_world, sight


class Counting(MemoryStore):
    """A store that counts the snapshots that are open, and those that ever were."""

    open_now = 0
    begun = 0

    @asynccontextmanager
    async def snapshot(self, context: str) -> AsyncIterator[SnapshotReader]:
        async with super().snapshot(context) as reader:
            self.open_now += 1
            self.begun += 1
            try:
                yield reader
            finally:
                self.open_now -= 1


def test_a_cut_snapshot_costs_its_server_nothing():
    async def work(world: World) -> None:
        full = await world.add_node("full", make_store=Counting)
        store = full.store
        assert isinstance(store, Counting)
        author = full.node.id
        drafts = [Draft(context=MAIN, author=author, name=f"r{number}", body=bytes(500)) for number in range(5000)]
        for first in range(0, 5000, 1000):
            await full.node.records.put_all(drafts[first : first + 1000])
        empty = await world.add_node("empty")
        for one, other in ((full, empty), (empty, full)):
            world.network.set_link(one.host, other.host, LinkConditions(latency_s=0.005, bandwidth_bytes_s=200_000))
        sight(empty, full)
        for _ in range(3):
            begun = store.begun
            await until(lambda begun=begun: store.begun > begun and store.open_now > 0)  # type: ignore[misc]
            world.network.block(full.host, empty.host)
            world.network.cut(full.host, empty.host)
            await asyncio.sleep(1)
            backlog = full.node.pending()
            assert (store.open_now, backlog.sessions, backlog.streams, backlog.fills) == (0, 0, 0, 0)
            world.network.heal()

    in_a_world(work, hushed=True)
