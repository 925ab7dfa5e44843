"""Quotas: what is too much is refused with its reason, and everything else goes on: edits, other authors, links."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from echonode.model.identity import PoolKind
from echonode.model.record import MAIN, Draft
from echonode.node.events import SessionFailed, SyncCompleted
from echonode.node.settings import Quota, Quotas
from echonode.node.views import PeerState
from echonode.sim.world import Member, World
from tests.node.worlds import in_a_world, names, put, told, view_of

ONE_AUTHOR = Quotas(author=Quota(records=10))


async def with_quotas(world: World, name: str, quotas: Quotas) -> Member:
    member = world.make_member(name)
    member.settings = replace(member.settings, quotas=quotas)
    await world.start(member)
    return member


async def put_many(member: Member, wanted: Sequence[str]) -> None:
    node = member.node
    await node.records.put_all([Draft(context=MAIN, author=node.id, name=name, body=b"x") for name in wanted])


async def of(member: Member, author: Member) -> set[str]:
    pages = member.node.records.scan(MAIN, author=author.node.id)
    return {record.name async for page in pages for record in page}


@pytest.mark.parametrize("is_linked_before", [False, True])
def test_a_flooding_author_is_stopped_and_an_honest_one_beside_it_syncs_live(is_linked_before: bool):
    async def work(world: World) -> None:
        ours = await with_quotas(world, "ours", ONE_AUTHOR)
        flood, honest = await world.add_node("flood"), await world.add_node("honest")
        if is_linked_before:
            world.introduce()
            await asyncio.sleep(10)
        await put_many(flood, [f"junk-{number:03}" for number in range(300)])
        await put_many(honest, ["a", "b"])
        world.introduce()
        await asyncio.sleep(60)
        assert len(await of(ours, flood)) == 10
        assert await of(ours, honest) == {"a", "b"}
        assert len(await of(honest, flood)) == 300
        await put(honest, "live")
        await asyncio.sleep(2)
        assert await of(ours, honest) == {"a", "b", "live"}, "links go on"
        assert not [event for member in (ours, flood, honest) for event in told(member, SessionFailed)]

    in_a_world(work)


def test_a_snapshot_of_many_pages_brings_no_more_than_the_quota():
    async def work(world: World) -> None:
        ours = await with_quotas(world, "ours", ONE_AUTHOR)
        flood = await world.add_node("flood")
        drafts = [
            Draft(context=MAIN, author=flood.node.id, name=f"{number}", body=bytes(150_000)) for number in range(30)
        ]
        await flood.node.records.put_all(drafts)
        world.introduce()
        await asyncio.sleep(60)
        assert any(event.mode == "snapshot" for event in told(ours, SyncCompleted) if event.context == MAIN)
        assert len(await of(ours, flood)) == 10

    in_a_world(work)


def test_what_is_held_is_edited_and_deleted_beyond_the_quota():
    async def work(world: World) -> None:
        ours = await with_quotas(world, "ours", ONE_AUTHOR)
        flood = await world.add_node("flood")
        await put_many(flood, [f"{number:02}" for number in range(20)])
        world.introduce()
        await asyncio.sleep(60)
        held = sorted(await of(ours, flood))
        assert len(held) == 10
        await put(flood, held[0], b"edited")
        await flood.node.records.delete(MAIN, flood.node.id, held[1])
        await asyncio.sleep(60)
        assert await of(ours, flood) == set(held) - {held[1]}
        (head,) = await ours.node.records.heads(MAIN, flood.node.id, held[0])
        assert head.body == b"edited"
        await put(flood, "one more")
        await asyncio.sleep(60)
        assert "one more" not in await of(ours, flood)

    in_a_world(work)


def test_what_was_refused_is_not_compared_again_in_vain():
    async def work(world: World) -> None:
        ours = await with_quotas(world, "ours", ONE_AUTHOR)
        flood = await world.add_node("flood")
        await put_many(flood, [f"{number:02}" for number in range(20)])
        world.introduce()
        await asyncio.sleep(200)
        since = len(ours.events)
        await asyncio.sleep(4000)
        again = [
            event
            for event in ours.events[since:]
            if isinstance(event, SyncCompleted) and event.context == MAIN and event.mode != "reconcile"
        ]
        assert not again
        assert ours.node.subscriptions.of(MAIN) is not None, "it is partial for that author"

    in_a_world(work)


def test_the_author_is_told_that_its_quota_is_used_up():
    async def work(world: World) -> None:
        ours = await with_quotas(world, "ours", ONE_AUTHOR)
        flood, honest = await world.add_node("flood"), await world.add_node("honest")
        await put_many(flood, [f"{number:02}" for number in range(20)])
        world.introduce()
        await asyncio.sleep(100)
        flood.node.connections.compare_with_all()
        await asyncio.sleep(30)
        view = view_of(flood, ours)
        assert "quota for records of this node is used up in main" in view.reason
        assert (view.in_sync, view.in_step) == (False, False), "equal in what it takes is not equal"
        assert "quota" not in view_of(flood, honest).reason + view_of(honest, ours).reason
        await world.leave(ours)
        await asyncio.sleep(30)
        assert view_of(flood, ours).state is PeerState.ABSENT
        assert "quota" not in view_of(flood, ours).reason, "why it is away is another question"

    in_a_world(work)


def test_members_do_not_use_up_each_others_share_of_shared_and_room_is_given_again():
    async def work(world: World) -> None:
        ours = await with_quotas(world, "ours", ONE_AUTHOR)
        flood, honest = await world.add_node("flood"), await world.add_node("honest")
        for number in range(20):
            await put(flood, f"junk-{number}", b"x", shared=True)
        await put(honest, "todo", b"x", shared=True)
        world.introduce()
        await asyncio.sleep(60)
        found = await names(ours)
        assert "todo" in found and len(found) == 11
        ours.node.intake.quotas = Quotas(author=Quota(records=100))
        assert ours.node.subscriptions.of(MAIN) is None
        await put(honest, "one more", b"x", shared=True)
        await asyncio.sleep(200)
        assert len(await names(ours)) == 22

    in_a_world(work)


def test_members_do_not_use_up_each_others_share_of_a_pool():
    async def work(world: World) -> None:
        ours = await with_quotas(world, "ours", ONE_AUTHOR)
        flood, honest = await world.add_node("flood"), await world.add_node("honest")
        pool = await flood.node.pools.create("team", PoolKind.COMMON)
        await honest.node.pools.accept(pool)
        world.introduce()
        await asyncio.sleep(10)
        junk = [Draft(context=MAIN, author=pool.id, name=f"junk-{number}", body=b"x") for number in range(20)]
        await flood.node.records.put_all(junk)
        await asyncio.sleep(60)
        for name in ("plan", "budget"):
            await honest.node.records.put(Draft(context=MAIN, author=pool.id, name=name, body=b"x"))
        await asyncio.sleep(200)
        found = await names(ours)
        assert {"plan", "budget"} <= found
        assert len(found) == 12

    in_a_world(work)


@pytest.mark.parametrize(
    ("quotas", "least", "most"),
    [
        (Quotas(total=Quota(records=15)), 15, 15),
        (Quotas(author=Quota(bytes=3000)), 1, 14),
        (Quotas(total=Quota(bytes=3000)), 1, 14),
        (Quotas(), 40, 40),
    ],
)
def test_totals_and_bytes_bound_as_well(quotas: Quotas, least: int, most: int):
    async def work(world: World) -> None:
        ours = await with_quotas(world, "ours", quotas)
        theirs = await world.add_node("theirs")
        await put_many(theirs, [f"{number:02}" for number in range(40)])
        world.introduce()
        await asyncio.sleep(60)
        assert least <= len(await of(ours, theirs)) <= most

    in_a_world(work)


def test_tombstones_are_bounded_and_a_rate_lets_a_peer_wait():
    async def work(world: World) -> None:
        quotas = Quotas(author=Quota(tombstones=3), peer_rate=2)
        theirs = await world.add_node("theirs")
        await put_many(theirs, [f"{number:02}" for number in range(40)])
        for number in range(10):
            await theirs.node.records.delete(MAIN, theirs.node.id, f"{number:02}")
        ours = await with_quotas(world, "ours", quotas)
        world.introduce()
        await asyncio.sleep(5)
        assert len(ours.node.store.tree(MAIN)) < 33
        await asyncio.sleep(60)
        assert len(ours.node.store.tree(MAIN)) == 33

    in_a_world(work)
