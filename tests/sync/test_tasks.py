"""Waiting for tasks, also for those that fail, and work that a cancellation of its caller does not interrupt."""

import asyncio

import pytest

from echonode.sim.event_loop import run
from echonode.sync.tasks import all_ended, uninterrupted


def test_all_have_ended_however_they_ended_and_only_failures_are_given() -> None:
    async def main() -> None:
        async def fail() -> None:
            raise KeyError("no")

        over = asyncio.create_task(asyncio.sleep(0))
        await over
        late, failing = asyncio.create_task(asyncio.sleep(5)), asyncio.create_task(fail())
        cancelled = asyncio.create_task(asyncio.sleep(50))
        cancelled.cancel()
        (failed,) = await all_ended([over, late, failing, cancelled])
        assert isinstance(failed, KeyError)
        assert late.done()
        assert await all_ended([]) == []

    run(main(), seed=1)


def test_work_is_finished_before_its_caller_is_cancelled() -> None:
    async def main() -> None:
        finished: list[str] = []

        async def work(name: str) -> str:
            await asyncio.sleep(1)
            finished.append(name)
            return name

        assert await uninterrupted(work("alone")) == "alone"
        caller = asyncio.create_task(uninterrupted(work("in a caller")))
        await asyncio.sleep(0.5)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert finished == ["alone", "in a caller"]

    run(main(), seed=1)


def test_what_work_raises_is_raised() -> None:
    async def main() -> None:
        async def fail() -> None:
            raise KeyError("no")

        with pytest.raises(KeyError):
            await uninterrupted(fail())

    run(main(), seed=1)
