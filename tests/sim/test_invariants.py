"""The invariants notice: a world that is well violates each on purpose, and the violation is named."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from echonode.clock import Timestamp
from echonode.model.identity import Instance, writer_of
from echonode.model.merkle import State
from echonode.model.record import MAIN, Draft, sign
from echonode.node.events import LinkEqual, SessionFailed, SyncCompleted
from echonode.sim.disk import SimStore
from echonode.sim.event_loop import OWNER, SimEntropy, SimLoop
from echonode.sim.invariants import checks
from echonode.sim.invariants.checks import Invariants, Violation
from echonode.sim.invariants.truth import LATE_S, Truth
from echonode.sim.quiescence import left_behind
from echonode.sim.world import Member, World

Plant = Callable[["WatchedWorld"], Awaitable[None]]


class WatchedWorld:
    """A world of two honest nodes that are equal, and its invariants."""

    def __init__(self, loop: SimLoop) -> None:
        self.world = World(loop, seed=1)
        self.invariants = Invariants(self.world)
        self.members: list[Member] = []

    async def begin(self) -> None:
        for name in ("one", "two"):
            member = await self.world.add_node(name, make_store=lambda instance, name=name: self.store(name, instance))
            self.members.append(member)
            self.invariants.watch(member)
        self.invariants.acknowledge(self.one, [await self.put("kept"), await self.put("edited")])
        self.world.introduce()
        await asyncio.sleep(5)
        await self.invariants.check_agreement(self.members)
        self.invariants.check_known_equal(self.members)
        await self.invariants.check_quiescence(self.members)

    def store(self, name: str, instance: Instance) -> SimStore:
        return SimStore(
            instance,
            entropy=SimEntropy(name),
            commit_s=0.01,
            on_commit=lambda store, context, records: self.invariants.on_commit(name, store, context, records),
        )

    @property
    def one(self) -> Member:
        return self.members[0]

    @property
    def two(self) -> Member:
        return self.members[1]

    async def put(self, name: str, body: bytes = b"x"):
        return await self.one.node.records.put(Draft(context=MAIN, author=self.one.node.id, name=name, body=body))

    async def check(self) -> None:
        for member in self.members:
            await self.invariants.check(member)


async def a_bad_signature_is_stored(watched: WatchedWorld) -> None:
    record = await watched.put("new")
    forged = sign_like(watched.one)
    forged.raw = forged.raw[:-1] + bytes([forged.raw[-1] ^ 1])
    assert record.raw != forged.raw
    await watched.two.store.apply(MAIN, [forged])


async def a_version_is_stored_under_another_name(watched: WatchedWorld) -> None:
    forged = sign_like(watched.one)
    forged.name = "another"
    await watched.two.store.apply(MAIN, [forged])


async def a_version_is_stored_under_another_key(watched: WatchedWorld) -> None:
    (kept,) = await watched.two.node.records.heads(MAIN, watched.one.node.id, "kept")
    kept.kid = watched.two.node.records.identity.device.public  # the same bytes passed the check before
    await watched.check()


def sign_like(member: Member):
    node = member.node
    key, instance = node.records.identity.device, node.store.instance
    draft = Draft(context=MAIN, author=node.id, name="forged")
    return sign(draft, key, instance=instance, vector={writer_of(key.public, instance): 99}, timestamp=Timestamp(1))


async def a_root_is_not_that_of_the_records(watched: WatchedWorld) -> None:
    tree = watched.two.store.tree(MAIN)
    key, _ = next(tree.leaves_at(b""))
    tree.put(key, State(bytes(32)))
    await watched.check()


async def an_acknowledged_write_is_gone(watched: WatchedWorld) -> None:
    forget(watched.one, "kept")
    await watched.check()


async def a_superseded_version_is_shown(watched: WatchedWorld) -> None:
    old = (await watched.one.node.records.heads(MAIN, watched.one.node.id, "edited"))[0]
    new = await watched.put("edited", b"y")
    await asyncio.sleep(2)
    store = watched.two.store
    heads = store._heads[MAIN][new.key]
    heads.append(old)
    store._append(old)
    store._index.replace_heads(MAIN, {new.key: [old.id, new.id]})
    await watched.check()


async def a_peer_is_forgotten(watched: WatchedWorld) -> None:
    await watched.check()
    watched.one.store._peers.clear()
    await watched.check()


async def a_clock_follows_a_clock_far_ahead(watched: WatchedWorld) -> None:
    watched.two.node.records._hybrid._latest = Timestamp((watched.two.clock.now_ms() + 10**9) << 16)
    await watched.check()


async def tasks_pile_up(watched: WatchedWorld) -> None:
    from echonode.sim.invariants import checks

    OWNER.set(watched.two.owner)
    tasks = [asyncio.create_task(asyncio.sleep(1000)) for _ in range(checks.TASKS_MAX + 1)]
    try:
        await watched.check()
    finally:
        for task in tasks:
            task.cancel()


async def one_node_lacks_a_version(watched: WatchedWorld) -> None:
    forget(watched.two, "kept")
    await watched.invariants.check_agreement([watched.two])


async def one_node_holds_a_version_that_no_client_wrote(watched: WatchedWorld) -> None:
    for versions in watched.invariants.committed.values():
        versions[MAIN] = {key: version for key, version in versions[MAIN].items() if version.name != "kept"}
    watched.invariants.acknowledged.clear()
    await watched.invariants.check_agreement(watched.members)


async def a_node_does_not_know_that_it_is_equal(watched: WatchedWorld) -> None:
    next(iter(watched.one.node.peer_table.peers.values())).in_sync = None
    watched.invariants.check_known_equal(watched.members)


async def a_task_is_left_over(watched: WatchedWorld) -> None:
    OWNER.set(watched.two.owner)
    task = asyncio.create_task(asyncio.sleep(1000))
    try:
        await watched.invariants.check_quiescence(watched.members)
    finally:
        task.cancel()


async def a_session_is_counted_for_ever(watched: WatchedWorld) -> None:
    next(iter(watched.one.node.peer_table.peers.values())).sessions += 1
    await watched.invariants.check_quiescence(watched.members)


async def bytes_are_never_read(watched: WatchedWorld) -> None:
    connection = next(iter(watched.world.network.live))
    connection.pipes[0].arrived.append(b"x")
    connection.pipes[0].reader.wake = lambda: None  # type: ignore[method-assign]
    within_s, checks.QUIESCENT_WITHIN_S = checks.QUIESCENT_WITHIN_S, 10.0  # type: ignore[misc]  # the link ends later
    try:
        await watched.invariants.check_quiescence(watched.members)
    finally:
        checks.QUIESCENT_WITHIN_S = within_s  # type: ignore[misc]


async def a_version_is_asked_for_and_never_comes(watched: WatchedWorld) -> None:
    plumtree = watched.one.node.live_links.plumtree
    plumtree.ask(bytes(16), next(iter(plumtree.links.values())))
    await watched.invariants.check_quiescence(watched.members)


async def a_link_never_tells_its_roots(watched: WatchedWorld) -> None:
    (link,) = watched.one.node.live_links._links.values()
    link._roots_due[MAIN] = float("inf")
    await watched.invariants.check_quiescence(watched.members)


async def a_change_was_never_compared(watched: WatchedWorld) -> None:
    next(iter(watched.two.node.peer_table.peers.values())).changed_meanwhile = True
    await watched.invariants.check_quiescence(watched.members)


async def a_conversation_is_called_equal_and_was_not(watched: WatchedWorld) -> None:
    await report(watched, outcome="equal", verified=True)


async def a_link_is_called_equal_and_was_not(watched: WatchedWorld) -> None:
    watched.invariants._roots["two", MAIN].clear()
    watched.one.node.bus.publish(LinkEqual(peer=watched.two.identity.id))


async def a_mode_runs_that_is_not_advertised(watched: WatchedWorld) -> None:
    await report(watched, mode="telepathy")


async def report(watched: WatchedWorld, **fields: object) -> None:
    (event, *_) = [event for event in watched.one.events if isinstance(event, SyncCompleted) and event.context == MAIN]
    watched.invariants._roots["two", MAIN].clear()
    for observer in watched.one.observers:
        observer(replace(event, **fields))


def forget(member: Member, name: str) -> None:
    """Remove a record from a store and its tree, as if it had never been there."""
    store = member.store
    ((key, heads),) = [(key, heads) for key, heads in store._heads[MAIN].items() if heads[0].name == name]
    store._log.pop(store._seq_of.pop(heads[0].id))
    del store._heads[MAIN][key]
    store._index.replace_heads(MAIN, {key: []})


async def a_peer_is_shown_as_equal_and_was_not(watched: WatchedWorld) -> None:
    truth = truth_of(watched)
    for member in watched.members:
        truth.note(member.name, MAIN, watched.one.node.store.tree(MAIN).root)
    await asyncio.sleep(5)
    truth.note("two", MAIN, bytes(32))
    await asyncio.sleep(LATE_S + 1)
    truth.note("two", MAIN, bytes(31) + b"x")
    truth.check(watched.one, watched.members)


async def a_peer_is_shown_as_connected_that_is_away(watched: WatchedWorld) -> None:
    truth = truth_of(watched)
    truth.look(watched.members)
    watched.two.is_up = False
    try:
        await asyncio.sleep(LATE_S + 1)
        truth.look(watched.members)
        truth.check(watched.one, watched.members)
    finally:
        watched.two.is_up = True


def truth_of(watched: WatchedWorld) -> Truth:
    """Return the truth of the world so far."""
    truth = Truth(watched.world.loop)
    watched.invariants.on_roots = truth.note
    for member in watched.members:
        for context, root in member.roots().items():
            truth.note(member.name, context, root)
    return truth


async def an_equal_peer_is_shown_as_behind(watched: WatchedWorld) -> None:
    (link,) = watched.one.node.live_links._links.values()
    link._sender.behind = lambda: 2  # type: ignore[method-assign]
    watched.invariants.check_known_equal(watched.members)


async def honest_nodes_end_in_a_protocol_error(watched: WatchedWorld) -> None:
    failed = SessionFailed(
        session=b"s", peer=watched.two.identity.id, address="", reason="protocol_error", detail="it took more"
    )
    for observe in watched.one.observers:
        observe(failed)


PLANTED: list[tuple[str, Plant]] = [
    ("S1|signature", a_bad_signature_is_stored),
    ("S1", a_version_is_stored_under_another_name),
    ("S1", a_version_is_stored_under_another_key),
    ("S2", a_root_is_not_that_of_the_records),
    ("S3", an_acknowledged_write_is_gone),
    ("S4", a_superseded_version_is_shown),
    ("S5", a_peer_is_forgotten),
    ("S6", a_clock_follows_a_clock_far_ahead),
    ("S7", tasks_pile_up),
    ("E2", one_node_lacks_a_version),
    ("E2", one_node_holds_a_version_that_no_client_wrote),
    ("E4", a_node_does_not_know_that_it_is_equal),
    ("E4.*1 tasks", a_task_is_left_over),
    ("E4.*1 sessions", a_session_is_counted_for_ever),
    ("E4.*1 directions with bytes", bytes_are_never_read),
    ("E4.*1 versions asked for", a_version_is_asked_for_and_never_comes),
    ("E4.*roots to tell with two", a_link_never_tells_its_roots),
    ("T1", a_peer_is_shown_as_equal_and_was_not),
    ("T2", a_peer_is_shown_as_connected_that_is_away),
    ("T3", an_equal_peer_is_shown_as_behind),
    ("T4", honest_nodes_end_in_a_protocol_error),
    ("E4.*1 comparisons", a_change_was_never_compared),
    ("V", a_conversation_is_called_equal_and_was_not),
    ("V.*link", a_link_is_called_equal_and_was_not),
    ("I11", a_mode_runs_that_is_not_advertised),
]


FOUND_INSIDE_A_NODE = (
    a_bad_signature_is_stored,
    a_version_is_stored_under_another_name,
    a_conversation_is_called_equal_and_was_not,
    a_link_is_called_equal_and_was_not,
    a_mode_runs_that_is_not_advertised,
    honest_nodes_end_in_a_protocol_error,
)


@pytest.mark.parametrize(("named", "plant"), PLANTED, ids=[plant.__name__ for _, plant in PLANTED])
def test_a_violation_is_noticed(named: str, plant: Plant) -> None:
    loop = SimLoop(seed=1)

    async def main() -> None:
        watched = WatchedWorld(loop)
        await watched.begin()
        with pytest.raises(Exception, match=named) as caught:
            await plant(watched)
        assert isinstance(caught.value, Violation) or "signature" in str(caught.value)
        if plant in FOUND_INSIDE_A_NODE:
            assert loop.unhandled == [caught.value]
            loop.unhandled.clear()

    loop.complete(main())


def test_the_leftovers_of_a_stopped_node_are_named() -> None:
    loop = SimLoop(seed=1)

    async def main() -> None:
        watched = WatchedWorld(loop)
        await watched.begin()
        await watched.world.stop()
        assert not any(left_behind(watched.world, member) for member in watched.members)
        watched.world.network.listen("10.0.0.200:1", lambda stream: stream.read())
        OWNER.set(watched.two.owner)
        task = asyncio.create_task(asyncio.sleep(1000), name="straggler")
        await watched.world.network.dial(watched.two.host)("10.0.0.200:1")
        assert left_behind(watched.world, watched.two) == ["the task straggler", "1 connections"]
        task.cancel()

    loop.complete(main())


def test_a_violation_inside_a_node_fails_the_world_though_the_node_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = SimLoop(seed=1)

    async def main() -> None:
        watched = WatchedWorld(loop)
        watched.invariants._roots["one", MAIN][bytes(32)] = None  # a root that the other node never has
        monkeypatch.setattr(watched.invariants, "_note_roots", lambda *_: None)
        await watched.begin()

    with pytest.raises(BaseExceptionGroup) as caught:
        loop.complete(main())
    assert {str(violation)[:2] for violation in caught.value.exceptions} == {"V:"}
