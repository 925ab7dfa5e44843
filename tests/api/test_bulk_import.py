"""Import and export: any number of lines in bounded memory, batches written whole or not at all, nothing written twice.
"""

import asyncio
import json
import tracemalloc
from base64 import b64encode
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest

from echonode import cbor
from echonode.api.bulk_import import LINE_BYTES_MAX, import_lines
from echonode.limits import BATCH_RECORDS_MAX, BODY_BYTES_MAX, IMPORT_SHARED_RECORDS
from echonode.model.record import Draft
from echonode.text import to_base32
from tests.api.serving import Answer, Served, run, serving

IMPORT = "/v1/records/main/import"
MANY = 20_000


def line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def named(numbers: Iterable[int], body: object = "b") -> bytes:
    return b"".join(line(name=f"n{number}", body=body, tags=["t"], timestamp=number) for number in numbers)


async def import_(served: Served, lines: bytes) -> list[dict[str, Any]]:
    answer = await served.ask("POST", IMPORT, lines)
    assert answer.status == 200
    return answer.lines()


async def names(served: Served) -> list[str]:
    return [each["name"] for each in (await served.ask("GET", "/v1/records/main/list")).lines()]


def test_every_field_of_a_line_arrives(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            assert await import_(
                served,
                line(name="a", body={"b": [1, "é"]}, tags=["y", "x"], model="m@2.3", timestamp="2001-02-03T04:05:06Z")
                + line(name="b", body="text")
                + line(name="c", body="text", type="application/json")
                + line(name="d", body_base64="AAEC", type="image/x", id="anybody/else")
                + line(name="e", body=None, timestamp=981173106.5)
                + line(name="f"),
            ) == [
                {"lines": 6, "written": 6, "unchanged": 0},
                {"lines": 6, "written": 6, "unchanged": 0, "done": True},
            ]
            whole = {name: await served.whole(name) for name in "abcdef"}
            bodies = [(await served.ask("GET", f"/v1/records/main?id={name}")).body for name in "abcdef"]
            assert bodies == [b'{"b": [1, "\\u00e9"]}', b"text", b'"text"', b"\0\1\2", b"null", b""]
            types = ["application/json", "text/plain", "application/json", "image/x", "application/json", ""]
            assert [each["type"] for each in whole.values()] == types
            assert (whole["a"]["tags"], whole["a"]["model"], whole["a"]["model_version"]) == (["x", "y"], "m", "2.3")
            assert whole["a"]["created"] == "2001-02-03T04:05:06.000Z"
            assert whole["e"]["created"] == "2001-02-03T04:05:06.500Z"

    run(test)


VERBATIM = [
    b"1.0",
    b"1E2",
    b"-0",
    b"0.1000",
    b"12345678901234567890123",
    b"1" * 5000,
    b"1e400",
    b'{"z":1,  "a":2}',
    b'["\\u00e9", "\xc3\xa9", "\\/"]',
]


@pytest.mark.parametrize("body", VERBATIM, ids=lambda body: repr(body[:30]))
def test_a_body_is_kept_byte_for_byte_and_leaves_as_it_came(tmp_path: Path, body: bytes) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            text = b'"type": "application/json", "body": "%s"' % body.hex().encode()
            lines = b'{"name": "a", "body": ' + body + b'}\n{"name": "b", ' + text + b"}\n"
            assert (await import_(served, lines))[-1]["written"] == 2
            assert (await served.ask("GET", "/v1/records/main?id=a")).body == body
            assert (await served.ask("GET", "/v1/records/main?id=b")).body == b'"%s"' % body.hex().encode()
            await served.whole("a")
            export = (await served.ask("GET", "/v1/records/main/export")).body
            assert (await import_(served, export))[-1] == {"lines": 2, "written": 0, "unchanged": 2, "done": True}

    run(test)


@pytest.mark.parametrize("body", [b'{"a": 1, "a": 1}', b"[1]\n", b" 1 ", b"NaN", b'{"a": 1, "b": {"x": 0, "x": 1}}'])
def test_a_body_that_no_line_can_hold_is_exported_in_base64(tmp_path: Path, body: bytes) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            await served.put("a", body, "&type=application/json")
            export = (await served.ask("GET", "/v1/records/main/export")).body
            assert b"body_base64" in export
            assert (await import_(served, export))[-1]["unchanged"] == 1

    run(test)


def test_own_names_that_look_like_addresses_come_back_as_they_were(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            await served.put("shared/plan", b"what the team agreed on")
            for name in ("shared/plan", "me/y", "plain", f"{to_base32(bytes(32))}/x", "@two/x"):
                await served.put(f"me/{name}", name.encode())
            before = (await served.ask("GET", "/v1/records/main/list")).lines()
            export = (await served.ask("GET", "/v1/records/main/export")).body
            assert (await import_(served, export))[-1] == {"lines": 5, "written": 0, "unchanged": 5, "done": True}
            assert (await served.ask("GET", "/v1/records/main/list")).lines() == before
            assert (await served.whole("shared/plan"))["body"] == "what the team agreed on"

    run(test)


def test_many_lines_come_in_batches_and_the_same_again_writes_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            lines = named(range(MANY))
            progress = await import_(served, lines)
            assert progress[:-1] == [
                {"lines": n, "written": n, "unchanged": 0}
                for n in range(BATCH_RECORDS_MAX, MANY + 1, BATCH_RECORDS_MAX)
            ]
            assert progress[-1] == {"lines": MANY, "written": MANY, "unchanged": 0, "done": True}
            root = served.node.store.tree("main").root
            again = await import_(served, lines)
            assert again[-1] == {"lines": MANY, "written": 0, "unchanged": MANY, "done": True}

            export = await served.ask("GET", "/v1/records/main/export")
            assert len(export.lines()) == MANY
            assert (await import_(served, export.body))[-1]["written"] == 0
            assert served.node.store.tree("main").root == root

    run(test)


def test_fields_of_a_later_version_come_back_from_an_export_and_are_written_again(tmp_path: Path) -> None:
    later = b64encode(cbor.encode({14: {"unheard": ["of"]}})).decode()

    async def test() -> None:
        async with serving(tmp_path) as served:
            first, *_ = await import_(served, line(name="a", body="b", later=later))
            assert first["written"] == 1
            exported = (await served.ask("GET", "/v1/records/main/export")).body
            assert json.loads(exported)["later"] == later
            first, *_ = await import_(served, exported)
            assert first["unchanged"] == 1
            for wrong in ("?", b64encode(cbor.encode({3: "another name"})).decode()):
                *_, last = await import_(served, line(name="a", body="b", later=wrong))
                assert last["error"]["line"] == 1
            await import_(served, line(name="a", body="b"))
            assert b"later" not in (await served.ask("GET", "/v1/records/main/export")).body

    run(test)


def test_an_export_fills_another_node_with_the_same(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one, serving(tmp_path, name="two") as two:
            await one.put("json", b'{"spaced": 1}', "&type=application/json&tag=t&model=m@2.0")
            await one.put("noise", b"\0\xff", "&timestamp=2001-02-03")
            await one.put("shared/todo", b"milk")
            export = await one.ask("GET", "/v1/records/main/export")
            assert [each["name"] for each in export.lines()] == ["me/json", "me/noise"]
            assert (await import_(two, export.body))[-1]["written"] == 2
            differ = ("id", "author", "version", "timestamp", "etag")
            for name in ("json", "noise"):
                ours, theirs = await one.whole(name), await two.whole(name)
                assert all((ours[key] == theirs[key]) != (key in differ) for key in ours if key != "timestamp")
            got = await two.ask("GET", "/v1/records/main?id=json")
            assert got.body == b'{"spaced": 1}'
            shared = await one.ask("GET", "/v1/records/main/export?author=shared")
            assert [(each["id"], each["name"]) for each in shared.lines()] == [("shared/todo", "shared/todo")]
            assert (await import_(two, shared.body + line(name="todo")))[-1]["written"] == 2
            assert (await two.whole("shared/todo"))["body"] == "milk"
            assert (await two.whole("me/todo"))["body"] == ""

    run(test)


@pytest.mark.parametrize(
    ("bad", "code", "says"),
    [
        (b"{broken\n", "bad_request", "not a record: JSON is malformed"),
        (b"[]\n", "bad_request", "not a record"),
        (line(body="nameless"), "bad_request", "missing required field `name`"),
        (line(name="a", tag="t"), "bad_request", "unknown field `tag`"),
        (line(name="a", body="x", body_base64="eA=="), "bad_request", "one body"),
        (line(name="a", body_base64="?"), "bad_request", "not base64"),
        (line(name="a", timestamp="soon"), "bad_request", "is no time"),
        (line(name="a", timestamp=True), "bad_request", "not a record"),
        (line(name="a", tags="t"), "bad_request", "not a record"),
        (b'{"name": "a", "body": {"x": 1, "y": 2, "x": 3}}\n', "bad_request", 'the key "x" stands twice'),
        (b'{"name": "a", "name": "b"}\n', "bad_request", 'the key "name" stands twice'),
        (b'{"name": "a", "body": NaN}\n', "bad_request", "not a record"),
        (b'{"name": "a", "body": [01]}\n', "bad_request", "not a record"),
        (b'{"name": "a", "body": "\xff"}\n', "bad_request", "not a record"),
        (b'{"name": "a", "body": ["\xff"]}\n', "bad_request", "not a record"),
        (b'{"name": "a", "body": ' + b"[" * 5000 + b"]" * 5000 + b"}\n", "bad_request", "nested too deeply"),
        (b'{"name": "\\ud800"}\n', "bad_request", "not a record"),
        (b'{"name": "\xff"}\n', "bad_request", "not a record"),
        (line(name=""), "unusable", "a record name is 1 to 200 bytes"),
        (line(name="a\tb"), "unusable", "a record name is 1 to 200 bytes"),
        (line(name="a", body="x" * (BODY_BYTES_MAX + 1)), "unusable", "a body is at most"),
        (line(name="a", body="x" * (LINE_BYTES_MAX + 300_000)), "too_large", "a line is at most"),
    ],
)
def test_a_bad_line_is_named_and_nothing_of_its_batch_is_written(
    tmp_path: Path, bad: bytes, code: str, says: str
) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            lines = named(range(1000)) + b"\n" + named(range(1000, 1500)) + bad + named(range(1500, 4000))
            first, last = await import_(served, lines)
            assert first == {"lines": 1000, "written": 1000, "unchanged": 0}
            error = last.pop("error")
            assert last == first
            assert (error["line"], error["code"]) == (1502, code)
            assert says in error["message"]
            assert await names(served) == [f"n{number}" for number in range(1000)]

    run(test)


def test_batches_are_small_while_others_write(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            assert [each["lines"] for each in await import_(served, named(range(2000)))] == [1000, 2000, 2000]
            await served.node.records.put(Draft(context="main", author=served.node.id, name="beside"))
            assert served.node.records.is_shared
            progress = [each["lines"] for each in await import_(served, named(range(2000, 4000)))]
            assert progress[:3] == [number * IMPORT_SHARED_RECORDS for number in (1, 2, 3)]
            assert progress[-1] == 2000

    run(test)


def test_a_shared_line_is_a_bad_one_where_nothing_is_shared(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path, secret=None) as served:
            (last,) = await import_(served, line(name="a") + line(name="shared/a"))
            assert (last["error"]["line"], last["error"]["code"], last["written"]) == (2, "unusable", 0)

    run(test)


def test_empty_lines_a_byte_order_mark_and_a_missing_last_newline_do_no_harm(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            lines = (
                b"\xef\xbb\xbf"
                + line(name="a")
                + b"\r\n   \n"
                + line(name="b").replace(b"\n", b"\r\n")
                + b'{"name": "c"}'
            )
            assert (await import_(served, lines))[-1] == {"lines": 5, "written": 3, "unchanged": 0, "done": True}
            assert await names(served) == ["a", "b", "c"]
            assert await import_(served, b"") == [{"lines": 0, "written": 0, "unchanged": 0, "done": True}]

    run(test)


def test_of_lines_with_one_name_the_last_counts_and_importing_again_changes_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            lines = line(name="a", body=1) + line(name="b") + line(name="a", body=2)
            assert (await import_(served, lines))[-1] == {"lines": 3, "written": 2, "unchanged": 1, "done": True}
            assert (await served.whole("a"))["body"] == 2
            assert (await import_(served, lines))[-1] == {"lines": 3, "written": 0, "unchanged": 3, "done": True}

    run(test)


def test_what_was_edited_or_deleted_since_is_written_again(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            await import_(served, named(range(4)))
            await served.put("n1", b"edited")
            await served.ask("DELETE", "/v1/records/main?id=n2")
            assert (await import_(served, named(range(4))))[-1]["written"] == 2
            assert sorted(await names(served)) == ["n0", "n1", "n2", "n3"]

    run(test)


def test_long_lines_make_smaller_batches(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            progress = await import_(served, named(range(100), body="x" * 150_000))
            assert len(progress) > 2
            assert progress[-1] == {"lines": 100, "written": 100, "unchanged": 0, "done": True}

    run(test)


def test_a_connection_that_is_cut_leaves_whole_batches_only(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            before = asyncio.all_tasks()
            async with served.connection() as connection:
                await connection.begin("POST", IMPORT, [("transfer-encoding", "chunked")])
                for start in range(0, 3500, 100):
                    await connection.send(named(range(start, start + 100)))
                assert (await connection.head()).status == 200
                async for data in connection.data():
                    if b'"lines":3000' in data:
                        break
                connection.cut()
            while served.server._server.server_state.tasks:
                await asyncio.wait(served.server._server.server_state.tasks)
            assert await names(served) == [f"n{number}" for number in range(3000)]
            assert asyncio.all_tasks() <= before

    run(test)


def test_progress_can_be_read_while_lines_are_sent(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served, served.connection() as connection:
            await connection.begin("POST", IMPORT, [("transfer-encoding", "chunked")])
            await connection.send(named(range(1000)))
            await connection.head()
            data = aiter(connection.data())
            assert json.loads(await anext(data))["written"] == 1000
            await connection.send(named(range(1000, 1001)))
            await connection.end()
            assert json.loads(await anext(data))["written"] == 1001

    run(test)


def test_an_error_is_told_at_once_and_what_is_still_sent_does_no_harm(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served, served.connection() as connection:
            await connection.begin("POST", IMPORT, [("transfer-encoding", "chunked")])
            await connection.send(b"{broken\n" + named(range(999)))
            answer: Answer = await connection.answer()
            assert answer.lines()[-1]["error"]["line"] == 1
            for _ in range(50):
                await connection.send(named(range(1000)))
            await connection.end()
            connection.next_request()
            assert (await connection.ask("GET", "/v1/records/main/list")).lines() == []

    run(test)


class Forgetful:
    """Stands in for a node and keeps nothing, so that only the import's own memory is measured."""

    is_shared = False

    def resolve(self, text: str) -> tuple[bytes, str]:
        return bytes(32), text

    async def put_all(self, drafts: list[object], *, skip_unchanged: bool) -> list[object]:
        assert skip_unchanged
        return drafts


def test_the_next_lines_are_read_while_a_batch_is_written_and_not_more() -> None:
    async def test() -> None:
        begun, is_second_read = 0, asyncio.Event()

        class Slow(Forgetful):
            async def put_all(self, drafts: list[object], *, skip_unchanged: bool) -> list[object]:
                await is_second_read.wait()
                return drafts

        async def chunks() -> AsyncIterator[bytes]:
            nonlocal begun
            for start in range(0, 5 * BATCH_RECORDS_MAX, BATCH_RECORDS_MAX):
                begun += 1
                if begun == 2:
                    is_second_read.set()
                yield named(range(start, start + BATCH_RECORDS_MAX))

        before = asyncio.all_tasks()
        lines = import_lines(Slow(), Forgetful(), "main", chunks())  # type: ignore[arg-type]
        assert json.loads(await anext(lines))["written"] == BATCH_RECORDS_MAX
        assert begun == 2
        await lines.aclose()
        assert asyncio.all_tasks() <= before

    run(test)


def test_memory_does_not_grow_with_the_number_of_lines() -> None:
    async def peak_of(batches: int) -> int:
        async def chunks() -> AsyncIterator[bytes]:
            for start in range(100_000, 100_000 + batches * 1000, 100):
                yield named(range(start, start + 100))

        tracemalloc.reset_peak()
        async for _ in import_lines(Forgetful(), Forgetful(), "main", chunks()):  # type: ignore[arg-type]
            pass
        return tracemalloc.get_traced_memory()[1]

    async def test() -> None:
        tracemalloc.start()
        try:
            await peak_of(3)
            few, many = await peak_of(3), await peak_of(15)
        finally:
            tracemalloc.stop()
        assert many < few * 1.5

    run(test)
