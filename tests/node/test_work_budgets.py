"""A peer that asks for more than its share of work waits; the others do not."""

import asyncio

from echonode.limits import WORK_BURST_S, WORK_SHARE, WORK_WAIT_S_MAX
from echonode.model.identity import IdentityId
from echonode.node.work_budgets import WorkBudgets
from echonode.sim.world import World
from echonode.sync.work import RECORD_FILTERED_S
from tests.node.worlds import in_a_world, put

ONE, OTHER = (IdentityId(bytes([number]) * 32) for number in (1, 2))


def test_a_peer_waits_once_it_has_used_up_its_share_and_others_do_not():
    async def work(world: World) -> None:
        member = await world.add_node("a")
        budgets, loop = WorkBudgets(member.clock), asyncio.get_running_loop()

        async def charged(peer: IdentityId, cost_s: float) -> float:
            began_s = loop.time()
            await budgets.charge(peer, cost_s)
            return round(loop.time() - began_s, 3)

        assert await charged(ONE, WORK_BURST_S) == 0
        assert await charged(ONE, 1) == 1 / WORK_SHARE
        assert await charged(OTHER, 1) == 0
        assert budgets.wait_s(OTHER) == 0 and abs(budgets.wait_s(ONE)) < 0.001
        await asyncio.sleep(2 / WORK_SHARE)
        assert await charged(ONE, 2) == 0
        assert await charged(ONE, 1000) == WORK_WAIT_S_MAX
        assert budgets.wait_s(ONE) > 1000
        await asyncio.sleep(2000 / WORK_SHARE)
        assert await charged(ONE, WORK_BURST_S) == 0, "a budget never holds more than its burst"
        assert await charged(ONE, 1) > 0

    in_a_world(work)


def test_what_a_peer_asks_for_is_charged_to_it():
    async def work(world: World) -> None:
        ours = await world.add_node("ours")
        for number in range(40):
            await put(ours, f"{number}")
        theirs = await world.add_node("theirs", subscriptions={"main": ("name=1*",)})
        charged: list[tuple[IdentityId, float]] = []
        budgets = ours.node.budgets

        async def charge(peer: IdentityId, cost_s: float) -> None:
            charged.append((peer, cost_s))
            await WorkBudgets.charge(budgets, peer, cost_s)

        ours.node.conversations.budgets = _Listening(ours.clock, charge)
        world.introduce()
        await asyncio.sleep(30)
        assert {peer for peer, _ in charged} == {theirs.node.id}
        assert any(cost_s >= 40 * RECORD_FILTERED_S for _, cost_s in charged), "a filter looked at every record"

    in_a_world(work)


class _Listening(WorkBudgets):
    """Budgets that pass every charge on."""

    def __init__(self, clock, charge) -> None:
        super().__init__(clock)
        self.charge = charge
