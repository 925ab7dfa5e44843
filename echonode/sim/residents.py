"""The people of a household: when each machine is on, and what they write there. The ledger keeps every such write.

They write notes of their own and edit lists that are shared. Whoever sits down at a laptop or a desktop settles the
conflicts that the node shows, more often than not. The pi notes the temperature of the cellar.
"""

import asyncio
from collections.abc import Iterator, Sequence
from random import Random
from statistics import median
from typing import Final

from echonode.errors import EchonodeError
from echonode.model.heads import winner
from echonode.model.identity import IdentityId
from echonode.model.record import IDENTITIES, MAIN, Draft, Record, VersionId
from echonode.sim.event_loop import SimLoop
from echonode.sim.household import HOUR_S, Device, Household, Kind
from echonode.sim.invariants.checks import Invariants

DAY_S: Final = 86_400.0
_WEEK: Final = 7
_SATURDAY: Final = 3  # the first one; the calendar begins on a Wednesday, 2025-01-01
_SHARED: Final = ("shopping", "calendar", "repairs", "wishes", "recipes/soup", "recipes/bread", "garden", "birthdays")
_CELLAR: Final = "cellar/temperature"
_CELLAR_EVERY_S: Final = 6 * HOUR_S
_WRITE_EVERY_S: Final = {Kind.LAPTOP: 1500.0, Kind.DESKTOP: 1500.0, Kind.PHONE: 300.0}
_SETTLES: Final = 0.6  # how often somebody who sits down settles the conflicts


class Ledger:
    """Every write that a node of the household acknowledged, and which disks took it when."""

    def __init__(self, loop: SimLoop) -> None:
        self.entries: list[tuple[Device, Record]] = []
        self.settled = 0  # conflicts, by a person
        self.refused = 0  # writes that a node refused, as its disk was full
        self._loop = loop
        self._disks: dict[VersionId, dict[str, float]] = {}  # by node: when its disk had it

    def note_commit(self, name: str, records: Sequence[Record]) -> None:
        """Note that the disk of a node has these versions."""
        for record in records:
            if record.context != IDENTITIES:
                self._disks.setdefault(record.id, {}).setdefault(name, self._loop.time())

    def is_elsewhere(self, record: Record, name: str) -> bool:
        """Return True if the disk of another node than that one has had the version."""
        return any(other != name for other in self._disks.get(record.id, ()))

    def lags_s(self, disks: int) -> list[float]:
        """Return for each write that so many disks have: the seconds from its commit until the last of these had it.

        The first copy that a new machine takes of all that is there is no lag: only writes by members count, up to the
        disk number `disks`."""
        written = {record.id for _, record in self.entries}
        times = (sorted(times.values()) for version, times in self._disks.items() if version in written)
        return [each[disks - 1] - each[0] for each in times if len(each) >= disks]

    def median_lag_s(self, disks: int) -> float:
        """Return the median of `lags_s`, 0 without any."""
        return median(self.lags_s(disks) or [0.0])


class Residents:
    """The people of a household, and their days."""

    def __init__(self, household: Household, ledger: Ledger, invariants: Invariants, loop: SimLoop, seed: int) -> None:
        self._household = household
        self._ledger = ledger
        self._invariants = invariants
        self._loop = loop
        self._seed = seed
        self.models: dict[str, tuple[int, int]] = {}  # the version of `note` that each machine writes

    async def live_with(self, device: Device) -> None:
        """Use the machine day by day, until cancelled."""
        draw = Random(f"days of {device.name}/{self._seed}")
        if device.kind is Kind.PI:
            await self._note_temperatures(device, draw)
        day = int(self._loop.time() // DAY_S)
        while True:
            for begin_h, lasts_s in _day(device.kind, (day - _SATURDAY) % _WEEK < 2, draw):
                begins_s = day * DAY_S + begin_h * HOUR_S
                if begins_s > self._loop.time():
                    await asyncio.sleep(begins_s - self._loop.time())
                    async with self._household.needed(device, "its owner"):
                        await self._sit_at(device, lasts_s, draw)
            day += 1
            await asyncio.sleep(max(0.0, day * DAY_S - self._loop.time()))

    async def _note_temperatures(self, device: Device, draw: Random) -> None:
        while True:
            await asyncio.sleep(draw.uniform(0.9, 1.1) * _CELLAR_EVERY_S)
            if device.is_on:
                body = f"{draw.gauss(11, 2):.1f} degrees".encode()
                await self.write(device, device.member.node.id, _CELLAR, body)

    async def _sit_at(self, device: Device, lasts_s: float, draw: Random) -> None:
        until_s = self._loop.time() + lasts_s
        await asyncio.sleep(draw.choice([0.5, 30.0]))  # some write before their node has met any other
        while self._loop.time() < until_s:
            await self._write_something(device, draw)
            wait_s = draw.expovariate(1 / _WRITE_EVERY_S[device.kind])
            await asyncio.sleep(min(wait_s, max(1.0, until_s - self._loop.time())))
        if device.kind is not Kind.PHONE and draw.random() < _SETTLES:
            await self.settle_conflicts(device)

    async def _write_something(self, device: Device, draw: Random) -> None:
        records, kind, body = device.member.node.records, draw.random(), draw.randbytes(draw.choice([40, 150, 400]))
        shared = records.shared
        assert shared is not None, "a household has a private network"
        if kind < 0.45:
            await self.write(device, shared, draw.choice(_SHARED), body)
        elif kind < 0.9:
            await self.write(device, records.id, f"notes/{draw.randrange(400)}", body)
        elif kind < 0.95:
            await self.write(device, shared, f"letters/{draw.randrange(10_000)}", body)
        else:
            await self.write(device, records.id, f"notes/{draw.randrange(400)}", None)

    async def write(self, device: Device, author: IdentityId, name: str, body: bytes | None) -> None:
        """Write one record, or with None delete it, and enter it in the ledger once the node acknowledged it."""
        records = device.member.node.records
        try:
            if body is None:
                record = await records.delete(MAIN, author, name)
            else:
                version = self.models.get(device.name, (1, 0))
                draft = Draft(context=MAIN, author=author, name=name, body=body, model_version=version)
                record = await records.put(draft)
        except EchonodeError:
            self._ledger.refused += body is not None  # else there was nothing to delete
            return
        self._ledger.entries.append((device, record))
        self._invariants.acknowledge(device.member, [record])

    async def settle_conflicts(self, device: Device) -> None:
        """Settle every conflict that the node may settle: the newest version stands."""
        records = device.member.node.records
        for heads in await records.conflicts(MAIN):
            best = winner(heads)
            if best.author in (records.id, records.shared) and best.body is not None:
                await self.write(device, best.author, best.name, best.body)
                self._ledger.settled += 1


def _day(kind: Kind, is_weekend: bool, draw: Random) -> Iterator[tuple[float, float]]:
    """Yield the spells of one day in which a machine is on: the hour at which each begins, and its seconds."""
    if kind is Kind.PHONE:
        for hour in (8.0, 13.0, 20.5):
            if draw.random() < 0.8:
                yield hour + draw.random(), draw.uniform(120.0, 600.0)
        return
    evening = {Kind.LAPTOP: 0.6, Kind.DESKTOP: 0.15}[kind] + (0.3 if is_weekend else 0.0)
    if is_weekend and draw.random() < evening:
        yield draw.uniform(9.5, 11.0), draw.uniform(0.5, 2.0) * HOUR_S
    if draw.random() < evening:
        yield draw.uniform(19.0, 20.5), draw.uniform(0.5, 1.5) * HOUR_S
