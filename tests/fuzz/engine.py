"""One target under atheris, in a process of its own: `python -m tests.fuzz.engine TARGET FOLDER [LIBFUZZER OPTION ..]`.

FOLDER/inputs holds the inputs and grows. Into FOLDER go `slowest`, the input that took longest; `slow-*`, the first
inputs above the limit, to be measured again because everything is slower here; and `crash-*` and the like from
libFuzzer, which ends the process itself.
"""

import shlex
import sys
import time
from pathlib import Path
from random import Random
from typing import Final

import atheris  # type: ignore[import-untyped, unused-ignore]

from tests.fuzz.target import LIMIT_S

with atheris.instrument_imports(include=["echonode"], exclude=["echonode.sim"], enable_loader_override=False):
    from tests.fuzz.targets import TARGETS

_SLOW_KEPT: Final = 20


def main() -> None:
    name, folder, *options = sys.argv[1:]
    target, found = TARGETS[name], Path(folder)
    slowest_s, slow = 0.0, 0

    def run(data: bytes) -> None:
        nonlocal slowest_s, slow
        began = time.thread_time()
        target.run(data)
        took = time.thread_time() - began
        if took > slowest_s:
            slowest_s = took
            (found / "slowest").write_bytes(data)
        if took > LIMIT_S and slow < _SLOW_KEPT:
            slow += 1
            (found / f"slow-{slow}").write_bytes(data)

    def mutate(data: bytes, bytes_max: int, seed: int) -> bytes:
        rng = Random(seed)
        if rng.random() < 0.3:
            return bytes(atheris.Mutate(data, bytes_max))
        return target.mutate(data, rng)[:bytes_max]

    itself = shlex.join([sys.executable, "-m", "tests.fuzz.engine", name, folder])  # merges run this command
    bounds = [f"-max_len={target.bytes_max}", f"-artifact_prefix={folder}/"]
    atheris.Setup([itself, *bounds, f"{folder}/inputs", *options], run, custom_mutator=mutate)
    target.run(b"")  # build cached values now, so that the first input does not pay for them
    atheris.Fuzz()


main()
