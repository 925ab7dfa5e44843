"""Server-sent events: their order, their filters, and the ends of a stream."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from echonode.api import streams
from echonode.limits import EVENTS_WAITING_BYTES_MAX, EVENTS_WAITING_MAX
from echonode.text import to_base32
from tests.api import openapi
from tests.api.serving import Connection, run, serving


async def listen(connection: Connection, query: str = "") -> AsyncIterator[tuple[str, Any]]:
    """Wait until listening has begun, then yield (name, data) of every event, each checked against the document."""
    await connection.begin("GET", f"/v1/events{query}")
    await connection.end()
    head = await connection.head()
    assert (head.status, head.headers["content-type"]) == (200, openapi.EVENT_STREAM)
    data = aiter(connection.data())
    assert await anext(data) == b": listening\n\n"
    return _events(data)


async def _events(data: AsyncIterator[bytes]) -> AsyncIterator[tuple[str, Any]]:
    text = b""
    async for piece in data:
        text += piece
        while b"\n\n" in text:
            event, _, text = text.partition(b"\n\n")
            if event.startswith(b":"):
                continue
            name, body = event.decode().split("\n")
            shown = json.loads(body.removeprefix("data: "))
            openapi.validator("#/components/schemas/Event").validate(shown)
            yield name.removeprefix("event: "), shown


def test_a_write_is_told_to_every_listener_of_its_kind(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            serving(tmp_path) as served,
            served.connection() as one,
            served.connection() as two,
            served.connection() as three,
        ):
            everything = await listen(one)
            writes = await listen(two, "?types=records.applied,sync.completed")
            invitations = await listen(three, "?types=invitation.opened")
            put = await served.put("a", b"body", "&tag=t")
            await served.ask("POST", "/v1/invitations", {"uses": 3})
            for events in (everything, writes):
                name, data = await anext(events)
                assert (name, data["event"], data["context"], data["source"]) == ("records.applied",) * 2 + ("main", "")
                (record,) = data["records"]
                assert (record["id"], record["version"], record["tags"]) == (put["id"], put["version"], ["t"])
                assert "body" not in record and "heads" not in record
            for events in (everything, invitations):
                name, data = await anext(events)
                assert (name, data["uses"]) == ("invitation.opened", 3)

    run(test)


def test_what_a_peer_wrote_is_told_with_its_source(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one, serving(tmp_path, name="two") as two, one.connection() as connection:
            await one.put("ours")
            await two.put("theirs")
            events = await listen(connection)
            one.node.add_peer(two.listen[0])
            seen = {}
            while "theirs" not in [record["name"] for record in seen.get("records.applied", {}).get("records", [])]:
                name, data = await anext(events)
                seen[name] = data
            assert seen["records.applied"]["source"] == to_base32(two.node.id)
            assert seen["peer.connected"]["peer_name"] == "two"
            while (await anext(events))[0] != "sync.completed":
                pass

    run(test)


def test_the_stream_ends_with_a_word_when_the_server_closes(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served, served.connection() as connection:
            events = await listen(connection)
            await served.server.close()
            assert [event async for event in events] == [("end", {"reason": "stopping"})]

    run(test)


def test_the_stream_ends_with_a_word_when_the_node_stops(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served, served.connection() as connection:
            events = await listen(connection)
            await served.node.stop()
            assert [name async for name, _ in events] == ["node.stopped", "end"]

    run(test)


def test_a_reader_that_lags_too_far_is_told_that_it_lost_events(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served, served.connection() as connection:
            events = await listen(connection)
            for _ in range(EVENTS_WAITING_MAX + 1):  # without a pause, so that no event is read meanwhile
                served.node.bus.publish(served.events[0])
            names = [name async for name, _ in events]
            assert names == [served.events[0].name] * EVENTS_WAITING_MAX + ["end"]

    run(test)


def test_a_reader_that_stops_costs_bounded_bytes_whatever_is_written(tmp_path: Path) -> None:
    """Bodies do not wait for a reader: a hundred records of 150 kB wait in a few kilobytes."""

    async def test() -> None:
        async with serving(tmp_path) as served, served.connection() as connection:
            events = await listen(connection)
            await served.put("large", bytes(150_000))
            (stream,) = served.node.bus._streams
            applied = next(event for event in served.events if event.name == "records.applied" and not event.source)
            for _ in range(100):  # without a pause, so that no event is read meanwhile
                served.node.bus.publish(applied)
            assert 0 < stream.waiting_bytes < EVENTS_WAITING_BYTES_MAX // 10
            names = [(await anext(events))[0] for _ in range(101)]
            assert names == ["records.applied"] * 101

    run(test)


def test_a_quiet_stream_says_that_it_lives(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(streams, "KEEP_ALIVE_S", 0.01)

    async def test() -> None:
        async with serving(tmp_path) as served, served.connection() as connection:
            await connection.begin("GET", "/v1/events")
            await connection.end()
            await connection.head()
            data = aiter(connection.data())
            assert [await anext(data) for _ in range(3)] == [b": listening\n\n"] + [b": still listening\n\n"] * 2

    run(test)


def test_a_listener_that_leaves_is_forgotten(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            before = asyncio.all_tasks()
            async with served.connection() as connection:
                await listen(connection)
                assert served.node.bus.streams == 1
                connection.cut()
            while served.server._server.server_state.tasks:
                await asyncio.wait(served.server._server.server_state.tasks)
            assert served.node.bus.streams == 0
            assert asyncio.all_tasks() <= before

    run(test)
