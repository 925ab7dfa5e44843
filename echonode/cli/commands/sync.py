"""sync, verify: sync now, check all that is held."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

from echonode.cli.arguments import json_option, to_seconds
from echonode.cli.columns import table
from echonode.cli.exit_codes import ExitCode, Failure, NotRunning
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import (
    count,
    fields_of,
    print_json,
    print_line,
    print_note,
    safe,
    seconds,
    short_id,
    size,
)
from echonode.cli.progress import sync_progress

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
_SYNC_MARGIN_S: Final = 10.0  # the node answers by itself when its own time is up
_VERIFY_TIMEOUT_S: Final = 600.0  # between two lines of progress
_REPAIR_HINT: Final = "stop the node and type: echonode verify --repair"


@examples("sync", "sync --node-id kitchen --action pull --timeout 2m")
@click.command("sync", short_help="Sync with every reachable peer, now.")
@click.option("--node-id", metavar="PEER", help="Only with this peer: its name, its id, or the beginning of its id.")
@click.option("--action", type=click.Choice(["pull", "push"]), help="One way only: theirs to us, or ours to them.")
@click.option("--timeout", "timeout_s", type=to_seconds, metavar="SPAN", default="30s", help="For all of it.  [30s]")
@json_option
@pass_lookup
def sync(lookup: NodeLookup, node_id: str | None, action: str | None, timeout_s: float, as_json: bool) -> ExitCode:
    """Sync once, now, with every peer that can be reached. Exits 0 only when verified equal.

    On a terminal a bar shows what moves. Ctrl-C ends the waiting; the node goes on.
    """
    request = {"peers": [node_id] if node_id else None, "action": action or "both", "timeout": timeout_s}
    client = lookup.client()
    try:
        with sync_progress(client):
            answer = client.call("POST", "/v1/sync", body=request, timeout_s=timeout_s + _SYNC_MARGIN_S)
    except KeyboardInterrupt:
        print_note("interrupted; what came is kept, and the node goes on by itself")
        raise
    if as_json:
        answer["peers"] = [fields_of(_SYNC_PEER_FIELDS, peer) for peer in answer["peers"]]
        print_json(fields_of(_SYNC_FIELDS, answer))
    else:
        for line in _sync_lines(answer["peers"]):
            print_line(line)
    result = answer["status"]
    if result == "verified":
        if not as_json:
            print_note(f"in sync with {count(len(answer['peers']), 'node')}, and verified")
        contested = answer.get("conflicts", 0)
        if contested:
            raise Failure(
                f"{count(contested, 'record')} in conflict; to see them, type: echonode conflicts", ExitCode.PARTIAL
            )
        return ExitCode.DONE
    if result == "no peers":
        raise Failure("no other node of this network can be reached now; echonode peers says who was seen")
    raise Failure(f"not in sync: {safe(result)}", _SYNC_EXITS.get(result, ExitCode.FAILED))


def _sync_lines(peers: Iterable[dict[str, Any]]) -> Iterator[str]:
    rows = [
        (
            safe(peer.get("name")) or short_id(peer["id"]),
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
    return table(header, rows, right=(3, 4, 5, 6, 7), optional=(6, 2))


@examples("verify", "verify --repair")
@click.command("verify", short_help="Re-hash all that is held, or repair it.")
@click.option("--repair", "is_repair", is_flag=True, help="Make the store of a stopped node anew of what is whole.")
@json_option
@pass_lookup
def verify(lookup: NodeLookup, is_repair: bool, as_json: bool) -> ExitCode:
    """Re-hash all that is held: versions, signatures, heads, tree, log.

    With --repair the damaged rows are left behind, and the node fetches them from its peers when it runs again. A node
    with a subscription fetches only what it subscribes to; fetch its other records by hand (get --from). Context and id
    of every record that lost its latest version are listed, as far as the damaged bytes still say.
    """
    if is_repair:
        return _repair(lookup, as_json)
    last: dict[str, Any] = {}
    with (
        lookup.reader() as reader,
        reader.client.open("POST", "/v1/verify", timeout_s=_VERIFY_TIMEOUT_S) as response,
        _progress_line() as says,
    ):
        for last in response.values():
            says(f"{last.get('checked', 0):,} versions checked")
    if not last.get("done"):
        raise Failure("the node ended before all was checked")
    if as_json:
        print_json(fields_of(_VERIFY_FIELDS, last))
    else:
        for problem in last["problems"]:
            print_line(safe(problem))
    checked = count(last["checked"], "version")
    if not last["ok"]:
        raise Failure(f"{checked} checked, {count(len(last['problems']), 'problem')} found; {_REPAIR_HINT}")
    if not as_json:
        print_note(f"{checked} checked, all is well")
    return ExitCode.DONE


def _repair(lookup: NodeLookup, as_json: bool) -> ExitCode:
    try:
        lookup.client().call("GET", "/v1/status")
    except NotRunning:
        pass
    else:
        raise Failure("the node is running, and holds its store: stop it, repair, then start it again")
    with _progress_line() as says:
        says("keeping what is whole")
        done = lookup.services.repair(lookup.home())
    if as_json:
        lost = [{"context": context, "id": id} for context, id in done.lost]
        print_json({"kept": done.kept, "left": done.left, "put_aside": str(done.put_aside), "lost": lost})
        return ExitCode.DONE
    for context, id in done.lost:
        print_line(safe(f"{context} {id}"))
    kept, damaged = count(done.kept, "version"), count(done.left, "row")
    print_note(f"{kept} kept, {damaged} left behind, in {safe(str(done.put_aside))}")
    print_note("start the node: its peers bring back what they have of the rest")
    if done.left:
        print_note("what a subscription leaves out, fetch by hand: pull --from PEER, then get --from PEER RECORD")
    return ExitCode.DONE


@contextmanager
def _progress_line() -> Iterator[Any]:
    """Yield a function that writes one line on stderr over and over; off a terminal it writes nothing."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status("checking") as drawn:
        yield drawn.update
