"""Waiting for tasks to end, whatever becomes of them."""

import asyncio
from collections.abc import Collection
from typing import Any


async def all_ended(tasks: Collection["asyncio.Task[Any]"]) -> list[BaseException]:
    """Wait until every one of `tasks` is over; what those that failed raised, cancellations left out.

    Cancelled itself, it leaves them alone. (asyncio.gather would cancel them, and takes tasks that are over already at
    another moment in Python 3.11 than in 3.12, so that a simulation would differ from one to the other.)
    """
    if tasks:
        await asyncio.wait(tasks)
    ends = [None if task.cancelled() else task.exception() for task in tasks]
    return [end for end in ends if end is not None]
