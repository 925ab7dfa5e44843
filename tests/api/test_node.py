"""The node through its API: status, peers, sync, joining, equal names."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from echonode.model.member_secret import MemberSecret
from echonode.model.record import Draft
from echonode.node import link_selection
from echonode.node.events import Event
from echonode.text import to_base32
from tests.api.serving import SECRET, VERSION, Served, hearing, run, serving

OTHER = MemberSecret.of_lone_key(bytes(reversed(range(32))))


@pytest.fixture(autouse=True)
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open no links, so that records move only on request."""
    monkeypatch.setattr(link_selection, "LINKS_CHOSEN", 0)
    monkeypatch.setattr(link_selection, "LINKS_ALL_MAX", 0)


@asynccontextmanager
async def until(served: Served, kind: str) -> AsyncIterator[None]:
    """Leave the block only when an event of this name has come since it was entered."""
    with hearing(served.node) as queue:
        yield
        event: Event | None = await queue.get()
        while event is not None and event.name != kind:
            event = await queue.get()


async def meet(one: Served, two: Served) -> None:
    async with until(one, "sync.completed"):
        one.node.add_peer(two.listen[0])


async def put_quietly(served: Served, name: str) -> None:
    """Write a record without telling the scheduler: only a requested sync will carry it."""
    draft = Draft(context="main", author=served.node.id, name=name, body=b"x")
    await served.node.store.write([draft], served.node.records.identity.device, served.node.records.tick)


def test_status_tells_who_this_is(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            await served.put("a", b"body")
            status = (await served.ask("GET", "/v1/status")).json()
            assert (status["id"], status["name"], status["version"]) == (to_base32(served.node.id), "one", VERSION)
            assert status["instance"] == to_base32(served.node.store.instance)
            assert (status["listen"], status["api"]) == (list(served.listen), [str(served.socket)])
            assert (status["network"], status["peers"], status["invitation"]) == (served.node.network, [], None)
            assert [(each["name"], each["records"]) for each in status["contexts"]] == [("identities", 2), ("main", 1)]
            assert status["contexts"][1]["root"] == to_base32(served.node.store.tree("main").root)
            assert (await served.ask("GET", "/v1/contexts")).json() == {"contexts": status["contexts"]}

            code = (await served.ask("POST", "/v1/invitations")).json()["code"]
            status = (await served.ask("GET", "/v1/status")).json()
            assert status["invitation"] == code.partition("-")[0]

    run(test)


def test_a_sync_makes_two_nodes_equal_and_says_what_it_cost(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one, serving(tmp_path, name="two") as two:
            await meet(one, two)
            await put_quietly(one, "ours")
            await put_quietly(two, "theirs")
            answer = (await one.ask("POST", "/v1/sync", {"peers": ["two"], "timeout": 10})).json()
            assert answer["status"] == "verified", answer
            (report,) = answer["peers"]
            assert (report["id"], report["name"], report["verified"]) == (to_base32(two.node.id), "two", True)
            assert (report["error"], report["sent"], report["received"]) == ("", 1, 1)
            (main,) = [part for part in report["contexts"] if part["context"] == "main"]
            assert (report["mode"], report["reason"]) == (main["mode"], main["reason"])
            assert (main["outcome"], main["role"]) == ("equal", "initiator")
            for figure in ("sent", "received", "bytes_sent", "bytes_received", "round_trips"):
                assert report[figure] == sum(part[figure] for part in report["contexts"])
            assert one.node.store.tree("main").root == two.node.store.tree("main").root
            assert (await one.whole(f"{to_base32(two.node.id)}/theirs"))["author"] == to_base32(two.node.id)

            for action in ("pull", "push", "both"):
                again = await one.ask("POST", "/v1/sync", {"action": action})
                assert again.json()["status"] == "verified"

            (peer,) = (await one.ask("GET", "/v1/peers")).json()["peers"]
            assert (peer["name"], peer["in_sync"]) == ("two", True) and peer["last_sync"]
            assert (await one.ask("GET", "/v1/status")).json()["peers"] == [peer]

    run(test)


def test_a_sync_with_a_peer_that_is_gone_fails_and_says_so(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one:
            async with serving(tmp_path, name="two") as two:
                await meet(one, two)
            answer = (await one.ask("POST", "/v1/sync")).json()
            assert answer["status"] == "failed"
            (report,) = answer["peers"]
            assert (report["status"], report["verified"], report["contexts"]) == ("unreachable", False, [])
            assert report["error"]

    run(test)


def test_a_code_joins_a_network_and_records_stay(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as inviter, serving(tmp_path, name="two", secret=OTHER) as joiner:
            await joiner.put("mine")
            invitation = (await inviter.ask("POST", "/v1/invitations", {"uses": 1, "expires_s": 60})).json()
            wrong = await joiner.ask("POST", "/v1/join", {"code": "7-crossover-clockwork", "at": inviter.listen[0]})
            assert wrong.status == 422 and "not the code" in wrong.message
            async with until(joiner, "network.joined"):
                joined = await joiner.ask("POST", "/v1/join", {"code": invitation["code"], "at": inviter.listen[0]})
            assert joined.json() == {"network": inviter.node.network}
            network = (await joiner.ask("GET", "/v1/network")).json()
            assert network == {"network": inviter.node.network, "secret": SECRET.to_text()}
            assert (await joiner.whole("mine"))["body"] == "x"
            spent = await joiner.ask("POST", "/v1/join", {"code": invitation["code"], "at": inviter.listen[0]})
            assert (spent.status, spent.code) == (502, "unreachable")

    run(test)


def test_a_key_makes_a_member_of_its_network(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one, serving(tmp_path, name="two", secret=None) as two:
            assert (await two.ask("GET", "/v1/network")).json() == {"network": "open", "secret": None}
            set_ = await two.ask("PUT", "/v1/network", {"secret": SECRET.to_text()})
            assert set_.json() == {"network": one.node.network, "left": None}
            await meet(one, two)

    run(test)


def test_peers_are_shown_with_the_models_that_are_read_there(tmp_path: Path) -> None:
    async def test() -> None:
        theirs = {"task": (2, 0), "note": (1, 4), "recipe": (1, 0)}
        async with (
            serving(tmp_path, models={"task": (1, 2), "note": (1, 0)}) as one,
            serving(tmp_path, name="two", models=theirs) as two,
        ):
            await meet(one, two)
            (peer,) = (await one.ask("GET", "/v1/peers")).json()["peers"]
            assert peer["models"] == {"note": "1.4", "recipe": "1.0", "task": "2.0"}
            assert peer["unreadable"] == ["task"]
            (peer,) = (await two.ask("GET", "/v1/peers")).json()["peers"]
            assert (peer["models"], peer["unreadable"]) == ({"note": "1.0", "task": "1.2"}, ["task"])
            assert (await one.ask("GET", "/v1/status")).json()["models"] == {"note": "1.0", "task": "1.2"}

    run(test)


def test_peers_of_one_name_have_labels_that_every_request_takes(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one, serving(tmp_path, name="two") as two:
            await meet(one, two)
            (tmp_path / "other").mkdir()
            async with serving(tmp_path / "other", name="two") as other:
                await meet(one, other)
                peers = (await one.ask("GET", "/v1/peers")).json()["peers"]
                labels = {peer["id"]: peer["label"] for peer in peers if peer["name"] == "two"}
                assert set(labels) == {to_base32(two.node.id), to_base32(other.node.id)}
                assert all(label.startswith("two @") for label in labels.values())
                label = labels[to_base32(other.node.id)]
                answer = (await one.ask("POST", "/v1/sync", {"peers": [label]})).json()
                assert [(peer["id"], peer["name"]) for peer in answer["peers"]] == [(to_base32(other.node.id), label)]
                one.node.peer_table.linked(0.0, other.node.id, is_leading=True)
                refused = await one.ask("POST", "/v1/peers/forget", {"peer": label})
                one.node.peer_table.unlinked(0.0, other.node.id)
                assert refused.status == 409 and b"is connected now" in refused.body
            forgotten = await one.ask("POST", "/v1/peers/forget", {"peer": label})
            assert forgotten.json() == {"peer": label}
            peers = (await one.ask("GET", "/v1/peers")).json()["peers"]
            assert to_base32(other.node.id) not in [peer["id"] for peer in peers]

    run(test)


def test_verify_counts_what_it_checked_and_names_what_is_wrong(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            for number in range(3):
                await served.put(f"n{number}")
            good = (await served.ask("POST", "/v1/verify")).lines()
            assert good[-1] == {"ok": True, "checked": 5, "problems": [], "done": True}
            heads = served.node.store._heads["main"]  # type: ignore[attr-defined]
            damaged = next(iter(heads.values()))[0]
            damaged.raw = damaged.raw[:-1] + bytes((damaged.raw[-1] ^ 1,))
            bad = (await served.ask("POST", "/v1/verify")).lines()
            assert bad[-1]["ok"] is False and bad[-1]["problems"]
            assert [problem for part in bad[:-1] for problem in part["problems"]] == bad[-1]["problems"]

    run(test)


def test_peers_asked_for_twice_are_synced_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one, serving(tmp_path, name="two") as two:
            await meet(one, two)
            answer = await one.ask("POST", "/v1/sync", {"peers": ["two", to_base32(two.node.id)[:8]]})
            assert len(answer.json()["peers"]) == 1

    run(test)


def test_what_waits_does_not_hold_up_others(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served, served.connection() as connection:
            await connection.begin("PUT", "/v1/records/main?id=a", [("content-length", "1")])
            answers = await asyncio.gather(*[served.ask("GET", "/v1/status") for _ in range(20)])
            assert {answer.status for answer in answers} == {200}
            await connection.send(b"x")
            await connection.end()
            assert (await connection.answer()).status == 200

    run(test)
