"""version: what this program is, for a person or a script."""

import platform
import sys

import click

from echonode.cli.arguments import json_option
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import print_json, print_line
from echonode.cli.program import PROGRAM


@examples("version", "version --json")
@click.command("version")
@json_option
@pass_lookup
def version(lookup: NodeLookup, as_json: bool) -> None:
    """Show the versions of the program, of its protocol and of its disk schema, and where it runs.

    Nodes of one protocol major sync with each other. A store is opened by programs of its schema and of later ones.
    """
    from importlib.util import find_spec

    from echonode.wire.messages import PROTOCOL_VERSION, version_text

    facts = {
        "version": lookup.services.version,
        "protocol": version_text(PROTOCOL_VERSION),
        "schema": lookup.services.schema,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "event_loop": "uvloop" if find_spec("uvloop") else "asyncio",
        "program": sys.prefix,
    }
    if as_json:
        print_json(facts)
        return
    print_line(f"{PROGRAM} {facts['version']}")
    print_line(f"protocol {facts['protocol']}, disk schema {facts['schema']}")
    print_line(f"Python {facts['python']} with {facts['event_loop']} on {facts['system']}, in {facts['program']}")
