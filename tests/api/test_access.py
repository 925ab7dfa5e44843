"""The API over TCP: its token, and the requests that no page of another site may send."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from echonode.api import http_protocol
from echonode.limits import API_CONNECTIONS_MAX
from tests.api.serving import Served, run, serving

BEARER = "Bearer {token}"


def over_tcp(tmp_path: Path, test: Callable[[Served, str], Awaitable[None]], listen: str = "127.0.0.1:0") -> None:
    """Run `test` with a node that has a TCP listener, and its token."""

    async def body() -> None:
        async with serving(tmp_path, api_listen=listen) as served:
            assert served.access is not None
            await test(served, served.access.token.text)

    run(body)


def test_only_the_token_and_no_page_of_another_site_gets_an_answer(tmp_path: Path) -> None:
    async def test(served: Served, token: str) -> None:
        assert served.access is not None
        own = str(served.access.url).removeprefix("http://")
        for status, headers in (
            (200, {}),
            (200, {"authorization": "bearer {token}"}),
            (200, {"host": own, "origin": f"http://{own}", "sec-fetch-site": "same-origin"}),
            (200, {"host": "LOCALHOST:8080"}),  # the end of an SSH tunnel has a port of its own
            (200, {"host": "[::1]:1"}),
            (200, {"sec-fetch-site": "none"}),
            (401, {"authorization": None}),
            (401, {"authorization": "Bearer"}),
            (401, {"authorization": "Bearer {token}x"}),
            (401, {"authorization": "Basic {token}"}),
            (401, {"authorization": "{token}"}),
            (403, {"host": "evil.example"}),
            (403, {"host": "127.0.0.1.evil.example"}),
            (403, {"host": f"127.0.0.1@evil.example:{own.rpartition(':')[2]}"}),
            (403, {"host": "192.168.1.1"}),
            (403, {"host": ""}),
            (403, {"origin": "http://evil.example"}),
            (403, {"origin": "null"}),
            (403, {"host": own, "origin": f"https://{own}"}),
            (403, {"host": own, "origin": "http://localhost"}),
            (403, {"sec-fetch-site": "cross-site"}),
            (403, {"sec-fetch-site": "same-site"}),
        ):
            wanted = {"authorization": BEARER, **headers}
            given = [(name, value.format(token=token)) for name, value in wanted.items() if value is not None]
            async with served.tcp_connection() as connection:
                answer = await connection.ask("GET", "/v1/status", headers=given)
                assert answer.status == status, headers
                if status == 401:
                    assert answer.headers["www-authenticate"].startswith("Bearer")
                assert token not in answer.body.decode()
                assert "access-control-allow-origin" not in answer.headers

    over_tcp(tmp_path, test)


def test_two_tokens_and_a_request_before_a_page_asks_are_refused(tmp_path: Path) -> None:
    async def test(served: Served, token: str) -> None:
        right = ("authorization", f"Bearer {token}")
        for method, headers, status in (
            ("GET", [right, right], 401),
            ("GET", [(b"authorization", b"Bearer \xc3\xa9\xff")], 401),
            ("OPTIONS", [("origin", "http://evil.example"), ("access-control-request-method", "PUT")], 403),
            ("OPTIONS", [right], 405),
        ):
            async with served.tcp_connection() as connection:
                await connection.begin(method, "/v1/status", headers)
                await connection.end()
                assert (await connection.head()).status == status

    over_tcp(tmp_path, test)


def test_the_url_stands_in_status_and_on_the_socket_no_token_is_asked_for(tmp_path: Path) -> None:
    async def test(served: Served, token: str) -> None:
        assert served.access is not None
        status = (await served.ask("GET", "/v1/status")).json()
        assert status["api"] == [str(served.socket), served.access.url]
        assert (await served.ask("GET", "/v1/token")).json() == {"token": token, "url": served.access.url}

    over_tcp(tmp_path, test, "[::1]:0" if socket.has_ipv6 else "127.0.0.1:0")


def test_a_token_that_was_replaced_is_good_no_more_at_once(tmp_path: Path) -> None:
    async def test(served: Served, token: str) -> None:
        renewed = (await served.ask("POST", "/v1/token")).json()["token"]
        async with served.tcp_connection() as connection:
            for given, status in ((token, 401), (renewed, 200)):
                answer = await connection.ask("GET", "/v1/status", headers=[("authorization", f"Bearer {given}")])
                assert answer.status == status
                connection.next_request()

    over_tcp(tmp_path, test)


def test_connections_are_bounded_and_a_place_is_free_again_when_one_ends(tmp_path: Path) -> None:
    async def test(served: Served, token: str) -> None:
        assert served.access is not None
        assert served.access.listening is not None
        address = served.access.listening.getsockname()
        right = [("authorization", f"Bearer {token}")]
        held = [await asyncio.open_connection(*address) for _ in range(API_CONNECTIONS_MAX - 1)]
        async with served.tcp_connection() as last:
            assert (await last.ask("GET", "/v1/status", headers=right)).status == 200
            async with served.tcp_connection() as beyond:
                assert await beyond.closed_by_server()
            assert (await served.ask("GET", "/v1/status")).status == 200, "the Unix socket has places of its own"
            last.next_request()
            assert (await last.ask("GET", "/v1/status", headers=right)).status == 200
        held[0][1].write(b"no HTTP at all\r\n\r\n")
        assert (await held[0][0].read()).startswith(b"HTTP/1.1 400")
        async with served.tcp_connection() as again:
            assert (await again.ask("GET", "/v1/status", headers=right)).status == 200
        for _, writer in held:
            writer.close()

    over_tcp(tmp_path, test)


@pytest.mark.parametrize("begun", [b"", b"GET /v1/sta", "whole"])
def test_a_connection_without_the_head_of_a_request_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bytes | str
) -> None:
    monkeypatch.setattr(http_protocol, "API_HEAD_TIMEOUT_S", 0.05)

    async def test(served: Served, token: str) -> None:
        assert served.access is not None
        assert served.access.listening is not None
        reader, writer = await asyncio.open_connection(*served.access.listening.getsockname())
        if begun == "whole":  # an answer, and then half a head
            writer.write(f"GET /v1/token HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
            await reader.readuntil(b"}")
            writer.write(b"GET /v1/sta")
        elif isinstance(begun, bytes):
            writer.write(begun)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()

    over_tcp(tmp_path, test)


def test_a_request_whose_answer_takes_long_is_not_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "API_HEAD_TIMEOUT_S", 0.05)

    async def test(served: Served, token: str) -> None:
        async with served.tcp_connection() as connection:
            await connection.begin("GET", "/v1/events", [("authorization", f"Bearer {token}")])
            await connection.end()
            await connection.head()
            async for _ in connection.data():
                break
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(connection.closed_by_server(), 0.2)

    over_tcp(tmp_path, test)
