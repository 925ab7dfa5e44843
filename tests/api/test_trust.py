"""Decisions about nodes over the API: who is let in, and whose records are hidden from every way of reading."""

import asyncio
from pathlib import Path

from echonode.model.identity import IdentityId
from echonode.node.trust import Decisions, Pending, Policy, TrustSettings
from echonode.store.port import Store
from echonode.text import to_base32
from tests.api.serving import Served, hearing, run, serving
from tests.api.test_changes import RECORDS, Stream, changes, conditional, names, one_waits

ONE, TWO = IdentityId(b"1" * 32), IdentityId(b"2" * 32)


async def carry(source: Store, target: Served) -> None:
    """Give `target` all that `source` holds, as a sync does."""
    for context in ("identities", "main"):
        records, _ = await source.scan(context, 0, limit=100)
        await target.node.store.apply(context, records)


def test_decisions_are_made_listed_and_those_of_the_configuration_stay(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            served.node.trust_control.load(TrustSettings(Policy.APPROVE, Decisions({ONE: ""}, {TWO: ""}, {TWO: ""})))
            waiting = IdentityId(b"3" * 32)
            served.node.peer_table.trust.note_pending(Pending(waiting, "phone", "127.0.0.1:9", False, 1, 2))
            (peer,) = [each for each in (await served.ask("GET", "/v1/peers")).json()["peers"] if each["name"]]
            assert (peer["state"], peer["label"], peer["denied"]) == ("pending", "phone", False)
            for path, node in (("peers/reject", ONE), ("peers/approve", TWO), ("allow", TWO)):
                refused = await served.ask("POST", f"/v1/{path}", {"peer": to_base32(node)})
                assert (refused.status, "in the configuration" in refused.message) == (409, True)
            whole_id = to_base32(waiting)
            for path in ("peers/approve", "deny"):
                answer = await served.ask("POST", f"/v1/{path}", {"peer": "phone"})
                assert answer.json() == {"peer": "phone", "id": whole_id}
            trust = (await served.ask("GET", "/v1/trust")).json()
            assert (trust["policy"], len(trust["rejected"])) == ("approve", 1)
            assert trust["approved"] == [
                {"id": to_base32(ONE), "label": "", "configured": True},
                {"id": whole_id, "label": "phone", "configured": False},
            ]
            assert [each["id"] for each in trust["denied"]] == [to_base32(TWO), whole_id]
            assert not [each for each in (await served.ask("GET", "/v1/peers")).json()["peers"] if each["name"]]
            assert (await served.ask("POST", "/v1/peers/forget", {"peer": "phone"})).status == 200
            assert [each["configured"] for each in (await served.ask("GET", "/v1/trust")).json()["approved"]] == [True]

    run(test)


def test_no_way_of_reading_shows_what_a_denied_node_wrote_until_it_is_allowed(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as ours, serving(tmp_path, name="two") as theirs:
            await ours.put("mine")
            await theirs.put("a")
            await theirs.put("a", b"again")
            await theirs.put("shared/x", b"theirs")
            await carry(theirs.node.store, ours)
            author = to_base32(theirs.node.id)
            cursor = (await changes(ours))["cursor"]
            assert (await ours.ask("POST", "/v1/deny", {"peer": author})).status == 200

            async def lines(what: str) -> list[str]:
                return [each["name"] for each in (await ours.ask("GET", f"{RECORDS}/{what}")).lines()]

            assert await lines("list") == ["mine"]
            assert await lines(f"export?author={author}") == []
            assert await lines("export?author=shared") == []
            page = (await ours.ask("GET", f"{RECORDS}/page")).json()
            assert [each["name"] for each in page["records"]] == ["mine"]
            hidden = await ours.ask("GET", f"{RECORDS}?id={author}/a")
            assert (hidden.status, hidden.code) == (404, "not_found")
            assert "is denied here; to see it, type: echonode allow" in hidden.message
            for method, path in (("GET", "/history"), ("GET", ""), ("DELETE", "")):
                assert (await ours.ask(method, f"{RECORDS}{path}?id=shared/x")).status == 404
            why = (await ours.ask("GET", f"/v1/why?id={author}/a")).json()
            assert [each["reason"] for each in why["findings"]] == ["denied"]
            told = await changes(ours, f"&since={cursor}")
            assert (names(told), "hidden here" in told["gap"]) == (["mine"], True)
            assert (await changes(ours, f"&since={told['cursor']}"))["gap"] is None
            state = (await ours.ask("GET", "/v1/trust")).json()
            assert [each["id"] for each in state["denied"]] == [author]

            assert (await ours.ask("POST", "/v1/allow", {"peer": author})).status == 200
            assert (await ours.ask("GET", f"{RECORDS}?id={author}/a")).body == b"again"
            history = (await ours.ask("GET", f"{RECORDS}/history?id={author}/a")).json()["versions"]
            assert len(history) == 1, "only heads were carried here"
            shown = await changes(ours, f"&since={told['cursor']}")
            assert (set(names(shown)), bool(shown["gap"])) == ({"mine", "a", "x"}, True)

    run(test)


def test_a_record_whose_versions_are_hidden_is_written_as_one_that_is_not_there(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as ours, serving(tmp_path, name="two") as theirs:
            await theirs.put("shared/x", b"theirs")
            await carry(theirs.node.store, ours)
            await ours.ask("POST", "/v1/deny", {"peer": to_base32(theirs.node.id)})
            target = f"{RECORDS}?id=shared/x"
            assert (await conditional(ours, "PUT", target, b"mine", if_match="*")).status == 412
            written = await conditional(ours, "PUT", target, b"mine", if_none_match="*")
            assert (written.status, len(written.json()["covered"])) == (200, 1)
            assert (await ours.ask("GET", target)).body == b"mine"

    run(test)


def test_readers_that_wait_begin_anew_when_other_versions_are_hidden(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as ours, serving(tmp_path, name="two") as theirs:
            await ours.put("mine")
            await theirs.put("a")
            await carry(theirs.node.store, ours)
            author = to_base32(theirs.node.id)
            async with ours.connection() as connection:
                stream = await Stream(connection).open("")
                assert {(await stream.next())[1]["record"]["name"] for _ in range(2)} == {"mine", "a"}
                end = (await changes(ours))["cursor"]
                poll = asyncio.create_task(changes(ours, f"&since={end}&wait=60"))
                await one_waits(ours)
                await ours.ask("POST", "/v1/deny", {"peer": author})
                name, data = await stream.next()
                assert (name, "hidden here" in data["reason"]) == ("gap", True)
                assert (await stream.next())[1]["record"]["name"] == "mine"
                told = await poll
                assert (names(told), bool(told["gap"])) == (["mine"], True)

    run(test)


def test_events_do_not_tell_of_versions_that_are_hidden(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as ours, serving(tmp_path, name="two") as theirs:
            await ours.ask("POST", "/v1/deny", {"peer": to_base32(theirs.node.id)})
            async with ours.connection() as connection:
                await connection.begin("GET", "/v1/events?types=records.applied,trust.*")
                await connection.end()
                await connection.head()
                data = aiter(connection.data())
                await anext(data)
                await theirs.put("hidden")
                with hearing(ours.node) as events:
                    ours.node.add_peer(theirs.listen[0])
                    while getattr(event := await events.get(), "context", "") != "main":
                        assert event is not None
                await ours.ask("POST", "/v1/allow", {"peer": "two"})
                seen = b""
                while b"trust.changed" not in seen:
                    seen += await anext(data)
                assert b"hidden" not in seen

    run(test)
