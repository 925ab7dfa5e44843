"""The client against real sockets: a real node's API, and servers that misbehave byte by byte."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from echonode.cli.client import ApiClient
from echonode.cli.exit_codes import ExitCode, exit_code_of
from echonode.client.connection import cannot_connect
from echonode.client.errors import ClientError, NotRunning
from echonode.client.location import Location, UnixPlace
from echonode.client.request import record_path
from tests.cli.harness import http_answer, live_node, refusal, scripted_server


def client_at(*paths: Path) -> ApiClient:
    return ApiClient(Location(tuple(map(UnixPlace, paths))))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api.sock"


def test_a_request_says_what_it_was_told_to_say(path: Path) -> None:
    with scripted_server(path, http_answer({"fine": True})) as heard:
        answer = client_at(path).call("POST", "/v1/x", query=[("a", "b c/ü"), ("none", None)], body={"k": [1]})
    assert answer == {"fine": True}
    head, _, body = heard[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/x?a=b+c%2F%C3%BC HTTP/1.1\r\n")
    assert b"content-type: application/json" in head.lower()
    assert body == b'{"k": [1]}'


def test_a_context_with_a_slash_stays_one_part_of_the_path() -> None:
    assert record_path("a/b ü", "/list") == "/v1/records/a%2Fb%20%C3%BC/list"


@pytest.mark.parametrize("kind", ["missing", "stale", "in a file"])
def test_where_nobody_listens_the_node_is_not_running(path: Path, kind: str) -> None:
    if kind == "stale":
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(path))
    if kind == "in a file":
        path.write_text("")
        path /= "api.sock"
    with pytest.raises(NotRunning, match="the node is not running") as caught:
        client_at(path).call("GET", "/v1/status")
    assert exit_code_of(caught.value) == ExitCode.NOT_RUNNING


def test_the_first_path_that_answers_is_taken(path: Path, tmp_path: Path) -> None:
    with scripted_server(path, http_answer(1)):
        assert client_at(tmp_path / "nobody.sock", path, tmp_path / "nor-here.sock").call("GET", "/") == 1


def test_a_socket_that_may_not_be_opened_is_a_matter_of_authority() -> None:
    assert exit_code_of(cannot_connect(UnixPlace(Path("s")), PermissionError())) == ExitCode.NOT_AUTHORISED
    assert exit_code_of(cannot_connect(UnixPlace(Path("s")), TimeoutError())) == ExitCode.TIMED_OUT
    assert exit_code_of(cannot_connect(UnixPlace(Path("s")), OSError(100, "odd"))) == ExitCode.FAILED


def test_a_path_too_long_for_a_socket_is_a_plain_failure(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="too long"):
        client_at(tmp_path / ("x" * 120)).call("GET", "/")


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        ("400 Bad Request", "bad_request", ExitCode.USAGE),
        ("401 Unauthorized", "unauthorised", ExitCode.NOT_AUTHORISED),
        ("403 Forbidden", "forbidden", ExitCode.NOT_AUTHORISED),
        ("404 Not Found", "not_found", ExitCode.FAILED),
        ("409 Conflict", "conflict", ExitCode.FAILED),
        ("413 Content Too Large", "too_large", ExitCode.FAILED),
        ("422 Unprocessable Content", "unusable", ExitCode.FAILED),
        ("500 Internal Server Error", "internal", ExitCode.FAILED),
        ("503 Service Unavailable", "store_failed", ExitCode.FAILED),
        ("503 Service Unavailable", "stopping", ExitCode.NOT_RUNNING),
        ("504 Gateway Timeout", "timed_out", ExitCode.TIMED_OUT),
    ],
)
def test_a_refusal_has_the_exit_code_of_its_kind(path: Path, status: str, code: str, exit_code: ExitCode) -> None:
    answer = refusal(status, code, "so it is")
    with scripted_server(path, answer), pytest.raises(ClientError, match=r"^so it is$") as caught:
        client_at(path).call("GET", "/")
    assert exit_code_of(caught.value) == exit_code


def test_a_refusal_in_another_form_is_still_a_refusal(path: Path) -> None:
    answer = http_answer(b"<html>", "502 Bad Gateway")
    with scripted_server(path, answer), pytest.raises(ClientError, match="status 502"):
        client_at(path).call("GET", "/")


CUT = [
    b"",
    b"HTTP/1.1 200 O",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n123\r\n",
    b"SSH-2.0-OpenSSH\r\n\r\n",
]


@pytest.mark.parametrize("answer", CUT, ids=repr)
def test_an_answer_that_is_cut_short_is_never_taken_for_a_whole_one(path: Path, answer: bytes) -> None:
    with scripted_server(path, answer), pytest.raises(ClientError, match="before its answer was complete"):
        client_at(path).call("GET", "/")


def test_what_is_no_json_is_no_answer(path: Path) -> None:
    with scripted_server(path, http_answer(b"{")), pytest.raises(ClientError, match="not JSON"):
        client_at(path).call("GET", "/")


def test_a_silent_node_costs_no_more_than_the_time_allowed(path: Path) -> None:
    with scripted_server(path, b"", hangs_up=False), pytest.raises(ClientError, match=r"within 0\.05 s") as caught:
        client_at(path).call("GET", "/", timeout_s=0.05)
    assert exit_code_of(caught.value) == ExitCode.TIMED_OUT


def test_an_interim_answer_is_passed_over(path: Path) -> None:
    with scripted_server(path, b"HTTP/1.1 100 Continue\r\n\r\n" + http_answer("fine")):
        assert client_at(path).call("GET", "/") == "fine"


def test_a_refusal_reaches_us_though_the_node_reads_no_more(path: Path) -> None:
    """The node answers and closes while the client still sends. The next write fails; the answer must still be read."""
    parts = iter([b"x" * 65_536] * 1000)
    answer = refusal("413 Content Too Large", "too_large", "no more of that")
    with scripted_server(path, answer, reads_body=False), pytest.raises(ClientError, match="no more of that"):
        client_at(path).open("POST", "/", body=parts)


def test_progress_is_read_while_the_body_is_still_being_sent(tmp_path: Path) -> None:
    """The body goes on until some progress was read. A client that sent all of it first would never end."""
    seen: list[dict[str, object]] = []
    batches_max = 500

    def parts() -> Iterator[bytes]:
        for batch in range(batches_max):
            if len(seen) >= 2:
                return
            yield b"".join(b'{"name": "n%d"}\n' % (batch % 3 * 1000 + number) for number in range(1000))
        raise AssertionError("no progress came while the body was under way")

    with (
        live_node(tmp_path / "home"),
        client_at(tmp_path / "home/api.sock").open("POST", record_path("main", "/import"), body=parts()) as response,
    ):
        for progress in response.values():
            seen.append(progress)  # noqa: PERF402 -- parts() looks at the list while it grows
    assert [each["lines"] for each in seen[:2]] == [1000, 2000]
    assert seen[-1]["done"] is True


def chunked(*parts: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts,)) + b"0\r\n\r\n"
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body


def test_lines_are_the_same_however_the_bytes_are_cut(path: Path) -> None:
    text = b'{"a": 1}\n\n{"b": "\xc3\xbc"}\n{"c": 3}'
    for size in range(1, len(text)):
        parts = [text[start : start + size] for start in range(0, len(text), size)]
        with scripted_server(path, chunked(*parts)), client_at(path).open("GET", "/") as response:
            assert list(response.values()) == [{"a": 1}, {"b": "ü"}, {"c": 3}]


def test_a_stream_that_ends_in_an_error_fails_with_its_words(path: Path) -> None:
    stream = b'{"a": 1}\n{"error":{"code":"store_failed","message":"the disk is gone"}}\n'
    with scripted_server(path, chunked(stream)), client_at(path).open("GET", "/") as response:
        lines = response.lines()
        assert next(lines)[0] == b'{"a": 1}'
        with pytest.raises(ClientError, match=r"^the disk is gone$"):
            next(lines)


def test_events_come_with_their_names_and_comments_do_not_come(path: Path) -> None:
    stream = (b": listening\n\n", b'event: a.b\nda', b'ta: {"x": 1}\n\n: still\n\nevent: end\ndata: {"reason":"y"}\n\n')
    with scripted_server(path, chunked(*stream)), client_at(path).open("GET", "/") as response:
        assert list(response.events()) == [("a.b", {"x": 1}), ("end", {"reason": "y"})]
