"""watch: changes as they come in, or from a cursor on; each may be handed to a program."""

import fcntl
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from echonode.cli.arguments import json_option
from echonode.cli.commands.peer_records import filter_option
from echonode.cli.exit_codes import ExitCode, Failure
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import print_json, print_line, print_note, safe, short_id, shown_address

if TYPE_CHECKING:
    from echonode.client.synchronous import Client
    from echonode.client.values import Change

_RETRY_S: Final = 1.0, 60.0
_NAME: Final = re.compile(r"[\w.-]{1,64}", re.ASCII)
_START: Final = "start"
_NOW: Final = "now"
_APPLIED: Final = "records.applied"


@examples("watch", "watch --name backup --exec 'cat >> log.txt'")
@click.command("watch")
@click.option("-c", "--context", help="Only in this set of records; main when one of the options below is given.")
@click.option("--since", metavar="CURSOR", help="Begin behind this cursor; `now`, or `start` for all that is held.")
@click.option("--name", metavar="N", help="Keep the cursor under this name, and go on from there the next time.")
@click.option("--exec", "command", metavar="CMD", help="Run CMD in a shell for each change, one at a time.")
@click.option("--tries", type=click.IntRange(min=1), metavar="N", help="Pass over a change when CMD failed N times.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="End after this many changes.")
@filter_option
@json_option
@pass_lookup
def watch(
    lookup: NodeLookup,
    context: str | None,
    since: str | None,
    name: str | None,
    command: str | None,
    tries: int | None,
    limit: int | None,
    terms: tuple[str, ...],
    as_json: bool,
) -> ExitCode:
    """Show changes, one a line, until Ctrl-C.

    With --since, --name, --exec, --filter or --limit they come from the change log of one context: nothing is missed
    while the node restarts, and with --name while this command does.

    CMD gets the body on stdin (with --json the whole record), and in its environment ECHO_RECORD (the address),
    ECHO_CONTEXT, ECHO_VERSION, ECHO_DELETED (1 or 0), ECHO_TYPE, ECHO_TAGS and ECHO_CURSOR. When it fails it is run
    again, after 1 s, 2 s, and so on up to a minute.
    """
    if tries is not None and command is None:
        raise click.UsageError("--tries is for --exec.")
    if not (since or name or command or terms or limit):
        return _watch_events(lookup, context, as_json)
    follower = _Follower(lookup, context or "main", terms)
    handle: _Shown | _Program = _Shown(as_json) if command is None else _Program(command, tries, as_json)
    with ExitStack() as stack:
        bookmark = None if name is None else stack.enter_context(_bookmark(lookup.home().root, name))
        for number, change in enumerate(follower.changes(since, bookmark), 1):
            handle(change)
            if bookmark is not None:
                bookmark.save(change.cursor)
            if number == limit:
                return ExitCode.DONE
    raise Failure("the node ended the connection", ExitCode.NOT_RUNNING)


class _Follower:
    """Reads the change log of one context."""

    def __init__(self, lookup: NodeLookup, context: str, terms: tuple[str, ...]) -> None:
        self._lookup = lookup
        self._context = context
        self._terms = terms

    def changes(self, since: str | None, bookmark: "_Bookmark | None") -> "Iterator[Change]":
        client = self._lookup.follower()
        yield from client.changes(self._context, since=self._start(client, since, bookmark), terms=self._terms)

    def _start(self, client: "Client", since: str | None, bookmark: "_Bookmark | None") -> str | None:
        """Return where to begin. A name that is used for the first time is saved at once: what comes from now on is its
        work, even if this command ends before any change."""
        if bookmark is not None and bookmark.cursor is not None:
            if since is not None:
                raise click.UsageError(f"{bookmark.path} has a cursor already; to begin anew, delete it.")
            return bookmark.cursor
        if since == _START:
            return None
        start = client.cursor(self._context) if since in (None, _NOW) else since
        if bookmark is not None and start is not None:
            bookmark.save(start)
        return start


class _Shown:
    """Writes each change as a line."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    def __call__(self, change: "Change") -> None:
        _say_gap(change)
        record = change.record
        if self._as_json:
            print_json(_json_form(change))
        else:
            done = "deleted" if record.deleted else "written"
            written = record.written.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            print_line(f"{written}  {safe(record.context)}  {safe(record.address)}  {done}")
        sys.stdout.flush()


class _Program:
    """Runs a command for each change, again and again until it succeeds or `tries` are over."""

    def __init__(self, command: str, tries: int | None, as_json: bool) -> None:
        self._command = command
        self._tries = tries
        self._as_json = as_json

    def __call__(self, change: "Change") -> None:
        _say_gap(change)
        failed, wait_s = 0, _RETRY_S[0]
        while (code := self._run(change)) != 0:
            failed += 1
            about = f"{safe(change.record.address)}: the program ended with {code}"
            if self._tries is not None and failed >= self._tries:
                print_note(f"{about}; passed over after {failed} tries")
                return
            print_note(f"{about}; again in {wait_s:g} s")
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, _RETRY_S[1])

    def _run(self, change: "Change") -> int:
        import json

        record = change.record
        environ = {
            "ECHO_RECORD": record.address,
            "ECHO_CONTEXT": record.context,
            "ECHO_VERSION": record.version,
            "ECHO_DELETED": "1" if record.deleted else "0",
            "ECHO_TYPE": record.type,
            "ECHO_TAGS": " ".join(record.tags),
            "ECHO_CURSOR": change.cursor,
        }
        given = json.dumps(_json_form(change)).encode() + b"\n" if self._as_json else record.body
        shell = ["/bin/sh", "-c", self._command]
        return subprocess.run(shell, input=given, env=os.environ | environ, check=False).returncode


def _json_form(change: "Change") -> dict[str, Any]:
    """Return a change as JSON: the record's fields, its body as text where it is text, and the cursor."""
    from base64 import b64encode

    fields = asdict(change.record)
    body = fields.pop("body")
    fields["timestamp"] = fields.pop("written")
    for key in ("timestamp", "created"):
        fields[key] = fields[key].isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if not change.record.deleted:
        try:
            fields["body"] = body.decode()
        except UnicodeDecodeError:
            fields["body_base64"] = b64encode(body).decode("ascii")
    return {**fields, "cursor": change.cursor, "gap": change.gap or None}


def _say_gap(change: "Change") -> None:
    if change.gap:
        print_note(change.gap)


# -- the cursor of a name ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Bookmark:
    """A file that holds the cursor of a named watch."""

    path: Path
    cursor: str | None

    def save(self, cursor: str) -> None:
        """Keep `cursor`. Whenever the power goes, the old or the new one is there."""
        fresh = self.path.with_suffix(".new")
        with fresh.open("w", encoding="ascii") as file:
            file.write(cursor + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)


@contextmanager
def _bookmark(root: Path, name: str) -> Iterator[_Bookmark]:
    """Yield the bookmark of that name, in the home's folder `watch`. Raises Failure while another watch has it."""
    if not _NAME.fullmatch(name) or name.startswith("."):
        raise click.UsageError("A name is up to 64 letters, digits, dots, dashes and underscores.")
    folder = root / "watch"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{name}.cursor"
    with (folder / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(f"another watch runs under the name {name}: end it, or take another name") from None
        yield _Bookmark(path, path.read_text("ascii").strip() or None if path.exists() else None)


# -- all contexts ------------------------------------------------------------------------------------------------------


def _watch_events(lookup: NodeLookup, context: str | None, as_json: bool) -> ExitCode:
    """Show what happens from now on in every context."""
    query = [("types", _APPLIED)]
    with lookup.client().open("GET", "/v1/events", query=query, timeout_s=None) as response:
        for name, event in response.events():
            if name == "end":
                raise Failure("the node stopped", ExitCode.NOT_RUNNING)
            if name == "gap":
                lost = event.get("lost") or "some"
                print_note(f"{lost} events were missed: changes came faster than they were read here")
            elif name == _APPLIED and context in (None, event["context"]):
                for record in event["records"]:
                    if as_json:
                        print_json({**record, "source": event["source"]})
                    else:
                        print_line(_change_line(record, event["source"]))
                sys.stdout.flush()
    raise Failure("the node ended the connection", ExitCode.NOT_RUNNING)


def _change_line(record: dict[str, Any], source: str) -> str:
    change = "deleted" if record["deleted"] else "written"
    origin = f"from {short_id(source)}" if source else "here"
    return f"{safe(record['timestamp'])}  {safe(record['context'])}  {shown_address(record)}  {change} {origin}"
