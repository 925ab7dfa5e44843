"""verify: check all that is held, and repair it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

from echonode.cli.arguments import json_option
from echonode.cli.exit_codes import ExitCode, Failure
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import (
    count,
    fields_of,
    print_json,
    print_line,
    print_note,
    safe,
)
from echonode.client.errors import NotRunning

_VERIFY_FIELDS: Final = ("ok", "checked", "problems")
_VERIFY_TIMEOUT_S: Final = 600.0  # between two lines of progress
_REPAIR_HINT: Final = "stop the node and type: echonode verify --repair"


@examples("verify", "verify --repair")
@click.command("verify")
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
    if not last.get("ok"):
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
