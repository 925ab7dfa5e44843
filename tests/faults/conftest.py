"""The fixtures of the fault tests: the shim, built once a session."""

from pathlib import Path

import pytest

from tests.faults.shim import build


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that records a process's I/O and makes calls fail."""
    return build(tmp_path_factory.mktemp("shim"))
