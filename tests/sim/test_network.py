"""Simulated links: they fulfil the ByteStream contract under all conditions, and each fault does what it says."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from echonode.errors import TransportError
from echonode.limits import CONNECTIONS_MAX, DIAL_TIMEOUT_S, FRAME_TIMEOUT_S, KIB, MIB
from echonode.sim.event_loop import SimLoop
from echonode.sim.network import SimNetwork
from echonode.sim.tcp_link import LAN, LinkConditions
from echonode.sync.streams import ByteStream
from tests.contracts.byte_stream import CHECKS, Check, Pair, everything, exactly, holds, some_bytes

LINKS = {
    "lan": LAN,
    "instant": LinkConditions(latency_s=0.0),
    "jittery": LinkConditions(latency_s=0.02, jitter_s=0.5),
    "dripping": LinkConditions(fragment_bytes_max=5000, latency_s=0.0001),
    "narrow": LinkConditions(bandwidth_bytes_s=20e6, window_bytes=16 * KIB),
}


@asynccontextmanager
async def connected(network: SimNetwork) -> AsyncIterator[Pair]:
    accepted: asyncio.Future[ByteStream] = network.loop.create_future()
    over = asyncio.Event()

    async def on_stream(stream: ByteStream) -> None:
        accepted.set_result(stream)
        await over.wait()

    listener = network.listen("there:0", on_stream)
    here = await network.dial("here")(listener.address)
    yield here, await accepted
    over.set()
    here.abort()
    await listener.close()


def on_a_link(
    case: Callable[[SimNetwork, ByteStream, ByteStream], Awaitable[None]], link: LinkConditions = LAN
) -> None:
    """Run `case` with a network and both ends of a connection in it, under several seeds."""

    async def main(loop: SimLoop, seed: int) -> None:
        network = SimNetwork(loop, seed=seed, link=link)
        async with connected(network) as (here, there):
            await case(network, here, there)

    for seed in range(8):
        loop = SimLoop(seed=seed)
        loop.complete(main(loop, seed))


@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_simulated_stream_keeps_the_contract(check: Check, link: LinkConditions) -> None:
    for seed in range(3):
        loop = SimLoop(seed=seed)
        loop.complete(holds(check, connected(SimNetwork(loop, seed=seed, link=link)), timeout_s=3600))


def test_bytes_are_chopped_anywhere_and_sometimes_joined() -> None:
    sizes: set[int] = set()

    async def case(network: SimNetwork, here: ByteStream, there: ByteStream) -> None:
        for _ in range(20):
            await here.write(b"abcd")
        left = 80
        while left:
            part = await there.read()
            sizes.add(len(part))
            left -= len(part)

    on_a_link(case, LinkConditions(fragment_bytes_max=8))
    assert {1, 2, 3} <= sizes
    assert max(sizes) > 4


def test_latency_jitter_and_bandwidth_take_virtual_time() -> None:
    async def case(network: SimNetwork, here: ByteStream, there: ByteStream) -> None:
        began = network.loop.time()
        await here.write(bytes(100_000))
        await exactly(there, 100_000)
        assert 1.5 <= network.loop.time() - began <= 1.8

    on_a_link(case, LinkConditions(latency_s=0.5, jitter_s=0.3, bandwidth_bytes_s=100_000))


@pytest.mark.parametrize("narrow", ["the link", "the uplink"])
def test_connections_of_a_host_share_what_it_can_send(narrow: str) -> None:
    async def case(network: SimNetwork, here: ByteStream, there: ByteStream) -> None:
        network.uplink_bytes_s = 100_000 if narrow == "the uplink" else network.uplink_bytes_s
        async with connected(network) as (also_here, also_there):
            began = network.loop.time()
            for end in (here, also_here):
                await end.write(bytes(50_000))
            for end in (there, also_there):
                await exactly(end, 50_000)
            assert 1.0 <= network.loop.time() - began <= 1.1
            await also_there.write(bytes(50_000))  # the other direction has an uplink of its own
            await exactly(also_here, 50_000)
            assert 1.5 <= network.loop.time() - began <= 1.6

    on_a_link(case, LinkConditions(bandwidth_bytes_s=100_000) if narrow == "the link" else LAN)


def test_the_network_counts_connections_and_delivered_bytes() -> None:
    async def case(network: SimNetwork, here: ByteStream, there: ByteStream) -> None:
        await here.write(bytes(1000))
        await exactly(there, 1000)
        assert network.connections == 1
        assert network.delivered["here", "there"] == 1000
        assert network.delivered["there", "here"] == 0

    on_a_link(case)


def test_a_host_refuses_a_closed_port_at_once_and_a_missing_host_does_not_answer() -> None:
    async def case(network: SimNetwork, here: ByteStream, there: ByteStream) -> None:
        for address, message, within_s in (("there:1", "refused", 0.1), ("nowhere:1", "did not answer", 6.0)):
            began = network.loop.time()
            with pytest.raises(TransportError, match=message):
                await network.dial("here")(address)
            assert network.loop.time() - began < within_s

    on_a_link(case)


def test_an_address_is_listened_on_once() -> None:
    async def case(network: SimNetwork, here: ByteStream, there: ByteStream) -> None:
        listener = network.listen("there:4000", lambda stream: asyncio.sleep(0))
        with pytest.raises(TransportError, match="taken"):
            network.listen("there:4000", lambda stream: asyncio.sleep(0))
        await listener.close()
        with pytest.raises(TransportError, match="refused"):
            await network.dial("here")("there:4000")
        await network.listen("there:4000", lambda stream: asyncio.sleep(0)).close()

    on_a_link(case)


def test_a_listener_drops_connections_of_finished_handlers_and_those_over_the_limit() -> None:
    async def case(network: SimNetwork, here: ByteStream, there: ByteStream) -> None:
        over = asyncio.Event()
        listener = network.listen("there:4000", lambda stream: over.wait())
        dial = network.dial("here")
        streams = [await dial("there:4000") for _ in range(CONNECTIONS_MAX)]
        assert not await ends(await dial("there:4000"))
        over.set()
        assert [await ends(stream) for stream in streams] == [b""] * CONNECTIONS_MAX
        await listener.close()

    on_a_link(case)


def test_a_cancelled_dial_leaves_no_connection_behind() -> None:
    async def case(network: SimNetwork, here: ByteStream, there: ByteStream) -> None:
        accepted: list[ByteStream] = []

        async def on_stream(stream: ByteStream) -> None:
            accepted.append(stream)
            await ends(stream)

        listener = network.listen("there:4000", on_stream)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.15):
                await network.dial("here")("there:4000")
        assert len(accepted) == 1
        await ends(accepted[0])
        await listener.close()
        assert len(network.live) == 1

    on_a_link(case, LinkConditions(latency_s=0.1))


def test_a_cut_ends_both_sides() -> None:
    async def case(network: SimNetwork, here: ByteStream, there: ByteStream) -> None:
        reading = asyncio.create_task(ends(there))
        await asyncio.sleep(0)
        network.cut("there", "here")
        assert await ends(here) == b""
        assert await reading == b""
        for stream in (here, there):
            with pytest.raises(TransportError):
                await stream.write(b"x")
        assert not network.live

    on_a_link(case)


@pytest.mark.parametrize("after_bytes", [1, 2, 499, 500, 999])
def test_a_cut_may_come_after_any_byte(after_bytes: int) -> None:
    async def case(network: SimNetwork, here: ByteStream, there: ByteStream) -> None:
        network.cut("here", "there", after_bytes=after_bytes)
        data = some_bytes(1000)
        await here.write(data)
        assert data[:after_bytes].startswith(await ends(there))
        assert network.delivered["here", "there"] == after_bytes

    on_a_link(case)


def test_a_link_may_cut_each_connection_after_so_many_bytes() -> None:
    async def case(network: SimNetwork, here: ByteStream, there: ByteStream) -> None:
        network.set_link("here", "there", LinkConditions(cut_after_bytes=10))
        listener = network.listen("there:4000", everything_back)
        for _ in range(3):
            stream = await network.dial("here")("there:4000")
            await stream.write(bytes(6))
            assert len(await ends(stream)) <= 4
        assert network.delivered["here", "there"] + network.delivered["there", "here"] == 30
        await listener.close()

    async def everything_back(stream: ByteStream) -> None:
        try:
            while data := await stream.read():
                await stream.write(data)
        except TransportError:
            pass

    on_a_link(case)


def test_a_cut_is_seen_as_an_error_or_as_an_early_end() -> None:
    seen: set[str] = set()

    async def case(network: SimNetwork, here: ByteStream, there: ByteStream) -> None:
        network.cut("here", "there")
        for stream in (here, there):
            try:
                seen.add("end" if await stream.read() == b"" else "bytes")
            except TransportError:
                seen.add("error")

    on_a_link(case)
    assert seen == {"end", "error"}


def test_a_block_holds_bytes_back_until_it_is_healed() -> None:
    async def case(network: SimNetwork, here: ByteStream, there: ByteStream) -> None:
        network.block("here", "there")
        await here.write(b"late")
        reading = asyncio.create_task(there.read())
        assert (await asyncio.wait({reading}, timeout=20))[1], "nothing may come through"
        network.heal()
        assert (await reading + await exactly(there, 4 - len(reading.result()))) == b"late"

    on_a_link(case)


def test_a_one_way_block_lets_a_window_through_and_then_stalls_for_want_of_acknowledgements() -> None:
    async def case(network: SimNetwork, here: ByteStream, there: ByteStream) -> None:
        network.block("there", "here")
        sending = asyncio.create_task(here.write(bytes(MIB)))
        window = LAN.window_bytes
        await exactly(there, window)
        reading = asyncio.create_task(there.read())
        assert (await asyncio.wait({reading}, timeout=20))[1]
        network.heal()
        await exactly(there, MIB - window - len(await reading))
        await sending

    on_a_link(case)


def test_a_partition_divides_groups_and_lets_dials_time_out() -> None:
    async def case(network: SimNetwork, here: ByteStream, there: ByteStream) -> None:
        network.partition({"here", "friend"}, {"there"})
        listener = network.listen("friend:4000", lambda stream: stream.close())
        assert await ends(await network.dial("here")("friend:4000")) == b""
        for source, address in (("here", "there:4000"), ("there", "friend:4000")):
            began = network.loop.time()
            with pytest.raises(TransportError, match="did not answer"):
                await network.dial(source)(address)
            assert network.loop.time() - began == pytest.approx(DIAL_TIMEOUT_S, abs=0.1)
        network.heal()
        assert await ends(await network.dial("there")("friend:4000")) == b""
        await listener.close()

    on_a_link(case)


def test_half_open_bytes_vanish_and_a_full_queue_ends_the_writer() -> None:
    async def case(network: SimNetwork, here: ByteStream, there: ByteStream) -> None:
        network.half_open("here", "there")
        reading = asyncio.create_task(there.read())
        await here.write(b"into the void")
        await here.write(bytes(MIB))
        began = network.loop.time()
        with pytest.raises(TransportError, match="took nothing"):
            await here.write(bytes(MIB))
        assert network.loop.time() - began == pytest.approx(FRAME_TIMEOUT_S)
        assert not reading.done()
        there.abort()
        with pytest.raises(TransportError):
            await reading

    on_a_link(case)


def test_a_half_open_close_ends_and_the_peer_never_hears_of_it() -> None:
    async def case(network: SimNetwork, here: ByteStream, there: ByteStream) -> None:
        network.half_open("here", "there")
        reading = asyncio.create_task(there.read())
        await here.close()
        assert (await asyncio.wait({reading}, timeout=1000))[1]
        reading.cancel()

    on_a_link(case)


def test_corruption_flips_one_bit_of_one_direction() -> None:
    async def case(network: SimNetwork, here: ByteStream, there: ByteStream) -> None:
        data = some_bytes(1000)
        network.corrupt("here", "there")
        await here.write(data)
        await there.write(data)
        got = await exactly(there, len(data))
        changed = [ours ^ theirs for ours, theirs in zip(data, got, strict=True) if ours != theirs]
        assert len(changed) == 1
        assert changed[0].bit_count() == 1
        assert await exactly(here, len(data)) == data

    on_a_link(case)


def test_a_crashed_host_is_heard_by_its_peers_and_listens_no_more() -> None:
    async def case(network: SimNetwork, here: ByteStream, there: ByteStream) -> None:
        network.listen("there:4000", lambda stream: asyncio.sleep(0))
        network.crash("there")
        assert await ends(here) == b""
        with pytest.raises(TransportError):
            await there.read()
        with pytest.raises(TransportError, match="refused"):
            await network.dial("here")("there:4000")

    on_a_link(case)


def test_bytes_for_a_socket_that_is_gone_are_answered_by_a_reset() -> None:
    async def case(network: SimNetwork, here: ByteStream, there: ByteStream) -> None:
        there.abort()
        await asyncio.sleep(0)
        await here.write(b"anybody?")
        await asyncio.sleep(0.1)
        with pytest.raises(TransportError, match="reset by the peer"):
            await here.write(b"anybody?")
        assert not network.live

    on_a_link(case)


def test_a_reset_may_cost_the_peer_bytes_that_it_had_not_read() -> None:
    lost: set[bool] = set()

    async def case(network: SimNetwork, here: ByteStream, there: ByteStream) -> None:
        await here.write(b"unread")
        await asyncio.sleep(1)
        here.abort()
        await asyncio.sleep(1)
        lost.add(await ends(there) != b"unread")

    on_a_link(case)
    assert lost == {True, False}


def test_a_network_forgets_connections_that_are_over() -> None:
    async def case(network: SimNetwork, here: ByteStream, there: ByteStream) -> None:
        await asyncio.gather(here.close(), there.close())
        assert not network.live

    on_a_link(case)


async def ends(stream: ByteStream) -> bytes:
    """Return the bytes that come before the stream ends, by an end of file or an error."""
    data = b""
    try:
        while part := await stream.read():
            data += part
    except TransportError:
        pass
    return data


def test_ends_and_everything_agree_on_a_clean_end() -> None:
    async def case(network: SimNetwork, here: ByteStream, there: ByteStream) -> None:
        closing = asyncio.create_task(here.close())
        assert await everything(there) == b""
        await there.close()
        await closing

    on_a_link(case)
