"""A store that goes back with its disk, or has a copy beside it, finds out and loses no edit (PROTOCOL.md §5.6)."""

import asyncio
import copy
from collections.abc import Callable
from dataclasses import replace

import pytest

from echonode.errors import StoreError
from echonode.limits import FIRST_WRITE_WAIT_S, OWN_IDS_KEPT
from echonode.model.identity import Instance
from echonode.model.other_life import Fork
from echonode.model.record import MAIN, Record
from echonode.node.events import InstanceRenewed, OtherLifeMet, PeerConnected, RecordSignedAgain
from echonode.sim.world import Member, World
from echonode.store.memory import MemoryStore
from echonode.wire.messages import Hello, Seen
from tests.node.rollbacks import run
from tests.node.worlds import bend_hellos, in_a_world, put, put_unnoticed, told


class FullDisk(MemoryStore):
    """A store that cannot note another life yet."""

    is_full = True

    async def save_fork(self, fork: Fork) -> None:
        if self.is_full:
            raise StoreError("the disk is full")
        await super().save_fork(fork)


def copied(member: Member, kind: type[MemoryStore] = MemoryStore) -> Callable[[], MemoryStore]:
    """Copy the disk of `member`. Return the function that makes a store of the copy."""
    held = copy.deepcopy(vars(member.store))

    def store() -> MemoryStore:
        made = kind(Instance(bytes(8)))
        vars(made).update(copy.deepcopy(held))
        return made

    return store


async def put_back(world: World, member: Member, store: MemoryStore, *, alone: bool = True) -> None:
    """Start the node of `member` again over `store`, as after a rollback of its disk; `alone`: it reaches no peer."""
    world.crash(member)
    member.store = store
    if alone:
        world.network.partition({member.host}, {each.host for each in world.members.values() if each is not member})
    await world.start(member)


async def meet(world: World, *, within_s: float = 600) -> None:
    world.network.heal()
    world.introduce()
    await asyncio.sleep(60)
    await world.settled(within_s=within_s)


async def edit(member: Member, name: str, body: bytes) -> Record:
    return await put(member, name, body, shared=True)


async def bodies(member: Member, name: str) -> set[bytes]:
    book = member.node.records
    assert book.shared is not None
    return {head.body for head in await book.heads(MAIN, book.shared, name)}


async def pair(world: World) -> tuple[Member, Member]:
    """Return two equal nodes; `ours` has written three records."""
    ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
    world.introduce()
    for name in ("a", "b", "c"):
        await edit(ours, name, b"before")
    await world.settled(within_s=30)
    return ours, theirs


@pytest.mark.parametrize("writes", [1, 2, 5])
def test_counters_given_twice_are_noticed_and_both_edits_of_each_record_stand(writes: int):
    async def work(world: World) -> None:
        ours, theirs = await pair(world)
        backup, instance = copied(ours), ours.node.store.instance
        for number in range(3):
            await edit(ours, "abc"[number], b"lost")
        await world.settled(within_s=30)
        await put_back(world, ours, backup())
        for number in range(writes):
            await edit(ours, "abc"[number % 3], b"ours %d" % number)
        assert ours.node.store.instance == instance, "nobody could tell yet"
        await meet(world)
        (renewed,) = told(ours, InstanceRenewed)
        assert renewed.instance == ours.node.store.instance != instance
        assert not told(theirs, InstanceRenewed)
        edited = {name: {b"lost"} for name in "abc"} | {
            "abc"[number % 3]: {b"lost", b"ours %d" % number} for number in range(writes)
        }
        for member in (ours, theirs):
            assert {name: await bodies(member, name) for name in "abc"} == edited
        await edit(ours, "a", b"settled")
        await world.settled(within_s=30)
        assert await bodies(theirs, "a") == {b"settled"}

    in_a_world(work)


def test_a_full_disk_does_not_end_a_node_that_meets_its_other_life_and_once_there_is_room_no_edit_is_lost():
    async def work(world: World) -> None:
        ours, theirs = await pair(world)
        backup = copied(ours, FullDisk)
        stranger = await edit(ours, "a", b"lost")
        await world.settled(within_s=30)
        await put_back(world, ours, backup())
        await edit(ours, "a", b"ours")
        ours.node.bus.publish(OtherLifeMet(strangers=[stranger]))  # as when a peer brings it
        await asyncio.sleep(60)
        assert not told(ours, InstanceRenewed)
        assert isinstance(ours.store, FullDisk)
        ours.store.is_full = False
        await meet(world)
        assert told(ours, InstanceRenewed)
        for member in (ours, theirs):
            assert await bodies(member, "a") == {b"lost", b"ours"}

    in_a_world(work)


def test_a_node_that_did_not_write_since_takes_a_new_instance_and_signs_nothing_again():
    async def work(world: World) -> None:
        ours, theirs = await pair(world)
        backup = copied(ours)
        await edit(ours, "a", b"lost")
        await world.settled(within_s=30)
        await edit(theirs, "a", b"by another")
        await edit(theirs, "b", b"by another")
        await world.settled(within_s=30)
        await put_back(world, ours, backup())
        await meet(world)
        assert len(told(ours, InstanceRenewed)) == 1
        assert not told(ours, RecordSignedAgain)
        for member in (ours, theirs):
            assert await bodies(member, "a") == await bodies(member, "b") == {b"by another"}

    in_a_world(work)


def test_a_store_that_goes_back_to_before_its_first_write_is_told_by_the_records_alone():
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        bend_hellos(theirs, lambda hello: replace(hello, seen=()))
        backup, instance = copied(ours), ours.node.store.instance
        world.introduce()
        await edit(ours, "a", b"lost")
        await world.settled(within_s=30)
        await put_back(world, ours, backup())
        await meet(world)
        (renewed,) = told(ours, InstanceRenewed)
        assert renewed.instance == ours.node.store.instance != instance
        assert await bodies(ours, "a") == {b"lost"}

    in_a_world(work)


def test_the_first_write_after_the_start_waits_for_a_hello_and_takes_a_counter_that_nobody_has_seen():
    async def work(world: World) -> None:
        ours, theirs = await pair(world)
        backup = copied(ours)
        lost = await edit(ours, "a", b"lost")
        await world.settled(within_s=30)
        await put_back(world, ours, backup(), alone=False)
        written = await edit(ours, "b", b"ours")
        assert written.instance != lost.instance
        assert told(ours, PeerConnected)
        await world.settled(within_s=30)
        assert not told(ours, RecordSignedAgain)
        assert await bodies(theirs, "a") == {b"lost"} and await bodies(theirs, "b") == {b"ours"}

    in_a_world(work)


@pytest.mark.parametrize("knows_peers", [True, False])
def test_the_first_write_waits_no_longer_than_its_bound_and_only_where_peers_are_known(knows_peers: bool):
    async def work(world: World) -> None:
        if knows_peers:
            ours, _ = await pair(world)
        else:
            ours = await world.add_node("ours")
            await world.add_node("theirs")
        await put_back(world, ours, copied(ours)())
        began_s = world.loop.time()
        for _ in range(2):
            await edit(ours, "a", b"ours")
        waited_s = world.loop.time() - began_s
        assert waited_s == pytest.approx(FIRST_WRITE_WAIT_S if knows_peers else 0, abs=0.1)

    in_a_world(work)


def test_a_store_that_goes_back_twice_loses_nothing_either():
    async def work(world: World) -> None:
        ours, theirs = await pair(world)
        backup, instances = copied(ours), {ours.node.store.instance}
        for turn in (b"first", b"second", b"third"):
            await edit(ours, "a", turn)
            if turn != b"third":
                await meet(world)
                instances.add(ours.node.store.instance)
                await put_back(world, ours, backup())
        await meet(world)
        instances.add(ours.node.store.instance)
        assert len(instances) == 3
        assert await bodies(ours, "a") == await bodies(theirs, "a") == {b"first", b"second", b"third"}

    in_a_world(work)


def test_a_copy_that_runs_beside_loses_nothing_and_both_come_to_rest():
    async def work(world: World) -> None:
        ours, theirs = await pair(world)
        clone = world.make_member("clone")
        clone.identity, clone.store = ours.identity, copied(ours)()
        world.network.partition({clone.host}, {ours.host, theirs.host})
        await world.start(clone)
        for number in range(4):
            await edit(clone, "ab"[number % 2], b"clone %d" % number)
            await edit(ours, "abc"[number % 3], b"ours %d" % number)
        world.network.heal()
        world.introduce()
        await asyncio.sleep(600)
        for member in (ours, theirs, clone):
            assert await bodies(member, "a") == {b"ours 3", b"clone 2"}
            assert await bodies(member, "b") == {b"ours 1", b"clone 3"}
            assert await bodies(member, "c") == {b"ours 2"}
        before = [len(told(member, InstanceRenewed)) for member in (ours, clone)]
        assert sum(before) <= 2
        await edit(ours, "a", b"settled")
        await asyncio.sleep(600)
        assert await bodies(clone, "a") == {b"settled"}
        assert [len(told(member, InstanceRenewed)) for member in (ours, clone)] == before

    in_a_world(work)


def _forged(seen: Seen, how: str) -> Seen:
    match how:
        case "an unknown id":
            return replace(seen, version=bytes(32), raw=b"")
        case "a higher counter":
            return replace(seen, counter=seen.counter + 1000, raw=b"")
        case "a version that is none":
            return replace(seen, version=bytes(32), raw=b"\x80")
        case _:  # a changed signature; a changed body
            at = -1 if how == "a forged signature" else seen.raw.index(b"before")
            raw = bytearray(seen.raw)
            raw[at] ^= 1
            return replace(seen, raw=bytes(raw))


@pytest.mark.parametrize(
    "how", ["an unknown id", "a higher counter", "a version that is none", "a forged signature", "a forged body"]
)
def test_a_peer_that_lies_about_what_it_has_seen_costs_no_instance(how: str):
    async def work(world: World) -> None:
        ours, theirs = await pair(world)
        instance = ours.node.store.instance
        lies = 0

        def lie(hello: Hello) -> Hello:
            nonlocal lies
            lies += 1
            return replace(hello, seen=tuple(_forged(seen, how) for seen in hello.seen))

        bend_hellos(theirs, lie)
        for _ in range(3):
            ours.node.live_links.end_all()
            ours.node.registry.drop_all()
            await asyncio.sleep(60)
        assert lies >= 3
        await edit(ours, "a", b"after")
        await world.settled(within_s=60)
        assert ours.node.store.instance == instance
        assert not told(ours, InstanceRenewed)
        assert await bodies(theirs, "a") == {b"after"}

    in_a_world(work)


def test_what_a_store_wrote_too_long_ago_to_know_is_no_alarm(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("echonode.store.own_versions.OWN_IDS_KEPT", 2)
    assert OWN_IDS_KEPT > 2

    async def work(world: World) -> None:
        ours, theirs = await pair(world)
        ours.node.live_links.end_all()
        ours.node.registry.drop_all()
        world.network.partition({ours.host}, {theirs.host})
        written = await edit(ours, "a", b"0")
        for number in range(5):
            await put_unnoticed(ours, f"own {number}")
        assert ours.node.store.has_signed(written) is None
        await ours.node.store.forget(MAIN, [written.key], lambda _: False)
        await meet(world)
        assert not told(ours, InstanceRenewed)

    in_a_world(work)


def test_over_some_drawn_worlds_no_edit_is_lost_and_all_become_equal():
    for seed in range(4):
        for is_clone in (False, True):
            outcome = run(seed, is_clone=is_clone)
            assert (outcome.lost, outcome.is_equal) == ([], True), (seed, is_clone)
