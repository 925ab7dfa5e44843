"""The socket and its server: permissions, the remains of a crash, the stop."""

import asyncio
import grp
import json
import logging
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from echonode.api import server
from echonode.api.server import ApiServer
from echonode.errors import ConfigError
from tests.api.serving import VERSION, WITHIN_S, Connection, Served, run, serving

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.SelectorEventLoop]
try:
    import uvloop

    LOOPS.append(uvloop.new_event_loop)
except ImportError:
    pass
on_each_loop = pytest.mark.parametrize("loop_factory", LOOPS, ids=lambda factory: factory.__module__.partition(".")[0])

SOME = b"x" * 100_000


def another(served: Served) -> ApiServer:
    return ApiServer(served.node, socket_path=served.socket, version=VERSION)


@on_each_loop
def test_the_socket_is_for_its_owner_only_and_goes_when_the_server_does(tmp_path: Path, loop_factory) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            assert stat.S_IMODE(served.socket.stat().st_mode) == 0o600
            assert (await served.ask("GET", "/v1/status")).json()["api"] == [str(served.socket)]
            await served.server.close()
            assert not served.socket.exists()
            await served.server.close()

    umask = os.umask(0)
    try:
        run(test, loop_factory)
        assert os.umask(0) == 0, "the process's umask was not given back"
    finally:
        os.umask(umask)


def test_a_socket_left_by_a_crash_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(tmp_path / "one.sock"))

    async def test() -> None:
        async with serving(tmp_path) as served:
            assert (await served.ask("GET", "/v1/status")).status == 200

    run(test)


def test_a_socket_somebody_listens_on_is_left_alone(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            with pytest.raises(ConfigError, match="already listens"):
                await another(served).start()
            assert (await served.ask("GET", "/v1/status")).status == 200

    run(test)


def test_a_socket_whose_owner_is_too_busy_to_answer_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "two.sock"
    with socket.socket(socket.AF_UNIX) as busy, ExitStack() as waiting:
        busy.bind(str(path))
        busy.listen(0)
        while True:
            client = waiting.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            try:
                client.connect(str(path))
            except BlockingIOError:
                break

        async def test() -> None:
            async with serving(tmp_path) as served:
                with pytest.raises(ConfigError, match="already listens"):
                    await ApiServer(served.node, socket_path=path, version=VERSION).start()

        run(test)
        assert path.is_socket()


def test_a_file_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            path = tmp_path / "notes.txt"
            path.write_text("precious")
            with pytest.raises(ConfigError, match="of another kind"):
                await ApiServer(served.node, socket_path=path, version=VERSION).start()
            assert path.read_text() == "precious"

    run(test)


@pytest.mark.parametrize("name", ["n" * 120, "missing/one.sock"])
def test_a_path_that_no_socket_can_have_is_one_plain_sentence(tmp_path: Path, name: str) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            with pytest.raises(ConfigError, match=r"^The API socket .* cannot be made: .*\.$"):
                await ApiServer(served.node, socket_path=tmp_path / name, version=VERSION).start()

    run(test)


def test_closing_leaves_the_socket_of_whoever_came_after(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            served.socket.unlink()
            heir = another(served)
            await heir.start()
            await served.server.close()
            assert (await served.ask("GET", "/v1/status")).status == 200
            await heir.close()

    run(test)


def test_one_connection_carries_many_requests_refused_ones_included(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served, served.connection() as connection:
            for target, body, status in [
                ("?id=a", b"1", 200),
                ("?id=b", SOME * 3, 413),
                ("?nonsense=1", SOME, 400),
                ("?id=c", b"2", 200),
            ]:
                answer = await connection.ask("PUT", f"/v1/records/main{target}", body)
                assert answer.status == status
                connection.next_request()
            assert len((await connection.ask("GET", "/v1/records/main/list")).lines()) == 2

    run(test)


def test_a_body_too_large_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served, served.connection() as connection:
            await connection.begin("PUT", "/v1/records/main?id=a", [("content-length", str(10**12))])
            assert (await connection.answer()).code == "too_large"

    run(test)


def test_a_body_of_undeclared_length_is_refused_once_it_is_too_large(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served, served.connection() as connection:
            await connection.begin("PUT", "/v1/records/main?id=a", [("transfer-encoding", "chunked")])
            await connection.send(SOME)
            await connection.send(SOME)
            assert (await connection.answer()).code == "too_large"

    run(test)


def test_what_is_no_http_is_refused_and_the_server_lives_on(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            for noise in [b"\0" * 100 + b"\r\n\r\n", b"GET / HTTP/1.1\r\nhost: a\r\nx: " + SOME]:
                reader, writer = await asyncio.open_unix_connection(str(served.socket))
                writer.write(noise)
                assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
                writer.close()
            assert (await served.ask("GET", "/v1/status")).status == 200

    run(test)


# -- stopping --------------------------------------------------------------------------------------------------------


async def idle(connection: Connection) -> None:
    await connection.ask("GET", "/v1/status")


async def listening(connection: Connection) -> None:
    await connection.begin("GET", "/v1/events?types=node.stopped")
    await connection.end()
    assert (await connection.head()).status == 200
    assert await anext(aiter(connection.data())) == b": listening\n\n"


async def half_sent(connection: Connection) -> None:
    await connection.begin("PUT", "/v1/records/main?id=half", [("content-length", "10")])
    await connection.send(b"12345")
    await asyncio.sleep(0)


async def half_imported(connection: Connection) -> None:
    await connection.begin("POST", "/v1/records/main/import", [("transfer-encoding", "chunked")])
    for number in range(0, 1500, 500):
        await connection.send(b"".join(b'{"name": "i%d"}\n' % (number + i) for i in range(500)))
    assert (await connection.head()).status == 200
    assert b'"lines":200' in await anext(aiter(connection.data()))  # a batch, as others write meanwhile


async def not_reading(connection: Connection) -> None:
    await connection.begin("GET", "/v1/records/big/list?body=1")
    await connection.end()
    assert (await connection.head()).status == 200


@on_each_loop
def test_it_stops_at_once_whatever_clients_are_doing_and_logs_nothing(tmp_path: Path, loop_factory, caplog) -> None:
    caplog.set_level(logging.INFO)

    async def test() -> None:
        async with serving(tmp_path) as served:
            for number in range(60):
                await served.put(f"r{number}", SOME, context="big")
            connections = []
            for begin in (idle, listening, half_sent, half_imported, not_reading):
                connection = Connection(*await asyncio.open_unix_connection(str(served.socket)))
                await begin(connection)
                connections.append(connection)
            await asyncio.wait_for(served.server.close(), WITHIN_S)

            _, events, put, imported, listed = connections
            assert [data async for data in events.data()] == [b'event: end\ndata: {"reason":"stopping"}\n\n']
            assert (await put.answer()).code == "stopping"
            last = [data async for data in imported.data()]
            assert b'"code":"stopping"' in last[-1]
            written = json.loads(last[-1].splitlines()[-1])["written"]
            assert written in range(200, 1500, 200)
            with pytest.raises(Exception, match="closed connection"):  # the server cut it, because it did not read
                [data async for data in listed.data()]
            with pytest.raises((FileNotFoundError, ConnectionRefusedError)):
                await served.ask("GET", "/v1/status")
            assert await served.node.records.heads("main", served.node.id, "half") == []
            assert await served.node.records.heads("main", served.node.id, f"i{written - 1}")
            assert await served.node.records.heads("main", served.node.id, f"i{written}") == []
            for connection in connections:
                await connection.close()

    run(test, loop_factory)
    assert [record.getMessage() for record in caplog.records if record.name != "asyncio"] == []


def test_a_join_that_waits_for_a_silent_peer_ends_with_the_server(tmp_path: Path) -> None:
    async def test() -> None:
        met = asyncio.Event()
        silent = await asyncio.start_server(lambda reader, writer: met.set(), "127.0.0.1", 0)
        host, port = silent.sockets[0].getsockname()
        async with serving(tmp_path, secret=None) as served, served.connection() as connection:
            body = b'{"code": "7-crossover-clockwork", "at": "%s:%d"}' % (host.encode(), port)
            await connection.begin("POST", "/v1/join", [("content-length", str(len(body)))])
            await connection.send(body)
            await connection.end()
            await met.wait()
            await served.server.close()
            assert (await connection.answer()).code == "stopping"
        silent.close()

    run(test)


def test_an_idle_server_holds_no_timer(tmp_path: Path) -> None:
    """uvicorn's own loop would wake ten times a second; a node must not."""

    async def test() -> None:
        loop = asyncio.get_running_loop()
        async with serving(tmp_path) as served:
            before = {timer for timer in loop._scheduled if not timer.cancelled()}  # type: ignore[attr-defined]
            second = ApiServer(served.node, socket_path=tmp_path / "two.sock", version=VERSION)
            await second.start()
            await asyncio.sleep(0)
            assert {timer for timer in loop._scheduled if not timer.cancelled()} <= before  # type: ignore[attr-defined]
            await second.close()

    run(test, asyncio.SelectorEventLoop)


# -- the socket file -------------------------------------------------------------------------------------------------


def test_a_socket_file_that_was_removed_is_made_anew_and_connections_go_on(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served, served.connection() as earlier:
            await idle(earlier)
            assert not served.server.is_gone
            served.socket.unlink()
            assert served.server.is_gone
            await served.server.reopen()
            assert not served.server.is_gone
            assert stat.S_IMODE(served.socket.stat().st_mode) == 0o600
            assert (await served.ask("GET", "/v1/status")).status == 200
            earlier.next_request()
            assert (await earlier.ask("GET", "/v1/status")).status == 200
            await served.server.close()
            assert not served.socket.exists()

    run(test)


def test_a_socket_file_that_cannot_be_made_anew_is_one_sentence_and_is_tried_again(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            served.socket.unlink()
            served.socket.mkdir()
            with pytest.raises(ConfigError, match="of another kind"):
                await served.server.reopen()
            served.socket.rmdir()
            await served.server.reopen()
            assert (await served.ask("GET", "/v1/status")).status == 200

    run(test)


@on_each_loop
def test_a_socket_that_was_passed_is_served_and_left_for_the_next_process(tmp_path: Path, loop_factory) -> None:
    path = tmp_path / "passed.sock"
    with socket.socket(socket.AF_UNIX) as manager:
        manager.bind(str(path))
        manager.listen()
        inode = path.stat().st_ino

        async def test() -> None:
            for _ in range(2):
                async with serving(tmp_path) as served:
                    passed = socket.socket(fileno=os.dup(manager.fileno()))
                    server = ApiServer(served.node, socket_path=path, version=VERSION, passed=passed)
                    waiting = Connection(*await asyncio.open_unix_connection(str(path)))
                    await server.start()
                    assert (await waiting.ask("GET", "/v1/status")).json()["api"] == [str(path)]
                    assert not server.is_gone
                    await waiting.close()
                    await server.close()

        run(test, loop_factory)
        assert path.stat().st_ino == inode


def test_a_group_may_use_the_socket_when_it_is_named(tmp_path: Path) -> None:
    group = grp.getgrgid(os.getgid())

    async def test() -> None:
        async with serving(tmp_path) as served:
            path = tmp_path / "shared.sock"
            server = ApiServer(served.node, socket_path=path, version=VERSION, group=group.gr_name)
            await server.start()
            status = path.stat()
            assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, group.gr_gid)
            await server.close()

    run(test)


def test_a_group_that_is_unknown_is_one_sentence_and_leaves_no_socket(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            path = tmp_path / "shared.sock"
            with pytest.raises(ConfigError, match=r"^api.group: there is no group 'no-such-group' on this machine\.$"):
                await ApiServer(served.node, socket_path=path, version=VERSION, group="no-such-group").start()
            assert not path.exists()

    run(test)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_a_socket_that_another_user_left_and_a_foreign_group_are_one_sentence(tmp_path: Path) -> None:
    """A process of another user tries both in a folder where files are removed by their owner alone."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        folder.chmod(0o1777)
        with socket.socket(socket.AF_UNIX) as crashed:
            crashed.bind(str(folder / "left.sock"))
        for mode, verb in [(0o600, "belongs to"), (0o777, "was left by")]:
            (folder / "left.sock").chmod(mode)
            assert f"{verb} the user root. Remove" in _failure_of_another_user(folder / "left.sock", None)
        root = grp.getgrgid(0).gr_name
        said = _failure_of_another_user(folder / "new.sock", root)
        assert f"is not in the group '{root}'" in said
        assert not (folder / "new.sock").exists()
    finally:
        shutil.rmtree(folder)


def _failure_of_another_user(path: Path, group: str | None) -> str:
    """Return the message with which binding `path` fails in a process of the user nobody."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            server._bind(path, group)
        except ConfigError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as said:
        text = said.read().decode()
    os.waitpid(child, 0)
    return text
