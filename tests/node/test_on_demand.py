"""Nodes that meet: crossing dials, peers that come and go, syncs on demand."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import NoReturn

import pytest

from echonode.errors import LocalError, TransportError
from echonode.limits import COMPARE_INTERVAL_S, DIALS_MAX, WRITE_FANOUT
from echonode.model.identity import IdentityId
from echonode.model.member_secret import MemberSecret
from echonode.model.record import MAIN
from echonode.node import link_selection
from echonode.node.events import NodeStopped, PeerAbsent, PeerConnected, RecordsApplied, SessionFailed, SyncCompleted
from echonode.node.views import PeerState, SyncStatus
from echonode.sim.tcp_link import LinkConditions
from echonode.sim.world import PORT, Member, World
from echonode.text import to_base32
from echonode.wire.messages import Direction
from tests.node.worlds import in_a_world, loud, names, put, put_unnoticed, sight, told, view_of
from tests.sync.talk import heads_in, versions_in


async def until(holds: Callable[[], bool]) -> None:
    """Wait until `holds` is true, five minutes at most."""
    for _ in range(60_000):
        if holds():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came")


def holds(member: Member, name: str) -> bool:
    return any(head.name == name for head in heads_in(member.node.store))


def has_version(member: Member, version: bytes) -> bool:
    return version in versions_in(member.node.store)


async def crowd(world: World, count: int) -> list[Member]:
    members = [await world.add_node(f"n{number}") for number in range(count)]
    world.introduce()
    await world.settled(within_s=60)
    return members


@pytest.mark.parametrize("seed", range(8))
def test_nodes_that_dial_each_other_at_once_settle_on_one_session_and_nothing_fails(seed):
    async def work(world: World) -> None:
        members = [await world.add_node(f"n{number}") for number in range(4)]
        for member in members:
            for number in range(30):
                await put(member, f"{member.name}-{number}")
        world.introduce()
        await world.settled(within_s=30)
        await asyncio.sleep(1)  # they are equal before all of them know it
        for member in members:
            assert not told(member, SessionFailed)
            assert not told(member, PeerAbsent)
            assert len(told(member, PeerConnected)) == 3
            assert len(await names(member)) == 120
            assert all(view.in_sync for view in member.node.peers())

    in_a_world(work, seed=seed)


@pytest.mark.parametrize("seed", range(8))
def test_syncs_asked_for_while_everybody_dials_are_verified_and_nobody_is_called_absent(seed):
    async def work(world: World) -> None:
        members = await crowd(world, 3)
        for number in range(5):
            for member in members:
                await put(member, f"{member.name}-{number}")
            reports = await asyncio.gather(
                *[member.node.sync(None, Direction.BOTH, 30) for member in members for _ in range(2)]
            )
            assert {report.status for some in reports for report in some} <= {SyncStatus.VERIFIED, SyncStatus.PARTIAL}
            await world.settled(within_s=30)
        for member in members:
            assert not told(member, SessionFailed) and not told(member, PeerAbsent)
            assert len(told(member, PeerConnected)) == 2

    in_a_world(work, seed=seed)


def test_a_sync_that_is_asked_for_says_what_it_did_with_whom():
    async def work(world: World) -> None:
        ours, theirs = await crowd(world, 2)
        world.network.block(ours.host, theirs.host)
        world.network.block(theirs.host, ours.host)
        await put(ours, "a")
        await put(theirs, "b")
        (report,) = await ours.node.sync([theirs.node.id], Direction.BOTH, 60)
        assert (report.status, report.conversations) == (SyncStatus.UNREACHABLE, ())
        assert report.error
        world.network.heal()
        (report,) = await ours.node.sync(None, Direction.BOTH, 60)
        assert report.status is SyncStatus.VERIFIED
        assert (report.peer, report.name) == (theirs.node.id, "n1")
        (conversation,) = report.conversations
        assert (conversation.context, conversation.sent, conversation.received) == (MAIN, 1, 1)
        (report,) = await ours.node.sync([theirs.node.id], Direction.BOTH, 60)
        assert (report.status, report.conversations) == (SyncStatus.VERIFIED, ())

    in_a_world(work)


def test_a_sync_one_way_moves_nothing_the_other_way(monkeypatch):
    monkeypatch.setattr(link_selection, "LINKS_CHOSEN", 0)
    monkeypatch.setattr(link_selection, "LINKS_ALL_MAX", 0)

    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        sight(ours, theirs)
        await world.settled(within_s=10)
        await put_unnoticed(ours, "a")
        await put_unnoticed(theirs, "b")
        (report,) = await ours.node.sync(None, Direction.RECEIVE, 10)
        assert report.status is SyncStatus.VERIFIED
        assert (await names(ours), await names(theirs)) == ({"a", "b"}, {"b"})
        await put_unnoticed(theirs, "c")
        (report,) = await ours.node.sync(None, Direction.SEND, 10)
        assert report.status is SyncStatus.VERIFIED
        assert (await names(ours), await names(theirs)) == ({"a", "b"}, {"a", "b", "c"})

    in_a_world(work, hushed=True)


def test_a_sync_that_takes_too_long_is_said_so():
    async def work(world: World) -> None:
        ours, theirs = await crowd(world, 2)
        world.network.block(ours.host, theirs.host)
        (report,) = await ours.node.sync(None, Direction.BOTH, 2)
        assert report.status is SyncStatus.TIMED_OUT
        world.network.heal()
        await put(theirs, "a")
        await asyncio.sleep(120)
        assert "a" in await names(ours)

    in_a_world(work)


def test_a_change_reaches_every_peer_within_a_hundred_milliseconds():
    async def work(world: World) -> None:
        members = await crowd(world, 6)
        await asyncio.sleep(10)
        began = world.loop.time()
        await put(members[2], "news")
        await until(lambda: all(holds(member, "news") for member in members))
        assert world.loop.time() - began < 0.1

    in_a_world(work)


def test_a_change_in_a_chain_is_passed_on():
    async def work(world: World) -> None:
        one, two, three = [await world.add_node(name) for name in ("one", "two", "three")]
        sight(one, two)
        sight(two, three)
        await asyncio.sleep(5)
        for number, body in enumerate((b"first, by snapshot", b"then by a walk")):
            began = world.loop.time()
            record = await put(one, "news", body)
            await until(partial(has_version, three, record.id))
            assert world.loop.time() - began < 0.3, number
        await asyncio.sleep(100)

    in_a_world(work, hushed=True)


def test_many_changes_at_once_reach_many_peers():
    async def work(world: World) -> None:
        members = await crowd(world, WRITE_FANOUT + 4)
        for number in range(20):
            await put(members[0], f"news-{number}")
        await world.settled(within_s=max(COMPARE_INTERVAL_S) + 5)

    in_a_world(work)


def test_a_slow_peer_does_not_keep_the_others_waiting():
    async def work(world: World) -> None:
        members = await crowd(world, DIALS_MAX + 3)
        ours, *others = members
        slow, fast = others[:-1], others[-1]
        for member in slow:
            world.network.set_link(ours.host, member.host, LinkConditions(bandwidth_bytes_s=10_000))
        await put(ours, "a", b"x" * 150_000)
        await asyncio.sleep(3)
        assert "a" in await names(fast)
        began = world.loop.time()
        await put(ours, "b")
        await until(lambda: holds(fast, "b"))
        assert world.loop.time() - began < 0.2

    in_a_world(work)


# -- coming and going ------------------------------------------------------------------------------------------------


def test_a_peer_that_stops_is_absent_once_and_back_when_it_returns():
    async def work(world: World) -> None:
        ours, theirs = await crowd(world, 2)
        await put(ours, "a")
        await world.settled(within_s=10)
        assert theirs.listener is not None
        await theirs.listener.close()
        dial, theirs.node.connections.dial = theirs.node.connections.dial, nowhere
        world.network.cut(ours.host, theirs.host)
        await asyncio.sleep(2000)
        assert len(told(ours, PeerAbsent)) == 1
        assert view_of(ours, theirs).state is PeerState.ABSENT
        assert len(loud(ours)) < 10
        theirs.listener = world.network.listen(f"{theirs.host}:{PORT}", theirs.node.accept)
        theirs.node.connections.dial = dial
        await put(ours, "b")
        await asyncio.sleep(400)
        assert "b" in await names(theirs)
        assert view_of(ours, theirs).state is PeerState.CONNECTED

    in_a_world(work)


async def nowhere(address: str) -> NoReturn:
    raise TransportError(f"cannot connect to {address}")


def test_a_peer_that_reaches_us_and_is_not_reached_by_us_is_there_and_no_noise():
    async def work(world: World) -> None:
        ours, theirs = await crowd(world, 2)
        ours.node.connections.dial = nowhere
        await asyncio.sleep(1000)
        before = len(loud(ours))
        assert before < 12
        await asyncio.sleep(3 * 3600)
        assert len(loud(ours)) == before
        assert view_of(ours, theirs).state is PeerState.CONNECTED
        await put(theirs, "a")
        await asyncio.sleep(1)
        await put(ours, "b")
        await asyncio.sleep(80)
        assert await names(ours) == await names(theirs) == {"a", "b"}
        theirs.node.connections.dial = nowhere
        world.network.cut(ours.host, theirs.host)
        await asyncio.sleep(1000)
        assert view_of(ours, theirs).state is PeerState.ABSENT

    in_a_world(work)


def test_a_withdrawn_sighting_is_a_hint_and_dialling_tells_the_truth():
    async def work(world: World) -> None:
        ours, theirs = await crowd(world, 2)
        ours.node.gone("n1")
        await put(ours, "a")
        await world.settled(within_s=5)
        assert "a" in await names(theirs)
        assert not told(ours, PeerAbsent)
        assert theirs.listener is not None
        await theirs.listener.close()
        theirs.node.connections.dial = nowhere
        world.network.cut(ours.host, theirs.host)
        await asyncio.sleep(400)
        assert [event.peer for event in told(ours, PeerAbsent)] == [theirs.node.id]
        assert view_of(ours, theirs).state is PeerState.ABSENT
        ours.node.gone("nobody")

    in_a_world(work)


def test_a_peer_that_dials_us_is_dialled_back_without_discovery():
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        ours.node.add_peer(f"{theirs.host}:{PORT}")
        await world.settled(within_s=10)
        assert view_of(theirs, ours).found_by == "peer"
        await put(theirs, "a")
        await world.settled(within_s=1)
        assert "a" in await names(ours)

    in_a_world(work, hushed=True)


def test_a_peer_found_in_two_ways_is_one_peer_and_one_dead_address_is_no_absence():
    async def work(world: World) -> None:
        ours, theirs = await crowd(world, 2)
        ours.node.add_peer(f"{theirs.host}:{PORT}")
        await asyncio.sleep(200)
        assert len(ours.node.peers()) == 1
        # Discovery announces another address now, at which no node answers.
        announced = theirs.announcement
        assert announced is not None
        ours.node.sighted("n1", ["10.0.0.99:1"], tag=announced.tag, group=announced.group)
        before = len(loud(ours))
        await asyncio.sleep(3600)
        assert len(loud(ours)) == before
        assert view_of(ours, theirs).state is PeerState.CONNECTED

    in_a_world(work)


def test_sightings_beyond_the_bound_leave_nothing_behind():
    async def work(world: World) -> None:
        ours = await world.add_node("ours")
        for number in range(3000):
            ours.node.sighted(f"x{number}", ["10.9.9.9:1"], tag=number.to_bytes(8, "big"), group=bytes(8))
        assert len(ours.node.peer_table.targets) == len(ours.node.peers()) == 1024
        for number in range(3000):
            ours.node.gone(f"x{number}")
        assert not ours.node.peer_table.targets

    in_a_world(work)


def test_a_node_that_stops_says_so_and_leaves_nothing_running():
    async def work(world: World) -> None:
        ours, theirs = await crowd(world, 2)
        heard = list[object]()
        ours.node.bus.hear(heard.append)
        await put(ours, "a")
        assert ours.listener is not None
        await ours.listener.close()
        await ours.node.stop()
        assert isinstance(heard[0], RecordsApplied)
        assert isinstance(heard[-1], NodeStopped)
        del world.members["n0"]
        await asyncio.sleep(20)
        assert not world.network.live
        assert view_of(theirs, ours)

    in_a_world(work)


# -- asking about peers ----------------------------------------------------------------------------------------------


def test_peers_are_named_by_name_id_or_the_beginning_of_it():
    async def work(world: World) -> None:
        ours, theirs, _ = await crowd(world, 3)
        text = to_base32(theirs.node.id)
        for by in ("n1", text, text[:6]):
            assert ours.node.resolve_peer(by) == theirs.node.id
        for by in ("n", "nobody", text[:3], ""):
            with pytest.raises(LocalError, match="no peer"):
                ours.node.resolve_peer(by)
        twin = IdentityId(theirs.node.id[:20] + bytes(12))
        ours.node.peer_table.opened(twin, "twin", "", target=None)
        with pytest.raises(LocalError, match="2 peers"):
            ours.node.resolve_peer(text[:6])
        ours.node.peer_table.closed(0, 0, twin, in_sync=None, reason="")

    in_a_world(work)


def test_the_state_of_a_peer_is_what_a_person_would_say():
    async def work(world: World) -> None:
        ours = await world.add_node("ours")
        theirs = await world.add_node("theirs")
        stranger = await world.add_node("stranger", secret=MemberSecret.of_lone_key(b"s" * 32))
        await put(ours, "a" * 20, b"x" * 150_000)
        await put(theirs, "b")
        for pair in ((ours, theirs), (theirs, ours)):
            world.network.set_link(pair[0].host, pair[1].host, LinkConditions(bandwidth_bytes_s=100_000))
        sight(ours, theirs, stranger)
        states = [view.state for view in ours.node.peers()]
        assert states == [PeerState.SIGHTED, PeerState.OTHER_NETWORK]
        await asyncio.sleep(0.5)
        view = view_of(ours, theirs)
        assert (view.state, view.in_sync) == (PeerState.CONNECTED, None)
        await asyncio.sleep(10)
        view = view_of(ours, theirs)
        assert (view.state, view.in_sync, view.name, view.found_by) == (PeerState.CONNECTED, True, "theirs", "mdns")
        assert view.last_sync_ms is not None
        status = await ours.node.status()
        assert (status.name, status.id) == ("ours", ours.node.id)
        assert {info.name for info in status.contexts} == {"identities", MAIN}
        assert len(status.peers) == 2
        (done,) = [event for event in told(ours, SyncCompleted) if event.context == MAIN]
        (there,) = [event for event in told(theirs, SyncCompleted) if event.context == MAIN]
        assert done.session == there.session

    in_a_world(work, hushed=True)


def test_a_sync_with_a_peer_that_was_forgotten_meanwhile_is_reported_under_its_name():
    async def work(world: World) -> None:
        here, there = await crowd(world, 2)
        world.crash(there)
        asked = asyncio.create_task(here.node.sync([there.identity.id], Direction.BOTH, 5))
        await asyncio.sleep(1)
        del here.node.peer_table.peers[there.identity.id]  # as if it had been absent, and made room for others
        (report,) = await asked
        assert (report.name, report.status) == (there.name, SyncStatus.UNREACHABLE)
        (report,) = await here.node.sync([there.identity.id], Direction.BOTH, 5)
        assert (report.name, report.status) == ("", SyncStatus.UNREACHABLE)

    in_a_world(work)
