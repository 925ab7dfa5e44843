"""Peers are shown as they are, within seconds of a change. Times are virtual."""

import asyncio
from dataclasses import fields
from typing import get_args

import pytest

from echonode.limits import LINKS_ALL_MAX, SILENT_S
from echonode.model.record import IDENTITIES, MAIN, Draft
from echonode.node import link_selection
from echonode.node.events import Event, PeerAbsent, SessionFailed, SyncCompleted
from echonode.node.views import PeerState, SyncStatus
from echonode.sim.world import Member, World
from echonode.wire.messages import Direction
from tests.node.test_live_links import degree, linked, until
from tests.node.worlds import SlowStore, in_a_world, put, put_unnoticed, sight, told, view_of


def views(members: list[Member]):
    return [view for member in members for view in member.node.peers()]


# -- equal, and in step ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "within_s"), [(2, 2.0), (3, 2.0), (10, 5.0)])
def test_equal_nodes_say_so_within_seconds_after_the_last_write(count, within_s):
    async def work(world: World) -> None:
        members = await linked(world, count)
        for turn in range(6):
            for number in range(3):
                await put(members[(turn + number) % count], f"r{turn}-{number}")
            await asyncio.sleep(within_s)
            assert all(view.in_sync and view.lag == 0 for view in views(members)), turn

    in_a_world(work)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_under_two_puts_a_second_no_peer_is_shown_as_unequal_and_all_are_equal_or_in_step(count):
    async def work(world: World) -> None:
        members = await linked(world, count)
        for number in range(60):
            await put(members[number % count], f"r{number}")
            for _ in range(5):
                await asyncio.sleep(0.1)
                for view in views(members):
                    assert view.in_sync or (view.in_sync is None and view.in_step), view
                    assert view.state is PeerState.CONNECTED and view.following

    in_a_world(work)


def test_what_a_hello_brings_is_told_to_the_others_and_they_are_not_shown_as_behind():
    async def work(world: World) -> None:
        members = await linked(world, 2)
        third = await world.add_node("third")
        sight(third, *members)
        for _ in range(40):
            await asyncio.sleep(0.5)
        for view in views([*members, third]):
            assert (view.in_sync, view.lag) == (True, 0)

    in_a_world(work)


def test_a_write_whose_caller_is_cancelled_is_told_all_the_same():
    async def work(world: World) -> None:
        one, two = await world.add_node("one", make_store=SlowStore), await world.add_node("two")
        sight(one, two)
        await world.settled(within_s=30)
        await asyncio.sleep(5)
        draft = Draft(context=MAIN, author=one.node.id, name="a")
        writing = asyncio.create_task(one.node.records.put(draft))
        await asyncio.sleep(0.5)
        writing.cancel()
        await asyncio.sleep(3)
        assert one.roots() == two.roots() and view_of(one, two).in_sync

    in_a_world(work)


def test_a_session_that_ends_equal_does_not_vouch_for_a_write_that_came_during_it(monkeypatch):
    async def work(world: World) -> None:
        one, two = await linked(world, 2)
        table = one.node.peer_table
        table.opened(two.node.id, "n1", two.address, target=None, can_follow=True)
        table.store_changed(None, world.loop.time())
        table.closed(world.loop.time(), 0, two.node.id, in_sync=True, reason="")
        assert view_of(one, two).in_sync is None
        table.opened(two.node.id, "n1", two.address, target=None, can_follow=True)
        table.store_changed(two.node.id, world.loop.time())
        table.closed(world.loop.time(), 0, two.node.id, in_sync=True, reason="")
        assert view_of(one, two).in_sync, "what the peer itself brought is no reason"

    in_a_world(work)


def test_up_to_sixteen_known_peers_a_node_links_with_all_of_them():
    async def work(world: World) -> None:
        members = await linked(world, 8)
        assert LINKS_ALL_MAX == 16
        assert all(degree(member) == 7 for member in members)

    in_a_world(work)


# -- away ------------------------------------------------------------------------------------------------------------


def hang(world: World, member: Member) -> None:
    """Let the process stand still, as SIGSTOP does."""
    world.loop.stall(member.owner)


def test_a_peer_that_hangs_is_not_connected_thirty_seconds_later_and_back_soon_after_it_goes_on():
    async def work(world: World) -> None:
        one, two = await linked(world, 2)
        hang(world, two)
        for number in range(50):
            await put(one, f"r{number}")
        await asyncio.sleep(5)
        assert view_of(one, two).lag == 50, view_of(one, two)
        await asyncio.sleep(SILENT_S - 5)
        view = view_of(one, two)
        assert (view.state, view.following, view.in_sync) == (PeerState.ABSENT, False, None)
        assert view.since_ms is not None and view.reason
        assert len(told(one, PeerAbsent)) == 1
        world.loop.resume(two.owner)
        await asyncio.sleep(30)
        assert one.roots() == two.roots()
        assert view_of(one, two).state is view_of(two, one).state is PeerState.CONNECTED

    in_a_world(work)


def test_a_sync_that_fails_is_believed_at_once_though_the_link_looks_up():
    async def work(world: World) -> None:
        one, two = await linked(world, 2)
        hang(world, two)
        await asyncio.sleep(1)
        assert view_of(one, two).state is PeerState.CONNECTED
        (report,) = await one.node.sync([two.node.id], Direction.BOTH, 8.0)
        assert report.status in (SyncStatus.UNREACHABLE, SyncStatus.TIMED_OUT)
        view = view_of(one, two)
        assert (view.state, view.following, view.in_sync) == (PeerState.ABSENT, False, None)
        world.loop.resume(two.owner)
        await asyncio.sleep(2)
        assert view_of(one, two).state is PeerState.CONNECTED, "and so is its answer"

    in_a_world(work)


@pytest.mark.parametrize("stall_s", [5, 15, 60])
def test_a_stall_between_honest_nodes_under_writes_is_no_error_of_the_protocol(stall_s):
    async def work(world: World) -> None:
        members = await linked(world, 4)
        for turn in range(3):
            hang(world, members[3])
            for number in range(stall_s * 4):
                await put(members[number % 3], f"u{turn}-{number}", bytes(200))
                await asyncio.sleep(0.25)
            world.loop.resume(members[3].owner)
            await asyncio.sleep(6)
        await asyncio.sleep(60)
        assert len({tuple(member.roots().items()) for member in members}) == 1
        failed = [event for member in members for event in told(member, SessionFailed)]
        assert "protocol_error" not in {event.reason for event in failed}

    in_a_world(work)


def test_an_import_beside_live_puts_is_no_error_of_the_protocol_and_the_puts_do_not_wait_for_it():
    async def work(world: World) -> None:
        members = await linked(world, 3)
        bulk = [Draft(context="books", author=members[0].node.id, name=f"b{number}") for number in range(5_000)]
        for first in range(0, len(bulk), 1000):
            await members[0].node.records.put_all(bulk[first : first + 1000])
        await put(members[0], "live")
        await until(lambda: all(len(member.node.store.tree(MAIN)) for member in members))
        assert any(len(member.node.store.tree("books")) < 5_000 for member in members[1:])
        await asyncio.sleep(30)
        assert len({tuple(member.roots().items()) for member in members}) == 1
        assert not [event for member in members for event in told(member, SessionFailed)]

    in_a_world(work)


# -- sync ------------------------------------------------------------------------------------------------------------


def test_sync_asks_a_configured_address_and_names_it_when_no_node_answers_there():
    async def work(world: World) -> None:
        one, two = await world.add_node("one"), await world.add_node("two")
        world.crash(two)
        one.node.add_peer(two.address)
        await asyncio.sleep(100)
        (report,) = await one.node.sync(None, Direction.BOTH, 10)
        assert (report.peer, report.name, report.status) == (None, two.address, SyncStatus.UNREACHABLE)
        await world.start(two)
        (report,) = await one.node.sync(None, Direction.BOTH, 10)
        assert (report.peer, report.name, report.status) == (two.node.id, "two", SyncStatus.VERIFIED)
        (report,) = await one.node.sync(None, Direction.BOTH, 10)
        assert report.peer == two.node.id, "and it is one peer"

    in_a_world(work, hushed=True)


@pytest.mark.parametrize("fills_s", [3.0, 100.0])
def test_sync_waits_while_another_peer_fills_a_context_there_and_asks_again(fills_s, monkeypatch):
    for bound in ("LINKS_CHOSEN", "LINKS_ALL_MAX"):
        monkeypatch.setattr(link_selection, bound, 0)  # a link would bring it

    async def work(world: World) -> None:
        one, two = await linked(world, 2)
        await put_unnoticed(one, "a")
        gate = two.node.conversations.bulk_gate

        async def fill() -> None:
            with gate.by(bytes(32), MAIN, 10_000, lambda: 10_000, is_snapshot=True):
                until_s = world.loop.time() + fills_s
                while world.loop.time() < until_s:
                    gate.moved_on(MAIN)
                    await asyncio.sleep(0.1)

        filling = asyncio.create_task(fill())
        await asyncio.sleep(0.1)
        began_s = world.loop.time()
        (report,) = await one.node.sync([two.node.id], Direction.BOTH, 20)
        if fills_s > 20:
            assert report.status is SyncStatus.TIMED_OUT and "filling" in report.error
        else:
            assert report.status is SyncStatus.VERIFIED
            assert world.loop.time() - began_s >= fills_s - 0.2
            assert one.roots() == two.roots()
        filling.cancel()

    in_a_world(work)


def test_sync_with_a_node_that_does_not_take_a_context_says_so_and_does_not_wait():
    async def work(world: World) -> None:
        one, two = await world.add_node("one"), await world.add_node("two", contexts=frozenset({MAIN, IDENTITIES}))
        sight(one, two)
        await asyncio.sleep(10)
        await put(one, "a", context="books")
        began_s = world.loop.time()
        (report,) = await one.node.sync([two.node.id], Direction.BOTH, 30)
        assert (report.status, report.error) == (SyncStatus.PARTIAL, "books: the peer does not take this context")
        assert world.loop.time() - began_s < 5

    in_a_world(work)


def test_after_a_sync_with_several_peers_each_is_equal_to_what_the_others_brought():
    async def work(world: World) -> None:
        members = [await world.add_node(f"n{number}") for number in range(4)]
        for member in members[1:]:
            await put(member, member.name)
        for member in members[1:]:
            members[0].node.add_peer(member.address)
        reports = await members[0].node.sync(None, Direction.BOTH, 30)
        assert {report.status for report in reports} == {SyncStatus.VERIFIED}
        assert len(reports) == 3
        assert len({tuple(member.roots().items()) for member in members}) == 1

    in_a_world(work, hushed=True)


# -- events ----------------------------------------------------------------------------------------------------------


def test_each_event_that_belongs_to_a_session_carries_its_id():
    of_sessions = {kind.__name__ for kind in get_args(Event) if "session" in {each.name for each in fields(kind)}}
    assert of_sessions == {
        *("SessionFailed", "SyncCompleted", "SyncProgress", "FollowBegan", "FollowEnded"),
        *("RecordRefused", "PeerConnected"),
    }

    async def work(world: World) -> None:
        members = await linked(world, 2)
        await put(members[0], "a")
        await members[0].node.sync(None, Direction.BOTH, 10)
        world.network.cut(members[0].host, members[1].host)
        await asyncio.sleep(5)
        for member in members:
            sessions = [event for event in member.events if type(event).__name__ in of_sessions]
            assert {type(event).__name__ for event in sessions} >= {"FollowBegan", "FollowEnded", "PeerConnected"}
            for event in sessions:
                assert isinstance(event, SessionFailed) or len(event.session) == 16, event  # type: ignore[union-attr]
        here, there = ({each.session for each in told(member, SyncCompleted)} for member in members)
        assert here == there, "the same id stands on both sides"

    in_a_world(work)


def test_a_peer_whose_last_session_ends_while_it_is_doubted_is_shown_as_absent_since_it_was_heard_last():
    async def work(world: World) -> None:
        one, two = await linked(world, 2)
        await asyncio.sleep(5)
        one.node.connections.links.doubt(two.node.id, "it does not answer")
        one.node.connections.registry.drop_all()  # its streams are gone, and the task of each has not ended yet
        (view,) = one.node.peers()
        assert (view.state, view.reason) == (PeerState.ABSENT, "it does not answer")
        assert view.since_ms is not None

    in_a_world(work)
