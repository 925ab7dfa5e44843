"""The judge notices: each property is violated on purpose in a world that is well, and named."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from echonode.clock import Timestamp
from echonode.model.fields import NAME
from echonode.model.identity import IdentityId, Instance, writer_of
from echonode.model.merkle import State
from echonode.model.record import MAIN, Draft, sign
from echonode.node.events import LinkEqual, SyncCompleted
from echonode.sim.disk import SimStore
from echonode.sim.event_loop import OWNER, SimEntropy, SimLoop
from echonode.sim.invariants import Invariants, Violation
from echonode.sim.quiescence import left_behind
from echonode.sim.world import Member, World

Plant = Callable[["Court"], Awaitable[None]]


class Court:
    """Two honest nodes that are equal, and a judge."""

    def __init__(self, loop: SimLoop) -> None:
        self.world = World(loop, seed=1)
        self.judge = Invariants(self.world)
        self.members: list[Member] = []

    async def begin(self) -> None:
        for name in ("one", "two"):
            member = await self.world.add_node(name, make_store=lambda instance, name=name: self.store(name, instance))
            self.members.append(member)
            self.judge.watch(member)
        self.judge.acknowledge(self.one, [await self.put("kept"), await self.put("edited")])
        self.world.introduce()
        await asyncio.sleep(5)
        await self.judge.check_agreement(self.members)
        self.judge.check_rest(self.members)
        await self.judge.check_still(self.members)

    def store(self, name: str, instance: Instance) -> SimStore:
        return SimStore(
            instance,
            entropy=SimEntropy(name),
            commit_s=0.01,
            on_commit=lambda store, context, records: self.judge.on_commit(name, store, context, records),
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
            await self.judge.check(member)


async def a_bad_signature_is_stored(court: Court) -> None:
    record = await court.put("new")
    forged = sign_like(court.one)
    forged.raw = forged.raw[:-1] + bytes([forged.raw[-1] ^ 1])
    assert record.raw != forged.raw
    await court.two.store.apply(MAIN, [forged])


async def a_version_is_kept_as_another_name_s(court: Court) -> None:
    forged = sign_like(court.one)
    forged._fields = {**forged._fields, NAME: "another"}
    await court.two.store.apply(MAIN, [forged])


async def a_version_is_kept_as_another_key_s(court: Court) -> None:
    (kept,) = await court.two.node.records.heads(MAIN, court.one.node.id, "kept")
    kept.kid = court.two.node.records.identity.device.public  # of bytes that were found sound before
    await court.check()


def sign_like(member: Member):
    node = member.node
    key, instance = node.records.identity.device, node.store.instance
    draft = Draft(context=MAIN, author=node.id, name="forged")
    return sign(draft, key, instance=instance, vector={writer_of(key.public, instance): 99}, timestamp=Timestamp(1))


async def a_root_is_not_that_of_the_records(court: Court) -> None:
    tree = court.two.store.tree(MAIN)
    key, _ = next(tree.leaves_at(b""))
    tree.put(key, State(bytes(32)))
    await court.check()


async def an_acknowledged_write_is_gone(court: Court) -> None:
    forget(court.one, "kept")
    await court.check()


async def a_superseded_version_is_shown(court: Court) -> None:
    old = (await court.one.node.records.heads(MAIN, court.one.node.id, "edited"))[0]
    new = await court.put("edited", b"y")
    await asyncio.sleep(2)
    store = court.two.store
    heads = store._heads[MAIN][new.key]
    heads.append(old)
    store._append(old)
    store._index.replace_heads(MAIN, {new.key: [old.id, new.id]})
    await court.check()


async def a_pin_changes(court: Court) -> None:
    await court.check()
    court.one.store._pins["name", "two"] = IdentityId(bytes(32))
    await court.check()


async def a_clock_follows_somebody_far_ahead(court: Court) -> None:
    court.two.node.records._hybrid._latest = Timestamp((court.two.clock.now_ms() + 10**9) << 16)
    await court.check()


async def tasks_pile_up(court: Court) -> None:
    from echonode.sim import invariants

    OWNER.set(court.two.owner)
    tasks = [asyncio.create_task(asyncio.sleep(1000)) for _ in range(invariants.TASKS_MAX + 1)]
    try:
        await court.check()
    finally:
        for task in tasks:
            task.cancel()


async def one_node_lacks_a_version(court: Court) -> None:
    forget(court.two, "kept")
    await court.judge.check_agreement([court.two])


async def one_node_holds_what_nobody_wrote(court: Court) -> None:
    for versions in court.judge.committed.values():
        versions[MAIN] = {each: one for each, one in versions[MAIN].items() if one.name != "kept"}
    court.judge.acknowledged.clear()
    await court.judge.check_agreement(court.members)


async def a_node_does_not_know_that_it_is_equal(court: Court) -> None:
    next(iter(court.one.node.peer_table.peers.values())).in_sync = None
    court.judge.check_rest(court.members)


async def a_task_is_left_over(court: Court) -> None:
    OWNER.set(court.two.owner)
    task = asyncio.create_task(asyncio.sleep(1000))
    try:
        await court.judge.check_still(court.members)
    finally:
        task.cancel()


async def a_session_is_counted_for_ever(court: Court) -> None:
    next(iter(court.one.node.peer_table.peers.values())).sessions += 1
    await court.judge.check_still(court.members)


async def bytes_are_never_read(court: Court) -> None:
    connection = next(iter(court.world.network.live))
    connection.pipes[0].arrived.append(b"x")
    connection.pipes[0].reader.wake = lambda: None  # type: ignore[method-assign]
    await court.judge.check_still(court.members)


async def a_version_is_asked_for_and_never_comes(court: Court) -> None:
    spread = court.one.node.live_links.spread
    spread.ask(bytes(16), next(iter(spread.links.values())))
    await court.judge.check_still(court.members)


async def a_link_never_tells_its_roots(court: Court) -> None:
    (link,) = court.one.node.live_links._links.values()
    link._unsettled.add(MAIN)
    await court.judge.check_still(court.members)


async def a_change_was_never_compared(court: Court) -> None:
    next(iter(court.two.node.peer_table.peers.values())).changed_meanwhile = True
    await court.judge.check_still(court.members)


async def a_conversation_is_called_equal_and_was_not(court: Court) -> None:
    await lie(court, outcome="equal", verified=True)


async def a_link_is_called_equal_and_was_not(court: Court) -> None:
    court.judge._roots["two", MAIN].clear()
    court.one.node.bus.publish(LinkEqual(peer=court.two.identity.id))


async def a_mode_runs_that_is_not_advertised(court: Court) -> None:
    await lie(court, mode="telepathy")


async def lie(court: Court, **fields: object) -> None:
    (event, *_) = [event for event in court.one.events if isinstance(event, SyncCompleted) and event.context == MAIN]
    court.judge._roots["two", MAIN].clear()
    for watching in court.one.observers:
        watching(replace(event, **fields))


def forget(member: Member, name: str) -> None:
    """Take a record out of a store, tree and all, as if it had never been there."""
    store = member.store
    ((key, heads),) = [(key, heads) for key, heads in store._heads[MAIN].items() if heads[0].name == name]
    store._log.pop(store._seq_of.pop(heads[0].id))
    del store._heads[MAIN][key]
    store._index.replace_heads(MAIN, {key: []})


PLANTED: list[tuple[str, Plant]] = [
    ("S1|signature", a_bad_signature_is_stored),
    ("S1", a_version_is_kept_as_another_name_s),
    ("S1", a_version_is_kept_as_another_key_s),
    ("S2", a_root_is_not_that_of_the_records),
    ("S3", an_acknowledged_write_is_gone),
    ("S4", a_superseded_version_is_shown),
    ("S5", a_pin_changes),
    ("S6", a_clock_follows_somebody_far_ahead),
    ("S7", tasks_pile_up),
    ("E2", one_node_lacks_a_version),
    ("E2", one_node_holds_what_nobody_wrote),
    ("E4", a_node_does_not_know_that_it_is_equal),
    ("E4.*1 tasks", a_task_is_left_over),
    ("E4.*1 sessions", a_session_is_counted_for_ever),
    ("E4.*1 directions with bytes", bytes_are_never_read),
    ("E4.*1 versions asked for", a_version_is_asked_for_and_never_comes),
    ("E4.*roots to tell with two", a_link_never_tells_its_roots),
    ("E4.*1 comparisons", a_change_was_never_compared),
    ("V", a_conversation_is_called_equal_and_was_not),
    ("V.*link", a_link_is_called_equal_and_was_not),
    ("I11", a_mode_runs_that_is_not_advertised),
]


SEEN_FROM_WITHIN = (
    a_bad_signature_is_stored,
    a_version_is_kept_as_another_name_s,
    a_conversation_is_called_equal_and_was_not,
    a_link_is_called_equal_and_was_not,
    a_mode_runs_that_is_not_advertised,
)


@pytest.mark.parametrize(("named", "plant"), PLANTED, ids=[plant.__name__ for _, plant in PLANTED])
def test_the_judge_notices_when(named: str, plant: Plant) -> None:
    loop = SimLoop(seed=1)

    async def main() -> None:
        court = Court(loop)
        await court.begin()
        with pytest.raises(Exception, match=named) as caught:
            await plant(court)
        assert isinstance(caught.value, Violation) or "signature" in str(caught.value)
        if plant in SEEN_FROM_WITHIN:
            assert loop.unhandled == [caught.value]
            loop.unhandled.clear()

    loop.complete(main())


def test_what_a_stopped_node_leaves_behind_is_named() -> None:
    loop = SimLoop(seed=1)

    async def main() -> None:
        court = Court(loop)
        await court.begin()
        await court.world.stop()
        assert not any(left_behind(court.world, member) for member in court.members)
        court.world.network.listen("10.0.0.200:1", lambda stream: stream.read())
        OWNER.set(court.two.owner)
        task = asyncio.create_task(asyncio.sleep(1000), name="straggler")
        await court.world.network.dial(court.two.host)("10.0.0.200:1")
        assert left_behind(court.world, court.two) == ["the task straggler", "1 connections"]
        task.cancel()

    loop.complete(main())


def test_what_the_judge_sees_in_the_midst_of_a_node_fails_the_world_though_the_node_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = SimLoop(seed=1)

    async def main() -> None:
        court = Court(loop)
        court.judge._roots["one", MAIN][bytes(32)] = None  # one that the other never has
        monkeypatch.setattr(court.judge, "_note_roots", lambda *_: None)
        await court.begin()

    with pytest.raises(BaseExceptionGroup) as caught:
        loop.complete(main())
    assert {str(violation)[:2] for violation in caught.value.exceptions} == {"V:"}
