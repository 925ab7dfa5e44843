"""deny, allow: whose records are shown to readers of this node."""

from shlex import quote
from typing import Final

import click

from echonode.cli.arguments import json_option
from echonode.cli.columns import table
from echonode.cli.commands.peers import decide
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import fields_of, print_json, print_line, print_note, safe, short_id
from echonode.cli.program import PROGRAM

_FIELDS: Final = ("id", "label", "configured")


@examples("deny phone", "deny")
@click.command("deny")
@click.argument("node", metavar="[NODE]", required=False)
@json_option
@pass_lookup
def deny(lookup: NodeLookup, node: str | None, as_json: bool) -> None:
    """Hide what a node wrote and writes from readers at this node: its own records, and its versions in pools.

    They are still kept and passed on, and both nodes stay equal. Without NODE it lists who is denied.
    """
    if node is None:
        _list_denied(lookup, as_json)
        return
    shown = decide(lookup, "/v1/deny", node)
    if as_json:
        print_json({"denied": shown})
        return
    print_note(f"the records of {shown} are hidden here; to see them, type: {PROGRAM} allow {quote(safe(node))}")


def _list_denied(lookup: NodeLookup, as_json: bool) -> None:
    denied = lookup.client().call("GET", "/v1/trust")["denied"]
    if as_json:
        print_json({"denied": [fields_of(_FIELDS, each) for each in denied]})
        return
    if not denied:
        print_note("nobody is denied: the records of every node are shown")
        return
    rows = [
        (safe(each["label"]) or "-", short_id(each["id"]), "configuration" if each["configured"] else "here")
        for each in denied
    ]
    for line in table(("NODE", "ID", "DECIDED IN"), rows):
        print_line(line)


@examples("allow phone", "allow x53lq2ab")
@click.command("allow")
@click.argument("node", metavar="NODE")
@pass_lookup
def allow(lookup: NodeLookup, node: str) -> None:
    """Show the records of a denied node again, those too that came meanwhile."""
    print_note(f"the records of {decide(lookup, '/v1/allow', node)} are shown again")
