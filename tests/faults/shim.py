"""The shim (shim.c), built into a temporary folder, and the environments in which a process runs under it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_name("shim.c")


def build(folder: Path) -> Path:
    """Build the shim as a library in `folder`. Skip the test where that is impossible."""
    if sys.platform != "linux" or shutil.which("gcc") is None:
        pytest.skip("no gcc here (and Linux): the shim that records and fails I/O cannot be built")
    library = folder / "shim.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", library, _SOURCE, "-ldl", "-lpthread"],
        check=True,
    )
    return library


def recording(shim: Path, *, under: Path, into: Path) -> dict[str, str]:
    """Return an environment in which all changes of files below `under` are recorded in the file `into`."""
    return _environment(shim, {"FAULTS_UNDER": str(under), "FAULTS_RECORD": str(into)})


def failing(shim: Path, *, under: Path, at: int, kind: str) -> dict[str, str]:
    """Return an environment in which the call number `at` on files below `under` fails."""
    return _environment(shim, {"FAULTS_UNDER": str(under), "FAULTS_FAIL": f"{at} {kind}"})


def loaded(shim: Path) -> dict[str, str]:
    """Return an environment in which a process can arm the shim itself."""
    return _environment(shim, {})


def _environment(shim: Path, settings: Mapping[str, str]) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("ECHO_", "FAULTS_"))}
    return {**inherited, "LD_PRELOAD": str(shim), **settings}
