"""Pages of records and sets of records written at once."""

from pathlib import Path
from typing import Any

from tests.api.serving import Served, run, serving

RECORDS = "/v1/records/main"


async def page(served: Served, query: str) -> dict[str, Any]:
    answer = await served.ask("GET", f"{RECORDS}/page?{query}")
    assert answer.status == 200, answer
    return answer.json()


def test_pages_meet_every_record_also_those_written_meanwhile(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            for number in range(7):
                await served.put(f"n{number}", b"x", "&tag=even" if number % 2 == 0 else "")
            await served.ask("DELETE", f"{RECORDS}?id=n3")
            seen: list[str] = []
            found = await page(served, "limit=2&body=1")
            assert [record["body"] for record in found["records"]] == ["x", "x"]
            while True:
                seen += [record["name"] for record in found["records"]]
                if len(seen) == 2:
                    await served.put("n0", b"later")
                if not found["more"]:
                    break
                found = await page(served, f"limit=2&since={found['cursor']}")
            assert seen == ["n0", "n1", "n2", "n4", "n5", "n6", "n0"]
            after = await served.ask("GET", f"/v1/changes?since={found['cursor']}")
            assert after.json()["changes"] == []
            even = await page(served, "filter=tag=even&filter=name=n*")
            assert [record["name"] for record in even["records"]] == ["n2", "n4", "n6"]

    run(test)


def test_a_set_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            lines: list[dict[str, Any]] = [{"name": "a", "body": {"k": 1.50}, "tags": ["t"]}, {"name": "shared/b"}]
            answer = await served.ask("POST", f"{RECORDS}/put", {"records": lines})
            assert [each["id"].partition("/")[2] for each in answer.json()["written"]] == ["a", "b"]
            assert (await served.whole("a"))["version"] == answer.json()["written"][0]["version"]
            cursor = answer.json()["cursor"]
            assert (await served.ask("GET", f"/v1/changes?since={cursor}")).json()["changes"] == []
            for wrong, status, words in (
                ({"name": "n" * 201}, 400, "records[1]"),
                ({"name": "c", "colour": 1}, 400, "records[1]: not a record"),
                ({"name": "@nobody/c"}, 400, "records[1]"),
                ({"name": "me/a"}, 400, "twice"),
            ):
                answer = await served.ask("POST", f"{RECORDS}/put", {"records": [{"name": "a", "body": "new"}, wrong]})
                assert (answer.status, words in answer.message) == (status, True), answer
            assert (await served.whole("a"))["body"] == {"k": 1.5}
            for raw in (b"", b"[]", b'{"records": [{"name": "a", "body": {"k": 1, "k": 2}}]}', b"[" * 10_000):
                assert (await served.ask("POST", f"{RECORDS}/put", raw)).status == 400, raw[:60]
            many = {"records": [{"name": str(number)} for number in range(1001)]}
            assert (await served.ask("POST", f"{RECORDS}/put", many)).status == 400

    run(test)
