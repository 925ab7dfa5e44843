"""The scenario of one seed: a world, from its first node to its figures, in four phases.

    begin         nodes with a few records each; links, clocks, disks, adversaries and strangers as the options say
    safety        clients write and sync while faults happen; S1 to S7 hold throughout
    liveness      the faults end; E1, E2, E3 and E5 hold within a bound of virtual time and of conversations
    quiescence    no work is left at any node, and no node says more than it must: E4

`run_seed` runs a scenario and returns its figures. It raises a Violation of an invariant (sim/invariants), a Deadlock
or any exception that a node raised. The notes of the exception name the seed; the same seed gives the same run.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any, Final

from echonode.errors import EchonodeError
from echonode.limits import COMPARE_INTERVAL_S, IDLE_TIMEOUT_S
from echonode.model.identity import IdentityId, Instance
from echonode.model.keys import KeyState, statement_draft
from echonode.model.member_secret import MemberSecret
from echonode.model.record import Record
from echonode.node.events import PeerAbsent, RotationRefused, SyncProgress
from echonode.sim.adversary import Adversary
from echonode.sim.clients import Clients
from echonode.sim.disk import SimStore
from echonode.sim.event_loop import SimEntropy, SimLoop
from echonode.sim.faults import Faults
from echonode.sim.figures import Figures, Samples
from echonode.sim.invariants.checks import Invariants, Violation
from echonode.sim.invariants.expected_heads import all_heads
from echonode.sim.invariants.truth import Truth
from echonode.sim.key_changes import KeyChanges
from echonode.sim.network_rotations import NetworkRotations
from echonode.sim.options import PARTIAL_TAG, Options, draw_options
from echonode.sim.quiescence import left_behind
from echonode.sim.world import PORT, Member, World
from echonode.sync.tasks import all_ended

# A session that hangs is given up after IDLE_TIMEOUT_S; its peer is dialled again within the longest back-off.
AGREED_WITHIN_S: Final = 2 * IDLE_TIMEOUT_S + max(COMPARE_INTERVAL_S)
CONVERSATIONS_PER_PAIR_MAX: Final = 60  # until all agree
_CHECKS: Final = 3  # full checks of safety during the faults, beside those at the end of each phase
_SAMPLES: Final = 20  # samples of the roots between two checks
_STEP_S: Final = 0.25
_BEFORE_IDLE_S: Final = 10.0  # after all are equal for the first time, for their last sessions to end
_BRIDGE_HOST: Final = "172.17.0.1"
_ADVERSARY_PREFIX: Final = "liar"  # of names, which nodes send to each other: another one would change every run
_RECENT_EVENTS: Final = 50
_AFTER_LAST_WRITE_S: Final = 5.0  # for roots and credit that nodes send after the last write


class Scenario:
    """The scenario of one seed, in a world of its own."""

    def __init__(self, loop: SimLoop, seed: int, options: Options) -> None:
        self.options = options
        self._seed = seed
        self._loop = loop
        self._draw = Random(f"swarm/{seed}")  # another label would change the world of every seed
        self._entropy = SimEntropy(f"swarm/{seed}")
        self.world = World(loop, seed=seed, multicast=options.multicast)
        self.world.network.uplink_bytes_s = options.uplink_bytes_s
        if options.has_shared_address:
            self.world.network.share_address(_BRIDGE_HOST)
            self.world.discovery.shared = (f"{_BRIDGE_HOST}:{PORT}",)
        self.invariants = Invariants(self.world, self._is_honest, options.leaf_bounds)
        self.truth = Truth(loop)
        self.invariants.is_wire_whole = "corrupt" not in options.faults
        self.invariants.on_roots = self.truth.note
        self.honest: list[Member] = []  # nodes that hold all contexts, newcomers included
        self._client_nodes: list[Member] = []  # nodes that clients talk to, and that faults happen to
        self._adversaries: list[Adversary] = []
        self._strangers: list[Member] = []
        self._partials: list[Member] = []
        self._newcomers: list[Member] = []
        self._is_live = False  # True while clients write, after the beginning
        self.samples = Samples(self.world, self.honest)

    def _is_honest(self, identity: IdentityId) -> bool:
        member = self.world.identified(identity)
        return member in self.honest or member in self._partials

    # -- phases ------------------------------------------------------------------------------------------------------

    async def run(self) -> Figures:
        """Run all phases and return the figures. Raises Violation."""
        options = self.options
        clients = Clients(self._client_nodes, self.invariants, options.habits, self._seed)
        await self._begin(clients)
        if options.meets_first:
            self.samples.met_after_s = round(await self._until_equal(), 3)
        if options.idle_s:
            await asyncio.sleep(_BEFORE_IDLE_S)
            self.samples.mark_traffic()
            await asyncio.sleep(options.idle_s)
            self.samples.mark_traffic()
        if options.faults_s:
            rotations = self._rotations()
            faults = Faults(self.world, self._client_nodes, self.invariants, options, self._seed)
            activities: list[Coroutine[Any, Any, None]] = [
                clients.keep_writing(),
                clients.keep_syncing(),
                clients.keep_requesting(),
                faults.keep_causing(),
                faults.keep_cutting(),
                faults.keep_stalling(),
                clients.import_beside(options.bulk_records),
                *[adversary.keep_attacking(self.world) for adversary in self._adversaries],
                *[self._let_in(number) for number in range(options.newcomers)],
            ]
            if options.partition_s:
                activities.append(self._partition())
            if options.key_changes:
                activities.append(self._key_changes().keep_changing())
            if options.is_compromised:
                activities.append(self._compromise())
            activities.append(rotations.keep_rotating())
            self._is_live = True
            await self._run_under_faults(activities)
            self._is_live = False
            await faults.end()
            await rotations.end()
            await clients.check_answers()
        await self._come_to_agree()
        if options.faults_s and options.rotations:
            if not options.is_compromised:  # what its key signed is void, the copies that it made among that
                await rotations.check_shared(AGREED_WITHIN_S)
            await rotations.check_outsiders()
            await rotations.dismiss()
            await self._until_equal()
        if options.restarts_unseen:
            await self._restart_unseen(clients)
        if options.idle_s:
            await asyncio.sleep(_AFTER_LAST_WRITE_S)
            self.samples.mark_traffic()
        figures = self.samples.figures(self._seed, self._loop, self.invariants)
        if options.quiescence_s:
            await self._check_quiescence()
        await self.world.stop(together=options.is_all_at_once)
        for member in (*self.honest, *self._partials):
            if leftovers := left_behind(self.world, member):
                raise Violation(f"E4: {member.name} was stopped, and leaves {', '.join(leftovers)}")
        return replace(figures, virtual_s=round(self._loop.time(), 3), trace=self._loop.trace.digest)

    async def _begin(self, clients: Clients) -> None:
        options = self.options
        self.world.discovery.is_off = options.is_all_at_once
        for number in range(options.nodes):
            member = self._add(f"n{number}")
            self.honest.append(member)
            self._client_nodes.append(member)
            if number and options.common_records:
                await self._set_up(member, self._client_nodes[0])
            await self.world.start(member)
            if not number:
                await clients.import_common(member, options.common_records)
        for number in range(options.records):
            await clients.write(self._client_nodes[number % len(self._client_nodes)], 1)
        for number in range(options.adversaries):
            member = self._add(f"{_ADVERSARY_PREFIX}{number}")
            await self.world.start(member)
            self._adversaries.append(Adversary(member, self._seed))
            self._adversaries[-1].take_over()
        for number in range(options.partials):
            partial = self._add(f"part{number}")
            subscriptions = {options.habits.contexts[0]: (f"tag={PARTIAL_TAG}",)}
            partial.settings = replace(partial.settings, subscriptions=subscriptions)
            self._partials.append(partial)
            await self.world.start(partial)
        for number in range(options.strangers):
            stranger = self._add(f"stranger{number}", secret=MemberSecret.of_lone_key(self._draw.randbytes(32)))
            self._strangers.append(stranger)
            await self.world.start(stranger)
        self.world.discovery.is_off = False
        self.world.introduce()

    async def _set_up(self, member: Member, source: Member) -> None:
        """Give `member` every record of `source`, as a person does with an export and an import."""
        for context in source.store.contexts():
            await member.store.apply(context, await all_heads(source.store, context))

    def _add(self, name: str, secret: MemberSecret | str = "ours") -> Member:
        member = self.world.make_member(
            name,
            secret=secret,
            skew_ms=self._draw.choice(self.options.skews_ms),
            make_store=lambda instance: self._disk(name, instance),
            node_name="vm" if self.options.has_equal_names else None,
        )
        for other in self.world.members.values():
            for source, target in ((member, other), (other, member)):
                self.world.network.set_link(source.host, target.host, self._draw.choice(self.options.links))
        self.invariants.watch(member)
        return member

    def _disk(self, name: str, instance: Instance) -> SimStore:
        def on_commit(store: SimStore, context: str, records: Sequence[Record]) -> None:
            if not name.startswith(_ADVERSARY_PREFIX):
                self.invariants.on_commit(name, store, context, records)
                self.samples.note_commit(records, is_live=self._is_live)

        store = SimStore(
            instance,
            entropy=self._entropy,
            commit_s=self.options.commit_s,
            on_commit=on_commit,
            intern=self.invariants.intern if not name.startswith(_ADVERSARY_PREFIX) else lambda record: record,
        )
        store.bound_leaves(self.options.leaf_bounds)
        return store

    async def _run_under_faults(self, activities: Sequence[Coroutine[Any, Any, None]]) -> None:
        tasks = [asyncio.create_task(work) for work in activities]
        for _ in range(_CHECKS):
            for _ in range(_SAMPLES):
                await asyncio.sleep(self.options.faults_s / _CHECKS / _SAMPLES)
                self.samples.sample_roots()
                self._check_truth()
            await self._check_safety()
            for task in tasks:
                if task.done():
                    task.result()  # raises what ended it
        for task in tasks:
            task.cancel()
        for failed in await all_ended(tasks):
            raise failed

    def _check_truth(self) -> None:
        self.truth.look(self.world.members.values())
        for member in self.honest:
            if member.is_up:
                self.truth.check(member, self.honest)

    async def _check_safety(self) -> None:
        for member in self.honest:
            if member.is_up:
                await self.invariants.check(member)

    async def _come_to_agree(self) -> None:
        if not self.options.adversaries_stay:
            for adversary in self._adversaries:
                await self.world.leave(adversary.member)
        before = sum(len(member.conversations) for member in self.honest)
        self.samples.agreed_after_s = await self._until_equal()
        pairs = len(self.honest) * (len(self.honest) - 1) // 2
        held = sum(len(member.conversations) for member in self.honest) - before
        if held > 2 * CONVERSATIONS_PER_PAIR_MAX * max(1, pairs) * len(set(self.options.habits.contexts)):
            raise Violation(f"E3: {held} conversations to agree among {len(self.honest)} nodes")
        await self.invariants.check_agreement(self.honest)
        await asyncio.sleep(self.options.commit_s)
        for member in self.honest:
            self.invariants.check_forks(member)

    async def _until_equal(self) -> float:
        """Wait until all honest nodes have the same roots. Return the virtual seconds that it took.

        Raises Violation of E3 after AGREED_WITHIN_S.
        """
        began_s = self._loop.time()
        while difference := await self._difference():
            await self._let_in_again()
            self.samples.sample_roots()
            self._check_truth()
            if self._loop.time() - began_s > AGREED_WITHIN_S:
                raise Violation(f"E3: not equal within {AGREED_WITHIN_S:.0f} s: {difference}")
            await asyncio.sleep(_STEP_S)
        self.samples.sample_roots()
        return self._loop.time() - began_s

    async def _difference(self) -> str:
        """Describe how honest nodes differ now; "" if they are equal."""
        networks = {member.name: member.node.network for member in (*self.honest, *self._partials)}
        if len(set(networks.values())) > 1:
            return f"they are of several networks: {networks}"
        if len({tuple(sorted(member.roots().items())) for member in self.honest}) > 1:
            return self.samples.describe_roots()
        for partial in self._partials:
            try:
                context = self.options.habits.contexts[0]
                await self.invariants.check_partial(partial, self.honest[0], context, PARTIAL_TAG)
            except Violation as violation:
                return str(violation)
        return ""

    async def _check_quiescence(self) -> None:
        """E4: let abandoned sessions time out. Then all nodes know that they are equal, and none goes on talking.

        Adversaries that stay keep nodes busy: then only the knowledge and the agreement of nodes are checked.
        """
        await asyncio.sleep(2 * IDLE_TIMEOUT_S + max(COMPARE_INTERVAL_S))
        is_quiet = not (self._adversaries and self.options.adversaries_stay)
        before = [len(_news(member)) for member in self.honest]
        await asyncio.sleep(self.options.quiescence_s)
        if is_quiet and before != [len(_news(member)) for member in self.honest]:
            raise Violation("E4: nodes that have nothing to do go on talking")
        self._check_truth()
        self.invariants.check_known_equal(self.honest)
        if is_quiet:
            await self.invariants.check_quiescence([*self.honest, *self._partials])
        await self.invariants.check_agreement(self.honest)

    async def _restart_unseen(self, clients: Clients) -> None:
        """Restart all honest nodes where discovery works no more. They know each other, and agree on what is new."""
        self.world.discovery.is_off = True
        for member in self.honest:
            await self.world.leave(member)
        for member in self.honest:
            assert isinstance(member.store, SimStore)
            member.store = member.store.reopen()
            await self.world.start(member)
        for member in self.honest:
            if member in self._client_nodes:
                await clients.write(member, 1)
        await self._until_equal()
        await self.invariants.check_agreement(self.honest)

    # -- what happens once -------------------------------------------------------------------------------------------

    async def _partition(self) -> None:
        hosts = [member.host for member in self._client_nodes]
        self.world.network.partition(hosts[::2], hosts[1::2])
        await asyncio.sleep(self.options.partition_s)
        self.world.network.heal()

    async def _let_in(self, number: int) -> None:
        """Let a new machine join by an invitation, by the code alone or with the address of the inviter."""
        await asyncio.sleep(self._draw.uniform(0, self.options.faults_s / 2))
        newcomer = self._add(f"new{number}", secret=MemberSecret.of_lone_key(self._draw.randbytes(32)))
        newcomer.settings = replace(newcomer.settings, is_provisional=True)
        await self.world.start(newcomer)
        while True:
            inviter = self._draw.choice(self._client_nodes)
            try:
                code = await inviter.node.invite(uses=1, expires_s=600.0)
                await newcomer.node.join(code, self._draw.choice([None, inviter.address]), 30.0)
            except EchonodeError:
                await asyncio.sleep(1.0)  # the network is bad and the inviter may die: the person tries again
                continue
            newcomer.settings = replace(
                newcomer.settings, member_secret=newcomer.member_secret, is_provisional=False
            )
            self.honest.append(newcomer)
            self._newcomers.append(newcomer)
            return

    async def _let_in_again(self) -> None:
        """Let nodes join again that got a secret of which others had rotated away already, or that a rollback of their
        disk left without knowing anybody: those believe no rotation."""
        for member in self.honest:
            inviter = next(other for other in self._client_nodes if other is not member)
            refused = any(isinstance(event, RotationRefused) for event in member.events[-_RECENT_EVENTS:])
            is_out = member in self._newcomers and (await member.node.status()).left_out_by
            if (is_out or refused) and member.node.network != inviter.node.network:
                with suppress(EchonodeError):  # the person tries again
                    code = await inviter.node.invite(uses=1, expires_s=600.0)
                    await member.node.join(code, inviter.address, 30.0)

    def _key_changes(self) -> KeyChanges:
        options = self.options
        return KeyChanges(
            self._client_nodes,
            self.invariants,
            count=options.key_changes,
            during_s=options.faults_s,
            seed=self._seed,
        )

    def _rotations(self) -> NetworkRotations:
        options = self.options
        return NetworkRotations(
            self.world,
            self.honest,
            self._partials,
            self._client_nodes,
            self.invariants,
            count=options.rotations,
            during_s=options.faults_s,
            seed=self._seed,
        )

    async def _compromise(self) -> None:
        """Remove a node, as a thief takes a laptop. Its owner then states its device key compromised, elsewhere."""
        if len(self._client_nodes) < 3:
            return
        await asyncio.sleep(self._draw.uniform(0, self.options.faults_s / 2))
        if len(self._client_nodes) < 3:
            return  # a rotation has left one out meanwhile
        victim = self._client_nodes[-1]
        self._client_nodes.remove(victim)
        self.honest.remove(victim)
        await self.world.wait_until_up(victim)
        await self.world.leave(victim)
        draft = statement_draft(victim.identity.id, victim.identity.device.public, KeyState.COMPROMISED)
        root = victim.identity.root
        assert root is not None, "no simulated root key is taken off its machine"
        while True:
            reporter = self._draw.choice(self._client_nodes)
            try:
                await reporter.node.records.state_key(draft, root)
            except EchonodeError:
                await asyncio.sleep(1.0)
                continue
            return


def _news(member: Member) -> list[object]:
    """Return the events of a member that tell of talk. Progress and absent peers do not."""
    return [event for event in member.events if not isinstance(event, SyncProgress | PeerAbsent)]


def run_seed(seed: int, options: Options | None = None, on_progress: Callable[[float], None] | None = None) -> Figures:
    """Run the world of `seed`, or one with `options` and the draws of `seed`. Return its figures.

    `on_progress` is called now and then with the virtual time. Raises what ended the world, with the seed in its notes.
    """
    chosen = draw_options(seed) if options is None else options
    loop = SimLoop(seed=seed)
    if on_progress is not None:
        loop.on_progress = on_progress

    async def main() -> Figures:
        return await Scenario(loop, seed, chosen).run()

    try:
        return loop.complete(main())
    except BaseException as error:
        error.add_note(f"options: {chosen}")
        raise
