"""A program that writes into a store and reports acknowledged writes. The fault tests run it under the shim.

    record STORE RECORD CHECKPOINT_PAGES SYNCHRONOUS     write under the recording shim; marks go into the record
    fail   FOLDER KIND ROUNDS N N ..                     once for each N, in a process of its own, the N-th call fails;
                                                         print a line of JSON for each

Both write the same: new records, edits, deletes, statements, a staged snapshot that is dropped, large bodies, three
lives of the store. `record` may weaken the pragmas of the store, to prove that the tests notice.
"""

import asyncio
import ctypes
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

from echonode.errors import StoreError
from echonode.model.merkle import Digest
from echonode.store.sqlite import connection
from tests.contracts.store import admit
from tests.faults.power import mark
from tests.store.files import opened
from tests.store.people import Owner, Person

LIVES: Final = 3
_ROUNDS: Final = 12

Acknowledge = Callable[[str, int], None]


async def write(path: Path, acknowledge: Acknowledge, lives: int = LIVES, rounds: int = _ROUNDS) -> None:
    """Write into the store at `path`. Call `acknowledge(name, counter)` for each acknowledged write."""
    for life in range(lives):
        async with opened(path) as store:
            owner = Owner(store)
            await owner.begin()
            if life == 1:
                await admit(store, Person(2))
                staged = [Person(2).version(f"s{number}", context="staged") for number in range(9)]
                await store.stage("staged", Digest(bytes(32)), staged)
            for number in range(rounds):
                await asyncio.gather(*(_put(owner, acknowledge, life, writer, number) for writer in range(3)))


async def _put(owner: Owner, acknowledge: Acknowledge, life: int, writer: int, number: int) -> None:
    name = f"{writer}/{number % 5}" if writer % 2 else f"{life}/{writer}/{number}"
    is_deleted = number % 7 == 6
    body = b"" if is_deleted else bytes([number]) * (9000 if (writer, number) == (0, 3) else 40 * number)
    versions, _ = await owner.write(owner.draft(name, body, is_tombstone=is_deleted))
    assert versions[0] is not None
    acknowledge(name, versions[0].counter)


def record(store: str, into: str, checkpoint_pages: str, synchronous: str) -> None:
    """Write with these pragmas, and mark each acknowledged write in the record."""
    weaken(checkpoint_pages, synchronous)
    descriptor = os.open(into, os.O_WRONLY | os.O_APPEND)
    asyncio.run(write(Path(store), lambda name, counter: mark(descriptor, f"{name} {counter}".encode())))


def weaken(checkpoint_pages: str, synchronous: str) -> None:
    """Set the pragmas with which this process opens stores from now on."""
    connection._PRAGMAS = tuple(  # type: ignore[misc]
        f"PRAGMA wal_autocheckpoint = {checkpoint_pages}"
        if "autocheckpoint" in pragma
        else pragma.replace("synchronous = FULL", f"synchronous = {synchronous}")
        for pragma in connection._PRAGMAS
    )


def fail(folder: str, kind: str, rounds: str, *numbers: str) -> None:
    """Print a line of JSON for each number: the acknowledged writes, whether a call failed, and the error."""
    shim = ctypes.CDLL(os.environ["LD_PRELOAD"])
    for number in map(int, numbers):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            with os.fdopen(writer, "w") as report:
                report.write(json.dumps(_fail_once(shim, Path(folder) / str(number), number, kind, int(rounds))))
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as report:
            line = report.read()
        os.waitpid(child, 0)
        print(line, flush=True)


def _fail_once(shim: ctypes.CDLL, folder: Path, number: int, kind: str, rounds: int) -> dict[str, object]:
    folder.mkdir()
    acknowledged: dict[str, int] = {}
    shim.faults_arm(str(folder).encode(), ctypes.c_long(number), kind.encode())
    error, unexpected = "", ""
    try:
        asyncio.run(write(folder / "store.db", acknowledged.__setitem__, lives=2, rounds=rounds))
    except StoreError as raised:
        error = str(raised)
    except Exception:  # the test looks for any other exception
        unexpected = traceback.format_exc()
    return {
        "number": number,
        "acknowledged": acknowledged,
        "failed": bool(shim.faults_failed()),
        "calls": shim.faults_calls(),
        "error": error,
        "unexpected": unexpected,
    }


if __name__ == "__main__":
    {"record": record, "fail": fail}[sys.argv[1]](*sys.argv[2:])
