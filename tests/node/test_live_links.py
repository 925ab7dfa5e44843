"""Links of real nodes: how a session becomes a link, what travels over it, and when it ends."""

import asyncio
from collections.abc import Callable

import pytest

from echonode.limits import IDLE_TIMEOUT_S, LINKS_CHOSEN, SESSION_AGE_S_MAX
from echonode.model.keys import KeyState, statement_draft
from echonode.model.record import MAIN, Draft
from echonode.node import link_selection
from echonode.node.events import FollowBegan, FollowEnded, PeerAbsent, SessionFailed, SyncCompleted
from echonode.node.views import PeerState, SyncStatus
from echonode.sim.tcp_link import LinkConditions
from echonode.sim.world import Member, World
from echonode.wire.messages import Direction
from tests.node.test_on_demand import crowd, holds, nowhere
from tests.node.worlds import in_a_world, names, put, put_unnoticed, saved, sight, told, view_of


async def linked(world: World, count: int) -> list[Member]:
    members = await crowd(world, count)
    await asyncio.sleep(10)
    return members


async def until(is_so: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if is_so():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not within 100 s")


def degree(member: Member) -> int:
    return sum(view.following for view in member.node.peers())


@pytest.mark.parametrize("seed", range(4))
def test_nodes_that_have_met_follow_each_other_over_one_link_and_say_so(seed):
    async def work(world: World) -> None:
        ours, theirs = await linked(world, 2)
        for one, other in ((ours, theirs), (theirs, ours)):
            view = view_of(one, other)
            assert (view.state, view.following, view.lag, view.in_sync) == (PeerState.CONNECTED, True, 0, True)
            assert len(told(one, FollowBegan)) - len(told(one, FollowEnded)) == 1
        here, there = ({began.session for began in told(member, FollowBegan)} for member in (ours, theirs))
        assert here & there
        assert len(world.network.live) == 1
        assert not told(ours, SessionFailed) and not told(theirs, SessionFailed)

    in_a_world(work, seed=seed)


def test_what_is_put_on_one_node_is_on_those_that_follow_it_one_latency_later_and_no_session_is_opened():
    async def work(world: World) -> None:
        members = await linked(world, 3)
        before = world.network.connections
        for number, member in enumerate(members):
            began_s = world.loop.time()
            await put(member, f"n{number}")
            await asyncio.sleep(0.005)
            assert all(holds(other, f"n{number}") for other in members)
            assert world.loop.time() - began_s < 0.01
        assert world.network.connections == before
        await asyncio.sleep(5)
        for member in members:
            assert all(view.in_sync for view in member.node.peers())

    in_a_world(work)


def test_every_node_of_many_follows_a_few_and_all_hear_of_everything():
    async def work(world: World) -> None:
        members = await linked(world, 14)
        assert all(LINKS_CHOSEN <= degree(member) < len(members) for member in members)
        for number in range(10):
            await put(members[number], f"n{number}")
        await asyncio.sleep(1)
        for member in members:
            assert await names(member) == {f"n{number}" for number in range(10)}

    in_a_world(work)


def test_those_whose_peers_stop_follow_others_and_still_hear_of_everything():
    async def work(world: World) -> None:
        members = await linked(world, 10)
        gone = members[:5]
        for member in gone:
            world.network.crash(member.host)
            member.node.connections.dial = nowhere
        await asyncio.sleep(2 * IDLE_TIMEOUT_S)
        left = members[5:]
        assert all(degree(member) >= LINKS_CHOSEN for member in left)
        await put(left[0], "news")
        await asyncio.sleep(1)
        assert all(holds(member, "news") for member in left)

    in_a_world(work)


def test_groups_that_were_apart_find_together_by_comparing_at_random():
    async def work(world: World) -> None:
        members = await crowd(world, 10)
        groups = members[:5], members[5:]
        world.network.partition(*[{member.host for member in group} for group in groups])
        for one in groups[0]:
            for other in groups[1]:
                world.network.cut(one.host, other.host)
        await asyncio.sleep(1200)
        for number, group in enumerate(groups):
            await put(group[0], f"of {number}")
        await asyncio.sleep(10)
        world.network.heal()
        await asyncio.sleep(900)
        for member in members:
            assert await names(member) == {"of 0", "of 1"}

    in_a_world(work)


def test_a_sync_that_is_asked_for_runs_beside_the_link():
    async def work(world: World) -> None:
        ours, theirs = await linked(world, 2)
        await put_unnoticed(theirs, "a")
        (report,) = await ours.node.sync(None, Direction.BOTH, 10)
        assert report.status is SyncStatus.VERIFIED
        assert await names(ours) == {"a"}
        assert view_of(ours, theirs).following
        assert len(told(ours, FollowEnded)) == len(told(theirs, FollowEnded))

    in_a_world(work)


def test_a_root_that_stays_another_is_mended_by_a_comparison():
    async def work(world: World) -> None:
        ours, theirs = await linked(world, 2)
        held = len(told(ours, SyncCompleted))
        await put_unnoticed(theirs, "a")
        theirs.node.store.tree(MAIN)
        for link in theirs.node.live_links.plumtree.links.values():
            link._sender._told[MAIN] = theirs.node.store.seq(MAIN)  # type: ignore[attr-defined]  # as if it were told
        await asyncio.sleep(300)
        assert await names(ours) == {"a"}
        assert len(told(ours, SyncCompleted)) > held

    in_a_world(work)


# -- ends ------------------------------------------------------------------------------------------------------------


def test_links_are_renewed_before_they_are_too_old():
    async def work(world: World) -> None:
        ours, theirs = await linked(world, 2)
        await asyncio.sleep(3 * SESSION_AGE_S_MAX)
        assert view_of(ours, theirs).following
        ended = told(ours, FollowEnded)
        assert len(ended) >= 3
        assert all(each.why == "finished" and each.duration_s <= SESSION_AGE_S_MAX for each in ended)
        assert not told(ours, SessionFailed) and not told(ours, PeerAbsent)

    in_a_world(work)


def test_a_link_that_breaks_is_made_anew_at_once_and_nothing_is_missed():
    async def work(world: World) -> None:
        ours, theirs = await linked(world, 2)
        for number in range(5):
            world.network.cut(ours.host, theirs.host)
            await put(theirs, f"n{number}")
            await asyncio.sleep(5)
            assert view_of(ours, theirs).following
        assert len(await names(ours)) == 5
        assert not told(ours, PeerAbsent)

    in_a_world(work)


@pytest.mark.parametrize("who_has_gone_back", ["the one who dialled", "the one who answered"])
def test_a_store_that_lost_what_others_wrote_is_followed_again_and_nobody_is_blamed(who_has_gone_back):
    async def work(world: World) -> None:
        members = await linked(world, 2)
        (began, *_) = told(members[0], FollowBegan)
        is_first = (began.role == "initiator") == (who_has_gone_back == "the one who dialled")
        ours, theirs = members if is_first else members[::-1]
        restore = saved(ours)
        for number in range(20):  # of one record: our log is twenty entries longer, and the peer still needs one
            await put(theirs, "edited", bytes([number]))
            await asyncio.sleep(1)
        assert holds(ours, "edited")
        world.crash(ours)
        restore()
        assert not holds(ours, "edited")
        await world.start(ours)
        await asyncio.sleep(120)
        assert ours.roots() == theirs.roots()
        assert view_of(ours, theirs).following and view_of(theirs, ours).following
        reasons = {event.reason for member in members for event in told(member, SessionFailed)}
        assert reasons <= {"transport"}, reasons
        cursor = theirs.node.store.cursor(ours.node.id, MAIN)
        assert cursor is not None
        assert cursor.seq <= ours.node.store.seq(MAIN)

    in_a_world(work)


def test_a_peer_whose_store_begins_another_life_behind_its_hello_stays_one_to_follow():
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        world.network.set_link(ours.host, theirs.host, LinkConditions(latency_s=0.1))
        sight(ours, theirs)
        await put(theirs, "a")
        peers = theirs.node.peer_table.peers
        await until(lambda: ours.node.id in peers)
        await theirs.node.records.renew_instance()
        await until(lambda: not peers[ours.node.id].sessions)
        assert not view_of(ours, theirs).following
        assert ours.node.peer_table.peers[theirs.node.id].rank < 1
        await asyncio.sleep(30)
        assert view_of(ours, theirs).following

    in_a_world(work, hushed=True)


def test_a_link_that_is_half_open_is_noticed_by_its_silence():
    async def work(world: World) -> None:
        ours, theirs = await linked(world, 2)
        world.network.half_open(ours.host, theirs.host)
        await put(theirs, "a")
        await asyncio.sleep(IDLE_TIMEOUT_S + 5)
        assert await names(ours) == {"a"}
        assert view_of(ours, theirs).following

    in_a_world(work)


@pytest.mark.parametrize("state", [KeyState.RETIRED, KeyState.COMPROMISED])
def test_a_peer_whose_key_its_root_takes_back_is_followed_no_more(state):
    async def work(world: World) -> None:
        ours, theirs, third = await linked(world, 3)
        identity = theirs.node.records.identity
        draft = statement_draft(identity.id, identity.device.public, state)
        await third.node.records.state_key(draft, identity.root)
        await asyncio.sleep(5)
        assert not view_of(ours, theirs).following and not view_of(third, theirs).following
        await put(ours, "not for them")
        await asyncio.sleep(100)
        assert "not for them" not in await names(theirs)
        assert view_of(ours, third).following

    in_a_world(work)


def test_a_node_that_has_enough_links_says_so_and_others_are_followed(monkeypatch):
    monkeypatch.setattr(link_selection, "LINKS_MAX", 2)

    async def work(world: World) -> None:
        members = await crowd(world, 6)
        await asyncio.sleep(300)
        assert all(0 < degree(member) <= LINKS_CHOSEN + 1 for member in members)
        for number, member in enumerate(members):
            await put(member, f"n{number}")
        await asyncio.sleep(600)
        for member in members:
            assert len(await names(member)) == 6

    in_a_world(work)


def test_a_slow_peer_lags_and_is_shown_to():
    async def work(world: World) -> None:
        ours, theirs = await linked(world, 2)
        world.network.cut(ours.host, theirs.host)
        world.network.set_link(ours.host, theirs.host, LinkConditions(bandwidth_bytes_s=1_000_000))
        await asyncio.sleep(10)
        node = ours.node
        for number in range(60):
            await node.records.put(Draft(context=MAIN, author=node.id, name=f"n{number}", body=bytes(150_000)))
        await asyncio.sleep(1)
        assert (view_of(ours, theirs).lag or 0) > 5
        await asyncio.sleep(60)
        assert view_of(ours, theirs).lag == 0
        assert len(await names(theirs)) == 60

    in_a_world(work)


@pytest.mark.parametrize("seed", range(2))
def test_what_one_peer_brings_is_not_told_to_another_that_had_the_same_root(seed):
    async def work(world: World) -> None:
        ours, theirs = await linked(world, 2)
        author = ours.node.id
        drafts = [Draft(context=MAIN, author=author, name=f"r{number}", body=bytes(100)) for number in range(1500)]
        await ours.node.records.put_all(drafts)
        await asyncio.sleep(30)
        late = await world.add_node("late")
        await put(late, "own")
        slow = LinkConditions(latency_s=0.01, bandwidth_bytes_s=50_000)
        for member in (ours, theirs):
            world.network.set_link(member.host, late.host, slow)
            world.network.set_link(late.host, member.host, slow)
        world.introduce()
        await world.settled(within_s=120)
        late.node.live_links.end_all()
        await asyncio.sleep(1)
        assert [done.received for done in told(late, SyncCompleted) if done.context == MAIN and done.received] == [1500]
        assert sum(ended.sent for ended in told(late, FollowEnded)) <= 3, "its own record and its own keys at most"

    in_a_world(work, seed=seed)
