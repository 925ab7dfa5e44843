"""Both clients against real nodes, nodes that restart, and servers that misbehave."""

import asyncio
import json
import os
import resource
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from echonode import AsyncClient, Client
from echonode.client.answer_shapes import shape_of
from echonode.client.errors import BadAnswer, ClientError, ConnectionLost, Moved, NotFound, NotRunning, Refused
from echonode.client.location import TcpPlace, UnixPlace, locate
from echonode.client.request import Request
from echonode.client.values import Change
from tests.api.test_schemathesis import serve
from tests.cli.harness import LiveNode, http_answer, in_thread, live_node, refusal, scripted_server
from tests.client.samples import sample

GET = Request(method="GET", target="/v1/records/main?id=a&whole=1")


def client_of(folder: Path, **options: float) -> Client:
    return Client(f"unix:{folder}/api.sock", **options)


def test_what_is_written_is_read_back_to_the_byte(tmp_path: Path) -> None:
    with live_node(tmp_path):
        node = client_of(tmp_path)
        for name, body, expected, media_type in (
            ("bytes", b"\0\xff", b"\0\xff", ""),
            ("text", "grün\n", "grün\n".encode(), "text/plain"),
            ("json", {"a": [1, None, "ü"]}, '{"a":[1,null,"ü"]}'.encode(), "application/json"),
            ("number", 1.5, b"1.5", "application/json"),
            ("given", '{"a": 1.0}', b'{"a": 1.0}', "application/json"),
        ):
            written = node.put(name, body, type="application/json" if name == "given" else None)
            record = node.get(name)
            assert (record.body, record.type, record.version) == (expected, media_type, written.version)
            assert (record.etag, record.heads, record.in_conflict) == (written.etag, 1, False)
        assert node.get("json").json() == {"a": [1, None, "ü"]}
        assert [record.body for record in node.list(name="bytes")] == [b"\0\xff"]
        assert [version.body for version in node.history("bytes")] == [b"\0\xff"]
        assert [record.name for record in node.list(limit=2)] == ["bytes", "text"]
        assert len(list(node.list(terms=["name=*t*", "author=me"]))) == 2
        assert node.status()["name"] == "one"


def test_refusals_are_errors_of_their_own_kind_with_the_nodes_sentence(tmp_path: Path) -> None:
    with live_node(tmp_path):
        node = client_of(tmp_path)
        with pytest.raises(NotFound, match="no record"):
            node.get("nothing")
        with pytest.raises(Refused, match="name") as caught:
            node.put("n" * 300, b"")
        assert (caught.value.status, caught.value.code) == (422, "unusable")
        node.put("a", b"1", new=True)
        with pytest.raises(Moved):
            node.put("a", b"2", new=True)
        first = node.get("a")
        node.put("a", b"2", over=first)
        with pytest.raises(Moved):
            node.delete("a", over=first)
        with pytest.raises(ValueError, match="either new"):
            node.put("a", b"2", new=True, over=first)
        with pytest.raises(Refused, match="at most"):
            node.put("large", bytes(200_000))
        with pytest.raises(Refused, match="nobody"):
            list(node.list(author="nobody"))
        with pytest.raises(Refused, match="no cursor"):
            next(node.changes(since="yesterday"))
        with pytest.raises(NotFound):
            node.sync(["nobody"])


def test_a_conflict_is_seen_and_resolved(tmp_path: Path) -> None:
    with live_node(tmp_path / "a") as one, live_node(tmp_path / "b", name="two") as two:
        ours, theirs = client_of(tmp_path / "a"), client_of(tmp_path / "b")
        ours.put("shared/split", {"a": 1})
        theirs.put("shared/split", {"b": 2})
        one.do(_connect(one, two))
        result = ours.sync(timeout=30)
        assert result.verified and [peer.name for peer in result.peers] == ["two"]
        (conflict,) = ours.conflicts()
        assert {version.body for version in conflict.versions} == {b'{"a": 1}', b'{"b": 2}'}
        seen = ours.get("shared/split")
        assert (seen.heads, seen.in_conflict) == (2, True)
        with pytest.raises(Moved):
            ours.put("shared/split", b"", over=seen.version)
        ours.put("shared/split", {"a": 1, "b": 2}, over=seen)
        assert ours.conflicts() == ()


async def _connect(one: LiveNode, two: LiveNode) -> None:
    one.served.node.add_peer(two.served.listen[0])


def test_changes_go_on_over_a_restart_and_a_new_store_is_a_gap(tmp_path: Path) -> None:
    changes: list[Change] = []
    has_some = threading.Condition()

    def follow() -> None:
        for change in client_of(tmp_path).changes(since=cursor):
            with has_some:
                changes.append(change)
                has_some.notify()
            if change.record.name == "last":
                return

    def wait_for(count: int) -> None:
        with has_some:
            assert has_some.wait_for(lambda: len(changes) >= count, 30)

    with live_node(tmp_path):
        cursor = client_of(tmp_path).put("before", b"").cursor
        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        client_of(tmp_path).put("first", b"1")
        wait_for(1)
    (tmp_path / "api.sock").unlink()
    with live_node(tmp_path):  # it has another store: nothing of the first one is here
        client_of(tmp_path).put("second", b"2")
        wait_for(2)
        client_of(tmp_path).put("last", b"3")
        thread.join(30)
    assert [(change.record.name, bool(change.gap)) for change in changes] == [
        ("first", False),
        ("second", True),
        ("last", False),
    ]
    assert changes[0].record.body == b"1"


def test_a_request_waits_for_a_node_that_starts(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="no node answers"):
        client_of(tmp_path, retry=0.0).get("a")
    with pytest.raises(NotRunning):
        next(client_of(tmp_path, retry=0.0).changes())
    result: list[str] = []
    thread = threading.Thread(target=lambda: result.append(client_of(tmp_path, retry=60).put("a", b"").context))
    thread.start()
    with live_node(tmp_path):
        thread.join(60)
    assert result == ["main"]


def test_writes_are_not_sent_twice_unless_that_does_no_harm(tmp_path: Path) -> None:
    with scripted_server(tmp_path / "api.sock", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{") as heard:
        node = client_of(tmp_path, retry=0.3)
        with pytest.raises(ConnectionLost):
            node.put("a", b"1", new=True)
        assert len(heard) == 1
        with pytest.raises(ConnectionLost):
            node.get("a")
        assert len(heard) > 2
    stopping = refusal("503 Service Unavailable", "stopping", "the node is stopping")
    with scripted_server(tmp_path / "api.sock", stopping) as heard:
        with pytest.raises(Refused, match="stopping"):
            client_of(tmp_path, retry=0.3).put("a", b"1", new=True)
        assert len(heard) > 1


def test_answers_that_are_none_are_plain_errors(tmp_path: Path) -> None:
    for answer in (http_answer(b"not json"), http_answer(b"<html>", "500 Oops"), b"garbage\r\n\r\n", b""):
        with scripted_server(tmp_path / "api.sock", answer), pytest.raises(ClientError):
            client_of(tmp_path, retry=0.0).get("a")
        with scripted_server(tmp_path / "api.sock", answer), pytest.raises(ClientError):
            list(client_of(tmp_path, retry=0.0).list())
    cut = http_answer(json.dumps({"error": {"code": "store_failed", "message": "the disk gave up"}}).encode() + b"\n")
    with scripted_server(tmp_path / "api.sock", cut), pytest.raises(Refused, match="the disk gave up"):
        list(client_of(tmp_path, retry=0.0).list())
    with scripted_server(tmp_path / "api.sock", b"HTTP/1.1 200 OK\r\n", hangs_up=False), pytest.raises(ConnectionLost):
        client_of(tmp_path, retry=0.0, timeout=0.2).get("a")


def test_an_answer_of_another_program_is_an_error_of_its_own_kind_for_both_clients(tmp_path: Path) -> None:
    async def ask_async() -> None:
        other = AsyncClient(f"unix:{tmp_path}/api.sock", retry=0.0)
        with pytest.raises(BadAnswer, match="does not fit"):
            await other.status()
        with pytest.raises(BadAnswer, match="does not fit"):
            await anext(other.list())

    node = client_of(tmp_path, retry=0.0)
    calls = (lambda: node.get("a"), lambda: list(node.list()), node.status, lambda: node.put("a", b""))
    for answer in (b"{}\n", b"[]\n", b'{"id": 1}\n'):
        with scripted_server(tmp_path / "api.sock", http_answer(answer)):
            for call in calls:
                with pytest.raises(BadAnswer, match="does not fit"):
                    call()
            asyncio.run(ask_async())
    change = http_answer(b"event: change\ndata: {}\n\n")
    with scripted_server(tmp_path / "api.sock", change), pytest.raises(BadAnswer, match="cursor is missing"):
        next(node.changes())


def test_a_client_works_where_many_files_are_open(tmp_path: Path) -> None:
    """select() takes no descriptor from 1,024 on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("this machine allows no 2,048 open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, hard))
    try:
        with ExitStack() as files, scripted_server(tmp_path / "api.sock", http_answer(sample(shape_of(GET)))):
            for _ in range(1100):
                files.enter_context(open(os.devnull, "rb"))
            assert client_of(tmp_path).get("a").id == "x"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_async_client_does_all_of_it_too(tmp_path: Path) -> None:
    async def work() -> None:
        node = AsyncClient(f"unix:{tmp_path}/api.sock")
        await asyncio.gather(*(node.put(f"n{number}", str(number)) for number in range(20)))
        assert {record.text async for record in node.list()} == {str(number) for number in range(20)}
        cursor = await node.put_all({"a": 1, "b": 2})
        await node.delete("a")
        found = []
        async for change in node.changes(since=cursor):
            found.append((change.record.name, change.record.deleted))
            if len(found) == 2:
                break
            await node.put("b", 3)
        assert found == [("a", True), ("b", False)]
        assert (await node.history("b"))[0].body == b"3"
        assert (await node.conflicts(), (await node.sync()).status) == ((), "no peers")
        with pytest.raises(Moved):
            await node.put("b", 4, new=True)
        with pytest.raises(Refused, match="nobody"):
            async for _ in node.list(author="nobody"):
                pass
        with pytest.raises(Refused, match="no cursor"):
            await anext(node.changes(since="x"))
        with pytest.raises(NotRunning):
            await AsyncClient(f"unix:{tmp_path}/nobody.sock", retry=0).status()

    with live_node(tmp_path):
        asyncio.run(asyncio.wait_for(work(), 60))


def test_a_token_opens_the_node_over_tcp(tmp_path: Path) -> None:
    async def work(url: str, token: str) -> str:
        return (await AsyncClient(url, token=token).get("a")).text

    with in_thread(serve(tmp_path)) as served:
        url, token = served.access.url, served.access.token.text
        assert Client(url, token=token).get("a").text == asyncio.run(work(url, token)) == "{}"
        with pytest.raises(Refused, match="token") as caught:
            Client(url, token="forged").get("a")
        assert caught.value.status == 401
    with pytest.raises(NotRunning):
        Client(url, token=token, retry=0).get("a")


def test_the_node_is_found_where_the_environment_says() -> None:
    environ = {"XDG_STATE_HOME": "/state", "HOME": "/x"}
    places = locate(None, None, None, environ).places
    assert [str(place) for place in places] == ["/state/echonode/api.sock", "/run/echonode/api.sock"]
    assert locate(None, None, "/h", environ | {"ECHO_API_URL": "unix:/s"}).places == (UnixPlace(Path("/h/api.sock")),)
    assert locate(None, None, None, {"ECHO_HOME": "/h"}).places == (UnixPlace(Path("/h/api.sock")),)
    found = locate(None, None, None, {"ECHO_API_URL": "http://127.0.0.1:99", "ECHO_TOKEN": "t"})
    assert (found.places, found.token) == ((TcpPlace("127.0.0.1", 99),), "t")
    assert locate("unix:/s", "given", None, {"ECHO_TOKEN": "t"}).token == "given"
    for wrong in ("https://a", "http://a", "http://a:99999", "unix:s", "http://a:1/v1", ""):
        with pytest.raises(ClientError, match="is no URL of a node"):
            locate(wrong or "x", None, None, {})


def test_importing_the_package_loads_no_room() -> None:
    program = (
        "import sys, echonode; before = set(sys.modules); assert 'Client' in dir(echonode); "
        "heavy = [m for m in sys.modules if m.startswith('echonode.') or m in ('h11', 'asyncio', 'socket')]; "
        "assert not heavy, heavy; from echonode import Client; "
        "rooms = {'starlette', 'uvicorn', 'nacl', 'zeroconf', 'click'} & set(sys.modules); assert not rooms, rooms"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    with pytest.raises(ImportError):
        exec("from echonode import Nothing")
