"""put, get, delete, list, forget, conflicts: records, one at a time, and lists of them."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from echonode.cli.arguments import context_option, json_option, read_body, to_time
from echonode.cli.columns import table
from echonode.cli.commands.peer_records import (
    filter_option,
    get_from_peer,
    list_peer_records,
    put_to_peer,
    timeout_option,
)
from echonode.cli.exit_codes import ExitCode
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import (
    ascii_json,
    count,
    fields_of,
    moment,
    print_json,
    print_line,
    print_note,
    safe,
    short_id,
    shown_address,
    terminal_text,
)

_PUT_FIELDS = ("id", "version")
_PREVIEW_CHARS = 60
_ID_HELP = (
    "A RECORD is NAME or me/NAME (this node's), shared/NAME (every member's), or @LABEL/NAME of the node with that "
    "name or id; the beginning of the id will do."
)


@examples('put shared/todo "milk"', "put plan --file plan.md --tag home", "put --to kitchen shared/todo")
@click.command(
    "put",
    short_help="Write a record here, or put records to a peer.",
    epilog="NAME is this node's own; shared/NAME may be written by every member of the network.",
)
@click.argument("words", metavar="NAME [VALUE] | RECORD...", nargs=-1, required=True)
@click.option("--to", "peer", metavar="PEER", help="Put the named RECORDs to this peer instead of writing one here.")
@click.option("--file", type=click.Path(exists=True, dir_okay=False, allow_dash=True), help="Take the body from it.")
@click.option("-t", "--tag", "tags", multiple=True, help="Can be given several times.")
@click.option("--model", metavar="NAME[@MAJOR.MINOR]", help="What kind of thing the record is.")
@click.option("--type", "media_type", metavar="MEDIA", help="Media type, instead of a guess.")
@timeout_option
@context_option
@json_option
@pass_lookup
def put(
    lookup: NodeLookup,
    words: Sequence[str],
    peer: str | None,
    file: str | None,
    tags: Sequence[str],
    model: str | None,
    media_type: str | None,
    timeout_s: float,
    context: str,
    as_json: bool,
) -> ExitCode | None:
    """Write a record, its body being VALUE, a file, or - for stdin; or put records that are here to a peer.

    The peer says of each RECORD that it had it, stored it, or refused it and why.
    """
    from echonode.cli.client import record_path

    if peer is not None:
        if file is not None or tags or model is not None or media_type is not None:
            raise click.UsageError("--to takes RECORDs as they are: no --file, --tag, --model or --type.")
        return put_to_peer(lookup, words, peer, timeout_s=timeout_s, context=context, as_json=as_json)
    if len(words) > 2:
        raise click.UsageError("One NAME and one VALUE are written at a time; to put RECORDs to a peer, add --to PEER.")
    name, value = words[0], words[1] if len(words) > 1 else None
    client = lookup.client()
    body, guessed = read_body(value, file)
    query = [("id", name), ("model", model), ("type", media_type or guessed), *(("tag", tag) for tag in tags)]
    answer = client.call("PUT", record_path(context), query=query, body=body)
    _show_written(answer, as_json)
    return None


@examples("get shared/todo", "get @kitchen/plan > plan.md", "get --from kitchen shared/todo")
@click.command("get", short_help="Read a record, or fetch records from a peer.", epilog=_ID_HELP)
@click.argument("ids", metavar="RECORD...", nargs=-1, required=True)
@click.option("--from", "peer", metavar="PEER", help="Fetch the records from this peer, and keep them.")
@click.option("--version", metavar="V", help="With --from: only this version of the one record.")
@click.option("--any-model", is_flag=True, help="Also of a model that this node's `models` say is not read here.")
@timeout_option
@context_option
@json_option
@pass_lookup
def get(
    lookup: NodeLookup,
    ids: Sequence[str],
    peer: str | None,
    version: str | None,
    any_model: bool,
    timeout_s: float,
    context: str,
    as_json: bool,
) -> ExitCode | None:
    """Write a record's body to stdout, byte for byte; or fetch records from a peer.

    On a terminal, characters that it could obey are escaped.
    """
    from echonode.cli.client import record_path

    if len(ids) > 1 and (peer is None or version is not None):
        raise click.UsageError("One RECORD is enough here; several are fetched with --from, without --version.")
    if peer is not None:
        return get_from_peer(
            lookup, ids, peer, version=version, timeout_s=timeout_s, context=context, as_json=as_json
        )
    if version is not None:
        raise click.UsageError("--version says what to fetch: it wants --from.")
    (id_text,) = ids
    query = [("id", id_text), ("any_model", "1" if any_model else None), ("whole", "1" if as_json else None)]
    with lookup.reader() as reader, reader.client.open("GET", record_path(context), query=query) as response:
        body = response.read()
        if as_json:
            print_line(ascii_json(body).decode("ascii"))  # a body's numbers stay as written
            return None
        if sys.stdout.isatty():
            sys.stdout.write(terminal_text(body))
        else:
            sys.stdout.flush()
            sys.stdout.buffer.write(body)
            sys.stdout.buffer.flush()
    return None


@examples("delete shared/todo", "delete plan -c books")
@click.command("delete", short_help="Delete a record, on every node in time.", epilog=_ID_HELP)
@click.argument("id_text", metavar="RECORD")
@context_option
@json_option
@pass_lookup
def delete(lookup: NodeLookup, id_text: str, context: str, as_json: bool) -> None:
    """Delete a record, on every node in time."""
    from echonode.cli.client import record_path

    _show_written(lookup.client().call("DELETE", record_path(context), query=[("id", id_text)]), as_json)


def _show_written(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(fields_of(_PUT_FIELDS, answer))
    else:
        print_line(safe(answer["id"]))
        if answer.get("is_new_context"):
            print_note(f"the context {safe(answer['context'])} is new here")
        if beside := answer.get("beside"):
            print_note(f"it could not replace {count(beside, 'other version')}; see: echonode conflicts")


@examples("list", "list --filter tag=news --filter since=2h", "list --author kitchen --json")
@click.command("list", short_help="List records, oldest arrivals first.")
@click.option("--from", "peer", metavar="PEER", help="The records of this peer instead, as pull lists them.")
@filter_option
@click.option("--author", metavar="A", help="Only of this author: me, shared, a node's name, or its id.")
@click.option("-t", "--tag", metavar="T", help="Only with this tag.")
@click.option("--since", type=to_time, metavar="TIME", help="Created since: 2026-11-22, 2026-11-22T12:00:00Z, 2h.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="No more than this many.")
@context_option
@json_option
@pass_lookup
def list_records(
    lookup: NodeLookup,
    peer: str | None,
    terms: Sequence[str],
    author: str | None,
    tag: str | None,
    since: str | None,
    limit: int | None,
    context: str,
    as_json: bool,
) -> None:
    """List records, in the order in which they came to this node."""
    from echonode.cli.client import record_path

    if peer is not None:
        said = {"author": author, "tag": tag, "since": since}
        terms = [*terms, *(f"{key}={value}" for key, value in said.items() if value)]
        list_peer_records(lookup, peer, terms, limit=limit, context=context, as_json=as_json)
        return
    query = [("author", author), ("tag", tag), ("since", since), ("limit", str(limit) if limit else None)]
    query += [("filter", term) for term in terms]
    with (
        lookup.reader() as reader,
        reader.client.open("GET", record_path(context, "/list"), query=query) as response,
    ):
        if as_json:
            for record in response.values():
                print_json(record)
            return
        for line in table(("RECORD", "CREATED", "TYPE", "TAGS"), map(_row, response.values()), optional=(2, 1)):
            print_line(line)


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    return shown_address(record), moment(record["created"]), safe(record["type"]), safe(" ".join(record["tags"]))


@examples("forget", "forget -c books")
@click.command("forget", short_help="Remove records that no subscription wants.")
@context_option
@json_option
@pass_lookup
def forget(lookup: NodeLookup, context: str, as_json: bool) -> None:
    """Remove the records that this node's subscription to a context does not want, here alone. Its own records stay."""
    from echonode.cli.client import record_path

    answer = lookup.client().call("POST", record_path(context, "/forget"), timeout_s=600.0)
    if as_json:
        print_json(answer)
    else:
        print_note(f"{count(answer['forgotten'], 'record')} forgotten")


@examples("conflicts", "conflicts -c books --json")
@click.command("conflicts", short_help="List records that were written apart.")
@click.option("-c", "--context", help="Only in this set of records.")
@json_option
@pass_lookup
def conflicts(lookup: NodeLookup, context: str | None, as_json: bool) -> None:
    """List the records that several nodes wrote without knowing of each other. The next put that covers all versions
    ends the conflict."""
    with lookup.reader() as reader:
        answer = reader.client.call("GET", "/v1/conflicts", query=[("context", context)])
    if as_json:
        print_json(answer)
        return
    for conflict in answer["conflicts"]:
        print_line(f"{shown_address(conflict)} in {safe(conflict['context'])}")
        for line in table(("", "", "VERSION", "WRITTEN", "BY KEY", "BODY"), _head_rows(conflict["heads"])):
            print_line(line)
    print_note(count(len(answer["conflicts"]), "conflict"))


def _head_rows(heads: Iterable[dict[str, Any]]) -> Iterable[tuple[str, ...]]:
    for head in heads:
        read = "read" if head["winner"] else ""
        yield "", read, short_id(head["version"]), moment(head["timestamp"]), short_id(head["key"]), _preview(head)


def _preview(head: dict[str, Any]) -> str:
    if head["deleted"]:
        return "(deleted)"
    if "body" not in head:
        return "(binary)"
    text = safe(head["body"] if isinstance(head["body"], str) else json.dumps(head["body"]))
    return text if len(text) <= _PREVIEW_CHARS else text[: _PREVIEW_CHARS - 1].rstrip() + "…"
