"""put, get, delete, list, forget: records, one at a time, and lists of them."""

import sys
from collections.abc import Iterator, Sequence
from shlex import quote
from typing import TYPE_CHECKING, Any

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
from echonode.cli.exit_codes import ExitCode, Failure
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, Reader, pass_lookup
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
from echonode.cli.program import PROGRAM

if TYPE_CHECKING:
    from echonode.client.connection import Answer

_PUT_FIELDS = ("id", "version", "covered")  # the last one only where versions of other nodes are covered
_ID_HELP = (
    "A RECORD is NAME or me/NAME (this node's), shared/NAME (every member's), or @LABEL/NAME of the node with that "
    "name or id; the beginning of the id will do."
)


@examples('put shared/todo "milk"', "put plan --file plan.md --tag home", "put --to kitchen shared/todo")
@click.command(
    "put",
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
    from echonode.client.request import record_path

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
@click.command("get", epilog=_ID_HELP)
@click.argument("ids", metavar="RECORD...", nargs=-1, required=True)
@click.option("--from", "peer", metavar="PEER", help="Fetch the records from this peer, and keep them.")
@click.option("--version", metavar="V", help="Only this version of the RECORD; without --from its beginning will do.")
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
    if len(ids) > 1 and (peer is None or version is not None):
        raise click.UsageError("One RECORD is enough here; several are fetched with --from, without --version.")
    if peer is not None:
        return get_from_peer(lookup, ids, peer, version=version, timeout_s=timeout_s, context=context, as_json=as_json)
    (id_text,) = ids
    query = [("id", id_text), ("any_model", "1" if any_model else None), ("whole", "1" if as_json else None)]
    query.append(("version", version))
    with lookup.reader() as reader, _record(reader, context, id_text, query) as response:
        body = response.raw() if as_json else response.read()
        told = response.header("echo-heads") or ""
        heads = int(told) if told.isdecimal() else 1
        if heads > 1 and version is None and not as_json:
            print_note(f"{heads} versions are in conflict; this is the newest: echonode conflicts show {safe(id_text)}")
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


def _record(reader: Reader, context: str, id_text: str, query: Sequence[tuple[str, str | None]]) -> "Answer":
    """Return the answer with the record. Where there is none, the error says how to learn why, if the node runs."""
    from echonode.client.errors import NotFound
    from echonode.client.request import record_path

    try:
        return reader.client.open("GET", record_path(context), query=query)
    except NotFound as error:
        if not reader.is_running or ("version", None) not in query:
            raise
        where = "" if context == "main" else f" -c {quote(context)}"
        raise Failure(f"{error}; to learn why, type: {PROGRAM} why {quote(id_text)}{where}") from None


@examples("delete shared/todo", "delete plan -c books")
@click.command("delete", epilog=_ID_HELP)
@click.argument("id_text", metavar="RECORD")
@context_option
@json_option
@pass_lookup
def delete(lookup: NodeLookup, id_text: str, context: str, as_json: bool) -> None:
    """Delete a record, on every node in time."""
    from echonode.client.request import record_path

    _show_written(lookup.client().call("DELETE", record_path(context), query=[("id", id_text)]), as_json)


def _show_written(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(fields_of(_PUT_FIELDS[: None if answer["covered"] else -1], answer))
    else:
        print_line(safe(answer["id"]))
        if answer.get("is_new_context"):
            print_note(f"the context {safe(answer['context'])} is new here")
        if beside := answer.get("beside"):
            print_note(f"it could not replace {count(beside, 'other version')}; see: echonode conflicts")
    for head in answer.get("covered", ()):
        by = safe(head["by"]) if head["by"].startswith("@") else f"the key {short_id(head['key'])}"
        print_note(f"this covers version {short_id(head['version'])} by {by}, written {moment(head['timestamp'])}")


@examples("list", "list --filter tag=news --filter since=2h", "list --author kitchen --json")
@click.command("list")
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
    from echonode.client.request import record_path

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
        contested = 0

        def rows() -> Iterator[tuple[str, ...]]:
            nonlocal contested
            for record in response.values():
                contested += record.get("heads", 1) > 1
                yield _row(record)

        for line in table(("RECORD", "CREATED", "TYPE", "TAGS"), rows(), optional=(2, 1)):
            print_line(line)
        if contested:
            print_note(f"! {count(contested, 'record')} in conflict; echonode conflicts shows the versions")


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    address = shown_address(record) + (" !" if record.get("heads", 1) > 1 else "")
    return address, moment(record["created"]), safe(record["type"]), safe(" ".join(record["tags"]))


@examples("forget", "forget -c books")
@click.command("forget")
@context_option
@json_option
@pass_lookup
def forget(lookup: NodeLookup, context: str, as_json: bool) -> None:
    """Remove the records that this node's subscription to a context does not want, here alone. Its own records stay."""
    from echonode.client.request import record_path

    answer = lookup.client().call("POST", record_path(context, "/forget"), timeout_s=600.0)
    if as_json:
        print_json(answer)
    else:
        print_note(f"{count(answer['forgotten'], 'record')} forgotten")
