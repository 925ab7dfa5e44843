"""Pools: who may write for them, how nodes become members and cease to be, and by which names they are addressed."""

import pytest

from echonode.clock import HybridClock
from echonode.errors import LocalError
from echonode.limits import POOLS_MAX
from echonode.model.identity import IdentityId, PoolKind, SigningKey, identity_of
from echonode.model.keys import KeyState, statement_draft
from echonode.model.record import MAIN, Draft, Record
from echonode.node.events import InvitationRefused
from echonode.node.pools import PoolView
from echonode.sim.world import Member, World
from echonode.text import to_base32
from tests.node.worlds import in_a_world, told


async def write(member: Member, address: str, body: bytes = b"x") -> Record:
    author, name = member.node.addresses.resolve(address)
    return await member.node.records.put(Draft(context=MAIN, author=author, name=name, body=body))


async def read(member: Member, address: str) -> list[bytes]:
    author, name = member.node.addresses.resolve(address)
    return [head.body for head in await member.node.records.heads(MAIN, author, name)]


def view(member: Member, label: str) -> PoolView:
    (found,) = [each for each in member.node.pools.views() if each.label == label]
    return found


def states(member: Member, label: str) -> dict[IdentityId, str]:
    return {each.owner: each.state for each in view(member, label).members}


async def create(member: Member, label: str, kind: PoolKind) -> IdentityId:
    return (await member.node.pools.create(label, kind)).id


@pytest.mark.parametrize("kind", list(PoolKind))
def test_an_invitation_into_a_pool_makes_the_joiner_a_member_of_it(kind: PoolKind) -> None:
    async def work(world: World) -> None:
        maker, other, joiner = [await world.add_node(name) for name in ("maker", "other", "joiner")]
        world.introduce()
        pool = await create(maker, "team", kind)
        await write(maker, "@team/plan", b"1")
        code = await maker.node.invite(uses=1, expires_s=600, pool="team")
        await joiner.node.join(code, maker.address)
        await world.settled(within_s=20)
        assert joiner.node.addresses.resolve("@team/plan") == (pool, "plan")
        assert await read(joiner, "@team/plan") == [b"1"]
        await write(joiner, "@team/plan", b"2")
        await world.settled(within_s=20)
        assert await read(maker, "@team/plan") == [b"2"]
        for member in (maker, joiner):
            assert view(member, "team").can_write
            assert states(member, "team") == {maker.node.id: "member", joiner.node.id: "member"}
        assert view(joiner, "team").is_held is (kind is PoolKind.COMMON)
        # A node that nobody invited reads what is there, by the pool's id, and writes nothing.
        assert await read(other, f"@{to_base32(pool)[:6]}/plan") == [b"2"]
        with pytest.raises(LocalError, match="of pools that one is a member of"):
            await write(other, f"{to_base32(pool)}/plan", b"3")
        await world.leave(joiner)
        await world.start(joiner)
        await write(joiner, "@team/after", b"restarted")

    in_a_world(work)


def test_the_maker_lists_a_node_by_its_request_and_removes_it_again() -> None:
    async def work(world: World) -> None:
        maker, node = [await world.add_node(name) for name in ("maker", "node")]
        world.introduce()
        pool = await create(maker, "team", PoolKind.CLOSED)
        request = node.node.pools.request(pool, "crew")
        with pytest.raises(LocalError, match="does not list this device yet"):
            await write(node, "@crew/a")
        known = maker.node.pools.resolve("team")
        with pytest.raises(LocalError, match="request"):
            await maker.node.pools.add(known, request[:-1])
        with pytest.raises(LocalError, match="damaged"):
            await maker.node.pools.add(known, request[:-2] + ("a" if request[-2] != "a" else "b") + request[-1])
        assert await maker.node.pools.add(known, f" {request.upper()}\n") == node.node.id
        await world.settled(within_s=20)
        await write(node, "@crew/a", b"theirs")
        await world.settled(within_s=20)
        assert await read(maker, "@team/a") == [b"theirs"]
        with pytest.raises(LocalError, match="only the node that made it"):
            await node.node.pools.remove(node.node.pools.resolve("crew"), maker.node.id, is_void=False)
        assert await maker.node.pools.remove(known, node.node.id, is_void=False) == 1
        await world.settled(within_s=20)
        assert await read(maker, "@team/a") == [b"theirs"], "what it wrote stands"
        assert states(maker, "team")[node.node.id] == "retired"
        with pytest.raises(LocalError, match="a member no more"):
            await write(node, "@crew/a")
        await maker.node.pools.remove(known, node.node.id, is_void=True)
        await world.settled(within_s=20)
        assert await read(maker, "@team/a") == [] == await read(node, "@crew/a")
        assert states(maker, "team")[node.node.id] == "void"
        with pytest.raises(LocalError, match="all that it wrote"):
            await write(node, "@crew/a")

    in_a_world(work)


def test_nobody_is_removed_from_a_common_pool_and_its_maker_may_leave() -> None:
    async def work(world: World) -> None:
        (maker,) = [await world.add_node("maker")]
        await create(maker, "home", PoolKind.COMMON)
        known = maker.node.pools.resolve("home")
        with pytest.raises(LocalError, match="nobody can be removed"):
            await maker.node.pools.remove(known, maker.node.id, is_void=True)
        await write(maker, "@home/a")
        maker.node.pools.leave(known, for_good=False)
        with pytest.raises(LocalError, match="no node or pool is known as home"):
            await write(maker, "@home/a")
        await create(maker, "team", PoolKind.CLOSED)
        with pytest.raises(LocalError, match="--for-good"):
            maker.node.pools.leave(maker.node.pools.resolve("team"), for_good=False)
        maker.node.pools.leave(maker.node.pools.resolve("team"), for_good=True)
        assert maker.node.pools.views() == []

    in_a_world(work)


def test_labels_of_pools_are_plain_and_each_is_there_once() -> None:
    async def work(world: World) -> None:
        maker, other = [await world.add_node(name) for name in ("maker", "other")]
        for label in ("me", "shared", "a/b", "@team", "", "x" * 65):
            with pytest.raises(LocalError, match="cannot be the name"):
                await create(maker, label, PoolKind.CLOSED)
        await create(maker, "team", PoolKind.CLOSED)
        with pytest.raises(LocalError, match="already"):
            await create(maker, "team", PoolKind.COMMON)
        await create(other, "team", PoolKind.COMMON)
        await other.node.join(await maker.node.invite(uses=1, expires_s=600, pool="@team"), maker.address)
        assert [each.label for each in other.node.pools.views()] == ["team", "team-2"]
        with pytest.raises(LocalError, match="this node cannot invite into team-2"):
            await other.node.invite(uses=1, expires_s=600, pool="team-2")
        for number in range(POOLS_MAX - 1):
            await create(maker, f"pool {number}", PoolKind.COMMON)
        with pytest.raises(LocalError, match=f"{POOLS_MAX} pools already"):
            await create(maker, "one more", PoolKind.COMMON)
        with pytest.raises(LocalError, match="no pool"):
            maker.node.pools.resolve("nothing")

    in_a_world(work)


def test_a_maker_that_left_its_pool_meanwhile_refuses_the_joiner() -> None:
    async def work(world: World) -> None:
        maker, joiner = [await world.add_node(name) for name in ("maker", "joiner")]
        await create(maker, "team", PoolKind.CLOSED)
        code = await maker.node.invite(uses=1, expires_s=600, pool="team")
        maker.node.pools.leave(maker.node.pools.resolve("team"), for_good=True)
        await joiner.node.join(code, maker.address)
        assert told(maker, InvitationRefused)[0].detail.startswith("no pool")

    in_a_world(work)


def test_what_this_device_wrote_into_the_earlier_shared_pool_is_brought_over_once() -> None:
    async def work(world: World) -> None:
        member = world.make_member("member")
        root, device = SigningKey(world.secret.pool_seed), member.identity.device
        earlier = identity_of(root.public)
        clock = HybridClock()
        await member.store.write(
            [statement_draft(earlier, device.public, KeyState.ACTIVE)], root, lambda: clock.tick(1_000)
        )
        drafts = [Draft(context=MAIN, author=earlier, name=name, body=name.encode()) for name in ("a", "b", "c")]
        await member.store.write(drafts, device, lambda: clock.tick(1_000))
        await world.start(member)
        assert await read(member, "shared/a") == [b"a"]
        await write(member, "shared/b", b"edited since")
        await member.node.records.delete(MAIN, member.node.addresses.resolve("shared/c")[0], "c")
        await world.leave(member)
        await world.start(member)
        assert await read(member, "shared/b") == [b"edited since"]
        assert await read(member, "shared/c") == [b""], "what was deleted does not come back"
        assert await read(member, f"{to_base32(earlier)}/c") == [b"c"], "the earlier records stay"

    in_a_world(work)
