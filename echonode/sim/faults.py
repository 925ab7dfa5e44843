"""What befalls the nodes of a world, one fault at a time, each drawn from those that the world knows.

    cut, cut_later, half_open, corrupt, block, partition, heal, slow_link     the network (sim/network.py)
    crash, restart          a process dies, or is stopped, and comes up again over what was on its disk
    full_disk               writes are refused for some seconds
    put_back                a node crashes and comes up over an older copy of its disk, without being told
    set_clock               somebody sets the wall clock
    mislead                 false sightings, at times a flood
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from echonode.limits import CANDIDATES_MAX
from echonode.sim.disk import SimStore
from echonode.sim.invariants import Invariants
from echonode.sim.options import Options
from echonode.sim.world import Member, World
from echonode.sync.tasks import all_ended

# A message of BATCH_BYTES_MAX has FRAME_TIMEOUT_S to come: over a link of less than 18 kB/s it never does.
_USABLE_BYTES_S: Final = 100_000.0


class Faults:
    """The bad luck of one world. `members` are those it may befall."""

    def __init__(self, world: World, members: Sequence[Member], judge: Invariants, options: Options, seed: int) -> None:
        self._world = world
        self._members = members
        self._judge = judge
        self._options = options
        self._seed = seed
        self._draw = Random(f"faults/{seed}")
        self._mending: set[asyncio.Task[None]] = set()
        self._copies: dict[Member, Callable[[], SimStore]] = {}

    async def keep_befalling(self) -> None:
        """One fault after another, until cancelled."""
        while self._options.faults:
            await asyncio.sleep(self._draw.expovariate(self._options.fault_rate))
            await self._befall(self._draw.choice(self._options.faults))

    async def keep_cutting(self) -> None:
        """One connection after another, until cancelled."""
        draw, network = Random(f"losses/{self._seed}"), self._world.network
        while self._options.loss_rate:
            await asyncio.sleep(draw.expovariate(self._options.loss_rate))
            if connected := network.connected():
                network.cut(*draw.choice(connected))

    async def mend(self) -> None:
        """Everything works from now on: links, disks, processes. What was to befall a connection later does not."""
        self._world.network.heal()
        for failed in await all_ended(self._mending):
            raise failed
        everybody = self._world.members.values()
        for member in everybody:
            member.store.is_full = False  # type: ignore[attr-defined]  # every member's store is a SimStore
            for other in everybody:
                link = self._world.network.link(member.host, other.host)
                bandwidth_bytes_s = max(link.bandwidth_bytes_s, _USABLE_BYTES_S)
                link = replace(link, cut_after_bytes=None, bandwidth_bytes_s=bandwidth_bytes_s)
                self._world.network.set_link(member.host, other.host, link)
        self._world.network.spare()

    async def _befall(self, kind: str) -> None:
        draw, network = self._draw, self._world.network
        one, other = draw.sample(self._members, 2)
        here, there = one.host, other.host
        if connected := network.connected():  # most pairs have no connection that could break
            here, there = draw.sample(draw.choice(connected), 2)
        match kind:
            case "cut":
                network.cut(here, there)
            case "cut_later":
                network.cut(here, there, after_bytes=draw.randrange(1, 20_000))
            case "half_open":
                network.half_open(here, there)
            case "corrupt":
                network.corrupt(here, there)
            case "block":
                network.block(one.host, other.host)
            case "partition":
                group = {each.host for each in draw.sample(self._members, draw.randrange(1, len(self._members)))}
                network.partition(group, {each.host for each in self._members} - group)
            case "heal":
                network.heal()
            case "slow_link":
                link = network.link(one.host, other.host)
                network.set_link(one.host, other.host, replace(link, bandwidth_bytes_s=draw.choice([5e3, 5e4, 5e5])))
            case "set_clock":
                self._judge.note_clock(one)
                one.clock.skew_ms = draw.choice(self._options.skews_ms) + draw.randrange(-5_000, 5_000)
                self._judge.note_clock(one)
            case "mislead":
                self._world.discovery.mislead(one.host, draw.choice([1, 3, 60, CANDIDATES_MAX + 200]))
            case "full_disk":
                self._later(self._fill_disk(one))
            case "crash" | "restart" | "put_back" if one.is_up:
                one.is_up = False  # nobody else may take it down
                self._later(self._take_down(one, kind))

    def _later(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.create_task(work)
        self._mending.add(task)

    async def _fill_disk(self, member: Member) -> None:
        store = member.store
        assert isinstance(store, SimStore)
        store.is_full = True
        await asyncio.sleep(self._draw.uniform(0, 10))
        member.store.is_full = False  # type: ignore[attr-defined]  # perhaps another process's by now

    async def _take_down(self, member: Member, kind: str) -> None:
        assert isinstance(member.store, SimStore)
        if kind == "restart":
            await self._world.leave(member)
            member.store = member.store.reopen()
        else:
            self._world.crash(member)
        assert isinstance(member.store, SimStore)
        if kind == "put_back" and member in self._copies:
            member.store = self._copies.pop(member)()
            await self._judge.forget_lost(member)
        elif kind == "put_back":
            self._copies[member] = member.store.backup()
        await asyncio.sleep(self._draw.uniform(0, 5))
        await self._world.start(member)
