"""The bulk gate: conversations that bring the same records come one after another, and none waits long."""

import asyncio
from collections.abc import Callable

import pytest

from echonode.limits import BULK_WAIT_S
from echonode.model.record import MAIN
from echonode.node.bulk_gate import BulkGate
from echonode.node.events import SyncCompleted
from echonode.sim.event_loop import SimClock, SimLoop
from echonode.sim.world import World
from echonode.sync.select import Mode, Selection
from tests.node.worlds import in_a_world, put, told

STILL_S, ALL_S = BULK_WAIT_S
DIFFERENT = Selection(Mode.LEVEL_WISE, "they differ")
EQUAL = Selection(None, "roots are equal")


class GatedContext:
    """One context; `begun` lists the conversations about it: by which peer, when, and with which selection."""

    def __init__(self, loop: SimLoop) -> None:
        self.loop = loop
        self.filling = BulkGate(SimClock(loop))
        self.begun: list[tuple[str, float, Selection]] = []

    async def lead(
        self, name: str, *, lasts_s: float, choose: Callable[[], Selection] = lambda: DIFFERENT, moves: bool = False
    ) -> None:
        async with self.filling.after_others(MAIN, choose) as selection:
            self.begun.append((name, round(self.loop.time(), 3), selection))
            while lasts_s > 0 and selection.mode is not None:
                await asyncio.sleep(min(lasts_s, 0.05))
                lasts_s -= 0.05
                if moves:
                    self.filling.moved_on(MAIN)


def in_court(work) -> None:
    loop = SimLoop(seed=0)
    loop.complete(work(GatedContext(loop)))


def test_one_comes_after_the_other_and_sees_what_that_brought():
    async def work(gated: GatedContext) -> None:
        answers = iter([DIFFERENT, EQUAL])
        await asyncio.gather(
            gated.lead("one", lasts_s=0.05),
            gated.lead("two", lasts_s=0.05, choose=lambda: next(answers)),
        )
        assert gated.begun == [("one", 0.0, DIFFERENT), ("two", 0.05, EQUAL)]

    in_court(work)


def test_one_that_brings_nothing_is_not_waited_for():
    async def work(gated: GatedContext) -> None:
        await asyncio.gather(*[gated.lead(name, lasts_s=10.0) for name in ("one", "two", "three")])
        assert [at_s for _, at_s, _ in gated.begun] == [0.0, STILL_S, STILL_S]

    in_court(work)


def test_one_that_gets_on_is_waited_for_but_not_for_ever():
    async def work(gated: GatedContext) -> None:
        await asyncio.gather(gated.lead("one", lasts_s=10.0, moves=True), gated.lead("two", lasts_s=0.05))
        assert [at_s for _, at_s, _ in gated.begun] == [0.0, ALL_S]

    in_court(work)


def test_who_has_nothing_to_say_does_not_wait():
    async def work(gated: GatedContext) -> None:
        await asyncio.gather(gated.lead("one", lasts_s=1.0), gated.lead("two", lasts_s=0.0, choose=lambda: EQUAL))
        assert sorted(at_s for _, at_s, _ in gated.begun) == [0.0, 0.0]

    in_court(work)


def test_one_that_is_broken_off_lets_the_next_begin():
    async def work(gated: GatedContext) -> None:
        first = asyncio.create_task(gated.lead("one", lasts_s=10.0, moves=True))
        await asyncio.sleep(0.01)
        waiting = asyncio.create_task(gated.lead("two", lasts_s=10.0))
        third = asyncio.create_task(gated.lead("three", lasts_s=0.05))
        await asyncio.sleep(0.01)
        waiting.cancel()
        first.cancel()
        await third
        assert [name for name, _, _ in gated.begun] == ["one", "three"]
        await gated.lead("four", lasts_s=0.0)
        assert gated.begun[-1][1] == pytest.approx(0.07)

    in_court(work)


def test_when_all_start_at_once_most_records_come_once():
    async def work(world: World) -> None:
        members = [await world.add_node(f"n{number}") for number in range(12)]
        for member in members:
            for number in range(20):
                await put(member, f"{member.name}-{number}")
        world.introduce()
        await world.settled(within_s=30)
        sent = sum(event.sent for member in members for event in told(member, SyncCompleted))
        assert sent < 2 * 12 * 11 * 22, "each record of everybody's, and of two key statements, once: some by a link"

    in_a_world(work)
