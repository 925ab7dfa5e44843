"""The hello: it describes every context that is kept, and fits its bound with any store."""

import asyncio

import pytest

from echonode.errors import LocalError
from echonode.limits import CONTEXTS_OWN_MAX, CONTEXTS_TOLD_MAX, KIB, SEEN_BYTES_MAX, SEEN_INSTANCES_MAX
from echonode.model.identity import Instance
from echonode.model.record import IDENTITIES, MAIN, Record, from_store
from echonode.sim.world import World
from echonode.wire.codec import decode, encode
from echonode.wire.messages import Hello
from tests.node.worlds import in_a_world, names, put


def test_a_hello_tells_of_every_context_and_fits_its_bound():
    async def work(world: World) -> None:
        ours = await world.add_node("ours")
        for number in range(CONTEXTS_OWN_MAX):
            await put(ours, "a", context=f"{number:02}" + "ü" * 31)
        hello = ours.node.hello.make(ours.node.records.identity.device.public, bytes(16))
        assert len(hello.contexts) == 1 + CONTEXTS_OWN_MAX
        assert hello.contexts[0].context == IDENTITIES
        encoded = encode(hello)
        assert len(encoded) <= 64 * KIB
        assert decode(encoded) == hello
        # A peer can read the hello of any store.
        device = ours.node.records.identity.device.public
        many = {(device, Instance(bytes((number,)) * 8)): 1000 + number for number in range(40)}
        (mine,) = await ours.node.store.heads("00" + "ü" * 31, ours.node.id, "a")
        table = ours.node.store._counters
        table.raise_to(many, {})
        table.versions.update({writer: _of_counter(mine, counter) for writer, counter in many.items()})
        for number in range(CONTEXTS_TOLD_MAX):
            record = await ours.node.store.heads("00" + "ü" * 31, ours.node.id, "a")
            assert record
            ours.node.store._index.trees[f"more-{number}"] = ours.node.store.tree("00" + "ü" * 31)
        hello = ours.node.hello.make(ours.node.records.identity.device.public, bytes(16))
        assert isinstance(decode(encode(hello)), Hello)
        assert [seen.counter for seen in hello.seen] == list(range(1039, 1039 - SEEN_INSTANCES_MAX, -1))

    in_a_world(work)


def _of_counter(version: Record, counter: int) -> Record:
    """Return a stand-in for a version with that counter."""
    stand_in = from_store(version.raw)
    stand_in.vector = {version.writer: counter}
    return stand_in


def test_a_hello_shows_the_peers_own_latest_version_of_the_instance_that_it_told_first():
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        world.introduce()
        key, lives = theirs.node.records.identity.device.public, []
        latest: list[Record] = []
        for count in (3, 1, 2):
            latest.append([await put(theirs, f"of {count}", bytes([number])) for number in range(count)][-1])
            lives.append(theirs.node.store.instance)
            await theirs.node.records.renew_instance()
        await world.settled(within_s=10)
        by_counter = [latest[0], latest[2], latest[1]]
        for told, order in ((b"", by_counter), (lives[1], [latest[1], latest[0], latest[2]])):
            seen = ours.node.hello.make(key, bytes(16), told).seen
            assert [(one.instance, one.counter, one.version, one.raw) for one in seen] == [
                (each.instance, each.counter, each.id, each.raw) for each in order
            ]
        large = await put(theirs, "large", bytes(SEEN_BYTES_MAX))
        await world.settled(within_s=10)
        (first, *rest) = ours.node.hello.make(key, bytes(16), theirs.node.store.instance).seen
        assert (first.version, first.raw) == (large.id, b""), "a proof that is too large stays out"
        assert all(each.raw for each in rest)

    in_a_world(work)


def test_a_node_that_lists_its_contexts_keeps_those_only():
    async def work(world: World) -> None:
        ours = await world.add_node("ours", contexts=frozenset({MAIN}))
        theirs = await world.add_node("theirs")
        await put(theirs, "a")
        await put(theirs, "a", context="other")
        with pytest.raises(LocalError, match="not kept here"):
            await put(ours, "b", context="mine")
        world.introduce()
        await asyncio.sleep(100)
        assert set(ours.node.store.contexts()) == {IDENTITIES, MAIN}
        assert set(theirs.node.store.contexts()) == {IDENTITIES, MAIN, "other"}
        assert await names(ours) == {"a"}

    in_a_world(work)
