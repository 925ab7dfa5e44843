"""Every command that reads answers, with a node that says no more than it must, and with one that says something else.

No command may read what client/answer_shapes.py does not promise, nor fail without a plain sentence.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from echonode.client.answer_shapes import EVENTS, shape_of
from echonode.client.request import Request
from echonode.client.shape import ANY
from tests import tidy
from tests.cli.harness import Shell, http_answer, scripted_server
from tests.client.samples import sample

STREAMS = ("/list", "/import", "/export", "/record-file", "/verify", "/logs")
READING = [
    *("status", "peers", "contexts", "conflicts", "conflicts show x", "history x", "list", "get x", "doctor"),
    *("put x y", "delete x", "put --to p x", "get --from p x", "pull --from p --limit 1", "list --from p --limit 1"),
    *("forget", "contexts forget x", "peers forget x", "rename x", "pause", "resume", "verify", "export", "import -"),
    "import --signed -",
    *("conflicts resolve x --keep y", "sync", "sync --verbose --metrics", "sync --action status"),
    *("sync --action history", "sync --monitor --exit-when-synced", "watch", "watch --limit 1", "logs", "log-level"),
    *("log-level debug --for 1m", "trace p --all", "why p", "why p/x", "invite", "join 7-crossover-clockwork"),
    *("network show", "network rotate", "key list", "key new", "key retire x", "key resign x", "pool list"),
    *("pool create x", "pool ask x y", "pool add x y", "pool remove x y", "pool leave x", "api token", "open --print"),
    *("deny", "deny x", "allow x", "peers approve x", "peers reject x", "peers --pending"),
]
AS_JSON = ("status", "list", "get", "sync", "logs")
FORMS = [*READING, *(f"{each} --json" for each in READING if each.split()[0] in AS_JSON)]
SILENT = ("resume", "watch", "get x")  # nothing is read of an answer, or not all that stands in it


def test_every_request_of_a_command_has_a_shape_unless_nothing_is_read_of_its_answer() -> None:
    unread = {"GET /v1/events", "POST /v1/resume", "POST /v1/keys/root/remove"}  # events have shapes by their names
    requests: set[tuple[str, str]] = set()
    for path in (tidy.ROOT / "echonode" / "cli").rglob("*.py"):
        requests.update(re.findall(r'"(GET|PUT|POST|DELETE)",\s*f?"(/[^"]+)"', path.read_text()))
    assert len(requests) > 30
    unknown = {
        f"{method} {target}"
        for method, target in requests
        if shape_of(Request(method=method, target=re.sub(r"{[^/]*}", "x", target))) is ANY
    }
    assert unknown == unread


def answering(value_of: Callable[[Any, str], Any]) -> Callable[[bytes], bytes]:
    """Return what a scripted server does: it gives each request the value for its shape, in its form."""

    def answer(head: bytes) -> bytes:
        method, target, _ = head.decode().split(" ", 2)
        path = target.partition("?")[0]
        if path == "/v1/events" or b"text/event-stream" in head:
            events = [(name, value_of(shape, path)) for name, shape in EVENTS.items()]
            said = [f"event: {name}\ndata: {json.dumps(value)}\n\n" for name, value in events]
            return http_answer("".join(said).encode())
        value = value_of(shape_of(Request(method=method, target=target)), path)
        return http_answer(json.dumps(value).encode() + b"\n" if path.endswith(STREAMS) else value)

    return answer


@pytest.mark.parametrize("is_least", [False, True], ids=["all", "least"])
def test_a_command_reads_no_more_than_an_answer_must_hold(shell: Shell, is_least: bool) -> None:
    known = answering(lambda shape, path: sample(shape, is_least=is_least))
    with scripted_server(shell.services.default / "api.sock", known):
        for words in FORMS:
            result = shell(*words.split())
            assert "should not have happened" not in result.err, (words, result)
            assert "does not fit" not in result.err, (words, result)


@pytest.mark.parametrize("value", [{}, [{}], None, "text", 1.5], ids=repr)
def test_an_answer_of_another_kind_is_one_plain_sentence(shell: Shell, value: object) -> None:
    other = answering(lambda shape, path: value if shape is not ANY else {})
    with scripted_server(shell.services.default / "api.sock", other):
        for words in FORMS:
            result = shell(*words.split())
            assert "should not have happened" not in result.err, (words, result)
            if words not in SILENT:
                said = result.text if words == "doctor" else result.err
                assert "does not fit" in " ".join(said.split()) and result.code == 1, (words, result)


def test_what_a_server_of_another_kind_sends_is_one_plain_sentence(shell: Shell) -> None:
    for body in (b"<html>", b"{\n", b"\xff\n", b"[" * 100_000):
        with scripted_server(shell.services.default / "api.sock", http_answer(body)):
            for words in FORMS:
                result = shell(*words.split())
                assert "should not have happened" not in result.err, (words, result)
                assert words in SILENT or result.code in (1, 5), (words, result)
