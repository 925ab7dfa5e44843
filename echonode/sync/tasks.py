"""Waiting for tasks to end, whatever becomes of them."""

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def all_ended(tasks: Collection["asyncio.Task[Any]"]) -> list[BaseException]:
    """Wait until every one of `tasks` is over; what those that failed raised, cancellations left out.

    Cancelled itself, it leaves them alone. (asyncio.gather would cancel them, and takes tasks that are over already at
    another moment in Python 3.11 than in 3.12, so that a simulation would differ from one to the other.)
    """
    if tasks:
        await asyncio.wait(tasks)
    ends = [None if task.cancelled() else task.exception() for task in tasks]
    return [end for end in ends if end is not None]


async def whole(work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives. It is never broken off with its caller: a cancellation waits for its end."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await all_ended([task])
        raise
