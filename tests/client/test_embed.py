"""A node inside this program: the same node, API and files as those of `echonode run`."""

import asyncio
import logging
from pathlib import Path

import pytest

from echonode import Client, Node
from echonode.client.errors import Moved, NotFound
from echonode.errors import ConfigError
from tests.api.serving import run


async def _until_only(tasks: set[asyncio.Task[object]]) -> None:
    """Wait until no task is left but these. A test that waits for ever fails."""
    while left := asyncio.all_tasks() - tasks:
        await asyncio.wait(left)


def test_a_program_and_its_node_work_together(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with Node.open(tmp_path / "n", name="inside", listen="127.0.0.1:0", mdns=False, environ={}) as node:
            assert (node.name, node.listening[0].rpartition(":")[0]) == ("inside", "127.0.0.1")
            cursor = (await node.put("shared/x", {"n": 1})).cursor
            following = asyncio.create_task(anext(node.changes("main", since=cursor)))
            other = await asyncio.to_thread(lambda: Client(home=tmp_path / "n").put("y", b"from outside"))
            assert (await following).record.body == b"from outside"
            assert [record.name async for record in node.list()] == ["x", "y"]
            seen = await node.get("y")
            assert seen.version == other.version
            with pytest.raises(NotFound):
                await node.get("z")
            with pytest.raises(Moved):
                await node.put("y", b"", over=cursor)
            with pytest.raises(ConfigError, match="already runs"):
                async with Node.open(tmp_path / "n", environ={}):
                    pass
            tasks = asyncio.all_tasks()
            async for change in node.changes():
                assert change.record.name == "x"
                break
            await _until_only(tasks)
        async with Node.open(tmp_path / "n", listen="127.0.0.1:0", mdns=False, environ={}) as node:
            assert (await node.get("shared/x")).json() == {"n": 1}
            change = await anext(node.changes(since=cursor))
            assert (change.record.name, change.gap) == ("y", "")

    caplog.set_level(logging.INFO, "echonode")
    run(test)
    assert any('"node.started"' in record.getMessage() for record in caplog.records if record.levelname == "INFO")


def test_two_programs_nodes_join_and_become_equal(tmp_path: Path) -> None:
    async def test() -> None:
        options = {"listen": "127.0.0.1:0", "mdns": False, "environ": {}}
        async with Node.open(tmp_path / "a", **options) as one, Node.open(tmp_path / "b", **options) as two:
            await one.put("shared/x", "hello")
            await two.join(await one.invite(), one.listening[0])
            async for change in two.changes("main"):
                if change.record.text == "hello":
                    break
            assert (await two.sync()).verified

    run(test)


def test_a_request_that_is_given_up_leaves_nothing_behind(tmp_path: Path) -> None:
    async def test() -> None:
        async with Node.open(tmp_path / "n", listen="127.0.0.1:0", mdns=False, environ={}) as node:
            tasks = asyncio.all_tasks()
            waiting = asyncio.create_task(anext(node.changes(since="now")))
            while not node._running.changes._waiting:
                await asyncio.wait((waiting,), timeout=0.01)
            waiting.cancel()
            await asyncio.wait((waiting,))
            del waiting  # it holds the iterator, which another task could go on with
            await _until_only(tasks)
            assert node._running.changes._waiting == {}

    run(test)
