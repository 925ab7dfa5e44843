"""sync and echo-sync: the Echo Sync Protocol on the command line, one set of options for both names.

    pull push batch   sync with the chosen peers, and report; the exit code says whether that is verified
    status history    tell how it stands with them, and which syncs were asked for

`echonode sync` without an action syncs both ways; `echo-sync` pulls, as the command that it is named after.
"""

from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from echonode.cli.arguments import json_option, to_seconds
from echonode.cli.exit_codes import ExitCode, Failure, exit_code_of
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import count, print_json, print_line, print_note, safe
from echonode.cli.progress import sync_progress
from echonode.cli.sync_report import (
    figures,
    history_lines,
    metrics_lines,
    promised_fields,
    report_lines,
    status_lines,
    verbose_lines,
)
from echonode.errors import EchonodeError
from echonode.limits import SYNC_ATTEMPTS_MAX, SYNC_BATCH_MAX, SYNC_PRIORITY_MAX

if TYPE_CHECKING:
    from echonode.cli.client import ApiClient
    from echonode.cli.export_file import ExportFile

_Function = TypeVar("_Function", bound=Callable[..., Any])

_STRATEGIES: Final = ("merge", "prefer_local", "prefer_remote")
_ACTIONS: Final = ("pull", "push", "batch", "status", "history")
_NODES: Final = "/api/v1/echo-sync/nodes"
_WITH_PATH: Final = frozenset({"is_monitored", "as_json"})
_MARGIN_S: Final = 10.0  # the node answers by itself when its own time is up
_EXITS: Final = {
    "verified": ExitCode.DONE,
    "partial": ExitCode.PARTIAL,
    "timed out": ExitCode.TIMED_OUT,
}
_EXPORTED: Final = {"verified": "success", "partial": "partial", "timed out": "timed out", "no peers": "no peers"}
_NOBODY: Final = "no other node of this network can be reached now; echonode peers says who was seen"


def _options(default_action: str) -> Callable[[_Function], _Function]:
    """Add the options of a sync to a command. Without --action it does `default_action`."""
    said = "both ways" if default_action == "both" else default_action
    options = (
        click.option("--node-id", metavar="PEER", help="Only this peer: its name, id, or the beginning of its id."),
        click.option(
            "--action",
            type=click.Choice(_ACTIONS),
            help=f"pull: theirs to us; push: ours to them; batch: both ways, --batch-size peers at a time.  [{said}]",
        ),
        click.option("--force", is_flag=True, help="Resolve conflicts by --strategy; try again without back-off."),
        click.option(
            "--strategy",
            type=click.Choice(_STRATEGIES),
            help="With --force: join fields, or keep this side's or the other side's version.  [merge]",
        ),
        click.option("--filter", "pattern", metavar="GLOB", help="Only peers whose name or id fits, as in 'kitchen*'."),
        click.option(
            "--batch-size", type=click.IntRange(1, SYNC_BATCH_MAX), default=100, show_default=True, metavar="N"
        ),
        click.option(
            "--priority",
            type=click.IntRange(0, SYNC_PRIORITY_MAX),
            default=0,
            metavar="0-10",
            help="The highest is first where syncs wait for each other.  [0]",
        ),
        click.option(
            "--retry",
            type=click.IntRange(1, SYNC_ATTEMPTS_MAX),
            default=3,
            metavar="N",
            help="Attempts with a peer, with back-off between them.  [3]",
        ),
        click.option(
            "--timeout", "timeout_s", type=to_seconds, metavar="SPAN", default="30s", help="For all of it.  [30s]"
        ),
        click.option("--monitor", "is_monitored", is_flag=True, help="Show what goes on, live, until Ctrl-C."),
        click.option("--exit-when-synced", is_flag=True, help="With --monitor: end when all of them are equal."),
        click.option("--metrics", "with_metrics", is_flag=True, help="Add the figures of the run."),
        click.option("--verbose", "is_verbose", is_flag=True, help="Add each conversation, and how it then stands."),
        click.option(
            "--export", type=click.Path(), metavar="FILE", help="Write the result to FILE as JSON, failures too."
        ),
        json_option,
    )

    def add(function: _Function) -> _Function:
        for option in reversed(options):
            function = option(function)
        return function

    return add


@examples(
    "sync",
    "sync --node-id kitchen --action push --force --strategy merge",
    "sync --monitor --exit-when-synced",
    "sync --path stick",
)
@click.command("sync")
@click.option(
    "--path",
    type=click.Path(exists=True, file_okay=False),
    metavar="DIR",
    help="With the nodes whose files are in DIR, a USB stick perhaps, instead.",
)
@_options("both")
@pass_lookup
def sync(lookup: NodeLookup, /, action: str | None, path: str | None, **options: Any) -> ExitCode:
    """Sync once, now, with every peer that can be reached. Exits 0 only when verified equal.

    With pull, verified means that nothing of theirs is missing here; with push, that nothing of ours is missing there.
    Records that nodes edited without knowing of each other's edit are conflicts: they are kept and listed, and the exit
    code is 3, unless --force resolves them. Ctrl-C ends the waiting; the node goes on.

    With --path, take in the files that other nodes of this network wrote into DIR, then write this node's own there.
    DIR is a USB stick that goes there and back between nodes that never meet, or a folder that both see. A file
    of which all is here is not read again. Exits 3 when a file is damaged, or part of it was refused. It goes with
    --action pull (only take in) or push (only write), --monitor (watch DIR) and --json.
    """
    if path is not None:
        return _sync_folder(lookup, path, action or "both", options)
    return _run(lookup, action or "both", options)


@click.command("echo-sync", short_help="Pull from every reachable peer, now.")
@_options("pull")
@pass_lookup
def echo_sync(lookup: NodeLookup, /, action: str | None, **options: Any) -> ExitCode:
    """Pull from every peer that can be reached, or what --action says. Exits 0 only when that is verified.

    With pull, verified means that nothing of theirs is missing here; with push, that nothing of ours is missing there.
    Records that nodes edited without knowing of each other's edit are conflicts: they are kept and listed, and the exit
    code is 3, unless --force resolves them. ECHO_API_URL and ECHO_TOKEN choose the node; without them this machine's
    own is found.
    """
    return _run(lookup, action or "pull", options)


echo_sync.epilog = (
    "\b\nExamples:\n  echo-sync\n  echo-sync --node-id kitchen --action push --force\n\n"
    "Exit codes: 0 verified, 1 failed, 2 usage, 3 partial or conflicts left, 4 timed out, 5 the node is not running, "
    "6 not authorised."
)


def _sync_folder(lookup: NodeLookup, path: str, action: str, options: dict[str, Any]) -> ExitCode:
    from click.core import ParameterSource

    from echonode.cli.folder_sync import FolderSync

    context = click.get_current_context()
    given = {name for name in options if context.get_parameter_source(name) is not ParameterSource.DEFAULT}
    if not given <= _WITH_PATH or action not in ("both", "pull", "push"):
        raise click.UsageError("--path goes with --action pull or push, --monitor and --json, and no other option.")
    if options["is_monitored"] and options["as_json"]:
        raise click.UsageError("--monitor is for people: leave out --json.")
    exchange = FolderSync(lookup.client(), path, takes=action != "push", offers=action != "pull")
    try:
        if not options["is_monitored"]:
            return exchange.run(as_json=options["as_json"])
        with suppress(KeyboardInterrupt):  # the usual end of a view
            exchange.watch()
    except KeyboardInterrupt:
        print_note("interrupted; what was verified is kept, and the same command goes on from there")
        raise
    return ExitCode.DONE


def _run(lookup: NodeLookup, action: str, options: dict[str, Any]) -> ExitCode:
    """Do what was asked, and export the result whichever way it ends."""
    if options["exit_when_synced"] and not options["is_monitored"]:
        raise click.UsageError("--exit-when-synced says when --monitor ends: give both.")
    if options["strategy"] and not options["force"]:
        print_note("--strategy counts with --force; without it conflicts are kept")
    if options["export"] is None:
        return _Run(lookup, action, options).do()
    from echonode.cli.export_file import ExportFile

    return _exported(_Run(lookup, action, options), ExportFile(options["export"]))


def _exported(run: "_Run", file: "ExportFile") -> ExitCode:
    try:
        code = run.do()
    except BaseException as error:
        code = exit_code_of(error)
        sentence = str(error) if isinstance(error, EchonodeError | OSError) else type(error).__name__
        file.write(run.exported(code, error=sentence))
        raise
    file.write(run.exported(code))
    return code


class _Run:
    """One run of the command. `answer` is the node's, as far as it came."""

    def __init__(self, lookup: NodeLookup, action: str, options: dict[str, Any]) -> None:
        self._lookup = lookup
        self._action = action
        self._options = options
        self._answer: dict[str, Any] = {}

    def do(self) -> ExitCode:
        """Do what was asked, and print it. Raises Failure unless that is verified."""
        client = self._lookup.client()
        if self._action in ("status", "history"):
            return self._tell(client)
        if self._options["is_monitored"]:
            return self._watched(client)
        try:
            with sync_progress(client):
                self._sync(client)
        except KeyboardInterrupt:
            print_note("interrupted; what came is kept, and the node goes on by itself")
            raise
        return self._report(client)

    def exported(self, code: ExitCode, error: str = "") -> dict[str, Any]:
        """Return what --export writes."""
        from datetime import UTC, datetime

        status = str(self._answer.get("status", ""))
        status = _EXPORTED.get(status, "error") if status else "success" if code is ExitCode.DONE else "error"
        if status == "success" and code is ExitCode.PARTIAL:
            status = "conflict"
        if code is ExitCode.INTERRUPTED:
            status = "interrupted"
        elif code is ExitCode.TIMED_OUT:
            status = "timed out"
        return {
            "status": status,
            "action": "sync" if self._action == "both" else self._action,
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "exit_code": int(code),
            "error": error,
            "result": self._answer,
        }

    # -- syncs -------------------------------------------------------------------------------------------------------

    def _sync(self, client: "ApiClient") -> None:
        options = self._options
        request = {
            "peers": [options["node_id"]] if options["node_id"] else None,
            "action": self._action,
            "timeout": options["timeout_s"],
            "filter": options["pattern"],
            "force": options["force"],
            "strategy": options["strategy"] or "merge",
            "priority": options["priority"],
            "retry": options["retry"],
            "batch_size": options["batch_size"],
        }
        answer = client.call("POST", "/v1/sync", body=request, timeout_s=options["timeout_s"] + _MARGIN_S)
        if options["with_metrics"]:
            answer["metrics"] = figures(answer)
        self._answer = answer

    def _watched(self, client: "ApiClient") -> ExitCode:
        """Sync in a thread, and show meanwhile and afterwards what goes on, until Ctrl-C or until all are equal."""
        from echonode.cli.sync_monitor import Monitor

        errors: list[EchonodeError] = []

        def work() -> None:
            try:
                self._sync(client)
            except EchonodeError as error:
                errors.append(error)

        syncing = Thread(target=work, daemon=True)
        syncing.start()
        monitor = Monitor(client, self._is_chosen)
        try:
            monitor.run(
                lambda is_equal: (
                    not syncing.is_alive() and (bool(errors) or (self._options["exit_when_synced"] and is_equal))
                ),
                as_json=self._options["as_json"],
            )
        except KeyboardInterrupt:
            if syncing.is_alive():
                raise
        if errors:
            raise errors[0]
        if self._options["exit_when_synced"] and monitor.is_equal:
            return self._after_view(client)
        return self._report(client)

    def _after_view(self, client: "ApiClient") -> ExitCode:
        """Report a sync after which all became equal: what failed at first does not count any more."""
        if self._answer["status"] != "verified" and not self._answer.get("conflicts"):
            print_note("the sync itself did not end verified; the nodes became equal since")
            return ExitCode.DONE
        return self._report(client)

    def _is_chosen(self, peer: dict[str, Any]) -> bool:
        from fnmatch import fnmatchcase

        names = [str(each) for each in (peer["id"], peer["name"], peer.get("label")) if each]
        node, pattern = self._options["node_id"], self._options["pattern"]
        if node and not any(name == node.removeprefix("@") for name in names):
            return bool(peer["id"]) and str(peer["id"]).startswith(node.removeprefix("@"))
        return pattern is None or any(fnmatchcase(name, pattern) for name in names)

    def _report(self, client: "ApiClient") -> ExitCode:
        answer, options = self._answer, self._options
        if options["as_json"]:
            print_json(promised_fields(answer))
        else:
            for line in report_lines(answer):
                print_line(line)
            for line in verbose_lines(answer) if options["is_verbose"] else ():
                print_line(line)
            for line in metrics_lines(answer["metrics"]) if options["with_metrics"] else ():
                print_line(line)
            if options["is_verbose"]:
                print_line("")
                for line in status_lines(self._statuses(client)):
                    print_line(line)
        result = answer["status"]
        if result == "no peers":
            raise Failure("no known node fits --filter" if options["pattern"] else _NOBODY)
        if result != "verified":
            raise Failure(f"not in sync: {safe(result)}", _EXITS.get(result, ExitCode.FAILED))
        if answer.get("resolved"):
            print_note(f"{count(len(answer['resolved']), 'conflict')} resolved by {options['strategy'] or 'merge'}")
        if answer.get("conflicts"):
            raise Failure(
                f"{count(answer['conflicts'], 'record')} in conflict; to see them, type: echonode conflicts; "
                "--force resolves them",
                ExitCode.PARTIAL,
            )
        if not options["as_json"]:
            print_note(f"{_achieved(self._action)} {count(len(answer['peers']), 'node')}, and verified")
        return ExitCode.DONE

    # -- status and history ------------------------------------------------------------------------------------------

    def _tell(self, client: "ApiClient") -> ExitCode:
        if self._action == "status" and self._options["is_monitored"]:
            from echonode.cli.sync_monitor import Monitor

            ends = self._options["exit_when_synced"]
            with suppress(KeyboardInterrupt):  # the usual end of a view
                Monitor(client, self._is_chosen).run(
                    lambda is_equal: ends and is_equal, as_json=self._options["as_json"]
                )
            return ExitCode.DONE
        if self._action == "status":
            nodes = self._statuses(client)
            self._answer = {"nodes": nodes}
            lines = status_lines(nodes)
        else:
            entries = [
                {**entry, "node_id": node["id"], "name": node["name"]}
                for node in self._nodes(client)
                for entry in client.call("GET", f"{_NODES}/{node['id']}/history")
            ]
            entries.sort(key=lambda entry: (str(entry["timestamp"]), str(entry["name"])), reverse=True)
            self._answer = {"history": entries}
            lines = history_lines(entries)
        if self._options["as_json"]:
            print_json(self._answer)
        else:
            for line in lines:
                print_line(line)
        return ExitCode.DONE

    def _statuses(self, client: "ApiClient") -> list[dict[str, Any]]:
        return [client.call("GET", f"{_NODES}/{node['id']}/status") for node in self._nodes(client)]

    def _nodes(self, client: "ApiClient") -> list[dict[str, Any]]:
        """Return the chosen nodes. Raises Failure when there are none."""
        from urllib.parse import quote

        if self._options["node_id"]:
            node = client.call("GET", f"{_NODES}/{quote(self._options['node_id'], safe='')}/status")
            return [{"id": node["node_id"], "name": node["name"], "status": node["status"]}]
        nodes: list[dict[str, Any]] = client.call("GET", _NODES, query=[("pattern", self._options["pattern"])])
        if not nodes:
            raise Failure("no known node fits --filter" if self._options["pattern"] else _NOBODY)
        return nodes


def _achieved(action: str) -> str:
    return {"pull": "pulled from", "push": "pushed to"}.get(action, "in sync with")
