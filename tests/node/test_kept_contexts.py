"""Contexts are taken by policy: no node uses up the places of another, and what was forgotten stays away."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from echonode.errors import LocalError
from echonode.limits import CONTEXTS_MAX, CONTEXTS_PER_IDENTITY_MAX
from echonode.model.record import IDENTITIES, MAIN, Record
from echonode.node.events import SessionFailed
from echonode.sim.world import Member, World
from echonode.store.memory import MemoryStore
from echonode.store.port import Applied, Cursor, Report
from tests.node.worlds import in_a_world, names, put, told


def of_others(member: Member, beginning: str) -> list[str]:
    return [context for context in member.node.store.contexts() if context.startswith(beginning)]


async def junk(member: Member, count: int, beginning: str) -> None:
    for number in range(count):
        await put(member, "x", context=f"{beginning}{number:02}")


async def restart(world: World, member: Member) -> None:
    world.crash(member)
    await world.start(member)
    world.introduce()


def test_one_identity_introduces_a_few_contexts_and_those_written_here_are_always_taken():
    async def work(world: World) -> None:
        ours, stranger = await world.add_node("ours"), await world.add_node("stranger")
        await junk(stranger, 62, "junk")
        world.introduce()
        await asyncio.sleep(60)
        assert len(of_others(ours, "junk")) == CONTEXTS_PER_IDENTITY_MAX
        await put(ours, "x", context="recipes")
        await put(stranger, "y", context="junk00")
        await asyncio.sleep(60)
        assert await names(stranger, "recipes") == {"x"}
        assert await names(ours, "junk00") == {"x", "y"}
        assert not told(ours, SessionFailed) and not told(stranger, SessionFailed)

    in_a_world(work)


def test_a_context_is_taken_from_the_commit_of_its_first_records_on():
    at_commit = list[Callable[[], bool]]()
    taken = list[bool]()

    class Committing(MemoryStore):
        async def apply(
            self, context: str, records: Sequence[Record], cursor: Cursor | None = None, *, report: Report | None = None
        ) -> Applied:
            applied = await super().apply(context, records, cursor)
            if context == "recipes":
                taken.extend(each() for each in at_commit)  # nobody was told of the records yet
            if report is not None:
                report(applied)
            return applied

    async def work(world: World) -> None:
        ours, stranger = await world.add_node("ours", make_store=Committing), await world.add_node("stranger")
        await put(stranger, "x", context="notes")
        world.introduce()
        await asyncio.sleep(60)
        assert ours.node.subscriptions.takes("notes")
        at_commit.append(lambda: ours.node.subscriptions.takes("recipes"))
        await put(stranger, "x", context="recipes")
        await asyncio.sleep(60)

    in_a_world(work)
    assert taken == [True]


def test_an_honest_node_in_between_is_not_charged_with_what_others_introduced():
    async def work(world: World) -> None:
        first, second = await world.add_node("first"), await world.add_node("second")
        await junk(first, 12, "first")
        await junk(second, 12, "second")
        world.introduce()
        await asyncio.sleep(60)
        newcomer = await world.add_node("newcomer")
        world.crash(first)
        world.introduce()
        await asyncio.sleep(60)
        assert len(of_others(newcomer, "first")) == len(of_others(newcomer, "second")) == 12

    in_a_world(work)


def test_contexts_of_others_fill_their_own_places_and_no_more():
    async def work(world: World) -> None:
        ours = await world.add_node("ours")
        strangers = [await world.add_node(f"stranger-{number}") for number in range(5)]
        for number, stranger in enumerate(strangers):
            await junk(stranger, 16, f"junk-{number}-")
        world.introduce()
        await asyncio.sleep(200)
        assert len(of_others(ours, "junk")) == CONTEXTS_MAX
        await put(ours, "x", context="recipes")
        await put(ours, "x")
        await asyncio.sleep(60)
        assert await names(strangers[0]) == {"x"}
        assert {IDENTITIES, MAIN, "recipes"} < set(ours.node.store.contexts())

    in_a_world(work)


def test_a_context_of_tombstones_makes_room_and_the_policy_outlives_a_restart():
    async def work(world: World) -> None:
        ours, stranger = await world.add_node("ours"), await world.add_node("stranger")
        await junk(stranger, 20, "junk")
        await put(ours, "x", context="recipes")
        world.introduce()
        await asyncio.sleep(60)
        taken = of_others(ours, "junk")
        assert len(taken) == CONTEXTS_PER_IDENTITY_MAX
        (left,) = [f"junk{number:02}" for number in range(20) if f"junk{number:02}" not in taken][:1]
        await stranger.node.records.delete(taken[0], stranger.node.id, "x")
        await asyncio.sleep(5)
        await put(stranger, "y", context=left)
        await asyncio.sleep(60)
        assert await names(ours, left) == {"x", "y"}
        await restart(world, ours)
        kept = ours.node.records.kept
        assert kept.is_own("recipes") and not kept.is_own(left)
        assert not kept.introduce("one more", stranger.node.id)

    in_a_world(work)


def test_a_forgotten_context_comes_back_when_it_is_written_here():
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        await put(theirs, "x", context="photos")
        await put(ours, "x", context="diary")
        world.introduce()
        await asyncio.sleep(30)
        for context, why in ((MAIN, "always"), (IDENTITIES, "always"), ("nothing", "nothing is held")):
            with pytest.raises(LocalError, match=why):
                await ours.node.forget_context(context, own_too=True)
        with pytest.raises(LocalError, match="written here"):
            await ours.node.forget_context("diary", own_too=False)
        assert await ours.node.forget_context("photos", own_too=False) == 1
        await put(theirs, "y", context="photos")
        await asyncio.sleep(120)
        assert "photos" not in ours.node.store.contexts()
        assert await names(theirs, "photos") == {"x", "y"}
        await restart(world, ours)
        await asyncio.sleep(60)
        assert "photos" not in ours.node.store.contexts()
        await put(ours, "z", context="photos")
        await asyncio.sleep(120)
        assert await names(ours, "photos") == await names(theirs, "photos") == {"x", "y", "z"}

    in_a_world(work)
