"""The common parts of all commands: two examples at the end of each help, and --home after the command too."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import click

from echonode.cli.node_lookup import NodeLookup
from echonode.cli.program import PROGRAM

_Command = TypeVar("_Command", bound=click.Command)


def examples(*lines: str) -> Callable[[_Command], _Command]:
    """Add command lines, without the program's name, to the end of a command's help."""

    def add(command: _Command) -> _Command:
        shown = "\n".join(f"  {PROGRAM} {line}" for line in lines)
        before = f"{command.epilog}\n\n" if command.epilog else ""
        command.epilog = f"{before}\b\nExamples:\n{shown}"
        return command

    return add


def take_home(command: click.Command) -> None:
    """Let `command`, and the commands in it, take --home after their names too. The last one given counts."""
    option = click.Option(
        ["--home"],
        type=click.Path(file_okay=False),
        expose_value=False,
        hidden=True,
        callback=_set_home,
    )
    command.params.append(option)
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            take_home(inner)


def _set_home(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.obj = replace(ctx.ensure_object(NodeLookup), home_flag=value)
