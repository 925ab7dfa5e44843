"""Connections before their peer is known: floods, garbage, impostors; and how a peer is reached at all."""

import asyncio
from collections.abc import Callable

import pytest

from echonode.errors import TransportError
from echonode.limits import AUTH_TIMEOUT_S, HANDSHAKE_TIMEOUT_S, HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX
from echonode.model.record import MAIN
from echonode.node.events import PeerConnected, PinViolated, SessionFailed
from echonode.node.happy_eyeballs import reach
from echonode.node.views import PeerState
from echonode.sim.event_loop import SimLoop
from echonode.sim.network import SimNetwork
from echonode.sim.world import PORT, Member, World
from echonode.sync.streams import ByteStream
from echonode.wire.channel import PREAMBLE, Handshake, NetworkSecret
from tests.node.worlds import in_a_world, loud, names, put, sight, told


async def knock(world: World, member: Member, data: bytes = b"", *, host: str = "10.9.9.9") -> ByteStream:
    """Open a connection to a node, and send `data` over it and no more."""
    stream = await world.network.dial(host)(f"{member.host}:{PORT}")
    if data:
        await stream.write(data)
    return stream


async def hangs_up(stream: ByteStream) -> bool:
    """Return True when the other end closes without having sent a byte."""
    try:
        return await stream.read() == b""
    except TransportError:
        return True


# -- before anybody is known -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n" * 4, b"\0" * 500, PREAMBLE + bytes(48), b"SSH-2.0-x\r\n" * 9],
    ids=["http", "zeros", "a wrong key", "ssh"],
)
def test_what_is_no_handshake_of_ours_is_dropped_without_a_byte(data):
    async def work(world: World) -> None:
        member = await world.add_node("member")
        assert await hangs_up(await knock(world, member, data))
        assert world.network.delivered[member.host, "10.9.9.9"] == 0
        await asyncio.sleep(10)
        assert not world.network.live
        (failure,) = told(member, SessionFailed)
        assert failure.peer == b""

    in_a_world(work)


def test_who_connects_and_goes_without_a_word_is_no_failure():
    """It was quicker at another address, or looks for open ports."""

    async def work(world: World) -> None:
        member = await world.add_node("member")
        closed, reset = [await knock(world, member) for _ in range(2)]
        await closed.close()
        reset.abort()
        await asyncio.sleep(10)
        assert not world.network.live
        assert not told(member, SessionFailed)

    in_a_world(work)


def test_who_connects_and_says_nothing_is_given_a_few_seconds():
    async def work(world: World) -> None:
        member = await world.add_node("member")
        began = world.loop.time()
        for data in (b"", PREAMBLE, PREAMBLE + bytes(40)):
            stream = await knock(world, member, data)
            assert await hangs_up(stream)
            assert world.loop.time() - began <= HANDSHAKE_TIMEOUT_S + 1
            began = world.loop.time()

    in_a_world(work)


def test_a_member_that_does_not_say_who_it_is_is_given_a_few_seconds():
    async def work(world: World) -> None:
        member = await world.add_node("member")
        handshake = Handshake.initiator(NetworkSecret.private(world.secret.key), static=b"s" * 32, ephemeral=b"e" * 32)
        stream = await knock(world, member, handshake.data_to_send())
        handshake.receive_data(await stream.read())
        await stream.write(handshake.data_to_send())
        began = world.loop.time()
        assert await hangs_up(stream)
        assert world.loop.time() - began <= AUTH_TIMEOUT_S + 1
        assert told(member, SessionFailed)[0].detail == "the peer did not introduce itself in time"

    in_a_world(work)


def test_of_one_address_few_handshakes_go_on_at_once_and_others_are_not_kept_out():
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        await put(theirs, "a")
        flood = [await knock(world, ours) for _ in range(50)]
        ends = [asyncio.create_task(hangs_up(stream)) for stream in flood]
        await asyncio.sleep(1)
        assert sum(not end.done() for end in ends) == HANDSHAKES_PER_ADDRESS_MAX
        sight(theirs, ours)
        await world.settled(within_s=3)
        assert "a" in await names(ours)
        assert all(await asyncio.gather(*ends))
        assert not ours.node.connections._shaking

    in_a_world(work, hushed=True)


def test_of_many_addresses_a_bounded_number_of_handshakes_goes_on():
    async def work(world: World) -> None:
        ours = await world.add_node("ours")
        hosts = [f"10.8.0.{number}" for number in range(60)]
        ends = [asyncio.create_task(hangs_up(await knock(world, ours, host=host))) for host in hosts]
        await asyncio.sleep(1)
        assert sum(not end.done() for end in ends) == HANDSHAKES_MAX
        assert all(await asyncio.gather(*ends))

    in_a_world(work)


def test_a_flood_of_strangers_does_not_shut_out_who_was_met_before():
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        sight(theirs, ours)
        await world.settled(within_s=3)
        hosts = [f"10.8.0.{number}" for number in range(60)]
        ends = [asyncio.create_task(hangs_up(await knock(world, ours, host=host))) for host in hosts]
        await asyncio.sleep(0.1)
        await put(theirs, "a")
        await world.settled(within_s=HANDSHAKE_TIMEOUT_S / 2)
        assert sum(not end.done() for end in ends) == HANDSHAKES_MAX
        assert "a" in await names(ours)
        assert all(await asyncio.gather(*ends))

    in_a_world(work, hushed=True)


def test_who_claims_an_identity_without_its_key_is_told_of_and_not_let_in():
    async def work(world: World) -> None:
        ours, victim, impostor = [await world.add_node(name) for name in ("ours", "victim", "impostor")]
        await put(victim, "a")
        sight(ours, victim)
        await world_settles(ours, victim)
        impostor.node.records.own_statements = victim.node.records.own_statements  # public: anyone may copy them
        await put(impostor, "forged")
        for dialler, other in ((impostor, ours), (ours, impostor)):
            sight(dialler, other)
            await asyncio.sleep(30)
            assert await names(ours) == {"a"}
        (violation, *_) = told(ours, PinViolated)
        assert (violation.kind, violation.pinned) == ("identity", victim.node.id)
        assert [view.state for view in ours.node.peers() if view.id == victim.node.id and "claims" in view.reason] == [
            PeerState.REFUSED
        ]
        assert MAIN in ours.node.store.contexts()
        assert {event.peer for event in told(ours, PeerConnected)} == {victim.node.id}

    in_a_world(work, hushed=True)


async def world_settles(*members: Member) -> None:
    for _ in range(200):
        await asyncio.sleep(0.05)
        if len({tuple(sorted(member.roots().items())) for member in members}) == 1:
            return
    raise AssertionError("not equal")


# -- reaching a peer -------------------------------------------------------------------------------------------------


class Dialled:
    """Return a dial whose addresses answer after so many seconds, or not at all."""

    def __init__(self, network: SimNetwork, answers: dict[str, float | None]) -> None:
        self.network = network
        self.answers = answers
        self.began: dict[str, float] = {}
        self.opened: list[ByteStream] = []

        async def hold(stream: ByteStream) -> None:
            await asyncio.sleep(1e6)

        for address in answers:
            network.listen(address, hold)

    async def __call__(self, address: str) -> ByteStream:
        self.began[address] = self.network.loop.time()
        after_s = self.answers[address]
        if after_s is None:
            await asyncio.sleep(5)
            raise TransportError(f"{address} is silent")
        await asyncio.sleep(after_s)
        self.opened.append(await self.network.dial("us")(address))
        return self.opened[-1]


def reaching(answers: dict[str, float | None], then: Callable[[Dialled, ByteStream | TransportError], None]) -> None:
    loop = SimLoop(seed=1)
    network = SimNetwork(loop, seed=1)
    dialled = Dialled(network, answers)

    async def main() -> None:
        try:
            address, stream = await reach(dialled, list(answers))
            assert address == stream.address
            reached: ByteStream | TransportError = stream
        except TransportError as error:
            reached = error
        then(dialled, reached)

    loop.complete(main())


def test_the_first_address_is_taken_when_it_answers_soon():
    def then(dialled: Dialled, reached: ByteStream | TransportError) -> None:
        assert not isinstance(reached, TransportError) and reached.address == "a:1"
        assert list(dialled.began) == ["a:1"]

    reaching({"a:1": 0.2, "b:1": 0.0}, then)


def test_the_next_is_tried_after_a_head_start_and_whoever_answers_first_is_taken():
    def then(dialled: Dialled, reached: ByteStream | TransportError) -> None:
        assert not isinstance(reached, TransportError) and reached.address == "b:1"
        assert dialled.began == {"a:1": 0.0, "b:1": 0.25}
        assert dialled.opened == [reached]

    reaching({"a:1": 4.0, "b:1": 0.1, "c:1": 0.0}, then)


def test_a_failure_hands_over_at_once_and_the_first_address_is_the_one_told():
    def then(dialled: Dialled, reached: ByteStream | TransportError) -> None:
        assert str(reached) == "a:1 is silent"
        assert dialled.network.loop.time() < 5.5

    reaching({"a:1": None, "b:1": None}, then)
    reaching({}, lambda _, reached: _says(reached, "no address"))


def _says(reached: ByteStream | TransportError, words: str) -> None:
    assert words in str(reached)


def test_of_two_that_answer_at_once_one_is_taken_and_the_other_closed():
    def then(dialled: Dialled, reached: ByteStream | TransportError) -> None:
        assert [stream.gone for stream in dialled.opened].count(False) == 1
        assert not reached.gone

    reaching({"a:1": 1.0, "b:1": 0.75}, then)


def test_a_fault_of_our_own_while_dialling_does_not_forget_the_target():
    async def work(world: World) -> None:
        ours, theirs = await world.add_node("ours"), await world.add_node("theirs")
        dial, ours.node.connections.dial = ours.node.connections.dial, faulty
        sight(ours, theirs)
        await asyncio.sleep(5)
        ours.node.connections.dial = dial
        await put(theirs, "a")
        await asyncio.sleep(400)
        assert "a" in await names(ours)
        assert len(loud(ours)) > 0
        world.loop.unhandled.clear()  # its exceptions reached the loop, as they should

    in_a_world(work, hushed=True)


async def faulty(address: str) -> ByteStream:
    raise ZeroDivisionError(address)
