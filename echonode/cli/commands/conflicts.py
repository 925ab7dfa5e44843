"""conflicts, history: records that nodes wrote apart, the ways to join them, and the earlier versions of a record."""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final

import click

from echonode.cli.arguments import context_option, json_option
from echonode.cli.columns import columns_of, table, terminal_width
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import count, moment, print_json, print_line, print_note, safe, short_id, shown_address

_PREVIEW_CHARS: Final = 60
_BODY_LINES_MAX: Final = 200
_SIDE_COLUMNS_MIN: Final = 48  # a narrower side is hard to read: the sides then stand below each other
_STRATEGIES: Final = ("merge", "prefer_local", "prefer_remote")


class _ListsByDefault(click.Group):
    """A group whose plain call, with options at the most, is its command `list`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `list` in front, unless a command or --help is named."""
        if not any(arg in self.commands or arg in ("-h", "--help") for arg in args):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@examples("conflicts", "conflicts show shared/todo", "conflicts resolve shared/todo --strategy merge")
@click.group("conflicts", cls=_ListsByDefault)
def conflicts() -> None:
    """Records that several nodes wrote without knowing of each other. Without a command: list them.

    Every node keeps all versions until one is written that covers them: by `resolve`, or by the next put.
    """


@examples("conflicts list", "conflicts list -c books --json")
@conflicts.command("list", short_help="List the records in conflict.")
@click.option("-c", "--context", help="Only in this set of records.")
@json_option
@pass_lookup
def list_conflicts(lookup: NodeLookup, context: str | None, as_json: bool) -> None:
    """List the records in conflict, each with its versions."""
    with lookup.reader() as reader:
        answer = reader.client.call("GET", "/v1/conflicts", query=[("context", context)])
    if as_json:
        print_json(answer)
        return
    for conflict in answer["conflicts"]:
        print_line(f"{shown_address(conflict)} in {safe(conflict['context'])}")
        for line in table(("", "", "VERSION", "WRITTEN", "BY", "BODY"), _head_rows(conflict["heads"])):
            print_line(line)
    print_note(count(len(answer["conflicts"]), "conflict"))
    if answer["conflicts"]:
        print_note("to see both sides, type: echonode conflicts show RECORD")


def _typed(answer: Mapping[str, Any]) -> str:
    """Return the arguments that name a record on a command line."""
    where = "" if answer["context"] == "main" else f" -c {shlex.quote(safe(answer['context']))}"
    return f"{shlex.quote(shown_address(answer))}{where}"


def _head_rows(heads: Iterable[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    for head in heads:
        read = "read" if head.get("winner") else ""
        yield "", read, short_id(head["version"]), moment(head["timestamp"]), _writer(head), _preview(head)


@examples("conflicts show shared/todo", "conflicts show @kitchen/plan -c books")
@conflicts.command("show", short_help="Show the versions of one record, side by side.")
@click.argument("id_text", metavar="RECORD")
@context_option
@json_option
@pass_lookup
def show(lookup: NodeLookup, id_text: str, context: str, as_json: bool) -> None:
    """Show the versions of a record in conflict: which node wrote each, when, and what it says.

    They stand side by side where the terminal is wide enough.
    """
    from echonode.client.request import conflict_path

    with lookup.reader() as reader:
        answer = reader.client.call("GET", conflict_path(context), query=[("id", id_text)])
    if as_json:
        print_json(answer)
        return
    heads = answer["heads"]
    print_line(f"{shown_address(answer)} in {safe(answer['context'])}: {count(len(heads), 'version')}")
    print_line("")
    for line in _sides([_side(head) for head in heads]):
        print_line(line)
    if len(heads) == 1:
        print_note("no conflict: there is one version")
        return
    if answer["base"] is not None:
        print_line("")
        print_line(f"both came from {short_id(answer['base']['version'])}: {_preview(answer['base'])}")
    record = _typed(answer)
    print_note(f"to keep one, type: echonode conflicts resolve {record} --keep {short_id(heads[0]['version'])}")
    print_note(f"to join them, type: echonode conflicts resolve {record} --strategy merge")


def _side(head: Mapping[str, Any]) -> list[str]:
    about = "readers get this one" if head.get("winner") else ""
    title = [short_id(head["version"]), f"by {_writer(head)}", moment(head["timestamp"]), about]
    return [line for line in title if line] + ["", *_body_lines(head)]


def _sides(sides: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of all sides: beside each other where each has room, else below each other."""
    room = (terminal_width() or 0) // len(sides) - 3
    if room < _SIDE_COLUMNS_MIN:
        for number, side in enumerate(sides):
            yield from ([""] if number else [])
            yield from side
        return
    cut = [[part for line in side for part in _pieces(line, room)] for side in sides]
    for row in zip_longest(*cut, fillvalue=""):
        yield " │ ".join(part + " " * (room - columns_of(part)) for part in row).rstrip()


def _pieces(line: str, width: int) -> Iterator[str]:
    """Yield `line` in pieces of at most `width` columns."""
    piece = ""
    for character in line:
        if columns_of(piece + character) > width:
            yield piece
            piece = ""
        piece += character
    yield piece


def _body_lines(head: Mapping[str, Any]) -> list[str]:
    if head["deleted"]:
        return ["(deleted)"]
    if "body" not in head:
        return ["(binary)"]
    body = head["body"]
    text = body if isinstance(body, str) else json.dumps(body, indent=2, ensure_ascii=False)
    lines = [safe(line) for line in text.split("\n")]
    if len(lines) > _BODY_LINES_MAX:
        return [*lines[:_BODY_LINES_MAX], f"(and {len(lines) - _BODY_LINES_MAX} more lines)"]
    return lines


@examples("conflicts resolve shared/todo --keep 4kqx7h2a", "conflicts resolve shared/todo --strategy merge")
@conflicts.command("resolve", short_help="Write one version that covers all others.")
@click.argument("id_text", metavar="RECORD")
@click.option("--keep", metavar="VERSION", help="Keep this version: its id, or the beginning of it.")
@click.option(
    "--strategy",
    type=click.Choice(_STRATEGIES),
    help="merge: join JSON objects field by field; prefer_local: what this node wrote; prefer_remote: what others did.",
)
@context_option
@json_option
@pass_lookup
def resolve(
    lookup: NodeLookup, id_text: str, keep: str | None, strategy: str | None, context: str, as_json: bool
) -> None:
    """Resolve a conflict: write one version that covers all others, on every node in time.

    merge joins JSON objects field by field. A field that both sides changed keeps both values, as {"$conflict": [..]}.
    Of other bodies the newest is kept, and of an edit beside a delete the edit. What was covered stays in the history.
    """
    from echonode.client.request import conflict_path

    if (keep is None) == (strategy is None):
        raise click.UsageError("Say how: --keep VERSION, or --strategy merge, prefer_local or prefer_remote.")
    body = {"keep": keep} if keep is not None else {"strategy": strategy}
    path = conflict_path(context, "/resolve")
    answer = lookup.client().call("POST", path, query=[("id", id_text)], body=body)
    if as_json:
        print_json(answer)
        return
    print_line(safe(answer["id"]))
    print_note(f"{count(len(answer['covered']), 'version')} covered: {safe(answer['how'])}")


@examples("history shared/todo", "history plan -c books --limit 5 --json")
@click.command("history")
@click.argument("id_text", metavar="RECORD")
@click.option("--limit", type=click.IntRange(1, 1000), metavar="N", default=20, help="Earlier versions at most.  [20]")
@context_option
@json_option
@pass_lookup
def history(lookup: NodeLookup, id_text: str, limit: int, context: str, as_json: bool) -> None:
    """List the versions of a record that this node holds: the current ones, then earlier ones, the newest first.

    Earlier versions stay on the node that saw them, for a month. `get RECORD --version V` reads one.
    """
    from echonode.client.request import record_path

    query = [("id", id_text), ("limit", str(limit))]
    with lookup.reader() as reader:
        answer = reader.client.call("GET", record_path(context, "/history"), query=query)
    if as_json:
        print_json(answer)
        return
    header = ("", "VERSION", "WRITTEN", "BY", "BODY")
    for line in table(header, map(_version_row, answer["versions"])):
        print_line(line)
    if sum("superseded" in version for version in answer["versions"]) >= limit:
        print_note(f"the newest {limit} earlier versions; more with --limit")


def _version_row(version: Mapping[str, Any]) -> tuple[str, ...]:
    if version.get("void"):
        state = "void"
    elif "superseded" in version:
        state = "earlier"
    else:
        state = "current" if version.get("winner") else "beside it"
    return state, short_id(version["version"]), moment(version["timestamp"]), _writer(version), _preview(version)


def _writer(version: Mapping[str, Any]) -> str:
    """Return the node that wrote a version as an address names it, else the beginning of its key."""
    by = safe(version.get("by") or "")
    if by == "me":
        return "this node"
    return f"key {short_id(version['key'])}" if not by else by if by.startswith("@") else short_id(by)


def _preview(version: Mapping[str, Any]) -> str:
    if version["deleted"]:
        return "(deleted)"
    if "body" not in version:
        return "(binary)"
    text = safe(version["body"] if isinstance(version["body"], str) else json.dumps(version["body"]))
    return text if len(text) <= _PREVIEW_CHARS else text[: _PREVIEW_CHARS - 1].rstrip() + "…"
