"""The hello: it describes every context that is kept, and fits its bound with any store."""

import asyncio

import pytest

from echonode.errors import LocalError
from echonode.limits import CONTEXTS_OWN_MAX, CONTEXTS_TOLD_MAX, KIB
from echonode.model.identity import Instance
from echonode.model.record import IDENTITIES, MAIN
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
        ours.node.store._index.counters.raise_to(many)
        for number in range(CONTEXTS_TOLD_MAX):
            record = await ours.node.store.heads("00" + "ü" * 31, ours.node.id, "a")
            assert record
            ours.node.store._index.trees[f"more-{number}"] = ours.node.store.tree("00" + "ü" * 31)
        hello = ours.node.hello.make(ours.node.records.identity.device.public, bytes(16))
        assert isinstance(decode(encode(hello)), Hello)
        assert max(hello.seen.values()) == 1039

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
