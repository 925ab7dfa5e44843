"""Requests to one peer through the API: list its records, fetch some, put some."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from echonode.model.record import Draft
from echonode.node import link_selection
from echonode.sync.select import Mode
from echonode.text import to_base32
from tests.api.serving import Served, run, serving
from tests.api.test_node import meet


@pytest.fixture(autouse=True)
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open no links, so that records move only on request."""
    monkeypatch.setattr(link_selection, "LINKS_CHOSEN", 0)
    monkeypatch.setattr(link_selection, "LINKS_ALL_MAX", 0)


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[Served, Served]]:
    """Yield two nodes that have met. Neither hears of what is written from now on."""
    async with serving(folder) as one, serving(folder, name="two") as other:
        await meet(one, other)
        yield one, other


async def write_unheard(served: Served, name: str, *tags: str, body: bytes = b"x", context: str = "main") -> None:
    """Write a shared record without telling the scheduler; without a body, delete it."""
    node = served.node
    assert node.records.shared is not None
    draft = Draft(context=context, author=node.records.shared, name=name, tags=tags, body=body, is_tombstone=not body)
    await node.store.write([draft], node.records.identity.device, node.records.tick)


async def asked(served: Served, what: str, **body: Any) -> dict[str, Any]:
    answer = await served.ask("POST", f"/v1/{what}", {"peer": "two", "timeout": 10, **body})
    assert answer.status == 200, answer
    return answer.json()


def test_a_pull_lists_what_fits_and_a_later_one_what_is_new(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path) as (one, other):
            for name, tag in (("a", "news"), ("b", "sport"), ("c", "news")):
                await write_unheard(other, name, tag)
            pulled = await asked(one, "pull", filter=["tag=news", "author=shared"])
            assert (pulled["status"], pulled["done"]) == ("success", True)
            assert [record["id"] for record in pulled["ids"]] == ["shared/a", "shared/c"]
            assert [record["address"] for record in pulled["ids"]] == ["shared/a", "shared/c"]
            assert await asked(one, "pull", filter=["author=me"]) == {**pulled, "ids": []}
            await write_unheard(other, "d", "news")
            later = await asked(one, "pull", filter=["tag=news"], after=pulled["after"])
            assert [record["id"] for record in later["ids"]] == ["shared/d"]
            assert not (await one.ask("GET", "/v1/records/main/list")).lines()

    run(test)


def test_a_pull_from_beyond_the_log_or_by_sender_is_answered_in_words(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path) as (one, other):
            await write_unheard(other, "a")
            beyond = await asked(one, "pull", after=other.node.store.seq("main") + 1)
            assert (beyond["status"], beyond["error"]) == (
                "error",
                "its log does not go as far as that: begin again from 0",
            )
            refused = await one.ask("POST", "/v1/pull", {"peer": "two", "filter": ["sender!=me"]})
            assert refused.status == 400
            assert "sender is for subscriptions" in str(refused.json())

    run(test)


def test_what_is_got_is_kept_and_what_is_not_there_is_said(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path) as (one, other):
            await write_unheard(other, "a")
            (there,) = (await asked(one, "pull"))["ids"]
            got = await asked(one, "get", records=[{"id": "shared/a"}, {"id": "shared/none"}])
            assert got["records"] == [{"id": "shared/a", "version": there["version"], "outcome": "taken", "reason": ""}]
            assert got["missing"] == ["shared/none"]
            assert (await one.whole("shared/a"))["version"] == there["version"]
            another = [{"id": "shared/a", "version": to_base32(bytes(32))}]
            assert (await asked(one, "get", records=another))["missing"] == ["shared/a"]
            whole_id = f"{to_base32(bytes(32))}/a"  # the author is unknown here
            assert (await asked(one, "get", records=[{"id": whole_id}]))["missing"] == [whole_id]

    run(test)


def test_a_put_says_what_became_of_each_record(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path) as (one, other):
            await write_unheard(one, "new")
            await write_unheard(one, "old")
            await asked(one, "put", records=["shared/old"])
            await write_unheard(other, "old", body=b"newer")
            answer = await asked(one, "put", records=["shared/new", "shared/old"])
            outcomes = {record["id"]: record["outcome"] for record in answer["records"]}
            assert outcomes == {"shared/new": "stored", "shared/old": "stale"}
            assert (await one.whole("shared/old"))["body"] == "newer"
            again = await asked(one, "put", records=["shared/new"])
            assert [record["outcome"] for record in again["records"]] == ["had"]

            other.node.subscriptions.subscribe({"main": ["tag=news"]}, other.node.addresses.resolve_in_filter)
            await write_unheard(one, "unwanted")
            (record,) = (await asked(one, "put", records=["shared/unwanted"]))["records"]
            assert (record["outcome"], record["reason"]) == ("refused", "not_accepted")

    run(test)


def test_what_a_peer_does_not_do_is_not_supported_and_it_says_what_is(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path) as (one, other):
            other.node.records.kept._listed = frozenset({"books"})
            answer = await asked(one, "pull", context="films")
            assert answer["status"] == "not supported" and "unknown_context" in answer["error"]
            assert answer["supported"] == ["identities"]

    run(test)


def test_a_peer_that_speaks_no_such_mode_is_not_asked(tmp_path: Path, monkeypatch) -> None:
    async def test() -> None:
        async with two(tmp_path) as (one, _):
            monkeypatch.setattr("echonode.node.hello.NAMES", (Mode.LEVEL_WISE.value,))
            answer = await asked(one, "get", records=[{"id": "shared/a"}])
            assert (answer["status"], answer["supported"]) == ("not supported", ["level_wise"])

    run(test)


def test_a_peer_that_cannot_be_reached_is_an_error(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one:
            async with serving(tmp_path, name="two") as other:
                await meet(one, other)
            answer = await asked(one, "pull")
            assert answer["status"] == "error" and answer["error"]
            assert (await one.ask("POST", "/v1/pull", {"peer": "nobody"})).status == 404

    run(test)


def test_names_that_mean_nobody_are_the_callers_mistake(tmp_path: Path) -> None:
    async def test() -> None:
        async with two(tmp_path) as (one, _):
            for what, body in (
                ("pull", {"filter": ["author=stranger"]}),
                ("get", {"records": [{"id": "@stranger/a"}]}),
                ("get", {"records": [{"id": "@stranger"}]}),
                ("get", {"records": [{"id": "a", "version": "short"}]}),
                ("pull", {"context": ""}),
                ("pull", {"limit": 0}),
                ("pull", {"filters": []}),
            ):
                assert (await one.ask("POST", f"/v1/{what}", {"peer": "two", **body})).status == 400, body

    run(test)
