"""Small worlds as a person would try them: groups that part and meet, newcomers, idle networks, several networks."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from echonode.errors import LocalError
from echonode.limits import COMPARE_INTERVAL_S, IDLE_TIMEOUT_S, SESSION_AGE_S_MAX
from echonode.model.record import MAIN, Draft
from echonode.node.events import (
    FollowBegan,
    FollowEnded,
    PeerAbsent,
    SessionFailed,
    SyncCompleted,
    SyncProgress,
)
from echonode.sim.event_loop import SimLoop
from echonode.sim.tcp_link import LinkConditions
from echonode.sim.world import World

# A session that hangs is given up after IDLE_TIMEOUT_S; its peer is dialled again within the longest back-off.
SETTLED_WITHIN_S = 2 * IDLE_TIMEOUT_S + max(COMPARE_INTERVAL_S)


def in_world(seed: int, work: Callable[[World], Awaitable[None]]) -> SimLoop:
    loop = SimLoop(seed=seed)

    async def main() -> None:
        world = World(loop, seed=seed)
        await work(world)
        await world.stop()

    loop.complete(main())
    return loop


# -- bad networks ----------------------------------------------------------------------------------------------------


def test_groups_that_write_apart_keep_every_concurrent_version_and_agree_on_the_winner():
    async def work(world: World) -> None:
        members = [await world.add_node(f"n{number}") for number in range(4)]
        world.introduce()
        await world.settled(within_s=30)
        groups = members[:2], members[2:]
        world.network.partition(*[{member.host for member in group} for group in groups])
        for group, body in zip(groups, (b"left", b"right"), strict=True):
            for number in range(100):
                draft = Draft(context=MAIN, author=group[0].node.records.shared, name=f"todo-{number}", body=body)
                await group[0].node.records.put(draft)
        await asyncio.sleep(100)
        assert [await member.node.records.conflicts(MAIN) for member in members] == [[]] * 4
        world.network.heal()
        await world.settled(within_s=SETTLED_WITHIN_S)
        conflicts = [await member.node.records.conflicts(MAIN) for member in members]
        read = [[[head.id for head in heads] for heads in some] for some in conflicts]
        assert len(read[0]) == 100
        assert all(len(heads) == 2 for heads in read[0])
        assert read[0] == read[1] == read[2] == read[3], "the same heads, the same winner first"
        for heads in conflicts[3]:
            await members[3].node.records.put(
                Draft(context=MAIN, author=heads[0].author, name=heads[0].name, body=b"agreed")
            )
        await world.settled(within_s=60)
        for member in members:
            assert await member.node.records.conflicts(MAIN) == []

    in_world(1, work)


def test_a_newcomer_is_filled_while_the_others_go_on_writing():
    async def work(world: World) -> None:
        one, two = await world.add_node("one"), await world.add_node("two")
        drafts = [Draft(context=MAIN, author=one.node.id, name=f"n{number}", body=b"x" * 50) for number in range(3000)]
        await one.node.records.put_all(drafts)
        world.introduce()
        await world.settled(within_s=60)
        slow = LinkConditions(bandwidth_bytes_s=200_000, latency_s=0.02)
        for source, target in (("10.0.0.1", "10.0.0.3"), ("10.0.0.2", "10.0.0.3")):
            world.network.set_link(source, target, slow)
        newcomer = await world.add_node("newcomer")
        world.introduce()
        for number in range(50):
            await asyncio.sleep(0.1)
            await two.node.records.put(Draft(context=MAIN, author=two.node.id, name=f"live-{number}"))
        await world.settled(within_s=SETTLED_WITHIN_S)
        assert len(newcomer.node.store.tree(MAIN)) == 3050
        assert "snapshot" in {done.mode for done in newcomer.conversations}
        received = sum(done.received for done in newcomer.conversations if done.context == MAIN)
        assert received < 2 * 3050, "not every node sent it everything"

    in_world(1, work)


def test_a_half_open_link_in_the_middle_of_a_transfer_is_given_up_and_the_transfer_made_good():
    async def work(world: World) -> None:
        one, two = await world.add_node("one"), await world.add_node("two")
        link = LinkConditions(bandwidth_bytes_s=50_000)
        world.network.set_link(one.host, two.host, link)
        drafts = [Draft(context=MAIN, author=one.node.id, name=f"n{number}", body=b"x" * 200) for number in range(500)]
        await one.node.records.put_all(drafts)
        world.introduce()
        await asyncio.sleep(1.5)
        world.network.half_open(one.host, two.host)
        await world.settled(within_s=SETTLED_WITHIN_S)
        assert len(two.node.store.tree(MAIN)) == 500

    in_world(1, work)


# -- quiet networks --------------------------------------------------------------------------------------------------


def test_two_nodes_idle_for_a_day_report_nothing_and_dial_only_to_renew_links():
    day_s = 24 * 3600

    async def work(world: World) -> None:
        members = [await world.add_node("one"), await world.add_node("two")]
        await members[0].node.records.put(Draft(context=MAIN, author=members[0].node.id, name="a"))
        world.introduce()
        await world.settled(within_s=10)
        events_before, dialled = [len(member.events) for member in members], world.network.connections
        await asyncio.sleep(day_s)
        renewals = int(day_s / (0.8 * SESSION_AGE_S_MAX))
        # When a link ends, both sides may dial at once.
        assert 0 < world.network.connections - dialled <= 2 * renewals
        for member, before in zip(members, events_before, strict=True):
            news = member.events[before:]
            assert {type(event) for event in news} == {FollowBegan, FollowEnded}
            assert all(entry.in_sync and entry.is_following for entry in member.node.peer_table.peers.values())
        assert len(world.network.live) == 1

    in_world(1, work)


def test_nodes_that_meet_on_a_good_network_report_few_events():
    async def work(world: World) -> None:
        members = [await world.add_node(f"n{number}") for number in range(6)]
        await members[0].node.records.put(Draft(context=MAIN, author=members[0].node.id, name="a"))
        world.introduce()
        await world.settled(within_s=5)
        for member in members:
            assert not [event for event in member.events if isinstance(event, SessionFailed | PeerAbsent)]
            news = [event for event in member.events if not isinstance(event, SyncProgress)]
            assert len(news) < 100
            outcomes = {event.outcome for event in member.events if isinstance(event, SyncCompleted)}
            assert outcomes <= {"equal", "moved", "refused", "one_way"}

    in_world(1, work)


def test_nodes_of_the_open_network_find_each_other_and_no_private_node():
    async def work(world: World) -> None:
        here = [await world.add_node(f"open-{number}", secret=None) for number in range(2)]
        private = await world.add_node("private")
        await here[0].node.records.put(Draft(context=MAIN, author=here[0].node.id, name="a"))
        world.introduce()
        await asyncio.sleep(30)
        assert here[1].node.store.tree(MAIN).root == here[0].node.store.tree(MAIN).root
        assert MAIN not in private.node.store.contexts()
        with pytest.raises(LocalError):
            here[0].node.addresses.resolve("shared/todo")

    in_world(1, work)
