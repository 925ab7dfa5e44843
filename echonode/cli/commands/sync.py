"""sync, watch, verify: agree now, see changes come in, and check everything that is held."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

from echonode.cli.arguments import json_option, to_seconds
from echonode.cli.exit_codes import ExitCode, Failure, NotRunning
from echonode.cli.node_lookup import Here, pass_here
from echonode.cli.progress import progress_of
from echonode.cli.tables import count, note, only, out, out_json, safe, seconds, short, size, table

_SYNC_FIELDS: Final = ("status", "peers")
_SYNC_PEER_FIELDS: Final = (
    *("id", "mode", "reason", "sent", "received", "bytes_sent", "bytes_received", "round_trips", "duration_s"),
    *("verified", "error"),
)
_VERIFY_FIELDS: Final = ("ok", "checked", "problems")
_SYNC_EXITS: Final = {
    "verified": ExitCode.DONE,
    "partial": ExitCode.PARTIAL,
    "timed out": ExitCode.TIMED_OUT,
}
_SYNC_MARGIN_S: Final = 10.0  # for the node to say that its own time is up
_VERIFY_TIMEOUT_S: Final = 600.0  # between two lines of progress
_HOW_TO_REPAIR: Final = "stop the node and type: echonode verify --repair"


@click.command("sync")
@click.option("--node-id", metavar="ID", help="Only with this peer: its id, a prefix of it, or its name.")
@click.option("--action", type=click.Choice(["pull", "push"]), help="One way only: theirs to us, or ours to them.")
@click.option("--timeout", "timeout_s", type=to_seconds, metavar="SPAN", default="30s", help="For all of it.  [30s]")
@json_option
@pass_here
def sync(here: Here, node_id: str | None, action: str | None, timeout_s: float, as_json: bool) -> ExitCode:
    """One sync now, with every peer that can be reached. Exits 0 only when verified equal.

    On a terminal a bar shows what moves. Ctrl-C ends the waiting, not what the node does.
    """
    asked = {"peers": [node_id] if node_id else None, "action": action or "both", "timeout": timeout_s}
    client = here.client()
    try:
        with progress_of(client):
            answer = client.call("POST", "/v1/sync", body=asked, timeout_s=timeout_s + _SYNC_MARGIN_S)
    except KeyboardInterrupt:
        note("interrupted; what came is kept, and the node goes on by itself")
        raise
    if as_json:
        answer["peers"] = [only(_SYNC_PEER_FIELDS, peer) for peer in answer["peers"]]
        out_json(only(_SYNC_FIELDS, answer))
    else:
        for line in _sync_lines(answer["peers"]):
            out(line)
    result = answer["status"]
    if result == "verified":
        if not as_json:
            note(f"in sync with {count(len(answer['peers']), 'node')}, and verified")
        return ExitCode.DONE
    if result == "no peers":
        raise Failure("no other node of this network can be reached now; echonode peers says who was seen")
    raise Failure(f"not in sync: {safe(result)}", _SYNC_EXITS.get(result, ExitCode.FAILED))


def _sync_lines(peers: Iterable[dict[str, Any]]) -> Iterator[str]:
    rows = [
        (
            safe(peer.get("name")) or short(peer["id"]),
            "yes" if peer["verified"] else "no",
            safe(peer["mode"]) or "-",
            f"{peer['sent'] or 0:,}",
            f"{peer['received'] or 0:,}",
            size((peer["bytes_sent"] or 0) + (peer["bytes_received"] or 0)),
            f"{peer['round_trips'] or 0}",
            seconds(peer["duration_s"]),
            safe(peer["error"] or peer["reason"]),
        )
        for peer in peers
    ]
    if not rows:
        return iter(())
    header = ("PEER", "VERIFIED", "MODE", "SENT", "RECEIVED", "TRAFFIC", "ROUND TRIPS", "TIME", "WHY")
    return table(header, rows, right=(3, 4, 5, 6, 7))


@click.command("watch")
@click.option("-c", "--context", help="Only in this set of records.")
@json_option
@pass_here
def watch(here: Here, context: str | None, as_json: bool) -> ExitCode:
    """Changes as they are applied, one a line, until Ctrl-C."""
    query = [("types", "records.applied")]
    with here.client().open("GET", "/v1/events", query=query, timeout_s=None) as response:
        for name, event in response.events():
            if name == "end":
                raise _end_of_watch(event["reason"])
            if context is None or event["context"] == context:
                for record in event["records"]:
                    if as_json:
                        out_json({**record, "source": event["source"]})
                    else:
                        out(_change_line(record, event["source"]))
                sys.stdout.flush()
    raise Failure("the node ended the connection", ExitCode.NOT_RUNNING)


def _end_of_watch(reason: str) -> Failure:
    if reason == "stopping":
        return Failure("the node stopped", ExitCode.NOT_RUNNING)
    return Failure("changes came faster than they were read here, and some were missed; watch again")


def _change_line(record: dict[str, Any], source: str) -> str:
    what = "deleted" if record["deleted"] else "written"
    by = f"from {short(source)}" if source else "here"
    return f"{safe(record['timestamp'])}  {safe(record['context'])}  {short(record['id'])}  {what} {by}"


@click.command("verify")
@click.option("--repair", "is_repair", is_flag=True, help="Make the store of a stopped node anew of what is whole.")
@json_option
@pass_here
def verify(here: Here, is_repair: bool, as_json: bool) -> ExitCode:
    """Re-hash everything held: versions, signatures, heads, tree, log.

    With --repair what is damaged is left behind; once the node runs again, it gets that from its peers. A node that
    wants a part of a context gets that part: what else it held, it has to ask for (get --from). Context and id of every
    record whose latest version is left behind are listed, as far as its bytes still say which it was.
    """
    if is_repair:
        return _repair(here, as_json)
    last: dict[str, Any] = {}
    with (
        here.client().open("POST", "/v1/verify", timeout_s=_VERIFY_TIMEOUT_S) as response,
        _counter() as says,
    ):
        for last in response.values():
            says(f"{last.get('checked', 0):,} versions checked")
    if not last.get("done"):
        raise Failure("the node ended before all was checked")
    if as_json:
        out_json(only(_VERIFY_FIELDS, last))
    else:
        for problem in last["problems"]:
            out(safe(problem))
    checked = count(last["checked"], "version")
    if not last["ok"]:
        raise Failure(f"{checked} checked, {count(len(last['problems']), 'problem')} found; {_HOW_TO_REPAIR}")
    if not as_json:
        note(f"{checked} checked, all is well")
    return ExitCode.DONE


def _repair(here: Here, as_json: bool) -> ExitCode:
    try:
        here.client().call("GET", "/v1/status")
    except NotRunning:
        pass
    else:
        raise Failure("the node is running, and holds its store: stop it, repair, then start it again")
    with _counter() as says:
        says("keeping what is whole")
        done = here.services.repair(here.home())
    if as_json:
        lost = [{"context": context, "id": id} for context, id in done.lost]
        out_json({"kept": done.kept, "left": done.left, "put_aside": str(done.put_aside), "lost": lost})
        return ExitCode.DONE
    for context, id in done.lost:
        out(safe(f"{context} {id}"))
    note(f"{count(done.kept, 'version')} kept, {count(done.left, 'row')} left behind, in {safe(str(done.put_aside))}")
    note("start the node: what its peers have of the rest, they bring back")
    if done.left:
        note("what a subscription leaves out comes only when asked for: pull --from PEER, then get --from PEER ID")
    return ExitCode.DONE


@contextmanager
def _counter() -> Iterator[Any]:
    """A line on stderr that is written over, when that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status("checking") as drawn:
        yield drawn.update
