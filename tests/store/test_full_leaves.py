"""Decision tables of full leaves: any versions, in any order and in any batches, leave every store with the same heads.

The bounds are small, so that a handful of versions fills a leaf. What is expected is computed by the words of
PROTOCOL.md §4.4 (tests/model/test_heads.py:naive) from all versions that may stand.
"""

import asyncio
import os
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest

from echonode.model.heads import LeafBounds
from echonode.model.identity import SigningKey
from echonode.model.keys import KeyState
from echonode.model.record import IDENTITIES, MAIN, Record, VersionId
from echonode.store.memory import MemoryStore
from echonode.store.port import Store
from echonode.store.sqlite.store import SqliteStore
from tests.contracts.store import root_of, verdict_of
from tests.model.test_heads import naive
from tests.store.crowds import SMALL_BOUNDS, Crowd
from tests.store.files import INSTANCE, open_store, run

CROWDS = 12  # for each bounds; 400 before a release
GOSSIPS = 60  # worlds of four nodes; 4,000 before a release
SLOW = os.environ.get("ECHO_TEST_SLOW") == "1"
slow = pytest.mark.skipif(not SLOW, reason="minutes of work: ECHO_TEST_SLOW=1")


def bounded(store: Store, bounds: LeafBounds) -> Store:
    """Give an open store other bounds for its leaves."""
    assert isinstance(store, MemoryStore | SqliteStore)
    store._index.bounds = bounds
    return store


async def heads_of(store: Store, crowd: Crowd) -> set[VersionId]:
    return {head.id for head in await store.heads(MAIN, crowd.author, "crowded")}


def expected(versions: Iterable[Record], bounds: LeafBounds, void: SigningKey | None = None) -> set[VersionId]:
    """Return the heads of all versions that no void key signed."""
    return set(naive([each for each in versions if void is None or each.kid != void.public], bounds))


# -- one store ---------------------------------------------------------------------------------------------------------


async def arrive(store: Store, crowd: Crowd, draw: Random, void: SigningKey | None) -> None:
    """Let all versions of `crowd` come to `store`; meanwhile the key `void` is stated compromised."""
    await store.apply(IDENTITIES, crowd.statements())
    batches = crowd.batches(crowd.versions, draw)
    when = draw.randrange(len(batches) + 1)
    while batches:
        if len(batches) <= when and void is not None:
            await store.apply(IDENTITIES, [crowd.statement(void, KeyState.COMPROMISED)])
            void = None
        group = [batches.pop() for _ in range(min(len(batches), draw.choice([1, 1, 3])))]
        had = await asyncio.gather(*(store.apply(MAIN, batch) for batch in group))
        for batch, applied in zip(group, had, strict=True):
            became = {record.id for record in applied.records} & {record.id for record in batch}
            assert len(became) + applied.had + len(applied.refused) == len(batch), "each is one of three"
    if void is not None:
        await store.apply(IDENTITIES, [crowd.statement(void, KeyState.COMPROMISED)])


async def check_crowds(folder: Path, bounds: LeafBounds, seeds: range) -> None:
    """Let each crowd come to two stores of either kind, to each in an order of its own, and compare."""
    async with AsyncExitStack() as stack:
        stores = [bounded(MemoryStore(INSTANCE), bounds) for _ in range(2)]
        paths = [folder / f"{number}.db" for number in range(2)]
        stores += [bounded(await open_store(path), bounds) for path in paths]
        for store in stores[2:]:
            stack.push_async_callback(store.close)
        crowds: list[tuple[Crowd, set[VersionId]]] = []
        for seed in seeds:
            crowd = Crowd(Random(seed))
            void = crowd.draw.choice([None, *crowd.keys])
            for number, store in enumerate(stores):
                await arrive(store, crowd, Random(f"{seed}/{number}"), void)
            heads = expected(crowd.versions, bounds, void)
            assert [await heads_of(store, crowd) for store in stores] == [heads] * len(stores), seed
            crowds.append((crowd, heads))
        roots = {store.tree(MAIN).root for store in stores}
        assert roots == {root_of(*_leaves(crowds))}
        for store in stores:
            assert (await verdict_of(store)).problems == ()
        await stack.aclose()
        for path in paths:
            reopened = bounded(await open_store(path), bounds)
            stack.push_async_callback(reopened.close)
            assert {reopened.tree(MAIN).root} == roots
            assert (await verdict_of(reopened)).problems == ()


def _leaves(crowds: Sequence[tuple[Crowd, set[VersionId]]]) -> list[list[Record]]:
    leaves = [[each for each in crowd.versions if each.id in heads] for crowd, heads in crowds]
    return [leaf for leaf in leaves if leaf]


@pytest.mark.parametrize("bounds", SMALL_BOUNDS, ids=str)
def test_versions_in_any_order_and_batches_leave_both_stores_with_the_same_heads(
    tmp_path: Path, bounds: LeafBounds
) -> None:
    run(check_crowds(tmp_path, bounds, range(CROWDS)))


@slow
@pytest.mark.slow
@pytest.mark.parametrize("bounds", SMALL_BOUNDS, ids=str)
def test_many_versions_in_any_order_and_batches_leave_both_stores_with_the_same_heads(
    tmp_path: Path, bounds: LeafBounds
) -> None:
    run(check_crowds(tmp_path, bounds, range(1000, 1400)), timeout_s=3600)


# -- four nodes --------------------------------------------------------------------------------------------------------


class Gossip:
    """Four nodes that hear of the versions of one crowd, each of some first, and tell each other what they show."""

    STEPS = 2000

    def __init__(self, seed: int) -> None:
        self.draw = Random(seed)
        self.bounds = self.draw.choice(SMALL_BOUNDS)
        self.crowd = Crowd(self.draw)
        self.nodes = [bounded(MemoryStore(INSTANCE), self.bounds) for _ in range(4)]
        self.cursors: dict[tuple[int, int], int] = {}
        self.void = self.draw.choice([None, *self.crowd.keys])
        self.void_at = [self.draw.randrange(5, 60) for _ in self.nodes]

    async def run(self) -> int:
        """Return the number of steps after which all nodes show the same, and nothing is to come any more."""
        draw, nodes = self.draw, self.nodes
        for node in nodes:
            await node.apply(IDENTITIES, self.crowd.statements())
        first = [(draw.choice(nodes), version) for version in self.crowd.versions]
        for step in range(self.STEPS):
            for node, at in zip(nodes, self.void_at, strict=True):
                if self.void is not None and at == step:
                    await node.apply(IDENTITIES, [self.crowd.statement(self.void, KeyState.COMPROMISED)])
            if first and draw.random() < 0.5:
                node, version = first.pop()
                await node.apply(MAIN, [version])
            await self.tell(*draw.sample(range(4), 2))
            shown = [await heads_of(node, self.crowd) for node in nodes]
            if not first and step >= max(self.void_at) and all(each == shown[0] for each in shown):
                return step
        raise AssertionError("they go on for ever")

    async def tell(self, ours: int, theirs: int) -> None:
        """Let one node tell another: by its log, one head alone, or all heads in both directions."""
        one, other = self.nodes[ours], self.nodes[theirs]
        match self.draw.randrange(4):
            case 0:
                news, seq = await one.scan(MAIN, self.cursors.get((ours, theirs), 0), limit=100)
                self.cursors[ours, theirs] = seq
                for version in news:
                    await other.apply(MAIN, [version])
            case 1:
                for version in (await one.heads(MAIN, self.crowd.author, "crowded"))[:1]:
                    await other.apply(MAIN, [version])
            case _:
                for source, target in ((other, one), (one, other)):
                    heads = await source.heads(MAIN, self.crowd.author, "crowded")
                    for batch in self.crowd.batches(heads, self.draw) if heads else ():
                        await target.apply(MAIN, batch)

    async def check(self) -> None:
        await self.run()
        shown = await heads_of(self.nodes[0], self.crowd)
        assert shown == expected(self.crowd.versions, self.bounds, self.void)


def check_gossips(seeds: range) -> None:
    for seed in seeds:
        try:
            asyncio.run(Gossip(seed).check())
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


def test_four_nodes_that_tell_each_other_their_heads_come_to_an_end() -> None:
    check_gossips(range(GOSSIPS))


@slow
@pytest.mark.slow
def test_four_nodes_come_to_an_end_in_thousands_of_worlds() -> None:
    check_gossips(range(10_000, 14_000))


@pytest.mark.parametrize("spare", [1, 3])
def test_four_nodes_with_a_small_spare_come_to_an_end_too(spare: int) -> None:
    """All nodes show the same, though versions that were dropped for good may be missing."""
    for seed in range(GOSSIPS):
        gossip = Gossip(seed)
        gossip.bounds = LeafBounds(heads=2, heads_per_key=2, spare=spare)
        gossip.nodes = [bounded(node, gossip.bounds) for node in gossip.nodes]
        asyncio.run(gossip.run())
