"""Admission: equal names, copies of this node, revoked keys, stores that were rolled back (SECURITY.md H7)."""

import asyncio
import copy
from dataclasses import replace

import pytest

from echonode.errors import LocalError, Reason
from echonode.model.keys import KeyState, statement_draft
from echonode.model.record import IDENTITIES, MAIN
from echonode.node.events import (
    CopySeen,
    InstanceRenewed,
    NodeRenamed,
    PeerConnected,
    PeerForgotten,
    RecordsApplied,
    SessionFailed,
)
from echonode.node.views import PeerState, SyncStatus
from echonode.sim.world import Member, World
from echonode.text import to_base32
from echonode.wire.messages import PROTOCOL_VERSION, Direction, version_text
from tests.node.worlds import bend_hellos, in_a_world, loud, names, put, put_unnoticed, saved, sight, told, view_of


def test_the_key_statements_of_a_new_peer_are_published_as_every_other_commit_is():
    async def work(world: World) -> None:
        first, second = await world.add_node("first"), await world.add_node("second")
        sight(first, second)
        await world.settled(within_s=10)
        for member, peer in ((first, second), (second, first)):
            published = [(each.source, record.id) for each in told(member, RecordsApplied) for record in each.records]
            held = [statement.id for statement in peer.node.records.own_statements]
            assert {(peer.node.id, version) for version in held} <= set(published)
            assert len(published) == len(set(published))

    in_a_world(work, hushed=True)


def test_machines_of_one_name_all_take_part_and_are_told_apart_by_their_ids():
    async def work(world: World) -> None:
        nodes = [await world.add_node(name, node_name="vm") for name in ("one", "two", "three")]
        world.introduce()
        for node in nodes:
            await put(node, f"from {node.name}")
        await world.settled(within_s=30)
        one, two, three = nodes
        for node in nodes:
            assert await names(node) == {"from one", "from two", "from three"}
        for other in (two, three):
            view = view_of(one, other)
            assert view.name == "vm"
            assert view.label == f"vm @{to_base32(other.node.id)[: len(view.label) - 4]}"
            for text in (view.label, view.label.removeprefix("vm "), to_base32(other.node.id)[:12]):
                assert one.node.resolve_peer(text) == other.node.id
            assert one.node.addresses.resolve(f"@{view.label}/x") == (other.node.id, "x")
        assert one.node.label.startswith("vm @")
        with pytest.raises(LocalError, match=r"could be 2 peers: vm @.+, vm @"):
            one.node.resolve_peer("vm")

    in_a_world(work, hushed=False)


def test_a_node_that_is_renamed_is_seen_under_its_new_name_in_a_moment_and_keeps_it():
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        world.introduce()
        await put(ours, "a")
        await world.settled(within_s=10)
        await asyncio.sleep(100)
        assert await ours.node.rename("u\u0308ber") == "\u00fcber"
        await asyncio.sleep(1)
        assert view_of(theirs, ours).name == "\u00fcber"
        assert ours.settings.name == ours.node.name == "\u00fcber"
        assert theirs.node.resolve_peer("u\u0308ber") == ours.node.id
        assert [event.node_name for event in told(ours, NodeRenamed)] == ["\u00fcber"]
        for wrong in ("", " ", "a\nb", "x" * 65):
            with pytest.raises(LocalError, match="a name is 1 to 64 bytes"):
                await ours.node.rename(wrong)
        assert ours.node.name == "\u00fcber"

    in_a_world(work)


async def restarted(world: World, *members: Member) -> None:
    for member in members:
        world.crash(member)
    for member in members:
        await world.start(member)


def test_after_a_restart_without_discovery_peers_are_known_and_dialled():
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        sight(ours, theirs)
        await put(ours, "before")
        await world.settled(within_s=10)
        world.crash(theirs)
        await restarted(world, ours)
        view = view_of(ours, theirs)
        assert (view.name, view.state, view.address) == ("theirs", PeerState.ABSENT, theirs.address)
        assert view.reason == "not met in this run of the node" and view.last_seen_ms
        await world.start(theirs)
        await put(theirs, "after")
        await asyncio.sleep(30)
        assert await names(ours) == {"before", "after"}
        assert view_of(ours, theirs).state is PeerState.CONNECTED
        assert view_of(theirs, ours).state is PeerState.CONNECTED

    in_a_world(work, hushed=True)


def test_a_forgotten_peer_is_unknown_after_a_restart_too_until_it_comes_again():
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        sight(ours, theirs)
        await put(theirs, "kept")
        await world.settled(within_s=10)
        with pytest.raises(LocalError, match="theirs is connected now"):
            await ours.node.forget_peer("theirs")
        world.crash(theirs)
        await asyncio.sleep(600)
        assert await ours.node.forget_peer("theirs") == "theirs"
        assert [event.peer for event in told(ours, PeerForgotten)] == [theirs.node.id]
        await restarted(world, ours)
        assert not [view for view in ours.node.peers() if view.id is not None]
        assert await names(ours) == {"kept"}
        await world.start(theirs)
        await asyncio.sleep(30)
        assert view_of(ours, theirs).state is PeerState.CONNECTED, "it knew where we are"

    in_a_world(work, hushed=True)


def test_a_peer_that_was_not_seen_for_30_days_is_gone_and_fails_no_sync_unless_named():
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        third = await world.add_node("third")
        sight(ours, theirs, third)
        await put(ours, "a")
        await world.settled(within_s=10)
        world.crash(theirs)
        await asyncio.sleep(600)
        assert view_of(ours, theirs).state is PeerState.ABSENT
        reports = await ours.node.sync(None, Direction.BOTH, 30)
        assert {(report.name, report.status) for report in reports} == {
            ("third", SyncStatus.VERIFIED),
            ("theirs", SyncStatus.UNREACHABLE),
        }
        ours.node.gone(theirs.name)  # its announcement expired
        ours.clock.skew_ms += 31 * 24 * 3600 * 1000
        await asyncio.sleep(60)
        view = view_of(ours, theirs)
        assert view.state is PeerState.GONE and "not seen for 31 days" in view.reason
        (report,) = await ours.node.sync(None, Direction.BOTH, 30)
        assert (report.name, report.status) == ("third", SyncStatus.VERIFIED)
        (report,) = await ours.node.sync([theirs.node.id], Direction.BOTH, 30)
        assert report.status is SyncStatus.UNREACHABLE

    in_a_world(work, hushed=True)


@pytest.mark.parametrize("who_dials", ["original", "clone"])
def test_a_copy_of_this_node_is_named_with_its_place_on_both_sides_and_reported_once(who_dials):
    async def work(world: World) -> None:
        original, clone = await world.add_node("original"), world.make_member("clone")
        clone.identity = original.identity
        vars(clone.store).update(copy.deepcopy(vars(original.node.store)))
        await world.start(clone)
        if who_dials == "original":
            sight(original, clone)
        else:
            sight(clone, original)
        await asyncio.sleep(2000)
        for here, there in ((original, clone), (clone, original)):
            (view,) = here.node.peers()
            assert view.state is PeerState.COPY and "a copy of this node runs there" in view.reason
            assert view.address.startswith(there.host)
            (seen,) = told(here, CopySeen)
            assert seen.address == view.address and "Stop one of them" in seen.what_to_do
            assert not told(here, SessionFailed)
        world.crash(clone)
        await asyncio.sleep(1200)
        assert PeerState.COPY not in {view.state for view in original.node.peers()}, "it is there no more"

    in_a_world(work, hushed=True)


@pytest.mark.parametrize("state", [KeyState.RETIRED, KeyState.COMPROMISED])
@pytest.mark.parametrize("who_dials", ["ours", "theirs"])
def test_a_key_that_its_root_took_back_is_not_let_in(state, who_dials):
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        identity = theirs.node.records.identity
        draft = statement_draft(identity.id, identity.device.public, state)
        (statement,), _ = await world.members["theirs"].node.store.write(
            [draft], identity.root, theirs.node.records.tick, skip_unchanged=False
        )
        assert statement is not None
        restored = ours.node.store
        await restored.apply(IDENTITIES, [statement])
        await put(ours, "not for them")
        if who_dials == "ours":
            sight(ours, theirs)
        else:
            sight(theirs, ours)
        await asyncio.sleep(30)
        assert Reason.KEY_REVOKED.text in {failure.reason for failure in told(theirs, SessionFailed)}
        assert MAIN not in theirs.node.store.contexts()
        if who_dials == "ours":
            assert "key_revoked" in told(ours, SessionFailed)[0].reason

    in_a_world(work, hushed=True)


def test_a_store_that_was_rolled_back_takes_a_new_instance_and_gets_back_what_it_lost():
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        world.introduce()
        await put(ours, "kept", b"1")
        await world.settled(within_s=10)
        restore = saved(ours)
        lost = [await put(ours, f"lost-{number}") for number in range(3)]
        await world.settled(within_s=10)
        instance = ours.node.store.instance
        restore()
        assert await names(ours) == {"kept"}
        await asyncio.sleep(120)
        await world.settled(within_s=10)
        (renewed,) = told(ours, InstanceRenewed)
        assert renewed.instance == ours.node.store.instance != instance
        assert not told(theirs, InstanceRenewed)
        assert await names(ours) == {"kept", "lost-0", "lost-1", "lost-2"}
        again = await put(ours, "lost-0", b"again")
        assert again.instance != lost[0].instance
        await world.settled(within_s=10)
        assert [head.id for head in await theirs.node.records.heads(MAIN, ours.node.id, "lost-0")] == [again.id]

    in_a_world(work)


async def side_by_side(world: World) -> tuple[Member, Member, Member]:
    """Return a node, a machine that was started from a copy of its disk, and a node that meets both in turn."""
    original, other = await world.add_node("original"), await world.add_node("other")
    sight(other, original)
    await put(original, "edited", b"before")
    await world.settled(within_s=10)
    held = copy.deepcopy(vars(original.node.store))
    clone = world.make_member("clone")
    clone.identity = original.identity
    vars(clone.store).update(held)
    await world.start(clone)
    sight(other, clone)
    return original, clone, other


def test_of_two_stores_that_are_copies_each_takes_a_new_instance_once_it_sees_what_the_other_wrote():
    async def work(world: World) -> None:
        original, clone, other = await side_by_side(world)
        shared = original.node.store.instance
        assert clone.node.store.instance == shared
        for member in (original, clone):
            await put_unnoticed(member, f"by the {member.name}")
        await asyncio.sleep(3600)
        assert await names(original) == await names(clone) == {"edited", "by the original", "by the clone"}
        assert shared not in (original.node.store.instance, clone.node.store.instance)
        assert original.node.store.instance != clone.node.store.instance
        await put(original, "edited", b"one way")
        await put(clone, "edited", b"the other way")
        await asyncio.sleep(3600)
        heads = await other.node.records.heads(MAIN, original.node.id, "edited")
        assert {head.body for head in heads} == {b"one way", b"the other way"}

    in_a_world(work, hushed=True)


def test_a_store_that_merely_lags_keeps_its_instance():
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        await put(ours, "a")
        world.introduce()
        await world.settled(within_s=10)
        restore = saved(theirs)
        await put(ours, "b")
        await world.settled(within_s=10)
        restore()
        await asyncio.sleep(120)
        await world.settled(within_s=10)
        assert not told(ours, InstanceRenewed) and not told(theirs, InstanceRenewed)
        assert await names(theirs) == {"a", "b"}

    in_a_world(work)


@pytest.mark.parametrize("who_dials", ["ours", "theirs"])
def test_another_protocol_major_is_refused_naming_what_is_spoken(who_dials):
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        straighten = bend_hellos(theirs, lambda hello: replace(hello, version=(2, 7)))
        await put(ours, "a")
        if who_dials == "ours":
            sight(ours, theirs)
        else:
            sight(theirs, ours)
        await asyncio.sleep(10)
        (failure, *_) = told(ours, SessionFailed)
        assert failure.reason == Reason.UNSUPPORTED_PROTOCOL.text
        assert "2.7" in failure.detail
        spoken = version_text(PROTOCOL_VERSION)
        (failure, *_) = told(theirs, SessionFailed)
        assert failure.reason == Reason.UNSUPPORTED_PROTOCOL.text
        assert spoken in failure.detail
        assert MAIN not in theirs.node.store.contexts()
        for here, there, speaks in ((ours, theirs, "2.7"), (theirs, ours, spoken)):
            (view,) = here.node.peers()
            assert (view.id, view.state) == (there.node.id, PeerState.REFUSED)
            assert speaks in view.reason
        assert view_of(ours, theirs).reason == f"it speaks protocol 2.7, and this node {spoken}"
        # It is dialled ever more seldom, and let in once it speaks our major.
        before = world.network.connections
        await asyncio.sleep(3600)
        assert 0 < world.network.connections - before < 60
        straighten()
        await asyncio.sleep(600)
        await world.settled(within_s=10)
        assert view_of(ours, theirs).state in (PeerState.REACHABLE, PeerState.CONNECTED)
        assert len(ours.node.peers()) == len(theirs.node.peers()) == 1

    in_a_world(work, hushed=True)


def test_a_higher_minor_is_spoken_with():
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        bend_hellos(theirs, lambda hello: replace(hello, version=(1, 99)))
        await put(ours, "a")
        world.introduce()
        await world.settled(within_s=10)
        assert "a" in await names(theirs)

    in_a_world(work)


def test_a_node_does_not_speak_with_itself():
    async def work(world: World) -> None:
        ours = await world.add_node("ours")
        ours.node.add_peer(f"{ours.host}:22087")
        await asyncio.sleep(3600)
        assert ours.node.peers() == []
        assert not told(ours, PeerConnected)
        assert world.network.connections <= 2
        assert len(loud(ours)) <= 2

    in_a_world(work)
