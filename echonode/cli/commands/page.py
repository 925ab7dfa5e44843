"""open: the status page of this node, in a browser that is signed in."""

import click

from echonode.cli.arguments import json_option
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import fields_of, print_json, print_line, print_note, safe


@examples("open", "open --print")
@click.command("open")
@click.option("--print", "is_printed", is_flag=True, help="Print the link instead of opening it.")
@json_option
@pass_lookup
def open_page(lookup: NodeLookup, is_printed: bool, as_json: bool) -> None:
    """Open the status page of this node in a browser. The link signs that browser in: once, within a minute.

    The page is served at 127.0.0.1 only. From another machine, forward the port: ssh -L 2230:127.0.0.1:2230 HOST
    """
    answer = lookup.client().call("POST", "/v1/page")
    if as_json:
        print_json(fields_of(("url", "expires_s"), answer))
        return
    import webbrowser

    if not is_printed and webbrowser.open(answer["url"]):
        print_note("opened in the browser")
        return
    print_line(safe(answer["url"]))
    print_note("the link works once, within a minute")
