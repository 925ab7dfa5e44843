"""What only root may do for a test, and takes back afterwards: a small disk, little memory, a network of one's own."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def needs_root() -> None:
    """Skip the test where this is not root."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


def command(*arguments: object) -> str:
    """Run a program of the system; what it printed."""
    return subprocess.run([str(each) for each in arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


@contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[Path]:
    """A disk of so many MiB at `folder`."""
    needs_root()
    folder.mkdir()
    command("mount", "-t", "tmpfs", "-o", f"size={size_mib}m,mode=0700", "tmpfs", folder)
    try:
        yield folder
    finally:
        command("umount", "--lazy", folder)
