"""import and export: many records at once, one JSON object a line.

{"name": .., "body": .. | "body_base64": .., "tags": [..], "model": .., "type": .., "timestamp": ..}
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol
from unicodedata import normalize

import click

from echonode.cli.arguments import context_option, stdin_bytes
from echonode.cli.exit_codes import Failure
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import ascii_json, count, print_note, safe
from echonode.limits import KIB

if TYPE_CHECKING:
    from echonode.client.connection import Answer

_READ_BYTES: Final = 64 * KIB
_BATCH_TIMEOUT_S: Final = 300.0  # for one batch of lines to be signed and stored, on a slow disk


class _Bar(Protocol):
    """The progress of an import."""

    def add_bytes(self, size: int) -> None: ...

    def set_text(self, text: str) -> None: ...


class _NoBar:
    """Draws nothing, for output that no person watches."""

    def add_bytes(self, size: int) -> None:
        pass

    def set_text(self, text: str) -> None:
        pass


@examples("import books.jsonl -c books", "import - -c books < books.jsonl")
@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True), metavar="FILE.jsonl")
@context_option
@pass_lookup
def import_records(lookup: NodeLookup, file: str, context: str) -> None:
    """Write a record for each line of a file (- is stdin): JSON with name, body, tags, model, type, timestamp.

    Records that are there already, unchanged, are not written again.
    """
    from echonode.client.request import record_path

    client = lookup.client()
    known = {"main"} if context == "main" else {each["name"] for each in client.call("GET", "/v1/contexts")["contexts"]}
    with ExitStack() as stack:
        source = stdin_bytes() if file == "-" else stack.enter_context(open(file, "rb"))
        bar = stack.enter_context(_bar(None if file == "-" else os.path.getsize(file)))
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


def _parts(source: IO[bytes], bar: _Bar) -> Iterator[bytes]:
    read = getattr(source, "read1", source.read)  # read1 returns what a pipe has, and does not wait for more
    while part := read(_READ_BYTES):
        yield part
        bar.add_bytes(len(part))


def _last_progress(response: "Answer", bar: _Bar) -> dict[str, Any]:
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


@contextmanager
def _bar(total: int | None) -> Iterator[_Bar]:
    """Yield a progress bar on stderr when that is a terminal, else one that draws nothing."""
    if not sys.stderr.isatty():
        yield _NoBar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=total)

        class Drawn:
            def add_bytes(self, size: int) -> None:
                progress.advance(task, size)

            def set_text(self, text: str) -> None:
                progress.update(task, description=text)

        yield Drawn()


@examples("export backup.jsonl", "export -c books --author kitchen")
@click.command("export")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True), required=False)
@click.option("--author", metavar="A", help="Of this author instead of ours.")
@context_option
@pass_lookup
def export_records(lookup: NodeLookup, file: str | None, author: str | None, context: str) -> None:
    """Write this node's own records to FILE or stdout, in the form that import reads."""
    from echonode.client.request import record_path

    with (
        lookup.reader() as reader,
        reader.client.open("GET", record_path(context, "/export"), query=[("author", author)]) as response,
    ):
        number = _to_stdout(response) if file in (None, "-") else _to_file(response, Path(str(file)))
    print_note(f"{count(number, 'record')} exported" + (f" to {safe(file)}" if file else ""))


def _to_stdout(response: "Answer") -> int:
    sys.stdout.flush()
    # A terminal would obey some characters that JSON may hold; a file keeps them.
    return _copy(response, sys.stdout.buffer, ascii_json if sys.stdout.isatty() else None)


def _to_file(response: "Answer", path: Path) -> int:
    """Write the lines to `path` and return their number. The file appears when it is complete, not before."""
    path = path.resolve()  # a link is followed, not replaced
    if path.exists() and not path.is_file():  # a pipe or a device is written to, not replaced
        with path.open("wb") as special:
            return _copy(response, special)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("xb") as target:
            number = _copy(response, target)
            os.fsync(target.fileno())
        unfinished.replace(path)
    except BaseException as error:
        with suppress(OSError):
            unfinished.unlink()
        if isinstance(error, OSError) and error.filename == str(unfinished):
            why = (error.strerror or str(error)).lower()
            raise Failure(f"{safe(str(path))} cannot be written: {why}") from None
        raise
    return number


def _copy(response: "Answer", target: IO[bytes], change: Callable[[bytes], bytes] | None = None) -> int:
    """Write every line, flush, and return their number."""
    number = 0
    for line, _ in response.lines():
        target.write((change(line) if change else line) + b"\n")
        number += 1
    target.flush()
    return number
