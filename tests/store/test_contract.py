"""The Store contract, run on both implementations."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import uvloop

import tests.contracts.store_cursors
import tests.contracts.store_forgetting
import tests.contracts.store_leaves
import tests.contracts.store_lives
import tests.contracts.store_snapshots
import tests.contracts.store_voids
import tests.contracts.store_writing  # noqa: F401 each adds its checks to CHECKS
from echonode.model.identity import Instance
from echonode.store.memory import MemoryStore
from echonode.store.port import Store
from echonode.store.sqlite.store import SqliteStore
from tests.contracts.store import CHECKS, Check, holds
from tests.store.people import NOW_MS

INSTANCE = Instance(b"instance")


async def open_sqlite(path: Path) -> SqliteStore:
    return await SqliteStore.open(path, new_instance=lambda: INSTANCE, now_ms=lambda: NOW_MS)


@asynccontextmanager
async def sqlite(folder: Path) -> AsyncIterator[Store]:
    store = await open_sqlite(folder / "store.db")
    try:
        yield store
    finally:
        await store.close()
        await store.close()


@asynccontextmanager
async def memory(folder: Path) -> AsyncIterator[Store]:
    store = MemoryStore(INSTANCE)
    yield store
    await store.close()


@pytest.mark.parametrize("opened", [memory, sqlite])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_store_keeps_the_contract(
    check: Check, opened: Callable[[Path], AbstractAsyncContextManager[Store]], tmp_path: Path
) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(holds(check, opened(tmp_path)))
