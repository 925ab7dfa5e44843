"""The status page over TCP: its files without a token, its links once, and what its session may."""

import json
from pathlib import Path

from echonode.api.page_sessions import PageSessions
from echonode.limits import PAGE_SESSION_S, PAGE_SESSIONS_MAX, PAGE_TICKET_S
from tests.api.serving import Served
from tests.api.test_access import over_tcp


def test_the_files_need_no_token_and_forbid_everything_foreign(tmp_path: Path) -> None:
    async def test(served: Served, token: str) -> None:
        for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
            async with served.tcp_connection() as connection:
                answer = await connection.ask("GET", path)
            assert answer.status == 200 and answer.headers["content-type"].startswith(kind)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
            assert b"http://" not in answer.body.replace(b"http://www.w3.org/2000/svg", b"")
            assert b"https://" not in answer.body and b"innerHTML" not in answer.body
        async with served.tcp_connection() as connection:
            assert (await connection.ask("GET", "/", headers=[("host", "evil.example")])).status == 403

    over_tcp(tmp_path, test)


def test_a_link_signs_in_once_and_its_session_ends_with_the_token(tmp_path: Path) -> None:
    async def test(served: Served, token: str) -> None:
        async def ask(method: str, path: str, bearer: str | None, body: object = None) -> tuple[int, dict[str, str]]:
            async with served.tcp_connection() as connection:
                headers = [] if bearer is None else [("authorization", f"Bearer {bearer}")]
                answer = await connection.ask(
                    method, path, b"" if body is None else json.dumps(body).encode(), headers=headers
                )
                return answer.status, answer.json()

        assert (await ask("POST", "/v1/page", None))[0] == 401
        _, link = await ask("POST", "/v1/page", token)
        ticket = link["url"].partition("#")[2]
        assert (await ask("POST", "/v1/page/session", None, {"ticket": "wrong"}))[0] == 401
        status, session = await ask("POST", "/v1/page/session", None, {"ticket": ticket})
        assert status == 200 and session["token"] not in (token, ticket)
        assert (await ask("POST", "/v1/page/session", None, {"ticket": ticket}))[0] == 401
        assert (await ask("GET", "/v1/status", ticket))[0] == 401
        assert (await ask("GET", "/v1/status", session["token"]))[0] == 200
        _, renewed = await ask("POST", "/v1/token", token)
        assert (await ask("GET", "/v1/status", session["token"]))[0] == 401
        assert (await ask("GET", "/v1/status", renewed["token"]))[0] == 200

    over_tcp(tmp_path, test)


def test_tickets_and_sessions_end_in_time_and_are_few() -> None:
    now = [0.0]
    pages = PageSessions(lambda: now[0])
    late, good = pages.make_ticket(), ""
    now[0] = PAGE_TICKET_S
    good = pages.make_ticket()
    now[0] += 0.001
    assert pages.begin(late) is None
    session = pages.begin(good)
    assert session is not None and pages.holds(session.encode())
    now[0] += PAGE_SESSION_S
    assert pages.holds(session.encode())  # and it lasts as long again
    now[0] += PAGE_SESSION_S + 0.001
    assert not pages.holds(session.encode())
    tickets = [pages.make_ticket() for _ in range(PAGE_SESSIONS_MAX + 1)]
    assert [pages.begin(ticket) is not None for ticket in tickets] == [False, *[True] * PAGE_SESSIONS_MAX]
