"""The fixtures of the fault tests: the shim, built once a session."""

from pathlib import Path

import pytest

from tests.faults.shim import build


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the library that records the I/O of a process or makes its calls fail."""
    return build(tmp_path_factory.mktemp("shim"))
