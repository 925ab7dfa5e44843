"""The ByteStream and Dial contracts over TCP on loopback. tests/sim/test_network.py runs them on simulated links."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from echonode.errors import TransportError
from echonode.host.tcp import Listener, TcpDial
from echonode.sync.streams import ByteStream
from tests.contracts.byte_stream import CHECKS, Check, Pair, holds

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


@asynccontextmanager
async def tcp_pair() -> AsyncIterator[Pair]:
    accepted: asyncio.Future[ByteStream] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def on_stream(stream: ByteStream) -> None:
        accepted.set_result(stream)
        await over.wait()  # the listener closes the stream when its handler returns

    listener = Listener()
    await listener.start("127.0.0.1:0", on_stream, lambda address: None)
    try:
        here = await TcpDial()(listener.addresses[0])
        yield here, await accepted
        here.abort()
    finally:
        over.set()
        await listener.close()


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_tcp_stream_keeps_the_contract(check: Check, loop_factory: LoopFactory) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(holds(check, tcp_pair()))


def test_dialling_where_nobody_listens_raises_a_transport_error() -> None:
    async def main() -> None:
        listener = Listener()
        await listener.start("127.0.0.1:0", lambda stream: asyncio.sleep(0), lambda address: None)
        await listener.close()
        with pytest.raises(TransportError):
            await TcpDial()(listener.addresses[0])

    asyncio.run(main())
