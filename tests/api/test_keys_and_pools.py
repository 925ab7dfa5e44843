"""Keys and pools through the API: a root key that leaves the machine and returns, records of a pool, void versions."""

from pathlib import Path

from echonode.text import to_base32
from tests.api.serving import Served, hearing, run, serving


async def ask(served: Served, path: str, **body: object) -> dict[str, object]:
    answer = await served.ask("POST", path, body)
    assert answer.status == 200, answer
    return answer.json()


def test_the_root_key_leaves_the_machine_and_returns(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            sealed = (await ask(served, "/v1/keys/root/export", passphrase="one"))["root"]
            wrong = await served.ask("POST", "/v1/keys/root/remove", {"root": sealed, "passphrase": "two"})
            assert (wrong.status, served.node.device_keys.has_root) == (422, True)
            assert (await ask(served, "/v1/keys/root/remove", root=sealed, passphrase="one"))["root"] == "elsewhere"
            assert (await served.ask("GET", "/v1/keys")).json()["root"] == "elsewhere"
            for path, body in (("/v1/keys", {}), ("/v1/keys/root/export", {"passphrase": "one"})):
                refused = await served.ask("POST", path, body)
                assert refused.status == 422 and "not on this machine" in refused.json()["error"]["message"]
            await ask(served, "/v1/keys", root=sealed, passphrase="one")
            assert (await ask(served, "/v1/keys/root/import", root=sealed, passphrase="one"))["root"] == "here"

    run(test)


def test_a_pools_records_are_written_by_its_label_and_history_says_what_is_void(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            pool = (await ask(served, "/v1/pools", label="team"))["id"]
            written = (await served.ask("PUT", "/v1/records/main?id=@team/plan", b"nine")).json()
            assert written["id"] == f"{pool}/plan"
            first = to_base32(served.node.records.identity.device.public)
            await ask(served, "/v1/keys")
            with hearing(served.node) as events:
                await ask(served, "/v1/keys/state", key=first, state="compromised")
                names = {(event.name) for event in [await events.get() for _ in range(2)] if event is not None}
            assert "record.voided" in names
            assert (await served.ask("GET", "/v1/records/main?id=@team/plan")).status == 404
            (version,) = (await served.ask("GET", "/v1/records/main/history?id=@team/plan")).json()["versions"]
            assert (version["void"], version["version"]) == (True, written["version"])
            again = await ask(served, "/v1/keys/sign_again", key=first)
            assert [each["id"] for each in again["records"]] == [f"{pool}/plan"]  # type: ignore[attr-defined]
            assert (await served.ask("GET", "/v1/records/main?id=@team/plan")).body == b"nine"

    run(test)
