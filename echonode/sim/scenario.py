"""One seed's world from its beginning to its verdict.

    begin      nodes with a few records each, links, clocks, disks, liars and strangers as the options say
    safety     clients write and ask while everything that the options name goes wrong; S1 to S7 hold throughout
    liveness   all of that ends, and within a bound of virtual time and of conversations E1 to E5 hold
    rest       nothing is said but what must be

`run_seed` does all of it and gives figures, or raises a Violation, a Deadlock or whatever a node raised; the message
names the seed, and the seed replays it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Final

from echonode.errors import EchonodeError
from echonode.limits import COMPARE_INTERVAL_S, IDLE_TIMEOUT_S
from echonode.model.identity import IdentityId, Instance
from echonode.model.keys import KeyState, statement_draft
from echonode.model.record import Record
from echonode.node.events import PeerAbsent, SyncProgress
from echonode.sim.adversary import Adversary
from echonode.sim.clients import Clients
from echonode.sim.disk import SimStore
from echonode.sim.event_loop import SimEntropy, SimLoop
from echonode.sim.expected_heads import all_heads
from echonode.sim.faults import Faults
from echonode.sim.figures import Figures, Progress
from echonode.sim.invariants import Invariants, Violation
from echonode.sim.options import PARTIAL_TAG, Options, draw_options
from echonode.sim.quiescence import left_behind
from echonode.sim.world import Member, World
from echonode.sync.tasks import all_ended

# A session that hangs is given up after IDLE_TIMEOUT_S, and its peer dialled again within the longest back-off.
SETTLED_WITHIN_S: Final = 2 * IDLE_TIMEOUT_S + max(COMPARE_INTERVAL_S)
CONVERSATIONS_PER_PAIR_MAX: Final = 60  # while coming to agree, whatever went wrong before
_CHECKS: Final = 3  # full checks in the bad time, beside those at the end of each phase
_SAMPLES: Final = 20  # of how the roots stand, between two checks
_STEP_S: Final = 0.25
_BEFORE_IDLE_S: Final = 10.0  # after all are equal for the first time: the last of the sessions that made them so end
_STILL_ON_ITS_WAY_S: Final = 5.0  # what is told behind the last write: roots, credit


class Scenario:
    """The world of one seed."""

    def __init__(self, loop: SimLoop, seed: int, options: Options) -> None:
        self.options = options
        self._seed = seed
        self._loop = loop
        self._draw = Random(f"swarm/{seed}")
        self._entropy = SimEntropy(f"swarm/{seed}")
        self.world = World(loop, seed=seed, air=options.air)
        self.world.network.uplink_bytes_s = options.uplink_bytes_s
        self.judge = Invariants(self.world, self._is_honest)
        self.honest: list[Member] = []
        self._clients: list[Member] = []
        self._liars: list[Adversary] = []
        self._strangers: list[Member] = []
        self._partials: list[Member] = []
        self._is_live = False  # clients are writing, after the beginning
        self.progress = Progress(self.world, self.honest)

    def _is_honest(self, identity: IdentityId) -> bool:
        member = self.world.identified(identity)
        return member in self.honest or member in self._partials

    # -- phases ------------------------------------------------------------------------------------------------------

    async def run(self) -> Figures:
        """All phases."""
        options = self.options
        workload = Clients(self._clients, self.judge, options.habits, self._seed)
        await self._begin(workload)
        if options.meets_first:
            self.progress.met_after_s = round(await self._until_equal(), 3)
        if options.idle_s:
            await asyncio.sleep(_BEFORE_IDLE_S)
            self.progress.mark()
            await asyncio.sleep(options.idle_s)
            self.progress.mark()
        if options.faults_s:
            faults = Faults(self.world, self._clients, self.judge, options, self._seed)
            busy: list[Coroutine[Any, Any, None]] = [
                workload.keep_writing(),
                workload.keep_asking(),
                workload.keep_looking_up(),
                faults.keep_befalling(),
                faults.keep_cutting(),
                *[liar.keep_lying(self.world) for liar in self._liars],
                *[self._let_in(number) for number in range(options.newcomers)],
            ]
            if options.partition_s:
                busy.append(self._cut_in_two())
            if options.is_compromised:
                busy.append(self._compromise())
            self._is_live = True
            await self._under_faults(busy)
            self._is_live = False
            await faults.mend()
            await workload.hear_answers()
        await self._come_to_agree()
        if options.idle_s:
            await asyncio.sleep(_STILL_ON_ITS_WAY_S)
            self.progress.mark()
        figures = self.progress.figures(self._seed, self._loop, self.judge)
        if options.rest_s:
            await self._rest()
        await self.world.stop(together=options.is_all_at_once)
        for member in (*self.honest, *self._partials):
            if left := left_behind(self.world, member):
                raise Violation(f"E4: {member.name} was stopped, and leaves {', '.join(left)}")
        return replace(figures, virtual_s=round(self._loop.time(), 3), trace=self._loop.trace.digest)

    async def _begin(self, workload: Clients) -> None:
        options = self.options
        self.world.discovery.is_off = options.is_all_at_once
        for number in range(options.nodes):
            member = self._add(f"n{number}")
            self.honest.append(member)
            self._clients.append(member)
            if number and options.common:
                await self._set_up(member, self._clients[0])
            await self.world.start(member)
            if not number:
                await workload.stock(member, options.common)
        for number in range(options.records):
            await workload.fill(self._clients[number % len(self._clients)], 1)
        for number in range(options.liars):
            member = self._add(f"liar{number}")
            await self.world.start(member)
            self._liars.append(Adversary(member, self._seed))
            self._liars[-1].corrupt()
        for number in range(options.partials):
            partial = self._add(f"part{number}")
            subscriptions = {options.habits.contexts[0]: (f"tag={PARTIAL_TAG}",)}
            partial.settings = replace(partial.settings, subscriptions=subscriptions)
            self._partials.append(partial)
            await self.world.start(partial)
        for number in range(options.strangers):
            stranger = self._add(f"stranger{number}", key=self._draw.randbytes(32))
            self._strangers.append(stranger)
            await self.world.start(stranger)
        self.world.discovery.is_off = False
        self.world.introduce()

    async def _set_up(self, member: Member, source: Member) -> None:
        """As a person would: with all that `source` has exported."""
        for context in source.store.contexts():
            await member.store.apply(context, await all_heads(source.store, context))

    def _add(self, name: str, key: bytes | str = "ours") -> Member:
        member = self.world.make_member(
            name,
            key=key,
            skew_ms=self._draw.choice(self.options.skews_ms),
            make_store=lambda instance: self._disk(name, instance),
        )
        for other in self.world.members.values():
            for source, target in ((member, other), (other, member)):
                self.world.network.set_link(source.host, target.host, self._draw.choice(self.options.links))
        self.judge.watch(member)
        return member

    def _disk(self, name: str, instance: Instance) -> SimStore:
        def committed(store: SimStore, context: str, records: Sequence[Record]) -> None:
            if not name.startswith("liar"):
                self.judge.on_commit(name, store, context, records)
                self.progress.committed(records, is_live=self._is_live)

        return SimStore(
            instance,
            entropy=self._entropy,
            commit_s=self.options.commit_s,
            on_commit=committed,
            one_of=self.judge.one_of if not name.startswith("liar") else lambda record: record,
        )

    async def _under_faults(self, busy: Sequence[Coroutine[Any, Any, None]]) -> None:
        tasks = [asyncio.create_task(work) for work in busy]
        for _ in range(_CHECKS):
            for _ in range(_SAMPLES):
                await asyncio.sleep(self.options.faults_s / _CHECKS / _SAMPLES)
                self.progress.note()
            await self._check_safety()
            for task in tasks:
                if task.done():
                    task.result()  # raises what ended it
        for task in tasks:
            task.cancel()
        for failed in await all_ended(tasks):
            raise failed

    async def _check_safety(self) -> None:
        for member in self.honest:
            if member.is_up:
                await self.judge.check(member)

    async def _come_to_agree(self) -> None:
        if not self.options.liars_stay:
            for liar in self._liars:
                await self.world.leave(liar.member)
        before = sum(len(member.conversations) for member in self.honest)
        self.progress.agreed_after_s = await self._until_equal()
        pairs = len(self.honest) * (len(self.honest) - 1) // 2
        held = sum(len(member.conversations) for member in self.honest) - before
        if held > 2 * CONVERSATIONS_PER_PAIR_MAX * max(1, pairs) * len(set(self.options.habits.contexts)):
            raise Violation(f"E3: {held} conversations to agree among {len(self.honest)} nodes")
        await self.judge.check_agreement(self.honest)
        await asyncio.sleep(self.options.commit_s)
        for member in self.honest:
            self.judge.check_forks(member)

    async def _until_equal(self) -> float:
        """Wait until all honest nodes have the same roots; how long that took. E3: it is bounded."""
        began_s = self._loop.time()
        while why := await self._difference():
            self.progress.note()
            if self._loop.time() - began_s > SETTLED_WITHIN_S:
                raise Violation(f"E3: not equal within {SETTLED_WITHIN_S:.0f} s: {why}")
            await asyncio.sleep(_STEP_S)
        self.progress.note()
        return self._loop.time() - began_s

    async def _difference(self) -> str:
        """Why honest nodes are not equal now, "" when they are."""
        if len({tuple(sorted(member.roots().items())) for member in self.honest}) > 1:
            return self.progress.describe()
        for partial in self._partials:
            try:
                await self.judge.check_part(partial, self.honest[0], self.options.habits.contexts[0], PARTIAL_TAG)
            except Violation as violation:
                return str(violation)
        return ""

    async def _rest(self) -> None:
        """E4: once all that was unattended has timed out, all know that they are equal, and nobody goes on talking."""
        await asyncio.sleep(2 * IDLE_TIMEOUT_S + max(COMPARE_INTERVAL_S))
        is_quiet = not (self._liars and self.options.liars_stay)
        said = [len(_loud(member)) for member in self.honest]
        await asyncio.sleep(self.options.rest_s)
        if is_quiet and said != [len(_loud(member)) for member in self.honest]:
            raise Violation("E4: nodes at rest go on talking")
        self.judge.check_rest(self.honest)
        if is_quiet:
            await self.judge.check_still([*self.honest, *self._partials])
        await self.judge.check_agreement(self.honest)

    # -- what happens once -------------------------------------------------------------------------------------------

    async def _cut_in_two(self) -> None:
        hosts = [member.host for member in self._clients]
        self.world.network.partition(hosts[::2], hosts[1::2])
        await asyncio.sleep(self.options.partition_s)
        self.world.network.heal()

    async def _let_in(self, number: int) -> None:
        """A machine joins by an invitation, typed where the inviter is heard of or by its address."""
        await asyncio.sleep(self._draw.uniform(0, self.options.faults_s / 2))
        newcomer = self._add(f"new{number}", key=self._draw.randbytes(32))
        newcomer.settings = replace(newcomer.settings, is_provisional=True)
        await self.world.start(newcomer)
        while True:
            inviter = self._draw.choice(self._clients)
            try:
                code = await inviter.node.invite(uses=1, expires_s=600.0)
                await newcomer.node.join(code, self._draw.choice([None, inviter.address]), 30.0)
            except EchonodeError:
                await asyncio.sleep(1.0)  # the network is bad and the inviter may die: a person tries again
                continue
            newcomer.settings = replace(newcomer.settings, network_key=newcomer.network_key, is_provisional=False)
            self.honest.append(newcomer)
            return

    async def _compromise(self) -> None:
        """Somebody's laptop is stolen: from another machine its owner states its device key compromised."""
        if len(self._clients) < 3:
            return
        await asyncio.sleep(self._draw.uniform(0, self.options.faults_s / 2))
        victim = self._clients[-1]
        self._clients.remove(victim)
        self.honest.remove(victim)
        await self.world.wait_until_up(victim)
        await self.world.leave(victim)
        draft = statement_draft(victim.identity.id, victim.identity.device.public, KeyState.COMPROMISED)
        while True:
            teller = self._draw.choice(self._clients)
            try:
                await teller.node.records.state_key(draft, victim.identity.root)
            except EchonodeError:
                await asyncio.sleep(1.0)
                continue
            return


def _loud(member: Member) -> list[object]:
    """What a node tells, but for how far it has come, and that somebody who has left for good is found to be gone."""
    return [event for event in member.events if not isinstance(event, SyncProgress | PeerAbsent)]


def run_seed(seed: int, options: Options | None = None, on_time: Callable[[float], None] | None = None) -> Figures:
    """Run the world of `seed`, or one with these options and the draws of `seed`. `on_time` hears the time."""
    chosen = draw_options(seed) if options is None else options
    loop = SimLoop(seed=seed)
    if on_time is not None:
        loop.on_time = on_time

    async def main() -> Figures:
        return await Scenario(loop, seed, chosen).run()

    try:
        return loop.complete(main())
    except BaseException as error:
        error.add_note(f"options: {chosen}")
        raise
