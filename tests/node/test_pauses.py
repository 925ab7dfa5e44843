"""Pauses: nothing travels while they last, both sides say so, and the nodes are equal again by themselves."""

import asyncio

import pytest

from echonode.errors import LocalError
from echonode.node.events import SessionFailed
from echonode.node.pauses import Pause, Pauses
from echonode.node.views import PeerState
from echonode.sim.world import World
from echonode.text import to_base32
from echonode.wire.messages import Direction
from tests.node.worlds import in_a_world, names, put, told, view_of


def test_a_paused_node_exchanges_nothing_and_is_equal_again_soon_after_its_time():
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        await put(ours, "before")
        await asyncio.sleep(5)
        assert await names(theirs) == {"before"}
        ours.node.pause_control.pause(None, 600)
        await asyncio.sleep(2)
        await put(ours, "a")
        await put(theirs, "b")
        await asyncio.sleep(590)
        assert (await names(ours), await names(theirs)) == ({"before", "a"}, {"before", "b"})
        assert view_of(ours, theirs).state is PeerState.PAUSED
        assert view_of(ours, theirs).in_sync is None
        assert view_of(ours, theirs).reason.endswith("to end that, type: echonode resume")
        shown = view_of(theirs, ours)
        assert (shown.state, shown.in_sync) == (PeerState.REFUSED, None)
        assert "paused" in shown.reason
        with pytest.raises(LocalError, match="paused"):
            await ours.node.sync([theirs.node.id], Direction.BOTH, 5)
        assert (await ours.node.status()).pause is not None
        await asyncio.sleep(20)
        assert (await ours.node.status()).pause is None
        assert await names(ours) == await names(theirs) == {"before", "a", "b"}

    in_a_world(work)


def test_a_pause_with_one_peer_leaves_the_others_alone_and_keeps_it_out_until_resumed():
    async def work(world: World) -> None:
        ours, theirs, third = [await world.add_node(name) for name in ("ours", "theirs", "third")]
        await asyncio.sleep(5)
        for member in (theirs, third):  # so that nothing comes by a detour
            other = third if member is theirs else theirs
            member.node.pause_control.pause(other.name, None)
        ours.node.pause_control.pause("theirs", None)
        await asyncio.sleep(2)
        await put(ours, "a")
        await put(theirs, "b")
        await asyncio.sleep(700)
        assert (await names(theirs), await names(third)) == ({"b"}, {"a"})
        assert view_of(ours, theirs).reason.endswith(f"echonode resume --peer {to_base32(theirs.node.id)[:8]}")
        assert not told(ours, SessionFailed), "its own pause is no fault"
        with pytest.raises(LocalError, match="there is no pause with third"):
            ours.node.pause_control.resume("third")
        ours.node.pause_control.resume("theirs")
        await asyncio.sleep(5)
        assert await names(theirs) == {"a", "b"} == await names(ours)
        with pytest.raises(LocalError, match="nothing is paused"):
            ours.node.pause_control.resume(None)

    in_a_world(work)


def test_a_pause_is_of_one_peer_or_of_all_and_the_longer_part_of_time_is_not_lost():
    pauses = Pauses()
    pauses.begin(Pause(None, 50))
    pauses.begin(Pause(None, 80))
    assert list(pauses) == [Pause(None, 80)]
    assert pauses.of(None) == Pause(None, 80)
    assert (pauses.next_end_ms(), pauses.over(79), pauses.over(80)) == (80, [], [Pause(None, 80)])
    assert pauses.end(None)
    assert not pauses.end(None)
    assert pauses.next_end_ms() is None
