"""A year of one household, told as a story: five nodes, two people, and all that happens to machines in a year.

    begin      a pi is set up; two laptops and a phone join it, later a desktop, which takes the first copy of all
    every day  machines sleep, wake, and are carried through a house with Wi-Fi; their owners write
    now and then  the power of the pi is cut, and its clock is wrong until a time server answers
    once       the network secret is rotated · the router dies · a laptop is stolen, the network goes on without it,
               and a new laptop joins · three machines are away on holiday · every node is upgraded, one after the
               other · the card of the pi is full · the desktop's disk dies and is put back from a backup
    end        all machines are on; the judge checks what is held, and the account is given

The nodes are the code that ships. Time, links, multicast, clocks and disks are simulated. An upgrade is simulated as
another process over the same disk, which writes records of a later minor version of their model.

A shorter span has the same events, closer together. Every choice is drawn from the seed.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from random import Random
from typing import Any, Final

from echonode.errors import EchonodeError
from echonode.model.identity import Instance
from echonode.model.member_secret import MemberSecret
from echonode.model.record import IDENTITIES, Record
from echonode.node.events import RecordConflict
from echonode.sim.disk import SimStore
from echonode.sim.event_loop import SimEntropy, SimLoop
from echonode.sim.household import HOME, HOUR_S, Device, Household, Kind
from echonode.sim.invariants.checks import Invariants, Violation
from echonode.sim.invariants.expected_heads import all_heads, is_covered, leaves_of
from echonode.sim.residents import DAY_S, Ledger, Residents
from echonode.sim.story import Story, Storyteller, counted, span
from echonode.sim.world import Member, World
from echonode.sync.tasks import all_ended

DAYS_MIN: Final = 7
YEAR_DAYS: Final = 365
_EQUAL_WITHIN_S: Final = 900.0
_STEP_S: Final = 0.25
_COMMIT_S: Final = 0.02
_POWER_CUTS: Final = 9  # in a year
_CHECKS: Final = 12  # full checks of safety while time passes
_SETTLES_S: Final = 200.0  # from equal roots until every node has seen them named by every other


class Year:
    """One household in a world of its own, for `days`."""

    def __init__(self, loop: SimLoop, seed: int, days: int) -> None:
        self.story = Storyteller(f"{days} days of a household's nodes, drawn from seed {seed}")
        self._loop = loop
        self._days = days
        self._draw = Random(f"year/{seed}")
        self._entropy = SimEntropy(f"year/{seed}")
        self.world = World(loop, seed=f"year/{seed}")
        self.stolen: Device | None = None
        self.invariants = Invariants(self.world, self._is_honest)
        self.household = Household(self.world, self.invariants)
        self.ledger = Ledger(loop)
        self.people = Residents(self.household, self.ledger, self.invariants, loop, seed)
        self._lives: dict[Device, asyncio.Task[None]] = {}
        self._conflicts: set[tuple[bytes, str, int]] = set()  # author, name, and the day on which it came up
        self._cuts = 0
        self._gone = 0  # acknowledged writes that no disk but a lost one had
        self._backup: Callable[[], SimStore] | None = None

    def _is_honest(self, identity: bytes) -> bool:
        return self.stolen is None or identity != self.stolen.member.identity.id

    # -- the calendar ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Live through all days. Raises Violation."""
        try:
            await self._live()
        finally:
            for device in self.household.devices.values():
                self._loop.resume(device.member.owner)  # a process that stands still cannot be ended

    async def _live(self) -> None:
        await self._begin()
        events: list[tuple[float, Callable[[], Coroutine[Any, Any, None]]]] = [
            (self._at(0.06, 19), self._add_desktop),
            (self._at(0.2, 20), self._rotate),
            (self._at(0.3, 18), self._lose_router),
            (self._at(0.44, 20), self._lose_laptop),
            (self._at(0.6, 10), self._go_on_holiday),
            (self._at(0.75, 19), self._upgrade),
            (self._at(0.8, 3), self._keep_backup),
            (self._at(0.87, 19), self._lose_disk),
            (self._at(0.94, 6), self._fill_card),
        ]
        tasks = [asyncio.create_task(self._happen(at_s, event)) for at_s, event in events]
        tasks += [asyncio.create_task(self._cut_power(at_s)) for at_s in self._power_cuts()]
        for number in range(1, _CHECKS + 1):
            ends_s = self._days * DAY_S * number / _CHECKS
            await asyncio.sleep(max(0.0, ends_s - self._loop.time()))
            for device in self.household.devices.values():
                if device.is_on and device is not self.stolen:
                    await self.invariants.check(device.member)
            for task in (*tasks, *self._lives.values()):
                if task.done():
                    task.result()  # raises what ended it
        for life in self._lives.values():
            life.cancel()
        for failed in await all_ended((*tasks, *self._lives.values())):
            raise failed
        await self._end()

    def _at(self, share: float, hour: float) -> float:
        """Return the time of an hour on the day that lies at this share of all days."""
        return int(self._days * share) * DAY_S + hour * HOUR_S

    def _scaled(self, days: float) -> float:
        """Return the seconds that something takes which lasts so many days of a whole year; at least two hours."""
        return max(2 * HOUR_S, days * DAY_S * min(1.0, self._days / YEAR_DAYS))

    async def _happen(self, at_s: float, event: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await asyncio.sleep(at_s - self._loop.time())
        await event()

    def _tell(self, who: str, text: str) -> None:
        self.story.tell(self._loop.time(), who, text)

    # -- machines ----------------------------------------------------------------------------------------------------

    def _add(self, name: str, kind: Kind, *, is_first: bool = False) -> Device:
        def on_commit(store: SimStore, context: str, records: Any) -> None:
            self.invariants.on_commit(name, store, context, records)
            self.ledger.note_commit(name, records)

        def make_store(instance: Instance) -> SimStore:
            return SimStore(
                instance,
                entropy=self._entropy,
                commit_s=_COMMIT_S,
                on_commit=on_commit,
                intern=self.invariants.intern,
            )

        secret = self.world.secret if is_first else MemberSecret.of_lone_key(self._draw.randbytes(32))
        member = self.world.make_member(name, secret=secret, make_store=make_store)
        member.settings = replace(member.settings, is_provisional=not is_first)
        self.invariants.watch(member)
        member.observers.append(self._note_conflict)
        return self.household.add(member, kind)

    def _note_conflict(self, event: object) -> None:
        if isinstance(event, RecordConflict):
            self._conflicts.add((event.author, event.record, int(self._loop.time() // DAY_S)))

    async def _join(self, name: str, kind: Kind) -> Device:
        """Set a machine up, and let it join by a code that the pi shows."""
        device, pi = self._add(name, kind), self._pi
        async with self.household.needed(device, "joining"):
            while True:
                try:
                    code = await pi.member.node.invite(uses=1, expires_s=600.0)
                    await device.member.node.join(code, None, 30.0)
                    break
                except EchonodeError:
                    await asyncio.sleep(60.0)  # the pi may be without power: the person tries again
            took_s = await self._until_equal([device, pi])
            self._tell(name, f"joins by a code. After {span(took_s)} it holds all {self._versions(device):,} records.")
        self._lives[device] = asyncio.create_task(self.people.live_with(device))
        return device

    def _versions(self, device: Device) -> int:
        store = device.member.node.store
        return sum(len(store.tree(context)) for context in store.contexts() if context != IDENTITIES)

    @property
    def _pi(self) -> Device:
        return self.household.devices["pi"]

    @property
    def _homely(self) -> list[Device]:
        """The machines that belong to the household now."""
        return [device for device in self.household.devices.values() if device is not self.stolen]

    async def _until_equal(self, devices: list[Device]) -> float:
        """Wait until all have the same roots; return the seconds that it took.

        Raises Violation once they were on together for long, and are not equal.
        """
        began_s, together_s = self._loop.time(), 0.0
        while len({tuple(sorted(device.member.roots().items())) for device in devices}) > 1:
            if together_s > _EQUAL_WITHIN_S:
                roots = {each.name: {c: r.hex()[:8] for c, r in each.member.roots().items()} for each in devices}
                raise Violation(f"E3: not equal within {span(_EQUAL_WITHIN_S)}: {roots}")
            together_s = together_s + _STEP_S if all(device.is_on for device in devices) else 0.0
            await asyncio.sleep(_STEP_S)
        return self._loop.time() - began_s

    # -- what happens ------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        await asyncio.sleep(17.5 * HOUR_S)
        pi = self._add("pi", Kind.PI, is_first=True)
        await self.household.keep_on(pi, "its work")
        self._tell("pi", "is set up in the cellar and makes the network.")
        self._lives[pi] = asyncio.create_task(self.people.live_with(pi))
        for name, kind in (("anna", Kind.LAPTOP), ("ben", Kind.LAPTOP), ("phone", Kind.PHONE)):
            await asyncio.sleep(300.0)
            await self._join(name, kind)

    async def _add_desktop(self) -> None:
        await self._join("desktop", Kind.DESKTOP)

    async def _rotate(self) -> None:
        anna = self.household.devices["anna"]
        async with self.household.needed(anna, "the rotation"):
            await asyncio.sleep(60.0)
            report = await anna.member.node.rotations.rotate()
            self._tell(
                "anna",
                f"rotates the network secret, which was on a lost slip of paper. {len(report.members)} nodes are to "
                "have the new one; those that sleep are told when they wake.",
            )
            began_s = self._loop.time()
        while any(each.member.member_secret != anna.member.member_secret for each in self._homely):  # noqa: ASYNC110
            await asyncio.sleep(HOUR_S / 6)  # every way to hear of it would have to set an event
        self._tell("all", f"nodes have the new secret, the last after {span(self._loop.time() - began_s)}.")

    async def _until_told(self, device: Device, by: Device) -> None:
        """Wait as the person at `by` does, until the other machine has the same network secret."""
        while device.member.member_secret != by.member.member_secret:  # noqa: ASYNC110
            await asyncio.sleep(_STEP_S)

    async def _lose_router(self) -> None:
        for_s = self._scaled(1.5)
        for number, device in enumerate(self._homely):
            self.household.carry([device], f"alone {number}")
        self._tell("router", f"dies. For {span(for_s)} no node hears another; people write on.")
        await asyncio.sleep(for_s)
        self.household.carry(self._homely, HOME)
        await asyncio.sleep(60.0)
        on = [device for device in self._homely if device.is_on]
        took_s = await self._until_equal(on)
        nodes = counted(len(on), "node")
        self._tell("router", f"is replaced. What is on, {nodes}, is equal {span(60 + took_s)} later.")

    async def _lose_laptop(self) -> None:
        stolen, anna = self.household.devices["ben"], self.household.devices["anna"]
        async with self.household.needed(stolen, "the theft"):
            self._lives.pop(stolen).cancel()
        self.stolen = stolen
        stolen.place = "far away"
        lost = self._only_at(stolen)
        self._tell("ben", f"is stolen on a train, with {_writes(lost)} on it that no other node has.")
        async with self.household.needed(anna, "the exclusion"):
            await asyncio.sleep(60.0)
            node = anna.member.node
            report = await node.rotations.rotate([stolen.member.identity.id])
            self._tell(
                "anna",
                f"rotates the network without it. {len(report.members)} nodes stay; {report.copied} shared records go "
                "on in the new pool, the old one stays readable.",
            )
            await self._until_told(self._pi, anna)
        await asyncio.sleep(self._scaled(4))
        await self._see_thief(stolen)
        await asyncio.sleep(self._scaled(4))
        await self._join("ben-new", Kind.LAPTOP)

    async def _see_thief(self, stolen: Device) -> None:
        """Let the thief switch the laptop on in front of the house, and write."""
        async with self.household.needed(stolen, "the thief"), self.household.needed(self._pi, "the thief"):
            self.household.carry([stolen], HOME)
            before = len(self.ledger.entries)
            await self.people.write(stolen, stolen.member.node.id, "thief/hello", b"is anybody there?")
            planted = [record for _, record in self.ledger.entries[before:] if record.name == "thief/hello"]
            await asyncio.sleep(600.0)
            self.household.carry([stolen], "far away")
        self.ledger.entries = [entry for entry in self.ledger.entries if entry[1] not in planted]
        self.invariants.acknowledged[stolen.member] = []
        for record in planted:
            if self.ledger.is_elsewhere(record, stolen.name):
                raise Violation("the stolen laptop wrote, and a node of the household took it")
        self._tell("ben", "is switched on by the thief in front of the house. No node lets it in.")

    async def _go_on_holiday(self) -> None:
        away = [self.household.devices[name] for name in ("anna", "ben-new", "phone")]
        for_s = self._scaled(16)
        self.household.carry(away, "the sea")
        self._tell("all", f"but pi and desktop are carried to the sea for {span(for_s)}, where they meet each other.")
        written = len(self.ledger.entries)
        await asyncio.sleep(for_s)
        self.household.carry(away, HOME)
        written = len(self.ledger.entries) - written
        self._tell("all", f"are home again. {_writes(written)} happened on the two sides meanwhile.")

    async def _upgrade(self) -> None:
        """Upgrade every node, one after the other, the desktop last; each writes the later model from then on."""
        between_s = self._scaled(4)
        for number, device in enumerate(self._homely):
            if number:
                await asyncio.sleep(between_s)
            async with self.household.needed(device, "the upgrade"):
                await self.household.replace_process(device, {"note": (1, 1)})
                self.people.models[device.name] = (1, 1)
                self._tell(device.name, "is upgraded: it starts anew over its disk, and writes notes of version 1.1.")
                await asyncio.sleep(120.0)
        self._tell("all", f"nodes are upgraded. For {span(between_s * 4)} old and new worked side by side.")

    async def _keep_backup(self) -> None:
        desktop = self.household.devices["desktop"]
        async with self.household.needed(desktop, "the backup"):
            await asyncio.sleep(60.0)
            self._backup = desktop.disk.backup()
            self._tell("desktop", f"makes a backup of its {self._versions(desktop):,} records.")

    async def _lose_disk(self) -> None:
        desktop = self.household.devices["desktop"]
        assert self._backup is not None, "it was made earlier"
        async with self.household.needed(desktop, "the restore"):
            had = self._versions(desktop)
            lost = self._only_at(desktop)
            store = self._backup()
            await store.renew_instance(Instance(self._entropy.random_bytes(8)))
            await self.household.replace_disk(desktop, store)
            self._tell(
                "desktop",
                f"loses its disk, with {_writes(lost)} on it that no other node has. It is restored from the backup, "
                f"which lacks {counted(had - self._versions(desktop), 'record')}.",
            )
            took_s = await self._until_equal([desktop, self._pi])
            self._tell("desktop", f"has fetched from the others what it lacked, after {span(took_s)}.")

    async def _fill_card(self) -> None:
        pi, for_s, refused = self._pi, self._scaled(1), self.ledger.refused
        pi.disk.is_full = True
        self._tell("pi", "has a full card: nothing can be stored there, and it says so.")
        await asyncio.sleep(for_s)
        pi.disk.is_full = False
        refused = self.ledger.refused - refused
        self._tell("pi", f"has room again after {span(for_s)}; it refused {_writes(refused)} meanwhile.")

    def _power_cuts(self) -> list[float]:
        count = max(1, round(_POWER_CUTS * self._days / YEAR_DAYS))
        return sorted(self._draw.uniform(0.1, 0.9) * self._days * DAY_S for _ in range(count))

    async def _cut_power(self, at_s: float) -> None:
        draw = Random(f"power/{at_s}")
        await asyncio.sleep(at_s - self._loop.time())
        for_s, clock_wrong_s = draw.expovariate(1 / 1500.0) + 30.0, draw.choice([60.0, 600.0, self._scaled(2)])
        self._cuts += 1
        self._tell(
            "pi", f"loses power for {span(for_s)}. For {span(clock_wrong_s)} after that its clock stays behind."
        )
        await self.household.cut_power(self._pi, for_s, clock_wrong_s)

    def _only_at(self, device: Device) -> int:
        """Return how many writes at `device` no other node has. They go with it, and are struck off the ledger."""

        def is_gone(at: Device, record: Record) -> bool:
            return at is device and not self.ledger.is_elsewhere(record, at.name)

        before = len(self.ledger.entries)
        self.ledger.entries = [entry for entry in self.ledger.entries if not is_gone(*entry)]
        gone = before - len(self.ledger.entries)
        self._gone += gone
        return gone

    # -- the end -----------------------------------------------------------------------------------------------------

    async def _end(self) -> None:
        """Switch everything on, wait until all are equal, and let the judge look."""
        homely = self._homely
        for device in homely:
            await self.household.keep_on(device, "the end")
        took_s = await self._until_equal(homely)
        await self.people.settle_conflicts(self.household.devices["anna"])
        took_s += await self._until_equal(homely)
        await asyncio.sleep(_SETTLES_S)
        members = [device.member for device in homely]
        await self.invariants.check_agreement(members)
        self.invariants.check_known_equal(members)
        self._tell("all", f"are switched on, and equal after {span(took_s)}.")
        await self._account(members)
        if self.stolen is not None:
            await self.household.keep_on(self.stolen, "the end")
        await self.world.stop()

    async def _account(self, members: list[Member]) -> None:
        """Give the account. Raises Violation of S3 when a write of the ledger is neither held nor superseded."""
        heads: list[Record] = []
        for context in members[0].node.store.contexts():
            if context != IDENTITIES:
                heads += await all_heads(members[0].node.store, context)
        leaves, ledger, disks = leaves_of(heads), self.ledger, len(members)
        lost = [record for _, record in ledger.entries if not is_covered(record, leaves)]
        if lost:
            raise Violation(f"S3: {len(lost)} acknowledged writes are on no node, as {lost[0].name}")
        self.story.conclude("The nodes", [self._row_of(device) for device in self.household.devices.values()])
        is_open = sum(len(each) > 1 for each in leaves.values())
        came_up, second_s, last_s = len(self._conflicts), ledger.median_lag_s(2), ledger.median_lag_s(disks)
        rows = {
            "written": f"{len(ledger.entries):,} versions of {len(leaves):,} records",
            "replicated": f"to all {disks} nodes. Half of the writes that lasted were on a second node within "
            f"{span(second_s)}, and on {disks} nodes within {span(last_s)}: most machines sleep most of the time",
            "conflicts": f"{came_up:,} came up, a person settled {ledger.settled:,}, {is_open} are open",
            "trouble": f"{counted(self._cuts, 'power cut')}; {_writes(ledger.refused)} refused, as a disk was full",
            "gone with disks": f"{_writes(self._gone)} that no second node had when a machine or a disk was lost",
            "lost": "none",
            "checked": "by the judge: every version is signed and admitted, every root is that of its records, every "
            "acknowledged write is held by every node or superseded, and all nodes hold the same and know it",
        }
        self.story.conclude("The account", list(rows.items()))

    def _row_of(self, device: Device) -> tuple[str, str]:
        is_running = device.is_on and device is not self.stolen
        on_s = device.on_s + (self._loop.time() - device.on_since_s if is_running else 0.0)
        written = sum(at is device for at, _ in self.ledger.entries)
        starts, talks = counted(device.member.starts, "start"), counted(len(device.member.conversations), "sync")
        return device.name, f"on for {span(on_s)}, {starts}, {_writes(written)}, {talks}"


def _writes(number: int) -> str:
    return counted(number, "write") if number else "no write"


def run_year(seed: int, days: int, on_progress: Callable[[float], None] | None = None) -> Story:
    """Run a household of `seed` for so many days, and return its story, with the failure that ended it if one did.

    `on_progress` is called now and then with the virtual time.
    """
    loop = SimLoop(seed=seed)
    if on_progress is not None:
        loop.on_progress = on_progress
    year = Year(loop, seed, days)
    try:
        loop.complete(year.run())
    except Exception as error:
        # A simulation looks for any exception that ends a world.
        return year.story.story("\n".join((f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ()))))
    return year.story.story()
