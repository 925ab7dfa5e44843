"""Looks into a node through its API: its log and the level of that, sessions message by message, and reasons."""

import json
from dataclasses import replace
from pathlib import Path

from echonode.host.logs import Logs
from echonode.host.system import SystemClock
from echonode.limits import LOG_PEERS_MAX
from echonode.model.identity import IdentityId
from echonode.node.settings import Quota, Quotas
from echonode.text import to_base32
from tests.api.serving import Served, hearing, run, serving


async def connected(one: Served, two: Served) -> None:
    """Let `two` dial `one`, and wait until both are linked."""
    with hearing(two.node) as events:
        two.node.add_peer(one.listen[0])
        while (await events.get()).name != "follow.began":
            pass


def test_a_conversation_is_shown_message_by_message_on_both_nodes_alike(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one, serving(tmp_path, name="two") as two:
            await one.put("a", b"the secret body")
            await connected(one, two)
            there = (await one.ask("GET", "/v1/trace?peer=two")).json()
            here = (await two.ask("GET", "/v1/trace?peer=one")).json()
            assert (here["node"], here["peer"], here["peer_name"]) == (there["peer"], there["node"], "one")
            ours, theirs = here["sessions"][-1], there["sessions"][-1]
            assert ours["session"] == theirs["session"]
            assert {ours["role"], theirs["role"]} == {"initiator", "responder"}
            received = {(m["number"], m["type"], m["bytes"]) for m in ours["messages"] if m["way"] == "received"}
            sent = {(m["number"], m["type"], m["bytes"]) for m in theirs["messages"] if m["way"] == "sent"}
            assert {"Auth", "Hello", "Records"} & {kind for _, kind, _ in received} > {"Auth"}
            assert received <= sent
            assert "secret" not in json.dumps([here, there])

    run(test)


def test_the_ring_holds_more_than_is_written_and_follows(tmp_path: Path) -> None:
    class Nowhere:
        def write(self, line: bytes) -> int:
            return len(line)

        def flush(self) -> None: ...

        def isatty(self) -> bool:
            return False

    async def test() -> None:
        logs = Logs(Nowhere(), SystemClock(), level="error")
        async with serving(tmp_path, observe=logs, run_log=logs.run_log) as one:
            await one.put("a", b"the secret body")
            lines = (await one.ask("GET", "/v1/logs")).lines()
            assert [line["event"] for line in lines][-1] == "records.applied"
            assert "secret" not in json.dumps(lines)
            assert (await one.ask("GET", "/v1/logs?level=error")).lines() == []
            async with one.connection() as connection:
                await connection.begin("GET", "/v1/logs?event=records.*&follow=1")
                await connection.end()
                await connection.head()
                parts = connection.data()
                before = (await anext(parts)).splitlines()
                await one.put("b", b"another", context="later")
                after = (await anext(parts)).splitlines()
            assert "later" not in [json.loads(line)["context"] for line in before]
            assert [json.loads(line)["context"] for line in after] == ["later"]

    run(test)


def test_too_many_peers_with_a_level_of_their_own_are_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one:
            for number in range(LOG_PEERS_MAX + 1):
                peer = IdentityId(bytes([number]) * 32)
                one.node.peer_table.opened(peer, f"p{number}", "127.0.0.1:1", target=None, is_initiator=False)
                answer = await one.ask("PUT", "/v1/log-level", {"level": "debug", "peer": to_base32(peer)})
            assert (answer.status, answer.code) == (409, "conflict")
            assert (await one.ask("PUT", "/v1/log-level", {})).json()["peers"] == []
            assert [event.to for event in one.events if event.name == "log.level_set"][:1] == ["debug"]

    run(test)


async def reasons(served: Served, query: str) -> list[str]:
    answer = await served.ask("GET", f"/v1/why?{query}")
    assert answer.status == 200, answer
    return [finding["reason"] for finding in answer.json()["findings"]]


def test_reasons_name_what_keeps_a_record_away(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one, serving(tmp_path, name="two") as two:
            two.node.subscriptions.subscribe({"main": ["tag=news"]}, two.node.addresses.resolve_in_filter)
            await one.put("wanted", b"x", "&tag=news")
            await one.put("other", b"x")
            assert await reasons(two, "id=nothing") == ["not seen yet"]
            with hearing(two.node) as events:
                two.node.add_peer(one.listen[0])
                while (event := await events.get()) is not None:
                    if event.name == "sync.completed" and event.context == "main":
                        break
            assert await reasons(two, "id=@one/wanted") == ["here"]
            assert await reasons(two, "id=@one/other") == ["filtered"]
            assert await reasons(two, "id=@one/nothing") == ["not seen yet"]
            assert await reasons(one, "id=other") == ["here"]
            assert (await one.ask("DELETE", "/v1/records/main?id=other")).status == 200
            assert await reasons(one, "id=other") == ["deleted"]
            await one.put("late", b"x", "&timestamp=2099-01-01")
            assert "partial" in await reasons(two, "peer=one")

    run(test)


def test_a_node_with_a_quota_that_is_used_up_shows_itself_and_says_why_a_record_is_not_here(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one, serving(tmp_path, name="two") as two:
            two.node.intake.quotas = Quotas(author=Quota(records=1))
            await one.put("a")
            await one.put("b")
            with hearing(two.node) as events:
                two.node.add_peer(one.listen[0])
                while (await events.get()).name != "follow.began":
                    pass
            contexts = (await two.ask("GET", "/v1/status")).json()["contexts"]
            assert [(each["name"], each["records"], each["wants"]) for each in contexts[1:]] == [("main", 1, None)]
            assert (await two.ask("GET", "/v1/contexts")).json() == {"contexts": contexts}
            (missing,) = {"a", "b"} - {record.name async for page in two.node.records.scan("main") for record in page}
            assert await reasons(two, f"id=@one/{missing}") == ["quota", "quota"], "refused, and held by a peer"
            about = (await two.ask("GET", "/v1/why?peer=one")).json()["findings"]
            (told,) = [finding["text"] for finding in about if finding["reason"] == "quota"]
            assert "by the rule `quota`, 1 at least, " in told, "older ones may be forgotten"

    run(test)


def test_a_pause_is_named_as_the_reason(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one, serving(tmp_path, name="two") as two:
            await connected(one, two)
            two.node.pause_control.pause("one", None)
            assert await reasons(two, "peer=one") == ["kept out"]

    run(test)


def test_reasons_name_why_a_peer_is_away_and_when_it_is_tried_again(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one, serving(tmp_path, name="two") as two:
            await connected(one, two)
            assert await reasons(two, "peer=one") == ["equal"]
            with hearing(two.node) as events:
                two.node.add_peer("127.0.0.1:1")
                while (await events.get()).name != "peer.unreachable":
                    pass
            assert await reasons(two, "peer=127.0.0.1:1") == ["away", "next try"]

    run(test)


def test_a_node_that_is_to_join_a_network_shows_no_secret(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one:
            one.node._settings = replace(one.node._settings, is_provisional=True)
            answer = await one.ask("GET", "/v1/network")
            assert (answer.status, answer.code) == (422, "unusable")
            assert "joining" in answer.message

    run(test)
