"""import and export: many records at once.

a JSON object a line    {"name": .., "body": .. | "body_base64": .., "tags": [..], "model": .., "type": ..}
                        each line is written as a record of this node
--signed                a record file (PROTOCOL.md §14): versions as their authors signed them, verified as a peer's
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import BufferedReader
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final
from unicodedata import normalize

import click

from echonode.cli.arguments import stdin_bytes
from echonode.cli.exit_codes import ExitCode, Failure
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import ascii_json, count, print_line, print_note, safe, size
from echonode.cli.progress import Bar, bytes_bar
from echonode.cli.whole_file import whole_file
from echonode.limits import KIB

if TYPE_CHECKING:
    from echonode.cli.client import ApiClient
    from echonode.client.connection import Answer

_READ_BYTES: Final = 64 * KIB
_SIGNED: Final = b"echonode records"  # a record file has it within its first bytes
_SIGNED_WITHIN: Final = 20
_BATCH_TIMEOUT_S: Final = 300.0  # for one batch of lines to be signed and stored, on a slow disk


_signed_context_option = click.option(
    "-c", "--context", metavar="TEXT", help="The set of records meant.  [main; with --signed: all]"
)


@examples("import books.jsonl -c books", "import --signed stick/kitchen.echo")
@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True), metavar="FILE")
@click.option("--signed", "is_signed", is_flag=True, help="FILE is what `export --signed` wrote.")
@_signed_context_option
@pass_lookup
def import_records(lookup: NodeLookup, file: str, is_signed: bool, context: str | None) -> None:
    """Write a record for each line of a file (- is stdin): JSON with name, body, tags, model, type, timestamp.

    Records that are there already, unchanged, are not written again.

    With --signed, take in the versions that `export --signed` wrote on another node. Each is verified like one that a
    peer sends, and its author stays its author. What is here already is passed over: an import that was interrupted is
    simply repeated. Exits 3 when FILE is cut or damaged (what was verified before that is kept), or when versions were
    refused; 1 when it is a file of another network.
    """
    if is_signed:
        _import_signed(lookup.client(), file, context)
    else:
        _import_lines(lookup.client(), file, context or "main")


def _import_signed(client: "ApiClient", file: str, context: str | None) -> None:
    from echonode.cli.record_file import context_lines, fault_of, summary, upload, writer_of

    with ExitStack() as stack:
        source = stdin_bytes() if file == "-" else stack.enter_context(open(file, "rb"))
        bar = stack.enter_context(bytes_bar(None if file == "-" else os.path.getsize(file)))
        try:
            answer, _ = upload(client, source, bar, [] if context is None else [context])
        except KeyboardInterrupt:
            print_note("interrupted; what was verified is kept, and the same command goes on from there")
            raise
    for line in context_lines(answer, context):
        print_line(line)
    fault = fault_of(answer)
    if fault is not None:
        raise fault
    names = [each["name"] for each in answer["contexts"]]
    if context not in (None, *names):
        raise Failure(f"there is no context {safe(context)} in that file; there are: {', '.join(map(safe, names))}")
    print_note(f"a file of {writer_of(answer)}: {summary(answer)}")


def _import_lines(client: "ApiClient", file: str, context: str) -> None:
    from echonode.client.request import record_path

    known = {"main"} if context == "main" else {each["name"] for each in client.call("GET", "/v1/contexts")["contexts"]}
    with ExitStack() as stack:
        source = stdin_bytes() if file == "-" else stack.enter_context(open(file, "rb"))
        _refuse_signed(source, file)
        bar = stack.enter_context(bytes_bar(None if file == "-" else os.path.getsize(file)))
        response = stack.enter_context(
            client.open(
                "POST",
                record_path(context, "/import"),
                headers={"Content-Type": "application/x-ndjson"},
                body=_parts(source, bar),
                timeout_s=_BATCH_TIMEOUT_S,
            )
        )
        last = _last_progress(response, bar)
    _report_import(last)
    if normalize("NFC", context) not in known and last["written"]:
        print_note(f"the context {safe(context)} is new here")


def _refuse_signed(source: IO[bytes], file: str) -> None:
    """Raise Failure for a file of signed versions, which has no lines."""
    if isinstance(source, BufferedReader) and _SIGNED in source.peek(_SIGNED_WITHIN)[:_SIGNED_WITHIN]:
        raise Failure(f"{safe(file)} holds signed versions: add --signed", ExitCode.USAGE)


def _parts(source: IO[bytes], bar: Bar) -> Iterator[bytes]:
    read = getattr(source, "read1", source.read)  # read1 returns what a pipe has, and does not wait for more
    while part := read(_READ_BYTES):
        yield part
        bar.add_bytes(len(part))


def _last_progress(response: "Answer", bar: Bar) -> dict[str, Any]:
    """Read all progress and return its last line."""
    last: dict[str, Any] = {}
    for last in response.values():
        bar.set_text(f"{last.get('lines', 0):,} lines")
        if last.get("done") or "error" in last:
            break
    return last


def _report_import(last: dict[str, Any]) -> None:
    """Print the number of records written. Raises Failure when the import did not end well."""
    written, unchanged = last.get("written", 0), last.get("unchanged", 0)
    summary = f"{count(written, 'record')} written, {unchanged:,} unchanged"
    if "error" in last:
        error = last["error"]
        if "line" not in error:
            raise Failure(f"{error['message']} ({summary})")
        raise Failure(f"line {error['line']}: {error['message']} ({summary}; nothing of that line's batch was written)")
    if not last.get("done"):
        raise Failure(f"the node ended before all was imported ({summary} for certain)")
    print_note(f"{count(last.get('lines', 0), 'line')}: {summary}")


@examples("export backup.jsonl", "export --signed stick/kitchen.echo")
@click.command("export")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True), required=False)
@click.option("--author", metavar="A", help="Of this author instead of ours.")
@click.option("--signed", "is_signed", is_flag=True, help="All versions of all authors, as they signed them.")
@_signed_context_option
@pass_lookup
def export_records(
    lookup: NodeLookup, file: str | None, author: str | None, is_signed: bool, context: str | None
) -> None:
    """Write this node's own records to FILE or stdout, in the form that import reads.

    With --signed, write whole contexts: every current version of every author, with the key statements that prove
    them. Another node of this network takes that in with `import --signed`, as if it had met this one. FILE is not
    encrypted: who finds it can read the records, and change nothing in them.
    """
    if is_signed and author is not None:
        raise click.UsageError("--signed writes the versions of every author: leave out --author.")
    with lookup.reader() as reader:
        if is_signed:
            _export_signed(reader.client, file, context)
        else:
            _export_lines(reader.client, file, author, context or "main")


def _export_lines(client: "ApiClient", file: str | None, author: str | None, context: str) -> None:
    from echonode.client.request import record_path

    with client.open("GET", record_path(context, "/export"), query=[("author", author)]) as response:
        if file in (None, "-"):
            sys.stdout.flush()
            # A terminal would obey some characters that JSON may hold; a file keeps them.
            number = _copy(response, sys.stdout.buffer, ascii_json if sys.stdout.isatty() else None)
        else:
            with whole_file(Path(str(file))) as target:
                number = _copy(response, target)
    print_note(f"{count(number, 'record')} exported" + (f" to {safe(file)}" if file else ""))


def _export_signed(client: "ApiClient", file: str | None, context: str | None) -> None:
    from echonode.cli.record_file import download

    contexts = [] if context is None else [context]
    if file in (None, "-"):
        if sys.stdout.isatty():
            raise click.UsageError("Signed versions are no text for a terminal; give a FILE.")
        sys.stdout.flush()
        done = download(client, sys.stdout.buffer, contexts)
    else:
        with whole_file(Path(str(file))) as target:
            done = download(client, target, contexts)
    to = f" to {safe(file)}" if file else ""
    print_note(f"{count(done.versions, 'version')} of {count(len(done.roots), 'context')}, {size(done.size)}{to}")


def _copy(response: "Answer", target: IO[bytes], change: Callable[[bytes], bytes] | None = None) -> int:
    """Write every line, flush, and return their number."""
    number = 0
    for line, _ in response.lines():
        target.write((change(line) if change else line) + b"\n")
        number += 1
    target.flush()
    return number
