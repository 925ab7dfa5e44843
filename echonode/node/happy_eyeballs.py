"""Happy Eyeballs: reach a target by the first of its addresses that answers (RFC 8305 §5).

The addresses are tried in order, each with a head start before the next.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from echonode.errors import TransportError
from echonode.sync.streams import ByteStream, Dial
from echonode.sync.tasks import all_ended

_HEAD_START_S: Final = 0.25


async def reach(dial: Dial, addresses: Sequence[str]) -> tuple[str, ByteStream]:
    """Return that of `addresses` which answered first, and a stream to it; they are tried in order.

    Raises TransportError when none answers: why the first of them did not, which is the one that people are shown.
    """

    async def attempt_at(address: str) -> tuple[str, ByteStream]:
        return address, await dial(address)

    attempts: dict[asyncio.Task[tuple[str, ByteStream]], str] = {}
    waiting = list(addresses)
    failures: dict[str, TransportError] = {}
    try:
        while waiting or attempts:
            if waiting:
                address = waiting.pop(0)
                attempts[asyncio.ensure_future(attempt_at(address))] = address
            timeout_s = _HEAD_START_S if waiting else None
            done, _ = await asyncio.wait(attempts, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            for attempt in [attempt for attempt in attempts if attempt in done]:
                address = attempts.pop(attempt)
                try:
                    return attempt.result()
                except TransportError as failure:
                    failures[address] = failure
        raise failures[addresses[0]] if addresses else TransportError("it has no address")
    finally:
        for attempt in attempts:
            attempt.cancel()
        await all_ended(attempts)
        for attempt in attempts:
            if not attempt.cancelled() and attempt.exception() is None:
                attempt.result()[1].abort()
