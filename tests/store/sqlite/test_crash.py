"""After kill -9 in the middle of writing, everything that was acknowledged is there."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from echonode.model.record import MAIN
from tests.contracts.store import verdict_of
from tests.store.files import open_store, opened, run
from tests.store.people import Owner

ROUNDS = 100 if os.environ.get("ECHO_TEST_SLOW") else 3


async def write_until_killed(path: Path) -> None:
    """Write with eight tasks at once; print each acknowledged write on stdout."""
    store = await open_store(path)
    owner = Owner(store)
    await owner.begin()
    start = len(store.tree(MAIN))

    async def write(task: int) -> None:
        for number in range(start, 1 << 30):
            name = f"{task}/{number % 50}" if task % 2 else f"{task}/{number}"
            version = await owner.put(name, bytes(number % 3000))
            os.write(1, f"{name} {version.counter}\n".encode())

    await asyncio.gather(*(write(task) for task in range(8)))


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_an_acknowledged_write_survives_kill_9(tmp_path: Path, round_: int) -> None:
    path = tmp_path / "store.db"
    acknowledged: dict[str, int] = {}
    for life in range(3):
        process = subprocess.Popen([sys.executable, "-m", __name__, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        lines = 0
        with process:
            for line in process.stdout:
                name, counter = line.decode().split()
                acknowledged[name] = int(counter)
                lines += 1
                if lines == 150 * (life + 1) + 37 * round_:
                    process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL

    async def go() -> None:
        async with opened(path) as store:
            owner = Owner(store)
            for name, counter in acknowledged.items():
                (head,) = await store.heads(MAIN, owner.id, name)
                assert head.counter >= counter, "a later write of the same record may have come through unheard"
            assert (await verdict_of(store)).problems == ()
            assert (await owner.put("next")).counter > max(acknowledged.values())

    run(go())


if __name__ == "__main__":
    asyncio.run(write_until_killed(Path(sys.argv[1])))
