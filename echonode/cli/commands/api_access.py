"""api token: the token with which programs use the API over TCP."""

import click

from echonode.cli.arguments import json_option
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import fields_of, print_json, print_line, print_note, safe
from echonode.client.errors import NotRunning


@examples("api token", "api token --new")
@click.group("api")
def api() -> None:
    """Show or replace the token with which programs use this node over TCP, at 127.0.0.1."""


@examples("api token", "api token --new")
@api.command("token", short_help="Print the token; --new replaces it.")
@click.option("--new", "is_new", is_flag=True, help="Make another token first. The earlier one is good no more.")
@json_option
@pass_lookup
def api_token(lookup: NodeLookup, is_new: bool, as_json: bool) -> None:
    """Print the token: ECHO_TOKEN, where ECHO_API_URL has the URL. It is a password for all that this node can do.

    Commands on this machine use the node's socket, and need no token.
    """
    try:
        answer = lookup.client().call("POST" if is_new else "GET", "/v1/token")
    except NotRunning:
        answer = {"token": lookup.home().api_token(is_new=is_new), "url": None}
    if as_json:
        print_json(fields_of(("token", "url"), answer))
        return
    print_line(safe(answer["token"]))
    if is_new:
        print_note("programs that have the earlier token need this one now")
    if answer["url"] is not None:
        print_note(f"for programs:  ECHO_API_URL={safe(answer['url'])} ECHO_TOKEN=that")
