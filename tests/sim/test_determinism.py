"""The same seed gives the same run in any process; the simulated clock and entropy."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from echonode.clock import Clock, Entropy
from echonode.sim.event_loop import SimClock, SimEntropy, Trace, run

ROOT = Path(__file__).parents[2]

WORLD = """
import asyncio, contextlib
from echonode.errors import TransportError
from echonode.sim.tcp_link import LinkConditions
from echonode.sim.event_loop import SimClock, SimEntropy, SimLoop
from echonode.sim.network import SimNetwork

def world(seed):
    loop = SimLoop(seed=seed)
    network = SimNetwork(loop, seed=seed, link=LinkConditions(jitter_s=0.01, fragment_bytes_max=100))

    async def echo(stream):
        with contextlib.suppress(TransportError):
            while data := await stream.read():
                await stream.write(data)
            await stream.close()

    async def talk(number, entropy, clock):
        dial = network.dial(f"host-{number}")
        for _ in range(5):
            await asyncio.sleep(entropy.uniform(0, 0.1))
            stream = await dial(f"host-{(number + 1) % 5}:4000")
            with contextlib.suppress(TransportError):
                await stream.write(entropy.random_bytes(300))
                await stream.read()
            loop.trace.note(f"{number} {clock.now_ms()}")
            await stream.close()

    async def main():
        listeners = {network.listen(f"host-{number}:4000", echo) for number in range(5)}
        loop.call_later(0.2, network.cut, "host-1", "host-2")
        waiting = {asyncio.create_task(asyncio.Event().wait()) for _ in range(20)}
        async with asyncio.TaskGroup() as group:
            for number in range(5):
                group.create_task(talk(number, SimEntropy(f"{seed}/{number}"), SimClock(loop, skew_ms=number)))
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)

    loop.complete(main())
    return loop.trace
"""


def traces(**environment: str) -> str:
    script = WORLD + "print(*(f'{world(seed).count}:{world(seed).digest}' for seed in range(5)))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120)
    return done.stdout


def test_the_same_seed_gives_the_same_trace_in_any_process() -> None:
    first = traces(PYTHONHASHSEED="0")
    assert len(set(first.split())) == 5, "different seeds give different runs"
    assert traces(PYTHONHASHSEED="1") == first
    assert traces(PYTHONHASHSEED="random", PYTHONMALLOC="malloc") == first
    assert traces(PYTHONHASHSEED="7", PYTHONMALLOC="malloc", PYTHONDEVMODE="1") == first


def test_traces_differ_by_a_single_byte_on_the_wire() -> None:
    one, two, same = Trace(), Trace(), Trace(keep=1)
    one.note("a > b 4 0badcafe")
    two.note("a > b 4 0badcaff")
    same.note("a > b 4 0badcafe")
    assert one.digest == same.digest != two.digest
    same.note("more")
    assert list(same.last) == ["more"]
    assert same.count == 2


# -- clock and entropy -----------------------------------------------------------------------------------------------


def test_the_clock_follows_the_loop_with_a_skew_that_may_change() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        right, ahead = SimClock(loop), SimClock(loop, skew_ms=5000)
        ports: list[Clock] = [right, ahead]
        began = [port.now_ms() for port in ports]
        await asyncio.sleep(1.5)
        assert [port.now_ms() for port in ports] == [began[0] + 1500, began[0] + 6500]
        ahead.skew_ms = -1000
        assert ahead.now_ms() == began[0] + 500
        assert right.monotonic_s() == ahead.monotonic_s() == 1.5

    run(main(), seed=0)


def test_entropy_is_the_seeds_and_independent_by_label() -> None:
    one, same, other = SimEntropy("7/a"), SimEntropy("7/a"), SimEntropy("7/b")
    ports: list[Entropy] = [one, same, other]
    drawn = [port.random_bytes(16) for port in ports]
    assert drawn[0] == drawn[1] != drawn[2]
    assert one.random_bytes(16) != drawn[0]
    assert all(2.0 <= one.uniform(2.0, 3.0) <= 3.0 for _ in range(100))
