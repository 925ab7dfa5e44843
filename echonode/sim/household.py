"""The machines of a household, as they are switched on and off, shut, carried away and cut from their power.

    laptop, phone   sleeps: its process stands still, its radio is off; it goes on with the same process
    desktop         is shut down in an orderly way, and starts a new process over the same disk
    pi              is always on, until its power is cut: uncommitted writes are lost, and its clock, which has no
                    battery, then shows the time of the last full hour of before until a time server answers

A machine is on as long as anybody needs it: `needed` says for what. Machines in different places hear nothing of each
other. Each place has multicast of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from echonode.sim.disk import SimStore
from echonode.sim.invariants.checks import Invariants
from echonode.sim.tcp_link import LinkConditions
from echonode.sim.world import Member, World

HOME: Final = "home"
HOUR_S: Final = 3600.0
_POWER_CHECK_S: Final = 10.0
_WIFI: Final = LinkConditions(latency_s=0.004, jitter_s=0.03, bandwidth_bytes_s=2_000_000)


class Kind(Enum):
    """The kind of a machine."""

    LAPTOP = "laptop"
    PHONE = "phone"
    DESKTOP = "desktop"
    PI = "pi"


@dataclass(slots=True, eq=False)
class Device:
    """One machine. `place`: machines of one place reach each other; `on_s`: for how long it was on, in all."""

    member: Member
    kind: Kind
    place: str = HOME
    needs: set[str] = field(default_factory=set)
    is_on: bool = False
    has_power: bool = True
    on_s: float = 0.0
    on_since_s: float = 0.0

    @property
    def name(self) -> str:
        """The name of its node."""
        return self.member.name

    @property
    def disk(self) -> SimStore:
        """The disk of its node."""
        assert isinstance(self.member.store, SimStore), "every machine of a household has one"
        return self.member.store


class Household:
    """The machines of one household in one world."""

    def __init__(self, world: World, invariants: Invariants) -> None:
        self.devices: dict[str, Device] = {}
        self._world = world
        self._invariants = invariants
        self._switch = asyncio.Lock()

    def add(self, member: Member, kind: Kind) -> Device:
        """Add a machine, which is off."""
        device = self.devices[member.name] = Device(member, kind)
        if kind is not Kind.PI:
            for other in self._world.members.values():
                for source, target in ((member, other), (other, member)):
                    self._world.network.set_link(source.host, target.host, _WIFI)
        return device

    @asynccontextmanager
    async def needed(self, device: Device, what_for: str) -> AsyncIterator[None]:
        """Have the machine on inside the block. It is switched off at the end unless something else needs it."""
        await self.keep_on(device, what_for)
        try:
            yield
        finally:
            device.needs.discard(what_for)
            await self._follow_needs(device)

    async def keep_on(self, device: Device, what_for: str) -> None:
        """Have the machine on from now on, once it has power."""
        device.needs.add(what_for)
        while not device.has_power:  # noqa: ASYNC110
            await asyncio.sleep(_POWER_CHECK_S)
        await self._follow_needs(device)

    async def _follow_needs(self, device: Device) -> None:
        async with self._switch:
            if device.needs and device.has_power and not device.is_on:
                await self._switch_on(device)
            elif not device.needs and device.is_on:
                await self._switch_off(device)

    async def _switch_on(self, device: Device) -> None:
        device.is_on, device.on_since_s = True, self._world.loop.time()
        member = device.member
        self._set_blocks()
        if not self._world.loop.is_stalled(member.owner):
            await self._world.start(member)
            return
        self._world.loop.resume(member.owner)
        member.is_up = True
        self._world.discovery.listen(member.host, member.node)
        self._announce((member,))

    async def _switch_off(self, device: Device) -> None:
        member = device.member
        if device.kind in (Kind.LAPTOP, Kind.PHONE):
            self._world.loop.stall(member.owner)
            self._world.discovery.crash(member.host)
            member.is_up = False
        else:
            await self._world.leave(member)
            member.store = device.disk.reopen()
        self._note_off(device)

    def _note_off(self, device: Device) -> None:
        device.is_on = False
        device.on_s += self._world.loop.time() - device.on_since_s
        self._set_blocks()

    # -- what happens to machines ------------------------------------------------------------------------------------

    async def cut_power(self, device: Device, for_s: float, clock_wrong_s: float) -> None:
        """Cut the power of a machine without a battery. Its clock is behind until `clock_wrong_s` after it is back.

        A cut while another one lasts is one with it.
        """
        async with self._switch:
            if not device.is_on:
                return
            device.has_power = False
            self._world.crash(device.member)
            self._note_off(device)
        await asyncio.sleep(for_s)
        behind_s = for_s + (self._world.loop.time() - for_s) % HOUR_S
        self.set_clock(device, -round(behind_s * 1000))
        device.has_power = True
        await self._follow_needs(device)
        await asyncio.sleep(clock_wrong_s)
        self.set_clock(device, 0)

    def set_clock(self, device: Device, skew_ms: int) -> None:
        """Set the wall clock of a machine so far ahead of the true time."""
        self._invariants.note_clock(device.member)
        device.member.clock.skew_ms = skew_ms
        self._invariants.note_clock(device.member)

    async def replace_process(self, device: Device, models: dict[str, tuple[int, int]]) -> None:
        """Stop the node of a machine that is on, and start another over the same disk, which reads these models."""
        async with self._switch:
            member = device.member
            await self._world.leave(member)
            member.store = device.disk.reopen()
            member.settings = replace(member.settings, models=models)
            await self._world.start(member)

    async def replace_disk(self, device: Device, store: SimStore) -> None:
        """Let the disk of a machine that is on die. Start it with `store`, which was put back from a backup."""
        async with self._switch:
            member = device.member
            self._world.crash(member)
            member.store = store
            await self._invariants.note_rollback(member)
            member.settings = replace(member.settings, is_restored=True)
            await self._world.start(member)
            member.settings = replace(member.settings, is_restored=False)

    def carry(self, devices: Iterable[Device], place: str) -> None:
        """Carry machines to another place, at once. Those that are on make themselves known there."""
        for device in devices:
            device.place = place
        self._set_blocks()
        self._announce(device.member for device in self.devices.values() if device.is_on)

    def _announce(self, members: Iterable[Member]) -> None:
        for member in members:
            if member.announcement is not None:
                self._world.discovery.announce(member.host, member.announcement, member.address)

    def _set_blocks(self) -> None:
        """Let only machines that are on and in one place reach each other."""
        network = self._world.network
        network.heal()
        places: dict[str, list[str]] = {}
        for number, device in enumerate(self.devices.values()):
            places.setdefault(device.place if device.is_on else f"off {number}", []).append(device.member.host)
        network.partition(*places.values())
