"""`python -m tests.planted [--worlds] [WORDS ...]`: plant each bug in a copy of the tree and report what catches it.

The tests of a bug run until one fails. If none fails, or with --worlds in any case, simulated worlds run until one
fails. A bug that nothing catches means a missing test, and the exit code is 1. With WORDS only bugs run whose names
contain one of them.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.planted.bugs import BUGS, Bug

ROOT: Final = Path(__file__).parents[2]
_TIMEOUT_S: Final = 600
_HANGS: Final = "it does not end"
_COPIED: Final = ("echonode", "tests", "proto", "systemd", "pyproject.toml", "README.md", "CHANGELOG.md")
_FIRST_SEED: Final = """
import sys
from echonode.sim.scenario import run_seed
for seed in range(int(sys.argv[1])):
    try:
        run_seed(seed)
    except Exception as error:
        print(seed, type(error).__name__, str(error).splitlines()[0][:70])
        break
"""


def planted(source: str, bug: Bug) -> str:
    """Return `source` with the bug in it. Raises ValueError unless the pattern occurs exactly once."""
    if source.count(bug.right) != 1:
        raise ValueError(f"{bug.name}: {bug.file} has {source.count(bug.right)} places for it, not one")
    return source.replace(bug.right, bug.wrong)


def main(words: list[str]) -> int:
    """Run every bug, or those that `words` choose. Return 1 if one was not caught."""
    missed = []
    always_worlds = "--worlds" in words
    words = [word for word in words if word != "--worlds"]
    for bug in BUGS:
        if words and not any(word in bug.name for word in words):
            continue
        began_s = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="echonode-planted-") as folder:
            tree = Path(folder)
            for name in _COPIED:
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
                copy(ROOT / name, tree / name)
            (tree / "echonode" / bug.file).write_text(planted((ROOT / "echonode" / bug.file).read_text(), bug))
            test = _by_test(tree, bug)
            seed = _by_seed(tree, bug) if always_worlds or not test else ""
        if not test and not seed:
            missed.append(bug.name)
        took_s = time.monotonic() - began_s
        print(f"{bug.name:<60} {took_s:4.0f} s  seed: {seed or '-':<40}  test: {test or '-'}", flush=True)
    print(f"{len(missed)} not caught" + "".join(f"\n  {name}" for name in missed))
    return 1 if missed else 0


def _by_test(tree: Path, bug: Bug) -> str:
    """Return the first of the bug's tests that fails, "" if none does."""
    command = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *[f"tests/{each}" for each in bug.tests]]
    output = _run(tree, command)
    if output is None:
        return _HANGS
    found = re.search(r"^(?:FAILED|ERROR) tests/(\S+)", output, re.MULTILINE)
    return found[1] if found else ""


def _by_seed(tree: Path, bug: Bug) -> str:
    """Return the first simulated world that fails, and its violation, "" if none does."""
    output = _run(tree, ["-c", _FIRST_SEED, str(bug.seeds)]) if bug.seeds else ""
    return _HANGS if output is None else output.strip()


def _run(tree: Path, arguments: list[str]) -> str | None:
    """Run Python in `tree`. Return its output, None after a time-out."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "CI": "true"}
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tree,
            env=environment,
            capture_output=True,
            check=False,  # the bug should make it fail
            text=True,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
