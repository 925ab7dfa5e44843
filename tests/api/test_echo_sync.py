"""The Echo Sync HTTP API between two nodes: push, pull, cursors, conflicts, status, history, replay."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from echonode.api import echo_sync
from echonode.model.identity import IdentityId
from echonode.node.events import SyncCompleted
from echonode.text import to_base32
from tests.api.serving import Served, hearing, run, serving

NODES = "/api/v1/echo-sync/nodes"


@asynccontextmanager
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Served, Served]]:
    """Yield two nodes that have not met: what they write before `meet` is concurrent."""
    async with serving(tmp_path) as one, serving(tmp_path, name="two") as two:
        yield one, two


async def meet(one: Served, two: Served) -> str:
    """Let the nodes meet, and return the path of `two` in the API of `one`."""
    one.node.add_peer(two.listen[0])
    async with asyncio.timeout(30):
        with hearing(one.node) as events:
            while not any(entry.is_up for entry in one.node.peer_table.peers.values()):
                await events.get()
    return f"{NODES}/{to_base32(two.node.id)}"


async def ask(served: Served, method: str, target: str, body: object = b"", status: int = 200) -> Any:
    answer = await served.ask(method, target, body)
    assert answer.status == status, answer
    return answer.json()


def state(data: dict[str, object]) -> dict[str, object]:
    return {"state": {"node_id": "", "data": data, "version": "1.0", "metadata": {"source": "test"}}}


def test_what_is_pushed_is_the_state_that_both_pull(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (one, two):
            path = await meet(one, two)
            data = {"plan": {"a": [1, 2.5]}, "slash/in/it": None, "überall": "text"}
            pushed = await ask(one, "POST", f"{path}/push", state(data))
            assert (pushed["status"], pushed["success"], pushed["conflicts"]) == ("success", True, [])
            assert pushed["metrics"]["data_size"] == sum(len(json.dumps(value)) for value in data.values())
            shared = two.node.records.shared
            assert shared is not None
            (head,) = await two.node.records.heads("main", shared, "plan")
            assert head.media_type == "application/json"
            pulled = await ask(one, "POST", f"{path}/pull")
            assert (pulled["status"], pulled["data"]) == ("success", data)
            assert pulled["version"] == to_base32(two.node.store.tree("main").root)

    run(test)


def test_a_cursor_tells_what_changed_since_and_one_of_another_life_all(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (one, two):
            path = await meet(one, two)
            await ask(one, "POST", f"{path}/push", state({"a": 1, "b": 2}))
            cursor = (await ask(one, "POST", f"{path}/pull"))["cursor"]
            await two.put("shared/c", b"3", "&type=application/json")
            assert (await two.ask("DELETE", "/v1/records/main?id=shared/a")).status == 200
            pulled = await ask(one, "POST", f"{path}/pull", {"last_sync": cursor})
            changes = {each["record"]: (each["value"], each["deleted"]) for each in pulled["changes"]}
            assert changes == {"a": (None, True), "c": (3, False)}
            assert pulled["data"] == {"b": 2, "c": 3}
            again = await ask(one, "POST", f"{path}/pull", {"last_sync": pulled["cursor"]})
            assert again["changes"] == []
            for other in ("aaaaaaaaaaaaa.3", f"{cursor.partition('.')[0]}.999999"):
                every = await ask(one, "POST", f"{path}/pull", {"last_sync": other})
                assert {each["record"] for each in every["changes"]} == {"a", "b", "c"}

    run(test)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"strategy": "prefer_local"}, {"ours": 1}),
        ({"strategy": "prefer_remote"}, {"theirs": 2}),
        ({}, {"ours": 1, "theirs": 2}),
    ],
)
def test_concurrent_edits_are_told_with_both_values_and_resolved_when_asked(
    tmp_path: Path, options: dict[str, str], expected: dict[str, int]
) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (one, two):
            await one.put("shared/x", b'{"ours": 1}', "&type=application/json")
            await two.put("shared/x", b'{"theirs": 2}', "&type=application/json")
            path = await meet(one, two)
            for action in ("push", "pull"):
                body = state({}) if action == "push" else {}
                answer = await ask(one, "POST", f"{path}/{action}", body)
                assert answer["status"] == "conflict"
                (conflict,) = answer["conflicts"]
                assert (conflict["record"], conflict["local"]) == ("shared/x", {"ours": 1})
                assert conflict["remote"] == {"theirs": 2}
            replay = await ask(one, "GET", f"{path}/replay")
            assert (replay["conflicts"], list(replay["state"])) == ([conflict], ["x"])
            assert [each["operation"] for each in replay["operations"]] == ["pull", "push"]
            resolved = await ask(one, "POST", f"{path}/conflicts/resolve", {**options, "timestamp": "now"})
            assert resolved["success"]
            assert [(each["record"], each["value"]) for each in resolved["resolved"]] == [("shared/x", expected)]
            for node in (one, two):
                assert (await node.whole("shared/x"))["body"] == expected
                assert not node.node.conflicts.count()

    run(test)


def test_a_forced_push_resolves_and_a_value_given_by_hand_counts(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (one, two):
            for name in ("x", "y"):
                await one.put(f"shared/{name}", b'"ours"', "&type=application/json")
                await two.put(f"shared/{name}", b'"theirs"', "&type=application/json")
            path = await meet(one, two)
            by_hand = {"strategy": "prefer_local", "resolution_data": {"x": "neither"}}
            resolved = await ask(one, "POST", f"{path}/conflicts/resolve", by_hand)
            assert (resolved["success"], resolved["message"]) == (True, "2 conflicts resolved, 0 left")
            assert {each["record"]: each["value"] for each in resolved["resolved"]} == {
                "shared/x": "neither",
                "shared/y": "ours",
            }
            pulled = await ask(one, "POST", f"{path}/pull")
            assert pulled["data"] == {"x": "neither", "y": "ours"}
            pushed = await ask(one, "POST", f"{path}/push", {**state({"z": 1}), "options": {"force": True}})
            assert pushed["success"]
            assert (await two.whole("shared/x"))["body"] == "neither"

    run(test)


def test_status_and_nodes_say_how_it_stands_and_how_often_it_failed(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one:
            async with serving(tmp_path, name="two") as two:
                path = await meet(one, two)
                await ask(one, "POST", f"{path}/push", state({"a": 1}))
                await ask(one, "POST", "/v1/sync", {"peers": ["two"]})
                status = await ask(one, "GET", f"{NODES}/two/status")
                assert (status["is_online"], status["status"], status["name"]) == (True, "in sync", "two")
                assert status["version"] == to_base32(one.node.store.tree("main").root)
                assert (status["metrics"]["sync_count"], status["metrics"]["error_rate"]) == (2, 0.0)
                (listed,) = await ask(one, "GET", f"{NODES}?pattern=t?o")
                assert listed == {"id": to_base32(two.node.id), "name": "two", "status": "in sync"}
                assert await ask(one, "GET", f"{NODES}?pattern=kitchen*") == []
            failed = await ask(one, "POST", f"{path}/push", {**state({"b": 1}), "options": {"retry": 1}}, status=502)
            assert (failed["status"], failed["success"]) == ("error", False)
            status = await ask(one, "GET", f"{path}/status")
            assert (status["metrics"]["error_count"], status["metrics"]["error_rate"]) == (1, 0.3333)
            history = await ask(one, "GET", f"{path}/history?limit=2")
            assert [(each["operation"], each["status"]) for each in history] == [("push", "error"), ("sync", "success")]
            assert history[0]["details"]["error"]

    run(test)


def test_a_node_that_does_not_answer_in_time_is_a_504(tmp_path: Path) -> None:
    async def test() -> None:
        silent = await asyncio.start_server(lambda reader, writer: reader.read(), "127.0.0.1", 0)
        host, port = silent.sockets[0].getsockname()
        async with serving(tmp_path) as one:
            peer, address = IdentityId(bytes(32)), f"{host}:{port}"
            one.node.add_peer(address)
            one.node.peer_table.opened(peer, "silent", address, target=f"static:{address}", is_initiator=True)
            one.node.peer_table.closed(0, 0, peer, in_sync=None, reason="")
            for action, body in (("push", state({})), ("pull", {})):
                late = {**body, "options": {"timeout": 0.2}}
                answer = await ask(one, "POST", f"{NODES}/silent/{action}", late, status=504)
                assert answer["status"] == "error"
                assert "0.2 s" in answer["message"]
        silent.close()

    run(test)


def test_a_state_too_large_for_one_answer_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(echo_sync, "_STATE_RECORDS_MAX", 1)

    async def test() -> None:
        async with pair(tmp_path) as (one, two):
            path = await meet(one, two)
            await ask(one, "POST", f"{path}/push", state({"a": 1, "b": 1}))
            answer = await one.ask("GET", f"{path}/replay")
            assert (answer.status, answer.code) == (413, "too_large")
            assert "/v1/records/main/list" in answer.message

    run(test)


def test_a_push_that_is_no_state_writes_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (one, two):
            path = await meet(one, two)
            for body in (
                b'{"state": {"data": {"a": {"k": 1, "k": 2}}}}',
                b'{"state": {"data": [1]}}',
                b'{"data": {"a": 1}}',
                b'{"state": {"data": {"a": 1}, "colour": "red"}}',
                {"state": {"node_id": to_base32(one.node.id)[:20], "data": {"a": 1}}},
                {"state": {"data": {f"k{number}": 1 for number in range(1001)}}},
            ):
                answer = await one.ask("POST", f"{path}/push", body)
                assert answer.status in (400, 404), (body, answer)
            assert "main" not in one.node.store.contexts()
            assert not [event for event in one.events if isinstance(event, SyncCompleted) and event.context == "main"]

    run(test)


def test_the_open_network_and_the_configuration_choose_own_records(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path, secret=None) as one, serving(tmp_path, name="two", secret=None) as two:
            path = await meet(one, two)
            await ask(one, "POST", f"{path}/push", state({"a": 1}))
            own = await one.whole("me/a")
            assert own["body"] == 1
            assert (await ask(one, "POST", f"{path}/pull"))["data"] == {"a": 1}

    run(test)
