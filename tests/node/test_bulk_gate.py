"""Conversations that bring the same: those that we lead come one after another, and nobody waits long for one."""

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


class Court:
    """One context; `begun` says who led about it when, and with what in mind."""

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
    loop.complete(work(Court(loop)))


def test_one_comes_after_the_other_and_sees_what_that_brought():
    async def work(court: Court) -> None:
        answers = iter([DIFFERENT, EQUAL])
        await asyncio.gather(
            court.lead("one", lasts_s=0.05),
            court.lead("two", lasts_s=0.05, choose=lambda: next(answers)),
        )
        assert court.begun == [("one", 0.0, DIFFERENT), ("two", 0.05, EQUAL)]

    in_court(work)


def test_one_that_brings_nothing_is_not_waited_for():
    async def work(court: Court) -> None:
        await asyncio.gather(*[court.lead(name, lasts_s=10.0) for name in ("one", "two", "three")])
        assert [at_s for _, at_s, _ in court.begun] == [0.0, STILL_S, STILL_S]

    in_court(work)


def test_one_that_gets_on_is_waited_for_but_not_for_ever():
    async def work(court: Court) -> None:
        await asyncio.gather(court.lead("one", lasts_s=10.0, moves=True), court.lead("two", lasts_s=0.05))
        assert [at_s for _, at_s, _ in court.begun] == [0.0, ALL_S]

    in_court(work)


def test_who_has_nothing_to_say_does_not_wait():
    async def work(court: Court) -> None:
        await asyncio.gather(court.lead("one", lasts_s=1.0), court.lead("two", lasts_s=0.0, choose=lambda: EQUAL))
        assert sorted(at_s for _, at_s, _ in court.begun) == [0.0, 0.0]

    in_court(work)


def test_one_that_is_broken_off_lets_the_next_begin():
    async def work(court: Court) -> None:
        first = asyncio.create_task(court.lead("one", lasts_s=10.0, moves=True))
        await asyncio.sleep(0.01)
        waiting = asyncio.create_task(court.lead("two", lasts_s=10.0))
        third = asyncio.create_task(court.lead("three", lasts_s=0.05))
        await asyncio.sleep(0.01)
        waiting.cancel()
        first.cancel()
        await third
        assert [name for name, _, _ in court.begun] == ["one", "three"]
        await court.lead("four", lasts_s=0.0)
        assert court.begun[-1][1] == pytest.approx(0.07)

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
        assert 12 * 11 * 20 <= sent < 2 * 12 * 11 * 22, "each record of everybody's, and of two key statements, once"

    in_a_world(work)
