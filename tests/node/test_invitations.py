"""Invitations: joining by a code, wrong codes, and the bounds of an invitation (SECURITY.md H8)."""

import asyncio
from dataclasses import replace

import pytest

from echonode.errors import ConfigError, LocalError, TransportError
from echonode.limits import INVITATION_TRIES, INVITATION_USES_MAX
from echonode.model.member_secret import MemberSecret
from echonode.model.record import MAIN
from echonode.node.events import InvitationOpened, InvitationRefused, InvitationUsed, NetworkJoined, SessionFailed
from echonode.node.views import PeerState
from echonode.sim.world import PORT, Member, World
from echonode.wire.pairing import slot_of
from tests.node.worlds import in_a_world, loud, names, put, told, view_of

ELSEWHERE = MemberSecret.of_lone_key(b"z" * 32)


def own_secret(number: int) -> MemberSecret:
    return MemberSecret.of_lone_key(bytes((number,)) * 32)


async def member_and_joiner(world: World) -> tuple[Member, Member]:
    """Return a node of the network and a node of another, each with a record."""
    member, joiner = await world.add_node("member"), await world.add_node("joiner", secret=ELSEWHERE)
    await put(member, "theirs")
    await put(joiner, "ours")
    return member, joiner


def other_code(code: str) -> str:
    """Return a wrong code with the number of the same invitation."""
    slot, first, second = code.split("-")
    return f"{slot}-{'adroitness' if first != 'adroitness' else 'adviser'}-{second}"


def test_a_code_brings_a_node_into_the_network_with_the_records_it_has():
    async def work(world: World) -> None:
        member, joiner = await member_and_joiner(world)
        world.introduce()
        assert view_of_sighted(joiner).state is PeerState.OTHER_NETWORK
        code = await member.node.invite(uses=1, expires_s=600)
        assert member.node.network_secret() == world.secret != joiner.node.network_secret()
        assert (await member.node.status()).invitation == slot_of(code)
        network = await joiner.node.join(code)
        assert network == member.node.network == joiner.node.network
        assert joiner.node.network_secret() == world.secret == joiner.member_secret
        assert joiner.node.records.shared == member.node.records.shared
        await world.settled(within_s=10)
        assert await names(member) == await names(joiner) == {"theirs", "ours"}
        assert view_of(joiner, member).state is PeerState.CONNECTED
        assert (await member.node.status()).invitation is None
        (opened,), (used,) = told(member, InvitationOpened), told(member, InvitationUsed)
        assert opened.slot == used.slot == slot_of(code)
        assert [event.network for event in told(joiner, NetworkJoined)] == [network]
        assert not told(member, SessionFailed) and not told(joiner, SessionFailed)
        # It is a full member now, and announces itself as one.
        assert await joiner.node.invite(uses=1, expires_s=600)
        third = await world.add_node("third")
        world.introduce()
        await put(joiner, "todo", shared=True)
        await world.settled(within_s=10)
        assert await names(third) == {"theirs", "ours", "todo"}

    in_a_world(work)


def view_of_sighted(member: Member):
    (view,) = member.node.peers()
    return view


def test_a_code_works_at_an_address_without_discovery():
    async def work(world: World) -> None:
        member, joiner = await member_and_joiner(world)
        code = await member.node.invite(uses=1, expires_s=600)
        await joiner.node.join(code.upper().replace("-", " "), f"{member.host}:{PORT}")
        await asyncio.sleep(60)
        await world.settled(within_s=10)

    in_a_world(work, hushed=True)


def test_a_code_works_with_a_peer_that_is_configured_and_nobody_sighted():
    async def work(world: World) -> None:
        member, joiner = await member_and_joiner(world)
        joiner.node.add_peer("10.9.9.9:1")  # no node answers there
        joiner.node.add_peer(f"{member.host}:{PORT}")
        await joiner.node.join(await member.node.invite(uses=1, expires_s=600))
        assert joiner.member_secret == world.secret

    in_a_world(work, hushed=True)


def test_an_invitation_is_good_for_as_many_as_it_was_opened_for():
    async def work(world: World) -> None:
        member = await world.add_node("member")
        joiners = [await world.add_node(f"joiner-{number}", secret=own_secret(number)) for number in range(4)]
        world.introduce()
        code = await member.node.invite(uses=3, expires_s=600)
        for joiner in joiners[:3]:
            await joiner.node.join(code, timeout_s=5)
        with pytest.raises(TransportError, match="spent or expired"):
            await joiners[3].node.join(code, timeout_s=5)
        assert len(told(member, InvitationUsed)) == 3
        assert joiners[3].node.network_secret() == own_secret(3)
        assert (await member.node.status()).invitation is None

    in_a_world(work)


@pytest.mark.parametrize("seed", range(5))
def test_of_two_joiners_at_once_a_code_for_one_lets_in_one(seed):
    async def work(world: World) -> None:
        member = await world.add_node("member")
        joiners = [await world.add_node(f"joiner-{number}", secret=own_secret(number)) for number in range(2)]
        world.introduce()
        code = await member.node.invite(uses=1, expires_s=600)
        ends = await asyncio.gather(*[j.node.join(code, timeout_s=5) for j in joiners], return_exceptions=True)
        assert sorted(isinstance(end, str) for end in ends) == [False, True]
        assert sorted(joiner.node.network_secret() == world.secret for joiner in joiners) == [False, True]
        assert len(told(member, InvitationUsed)) == 1

    in_a_world(work, seed=seed)


def test_an_invitation_ends_when_its_time_is_over():
    async def work(world: World) -> None:
        member, joiner = await member_and_joiner(world)
        world.introduce()
        code = await member.node.invite(uses=1, expires_s=60)
        await asyncio.sleep(59)
        assert (await member.node.status()).invitation is not None
        await asyncio.sleep(2)
        assert (await member.node.status()).invitation is None
        assert member.announcement is not None and member.announcement.slot is None, "discovery was told"
        with pytest.raises(TransportError, match="spent or expired"):
            await joiner.node.join(code, timeout_s=5)
        with pytest.raises(TransportError, match="spent or expired"):
            await joiner.node.join(code, f"{member.host}:{PORT}")
        assert joiner.node.network_secret() == ELSEWHERE

    in_a_world(work)


@pytest.mark.parametrize("seed", range(5))
def test_a_wrong_code_is_named_and_three_of_them_close_the_invitation(seed):
    async def work(world: World) -> None:
        member, joiner = await member_and_joiner(world)
        code = await member.node.invite(uses=1, expires_s=600)
        for _ in range(INVITATION_TRIES):
            assert (await member.node.status()).invitation == slot_of(code)
            with pytest.raises(LocalError, match="not the code"):
                await joiner.node.join(other_code(code), f"{member.host}:{PORT}")
        assert (await member.node.status()).invitation is None
        with pytest.raises(TransportError):
            await joiner.node.join(code, f"{member.host}:{PORT}")
        assert joiner.node.network_secret() == ELSEWHERE
        assert await names(member) == {"theirs"}
        await asyncio.sleep(10)
        assert len(told(member, InvitationRefused)) == INVITATION_TRIES
        assert not world.network.live, "nothing of the attempts is left open"

    in_a_world(work, seed=seed, hushed=True)


def test_opening_another_invitation_closes_the_first():
    async def work(world: World) -> None:
        member, joiner = await member_and_joiner(world)
        first = await member.node.invite(uses=5, expires_s=600)
        second = await member.node.invite(uses=1, expires_s=100)
        assert first != second
        with pytest.raises((LocalError, TransportError)):
            await joiner.node.join(first, f"{member.host}:{PORT}", timeout_s=3)
        await joiner.node.join(second, f"{member.host}:{PORT}", timeout_s=3)
        await asyncio.sleep(700)

    in_a_world(work, hushed=True)


def test_nobody_who_invites_is_said_after_the_time_given():
    async def work(world: World) -> None:
        _, joiner = await member_and_joiner(world)
        world.introduce()
        began = world.loop.time()
        with pytest.raises(TransportError, match="no node with invitation 7 open"):
            await joiner.node.join("7-crossover-clockwork", timeout_s=20)
        assert 20 <= world.loop.time() - began < 21
        with pytest.raises(TransportError):
            await joiner.node.join("7-crossover-clockwork", "10.9.9.9:1")
        with pytest.raises(ConfigError):
            await joiner.node.join("7-crossover")

    in_a_world(work)


def test_a_joiner_waits_for_an_invitation_to_be_opened():
    async def work(world: World) -> None:
        member, joiner = await member_and_joiner(world)
        world.introduce()
        # Its slot is drawn: wait for any.
        code = await member.node.invite(uses=1, expires_s=600)
        member.node.invitations._invitation.uses_left = 0
        member.node.invitations.announce()
        joining = asyncio.create_task(joiner.node.join(code, timeout_s=60))
        await asyncio.sleep(30)
        assert not joining.done()
        member.node.invitations._invitation.uses_left = 1
        member.node.invitations.announce()
        assert await joining == member.node.network

    in_a_world(work)


def test_a_node_that_is_joining_hands_out_nothing():
    async def work(world: World) -> None:
        member, joiner = await member_and_joiner(world)
        world.introduce()
        earlier = await joiner.node.invite(uses=1, expires_s=600)
        joining = asyncio.create_task(joiner.node.join("7-crossover-clockwork", timeout_s=20))
        await asyncio.sleep(1)
        status = await joiner.node.status()
        assert status.joining and status.invitation is None
        assert joiner.announcement.slot is None
        with pytest.raises(LocalError, match="joining"):
            await joiner.node.invite(uses=1, expires_s=600)
        with pytest.raises(LocalError, match="already"):
            await joiner.node.join("8-crossover-clockwork")
        with pytest.raises((LocalError, TransportError)):
            await member.node.join(earlier, timeout_s=5)
        with pytest.raises(TransportError):
            await joining
        status = await joiner.node.status()
        assert not status.joining and status.invitation == slot_of(earlier)

    in_a_world(work)


def test_a_node_without_a_network_of_its_own_shows_no_secret_until_it_has_joined():
    async def work(world: World) -> None:
        member = await world.add_node("member")
        newcomer = world.make_member("newcomer", secret=ELSEWHERE)
        newcomer.settings = replace(newcomer.settings, is_provisional=True)
        await world.start(newcomer)
        world.introduce()
        with pytest.raises(LocalError, match="joining"):
            newcomer.node.network_secret()
        code = await member.node.invite(uses=1, expires_s=600)
        await newcomer.node.join(code)
        assert newcomer.node.network_secret() == world.secret

    in_a_world(work)


def test_invitations_have_bounds_and_the_open_network_has_none():
    async def work(world: World) -> None:
        member = await world.add_node("member")
        for uses, expires_s in ((0, 60), (INVITATION_USES_MAX + 1, 60), (1, 0), (1, -5)):
            with pytest.raises(LocalError):
                await member.node.invite(uses=uses, expires_s=expires_s)
        anyone = await world.add_node("anyone", secret=None)
        with pytest.raises(LocalError, match="open network"):
            await anyone.node.invite(uses=1, expires_s=60)
        assert anyone.node.network == "open"

    in_a_world(work)


def test_without_an_invitation_a_member_answers_nobody_outside_the_network():
    async def work(world: World) -> None:
        member, joiner = await member_and_joiner(world)
        joiner.node.add_peer(f"{member.host}:{PORT}")
        await asyncio.sleep(60)
        assert joiner.node.store.contexts() and "ours" not in await names(member)
        sent = {pair: size for pair, size in world.network.delivered.items() if pair[0] == member.host}
        assert not any(sent.values()), "not a byte"
        assert joiner.node.peers()[0].reason

    in_a_world(work, hushed=True)


def test_changing_the_network_ends_the_sessions_of_the_old_one_and_keeps_the_records():
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        world.introduce()
        await put(ours, "a")
        await world.settled(within_s=10)
        await ours.node.set_network(ELSEWHERE)
        await ours.node.set_network(ELSEWHERE)
        assert len(told(ours, NetworkJoined)) == 1
        await put(theirs, "b")
        await put(ours, "c")
        await asyncio.sleep(300)
        assert await names(ours) == {"a", "c"}
        assert await names(theirs) == {"a", "b"}
        await theirs.node.set_network(ELSEWHERE)
        await asyncio.sleep(100)
        await world.settled(within_s=10)
        assert await names(ours) == {"a", "b", "c"}
        assert MAIN in ours.node.store.contexts()

    in_a_world(work)


def test_idle_members_of_two_networks_leave_each_other_alone():
    async def work(world: World) -> None:
        member, stranger = await member_and_joiner(world)
        world.introduce()
        await asyncio.sleep(10)
        before = len(loud(member)), len(loud(stranger)), world.network.connections
        await asyncio.sleep(3600)
        assert (len(loud(member)), len(loud(stranger)), world.network.connections) == before
        assert world.network.connections == 0

    in_a_world(work)
