"""Syncs that run on their own: begun, watched, cancelled, bounded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from echonode.api import sync_jobs
from tests.api.serving import Served, run, serving

PATH = "/v1/syncs"


@asynccontextmanager
async def silent_peer(served: Served) -> AsyncIterator[None]:
    """Let `served` know an address at which a connection is taken, and not a word is said."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        served.node.add_peer(f"{host}:{port}")
        yield


def test_a_sync_is_begun_watched_and_done(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one, serving(tmp_path, name="two") as two:
            await two.put("theirs")
            one.node.add_peer(two.listen[0])
            begun = await one.ask("POST", "/v1/syncs", {"timeout": 30})
            assert (begun.status, begun.json()["state"], begun.json()["result"]) == (202, "running", None)
            where = begun.headers["location"]
            over = (await one.ask("GET", f"{where}?wait=60")).json()
            assert (over["state"], over["result"]["status"], over["error"]) == ("done", "verified", None)
            assert (await one.ask("GET", where)).json() == over == (await one.ask("DELETE", where)).json()
            assert (await one.ask("GET", "/v1/syncs")).json()["syncs"] == [over]
            assert (await one.whole(f"@{two.node.name}/theirs"))["name"] == "theirs"

    run(test)


def test_a_sync_that_is_cancelled_ends_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one, silent_peer(one):
            begun = (await one.ask("POST", "/v1/syncs", {"timeout": 3600})).json()
            gone = (await one.ask("DELETE", f"/v1/syncs/{begun['id']}")).json()
            assert (gone["state"], gone["result"], gone["error"]) == ("cancelled", None, None)

    run(test)


def test_only_so_many_are_kept_and_a_node_that_stops_cancels_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_jobs, "SYNC_JOBS_MAX", 2)

    async def test() -> None:
        async with serving(tmp_path) as one:
            first = (await one.ask("POST", "/v1/syncs", {"timeout": 1})).json()
            assert (await one.ask("GET", f"/v1/syncs/{first['id']}?wait=60")).json()["state"] == "done"
            async with silent_peer(one):
                for _ in range(2):
                    assert (await one.ask("POST", "/v1/syncs", {"timeout": 3600})).status == 202
                assert (await one.ask("GET", f"/v1/syncs/{first['id']}")).status == 404
                assert (await one.ask("POST", "/v1/syncs", {})).status == 409
                (jobs,) = [route.app._handlers["GET"].__self__ for route in one.server.app.routes if route.path == PATH]
                await one.server.close()
                await asyncio.wait([job.task for job in jobs._jobs.values()])
                assert {job.state for job in jobs._jobs.values()} == {"cancelled"}

    run(test)
