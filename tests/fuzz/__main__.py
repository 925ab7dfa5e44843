"""`python -m tests.fuzz [TARGET ..] [--seconds N] [--jobs N]`: run each target under atheris and report the result.

    --replay FILE      run one input (of the one TARGET) without atheris, and print its cost or exception
    --keep FOLDER      start from the inputs in FOLDER/TARGET, and add new ones there
    --distil FOLDER    rewrite the corpus in the repository from FOLDER: the smallest inputs that reach the same code

The exit code is 1 if an input broke a promise or cost more than allowed. The input is then saved, and the command that
replays it is printed. Each target starts from the inputs of tests/fuzz/targets.py: vectors, real traffic, the corpus
and the regressions.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Final

from tests.fuzz.corpus import keep
from tests.fuzz.target import LIMIT_S, Target, cost_s
from tests.fuzz.targets import TARGETS, inputs

_CORPUS_BYTES_MAX: Final = 8 * 1024  # per target, in the repository
_INPUT_S_MAX: Final = 60  # wall time after which an input counts as a hang, even on a slow machine


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"any of {', '.join(TARGETS)}; all when none")
    parser.add_argument("--seconds", type=int, default=20, help="how long to run each target (default 20)")
    parser.add_argument("--jobs", type=int, default=1, help="how many targets to run at once (default 1)")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run this input of TARGET")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where inputs are kept from run to run")
    parser.add_argument("--distil", type=Path, metavar="FOLDER", help="rewrite the corpus from what --keep left there")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.targets if name not in TARGETS]:
        parser.error(f"no target {unknown[0]}: there are {', '.join(TARGETS)}")
    chosen = [TARGETS[name] for name in arguments.targets or TARGETS]
    if arguments.replay is not None:
        if len(arguments.targets) != 1:
            parser.error("--replay needs the one TARGET that the input is for")
        return _replay(chosen[0], arguments.replay.read_bytes())
    if arguments.distil is not None:
        for target in chosen:
            _distil(target, arguments.distil / target.name)
        return 0
    with ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="echonode-fuzz-")))
        for target in chosen:
            _sow(target, folder / target.name)  # not in threads: a simulation takes over its process
        workers = stack.enter_context(ThreadPoolExecutor(max(1, arguments.jobs)))
        fuzzed = workers.map(lambda target: _fuzz(target, folder / target.name, arguments.seconds), chosen)
        outcomes = list(fuzzed)  # first all of them: a report may simulate, and then no process can be started
        passed = [_report(target, *outcome) for target, outcome in zip(chosen, outcomes, strict=True)]
        return int(not all(passed))


def _replay(target: Target, data: bytes) -> int:
    target.run(data)
    cost = cost_s(target, data)
    print(f"{target.name}: no promise broken; {1000 * cost:.1f} ms of processor time, the best of 5")
    return int(cost > LIMIT_S)


def _engine(target: Target, folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    options = (target.name, str(folder), f"-timeout={_INPUT_S_MAX}", *options)
    command = [sys.executable, "-m", "tests.fuzz.engine", *options]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)


def _sow(target: Target, folder: Path) -> None:
    """Write the first inputs to the folder where libFuzzer looks for them."""
    (folder / "inputs").mkdir(parents=True, exist_ok=True)
    for data in inputs(target):
        (folder / "inputs" / sha256(data).hexdigest()[:16]).write_bytes(data)


def _fuzz(target: Target, folder: Path, seconds: int) -> tuple[Path, float, "subprocess.CompletedProcess[str]"]:
    for old in (*folder.glob("slow*"), *folder.glob("crash-*"), *folder.glob("timeout-*"), *folder.glob("oom-*")):
        old.unlink()
    began = time.monotonic()
    return folder, began, _engine(target, folder, f"-max_total_time={seconds}", "-print_final_stats=1")


def _report(target: Target, folder: Path, began: float, ended: "subprocess.CompletedProcess[str]") -> bool:
    """Print the result of a target. Return False if an input was found."""
    output = ended.stderr + ended.stdout
    coverage = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", output)[-1:] or [("?", "?", "?")]
    runs = re.findall(r"(?:number_of_executed_units: |^#)(\d+)", output, re.MULTILINE)[-1:] or ["0"]
    rate = re.findall(r"average_exec_per_sec: +(\d+)", output)[-1:] or ["?"]
    slowest = _slowest(folder)
    cost = cost_s(target, slowest) if slowest is not None else 0.0
    print(
        f"{target.name:<13}{int(runs[0]):>10} runs {rate[0]:>7}/s  coverage {coverage[0][0]} edges,"
        f" {coverage[0][1]} features, {coverage[0][2]} inputs  slowest {1000 * cost:.1f} ms",
        flush=True,
    )
    found = [path for kind in ("crash-*", "timeout-*", "oom-*") for path in folder.glob(kind)]
    found += [path for path in folder.glob("slow-*") if cost_s(target, path.read_bytes()) > LIMIT_S]
    for path in found:
        saved = Path(tempfile.gettempdir()) / f"echonode-{target.name}-{path.name}"
        saved.write_bytes(path.read_bytes())
        print(f"  FOUND {saved} ({len(path.read_bytes())} bytes): python -m tests.fuzz {target.name} --replay {saved}")
    if ended.returncode or found:
        print(re.sub(r"^(?:#\d+|INFO:).*\n", "", output, flags=re.MULTILINE)[-4000:])
    return not found and ended.returncode == 0


def _slowest(folder: Path) -> bytes | None:
    path = folder / "slowest"
    return path.read_bytes() if path.exists() else None


def _distil(target: Target, folder: Path) -> None:
    """Let libFuzzer choose the inputs that reach all code, and keep those that the target does not generate."""
    generated = set(target.seeds())
    with tempfile.TemporaryDirectory(prefix="echonode-distil-") as name:
        (Path(name) / "inputs").mkdir()
        ended = _engine(target, Path(name), "-merge=1", str(folder / "inputs"))
        chosen = [path.read_bytes() for path in (Path(name) / "inputs").iterdir()]
    if ended.returncode:
        print(ended.stderr[-2000:])
    count = keep(target.name, [data for data in chosen if data not in generated], bytes_max=_CORPUS_BYTES_MAX)
    print(f"{target.name}: {count} of {len(chosen)} inputs kept")


if __name__ == "__main__":
    sys.exit(main())
