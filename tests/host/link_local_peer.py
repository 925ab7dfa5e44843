"""Two machines joined by two cables, each in a network namespace: for test_tcp.py.

One of them has the same link-local address on both cables, so that only the scope tells which cable is meant. With the
name of an event loop as its argument this module is the other machine, and starts the one.
"""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable

import uvloop

from echonode.errors import ConfigError, TransportError
from echonode.host.tcp import Listener, TcpDial
from echonode.sync.streams import ByteStream
from tests.host.namespaces import ip

SHARED = "fe80::77"


def answer(cable: str) -> Callable[[ByteStream], Awaitable[None]]:
    async def name_it(stream: ByteStream) -> None:
        await stream.write(f"{cable} {stream.address}".encode())
        await stream.close()

    return name_it


async def serve() -> None:
    """Wait for the cables, then listen on each and answer with its name."""
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    listeners = []
    for cable in ("red1", "blue1"):
        ip("address", "add", f"{SHARED}/64", "dev", cable, "nodad")
        ip("link", "set", cable, "up")
        listener = Listener()
        await listener.start(f"[{SHARED}%{cable}]:4010", answer(cable), lambda _: None)
        assert listener.addresses == (f"[{SHARED}%{cable}]:4010",), listener.addresses
        listeners.append(listener)
    print("listening", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    for listener in listeners:
        await listener.close()


async def read_all(stream: ByteStream) -> bytes:
    data = b""
    while more := await stream.read():
        data += more
    return data


async def dial() -> None:
    """Dial the same address through both cables, by name and by number, and an address of no cable."""
    peer = await asyncio.create_subprocess_exec(
        *("unshare", "--net", sys.executable, "-m", "tests.host.link_local_peer", sys.argv[1], "serve"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert peer.stdin is not None
    assert peer.stdout is not None
    assert await peer.stdout.readline() == b"ready\n"
    for cable, own in (("red", "fe80::1"), ("blue", "fe80::2")):
        ip("link", "add", f"{cable}0", "type", "veth", "peer", "name", f"{cable}1")
        ip("link", "set", f"{cable}1", "netns", str(peer.pid))
        ip("address", "add", f"{own}/64", "dev", f"{cable}0", "nodad")
        ip("link", "set", f"{cable}0", "up")
    peer.stdin.write(b"\n")
    assert await peer.stdout.readline() == b"listening\n"
    for cable, own in (("red", "fe80::1"), ("blue", "fe80::2")):
        number = ip("-o", "link", "show", f"{cable}0").partition(":")[0]
        for scope in (f"{cable}0", number):
            stream = await TcpDial()(f"[{SHARED}%{scope}]:4010")
            assert stream.address == f"[{SHARED}%{cable}0]:4010", stream.address
            said = (await read_all(stream)).decode()
            assert said.startswith(f"{cable}1 [{own}%{cable}1]:"), said
            await stream.close()
    for address, expected in (
        (f"[{SHARED}%green0]:4010", "there is no interface 'green0' here"),
        (f"[{SHARED}]:4010", f"the link-local address {SHARED} needs its interface, as in [{SHARED}%eth0]:4010"),
        (f"[{SHARED}%red0]:4011", f"cannot connect to [{SHARED}%red0]:4011: connection refused"),
    ):
        try:
            await TcpDial()(address)
        except TransportError as error:
            assert str(error) == expected, error
        else:
            raise AssertionError(f"{address} was reached")
    for address in (f"[{SHARED}%green0]:0", "[fe80::9%red0]:0", "[fe80::1]:0"):
        try:
            await Listener().start(address, answer(""), lambda _: None)
        except ConfigError as error:
            assert str(error).startswith(f"cannot listen on {address}: "), error
        else:
            raise AssertionError(f"{address} was bound")
    peer.stdin.write(b"\n")
    await asyncio.wait_for(peer.wait(), 10)


if __name__ == "__main__":
    factory = uvloop.new_event_loop if sys.argv[1] == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve() if "serve" in sys.argv else dial())
