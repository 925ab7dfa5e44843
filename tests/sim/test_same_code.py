"""The simulated code is the code that ships: scenarios enter the same functions over TCP and in simulation.

Each scenario runs over real sockets on loopback, with the system's clock and randomness, and on the simulated network
in virtual time. The test notes every function of `sync`, `wire` and `node` that is entered. The two sets must be equal:
a function entered only over TCP would be tested by no simulation, and one entered only in simulation would serve no
user.
"""

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import CodeType, FrameType

import pytest

import echonode
from echonode.errors import EchonodeError
from echonode.host.system import SystemClock, SystemEntropy
from echonode.host.tcp import Listener, TcpDial
from echonode.limits import ROOTS_DELAY_S
from echonode.model.identity import Identity, Instance
from echonode.model.member_secret import MemberSecret
from echonode.model.record import IDENTITIES, MAIN, Draft
from echonode.node.node import Node, Settings
from echonode.node.views import PeerState, SyncStatus
from echonode.sim.event_loop import SimLoop
from echonode.sim.tcp_link import LinkConditions
from echonode.sim.world import World
from echonode.store.memory import MemoryStore
from echonode.wire.messages import Direction
from tests.kept import Kept

PACKAGE = Path(echonode.__file__).parent
ROOMS = ("sync", "wire", "node")
WITHIN_S = 60.0
_SECRET = MemberSecret.of_lone_key(bytes(32))
STEP_S = 0.02
ROUNDS_MAX = 6  # timing decides which node dials first and what a write meets: each round adds functions
# What is entered in these scenarios by chance alone: a peer in doubt is asked over its link, a stream is refused in the
# middle of its handshake, two sessions cross, or comparisons in a row without a link find nothing. Tests enter it on
# purpose: tests/node/test_truth.py, test_session_registry.py and test_peer_table.py, tests/faults/test_silent_peers.py.
BY_CHANCE = {
    "node/backoff.py:Backoff.stretched_s",
    "node/connections.py:_close_soon",
    "node/failures.py:gave_way",
    "node/handshake.py:SaidNothing.__init__",
    "node/live_links.py:LiveLinks.doubt",
    "node/live_links.py:_LinkOwner.answered",
    "node/peer_table.py:PeerTable.believed",
    "node/peer_table.py:PeerTable.doubted",
    "node/session_registry.py:SessionRegistry.peer_at.<locals>.<genexpr>",
    "node/session_registry.py:SessionRegistry.survives",
    "sync/live/link.py:Link._await_answer",
    "sync/live/link.py:Link.probe",
}


@dataclass
class Stage:
    """The place of a scenario, over TCP or simulated: it starts nodes, each at an address, and stops them."""

    start: Callable[["Stage", Settings], Awaitable[tuple[Node, str]]]
    leave: Callable[[Node], Awaitable[None]]
    nodes: list[Node] = field(default_factory=list)

    async def node(
        self, name: str, secret: MemberSecret | None = _SECRET, contexts: frozenset[str] | None = None
    ) -> tuple[Node, str]:
        node, address = await self.start(self, Settings(name=name, member_secret=secret, contexts=contexts))
        self.nodes.append(node)
        return node, address

    async def equal(self, *nodes: Node) -> None:
        """Wait until all nodes hold the same and know it."""
        async with asyncio.timeout(WITHIN_S):
            while not self._are_equal(nodes):  # noqa: ASYNC110  there is no event of two nodes at once
                await asyncio.sleep(STEP_S)

    def _are_equal(self, nodes: tuple[Node, ...]) -> bool:
        states = [{name: node.store.tree(name).root for name in node.store.contexts()} for node in nodes]
        knowing = all(any(peer.in_sync for peer in node.peers()) for node in nodes)
        return knowing and all(state == states[0] for state in states)


async def put(node: Node, *names: str, body: bytes = b"x", shared: bool = False, context: str = MAIN) -> None:
    author = node.records.shared if shared else node.id
    assert author is not None
    await node.records.put_all([Draft(context=context, author=author, name=name, body=body) for name in names])


async def put_unnoticed(node: Node, name: str) -> None:
    """Write into the store directly: neither the node nor a link notices."""
    draft = Draft(context=MAIN, author=node.id, name=name)
    await node.store.write([draft], node.records.identity.device, node.records.tick)


Scenario = Callable[[Stage], Awaitable[None]]


# -- the scenarios ---------------------------------------------------------------------------------------------------


async def an_empty_node_is_filled_and_changes_go_both_ways(stage: Stage) -> None:
    one, _ = await stage.node("one")
    await put(one, *[f"r{number}" for number in range(1200)])
    two, address = await stage.node("two")
    one.add_peer(address)
    await stage.equal(one, two)
    for number in range(3):
        await put(two, f"r{number}", "todo", shared=True)
        await put(one, f"new-{number}")
        await stage.equal(one, two)
    await one.records.delete(MAIN, one.id, "r5")
    await stage.equal(one, two)


async def two_nodes_that_wrote_apart_merge_with_their_conflicts(stage: Stage) -> None:
    one, _ = await stage.node("one")
    two, address = await stage.node("two")
    await put(one, *[f"a{number}" for number in range(300)])
    await put(two, *[f"b{number}" for number in range(300)], context="notes")
    await put(two, *[f"c{number}" for number in range(40)])
    for number in range(5):
        await put(one, f"todo-{number}", body=b"one", shared=True)
        await put(two, f"todo-{number}", body=b"two", shared=True)
    one.add_peer(address)
    await stage.equal(one, two)
    assert len(await one.records.conflicts(MAIN)) == 5
    for heads in await one.records.conflicts(MAIN):
        await put(one, heads[0].name, body=b"agreed", shared=True)
    await stage.equal(one, two)


async def a_sync_is_asked_for_in_each_direction(stage: Stage) -> None:
    one, _ = await stage.node("one")
    two, address = await stage.node("two")
    one.add_peer(address)
    await put(one, "a")
    await stage.equal(one, two)
    for direction in Direction:
        await put(one, f"push-{direction}")
        await put(two, f"pull-{direction}")
        async with asyncio.timeout(WITHIN_S):
            while any(report.error for report in await one.sync(None, direction, WITHIN_S)):
                pass  # the nodes also sync by themselves, so a root may move meanwhile
    await stage.equal(one, two)


async def writes_fall_into_conversations(stage: Stage) -> None:
    one, _ = await stage.node("one")
    two, address = await stage.node("two")
    await put(one, *[f"r{number}" for number in range(100)])
    one.add_peer(address)
    await stage.equal(one, two)

    async def keep_writing(node: Node, every_s: float) -> None:
        for number in count():
            await put_unnoticed(node, f"live-{number % 50}")
            await asyncio.sleep(every_s)

    writing = [asyncio.create_task(keep_writing(node, 0.001)) for node in (one, two)]
    for direction in (*Direction, *Direction):
        await one.sync(None, direction, 0.25)  # it cannot verify while both write, so it takes all its time
    for task in writing:
        task.cancel()
    for node, other in ((one, two), (two, one)):
        writing = [asyncio.create_task(keep_writing(other, 0.02))]
        await put(node, "noticed")  # its link sends roots later, and by then the other node has others
        await asyncio.sleep(2 * max(ROOTS_DELAY_S))
        writing[0].cancel()
    await put(one, "last")
    await stage.equal(one, two)


async def two_that_never_met_differ_in_one_of_many(stage: Stage) -> None:
    one, _ = await stage.node("one")
    two, there = await stage.node("two")
    three, elsewhere = await stage.node("three")
    await put(one, *[f"r{number}" for number in range(1500)])
    for address, other in ((there, two), (elsewhere, three)):
        one.add_peer(address)
        await stage.equal(one, other)
    await stage.leave(one)
    (report,) = await two.sync([one.id], Direction.BOTH, WITHIN_S)
    assert report.status is SyncStatus.UNREACHABLE
    await put(two, "new")
    three.add_peer(there)
    async with asyncio.timeout(WITHIN_S):
        while two.store.tree(MAIN).root != three.store.tree(MAIN).root:  # noqa: ASYNC110  as above
            await asyncio.sleep(STEP_S)


async def one_node_refuses_a_context_of_the_other(stage: Stage) -> None:
    one, _ = await stage.node("one")
    two, address = await stage.node("two", contexts=frozenset({MAIN}))
    await put(one, "a")
    await put(one, "b", context="notes")
    one.add_peer(address)
    async with asyncio.timeout(WITHIN_S):
        while not one.peers() or two.store.tree(MAIN).root != one.store.tree(MAIN).root:  # noqa: ASYNC110  as above
            await asyncio.sleep(STEP_S)
        (report,) = await one.sync(None, Direction.BOTH, WITHIN_S)
    assert "notes" in report.error
    assert two.store.contexts() == (IDENTITIES, MAIN)


async def a_newcomer_joins_by_an_invitation_after_a_wrong_code(stage: Stage) -> None:
    one, address = await stage.node("one")
    await put(one, "a", shared=True)
    two, _ = await stage.node("two", MemberSecret.of_lone_key(bytes([7]) * 32))
    code = await one.invite(uses=1, expires_s=60)
    wrong = f"{code.partition('-')[0]}-adroitness-aardvark"
    if wrong != code:
        with pytest.raises(EchonodeError):
            await two.join(wrong, address, WITHIN_S)
    await two.join(code, address, WITHIN_S)
    await stage.equal(one, two)


async def strangers_impostors_and_dead_addresses_are_told_apart(stage: Stage) -> None:
    one, _ = await stage.node("one")
    two, address = await stage.node("two")
    _, elsewhere = await stage.node("far", MemberSecret.of_lone_key(bytes([9]) * 32))
    namesake, there = await stage.node("two")
    one.add_peer(address)
    await put(one, "a")
    await stage.equal(one, two)
    one.add_peer(elsewhere)
    one.add_peer(there)
    one.add_peer(address)
    async with asyncio.timeout(WITHIN_S):
        while all(peer.id != namesake.id for peer in one.peers()):  # noqa: ASYNC110  as above
            await asyncio.sleep(STEP_S)
    label = next(peer.label for peer in one.peers() if peer.id == namesake.id)
    assert one.resolve_peer(label) == namesake.id
    await one.rename("first")
    async with asyncio.timeout(WITHIN_S):
        while all(peer.name != "first" for peer in two.peers()):  # noqa: ASYNC110  as above
            await asyncio.sleep(STEP_S)
    await stage.leave(namesake)
    async with asyncio.timeout(WITHIN_S):
        while any(peer.id == namesake.id and peer.state is PeerState.CONNECTED for peer in one.peers()):  # noqa: ASYNC110
            await asyncio.sleep(STEP_S)
    await one.forget_peer(label)
    with pytest.raises(EchonodeError):
        one.resolve_peer("nobody")
    assert one.addresses.resolve_author("me") == one.id


async def a_member_that_was_away_is_told_of_a_rotation(stage: Stage) -> None:
    one, _ = await stage.node("one")
    two, address = await stage.node("two")
    await put(one, "a", shared=True)
    one.add_peer(address)
    await stage.equal(one, two)
    await two.rotations.rotate([])
    async with asyncio.timeout(WITHIN_S):
        while one.network != two.network:  # noqa: ASYNC110  as above
            await asyncio.sleep(STEP_S)
    await stage.equal(one, two)
    late, _ = await stage.node("late")  # it has the earlier secret, and the rotation does not name it
    late.add_peer(address)
    async with asyncio.timeout(WITHIN_S):
        while not (await late.status()).left_out_by:  # noqa: ASYNC110  as above
            await asyncio.sleep(STEP_S)


SCENARIOS = (
    an_empty_node_is_filled_and_changes_go_both_ways,
    two_nodes_that_wrote_apart_merge_with_their_conflicts,
    a_sync_is_asked_for_in_each_direction,
    writes_fall_into_conversations,
    two_that_never_met_differ_in_one_of_many,
    one_node_refuses_a_context_of_the_other,
    a_newcomer_joins_by_an_invitation_after_a_wrong_code,
    a_member_that_was_away_is_told_of_a_rotation,
    strangers_impostors_and_dead_addresses_are_told_apart,
)


# -- the two stages --------------------------------------------------------------------------------------------------


def in_simulation(scenario: Scenario, seed: int) -> None:
    loop = SimLoop(seed=seed)

    async def main() -> None:
        world = World(loop, seed=seed, link=LinkConditions(jitter_s=0.02 * (seed % 3)))

        async def start(stage: Stage, settings: Settings) -> tuple[Node, str]:
            member = world.make_member(f"{settings.name}{len(stage.nodes)}", secret=settings.member_secret)
            member.settings = settings
            world.discovery.crash(member.host)
            await world.start(member)
            return member.node, member.address

        world._announce = lambda member: None  # no node sights another: scenarios give addresses
        async def leave(node: Node) -> None:
            await world.leave(next(member for member in world.members.values() if member.node is node))

        await scenario(Stage(start, leave))
        await world.stop()

    loop.complete(main())


def over_tcp(scenario: Scenario) -> None:
    async def main() -> None:
        entropy = SystemEntropy()
        listeners: dict[Node, Listener] = {}

        async def start(stage: Stage, settings: Settings) -> tuple[Node, str]:
            identity = Identity.from_seeds(entropy.random_bytes(32), entropy.random_bytes(32))
            node = Node(
                MemoryStore(Instance(entropy.random_bytes(8))),
                identity,
                settings,
                clock=SystemClock(),
                entropy=entropy,
                dial=TcpDial(),
                observe=lambda event: None,
                announce=lambda announcement: None,
                save_secret=lambda secret, past: None,
                save_name=lambda name: None,
                safe=Kept(),
            )
            listener = Listener()
            listeners[node] = listener
            await listener.start("127.0.0.1:0", node.accept, lambda address: None)
            await node.start(listener.addresses)
            return node, listener.addresses[0]

        async def leave(node: Node) -> None:
            await listeners.pop(node).close()
            await node.stop()

        try:
            await scenario(Stage(start, leave))
        finally:
            for node in list(listeners):
                await leave(node)

    asyncio.run(main())


@contextmanager
def entered() -> Iterator[set[str]]:
    """Collect the functions of the three rooms that any thread enters meanwhile."""
    codes: set[CodeType] = set()
    names: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        codes.add(frame.f_code)  # return None: trace calls, and no lines

    before = sys.gettrace()  # the tracer of coverage, if it runs
    threading.settrace(note)
    sys.settrace(note)
    try:
        yield names
    finally:
        sys.settrace(before)
        threading.settrace(before)  # type: ignore[arg-type]
        for code in codes:
            path = Path(code.co_filename)
            if path.is_relative_to(PACKAGE) and path.relative_to(PACKAGE).parts[0] in ROOMS:
                names.add(f"{path.relative_to(PACKAGE)}:{code.co_qualname}")


def test_scenarios_enter_the_same_functions_over_tcp_and_in_simulation() -> None:
    real: dict[Scenario, set[str]] = {scenario: set() for scenario in SCENARIOS}
    simulated: dict[Scenario, set[str]] = {scenario: set() for scenario in SCENARIOS}
    missing: set[str] | None = None  # the functions that one stage entered so far, and the other not
    for number in range(ROUNDS_MAX):
        for scenario in SCENARIOS:
            if missing is not None and missing.isdisjoint(real[scenario] | simulated[scenario]):
                continue
            with entered() as names:
                over_tcp(scenario)
            real[scenario] |= names - BY_CHANCE
            seeds = 1 if scenario is writes_fall_into_conversations else 3  # it takes as long as all others
            with entered() as names:
                for seed in range(3 * number, 3 * number + seeds):
                    in_simulation(scenario, seed)
            simulated[scenario] |= names - BY_CHANCE
        missing = set().union(*real.values()) ^ set().union(*simulated.values())
        if not missing:
            break
    over_tcp_only = set().union(*real.values()) - set().union(*simulated.values())
    in_simulation_only = set().union(*simulated.values()) - set().union(*real.values())
    assert over_tcp_only == set(), "only over TCP"
    assert in_simulation_only == set(), "only in simulation"
    assert len(set().union(*real.values())) > 300
