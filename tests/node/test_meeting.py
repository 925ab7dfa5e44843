"""Meeting: addresses that several machines have, configured peers that come late, dropped handshakes, bounded notes."""

import asyncio
from collections import OrderedDict

from echonode.limits import HANDSHAKES_PER_ADDRESS_MAX, HANDSHAKES_REPORT_S, PAIRS_REMEMBERED
from echonode.model.member_secret import MemberSecret
from echonode.node.events import CopySeen, HandshakesDropped, PeerUnreachable, SessionFailed
from echonode.node.remembered import remember
from echonode.node.views import PeerState, SyncStatus
from echonode.sim.world import PORT, Member, World
from echonode.wire.messages import Direction
from tests.node.worlds import in_a_world, names, put, sight, told, view_of

BRIDGE = "10.88.0.1"


def sight_at(member: Member, other: Member, *hosts: str) -> None:
    """Let `member` sight `other` at `hosts`."""
    announced = other.announcement
    assert announced is not None
    addresses = [f"{host}:{PORT}" for host in hosts]
    member.node.sighted(other.name, addresses, tag=announced.tag, group=announced.group)


def test_nodes_behind_the_same_bridge_address_meet_and_are_not_taken_for_themselves():
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        world.network.share_address(BRIDGE)
        sight_at(ours, theirs, BRIDGE, theirs.host)
        await put(ours, "a")
        await asyncio.sleep(2)
        assert await names(theirs) == {"a"}
        assert view_of(ours, theirs).state is PeerState.CONNECTED
        for member in (ours, theirs):
            assert not told(member, CopySeen) and not told(member, SessionFailed)

    in_a_world(work, hushed=True)


def test_a_joiner_passes_over_the_address_that_is_its_own():
    async def work(world: World) -> None:
        ours = await world.add_node("ours")
        theirs = await world.add_node("theirs", secret=MemberSecret.of_lone_key(bytes(32)))
        world.network.share_address(BRIDGE)
        code = await ours.node.invite(uses=1, expires_s=600)
        announced = ours.announcement
        assert announced is not None
        addresses = [f"{BRIDGE}:{PORT}", ours.address]
        theirs.node.sighted("ours", addresses, tag=announced.tag, group=announced.group, slot=announced.slot)
        await theirs.node.join(code)
        assert theirs.node.network == ours.node.network

    in_a_world(work, hushed=True)


def test_an_address_that_leads_to_a_third_node_does_not_stand_for_the_peer():
    async def work(world: World) -> None:
        ours, theirs, third = [await world.add_node(name) for name in ("ours", "theirs", "third")]
        sight_at(ours, theirs, third.host, theirs.host)
        await put(theirs, "a")
        await asyncio.sleep(10)
        assert "a" in await names(ours)
        for other in (theirs, third):
            view = view_of(ours, other)
            assert (view.state, view.address) == (PeerState.CONNECTED, other.address)

    in_a_world(work, hushed=True)


def test_a_configured_peer_is_dialled_within_5_s_of_coming_up_however_long_it_was_off():
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), world.make_member("theirs")
        ours.node.add_peer(theirs.address)
        await asyncio.sleep(4000)
        (view,) = ours.node.peers()
        assert (view.state, view.address) == (PeerState.ABSENT, theirs.address) and view.reason
        first, *others = told(ours, PeerUnreachable)
        assert (first.address, first.attempts, first.found_by) == (theirs.address, 1, "static")
        assert len(others) == 1 and others[0].attempts > 100, "told once, then once an hour"
        (report,) = await ours.node.sync(None, Direction.BOTH, 30)
        assert (report.peer, report.name, report.status) == (None, theirs.address, SyncStatus.UNREACHABLE)
        await world.start(theirs)
        await asyncio.sleep(5)
        (view,) = ours.node.peers()
        assert (view.id, view.state) == (theirs.node.id, PeerState.CONNECTED), "and no phantom of its address"

    in_a_world(work, hushed=True)


def test_a_sync_asks_a_configured_peer_that_was_never_met():
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), world.make_member("theirs")
        ours.node.add_peer(theirs.address)
        await asyncio.sleep(100)
        await world.start(theirs)
        (report,) = await ours.node.sync(None, Direction.BOTH, 30)
        assert (report.peer, report.name, report.status) == (theirs.node.id, "theirs", SyncStatus.VERIFIED)

    in_a_world(work, hushed=True)


def test_a_configured_address_of_a_peer_that_is_up_is_no_second_peer():
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        sight(theirs, ours)
        await asyncio.sleep(2)
        ours.node.add_peer(theirs.address)
        assert [view.id for view in ours.node.peers()] == [theirs.node.id]
        await asyncio.sleep(600)
        assert [view.id for view in ours.node.peers()] == [theirs.node.id]

    in_a_world(work, hushed=True)


def test_dropped_handshakes_are_counted_and_reported_together():
    async def work(world: World) -> None:
        ours, stranger = await world.add_node("ours"), world.make_member("stranger")
        dial = world.network.dial(stranger.host)
        streams = [await dial(ours.address) for _ in range(HANDSHAKES_PER_ADDRESS_MAX + 5)]
        await asyncio.sleep(0.5)
        assert (await ours.node.status()).handshakes_dropped == 5
        assert [(event.address, event.count) for event in told(ours, HandshakesDropped)] == [(stranger.host, 1)]
        await asyncio.sleep(HANDSHAKES_REPORT_S)
        assert [event.count for event in told(ours, HandshakesDropped)] == [1, 4]
        await asyncio.sleep(10 * HANDSHAKES_REPORT_S)
        assert len(told(ours, HandshakesDropped)) == 2
        for stream in streams:
            stream.abort()

    in_a_world(work, hushed=True)


def test_notes_are_bounded_and_the_oldest_go_first():
    notes = OrderedDict[int, str]()
    for number in range(PAIRS_REMEMBERED):
        remember(notes, number, "")
    remember(notes, 0, "again")
    assert len(notes) == PAIRS_REMEMBERED
    remember(notes, -1, "")
    assert len(notes) == PAIRS_REMEMBERED
    assert 0 in notes and 1 not in notes
