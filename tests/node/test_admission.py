"""Admission: names pinned to identities, keys that a root revoked, stores that were rolled back (SECURITY.md H7)."""

import asyncio
import copy
from dataclasses import replace

import pytest

from echonode.errors import LocalError, Reason
from echonode.model.keys import KeyState, statement_draft
from echonode.model.record import IDENTITIES, MAIN
from echonode.node.events import InstanceRenewed, PeerConnected, PinViolated, RecordsApplied, SessionFailed
from echonode.node.views import PeerState
from echonode.sim.world import Member, World
from echonode.text import to_base32
from echonode.wire.messages import PROTOCOL_VERSION, version_text
from tests.node.worlds import bend_hellos, in_a_world, loud, names, put, saved, sight, told, view_of


async def two_of_a_name(world: World) -> tuple[Member, Member, Member]:
    """Return a node, a laptop that it has met, and another node named laptop that it has not met."""
    first = await world.add_node("first")
    laptop = await world.add_node("laptop")
    sight(first, laptop)
    await world.settled(within_s=10)
    impostor = await world.add_node("impostor", node_name="laptop")
    await put(impostor, "theirs")
    return first, laptop, impostor


@pytest.mark.parametrize("who_dials", ["the one who knows the name", "the one who bears it"])
def test_a_name_of_another_identity_is_kept_out_and_shown_on_both_sides(who_dials):
    async def work(world: World) -> None:
        first, laptop, impostor = await two_of_a_name(world)
        if who_dials == "the one who knows the name":
            sight(first, impostor)
        else:
            sight(impostor, first)
        await asyncio.sleep(30)
        assert MAIN not in first.node.store.contexts()
        (violation, *_) = told(first, PinViolated)
        assert (violation.kind, violation.value) == ("name", "laptop")
        assert (violation.pinned, violation.offered) == (laptop.node.id, impostor.node.id)
        view = view_of(first, impostor)
        assert view.state is PeerState.REFUSED
        assert f"echonode peers trust {to_base32(impostor.node.id)[:16]}" in view.reason
        assert {failure.reason for failure in told(impostor, SessionFailed)} == {Reason.IDENTITY_CHANGED.text}
        if who_dials == "the one who bears it":
            view = view_of(impostor, first)
            assert view.state is PeerState.REFUSED
            assert "identity_changed" in view.reason

    in_a_world(work, hushed=True)


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


@pytest.mark.parametrize("by", ["name", "id", "the beginning of the id"])
def test_a_person_may_decide_that_the_name_now_belongs_to_the_other(by):
    async def work(world: World) -> None:
        first, laptop, impostor = await two_of_a_name(world)
        sight(first, impostor)
        await asyncio.sleep(30)
        text = to_base32(impostor.node.id)
        text = {"name": "laptop", "id": text, "the beginning of the id": text[:8]}[by]
        await first.node.trust(text)
        await asyncio.sleep(1)
        assert "theirs" in await names(first)
        assert view_of(first, impostor).state is PeerState.CONNECTED
        assert await first.node.store.pins() == {("name", "laptop"): impostor.node.id}
        with pytest.raises(LocalError):
            await first.node.trust(to_base32(impostor.node.id))
        # Now the first laptop is the one that is kept out.
        await put(laptop, "again")
        await put(first, "so that they speak")
        await asyncio.sleep(90)
        assert [view.id for view in first.node.peers() if view.state is PeerState.REFUSED] == [laptop.node.id]

    in_a_world(work, hushed=True)


def test_one_who_was_kept_out_under_a_name_is_let_in_under_another():
    async def work(world: World) -> None:
        first, _, impostor = await two_of_a_name(world)
        sight(first, impostor)
        await asyncio.sleep(30)
        bend_hellos(impostor, lambda hello: replace(hello, name="renamed"))
        await asyncio.sleep(600)
        assert "theirs" in await names(first)
        assert view_of(first, impostor).state is PeerState.CONNECTED
        assert not [view for view in first.node.peers() if view.state is PeerState.REFUSED]

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


def test_a_peer_that_has_seen_more_than_is_held_is_believed_of_the_first_instance_and_of_no_other():
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        bend_hellos(theirs, lambda hello: replace(hello, seen={ours.node.store.instance: 1000}))
        instance = ours.node.store.instance
        await put(ours, "a")
        world.introduce()
        await world.settled(within_s=10)
        (renewed,) = told(ours, InstanceRenewed)
        assert renewed.instance == ours.node.store.instance != instance
        assert (await put(ours, "b")).instance == renewed.instance
        await asyncio.sleep(600)
        assert len(told(ours, InstanceRenewed)) == 1

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
        await put(original, "by the original")
        await put(clone, "by the clone")
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
