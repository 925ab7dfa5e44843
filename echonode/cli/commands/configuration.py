"""config and help: the settings of a node, and the pages of the manual.

    config show     every key with its value; --origin adds the file, the variable or the default that it is from
    config check    read a file and say what is wrong with it, without running a node
    config init     write a commented file to begin with
    help [TOPIC]    a page of the manual, or the help of a command
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from echonode.cli.arguments import json_option
from echonode.cli.columns import table
from echonode.cli.exit_codes import Failure
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import print_json, print_line, print_note, safe
from echonode.cli.program import PROGRAM

_DEFAULT: Final = "default"
# Files for other programs, by the topic that prints them.
_FILES: Final = {"lnav": "echonode.lnav.json", "alerts": "echonode.alerts.yml"}


@examples("config show --origin", "config check /etc/echonode/config.toml", "config init")
@click.group("config")
def config() -> None:
    """Show, check or begin the configuration. `echonode help configuration` describes every key."""


@examples("config show", "config show --origin --json")
@config.command("show", short_help="Show every key and its value.")
@click.option("--origin", "with_origin", is_flag=True, help="Say where each value is from.")
@json_option
@pass_lookup
def config_show(lookup: NodeLookup, with_origin: bool, as_json: bool) -> None:
    """Show every key and its value, as a node that starts now would read them."""
    from echonode.manual.settings import SETTINGS

    home = lookup.home()
    values = list(lookup.services.settings(home))
    if as_json:
        for key, value, origin in values:
            print_json({"key": key, "value": value, **({"origin": origin} if with_origin else {})})
        return
    meaning = {setting.key: setting.default for setting in SETTINGS}
    rows = [
        (safe(key), _shown(value) if origin != _DEFAULT else meaning[key], *([safe(origin)] if with_origin else ()))
        for key, value, origin in values
    ]
    header = ("KEY", "VALUE", "ORIGIN") if with_origin else ("KEY", "VALUE")
    # The values are the column to wrap, so they stand last.
    for line in table(_reordered(header), map(_reordered, rows)):
        print_line(line)
    if not home.config.exists():
        print_note(f"there is no {home.config}; to begin one, type: {PROGRAM} config init")


def _reordered(row: Sequence[str]) -> Sequence[str]:
    """Return key, origin, value of key, value, origin."""
    return (row[0], *row[2:], row[1])


def _shown(value: object) -> str:
    """Return a value as TOML has it; a table in one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_shown(str(key))} = {_shown(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return json.dumps(value)


@examples("config check", "config check /etc/echonode/config.toml")
@config.command("check", short_help="Say what is wrong with a file.")
@click.argument("file", type=click.Path(dir_okay=False), required=False)
@pass_lookup
def config_check(lookup: NodeLookup, file: str | None) -> None:
    """Read FILE, or the file of this home, and say what is wrong with it. Exits with 2 when something is."""
    path = Path(file) if file else lookup.home().config
    if file and not path.exists():
        raise click.UsageError(f"There is no file {path}.")
    lookup.services.check_config(path)
    print_note(f"{path} is fine" if path.exists() else f"there is no {path}: every key has its default")


@examples("config init", "config init --home /srv/echo")
@config.command("init", short_help="Write a commented file to begin with.")
@pass_lookup
def config_init(lookup: NodeLookup) -> None:
    """Write a configuration in which every key is a comment, with its meaning and its default."""
    from echonode.manual.topics import commented_file

    path = lookup.home().config
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as target:
            target.write(commented_file())
    except FileExistsError:
        raise Failure(f"there is a {path} already") from None
    print_line(str(path))


@examples("help configuration", "help put", "help --man > echonode.1", "help lnav > echonode.lnav.json")
@click.command("help")
@click.argument("topic", nargs=-1)
@click.option("--man", "as_man", is_flag=True, help="Print the manual page, with every command and every topic.")
@click.pass_context
def help_command(ctx: click.Context, topic: Sequence[str], as_man: bool) -> None:
    """Show a page of the manual, or the help of a command. Without TOPIC, list the pages.

    The topics lnav and alerts print a log format for lnav, and alerts for Prometheus to begin with.
    """
    from echonode.manual.topics import TOPICS

    if as_man:
        from echonode.cli.manual_page import manual_page

        print_line(manual_page(ctx.find_root(), ctx.ensure_object(NodeLookup).services.version).rstrip())
        return
    if not topic:
        print_line(f"Pages: {', '.join(TOPICS)}.")
        print_line(f"To read one, type: {PROGRAM} help {next(iter(TOPICS))}")
        print_line(f"Files for other programs: {', '.join(_FILES)}; type: {PROGRAM} help lnav > FILE")
        print_line(f"Commands: {PROGRAM} --help lists them, {PROGRAM} help COMMAND explains one.")
        return
    if len(topic) == 1 and topic[0] in _FILES:
        print_line(ctx.ensure_object(NodeLookup).services.packaged_file(_FILES[topic[0]]).rstrip())
        return
    page = TOPICS.get(topic[0]) if len(topic) == 1 else None
    print_line(page().rstrip() if page else _command_help(ctx, topic))


def _command_help(ctx: click.Context, words: Sequence[str]) -> str:
    """Return the help of the command that `words` name. Raises click.UsageError when there is none."""
    here = ctx.find_root()
    for word in words:
        inner = here.command.get_command(here, word) if isinstance(here.command, click.Group) else None
        if inner is None:
            raise click.UsageError(f"There is no page and no command {safe(' '.join(words))}.")
        here = click.Context(inner, parent=here, info_name=word)
    return here.get_help()
