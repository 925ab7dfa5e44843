"""The manual page echonode(1), made of the same commands that --help shows, and of the pages of the manual."""

from collections.abc import Iterator
from typing import Final

import click

from echonode.cli.program import PROGRAM

_FILES: Final = (
    ("~/.local/state/echonode", "The home of a node: its keys, its store, its configuration config.toml."),
    ("/etc/echonode/config.toml", "The configuration of the service."),
    ("/var/lib/echonode, /run/echonode", "The home and the socket of the service."),
)
_ENVIRONMENT: Final = (
    ("ECHO_HOME", "The home, as --home gives it."),
    ("ECHO_API_URL", "The socket or the URL of the node to command: unix:/PATH, or http://127.0.0.1:PORT."),
    ("ECHO_DEBUG", "With 1, an error comes with the place in the program where it arose."),
    ("NO_COLOR", "Anything: no colours on a terminal."),
)
_EXIT_CODES: Final = (
    ("0", "Done; for sync: in sync, and verified."),
    ("1", "Failed."),
    ("2", "Wrong usage, or a configuration that cannot be used."),
    ("3", "Partial, or conflicts are left."),
    ("4", "Timed out."),
    ("5", "The node is not running."),
    ("6", "Not authorised."),
)


def manual_page(ctx: click.Context, version: str) -> str:
    """Return the page in roff (man(7)). `ctx` is the context of the whole program."""
    return "\n".join(_page(ctx, version)) + "\n"


def _page(ctx: click.Context, version: str) -> Iterator[str]:
    group = ctx.command
    assert isinstance(group, click.Group), "the program is a group of commands"
    yield f'.TH {PROGRAM.upper()} 1 "" "{PROGRAM} {_text(version)}" "User Commands"'
    yield f".SH NAME\n{PROGRAM} \\- {_text(_sentence(group.help))}"
    yield f".SH SYNOPSIS\n.B {PROGRAM}\n[\\fB\\-\\-home\\fR \\fIDIR\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]"
    yield ".SH DESCRIPTION"
    yield from _paragraphs(group.help)
    yield ".SH OPTIONS"
    yield from _options(group, ctx)
    yield ".SH COMMANDS"
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if command is not None:
            yield from _command(command, ctx, name)
    from echonode.manual.topics import TOPICS

    for topic, page in TOPICS.items():
        yield f".SH {topic.upper()}\n.nf"
        yield from map(_line, page().rstrip().splitlines())
        yield ".fi"
    for title, entries in (("ENVIRONMENT", _ENVIRONMENT), ("FILES", _FILES), ("EXIT STATUS", _EXIT_CODES)):
        yield f".SH {title}"
        for name, meaning in entries:
            yield f".TP\n.B {_text(name)}\n{_line(meaning)}"


def _command(command: click.Command, parent: click.Context, name: str) -> Iterator[str]:
    """Yield a command, and the commands in it."""
    ctx = click.Context(command, parent=parent, info_name=name)
    pieces = " ".join(command.collect_usage_pieces(ctx))
    yield f".SS {_text(ctx.command_path)} {_text(pieces)}"
    yield from _paragraphs(command.help)
    yield from _options(command, ctx)
    if command.epilog:
        yield ".PP\n.nf"
        yield from (_line(line) for line in command.epilog.replace("\b\n", "").splitlines())
        yield ".fi"
    if isinstance(command, click.Group):
        for inner_name in command.list_commands(ctx):
            inner = command.get_command(ctx, inner_name)
            if inner is not None:
                yield from _command(inner, ctx, inner_name)


def _options(command: click.Command, ctx: click.Context) -> Iterator[str]:
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is not None:
            yield f".TP\n.B {_text(record[0])}\n{_line(record[1])}"


def _paragraphs(text: str | None) -> Iterator[str]:
    for paragraph in (text or "").split("\n\n"):
        yield f".PP\n{_line(' '.join(paragraph.split()))}"


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split()).partition(". ")[0].rstrip(".")


def _line(text: str) -> str:
    """Return a line of text: a dot or a quote at its beginning is no request."""
    shown = _text(text)
    return f"\\&{shown}" if shown[:1] in (".", "'") else shown


def _text(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-")
