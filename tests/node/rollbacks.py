"""Worlds in which the disk of one node goes back to an earlier state without notice, and what becomes of the edits.

    life, a copy of the disk, more of the first life, the disk is put back, a second life under other links, all meet

`python -m tests.node.rollbacks --seeds 0..100` says how many edits are lost. An edit is lost when no head anywhere was
written by somebody who knew it, though a living node had it when the disk went back, or it was written since.
"""

import argparse
import asyncio
from copy import deepcopy
from dataclasses import dataclass, field
from random import Random

from echonode.model.record import MAIN, Draft
from echonode.node.events import InstanceRenewed
from echonode.sim.event_loop import SimLoop
from echonode.sim.world import Member, World
from echonode.store.memory import MemoryStore

RECORDS = ("one", "two", "three")


@dataclass
class Outcome:
    """The end of a world: the edits that are lost, how often an instance was renewed, records in conflict."""

    lost: list[str] = field(default_factory=list)
    renewed: int = 0
    conflicts: int = 0
    is_equal: bool = False


class RollbackWorld:
    """Three nodes, of which the first one's disk goes back. `told`: the store is told, as by an oracle."""

    def __init__(self, world: World, seed: int, *, told: bool, is_clone: bool) -> None:
        self._world, self._draw = world, Random(f"rollback/{seed}")
        self._told, self._is_clone = told, is_clone
        self._ancestors: dict[bytes, set[bytes]] = {}  # body -> the bodies that its writer knew
        self._written: list[bytes] = []

    async def run(self) -> Outcome:
        """Live through all of it."""
        world, draw = self._world, self._draw
        a, b, d = [await world.add_node(name) for name in "abd"]
        world.introduce()
        await world.settled(within_s=30)
        await self._live([a, b, d], draw.randint(2, 6))
        await world.settled(within_s=60)
        held = deepcopy(vars(a.store))

        def backup() -> MemoryStore:
            store = MemoryStore(a.store.instance)
            vars(store).update(deepcopy(held))
            return store

        await self._live([a, a, b, d], draw.randint(1, 6))
        nodes = [a, b, d]
        known = await self._known([b, d])
        if self._is_clone:
            clone = world.make_member("clone")
            clone.identity, clone.store = a.identity, backup()
            second = clone
        else:
            world.crash(a)
            a.store, second = backup(), a
        before = len(self._written)
        if self._told:
            await second.store.renew_instance(type(second.store.instance)(draw.randbytes(8)))
        apart = draw.choice([[{a.host}, {b.host}, {d.host}], [{b.host, d.host}], [{second.host, d.host}, {b.host}], []])
        hosts = [{each.host} for each in (*nodes, second) if not any(each.host in group for group in apart)]
        groups = [*apart, *({host} for host in sorted({host for group in hosts for host in group}))] if apart else []
        if groups:
            world.network.partition(*groups)
        await world.start(second)
        if self._is_clone:
            nodes.append(second)
        await self._live([second, second, d], draw.randint(1, 6))
        world.network.heal()
        world.introduce()
        equal = await self._becomes_equal(nodes)
        known |= await self._known([second]) | set(self._written[before:])
        heads = await self._known(nodes)
        lost = [body.decode() for body in self._written if body in known and body not in heads]
        renewed = sum(isinstance(event, InstanceRenewed) for node in nodes for event in node.events)
        conflicts = len(second.node.store.conflicts(MAIN))
        return Outcome(lost, renewed, conflicts, equal)

    async def _becomes_equal(self, nodes: list[Member]) -> bool:
        for _ in range(120):
            await asyncio.sleep(10)
            if len({node.node.store.tree(MAIN).root for node in nodes}) == 1:
                return True
        return False

    async def _live(self, nodes: list[Member], steps: int) -> None:
        for _ in range(steps):
            if self._draw.random() < 0.6:
                await self._edit(self._draw.choice(nodes), self._draw.choice(RECORDS))
            else:
                await asyncio.sleep(self._draw.choice([0.5, 5]))

    async def _edit(self, node: Member, name: str) -> None:
        body = f"{node.name}{len(self._written)}".encode()
        book = node.node.records
        assert book.shared is not None
        await book.may_write.wait()
        heads = await book.heads(MAIN, book.shared, name)
        await book.put(Draft(context=MAIN, author=book.shared, name=name, body=body))
        self._ancestors[body] = {body}.union(*(self._ancestors[head.body] for head in heads))
        self._written.append(body)

    async def _known(self, nodes: list[Member]) -> set[bytes]:
        """Return the edits that the heads of `nodes` stand for."""
        found: set[bytes] = set()
        for node in nodes:
            scanned, _ = await node.store.scan(MAIN, 0, limit=1000)
            found.update(*(self._ancestors[head.body] for head in scanned))
        return found


def run(seed: int, *, told: bool = False, is_clone: bool = False) -> Outcome:
    """Return what becomes of the world `seed`."""
    loop = SimLoop(seed=seed)
    world = World(loop, seed=seed)
    outcomes: list[Outcome] = []

    async def main() -> None:
        outcomes.append(await RollbackWorld(world, seed, told=told, is_clone=is_clone).run())
        await world.stop()

    loop.complete(main())
    return outcomes[0]


def main() -> None:
    """Print how many edits are lost over the seeds asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", default="0..100")
    first, last = map(int, parser.parse_args().seeds.split(".."))
    for is_clone in (False, True):
        for told in (True, False):
            outcomes = {seed: run(seed, told=told, is_clone=is_clone) for seed in range(first, last)}
            losing = [seed for seed, outcome in outcomes.items() if outcome.lost]
            print(
                "clone" if is_clone else "rollback",
                "told" if told else "not told",
                f"worlds that lose: {len(losing)} of {len(outcomes)}, edits lost:",
                sum(len(outcome.lost) for outcome in outcomes.values()),
                "renewals:",
                sum(outcome.renewed for outcome in outcomes.values()),
                "conflicts:",
                sum(outcome.conflicts for outcome in outcomes.values()),
                "unequal:",
                [seed for seed, outcome in outcomes.items() if not outcome.is_equal],
                "e.g.",
                losing[:12],
                flush=True,
            )


if __name__ == "__main__":
    main()
