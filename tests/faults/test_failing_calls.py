"""The n-th call to the disk fails, for each n, and never silently.

Either the write was not acknowledged and its caller got an error in plain words, or it is there after a restart. A file
system may write less than asked; such a short write passes unnoticed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from echonode.model.record import MAIN
from tests.contracts.store import verdict_of
from tests.e2e.processes import NodeProcess, running
from tests.faults.load import Load, lost
from tests.faults.shim import failing, loaded
from tests.store.files import opened, run
from tests.store.people import Owner

# On every change 50 numbers in all, spread over the calls of one run; before a release, every number up to 2,000.
WANTED = {"EIO": 22, "ENOSPC": 18, "SHORT": 10}
IS_SLOW = bool(os.environ.get("ECHO_TEST_SLOW"))
ROUNDS = 50 if IS_SLOW else 4


def runs(shim: Path, folder: Path, kind: str, numbers: list[int]) -> list[dict[str, Any]]:
    """Return the report of a run for each of `numbers`."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.faults.driver", "fail", folder, kind, str(ROUNDS), *map(str, numbers)]
    done = subprocess.run(command, check=True, env=loaded(shim), stdout=subprocess.PIPE)
    return [json.loads(line) for line in done.stdout.splitlines()]


def contents(path: Path, names: list[str]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return the counters of those of `names` that the store at `path` holds, and the problems of the store."""

    async def go() -> tuple[dict[str, int], tuple[str, ...]]:
        async with opened(path) as store:
            owner = Owner(store)
            held = {name: await store.heads(MAIN, owner.id, name) for name in names}
            counters = {name: heads[0].counter for name, heads in held.items() if heads}
            await owner.begin()  # it still takes writes
            await owner.put("after")
            return counters, (await verdict_of(store)).problems

    return run(go())


@pytest.mark.parametrize("kind", ["EIO", "ENOSPC", "SHORT"])
def test_a_call_that_fails_is_never_silent(shim: Path, tmp_path: Path, kind: str) -> None:
    (whole,) = runs(shim, tmp_path / "whole", kind, [1 << 30])
    assert not whole["failed"]
    assert not whole["error"], whole
    calls = whole["calls"]
    step = 1 if IS_SLOW else calls // WANTED[kind]
    ended = [0, 0]
    for outcome in runs(shim, tmp_path / "each", kind, list(range(1, calls + 1, step))):
        path = tmp_path / "each" / str(outcome["number"]) / "store.db"
        acknowledged: dict[str, int] = outcome["acknowledged"]
        assert outcome["unexpected"] == "", outcome
        # Concurrent calls may share a transaction or not, so the number of calls differs a little from run to run.
        assert outcome["failed"] or outcome["number"] > 0.9 * calls, outcome
        assert "rollback" not in outcome["error"], "the first error is the one to report"
        assert kind != "SHORT" or not outcome["error"], outcome
        if not outcome["error"]:
            assert acknowledged.keys() == whole["acknowledged"].keys()
        counters, problems = contents(path, list(acknowledged))
        assert problems == (), outcome
        for name, counter in acknowledged.items():
            assert counters.get(name, 0) >= counter, (name, outcome)
        ended[bool(outcome["error"])] += 1
    assert ended[1] or kind == "SHORT", "some failures must reach the caller as errors"


@pytest.mark.parametrize("number", range(1, 400) if IS_SLOW else (3, 16, 40, 64, 90, 140))
def test_a_node_whose_disk_fails_stops_with_an_error_or_goes_on(shim: Path, tmp_path: Path, number: int) -> None:
    kind = "ENOSPC" if number % 3 == 1 else "EIO"
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    acknowledged: dict[str, int] = {}
    refusals: list[str] = []
    faulty = NodeProcess(home, "anna", mdns=False, environ=failing(shim, under=home, at=number, kind=kind))
    for _ in running([faulty]):
        if faulty.begin():
            load = Load(faulty, acknowledged=acknowledged, refusals=refusals).start()
            load.wait_for(30)
            load.stop()
        code = faulty.stop()
        assert code in (0, 1, 2)
        assert "Traceback" not in faulty.log()
        if code:
            assert str(home) in faulty.log().splitlines()[-1], "the last line names the file and the problem"
        else:
            assert all("nothing was written" in refusal for refusal in refusals), refusals
    again = NodeProcess(home, "anna", mdns=False)
    for _ in running([again]):
        again.start()
        assert lost(again, acknowledged) == []
        assert again.json("verify")["ok"]
        assert again.stop() == 0
