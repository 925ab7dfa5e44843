"""Worlds of real nodes under a bad network: safe all the while, equal soon after it is good again.

Everything is drawn from a seed: how many nodes, what their links are like, what they write and what befalls them. A
failure names its seed; `simulate(seed)` replays it.

    faults     writes go on while links are slow, bytes come in crumbs, connections break at any byte or hang for ever,
               groups are cut from each other, bits flip below the encryption; clocks are wrong from the start
    rest       all of that ends, and within a bound of virtual time every node holds the merge of all that was written
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import combinations
from random import Random

import pytest

from echonode.errors import LocalError
from echonode.limits import COMPARE_INTERVAL_S, IDLE_TIMEOUT_S
from echonode.model.keys import Admission
from echonode.model.merkle import Tree, state_of
from echonode.model.record import IDENTITIES, MAIN, Draft, Record, parse, supersedes, verify
from echonode.node.events import InstanceRenewed, PeerAbsent, SessionFailed, SyncCompleted, SyncProgress
from echonode.node.node import Announcement, Node, Settings
from echonode.node.views import SyncReport, SyncStatus
from echonode.sim.link import Link
from echonode.sim.loop import SimEntropy, SimLoop
from echonode.sim.world import PORT, Member, World
from echonode.wire.messages import Direction

SEEDS = range(30)
CONTEXTS = (MAIN, MAIN, MAIN, "notes")
FAULTS_S = 20.0
# A session that hangs is given up after IDLE_TIMEOUT_S, and its peer dialled again within the longest back-off.
SETTLED_WITHIN_S = 2 * IDLE_TIMEOUT_S + max(COMPARE_INTERVAL_S)
LINKS = (
    Link(),
    Link(latency_s=0.05, jitter_s=0.05, fragment_bytes_max=1400),
    Link(latency_s=0.3, jitter_s=0.5, fragment_bytes_max=100),
    Link(latency_s=0.01, bandwidth_bytes_s=100_000, fragment_bytes_max=500),
)


@dataclass
class Ledger:
    """All that was acknowledged, by context, and by whom."""

    written: list[tuple[Member, Record]] = field(default_factory=list)

    def of(self, context: str) -> list[Record]:
        return [record for _, record in self.written if record.context == context]


class Scenario:
    """One seed's world, and what happens in it."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.draw = Random(f"scenario/{seed}")
        self.ledger = Ledger()
        self.members: list[Member] = []
        self.restarting: list[tuple[Member, asyncio.Task[None]]] = []
        self.asking: list[asyncio.Task[list[SyncReport]]] = []

    async def begin(self) -> None:
        for number in range(self.draw.randint(2, 6)):
            skew_ms = self.draw.choice([0, 0, 0, 3_000, -60_000, 3_600_000])
            self.members.append(await self.world.add_node(f"n{number}", skew_ms=skew_ms))
            for _ in range(self.draw.choice([0, 3, 15])):
                await self.write()
        for one, other in combinations(self.members, 2):
            for source, target in ((one, other), (other, one)):
                self.world.network.set_link(source.host, target.host, self.draw.choice(LINKS))
        self.world.introduce()

    # -- what is written ---------------------------------------------------------------------------------------------

    async def write(self) -> None:
        """A put, an edit, a delete or a burst by somebody, of his own or of the pool's."""
        member = self.draw.choice(self.members)
        node = member.node
        author = self.draw.choice([node.id, node.shared])
        context = self.draw.choice(CONTEXTS)
        name = f"r{self.draw.randrange(30)}"
        if self.draw.random() < 0.15:
            try:
                self.ledger.written.append((member, await node.delete(context, author, name)))
            except LocalError:
                pass  # there is no such record
            return
        names = [name] if self.draw.random() < 0.95 else [f"{name}-{more}" for more in range(self.draw.randrange(100))]
        body = self.draw.randbytes(self.draw.choice([0, 10, 10, 1_000, 10_000]) if len(names) == 1 else 10)
        drafts = [Draft(context=context, author=author, name=each, body=body) for each in names]
        for record in await node.put_all(drafts):
            assert record is not None
            self.ledger.written.append((member, record))

    async def keep_writing(self) -> None:
        while True:
            await asyncio.sleep(self.draw.expovariate(0.7))
            await self.write()

    async def keep_asking(self) -> None:
        """Somebody types `echonode sync` now and then; a word he waits for comes in time."""
        while True:
            await asyncio.sleep(self.draw.expovariate(0.2))
            direction = self.draw.choice(list(Direction))
            asked = self.draw.choice(self.members).node.sync(None, direction, 20.0)
            self.asking.append(asyncio.create_task(asked))

    # -- what befalls them -------------------------------------------------------------------------------------------

    def befall(self) -> None:
        network = self.world.network
        one, other = (member.host for member in self.draw.sample(self.members, 2))
        match self.draw.randrange(6):
            case 0:
                network.cut(one, other)
            case 1:
                network.cut(one, other, after_bytes=self.draw.randrange(20_000))
            case 2:
                network.half_open(one, other)
            case 3:
                network.corrupt(one, other)
            case 4:
                network.block(one, other)
            case _:
                group = set(self.draw.sample([m.host for m in self.members], self.draw.randrange(len(self.members))))
                network.partition(group, {member.host for member in self.members} - group)

    async def keep_befalling(self) -> None:
        while True:
            await asyncio.sleep(self.draw.expovariate(0.3))
            if self.draw.random() < 0.1:
                member = self.draw.choice(self.members)
                if member not in [one for one, _ in self.restarting]:
                    self.restarting.append((member, asyncio.create_task(self.restart(member))))
            else:
                self.befall()
            if self.draw.random() < 0.3:
                self.world.network.heal()

    async def restart(self, member: Member) -> None:
        """A node dies and comes up again over the store it had, at the same address."""
        world, old = self.world, member.node
        world.network.crash(member.host)
        await old.connections.close()
        assert old._runner is not None
        old._runner.cancel()
        await asyncio.sleep(self.draw.uniform(0, 5))

        def announce(announcement: Announcement) -> None:
            member.announcement = announcement
            world.introduce()

        member.node = Node(
            old.store,
            old.identity,
            Settings(name=old.name, network_key=world.key),
            clock=old.clock,
            entropy=SimEntropy(self.draw.random().hex()),
            dial=world.network.dial(member.host),
            observe=member.events.append,
            announce=announce,
            save_network_key=lambda _: None,
        )
        address = f"{member.host}:{PORT}"
        member.listener = world.network.listen(address, member.node.accept)
        await member.node.start([address])

    # -- phases ------------------------------------------------------------------------------------------------------

    async def under_faults(self) -> None:
        busy = [asyncio.create_task(work()) for work in (self.keep_writing, self.keep_befalling, self.keep_asking)]
        for _ in range(3):
            await asyncio.sleep(FAULTS_S / 3)
            await self.check_safety()
        for task in busy:
            task.cancel()
        ends = await asyncio.gather(*busy, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends

    async def at_rest(self) -> float:
        self.world.network.heal()
        await asyncio.gather(*[restart for _, restart in self.restarting])
        reports = await asyncio.gather(*self.asking)
        assert all(report.error or report.status is SyncStatus.VERIFIED for some in reports for report in some)
        return await self.world.settled(within_s=SETTLED_WITHIN_S)

    async def check_rest(self, rest_s: float) -> None:
        """E4 and S7: nothing is pending, nothing is said, and peers meet as often as they compare and no oftener."""
        await asyncio.sleep(2 * IDLE_TIMEOUT_S)  # what nobody attended to has timed out
        said = [len(member.events) for member in self.members]
        before = self.world.network.connections
        await asyncio.sleep(rest_s)
        assert [len(member.events) for member in self.members] == said
        pairs = len(list(combinations(self.members, 2)))
        assert self.world.network.connections - before <= pairs * (1 + rest_s / min(COMPARE_INTERVAL_S)) * 1.2
        for member in self.members:
            assert all(view.in_sync for view in member.node.peers()), [view.reason for view in member.node.peers()]

    # -- what must hold ----------------------------------------------------------------------------------------------

    async def check_safety(self) -> None:
        """S3: who acknowledged a write holds it, or what superseded it. S2: its root is that of its records."""
        for member, record in self.ledger.written:
            heads = await member.node.heads(record.context, record.author, record.name)
            assert any(head.id == record.id or supersedes(head, record) for head in heads), (member.name, record.name)
        for member in self.members:
            for context in member.node.store.contexts():
                check_root(member, context, await all_heads(member, context))

    async def check_everything(self) -> None:
        """S1, S2, S4, and after healing E1 and E2: everywhere the merge of what was written, and nothing else."""
        await self.check_safety()
        for member in self.members:
            store = member.node.store
            assert set(store.contexts()) - {IDENTITIES} == {record.context for _, record in self.ledger.written}
            for context in store.contexts():
                heads = await all_heads(member, context)
                for head in heads:
                    assert verify(parse(head.raw)).id == head.id
                    assert context == IDENTITIES or store.keyring.admission(head) is Admission.ADMITTED
                if context != IDENTITIES:
                    assert {head.id for head in heads} == merge_of(self.ledger.of(context)), (member.name, context)
            (*_, verdict) = [found async for found in store.audit()]
            assert verdict.problems == ()
            assert not [event for event in member.events if isinstance(event, InstanceRenewed)]


async def all_heads(member: Member, context: str) -> list[Record]:
    heads: list[Record] = []
    after = 0
    while True:
        page, after = await member.node.store.scan(context, after, limit=1000)
        if not page:
            return heads
        heads += page


def check_root(member: Member, context: str, heads: list[Record]) -> None:
    leaves: dict[bytes, list[Record]] = {}
    for head in heads:
        leaves.setdefault(head.key, []).append(head)
    tree = Tree((some[0].key, state_of(head.id for head in some)) for some in leaves.values())
    assert tree.root == member.node.store.tree(context).root, (member.name, context)


def merge_of(versions: list[Record]) -> set[bytes]:
    """What no other version dominates, by the definition."""
    leaves: dict[bytes, list[Record]] = {}
    for version in versions:
        leaves.setdefault(version.key, []).append(version)
    return {
        one.id for some in leaves.values() for one in some if not any(supersedes(other, one) for other in some)
    }


def in_world(seed: int, work: Callable[[World], Awaitable[None]]) -> SimLoop:
    loop = SimLoop(seed=seed)

    async def main() -> None:
        world = World(loop, seed=seed)
        await work(world)
        await world.stop()

    loop.complete(main())
    return loop


def simulate(seed: int) -> SimLoop:
    async def work(world: World) -> None:
        scenario = Scenario(world, seed)
        await scenario.begin()
        await scenario.under_faults()
        await scenario.at_rest()
        await scenario.check_everything()
        # A session that nobody attends to may still have to time out.
        for entry in (entry for member in scenario.members for entry in member.node.scheduler.peers.values()):
            assert entry.sessions == 0
        if seed % 6 == 0:
            await scenario.check_rest(300.0)

    return in_world(seed, work)


# -- bad networks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_befalls_nothing_is_lost_and_all_become_equal(seed):
    simulate(seed)


@pytest.mark.parametrize("seed", [3, 14])
def test_the_same_seed_is_the_same_world(seed):
    first, second = simulate(seed), simulate(seed)
    assert first.trace.count == second.trace.count
    assert first.trace.digest == second.trace.digest


def test_groups_that_write_apart_keep_every_concurrent_version_and_agree_on_the_winner():
    async def work(world: World) -> None:
        members = [await world.add_node(f"n{number}") for number in range(4)]
        world.introduce()
        await world.settled(within_s=30)
        groups = members[:2], members[2:]
        world.network.partition(*[{member.host for member in group} for group in groups])
        for group, body in zip(groups, (b"left", b"right"), strict=True):
            for number in range(100):
                draft = Draft(context=MAIN, author=group[0].node.shared, name=f"todo-{number}", body=body)
                await group[0].node.put(draft)
        await asyncio.sleep(100)
        assert [await member.node.conflicts(MAIN) for member in members] == [[]] * 4
        world.network.heal()
        await world.settled(within_s=SETTLED_WITHIN_S)
        conflicts = [await member.node.conflicts(MAIN) for member in members]
        read = [[[head.id for head in heads] for heads in some] for some in conflicts]
        assert len(read[0]) == 100
        assert all(len(heads) == 2 for heads in read[0])
        assert read[0] == read[1] == read[2] == read[3], "the same heads, the same winner first"
        for heads in conflicts[3]:
            await members[3].node.put(
                Draft(context=MAIN, author=heads[0].author, name=heads[0].name, body=b"agreed")
            )
        await world.settled(within_s=60)
        for member in members:
            assert await member.node.conflicts(MAIN) == []

    in_world(1, work)


def test_a_newcomer_is_filled_while_the_others_go_on_writing():
    async def work(world: World) -> None:
        one, two = await world.add_node("one"), await world.add_node("two")
        drafts = [Draft(context=MAIN, author=one.node.id, name=f"n{number}", body=b"x" * 50) for number in range(3000)]
        await one.node.put_all(drafts)
        world.introduce()
        await world.settled(within_s=60)
        slow = Link(bandwidth_bytes_s=200_000, latency_s=0.02)
        for source, target in (("10.0.0.1", "10.0.0.3"), ("10.0.0.2", "10.0.0.3")):
            world.network.set_link(source, target, slow)
        newcomer = await world.add_node("newcomer")
        world.introduce()
        for number in range(50):
            await asyncio.sleep(0.1)
            await two.node.put(Draft(context=MAIN, author=two.node.id, name=f"live-{number}"))
        await world.settled(within_s=SETTLED_WITHIN_S)
        assert len(newcomer.node.store.tree(MAIN)) == 3050
        assert "snapshot" in {done.mode for done in newcomer.conversations}
        received = sum(done.received for done in newcomer.conversations if done.context == MAIN)
        assert received < 2 * 3050, "it was not sent everything by everybody"

    in_world(1, work)


def test_a_half_open_link_in_the_middle_of_a_transfer_is_given_up_and_the_transfer_made_good():
    async def work(world: World) -> None:
        one, two = await world.add_node("one"), await world.add_node("two")
        link = Link(bandwidth_bytes_s=50_000)
        world.network.set_link(one.host, two.host, link)
        drafts = [Draft(context=MAIN, author=one.node.id, name=f"n{number}", body=b"x" * 200) for number in range(500)]
        await one.node.put_all(drafts)
        world.introduce()
        await asyncio.sleep(1.5)
        world.network.half_open(one.host, two.host)
        await world.settled(within_s=SETTLED_WITHIN_S)
        assert len(two.node.store.tree(MAIN)) == 500

    in_world(1, work)


# -- quiet networks --------------------------------------------------------------------------------------------------


def test_two_idle_nodes_for_a_day_say_nothing_and_dial_as_often_as_they_compare():
    day_s = 24 * 3600

    async def work(world: World) -> None:
        members = [await world.add_node("one"), await world.add_node("two")]
        await members[0].node.put(Draft(context=MAIN, author=members[0].node.id, name="a"))
        world.introduce()
        await world.settled(within_s=10)
        said, dialled = [len(member.events) for member in members], world.network.connections
        await asyncio.sleep(day_s)
        assert [len(member.events) for member in members] == said
        assert world.network.connections - dialled <= day_s / min(COMPARE_INTERVAL_S) * 1.1
        assert world.network.connections - dialled >= day_s / max(COMPARE_INTERVAL_S)
        for member in members:
            assert all(entry.in_sync for entry in member.node.scheduler.peers.values())
        assert not world.network.live

    in_world(1, work)


def test_nodes_that_meet_on_a_good_network_need_few_words():
    async def work(world: World) -> None:
        members = [await world.add_node(f"n{number}") for number in range(6)]
        await members[0].node.put(Draft(context=MAIN, author=members[0].node.id, name="a"))
        world.introduce()
        await world.settled(within_s=5)
        for member in members:
            assert not [event for event in member.events if isinstance(event, SessionFailed | PeerAbsent)]
            loud = [event for event in member.events if not isinstance(event, SyncProgress)]
            assert len(loud) < 100
            outcomes = {event.outcome for event in member.events if isinstance(event, SyncCompleted)}
            assert outcomes <= {"equal", "moved", "refused", "one_way"}

    in_world(1, work)


def test_nodes_of_the_open_network_find_each_other_and_nobody_else():
    async def work(world: World) -> None:
        here = [await world.add_node(f"open-{number}", key=None) for number in range(2)]
        private = await world.add_node("private")
        await here[0].node.put(Draft(context=MAIN, author=here[0].node.id, name="a"))
        world.introduce()
        await asyncio.sleep(30)
        assert here[1].node.store.tree(MAIN).root == here[0].node.store.tree(MAIN).root
        assert MAIN not in private.node.store.contexts()
        with pytest.raises(LocalError):
            here[0].node.resolve("shared/todo")

    in_world(1, work)
