"""The faults of a world. They happen one at a time, each drawn from the kinds that the world's options name.

    cut, cut_later, half_open, corrupt, block, partition, heal, slow_link     faults of the network (sim/network.py)
    crash, restart          a process dies, or is stopped, and starts again over its disk
    full_disk               a disk refuses writes for some seconds
    roll_back               a node crashes and starts again over an older copy of its disk, without notice
    set_clock               a person sets the wall clock of a node
    mislead                 false sightings, sometimes a flood of them (sim/mdns.py)

Stalls come beside them: a process stands still for 5 to 60 s and then goes on, as after SIGSTOP and SIGCONT.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from echonode.limits import CANDIDATES_MAX
from echonode.sim.disk import SimStore
from echonode.sim.invariants.checks import Invariants
from echonode.sim.options import Options
from echonode.sim.world import Member, World
from echonode.sync.tasks import all_ended

# A message of BATCH_BYTES_MAX must arrive within FRAME_TIMEOUT_S. Below 18 kB/s it never does.
_USABLE_BYTES_S: Final = 100_000.0
_ROOM_MADE_S: Final = 10.0
STALL_S: Final = (5.0, 60.0)


class Faults:
    """The faults of one world. They happen to `members`; the list may change."""

    def __init__(
        self, world: World, members: Sequence[Member], invariants: Invariants, options: Options, seed: int
    ) -> None:
        self._world = world
        self._members = members
        self._invariants = invariants
        self._options = options
        self._seed = seed
        self._draw = Random(f"faults/{seed}")
        self._tasks: set[asyncio.Task[None]] = set()
        self._backups: dict[Member, Callable[[], SimStore]] = {}

    async def keep_causing(self) -> None:
        """Cause one fault after another, until cancelled."""
        while self._options.faults:
            await asyncio.sleep(self._draw.expovariate(self._options.fault_rate))
            await self._cause(self._draw.choice(self._options.faults))

    async def keep_cutting(self) -> None:
        """Cut one connection after another, until cancelled."""
        draw, network = Random(f"losses/{self._seed}"), self._world.network
        while self._options.loss_rate:
            await asyncio.sleep(draw.expovariate(self._options.loss_rate))
            if connected := network.connected_hosts():
                network.cut(*draw.choice(connected))

    async def keep_stalling(self) -> None:
        """Stall one node after another, until cancelled."""
        draw, rate = Random(f"stalls/{self._seed}"), self._options.stall_rate
        while rate:
            await asyncio.sleep(draw.expovariate(rate))
            self._start(self._stall(draw.choice(self._members), draw.uniform(*STALL_S)))

    async def end(self) -> None:
        """Repair links, disks and processes. Cancel the faults that wait for bytes of a connection."""
        self._world.network.heal()
        for failed in await all_ended(self._tasks):
            raise failed
        members = self._world.members.values()
        for member in members:
            member.store.is_full = False  # type: ignore[attr-defined]  # every member's store is a SimStore
            for other in members:
                link = self._world.network.link(member.host, other.host)
                bandwidth_bytes_s = max(link.bandwidth_bytes_s, _USABLE_BYTES_S)
                link = replace(link, cut_after_bytes=None, bandwidth_bytes_s=bandwidth_bytes_s)
                self._world.network.set_link(member.host, other.host, link)
        self._world.network.cancel_scheduled_faults()

    async def _cause(self, kind: str) -> None:
        draw, network = self._draw, self._world.network
        one, other = draw.sample(self._members, 2)
        here, there = one.host, other.host
        if connected := network.connected_hosts():  # most pairs of nodes have no connection that could break
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
                self._invariants.note_clock(one)
                one.clock.skew_ms = draw.choice(self._options.skews_ms) + draw.randrange(-5_000, 5_000)
                self._invariants.note_clock(one)
            case "mislead":
                self._world.discovery.mislead(one.host, draw.choice([1, 3, 60, CANDIDATES_MAX + 200]))
            case "full_disk":
                self._start(self._fill_disk(one))
            case "crash" | "restart" | "roll_back" if one.is_up:
                one.is_up = False  # another fault must not take it down too
                self._start(self._take_down(one, kind))

    def _start(self, work: "asyncio._CoroutineLike[None]") -> None:
        self._tasks.add(asyncio.create_task(work))

    async def _stall(self, member: Member, for_s: float) -> None:
        owner, loop = member.owner, self._world.loop
        if member.is_up and not loop.is_stalled(owner):
            member.is_up = False  # no fault that takes a process down must happen to it meanwhile
            loop.stall(owner)
            await asyncio.sleep(for_s)
            loop.resume(owner)
            member.is_up = True

    async def _fill_disk(self, member: Member) -> None:
        store = member.store
        assert isinstance(store, SimStore)
        store.is_full = True
        await asyncio.sleep(self._draw.uniform(0, 10))
        member.store.is_full = False  # type: ignore[attr-defined]  # another process may have opened it meanwhile

    async def _take_down(self, member: Member, kind: str) -> None:
        assert isinstance(member.store, SimStore)
        if kind == "restart":
            await self._world.leave(member)
            member.store = member.store.reopen()
        else:
            self._world.crash(member)
        assert isinstance(member.store, SimStore)
        if kind == "roll_back" and member in self._backups:
            member.store = self._backups.pop(member)()
            await self._invariants.note_rollback(member)
        elif kind == "roll_back":
            self._backups[member] = member.store.backup()
        await asyncio.sleep(self._draw.uniform(0, 5))
        if member.store.is_full:  # a node that has to write at its start does not come up: a person makes room first
            await asyncio.sleep(_ROOM_MADE_S)
            member.store.is_full = False
        await self._world.start(member)
