"""The help: every command has it, it fits a narrow terminal, and its examples can be typed."""

import re
import shlex
from pathlib import Path

import click
import pytest

from echonode.cli.main import commands
from echonode.cli.node_lookup import NodeLookup
from tests.cli.harness import Shell
from tests.cli.test_main import COMMANDS, INNER


def test_help_names_every_command(shell: Shell) -> None:
    result = shell("--help")
    assert result.code == 0
    named = re.findall(r"^  ([a-z-]+)  ", result.text.partition("Commands to begin:")[2], re.MULTILINE)
    assert named == COMMANDS.split()


@pytest.mark.parametrize("command", [*COMMANDS.split(), *INNER])
def test_every_command_has_help(shell: Shell, command: str) -> None:
    result = shell(*command.split(), "--help")
    assert result.code == 0
    assert result.text.startswith(f"Usage: echonode {command} ")


def example_lines(help_text: str) -> list[str]:
    """Return the command lines at the end of a command's help, without the program's name."""
    _, _, end = help_text.partition("Examples:\n")
    return [line.removeprefix("    echonode ") for line in end.splitlines() if line.startswith("    echonode ")]


@pytest.mark.parametrize("command", ["", *COMMANDS.split(), *INNER])
def test_every_help_has_two_examples_and_they_can_be_typed(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stick").mkdir()
    for name in ("plan.md", "books.jsonl", "stick/kitchen.echo"):
        (tmp_path / name).write_text("x")
    lines = example_lines(shell(*command.split(), "--help").text)
    assert len(lines) >= 2
    group = commands(shell.services)
    for line in lines:
        assert f" {line} ".count(f" {command} ") if command else line
        words = shlex.split(line.partition(" < ")[0].partition(" > ")[0])
        context = group.make_context("echonode", words)
        context.obj = NodeLookup(shell.services, None)
        while isinstance(context.command, click.Group) and context._protected_args:
            name, inner, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
            assert inner is not None
            context = inner.make_context(name, rest, parent=context)


@pytest.mark.parametrize("command", ["", *COMMANDS.split(), *INNER])
def test_help_breaks_no_word_and_fits_80_columns(shell: Shell, command: str) -> None:
    text = shell(*command.split(), "--help").text
    assert not re.search(r"[a-z]\.\.\.", text)  # click cuts a long summary so
    assert max(map(len, text.splitlines())) <= 80
