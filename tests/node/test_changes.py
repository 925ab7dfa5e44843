"""The change log of a node: a reader that waits is told of whatever comes, in whichever way it comes."""

import asyncio

from echonode.node.changes import RecordChange
from echonode.node.events import SyncCompleted
from echonode.sim.world import World
from tests.node.worlds import in_a_world, put, sight, told


def test_a_reader_that_waits_is_told_of_a_context_that_a_snapshot_brings():
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        for name in ("a", "b"):
            await put(theirs, name, context="books")
        found: list[RecordChange] = []

        async def read() -> None:
            async for page in ours.node.changes.follow("books", 0):
                found.extend(page.changes)

        reading = asyncio.create_task(read())
        await asyncio.sleep(1)
        assert not found
        sight(ours, theirs)
        await asyncio.sleep(30)
        reading.cancel()
        assert any(event.mode == "snapshot" for event in told(ours, SyncCompleted) if event.context == "books")
        assert {change.record.name for change in found} == {"a", "b"}

    in_a_world(work, hushed=True)
