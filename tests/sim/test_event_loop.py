"""The simulated loop: asyncio's semantics in virtual time, an order drawn from the seed, and nothing real."""

import asyncio
import contextlib
import gc
import itertools
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable

import pytest

from echonode.sim.event_loop import STEPS_PER_COLLECTION, Deadlock, Forbidden, Livelock, SimLoop, run

# -- time ------------------------------------------------------------------------------------------------------------


def test_time_starts_at_zero_and_jumps_to_the_next_timer() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        seen = [loop.time()]
        for delay_s in (1.5, 3600.0, 365 * 86_400.0):
            await asyncio.sleep(delay_s)
            seen.append(loop.time())
        return seen

    began = time.monotonic()
    assert run(main(), seed=0) == [0.0, 1.5, 3601.5, 3601.5 + 365 * 86_400.0]
    assert time.monotonic() - began < 60


def test_time_stands_still_while_anything_is_ready() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        timer = asyncio.create_task(asyncio.sleep(0.001))
        for _ in range(1000):
            await asyncio.sleep(0)
        assert not timer.done()
        return loop.time()

    assert run(main(), seed=0) == 0.0


def test_timers_fire_in_order_of_time_whatever_the_order_of_setting_them() -> None:
    async def main() -> list[int]:
        fired: list[int] = []
        async with asyncio.TaskGroup() as group:
            for number in (5, 1, 4, 2, 3):
                group.create_task(note(number, fired))
        return fired

    async def note(number: int, fired: list[int]) -> None:
        await asyncio.sleep(number)
        fired.append(number)

    for seed in range(20):
        assert run(main(), seed=seed) == [1, 2, 3, 4, 5]


def test_a_millennium_of_timers_does_not_spin() -> None:
    async def main() -> None:
        for _ in range(1000):
            await asyncio.sleep(365 * 86_400 + 0.1)
            await asyncio.sleep(1e-7)

    loop = SimLoop(seed=0)
    loop.complete(main())
    assert loop.trace.count < 10_000


def test_cancelled_timers_are_forgotten_before_their_time() -> None:
    async def main(loop: SimLoop) -> None:
        for _ in range(5000):
            async with asyncio.timeout(3600):
                await asyncio.sleep(0.01)
        assert len(loop._scheduled) < 200

    loop = SimLoop(seed=0)
    loop.complete(main(loop))


def test_timeouts_work_in_virtual_time() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(300):
                await asyncio.Event().wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 100)
        return loop.time()

    assert run(main(), seed=0) == 400.0


# -- order -----------------------------------------------------------------------------------------------------------


def order_of_five(seed: int) -> tuple[int, ...]:
    async def main() -> tuple[int, ...]:
        order: list[int] = []

        async def step(number: int) -> None:
            order.append(number)

        await asyncio.gather(*(step(number) for number in range(5)))
        return tuple(order)

    return run(main(), seed=seed)


def test_the_seed_decides_the_order_of_what_is_ready_together() -> None:
    orders = {order_of_five(seed) for seed in range(200)}
    assert len(orders) > 60, "of 120 orders most should turn up in 200 draws"
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in orders)
    assert [order_of_five(seed) for seed in range(20)] == [order_of_five(seed) for seed in range(20)]


def test_tasks_in_a_set_are_visited_in_order_of_creation() -> None:
    async def main() -> tuple[int, ...]:
        cancelled: list[int] = []

        async def wait(number: int) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(number)
                raise

        async def fail() -> None:
            await asyncio.sleep(1)
            raise KeyError

        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                for number in range(30):
                    group.create_task(wait(number))
                group.create_task(fail())
        return tuple(cancelled)

    assert run(main(), seed=4) == run(main(), seed=4)
    assert run(main(), seed=4) != run(main(), seed=5)


def test_names_and_hashes_of_tasks_and_futures_come_from_their_order_of_creation() -> None:
    async def main() -> list[tuple[str, int]]:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        named = asyncio.create_task(asyncio.sleep(0), name="mine")
        other = asyncio.create_task(asyncio.sleep(0))
        await asyncio.gather(named, other)
        assert len({future, named, other}) == 3
        return [("future", hash(future)), (named.get_name(), hash(named)), (other.get_name(), hash(other))]

    first = run(main(), seed=0)
    assert first == run(main(), seed=1)
    assert [name for name, _ in first] == ["future", "mine", f"{first[2][1]} sleep"]


def test_an_executor_runs_inline_and_its_outcome_comes_in_a_later_step() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        here = threading.get_ident()
        future = loop.run_in_executor(None, threading.get_ident)
        assert not future.done()
        assert await future == here
        assert await asyncio.to_thread(int, "7") == 7
        with pytest.raises(ValueError, match="seven"):
            await loop.run_in_executor(None, int, "seven")
        loop.run_in_executor(None, int, "7").cancel()

    run(main(), seed=0)


def test_call_soon_threadsafe_is_call_soon() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        called = asyncio.Event()
        loop.call_soon_threadsafe(called.set)
        await called.wait()

    run(main(), seed=0)


# -- deadlock, livelock, failures ------------------------------------------------------------------------------------


def test_a_deadlock_names_every_task_and_the_line_it_waits_at() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        other = asyncio.create_task(inner(gate), name="the other")
        await gate.wait()
        await other

    async def inner(gate: asyncio.Event) -> None:
        await gate.wait()

    with pytest.raises(Deadlock, match=r"main \(main:\d+ > wait:\d+\), the other \(inner:\d+ > wait:\d+\)") as caught:
        run(main(), seed=77)
    assert any("seed 77" in note for note in caught.value.__notes__)


def test_a_livelock_is_noticed() -> None:
    async def main() -> None:
        for _ in itertools.count():
            await asyncio.sleep(0)

    with pytest.raises(Livelock, match="main"):
        run(main(), seed=0)


def test_what_main_raises_comes_through_with_the_seed_and_the_last_events() -> None:
    async def main() -> None:
        await asyncio.sleep(3)
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost") as caught:
        run(main(), seed=42)
    notes = "\n".join(caught.value.__notes__)
    assert "seed 42, virtual time 3.000000 s" in notes
    assert "main" in notes


def test_an_unhandled_exception_fails_the_run() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(boom)
        asyncio.create_task(fail())  # noqa: RUF006  no code keeps this task: its exception stays unhandled
        await asyncio.sleep(1)

    def boom() -> None:
        raise RuntimeError("in a callback")

    async def fail() -> None:
        raise ValueError("in a task")

    with pytest.raises(ExceptionGroup, match="did not handle") as caught:
        run(main(), seed=0)
    assert {type(error) for error in caught.value.exceptions} == {RuntimeError, ValueError}


def test_an_unhandled_exception_is_noted_beside_the_one_that_main_raised() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(int, "unhandled")
        await asyncio.sleep(1)
        raise KeyError

    with pytest.raises(KeyError) as caught:
        run(main(), seed=0)
    assert any("unhandled" in note for note in caught.value.__notes__)


def test_leftover_tasks_are_cancelled_and_collected() -> None:
    ended: list[str] = []

    async def main() -> None:
        for name in ("a", "b"):
            asyncio.get_running_loop().create_task(linger(name))
        await asyncio.sleep(1)

    async def linger(name: str) -> None:
        try:
            await asyncio.sleep(1e9)
        finally:
            await asyncio.sleep(1)
            ended.append(name)

    run(main(), seed=0)
    assert sorted(ended) == ["a", "b"]


def test_a_leftover_task_that_fails_or_ignores_its_cancellation_fails_the_run() -> None:
    async def main() -> None:
        asyncio.get_running_loop().create_task(fails(), name="sore")
        asyncio.get_running_loop().create_task(stays(), name="deaf")
        await asyncio.sleep(1)

    async def fails() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            raise KeyError("while ending")

    async def stays() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1000)

    with pytest.raises(ExceptionGroup) as caught:
        run(main(), seed=0)
    assert [type(error).__name__ for error in caught.value.exceptions] == ["KeyError", "LocalError"]
    assert "deaf" in str(caught.value.exceptions[1])


def test_garbage_is_collected_at_counted_steps_not_when_the_allocator_says() -> None:
    class Circle:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            finalised.append(len(finalised))

    async def main() -> None:
        for _ in range(5000):
            Circle()
        await asyncio.sleep(0)
        assert not finalised
        for _ in range(STEPS_PER_COLLECTION):
            await asyncio.sleep(0)
        assert len(finalised) == 5000

    finalised: list[int] = []
    run(main(), seed=0)


def test_async_generators_left_open_are_closed() -> None:
    closed: list[bool] = []

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(1)
            closed.append(True)

    async def main() -> None:
        numbers = endless()
        kept.append(numbers)
        await anext(numbers)

    kept: list[AsyncIterator[int]] = []
    run(main(), seed=0)
    assert closed == [True]


# -- nothing real ----------------------------------------------------------------------------------------------------


async def open_connection() -> None:
    await asyncio.open_connection("127.0.0.1", 1)


async def start_server() -> None:
    await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)


async def start_process() -> None:
    await asyncio.create_subprocess_exec("true")


async def handle_signal() -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)


def in_a_coroutine(function: Callable[[], object]) -> Callable[[], object]:
    async def call() -> None:
        function()

    call.__name__ = getattr(function, "__name__", "call")
    return call


FORBIDDEN = [
    open_connection,
    start_server,
    start_process,
    handle_signal,
    in_a_coroutine(socket.socket),
    in_a_coroutine(lambda: socket.getaddrinfo("localhost", 1)),
    in_a_coroutine(lambda: subprocess.run(["true"], check=True)),
    in_a_coroutine(lambda: threading.Thread(target=print).start()),
    in_a_coroutine(lambda: signal.signal(signal.SIGUSR1, signal.SIG_DFL)),
    in_a_coroutine(lambda: time.sleep(0)),
    in_a_coroutine(lambda: os.fork()),  # noqa: PLW0108  the loop replaces os.fork, so look it up when called
]


@pytest.mark.parametrize("reach", FORBIDDEN)
def test_reaching_for_the_real_world_is_forbidden(reach: Callable[[], object]) -> None:
    async def main() -> None:
        with pytest.raises(Forbidden, match="does not exist in a simulation"):
            await reach()  # type: ignore[misc]

    run(main(), seed=0)


def test_the_real_world_is_back_after_a_run_even_a_failed_one() -> None:
    was_enabled = gc.isenabled()
    with pytest.raises(Deadlock):
        run(asyncio.Event().wait(), seed=0)
    assert gc.isenabled() == was_enabled
    time.sleep(0)
    socket.socket().close()
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
