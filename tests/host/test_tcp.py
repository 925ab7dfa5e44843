"""TCP on loopback, two real ends each time, on asyncio's loop and on uvloop's."""

import asyncio
import errno
import logging
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import pytest

from echonode.errors import ConfigError, TransportError
from echonode.host import tcp
from echonode.host.tcp import DEFAULT_PORT, Listener, TcpDial, format_address, parse_address, with_interface_name
from echonode.limits import DIAL_TIMEOUT_S, FRAME_TIMEOUT_S, SEND_QUEUE_BYTES_MAX
from echonode.sync.streams import ByteStream
from tests.host.namespaces import isolated

WAIT_S = 20.0
Test = Callable[[], Coroutine[Any, Any, None]]
Handler = Callable[[ByteStream], Awaitable[None]]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Test], None]:
    factory = asyncio.new_event_loop
    if request.param == "uvloop":
        factory = pytest.importorskip("uvloop").new_event_loop

    def run_it(test: Test) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(WAIT_S):
                await test()

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(bounded())

    return run_it


@asynccontextmanager
async def listening(
    on_stream: Handler, where: str = "127.0.0.1:0", on_refused: Callable[[str], None] = lambda _: None
) -> AsyncIterator[str]:
    listener = Listener()
    await listener.start(where, on_stream, on_refused)
    try:
        yield listener.addresses[0]
    finally:
        await listener.close()


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[ByteStream, ByteStream]]:
    """Yield both ends of one connection: the dialling one and the accepted one."""
    accepted: asyncio.Queue[ByteStream] = asyncio.Queue()
    done = asyncio.Event()

    async def hold(stream: ByteStream) -> None:
        accepted.put_nowait(stream)
        await done.wait()

    async with listening(hold) as address:
        dialled = await TcpDial()(address)
        try:
            yield dialled, await accepted.get()
        finally:
            dialled.abort()
            done.set()


async def read_all(stream: ByteStream) -> bytes:
    read = bytearray()
    while data := await stream.read():
        read += data
    return bytes(read)


async def full(stream: ByteStream) -> None:
    """Wait until the send queue is over its limit."""
    transport = stream._writer.transport  # type: ignore[attr-defined]
    while transport.get_write_buffer_size() <= SEND_QUEUE_BYTES_MAX:  # noqa: ASYNC110
        await asyncio.sleep(0)  # a transport does not report that it is full


def test_bytes_arrive_in_both_directions_and_each_end_knows_the_others_address(run: Callable[[Test], None]) -> None:
    async def test() -> None:
        async with pair() as (one, two):
            await one.write(b"question")
            assert await two.read() == b"question"
            await two.write(b"answer")
            assert await one.read() == b"answer"
            assert parse_address(one.address)[0] == parse_address(two.address)[0] == "127.0.0.1"

    run(test)


def test_nothing_waits_for_more_to_send(run: Callable[[Test], None]) -> None:
    async def test() -> None:
        async with pair() as ends:
            for end in ends:
                connection = end._writer.get_extra_info("socket")  # type: ignore[attr-defined]
                assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(test)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="these options are Linux's")
def test_the_kernel_has_the_options_that_are_meant_in_its_units(run: Callable[[Test], None]) -> None:
    """Read them back at both ends; ss, another program, shows the running timer too."""
    meant = {
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 60,  # seconds
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 10,  # seconds
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 3,
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): 30_000,  # milliseconds
        (socket.IPPROTO_TCP, socket.TCP_NODELAY): 1,
    }
    assert FRAME_TIMEOUT_S == 30

    async def test() -> None:
        async with pair() as ends:
            for end in ends:
                connection = end._writer.get_extra_info("socket")  # type: ignore[attr-defined]
                assert {option: connection.getsockopt(*option) for option in meant} == meant
            if shutil.which("ss") is None:
                return
            port = parse_address(ends[0].address)[1]
            shown = await asyncio.to_thread(subprocess.check_output, ["ss", "-tno", "state", "established"], text=True)
            timers = re.findall(rf"127\.0\.0\.1:{port}\s.*timer:\(keepalive,(\S+),0\)", shown)
            assert timers, shown
            assert set(timers) <= {"59sec", "1min", "60sec"}

    run(test)


def test_a_listening_socket_has_the_options_that_are_meant(run: Callable[[Test], None]) -> None:
    async def test() -> None:
        listener = Listener()
        await listener.start(None, lambda stream: stream.close(), lambda _: None)
        sockets = [each for server in listener._servers for each in server.sockets]
        assert socket.AF_INET in {each.family for each in sockets}
        for each in sockets:
            assert each.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
            if each.family == socket.AF_INET6:
                assert each.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
        await listener.close()

    run(test)


def test_what_was_written_before_close_is_read_even_when_the_peer_had_sent_something_unread(
    run: Callable[[Test], None],
) -> None:
    """Without reading on, the kernel would answer the unread bytes with a reset, which destroys the last message."""

    async def test() -> None:
        async with pair() as (one, two):
            await two.write(b"never read" * 1000)
            await one.write(b"x" * 3_000_000)
            closing = asyncio.create_task(one.close())
            assert len(await read_all(two)) == 3_000_000
            await two.close()
            await closing
            await one.close()
            with pytest.raises(TransportError, match="closed"):
                await one.write(b"more")

    run(test)


def test_a_peer_that_ended_its_side_can_still_be_answered(run: Callable[[Test], None]) -> None:
    async def test() -> None:
        async def answer(stream: ByteStream) -> None:
            asked = await read_all(stream)
            await stream.write(b"you said " + asked)
            await stream.close()

        async with listening(answer) as address:
            reader, writer = await asyncio.open_connection(*parse_address(address))
            writer.write(b"hello")
            writer.write_eof()
            assert await reader.read() == b"you said hello"
            writer.close()

    run(test)


def test_abort_wakes_a_waiting_reader_at_both_ends(run: Callable[[Test], None]) -> None:
    async def test() -> None:
        async with pair() as (one, two):
            waiting = [asyncio.create_task(one.read()), asyncio.create_task(two.read())]
            await asyncio.sleep(0)
            one.abort()
            with pytest.raises(TransportError):
                await waiting[0]
            try:
                assert await waiting[1] == b""
            except TransportError:
                pass  # a reset, when the kernel had bytes to drop
            one.abort()

    run(test)


def test_a_slow_reader_holds_the_writer_back_within_the_send_queue(run: Callable[[Test], None]) -> None:
    async def test() -> None:
        async with pair() as (one, two):
            for end in (one, two):  # with its default buffers the kernel alone would take megabytes
                end._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)  # type: ignore[attr-defined]
            sent = 0

            async def pour() -> None:
                nonlocal sent
                while sent < 64 * SEND_QUEUE_BYTES_MAX:
                    await one.write(bytes(SEND_QUEUE_BYTES_MAX // 4))
                    sent += SEND_QUEUE_BYTES_MAX // 4

            pouring = asyncio.create_task(pour())
            transport = one._writer.transport  # type: ignore[attr-defined]
            await full(one)
            assert transport.get_write_buffer_size() <= SEND_QUEUE_BYTES_MAX * 5 // 4
            assert sent < 32 * SEND_QUEUE_BYTES_MAX
            got = 0
            while got < 64 * SEND_QUEUE_BYTES_MAX:
                got += len(await two.read())
            await pouring
            assert transport.get_write_buffer_size() <= SEND_QUEUE_BYTES_MAX

    run(test)


def test_a_peer_that_takes_nothing_ends_the_write(run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "FRAME_TIMEOUT_S", 0.05)

    async def test() -> None:
        async with pair() as (one, _):
            with pytest.raises(TransportError, match="took nothing"):
                while True:
                    await one.write(bytes(SEND_QUEUE_BYTES_MAX))
            with pytest.raises(TransportError):
                await one.read()

    run(test)


def test_abort_wakes_a_writer_that_waits_for_room(run: Callable[[Test], None]) -> None:
    async def test() -> None:
        async with pair() as (one, _):

            async def pour() -> None:
                while True:
                    await one.write(bytes(SEND_QUEUE_BYTES_MAX))

            pouring = asyncio.create_task(pour())
            await full(one)
            one.abort()
            with pytest.raises(TransportError):
                await pouring

    run(test)


def test_close_gives_up_on_a_peer_that_never_ends_its_side(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "_CLOSE_TIMEOUT_S", 0.05)

    async def test() -> None:
        async with pair() as (one, two):
            reading = asyncio.create_task(one.read())  # another task waits in a read
            await one.close()
            with pytest.raises(TransportError):
                await reading
            try:
                while await two.read():
                    pass
            except TransportError:
                pass

    run(test)


def test_a_port_nobody_listens_on_and_an_address_that_is_none_are_transport_errors(
    run: Callable[[Test], None],
) -> None:
    async def test() -> None:
        async with listening(lambda stream: stream.close()) as address:
            pass
        with pytest.raises(TransportError, match="connection refused"):
            await TcpDial()(address)
        for unusable in ("nonsense", "127.0.0.1:0", "256.1.1.1:7", "a..b:7", "\x1b[31m:7"):
            with pytest.raises(TransportError) as caught:
                await TcpDial()(unusable)
            assert "\x1b" not in str(caught.value)

    run(test)


@contextmanager
def silent(host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Yield the address of a listener that accepts no connection and has no room in its queue."""
    with socket.socket() as full, ExitStack() as stack:
        full.bind((host, port))
        full.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield format_address(*full.getsockname())


def test_a_silent_address_is_given_up_after_the_dial_timeout(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "DIAL_TIMEOUT_S", 0.05)

    async def test() -> None:
        with silent() as address, pytest.raises(TransportError, match="did not answer"):
            await TcpDial()(address)

    run(test)


def test_a_name_is_reached_by_the_first_of_its_addresses_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """On asyncio's loop, which resolves names with this function."""

    def resolve(host: str, port: int, *_: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ("127.0.0.2", "127.0.0.1")]

    async def test() -> None:
        async with listening(lambda stream: stream.close()) as address:
            _, port = parse_address(address)
            monkeypatch.setattr(socket, "getaddrinfo", resolve)
            with silent("127.0.0.2", port):
                stream = await TcpDial()(f"many.test:{port}")
                assert stream.address == address
                stream.abort()

    asyncio.run(asyncio.wait_for(test(), DIAL_TIMEOUT_S / 2))


def test_families_take_turns_in_the_addresses_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, port: int, *_: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        v6 = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ("2001:db8::1", "2001:db8::2")]
        return [*v6, (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    found = asyncio.run(tcp._addresses_of("many.test", 7))
    assert found == ["[2001:db8::1]:7", "192.0.2.1:7", "[2001:db8::2]:7"]


def test_the_link_local_address_of_a_name_keeps_its_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    lo = socket.if_nametoindex("lo")

    def resolve(host: str, port: int, *_: object) -> list[tuple[int, int, int, str, tuple[str, int, int, int]]]:
        of = [("fe80::1", lo), ("fe80::2", 0), ("2001:db8::1", 0)]
        return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (ip, port, 0, scope)) for ip, scope in of]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    found = asyncio.run(tcp._addresses_of("kitchen.local", 7))
    assert found == [f"[fe80::1%{lo}]:7", "[fe80::2]:7", "[2001:db8::1]:7"]
    with pytest.raises(TransportError, match="needs its interface"):
        asyncio.run(TcpDial()._connect(found[1]))


def test_ipv6_is_spoken_in_brackets(run: Callable[[Test], None]) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        if probe.connect_ex(("::1", 9)) == errno.EADDRNOTAVAIL:
            pytest.skip("no IPv6 on loopback here")

    async def test() -> None:
        seen: asyncio.Queue[str] = asyncio.Queue()

        async def note(stream: ByteStream) -> None:
            seen.put_nowait(stream.address)

        async with listening(note, "[::1]:0") as address:
            assert address.startswith("[::1]:")
            stream = await TcpDial()(address)
            assert stream.address == address
            assert (await seen.get()).startswith("[::1]:")
            stream.abort()

    run(test)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_scope_of_a_link_local_address_chooses_the_interface(loop: str) -> None:
    isolated("tests.host.link_local_peer", loop)


def test_an_interface_is_shown_by_its_name() -> None:
    number, name = socket.if_nameindex()[0]
    assert with_interface_name(f"fe80::1%{number}") == f"fe80::1%{name}"
    for host in ("fe80::1%eth0", "fe80::1", "10.0.0.1", "fe80::1%999999", f"fe80::1%{10**30}"):
        assert with_interface_name(host) == host


def test_connections_over_the_limit_are_refused_and_room_comes_back(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "CONNECTIONS_MAX", 2)

    async def test() -> None:
        refused: asyncio.Queue[str] = asyncio.Queue()

        async def echo(stream: ByteStream) -> None:
            await stream.write(await stream.read())
            await stream.close()

        async with listening(echo, on_refused=refused.put_nowait) as address:
            first, second, third = [await TcpDial()(address) for _ in range(3)]
            assert (await refused.get()).startswith("127.0.0.1:")
            with pytest.raises((TransportError, AssertionError)):
                assert await third.read()
            await first.write(b"first")
            assert await read_all(first) == b"first"
            await first.close()
            answer = b""
            while not answer:  # the first one's handler may be about to end
                fourth = await TcpDial()(address)
                try:
                    await fourth.write(b"fourth")
                    answer = await read_all(fourth)
                except TransportError:
                    pass
                fourth.abort()
            assert answer == b"fourth"
            for stream in (second, third):
                stream.abort()

    run(test)


def test_closing_ends_hundreds_of_handlers_without_a_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tcp, "CONNECTIONS_MAX", 200)

    async def test() -> None:
        listener = Listener()
        entered = asyncio.Semaphore(0)

        async def hang(stream: ByteStream) -> None:
            entered.release()
            await stream.read()

        await listener.start("127.0.0.1:0", hang, lambda _: None)
        streams = [await TcpDial()(listener.addresses[0]) for _ in range(200)]
        for _ in streams:
            await entered.acquire()
        await listener.close()
        for stream in streams:
            with pytest.raises((TransportError, AssertionError)):
                assert await stream.read()
            stream.abort()
        with pytest.raises(TransportError):
            await TcpDial()(listener.addresses[0])

    with caplog.at_level(logging.DEBUG):
        asyncio.run(asyncio.wait_for(test(), WAIT_S), debug=False)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_handler_that_returns_without_closing_leaves_nothing_open(run: Callable[[Test], None]) -> None:
    async def test() -> None:
        async def forget(stream: ByteStream) -> None:
            await stream.read()

        async with listening(forget) as address:
            stream = await TcpDial()(address)
            await stream.write(b"hello")
            with pytest.raises((TransportError, AssertionError)):
                assert await stream.read()
            stream.abort()

    run(test)


def test_a_port_that_was_asked_for_and_is_taken_is_an_error_in_a_sentence(run: Callable[[Test], None]) -> None:
    async def test() -> None:
        async with listening(lambda stream: stream.close()) as address:
            with pytest.raises(ConfigError, match=f"cannot listen on {address}: another program has that port"):
                await Listener().start(address, lambda stream: stream.close(), lambda _: None)

    run(test)


def test_an_address_of_another_machine_cannot_be_listened_on(run: Callable[[Test], None]) -> None:
    async def test() -> None:
        with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.77:0: cannot assign"):
            await Listener().start("192.0.2.77:0", lambda stream: stream.close(), lambda _: None)
        with pytest.raises(ConfigError, match=r"cannot listen on no\.such\.invalid:0"):
            await Listener().start("no.such.invalid:0", lambda stream: stream.close(), lambda _: None)

    run(test)


def test_a_taken_default_port_nobody_asked_for_becomes_another_one_for_every_family(
    run: Callable[[Test], None],
) -> None:
    async def test() -> None:
        async def close(stream: ByteStream) -> None:
            await stream.close()

        with socket.socket() as taken:
            try:
                taken.bind(("0.0.0.0", DEFAULT_PORT))
                taken.listen()
            except OSError:
                pass  # a node runs on this machine: the port is taken all the same
            listener = Listener()
            assert await listener.start(None, close, lambda _: None) is True
            ports = {parse_address(each)[1] for each in listener.addresses}
            assert len(ports) == 1
            assert DEFAULT_PORT not in ports
            stream = await TcpDial()(f"127.0.0.1:{ports.pop()}")
            await stream.close()
            await listener.close()

    run(test)


def test_host_and_port_are_read_from_text_and_written_back() -> None:
    for text, parsed in {
        "127.0.0.1:22087": ("127.0.0.1", 22087),
        "tower.lan:1": ("tower.lan", 1),
        "[::1]:65535": ("::1", 65535),
        "[fe80::1%eth0]:7": ("fe80::1%eth0", 7),
        "my_host-2:0": ("my_host-2", 0),
    }.items():
        assert parse_address(text) == parsed
        assert format_address(*parsed) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "host",
        "host:",
        ":7",
        "host:65536",
        "host:-1",
        "host:٣",
        "::1:7",
        "[::1]",
        "[x]:7",
        "a b:7",
        "a\n:7",
        "-:7",
    ],
)
def test_what_is_no_address_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(ConfigError, match="is not an address"):
        parse_address(text)
