"""Rotations of the network secret among real nodes: who gets in again, who does not, and what becomes of `shared`."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from math import inf

import pytest

from echonode.errors import ConfigError, LocalError, StoreError
from echonode.limits import ROTATION_SERVED_MS
from echonode.model.identity import Instance, writer_of
from echonode.model.member_secret import MemberSecret
from echonode.model.record import IDENTITIES, MAIN, Draft, sign
from echonode.model.rotation import sign_rotation
from echonode.node.events import NetworkLeftOut, NetworkRotated, RecordsApplied, RotationRefused
from echonode.node.views import PeerState
from echonode.sim.world import PORT, Member, World
from echonode.store.memory import MemoryStore
from echonode.wire.auth import Peer
from echonode.wire.messages import Rotated
from tests.node.worlds import SlowStore, in_a_world, names, put, sight, told, view_of

DAY_S = 24 * 3600.0


async def network(world: World, *called: str) -> list[Member]:
    """Return nodes that know each other, and hold a record of each in `shared`."""
    members = [await world.add_node(name) for name in called]
    world.introduce()
    for member in members:
        await put(member, f"by {member.name}", shared=True)
    await world.settled(within_s=30)
    return members


async def rotate(member: Member, *without: Member) -> None:
    await member.node.rotations.rotate([each.node.id for each in without])


async def until_one_network(members: Sequence[Member], within_s: float = 900.0) -> None:
    """Wait until all of `members` have one secret and equal records."""
    for _ in range(int(within_s)):
        await asyncio.sleep(1.0)
        states = {(member.node.network, member.node.store.tree(MAIN).root) for member in members}
        if len(states) == 1:
            return
    raise AssertionError([(member.name, member.node.network) for member in members])


async def after_days(world: World, days: float, members: Sequence[Member]) -> None:
    """Let days pass in which all machines are off."""
    for member in members:
        await world.leave(member)
    await asyncio.sleep(days * DAY_S)
    for member in members:
        await world.start(member)


async def shared_names(member: Member) -> set[str]:
    pool = member.node.records.shared
    return {record.name async for page in member.node.records.scan(MAIN, author=pool) for record in page}


def test_a_plain_rotation_takes_all_members_along_and_keeps_shared():
    async def work(world: World) -> None:
        a, b, c = members = await network(world, "a", "b", "c")
        pool, before = a.node.records.shared, a.node.network
        report = await a.node.rotations.rotate()
        assert set(report.members) == {member.node.id for member in members}
        assert (report.copied, report.past_pool) == (0, "")
        await until_one_network(members)
        assert a.node.network != before
        assert {member.node.records.shared for member in members} == {pool}
        await put(c, "after", shared=True)
        await world.settled(within_s=60)
        assert "after" in await shared_names(b)
        (event,) = told(b, NetworkRotated)
        assert (event.rotator, event.members, event.without) == (a.node.id, 3, ())

    in_a_world(work)


def test_a_rotation_without_a_node_leaves_it_alone_and_it_says_so():
    async def work(world: World) -> None:
        a, b, c = await network(world, "a", "b", "c")
        before = a.node.network
        await rotate(a, c)
        await until_one_network([a, b])
        await asyncio.sleep(600)
        assert c.node.network == before != a.node.network
        assert told(c, NetworkLeftOut) and not told(b, NetworkLeftOut)
        assert (await c.node.status()).left_out_by
        assert not (await b.node.status()).left_out_by
        assert view_of(a, c).state is view_of(b, c).state is PeerState.LEFT_OUT
        sayers = [view for view in c.node.peers() if view.state is PeerState.REFUSED]
        assert sayers and all(view.in_sync is None and "without this node" in view.reason for view in sayers)
        await b.node.forget_peer("c")
        sight(b, c)
        await asyncio.sleep(60)
        sighted = {view.state for view in b.node.peers() if view.address.startswith(c.host)}
        assert sighted == {PeerState.LEFT_OUT}, "whoever it is, it is none of those that should be equal"
        await put(a, "secret", shared=True)
        await put(c, "from outside", shared=True)
        await asyncio.sleep(600)
        assert "secret" in await names(b)
        assert "secret" not in await names(c)
        assert "from outside" not in await names(a) | await names(b)

    in_a_world(work)


def test_shared_moves_to_a_new_pool_without_the_records_of_the_excluded_and_the_old_one_stays_readable():
    async def work(world: World) -> None:
        a, b, c = await network(world, "a", "b", "c")
        old = a.node.records.shared
        report = await a.node.rotations.rotate([c.node.id])
        assert report.copied == 2
        assert a.node.records.shared != old
        await until_one_network([a, b])
        for member in (a, b):
            assert await shared_names(member) == {"by a", "by b"}
            assert not member.node.store.conflicts(MAIN)
            author, name = member.node.addresses.resolve(f"@{report.past_pool}/by c")
            assert await member.node.records.heads(MAIN, author, name)
            with pytest.raises(LocalError, match="only read now: put what should stay into shared/NAME"):
                await member.node.records.put(Draft(context=MAIN, author=author, name=name))
        await put(b, "new", shared=True)
        await until_one_network([a, b])
        assert "new" in await shared_names(a)

    in_a_world(work)


def test_a_member_that_was_off_for_a_month_and_two_rotations_gets_in_again_with_what_it_wrote():
    async def work(world: World) -> None:
        a, b, late, out = await network(world, "a", "b", "late", "out")
        world.network.partition([late.host], [a.host, b.host, out.host])
        await put(late, "written away", shared=True)
        await rotate(a, out)
        await until_one_network([a, b])
        await after_days(world, 30, [a, b, late, out])
        await until_one_network([a, b])
        await rotate(b)
        await until_one_network([a, b])
        world.network.heal()
        await until_one_network([a, b, late])
        await asyncio.sleep(900)
        for member in (a, b, late):
            assert await shared_names(member) == {"by a", "by b", "by late", "written away"}
            assert not member.node.store.conflicts(MAIN)
        assert out.node.network != a.node.network

    in_a_world(work)


def test_an_excluded_node_does_not_come_back_as_a_fresh_identity_with_the_old_secret():
    async def work(world: World) -> None:
        a, b, c = await network(world, "a", "b", "c")
        await rotate(a, c)
        await until_one_network([a, b])
        await world.leave(c)
        fresh = await world.add_node("fresh")
        world.introduce()
        await asyncio.sleep(1200)
        assert fresh.node.network_secret() == world.secret
        assert told(fresh, NetworkLeftOut)
        assert fresh.node.id not in {peer.id for peer in a.node.peers() if peer.in_sync}
        assert await names(fresh) == set()

    in_a_world(work)


def test_two_rotations_at_once_end_in_one_network():
    async def work(world: World) -> None:
        a, b, c, d = members = await network(world, "a", "b", "c", "d")
        world.network.partition([a.host, c.host], [b.host, d.host])
        await rotate(a)
        await rotate(b)
        await until_one_network([a, c])
        await until_one_network([b, d])
        assert a.node.network != b.node.network
        await put(c, "one side", shared=True)
        await put(d, "other side", shared=True)
        world.network.heal()
        await until_one_network(members)
        await world.settled(within_s=900)
        for member in members:
            assert {"one side", "other side"} <= await shared_names(member)

    for seed in range(3):
        in_a_world(work, seed=seed)


def test_two_that_rotate_at_once_find_each_other_though_each_announces_a_network_unknown_to_the_other():
    async def work(world: World) -> None:
        a, b, _ = members = await network(world, "a", "b", "c")
        await asyncio.gather(rotate(a), rotate(b))
        assert a.node.network != b.node.network
        world.introduce()
        await until_one_network(members)

    for seed in range(3):
        in_a_world(work, seed=seed)


class Fragile(MemoryStore):
    """A store whose disk can be full."""

    room = inf

    async def write(self, drafts, key, tick, **options):
        if self.room < len(drafts):
            raise StoreError("the disk is full")
        self.room -= len(drafts)
        return await super().write(drafts, key, tick, **options)


def test_a_rotation_that_a_full_disk_cannot_follow_changes_nothing_and_is_followed_later():
    async def work(world: World) -> None:
        a, out = await network(world, "a", "out")
        b = await world.add_node("b", make_store=Fragile)
        world.introduce()
        await world.settled(within_s=30)
        before, pool = b.node.network, b.node.records.shared
        assert isinstance(b.store, Fragile)
        b.store.room = 0
        await rotate(a, out)
        await asyncio.sleep(60)
        assert "disk is full" in told(b, RotationRefused)[0].detail
        assert (b.node.network, b.node.records.shared) == (before, pool)
        with pytest.raises(StoreError):
            await rotate(b, out)
        assert b.node.network == before
        b.store.room = inf
        await until_one_network([a, b])
        await put(b, "after", shared=True)
        await until_one_network([a, b])
        assert "after" in await shared_names(a)

    in_a_world(work)


def test_a_rotation_that_cannot_be_kept_in_the_home_changes_nothing_and_is_followed_later():
    def no_room(*_: object) -> None:
        raise ConfigError("the file network cannot be written: no space left on device")

    async def work(world: World) -> None:
        a, b, out = await network(world, "a", "b", "out")
        before, pool = b.node.network, b.node.records.shared
        save, b.node.membership._save = b.node.membership._save, no_room
        await rotate(a, out)
        await asyncio.sleep(60)
        assert "no space left" in told(b, RotationRefused)[0].detail
        assert (b.node.network, b.node.records.shared) == (before, pool)
        with pytest.raises(ConfigError):
            await rotate(b, out)
        assert (b.node.network, b.node.records.shared) == (before, pool)
        b.node.membership._save = save
        await until_one_network([a, b])
        await put(b, "after", shared=True)
        await until_one_network([a, b])
        assert "after" in await shared_names(a)

    in_a_world(work)


def test_a_node_whose_store_was_rolled_back_believes_those_that_its_own_rotation_named():
    async def work(world: World) -> None:
        a, b = await network(world, "a", "b")
        world.network.partition([a.host], [b.host])
        await rotate(a)
        await rotate(b)
        world.crash(a)
        world.crash(b)
        b.store = MemoryStore(Instance(bytes(8)))
        await world.start(a)
        await world.start(b)
        world.network.heal()
        await until_one_network([a, b])

    in_a_world(work)


def test_who_rotated_copies_its_own_record_that_a_peer_brings_back_later():
    async def work(world: World) -> None:
        a, b, out = await network(world, "a", "b", "out")
        pool, device = a.node.records.shared, a.node.records.identity.device
        await rotate(a, out)
        await until_one_network([a, b])
        await asyncio.sleep(60.0)  # what there was to copy is copied
        life = Instance(b"put back")  # in which a wrote, before its store was put back: only b has the record
        draft = Draft(context=MAIN, author=pool, name="late", body=b"1")
        vector = {writer_of(device.public, life): 1}
        late = sign(draft, device, instance=life, vector=vector, timestamp=a.node.records.tick())
        applied = await b.node.store.apply(MAIN, [late])
        b.node.bus.publish(RecordsApplied(context=MAIN, source=b"", records=tuple(applied.records)))
        for _ in range(600):
            await asyncio.sleep(1.0)
            if "late" in await shared_names(a) & await shared_names(b):
                return
        raise AssertionError("it was not copied")

    in_a_world(work)


def test_copying_what_was_shared_goes_on_after_a_restart():
    async def work(world: World) -> None:
        a = await world.add_node("a", make_store=Fragile)
        b, out = await world.add_node("b"), await world.add_node("out")
        world.introduce()
        for number in range(3):
            await put(a, f"r{number}", shared=True)
        await put(b, "by b", shared=True)
        await world.settled(within_s=30)
        assert isinstance(a.store, Fragile)
        a.store.room = 3  # the listing in the new pool and none of four records
        with pytest.raises(LocalError, match="was rotated, and not all"):
            await rotate(a, out)
        assert await shared_names(a) == set()
        world.crash(a)
        a.store.room = inf
        await world.start(a)
        await until_one_network([a, b])
        assert await shared_names(a) == {"r0", "r1", "r2", "by b"}
        await put(a, "r0", b"later", shared=True)
        assert await a.node.records.delete(MAIN, a.node.records.shared, "r1")
        world.crash(a)
        await world.start(a)
        await until_one_network([a, b])
        assert await shared_names(b) == {"r0", "r2", "by b"}, "once it is done nothing is copied again"
        assert not a.node.store.conflicts(MAIN)

    in_a_world(work)


def test_copying_what_was_shared_goes_on_when_whoever_asked_for_it_is_gone():
    async def work(world: World) -> None:
        a = await world.add_node("a", make_store=SlowStore)
        out = await world.add_node("out")
        world.introduce()
        for name in ("r0", "r1"):
            await a.node.records.put(Draft(context=MAIN, author=a.node.records.shared, name=name))
        await world.settled(within_s=30)
        asked = asyncio.create_task(rotate(a, out))
        await asyncio.sleep(1.5)
        asked.cancel()
        assert a.node.network != out.node.network
        await asyncio.sleep(5)
        assert await shared_names(a) == {"r0", "r1"}
        assert all(each.is_copied for each in a.node.membership.past)

    in_a_world(work)


async def until_without(members: Sequence[Member], outsiders: Sequence[Member]) -> None:
    """Wait until `members` are of one network, of which no outsider is."""
    for _ in range(900):
        await asyncio.sleep(1.0)
        inside, outside = ({each.node.network for each in group} for group in (members, outsiders))
        if len(inside) == 1 and inside.isdisjoint(outside):
            return
    raise AssertionError([(each.name, each.node.network) for each in (*members, *outsiders)])


@pytest.mark.parametrize("rotator", ["b", "out"])
def test_an_exclusion_is_not_undone_by_a_rotation_at_the_same_time_not_even_by_the_excluded(rotator):
    async def work(world: World) -> None:
        a, b, out = await network(world, "a", "b", "out")
        world.network.partition([a.host], [b.host, out.host])
        await rotate(a)
        await rotate(a, out)
        await rotate({"b": b, "out": out}[rotator])
        await until_one_network([b, out])
        world.network.heal()
        await until_without([a, b], [out])
        await asyncio.sleep(400)
        assert view_of(out, a).reason == "it says that the network was rotated without this node"

    for seed in range(3):
        in_a_world(work, seed=seed)


def test_two_exclusions_at_once_both_hold_though_the_disk_is_full_when_one_is_beaten():
    async def work(world: World) -> None:
        b, x, y = await network(world, "b", "x", "y")
        a = await world.add_node("a", make_store=Fragile)
        world.introduce()
        await world.settled(within_s=30)
        assert isinstance(a.store, Fragile)
        world.network.partition([a.host, y.host], [b.host, x.host])
        await rotate(a, x)
        await rotate(b, y)
        ours, theirs = (each.node.membership.past[0].rotation for each in (a, b))
        assert ours is not None and theirs is not None
        beaten.append(theirs.rank > ours.rank)
        await until_one_network([a, y])
        a.store.room = 0
        world.network.heal()
        await asyncio.sleep(300)
        assert told(a, RotationRefused)
        assert a.node.network != x.node.network
        a.store.room = inf
        await until_without([a, b], [x, y])
        await asyncio.sleep(300)
        await until_without([a, b], [x, y])

    beaten: list[bool] = []
    for seed in range(2, 6):
        in_a_world(work, seed=seed)
    assert set(beaten) == {True, False}, "draw other seeds: both orders of rank are to be tried"


def test_a_member_that_left_the_branch_of_an_exclusion_before_that_was_made_comes_back_to_it():
    async def work(world: World) -> None:
        a, b, c, out = await network(world, "a", "b", "c", "out")
        world.network.partition([a.host, b.host, c.host], [out.host])
        await rotate(a)
        await until_one_network([a, b, c])
        world.network.heal()
        world.network.partition([a.host, b.host], [c.host, out.host])
        await rotate(a, out)
        await rotate(out)
        before = c.node.network
        await until_one_network([c, out])
        has_left.append(c.node.network != before)
        await until_one_network([a, b])
        world.network.heal()
        await until_without([a, b, c], [out])

    has_left: list[bool] = []
    for seed in range(4):
        in_a_world(work, seed=seed)
    assert set(has_left) == {True, False}, "draw other seeds: both orders of rank are to be tried"


def test_an_excluded_node_cannot_take_members_back_by_a_rotation_of_its_own():
    async def work(world: World) -> None:
        a, b, out = await network(world, "a", "b", "out")
        await rotate(a, out)
        await until_one_network([a, b])
        inside = a.node.network
        await rotate(out)
        await asyncio.sleep(400)
        assert a.node.network == b.node.network == inside
        (ours,), (theirs,) = a.node.membership.past, out.node.membership.past
        assert ours.rotation is not None and theirs.rotation is not None
        ranks.append(theirs.rotation.rank > ours.rotation.rank)

    ranks: list[bool] = []
    for seed in range(4):
        in_a_world(work, seed=seed)
    assert set(ranks) == {True, False}, "draw other seeds: both orders of rank are to be tried"


def test_a_rotation_that_is_not_to_be_believed_is_refused_and_said():
    async def work(world: World) -> None:
        a, b = await network(world, "a", "b")
        stranger = await world.add_node("stranger", secret=MemberSecret.from_bytes(bytes(64)))
        world.network.partition([a.host], [b.host])
        await rotate(a)
        (past,), secret = a.node.membership.past, a.node.network_secret()
        told_of, before = past.rotation, b.node.network
        assert told_of is not None and secret is not None
        honest = Rotated(told_of.signed, told_of.signature, told_of.statement, secret.to_bytes(), True)

        async def hear(teller: Member, message: Rotated) -> str:
            records = teller.node.records
            peer = Peer(records.id, records.identity.device.public, tuple(records.own_statements[:1]))
            await b.node.rotations.hear(peer, None, message)  # type: ignore[arg-type]
            await asyncio.sleep(1)
            return told(b, RotationRefused)[-1].detail if told(b, RotationRefused) else ""

        assert "not the one" in await hear(a, replace(honest, secret=bytes(64)))
        assert "not named" in await hear(stranger, honest)
        assert "not signed" in await hear(a, replace(honest, signature=bytes(64)))
        assert b.node.network == before
        await hear(a, honest)
        assert b.node.network == a.node.network

    in_a_world(work)


def test_a_rotation_by_a_stranger_that_a_stranger_tells_is_refused():
    async def work(world: World) -> None:
        a, thief = await network(world, "a", "thief")
        world.network.partition([a.host], [thief.host])
        late = await world.add_node("late")
        world.network.partition([late.host, a.host], [thief.host])
        before = late.node.network
        # The thief has the old secret, and knows `late` by its announcement; `late` never heard of the thief.
        rotation = sign_rotation(
            world.secret.netid,
            stolen := MemberSecret.from_bytes(bytes(64)),
            rotator=thief.node.id,
            device=thief.identity.device,
            statement=thief.node.records.own_statements[0].raw,
            members=[late.node.id, thief.node.id],
            without=[],
        )
        peer = Peer(thief.node.id, thief.identity.device.public, ())
        message = Rotated(rotation.signed, rotation.signature, rotation.statement, stolen.to_bytes(), True)
        await late.node.rotations.hear(peer, None, message)  # type: ignore[arg-type]
        await asyncio.sleep(1)
        assert "neither" in told(late, RotationRefused)[0].detail
        assert late.node.network == before

    in_a_world(work)


def test_the_old_secret_leads_nowhere_after_ninety_days():
    async def work(world: World) -> None:
        a, late = await network(world, "a", "late")
        world.network.partition([late.host], [a.host])
        await rotate(a)
        await after_days(world, ROTATION_SERVED_MS / 1000 / DAY_S + 1, [a, late])
        world.network.heal()
        await asyncio.sleep(3600)
        assert late.node.network != a.node.network
        # A person brings the secret: the pool is the same, and so is everything in it.
        secret = a.node.network_secret()
        assert secret is not None
        left = await late.node.set_network(secret)
        assert left is not None and left.past_pool == ""
        await until_one_network([a, late])

    in_a_world(work)


def test_a_restarted_node_still_tells_of_the_rotation():
    async def work(world: World) -> None:
        a, late = await network(world, "a", "late")
        world.network.partition([late.host], [a.host])
        await rotate(a)
        world.crash(a)
        await world.start(a)
        world.network.heal()
        await until_one_network([a, late])
        assert not told(late, RotationRefused)

    in_a_world(work)


def test_what_cannot_be_rotated_is_a_sentence():
    async def work(world: World) -> None:
        a = await world.add_node("a")
        anyone = await world.add_node("anyone", secret=None)
        with pytest.raises(LocalError, match="cannot leave itself out"):
            await rotate(a, a)
        with pytest.raises(LocalError, match="no secret"):
            await rotate(anyone)

    in_a_world(work)


@pytest.mark.parametrize("is_dialling", [True, False])
def test_a_session_that_is_being_opened_during_a_rotation_without_its_peer_does_not_come_up(is_dialling: bool):
    async def meet_while_it_rotates(world: World, number: int) -> None:
        a, c = await world.add_node(f"a{number}"), await world.add_node(f"c{number}")
        await a.node.store.apply(IDENTITIES, c.node.records.own_statements)
        sight(*((a, c) if is_dialling else (c, a)))
        await asyncio.sleep(0.002 * number)
        await rotate(a, c)
        await put(a, "secret")
        await asyncio.sleep(5)
        assert "secret" not in await names(c), number
        assert not a.node.peer_table.has_session(c.node.id)
        assert not a.node.live_links.pending()
        await world.leave(a)
        await world.leave(c)

    async def work(world: World) -> None:
        for number in range(25):
            await meet_while_it_rotates(world, number)

    in_a_world(work, hushed=True)


def test_a_joiner_that_is_pairing_during_a_rotation_gets_no_secret_of_before():
    async def work(world: World) -> None:
        ends = []
        for number in range(12):
            a = await world.add_node(f"a{number}")
            joiner = await world.add_node(f"j{number}", secret=MemberSecret.of_lone_key(bytes([number + 1]) * 32))
            code = await a.node.invite(uses=1, expires_s=600)
            joining = asyncio.create_task(joiner.node.join(code, f"{a.host}:{PORT}", timeout_s=5))
            await asyncio.sleep(0.001 * number)
            before = a.node.network
            is_spent = a.node.invitations.slot is None  # then the secret was on its way already
            await a.node.rotations.rotate()
            (end,) = await asyncio.gather(joining, return_exceptions=True)
            assert is_spent or end != before, number
            ends.append(type(end))
        assert str in ends and len(set(ends)) > 1

    in_a_world(work, hushed=True)
