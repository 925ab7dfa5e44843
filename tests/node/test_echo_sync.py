"""Syncs as the Echo Sync Protocol has them: directions, attempts, batches, conflicts and strategies."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from echonode.model.heads import winner
from echonode.model.record import MAIN
from echonode.node.conflicts import Strategy
from echonode.node.echo_sync import SyncOrder, SyncOutcome
from echonode.node.sync_history import HistoryEntry, SyncHistory
from echonode.node.views import SyncStatus
from echonode.sim.world import Member, World
from echonode.wire.messages import Direction
from tests.node.test_on_demand import crowd, holds
from tests.node.worlds import in_a_world, put
from tests.sync.talk import heads_in

PUSH = SyncOrder(operation="push", direction=Direction.SEND, timeout_s=30)
PULL = SyncOrder(operation="pull", direction=Direction.RECEIVE, timeout_s=30)
BOTH = SyncOrder(operation="sync", direction=Direction.BOTH, timeout_s=30)


def apart(world: World, one: Member, other: Member) -> None:
    world.network.block(one.host, other.host)
    world.network.block(other.host, one.host)


async def sync(one: Member, other: Member, order: SyncOrder) -> SyncOutcome:
    return await one.node.echo_sync.sync([other.node.id], order)


async def value(member: Member, name: str) -> Any:
    shared = member.node.records.shared
    assert shared is not None
    heads = await member.node.records.heads(MAIN, shared, name)
    return json.loads(winner(heads).body) if heads else None


async def write(member: Member, name: str, body: object) -> None:
    await put(member, name, json.dumps(body).encode(), shared=True)


async def concurrent(world: World, ours: Member, theirs: Member) -> None:
    """Have both write shared/x while they cannot reach each other."""
    apart(world, ours, theirs)
    await asyncio.sleep(60)  # links are over, and both know it
    await write(ours, "x", {"ours": 1})
    await write(theirs, "x", {"theirs": 2})
    world.network.heal()


@pytest.mark.parametrize("order", [PUSH, PULL, BOTH])
def test_edits_that_did_not_know_each_other_are_a_conflict_whichever_way_the_sync_goes(order: SyncOrder) -> None:
    async def work(world: World) -> None:
        ours, theirs = await crowd(world, 2)
        await concurrent(world, ours, theirs)
        outcome = await sync(ours, theirs, order)
        (report,) = outcome.reports
        assert report.status is SyncStatus.VERIFIED
        (contested,) = outcome.contested
        assert json.loads(contested.local.body) == {"ours": 1}
        assert json.loads(contested.remote.body) == {"theirs": 2}
        (entry,) = ours.node.echo_sync.history.of([theirs.node.id], limit=5)
        assert (entry.operation, entry.status) == (order.operation, "conflict")
        assert entry.details["sync_id"] == outcome.sync_id

    in_a_world(work)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (Strategy.PREFER_LOCAL, {"ours": 1}),
        (Strategy.PREFER_REMOTE, {"theirs": 2}),
        (Strategy.MERGE, {"ours": 1, "theirs": 2}),
    ],
)
@pytest.mark.parametrize("order", [PUSH, BOTH])
def test_a_forced_sync_ends_conflicts_by_its_strategy_on_both_sides(
    order: SyncOrder, strategy: Strategy, expected: dict[str, int]
) -> None:
    async def work(world: World) -> None:
        ours, theirs = await crowd(world, 2)
        await concurrent(world, ours, theirs)
        outcome = await sync(ours, theirs, replace(order, is_forced=True, strategy=strategy))
        assert [report.status for report in outcome.reports] == [SyncStatus.VERIFIED]
        assert (len(outcome.resolved), outcome.contested) == (1, [])
        assert await value(ours, "x") == await value(theirs, "x") == expected
        assert not theirs.node.conflicts.count()

    in_a_world(work)


def test_a_forced_pull_ends_conflicts_here() -> None:
    async def work(world: World) -> None:
        ours, theirs = await crowd(world, 2)
        await concurrent(world, ours, theirs)
        await sync(ours, theirs, replace(PULL, is_forced=True, strategy=Strategy.PREFER_REMOTE))
        assert await value(ours, "x") == {"theirs": 2}
        assert not ours.node.conflicts.count()

    in_a_world(work)


def test_edits_that_knew_each_other_are_no_conflict() -> None:
    async def work(world: World) -> None:
        ours, theirs = await crowd(world, 2)
        await write(ours, "x", 1)
        await world.settled(within_s=60)
        apart(world, ours, theirs)
        await asyncio.sleep(60)
        await write(theirs, "x", 2)
        await write(theirs, "y", 3)
        world.network.heal()
        outcome = await sync(ours, theirs, PUSH)
        assert outcome.contested == []

    in_a_world(work)


def test_a_push_brings_back_no_more_than_the_other_side_of_conflicts() -> None:
    async def work(world: World) -> None:
        ours, theirs = await crowd(world, 2)
        await concurrent(world, ours, theirs)
        await write(theirs, "only-there", 1)
        before = len(heads_in(ours.node.store))
        outcome = await sync(ours, theirs, PUSH)
        assert len(outcome.contested) == 1
        assert len(heads_in(ours.node.store)) == before + 1
        assert not holds(ours, "only-there")

    in_a_world(work)


def test_only_the_conflicts_of_the_state_count() -> None:
    async def work(world: World) -> None:
        ours, theirs = await crowd(world, 2)
        await concurrent(world, ours, theirs)
        await write(ours, "y", 1)
        assert [each.local.name for each in (await sync(ours, theirs, BOTH)).contested] == ["x"]
        chosen = await ours.node.echo_sync.sync([theirs.node.id], BOTH, names={"y"})
        assert chosen.contested == []
        own = await world.add_node("own")
        assert own.node.echo_sync.author == own.node.records.shared
        open_ = await world.add_node("open", secret=None)
        assert open_.node.echo_sync.author == open_.node.id

    in_a_world(work)


def test_a_peer_that_is_away_is_tried_again_until_it_is_there() -> None:
    async def work(world: World) -> None:
        ours, theirs = await crowd(world, 2)
        apart(world, ours, theirs)
        await asyncio.sleep(60)
        await write(ours, "x", 1)
        outcome = await sync(ours, theirs, replace(PUSH, attempts=2, timeout_s=60))
        assert outcome.reports[0].status is SyncStatus.UNREACHABLE
        assert outcome.attempts[theirs.node.id] == 2
        asyncio.get_running_loop().call_later(12, world.network.heal)
        outcome = await sync(ours, theirs, replace(PUSH, attempts=9, timeout_s=60))
        assert outcome.reports[0].status is SyncStatus.VERIFIED
        assert 2 < outcome.attempts[theirs.node.id] < 9
        assert holds(theirs, "x")

    in_a_world(work)


def test_time_ends_the_attempts() -> None:
    async def work(world: World) -> None:
        ours, theirs = await crowd(world, 2)
        apart(world, ours, theirs)
        await asyncio.sleep(60)
        began_s = ours.clock.monotonic_s()
        outcome = await sync(ours, theirs, replace(PUSH, attempts=50, timeout_s=12))
        assert outcome.reports[0].status is SyncStatus.TIMED_OUT
        assert ours.clock.monotonic_s() - began_s < 13
        assert ours.node.echo_sync.history.of(limit=1)[0].is_error

    in_a_world(work)


def test_a_batch_goes_on_past_a_peer_that_fails() -> None:
    async def work(world: World) -> None:
        ours, *others = await crowd(world, 6)
        apart(world, ours, others[0])
        await asyncio.sleep(60)
        await write(ours, "x", 1)
        batch = replace(BOTH, operation="batch", batch_size=2, timeout_s=60)
        outcome = await ours.node.echo_sync.sync([other.node.id for other in others], batch)
        assert [report.peer for report in outcome.reports] == [other.node.id for other in others]
        assert outcome.reports[0].status is SyncStatus.UNREACHABLE
        assert all(report.status is SyncStatus.VERIFIED for report in outcome.reports[1:])
        assert all(holds(other, "x") for other in others[1:])

    in_a_world(work)


def test_a_pause_keeps_a_peer_out_of_a_sync_and_only_force_ignores_it() -> None:
    async def work(world: World) -> None:
        ours, paused, other = await crowd(world, 3)
        ours.node.pause_control.pause("n1", None)
        await asyncio.sleep(1)
        await write(ours, "x", 1)
        peers = [paused.node.id, other.node.id]
        first, second = (await ours.node.echo_sync.sync(peers, replace(PUSH, attempts=3))).reports
        assert (first.name, first.status, second.status) == ("n1", SyncStatus.FAILED, SyncStatus.VERIFIED)
        assert "echonode resume" in first.error
        apart(world, paused, other)
        await write(ours, "y", 1)
        assert not holds(paused, "y")
        (report,) = (await sync(ours, paused, replace(PUSH, is_forced=True))).reports
        assert report.status is SyncStatus.VERIFIED
        assert holds(paused, "y")
        await asyncio.sleep(1)
        await write(ours, "z", 1)
        await asyncio.sleep(120)
        assert not holds(paused, "z"), "the pause goes on afterwards"

    in_a_world(work)


def test_an_urgent_sync_passes_others_that_wait_for_the_same_busy_peer() -> None:
    async def work(world: World) -> None:
        ours, theirs = await crowd(world, 2)
        apart(world, ours, theirs)
        await asyncio.sleep(60)
        ended: list[int] = []

        async def ask(priority: int) -> None:
            await sync(ours, theirs, replace(BOTH, priority=priority, timeout_s=60))
            ended.append(priority)

        asked = []
        for priority in (0, 1, 10, 5):
            asked.append(asyncio.create_task(ask(priority)))
            await asyncio.sleep(0.1)
        assert (ours.node.on_demand.queue.running, ours.node.on_demand.queue.waiting) == (1, 3)
        await asyncio.gather(*asked)
        assert ended == [0, 10, 5, 1]  # the first had its place before the others came

    in_a_world(work)


def test_the_history_is_bounded_and_goes_on_from_its_file() -> None:
    def entry(number: int, peer: bytes = b"p") -> HistoryEntry:
        return HistoryEntry(
            timestamp_ms=number, peer=peer, peer_name="", operation="pull", status="success", duration_s=0
        )

    class File:
        def __init__(self, entries: list[HistoryEntry]) -> None:
            self.entries = entries

        def read(self) -> list[HistoryEntry]:
            return list(self.entries)

        def append(self, entry: HistoryEntry) -> None:
            self.entries.append(entry)

    file = File([entry(1), entry(2, b"q")])
    history = SyncHistory()
    history.keep_in(file)
    for number in range(3, 1200):
        history.add(entry(number))
    assert len(file.entries) == 1199
    assert [each.timestamp_ms for each in history.of([b"p"], limit=2)] == [1199, 1198]
    assert len(history.of(limit=5000)) == 1000
    assert history.of([b"q"], limit=9) == []
