"""Server-sent events: their order, their filters, and the ends of a stream."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from echonode.api import recent_events
from echonode.api.recent_events import EventFilter
from echonode.api.shutdown import Stop
from echonode.limits import EVENTS_WAITING_BYTES_MAX, EVENTS_WAITING_MAX
from echonode.node.events import PeerConnected, RecordsApplied
from echonode.text import to_base32
from tests.api import openapi
from tests.api.serving import Connection, run, serving


async def listen(
    connection: Connection, query: str = "", headers: Sequence[tuple[str, str]] = ()
) -> AsyncIterator[tuple[str, Any]]:
    """Wait until listening has begun, then yield (name, data) of every event, each checked against the document."""
    await connection.begin("GET", f"/v1/events{query}", headers)
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
            lines = dict(line.split(": ", 1) for line in event.decode().split("\n"))
            assert ("id" in lines) == (lines["event"] not in ("gap", "end"))
            shown = json.loads(lines["data"])
            openapi.validator("#/components/schemas/Event").validate(shown)
            yield lines["event"], shown


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


def test_each_record_that_comes_by_snapshot_is_told(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one, serving(tmp_path, name="two") as two, one.connection() as connection:
            names = [f"theirs-{number}" for number in range(5)]
            for name in names:
                await two.put(name)
            events = await listen(connection, "?types=records.applied&context=main")
            one.node.add_peer(two.listen[0])
            seen: list[str] = []
            async with asyncio.timeout(30):
                while len(seen) < len(names):
                    _, data = await anext(events)
                    assert data["source"] == to_base32(two.node.id)
                    seen += [record["name"] for record in data["records"]]
            assert sorted(seen) == names

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


def test_a_reader_that_lags_too_far_is_told_how_many_events_it_lost(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(recent_events, "EVENTS_WAITING_MAX", 50)

    async def test() -> None:
        async with serving(tmp_path) as served, served.connection() as connection:
            events = await listen(connection)
            for _ in range(57):  # without a pause, so that no event is read meanwhile
                served.node.bus.publish(served.events[0])
            assert await anext(events) == ("gap", {"reason": "slow reader", "lost": 7})
            names = [(await anext(events))[0] for _ in range(50)]
            assert names == [served.events[0].name] * 50

    run(test)


def test_a_reader_goes_on_behind_the_last_event_that_it_has(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            async with served.connection() as connection:
                await connection.begin("GET", "/v1/events?types=records.applied")
                await connection.end()
                await connection.head()
                data = aiter(connection.data())
                await anext(data)
                await served.put("a")
                last = (await anext(data)).decode().partition("\n")[0].removeprefix("id: ")
            await served.put("b")
            for query, headers in ((f"&since={last}", []), ("", [("last-event-id", last)])):
                async with served.connection() as connection:
                    events = await listen(connection, f"?types=records.applied{query}", headers)
                    name, event = await anext(events)
                    assert (name, event["records"][0]["name"]) == ("records.applied", "b")
            number, _, run_id = last.partition("-")
            for foreign in (f"{number}-other", "x", f"x-{run_id}", "1" * 40 + f"-{run_id}"):
                async with served.connection() as connection:
                    events = await listen(connection, f"?since={foreign}")
                    assert await anext(events) == ("gap", {"reason": "restarted", "lost": None})

    run(test)


def test_events_are_filtered_by_kind_context_and_peer(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            serving(tmp_path) as served,
            serving(tmp_path, name="two") as two,
            served.connection() as one,
            served.connection() as other,
            served.connection() as third,
        ):
            await two.put("theirs")
            kinds = await listen(one, "?types=invitation.*")
            in_books = await listen(other, "?context=books")
            served.node.add_peer(two.listen[0])
            happened = asyncio.Event()
            served.node.bus.on(PeerConnected, lambda _: happened.set())
            await happened.wait()
            about_two = await listen(third, f"?peer={to_base32(two.node.id)}&types=records.applied")
            await served.put("a")
            await served.put("b", context="books")
            await served.ask("POST", "/v1/invitations", {"uses": 3})
            await two.put("later")
            assert (await anext(kinds))[0] == "invitation.opened"
            assert (await anext(in_books))[1]["records"][0]["name"] == "b"
            while "later" not in [record["name"] for record in (await anext(about_two))[1]["records"]]:
                pass
            for query, status in (("types=no.*", 400), ("peer=nobody", 404), ("context=", 400)):
                assert (await served.ask("GET", f"/v1/events?{query}")).status == status

    run(test)


def test_the_ring_is_bounded_in_bytes(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served, served.connection() as connection:
            await listen(connection)
            ring = served.server.app.ring
            await served.put("large", bytes(150_000))
            applied = served.events[-1]
            assert applied.name == "records.applied"
            for _ in range(200):
                served.node.bus.publish(applied)
            assert EVENTS_WAITING_BYTES_MAX // 2 < ring.size_bytes <= EVENTS_WAITING_BYTES_MAX

    run(test)


def test_a_reader_that_stands_keeps_no_event_that_left_the_ring(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            ring = served.server.app.ring
            reader = ring.read(EventFilter(kinds=("records.applied",)), None, Stop())
            await anext(reader)
            for _ in range(20):
                served.node.bus.publish(RecordsApplied(context="told late", source=b"", records=()))
            assert b"event: records.applied" in await anext(reader)
            for _ in range(EVENTS_WAITING_MAX):
                served.node.bus.publish(served.events[0])
            served.events.clear()
            every = (each for each in gc.get_objects() if isinstance(each, RecordsApplied))
            assert [each for each in every if each.context == "told late"] == []
            assert b"event: gap" in await anext(reader)
            await reader.aclose()

    run(test)


def test_a_ring_that_nobody_has_read_holds_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served, served.connection() as connection:
            ring = served.server.app.ring
            await served.put("before", b"x")
            assert (ring.size_bytes, len(ring._entries)) == (0, 0)
            events = await listen(connection, "?types=records.applied")
            await served.put("after", b"x")
            name, data = await anext(events)
            assert (name, [record["name"] for record in data["records"]]) == ("records.applied", ["after"])
            assert len(ring._entries) > 0

    run(test)


def test_a_quiet_stream_says_that_it_lives(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(recent_events, "KEEP_ALIVE_S", 0.01)

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
                for _ in range(1_000_000):
                    if served.server.app.ring.readers:
                        break
                    await asyncio.sleep(0)
                assert served.server.app.ring.readers == 1
                connection.cut()
            while served.server._server.server_state.tasks:
                await asyncio.wait(served.server._server.server_state.tasks)
            assert served.server.app.ring.readers == 0
            assert asyncio.all_tasks() <= before

    run(test)
