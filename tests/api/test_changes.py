"""/v1/changes: cursors, long polls, streams that are resumed, gaps, filters; and writes on condition."""

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from echonode.limits import CHANGES_BYTES_MAX
from echonode.model.identity import Instance
from tests.api import openapi
from tests.api.serving import Answer, Connection, Served, run, serving

RECORDS = "/v1/records/main"
SSE = [("accept", openapi.EVENT_STREAM)]


async def changes(served: Served, query: str = "") -> dict[str, Any]:
    answer = await served.ask("GET", f"/v1/changes?context=main{query}")
    assert answer.status == 200, answer
    return answer.json()


def names(found: dict[str, Any]) -> list[str]:
    return [change["record"]["name"] for change in found["changes"]]


async def conditional(served: Served, method: str, target: str, body: bytes, **headers: str) -> Answer:
    async with served.connection() as connection:
        return await connection.ask(method, target, body, [(k.replace("_", "-"), text) for k, text in headers.items()])


async def one_waits(served: Served) -> None:
    """Return once a request waits for the next change."""
    for _ in range(1_000_000):
        if "main" in served.node.changes._waiting:
            return
        await asyncio.sleep(0)
    raise AssertionError("no request waits")


class Stream:
    """The events of one stream, each checked against the document."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._text = b""
        self._data: Any = None
        self.place = ""

    async def open(self, query: str, *headers: tuple[str, str]) -> "Stream":
        await self._connection.begin("GET", f"/v1/changes?context=main{query}", [*SSE, *headers])
        await self._connection.end()
        head = await self._connection.head()
        assert (head.status, head.headers["content-type"]) == (200, openapi.EVENT_STREAM)
        self._data = aiter(self._connection.data())
        return self

    async def next(self) -> tuple[str, Any]:
        """Return name and data of the next event, and keep its id as `place`."""
        while True:
            while b"\n\n" not in self._text:
                self._text += await anext(self._data)
            event, _, self._text = self._text.partition(b"\n\n")
            fields = dict(line.split(": ", 1) for line in event.decode().splitlines() if not line.startswith(":"))
            self.place = fields.get("id", self.place)
            if "data" in fields:
                data = json.loads(fields["data"])
                pointer = "#/paths/~1v1~1changes/get/responses/200/content/text~1event-stream/schema"
                openapi.validator(pointer).validate(data)
                return fields["event"], data


def test_a_reader_goes_on_from_the_cursor_of_any_answer(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            first = await served.put("a")
            await served.put("b", b"{}", "&type=application/json")
            await served.put("elsewhere", context="other")
            found = await changes(served)
            assert (names(found), found["gap"], found["more"]) == (["a", "b"], None, False)
            assert names(await changes(served, f"&since={first['cursor']}")) == ["b"]
            assert names(await changes(served, f"&since={found['changes'][0]['cursor']}")) == ["b"]
            listed = await served.ask("GET", f"{RECORDS}/list")
            for cursor in (found["cursor"], listed.headers["echo-cursor"]):
                assert (await changes(served, f"&since={cursor}"))["changes"] == []
            await served.put("a", b"again")
            await served.ask("DELETE", f"{RECORDS}?id=b")
            after = await changes(served, f"&since={found['cursor']}&body=1")
            assert [(each["record"]["name"], each["record"]["deleted"]) for each in after["changes"]] == [
                ("a", False),
                ("b", True),
            ]
            assert after["changes"][0]["record"]["body"] == "again"
            whole = await changes(served, "&body=base64")
            assert [each["record"].get("body_base64") for each in whole["changes"]] == ["YWdhaW4=", None]
            few = await changes(served, "&limit=1")
            assert (names(few), few["more"]) == (["a"], True)

    run(test)


def test_filters_keep_records_out_and_no_deletion_that_could_be_wanted(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            await served.put("news/1", b"x", "&tag=news&model=story@1.0")
            await served.put("news/2", b"x", "&tag=old")
            await served.put("shared/news/3", b"x", "&tag=news")
            await served.put("gone", b"x", "&tag=news")
            await served.ask("DELETE", f"{RECORDS}?id=gone")
            for query, expected in (
                ("&tag=news", ["news/1", "news/3", "gone"]),
                ("&name=news/*", ["news/1", "news/2", "news/3"]),
                ("&author=shared", ["news/3"]),
                ("&author=me&tag=old&tag=news", ["news/1", "news/2", "gone"]),
                ("&model=story", ["news/1", "gone"]),
                (f"&filter={quote('tag=old')}&name=news*", ["news/2"]),
            ):
                assert names(await changes(served, query)) == expected, query

    run(test)


def test_a_long_poll_answers_at_the_first_wanted_change_or_when_its_time_is_up(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            cursor = (await changes(served))["cursor"]
            waiting = asyncio.create_task(changes(served, f"&since={cursor}&wait=30&tag=t"))
            await one_waits(served)
            await served.put("other")
            await served.put("wanted", b"x", "&tag=t")
            assert names(await waiting) == ["wanted"]
            end = (await changes(served))["cursor"]
            late = await changes(served, f"&since={end}&wait=1")
            assert (late["changes"], late["cursor"]) == ([], end)
            assert served.node.changes._waiting == {}
            waiting = asyncio.create_task(served.ask("GET", f"/v1/changes?since={end}&wait=300"))
            await one_waits(served)
            await served.server.close()
            assert (await waiting).code == "stopping"

    run(test)


def test_a_stream_that_broke_off_is_resumed_by_its_last_id(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            await served.put("a")
            async with served.connection() as connection:
                stream = await Stream(connection).open("&since=now")
                await served.put("b")
                name, data = await stream.next()
                assert (name, data["record"]["name"], stream.place) == ("change", "b", data["cursor"])
            await served.put("c")
            async with served.connection() as connection:
                stream = await Stream(connection).open("&since=now", ("last-event-id", stream.place))
                assert (await stream.next())[1]["record"]["name"] == "c"
                await served.server.close()
                assert await stream.next() == ("end", {"reason": "stopping"})

    run(test)


def test_a_cursor_of_another_life_of_the_store_is_a_gap_and_everything_is_told(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            cursor = (await served.put("a"))["cursor"]
            await served.node.records.renew_instance(Instance(b"12345678"))
            found = await changes(served, f"&since={cursor}&wait=60")
            assert (names(found), "from the beginning" in found["gap"]) == (["a"], True)
            number, _, life = found["cursor"].partition("-")
            ahead = await changes(served, f"&since={int(number) + 1}-{life}")
            assert ahead["gap"] and names(ahead) == ["a"]
            async with served.connection() as connection:
                stream = await Stream(connection).open(f"&since={cursor}")
                assert [(await stream.next())[0] for _ in range(2)] == ["gap", "change"]

    run(test)


def test_what_is_no_cursor_is_said_so(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            cursor = (await served.put("a"))["cursor"]
            number, _, life = cursor.partition("-")
            for text in ("", "yesterday", "-", number, f"-{life}", f"x-{life}", f"{'9' * 30}-{life}", f"1-{life[1:]}"):
                answer = await served.ask("GET", f"/v1/changes?since={text}")
                assert (answer.status, "no cursor" in answer.message) == (400, True), text
            other = await served.ask("GET", f"/v1/changes?context=other&since={cursor}")
            assert (other.status, "of another context" in other.message) == (400, True)
            for query in ("wait=301", "wait=x", "limit=0", "body=2", "tag=", "author=nobody", "filter=sender=me"):
                assert (await served.ask("GET", f"/v1/changes?{query}")).status == 400, query

    run(test)


def test_a_record_in_conflict_is_told_once_with_the_number_of_its_versions(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served, serving(tmp_path, name="two") as other:
            await served.put("shared/split", b"ours")
            await other.put("shared/split", b"theirs")
            cursor = (await served.put("z"))["cursor"]
            for context in ("identities", "main"):
                records, _ = await other.node.store.scan(context, 0, limit=10)
                await served.node.store.apply(context, records)
            for query in ("", f"&since={cursor}"):
                (change,) = [c for c in (await changes(served, query))["changes"] if c["record"]["name"] == "split"]
                assert change["record"]["heads"] == 2
            whole = await served.whole("shared/split")
            assert whole["etag"] == change["record"]["etag"] != whole["version"]

    run(test)


def test_readers_that_do_not_read_hold_no_changes(tmp_path: Path) -> None:
    """A place in the log is a number: whatever is written, a reader that stands holds one piece of the log."""

    async def test() -> None:
        async with serving(tmp_path) as served:
            for number in range(20):
                await served.put(f"n{number}", bytes(4 * CHANGES_BYTES_MAX))
            connections = [Connection(*await asyncio.open_unix_connection(str(served.socket))) for _ in range(100)]
            for connection in connections:
                await Stream(connection).open("")
            before = len(asyncio.all_tasks())
            for number in range(50):
                await served.put(f"m{number}")
            assert len(asyncio.all_tasks()) == before
            served_to = served.server._server.server_state.connections
            buffered = [each.transport.get_write_buffer_size() for each in served_to]
            assert len(buffered) >= 100 and max(buffered) < 8 * CHANGES_BYTES_MAX
            for connection in connections:
                connection.cut()
                await connection.close()

    run(test)


# -- writes on condition -----------------------------------------------------------------------------------------------


def test_a_program_writes_only_over_what_it_has_seen(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            target = f"{RECORDS}?id=a"
            created = await conditional(served, "PUT", target, b"1", if_none_match="*")
            assert created.status == 200
            assert (await conditional(served, "PUT", target, b"2", if_none_match="*")).code == "precondition_failed"
            read = await served.ask("GET", target)
            tag = read.headers["etag"]
            assert tag == f'"{created.json()["version"]}"'
            assert (await served.whole("a"))["etag"] == tag.strip('"')
            assert (await conditional(served, "PUT", target, b"2", if_match=f'"other", {tag}')).status == 200
            stale = await conditional(served, "PUT", target, b"3", if_match=tag)
            assert (stale.status, stale.code) == (412, "precondition_failed")
            assert (await served.ask("GET", target)).body == b"2"
            assert (await conditional(served, "DELETE", target, b"", if_match=tag)).status == 412
            assert (await conditional(served, "DELETE", target, b"", if_match="*")).status == 200
            assert (await conditional(served, "PUT", target, b"4", if_match="*")).status == 412
            assert (await conditional(served, "PUT", target, b"4", if_none_match="*")).status == 200
            for wrong in (tag.strip('"'), '"', ""):
                assert (await conditional(served, "PUT", target, b"5", if_match=wrong)).status == 400, wrong
            assert (await conditional(served, "PUT", target, b"5", if_none_match=tag)).status == 400

    run(test)


def test_of_many_writers_with_one_tag_one_writes(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            await served.put("a")
            tag = (await served.ask("GET", f"{RECORDS}?id=a")).headers["etag"]
            answers = await asyncio.gather(
                *(conditional(served, "PUT", f"{RECORDS}?id=a", b"%d" % n, if_match=tag) for n in range(12))
            )
            assert sorted(answer.status for answer in answers) == [200] + [412] * 11

    run(test)
