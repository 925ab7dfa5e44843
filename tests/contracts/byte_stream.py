"""The contract of ByteStream (sync/streams.py), written once and run on each implementation.

A check takes the two ends of a fresh connection. `CHECKS` lists all checks; `holds` runs one.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from itertools import pairwise

import pytest

from echonode.errors import TransportError
from echonode.limits import MIB
from echonode.sync.streams import ByteStream

Pair = tuple[ByteStream, ByteStream]
Check = Callable[[ByteStream, ByteStream], Awaitable[None]]

CHECKS: list[Check] = []


def check(function: Check) -> Check:
    CHECKS.append(function)
    return function


async def holds(check: Check, pair: AbstractAsyncContextManager[Pair], timeout_s: float = 60) -> None:
    """Run `check` on the two ends of `pair`. A check that takes `timeout_s` hangs."""
    async with pair as (here, there), asyncio.timeout(timeout_s):
        await check(here, there)


async def everything(stream: ByteStream) -> bytes:
    """Return all bytes up to the end. Each read returns at least one."""
    parts = []
    while part := await stream.read():
        parts.append(part)
    return b"".join(parts)


async def exactly(stream: ByteStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = await stream.read()
        assert part, f"the stream ended after {len(data)} of {size} bytes"
        data += part
    return data


def some_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


@check
async def bytes_arrive_whole_and_in_order_in_both_directions_at_once(here: ByteStream, there: ByteStream) -> None:
    ours, theirs = some_bytes(700_000, 1), some_bytes(500_000, 2)

    async def send(stream: ByteStream, data: bytes) -> None:
        cuts = sorted({0, len(data), *random.Random(3).sample(range(len(data)), 200)})
        for start, end in pairwise(cuts):
            await stream.write(data[start:end])

    async with asyncio.TaskGroup() as group:
        group.create_task(send(here, ours))
        group.create_task(send(there, theirs))
        at_there = group.create_task(exactly(there, len(ours)))
        at_here = group.create_task(exactly(here, len(theirs)))
    assert at_there.result() == ours
    assert at_here.result() == theirs


@check
async def an_empty_write_neither_ends_the_stream_nor_wakes_the_reader(here: ByteStream, there: ByteStream) -> None:
    await here.write(b"")
    await here.write(b"x")
    assert await there.read() == b"x"


@check
async def the_end_comes_after_the_last_byte_and_stays(here: ByteStream, there: ByteStream) -> None:
    data = some_bytes(100_000)
    await here.write(data)
    closing = asyncio.create_task(here.close())
    assert await everything(there) == data
    assert await there.read() == b""
    await there.close()
    await closing


@check
async def close_flushes_to_a_reader_that_starts_late(here: ByteStream, there: ByteStream) -> None:
    data = some_bytes(MIB)
    await here.write(data)
    closing = asyncio.create_task(here.close())
    await asyncio.sleep(0.01)
    assert await everything(there) == data
    await there.close()
    await closing


@check
async def last_words_survive_a_close_with_unread_bytes(here: ByteStream, there: ByteStream) -> None:
    """A socket that is closed with unread bytes sends a reset, which destroys what the peer has not read."""
    await there.write(some_bytes(50_000))
    await here.write(b"farewell")
    closing = asyncio.create_task(here.close())
    assert await everything(there) == b"farewell"
    await there.close()
    await closing


@check
async def both_ends_may_close_at_once(here: ByteStream, there: ByteStream) -> None:
    await here.write(b"a")
    await there.write(b"b")
    await asyncio.gather(here.close(), there.close())


@check
async def close_and_abort_may_be_repeated_and_mixed(here: ByteStream, there: ByteStream) -> None:
    await asyncio.gather(here.close(), there.close())
    await here.close()
    here.abort()
    here.abort()
    await here.close()
    there.abort()


@check
async def close_ends_although_the_peer_never_closes(here: ByteStream, there: ByteStream) -> None:
    await here.write(b"x")
    await here.close()
    with pytest.raises(TransportError):
        await here.write(b"y")


@check
async def nothing_can_be_written_after_close_or_abort(here: ByteStream, there: ByteStream) -> None:
    closing = asyncio.create_task(here.close())
    assert await there.read() == b""
    with pytest.raises(TransportError):
        await here.write(b"x")
    there.abort()
    with pytest.raises(TransportError):
        await there.write(b"x")
    await closing


@check
async def abort_wakes_a_waiting_read(here: ByteStream, there: ByteStream) -> None:
    reading = asyncio.create_task(here.read())
    await asyncio.sleep(0)
    here.abort()
    with pytest.raises(TransportError):
        await reading
    with pytest.raises(TransportError):
        await here.read()


@check
async def write_waits_for_a_peer_that_does_not_read_and_then_goes_on(here: ByteStream, there: ByteStream) -> None:
    """The writer writes more than any socket buffer holds. Without a bound on its queue it would be done at once."""
    size, part = 32 * MIB, some_bytes(MIB)

    async def send() -> None:
        for _ in range(size // len(part)):
            await here.write(part)

    sending = asyncio.create_task(send())
    _, waiting = await asyncio.wait({sending}, timeout=0.2)
    assert waiting, f"{size} bytes were queued for a peer that reads nothing"
    received = 0
    while received < size:
        received += len(await there.read())
    await sending
    assert received == size


@check
async def abort_wakes_a_waiting_write(here: ByteStream, there: ByteStream) -> None:
    async def send() -> None:
        while True:
            await here.write(some_bytes(MIB))

    sending = asyncio.create_task(send())
    await asyncio.wait({sending}, timeout=0.1)
    here.abort()
    with pytest.raises(TransportError):
        await sending


@check
async def a_peer_that_aborts_ends_the_reading(here: ByteStream, there: ByteStream) -> None:
    """The kernel reports an end or a reset; the code cannot choose. Only a Close in the channel is certain."""
    await there.write(b"half a fra")
    there.abort()
    try:
        assert b"half a fra".startswith(await everything(here))
    except TransportError:
        pass


@check
async def writing_to_a_peer_that_is_gone_fails_in_the_end(here: ByteStream, there: ByteStream) -> None:
    there.abort()
    with pytest.raises(TransportError):
        while True:
            await here.write(b"hello?")
            await asyncio.sleep(0.001)  # the reset is a packet from the peer: it needs the event loop, and time


@check
async def a_cancelled_read_loses_nothing(here: ByteStream, there: ByteStream) -> None:
    data = some_bytes(10_000)
    for at in range(0, len(data), 1000):
        reading = asyncio.create_task(there.read())
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait({reading})
        assert reading.cancelled(), "nothing was sent, so nothing can have been read"
        await here.write(data[at : at + 1000])
        assert await exactly(there, 1000) == data[at : at + 1000]


@check
async def the_address_is_the_other_ends(here: ByteStream, there: ByteStream) -> None:
    for stream in (here, there):
        host, _, port = stream.address.rpartition(":")
        assert host
        assert port.isdigit()
