"""Fixtures of the command line's tests."""

from tests.cli.house import shell

__all__ = ["shell"]
