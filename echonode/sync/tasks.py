"""Waiting for tasks to end, however they end."""

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def all_ended(tasks: Collection["asyncio.Task[Any]"]) -> list[BaseException]:
    """Wait until every one of `tasks` is over. Return what the failed ones raised, without cancellations.

    A cancellation of the caller leaves the tasks alone. (asyncio.gather would cancel them. It also takes finished tasks
    at another moment in Python 3.11 than in 3.12, so a simulation would differ between the two.)
    """
    if tasks:
        await asyncio.wait(tasks)
    ends = [None if task.cancelled() else task.exception() for task in tasks]
    return [end for end in ends if end is not None]


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end and return its result. A cancellation of the caller waits for that end."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await all_ended([task])
        raise
