"""The server's stop ends waits, and nothing else."""

import asyncio

import pytest

from echonode.api.shutdown import Stop, Stopping
from tests.api.serving import run


async def wait(stop: Stop, waiting: asyncio.Event) -> None:
    with stop.ends_waiting():
        waiting.set()
        await asyncio.Event().wait()


def test_a_wait_ends_when_the_server_stops_and_its_task_is_not_cancelled() -> None:
    async def test() -> None:
        stop, waiting = Stop(), asyncio.Event()

        async def waiter() -> int:
            with pytest.raises(Stopping):
                await wait(stop, waiting)
            await asyncio.sleep(0)
            task = asyncio.current_task()
            assert task is not None
            return task.cancelling()

        task = asyncio.create_task(waiter())
        await waiting.wait()
        stop.set()
        stop.set()
        assert await task == 0

    run(test)


def test_nothing_is_waited_for_once_the_server_stops() -> None:
    async def test() -> None:
        stop = Stop()
        stop.set()
        assert stop.is_set
        with pytest.raises(Stopping):
            await wait(stop, asyncio.Event())

    run(test)


def test_what_came_in_time_is_kept_and_later_waits_are_not_touched() -> None:
    async def test() -> None:
        stop = Stop()
        with stop.ends_waiting():
            await asyncio.sleep(0)
        stop.set()
        await asyncio.sleep(0)

    run(test)


def test_somebody_elses_cancellation_stays_a_cancellation() -> None:
    async def test() -> None:
        for also_stop in (False, True):
            stop, waiting = Stop(), asyncio.Event()
            task = asyncio.create_task(wait(stop, waiting))
            await waiting.wait()
            task.cancel()
            if also_stop:
                stop.set()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(test)
