"""The lives of a store: a process of its own for each opening, which is closed or killed as the test wants."""

import asyncio
import multiprocessing
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from echonode.host.system import SystemClock
from echonode.model.identity import Instance
from echonode.store.sqlite.life_watch import LifeWatch
from echonode.store.sqlite.store import SqliteStore
from tests.store.people import Owner

MACHINE: Final = "this machine"
FORK: Final = multiprocessing.get_context("fork")  # a child that imports everything anew takes 20 times as long


class Life:
    """One opening of the store in a folder. `second_life` and `instance` are those that it began with."""

    def __init__(self, folder: Path, machine: str = MACHINE) -> None:
        folder.mkdir(exist_ok=True)
        self._connection, theirs = FORK.Pipe()
        self._process = FORK.Process(target=_serve, args=(theirs, folder, machine), daemon=True)
        self._process.start()
        theirs.close()
        self.second_life: str | None
        self.instance: bytes
        self.second_life, self.instance = self._connection.recv()

    def write(self, records: int = 1) -> None:
        """Write so many versions, each in a transaction of its own."""
        self._connection.send(records)
        self._connection.recv()

    def end(self, *, kill: bool = False) -> None:
        """Close the store, or kill the process."""
        if kill:
            self._process.kill()
        else:
            self._connection.send(None)
        self._process.join(60)
        assert self._process.exitcode is not None
        self._connection.close()


@contextmanager
def living(folder: Path, machine: str = MACHINE, *, kill: bool = False) -> Iterator[Life]:
    """Open the store, and end that life after the block."""
    life = Life(folder, machine)
    try:
        yield life
    finally:
        life.end(kill=kill)


def reopened(folder: Path, machine: str = MACHINE) -> str | None:
    """Open and close the store. Return why that was a second life, None when it was not."""
    with living(folder, machine) as life:
        return life.second_life


async def open_watched(folder: Path, machine: str = MACHINE) -> SqliteStore:
    """Open the store in `folder` as a node does."""
    return await SqliteStore.open(
        folder / "store.db",
        new_instance=lambda: Instance(secrets.token_bytes(8)),
        now_ms=SystemClock().now_ms,
        life=LifeWatch(folder, machine),
    )


def _serve(orders: Connection, folder: Path, machine: str) -> None:
    asyncio.run(_live(orders, folder, machine))


async def _live(orders: Connection, folder: Path, machine: str) -> None:
    store = await open_watched(folder, machine)
    owner = Owner(store)
    if not store.contexts():
        await owner.begin()
    orders.send((store.second_life, store.instance))
    while (records := orders.recv()) is not None:
        for number in range(records):
            await owner.put(f"n{number}")
        orders.send(None)
    await store.close()
