"""peers: the other nodes; which of them wait to be let in, and what a person decides about that."""

import time
from collections.abc import Iterable, Iterator
from shlex import quote

import click

from echonode.cli.arguments import json_option
from echonode.cli.columns import table
from echonode.cli.commands.status import PENDING, Json, of_state, peer_label, peer_lines
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import ago, print_json, print_line, print_note, safe
from echonode.cli.program import PROGRAM


@examples("peers", "peers --pending")
@click.group("peers", invoke_without_command=True)
@click.option("--pending", is_flag=True, help="Only those that wait to be let in, with their whole ids.")
@json_option
@click.pass_context
def peers(ctx: click.Context, pending: bool, as_json: bool) -> None:
    """List the other nodes, also those of other networks.

    With `trust.policy = "approve"` in the configuration a node that was never met waits until a person decides.
    """
    if ctx.invoked_subcommand is not None:
        return
    answer = ctx.ensure_object(NodeLookup).client().call("GET", "/v1/peers")
    if pending:
        answer = {**answer, "peers": of_state(answer["peers"], PENDING)}
    if as_json:
        print_json(answer)
        return
    if not answer["peers"]:
        print_note("no node waits to be let in" if pending else "no other node was seen yet")
        return
    if pending:
        for line in _pending_lines(answer["peers"], time.time()):
            print_line(line)
        print_note("to decide, type: echonode peers approve NODE, or: echonode peers reject NODE")
        return
    for line in peer_lines(answer["peers"], time.time()):
        print_line(line)


def _pending_lines(peers: Iterable[Json], now_s: float) -> Iterator[str]:
    """Yield the table of nodes that wait. Whole ids stand there: others can make one that begins alike."""
    rows = [
        (safe(peer_label(peer)) or "-", safe(peer["id"]), ago(peer.get("since"), now_s), safe(peer["address"]) or "-")
        for peer in peers
    ]
    return table(("NODE", "ID", "CAME", "ADDRESS"), rows, optional=(3, 2))


@examples("peers forget kitchen", "peers forget x53lq2ab")
@peers.command("forget", short_help="Forget a node that is gone for good.")
@click.argument("peer", metavar="NAME_OR_ID")
@pass_lookup
def forget(lookup: NodeLookup, peer: str) -> None:
    """Forget a node that is gone for good: its name and where it was. Its records stay.

    Should it come again, it is known again; with the policy `approve` it then waits to be let in.
    """
    answer = lookup.client().call("POST", "/v1/peers/forget", body={"peer": peer})
    print_note(f"{safe(answer['peer'])} is forgotten until it comes again")


@examples("peers approve kitchen", "peers approve x53lq2ab")
@peers.command("approve", short_help="Let a node in.")
@click.argument("node", metavar="NAME_OR_ID")
@pass_lookup
def approve(lookup: NodeLookup, node: str) -> None:
    """Let a node in that waits (peers --pending), or that was rejected. A whole id may be of one that never came.

    A name is what the other node says of itself: compare the id with what `status` shows there.
    """
    shown = decide(lookup, "/v1/peers/approve", node)
    print_note(f"{shown} is let in: now where its address is known, else when it dials again, within five minutes")


@examples("peers reject kitchen", "peers reject x53lq2ab")
@peers.command("reject", short_help="Keep a node out.")
@click.argument("node", metavar="NAME_OR_ID")
@pass_lookup
def reject(lookup: NodeLookup, node: str) -> None:
    """Keep a node out: this node neither dials it nor lets it in, until it is approved.

    Its records are not hidden (that is `deny`), and other nodes still speak with it. To leave a node out of the whole
    network: network rotate --without NODE.
    """
    shown = decide(lookup, "/v1/peers/reject", node)
    print_note(f"{shown} is kept out; to let it in, type: {PROGRAM} peers approve {quote(safe(node))}")


def decide(lookup: NodeLookup, path: str, node: str) -> str:
    """Send a decision about `node`. Return how that is shown."""
    answer: Json = lookup.client().call("POST", path, body={"peer": node})
    return safe(answer["peer"])
