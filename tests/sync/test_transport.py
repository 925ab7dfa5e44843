"""Messages over a secured stream, in virtual time: pings, silence, closes, and streams that end without one."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from echonode.errors import PeerRefused, Reason, RemoteError, TransportError
from echonode.limits import FRAME_TIMEOUT_S, IDLE_TIMEOUT_S
from echonode.sim.event_loop import SimLoop
from echonode.sim.network import SimNetwork
from echonode.sim.tcp_link import LinkConditions
from echonode.sync.streams import ByteStream
from echonode.sync.transport import StreamTransport
from echonode.wire.codec import encode
from echonode.wire.messages import Close, Credit, Done, Message, Ping, Pong, Put
from tests.wire.ends import initiator, past_auth, responder

HELLO = Done(bytes(32), 1, 2, False)


Talk = Callable[[StreamTransport, StreamTransport, SimNetwork], Awaitable[None]]


def between(talk: Talk, link: LinkConditions | None = None) -> None:
    """Run `talk` with the two ends of one connection."""
    loop = SimLoop(seed=1)
    network = SimNetwork(loop, seed=1, link=link or LinkConditions(fragment_bytes_max=7))

    async def main() -> None:
        accepted: asyncio.Future[ByteStream] = loop.create_future()

        async def accept(stream: ByteStream) -> None:
            accepted.set_result(stream)
            await asyncio.sleep(1e6)

        network.listen("b:1", accept)
        ours = await network.dial("a")("b:1")
        channels = past_auth()
        await talk(StreamTransport(ours, channels[0]), StreamTransport(await accepted, channels[1]), network)

    loop.complete(main())


def test_messages_arrive_whole_and_in_order_however_the_stream_is_cut():
    async def talk(ours: StreamTransport, theirs: StreamTransport, _) -> None:
        said: list[Message] = [HELLO, Credit(1), Put((b"x" * 5000,)), HELLO]
        for message in said:
            await ours.send(message)
        assert [await theirs.recv() for _ in said] == said
        assert ours.bytes_sent == theirs.bytes_received > sum(len(encode(message)) for message in said)
        assert ours.bytes_received == theirs.bytes_sent

    between(talk)


def test_pings_are_answered_and_neither_they_nor_their_answers_are_seen():
    async def talk(ours: StreamTransport, theirs: StreamTransport, _) -> None:
        ours.is_introduced = theirs.is_introduced = True
        for message in (Ping(), Pong(), Ping(), HELLO):
            await ours.send(message)
        assert await theirs.recv() == HELLO
        await theirs.send(Credit(2))
        before = ours.bytes_received
        assert await ours.recv() == Credit(2)
        assert ours.bytes_received - before > 2 * len(encode(Pong()))

    between(talk)


def test_what_came_behind_the_handshake_is_not_lost():
    ours, theirs = initiator(), responder()
    theirs.receive_data(ours.data_to_send())
    ours.receive_data(theirs.data_to_send())
    last = ours.data_to_send()
    assert ours.channel is not None
    theirs.receive_data(last + ours.channel.send(encode(HELLO)))
    assert theirs.channel is not None

    async def talk(_ours, real: StreamTransport, _) -> None:
        assert await StreamTransport(real.stream, theirs.channel).recv() == HELLO

    between(talk)


@pytest.mark.parametrize("reason", [Reason.FINISHED, Reason.BUSY, Reason.UNSUPPORTED_PROTOCOL])
def test_a_close_says_why_and_what_would_do(reason):
    async def talk(ours: StreamTransport, theirs: StreamTransport, _) -> None:
        await ours.send(Close(reason, ("1.0",)))
        with pytest.raises(PeerRefused) as closed:
            await theirs.recv()
        assert (closed.value.reason, closed.value.supported) == (reason, ("1.0",))

    between(talk)


def test_a_close_of_an_unknown_reason_is_a_close():
    async def talk(ours: StreamTransport, theirs: StreamTransport, _) -> None:
        await ours.send(Close(255))
        with pytest.raises(PeerRefused) as closed:
            await theirs.recv()
        assert closed.value.reason is Reason.PROTOCOL_ERROR

    between(talk)


def test_an_end_without_a_close_is_a_failure():
    async def talk(ours: StreamTransport, theirs: StreamTransport, _) -> None:
        await ours.send(HELLO)
        await ours.stream.close()
        assert await theirs.recv() == HELLO
        with pytest.raises(TransportError, match="without a close"):
            await theirs.recv()

    between(talk)


def test_parting_says_so_and_drops_the_connection_whatever_the_link():
    async def talk(ours: StreamTransport, theirs: StreamTransport, network: SimNetwork) -> None:
        parting = asyncio.create_task(ours.part(Reason.SHUTTING_DOWN))
        with pytest.raises(PeerRefused) as closed:
            await theirs.recv()
        assert closed.value.reason is Reason.SHUTTING_DOWN
        await theirs.part(Reason.FINISHED)  # never raises, even to one that is gone
        await parting
        assert not network.live

    between(talk)

    async def cut_off(ours: StreamTransport, theirs: StreamTransport, network: SimNetwork) -> None:
        network.half_open("a", "b")
        await ours.part(Reason.SHUTTING_DOWN)
        with pytest.raises(TransportError):
            await ours.send(HELLO)
        await ours.part(Reason.SHUTTING_DOWN)

    between(cut_off)


def test_silence_ends_a_session_after_the_idle_time_and_not_before():
    async def talk(ours: StreamTransport, theirs: StreamTransport, network: SimNetwork) -> None:
        loop = network.loop
        for _ in range(3):
            waiting = asyncio.create_task(theirs.recv())
            await asyncio.sleep(IDLE_TIMEOUT_S - 1)
            assert not waiting.done()
            await ours.send(HELLO)
            assert await waiting == HELLO
        began = loop.time()
        with pytest.raises(TransportError, match="silent"):
            await theirs.recv()
        assert loop.time() - began == pytest.approx(IDLE_TIMEOUT_S)

    between(talk)


def test_a_frame_that_drips_is_given_its_time_in_total_not_per_byte():
    async def talk(ours: StreamTransport, theirs: StreamTransport, network: SimNetwork) -> None:
        frame = ours.channel.send(encode(Put((b"x" * 5000,))))

        async def drip() -> None:
            for at in range(len(frame)):
                await ours.stream.write(frame[at : at + 1])
                await asyncio.sleep(1)

        dripping = asyncio.create_task(drip())
        began = network.loop.time()
        with pytest.raises(TransportError, match="silent"):
            await theirs.recv()
        assert network.loop.time() - began < FRAME_TIMEOUT_S + 2
        dripping.cancel()

    between(talk, LinkConditions())


def test_what_is_no_message_is_the_peers_fault():
    async def talk(ours: StreamTransport, theirs: StreamTransport, _) -> None:
        await ours.stream.write(ours.channel.send(b"\x81\x18\x63"))
        with pytest.raises(RemoteError) as error:
            await theirs.recv()
        assert error.value.reason is Reason.UNSUPPORTED_MODE

    between(talk)


def test_before_both_ends_are_known_a_ping_is_a_message_like_any_other():
    async def talk(ours: StreamTransport, theirs: StreamTransport, _) -> None:
        await ours.send(Ping())
        assert await theirs.recv() == Ping()

    between(talk)


def test_a_flipped_bit_is_noticed():
    async def talk(ours: StreamTransport, theirs: StreamTransport, network: SimNetwork) -> None:
        network.corrupt("a", "b")
        await ours.send(HELLO)
        await ours.send(HELLO)
        with pytest.raises((RemoteError, TransportError)):
            await theirs.recv()
            await theirs.recv()

    between(talk)
