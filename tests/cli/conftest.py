"""Fixtures of the command line's tests."""

from tests.cli.harness import shell

__all__ = ["shell"]
