"""Places of syncs on demand: how many at once, and who goes first."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from echonode.limits import DIALS_MAX
from echonode.node.sync_queue import SyncQueue
from echonode.sim.event_loop import SimLoop


def complete(work: Callable[[], Awaitable[None]]) -> None:
    loop = SimLoop(seed=1)
    loop.complete(work())


async def hold(queue: SyncQueue, order: list[object], key: object, priority: int, span_s: float = 1.0) -> None:
    async with queue.place(key, priority):
        order.append(key)
        await asyncio.sleep(span_s)


def test_the_highest_priority_goes_first_and_among_equals_the_one_that_waited_longest() -> None:
    async def work() -> None:
        queue, order = SyncQueue(), list[object]()
        async with AsyncExitStack() as busy:
            for place in range(DIALS_MAX - 1):
                await busy.enter_async_context(queue.place(("busy", place)))
            async with queue.place("last"):
                waiting = []
                for key, priority in (("a", 0), ("b", 5), ("c", 10), ("d", 5), ("e", 0), ("f", 10)):
                    waiting.append(asyncio.create_task(hold(queue, order, key, priority)))
                    await asyncio.sleep(0.1)
                assert (queue.running, queue.waiting, order) == (DIALS_MAX, 6, [])
            await asyncio.gather(*waiting)
        assert order == ["c", "f", "b", "d", "a", "e"]
        assert (queue.running, queue.waiting) == (0, 0)

    complete(work)


def test_one_place_for_each_peer_and_others_pass_those_that_wait_for_it() -> None:
    async def work() -> None:
        queue, order = SyncQueue(), list[object]()
        async with queue.place("peer"):
            urgent = asyncio.create_task(hold(queue, order, "peer", 10))
            other = asyncio.create_task(hold(queue, order, "other", 0, 0.0))
            await other
            assert order == ["other"]
        await urgent
        assert order == ["other", "peer"]

    complete(work)


@pytest.mark.parametrize("is_admitted", [False, True])
def test_who_is_cancelled_leaves_no_place_taken(is_admitted: bool) -> None:
    async def work() -> None:
        queue, order = SyncQueue(), list[object]()
        holder = asyncio.create_task(hold(queue, order, "peer", 0, 5.0))
        await asyncio.sleep(1)
        waiting = asyncio.create_task(hold(queue, order, "peer", 0))
        await asyncio.sleep(1)
        if is_admitted:  # in the same step of the loop as the place becomes free
            holder.cancel()
            await asyncio.wait([holder])
        waiting.cancel()
        await asyncio.wait([waiting])
        if not is_admitted:
            await holder
        assert (queue.running, queue.waiting) == (0, 0)
        await hold(queue, order, "peer", 0)

    complete(work)
