"""A loop in another thread: entered when it is ready, ended with the block, its errors raised here."""

import asyncio
import threading
from concurrent.futures import Future

import pytest

from echonode.host.loop_thread import in_thread


def test_the_block_runs_while_the_other_thread_serves() -> None:
    seen: list[object] = []

    async def serve(ready: "Future[None]", end: asyncio.Event) -> None:
        seen.append(threading.current_thread())
        ready.set_result(None)
        await end.wait()
        seen.append("ended")

    with in_thread(serve):
        assert seen[1:] == [] and seen[0] is not threading.current_thread()
    assert seen[1:] == ["ended"]


def test_an_error_before_it_is_ready_is_raised_here() -> None:
    async def serve(ready: "Future[None]", end: asyncio.Event) -> None:
        raise OSError("no such store")

    with pytest.raises(OSError, match="no such store"), in_thread(serve):
        raise AssertionError("it was never ready")


def test_an_error_in_the_block_ends_the_other_thread() -> None:
    ended = threading.Event()

    async def serve(ready: "Future[None]", end: asyncio.Event) -> None:
        ready.set_result(None)
        await end.wait()
        ended.set()

    with pytest.raises(KeyError), in_thread(serve):
        raise KeyError
    assert ended.is_set()
