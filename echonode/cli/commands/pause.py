"""pause and resume: no sessions for a while, with one peer or with all."""

import click

from echonode.cli.arguments import to_seconds
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import moment, print_note, safe
from echonode.cli.program import PROGRAM

peer_option = click.option("--peer", metavar="PEER", help="Only with this peer: its name, its id, or its beginning.")


@examples("pause --for 2h", "pause --peer kitchen")
@click.command("pause")
@peer_option
@click.option("--for", "for_s", type=to_seconds, metavar="SPAN", help="End it by itself after this time.")
@pass_lookup
def pause(lookup: NodeLookup, peer: str | None, for_s: float | None) -> None:
    """Exchange nothing for a while, with one peer or with all. Records are written and read as ever.

    A pause outlasts a restart, and `status` shows it. It ends by `resume`, or by itself after the time of --for.
    """
    answer = lookup.client().call("POST", "/v1/pause", body={"peer": peer, "for_s": for_s})
    whom = f"with {safe(peer)}" if peer else "with every peer"
    until = f"until {moment(answer['until'])}" if answer["until"] else "until you type"
    print_note(f"paused {whom}, {until}{'' if answer['until'] else f': {PROGRAM} resume'}")


@examples("resume", "resume --peer kitchen")
@click.command("resume")
@peer_option
@pass_lookup
def resume(lookup: NodeLookup, peer: str | None) -> None:
    """End the pause with one peer, or every pause. Peers are dialled at once, and become equal."""
    lookup.client().call("POST", "/v1/resume", body={"peer": peer})
    print_note(f"resumed; to see how equal the nodes are, type: {PROGRAM} status")
