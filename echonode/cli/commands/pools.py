"""pool: records that several nodes write, beside `shared`."""

from typing import Any

import click

from echonode.cli.arguments import json_option
from echonode.cli.columns import table
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import count, print_json, print_line, print_note, safe, short_id

Json = dict[str, Any]


@examples("pool create team", "pool list")
@click.group("pool")
def pool() -> None:
    """Make pools and manage their members. A record of a pool is written @POOL/NAME.

    Of a closed pool the node that made it decides who is a member. A common pool belongs to all its members, and nobody
    can be removed from it.
    """


@examples("pool list", "pool list --json")
@pool.command("list", short_help="List pools and their members.")
@json_option
@pass_lookup
def pool_list(lookup: NodeLookup, as_json: bool) -> None:
    """List the pools that this node knows, with their members."""
    with lookup.reader() as reader:
        answer = reader.client.call("GET", "/v1/pools")
    if as_json:
        print_json(answer)
        return
    if not answer["pools"]:
        print_note("this node knows no pool but `shared`; to make one, type: echonode pool create NAME")
    for number, each in enumerate(answer["pools"]):
        if number:
            print_line("")
        for line in _pool_lines(each):
            print_line(line)


def _pool_lines(view: Json) -> list[str]:
    can = "may write" if view["writable"] else "may not write"
    made = ", made here" if view["held"] and view["kind"] == "closed" else ""
    head = [f"@{safe(view['label'])}: a {view['kind']} pool{made}; this node {can}", f"id {safe(view['id'])}"]
    rows = [
        (safe(each["label"]) or "?", short_id(each["id"]), short_id(each["key"]), each["state"])
        for each in view["members"]
    ]
    return [*head, *table(("MEMBER", "ID", "KEY", "STATE"), rows)] if rows else head


@examples("pool create team", "pool create family --common")
@pool.command("create", short_help="Make a pool.")
@click.argument("name")
@click.option("--common", is_flag=True, help="Every member can invite others, and nobody can be removed.")
@pass_lookup
def pool_create(lookup: NodeLookup, name: str, common: bool) -> None:
    """Make a pool that is called NAME here. This node is its first member."""
    body = {"label": name, "kind": "common" if common else "closed"}
    answer = lookup.client().call("POST", "/v1/pools", body=body)
    label = safe(answer["label"])
    print_line(safe(answer["id"]))
    print_note(
        f"to write a record, type:  echonode put @{label}/NAME VALUE\n"
        f"to let others in, type:  echonode invite --pool {label}"
    )


@examples("pool ask POOL_ID team", "pool ask POOL_ID team > request.txt")
@pool.command("ask", short_help="Print a request to be a member.")
@click.argument("pool_id")
@click.argument("name")
@pass_lookup
def pool_ask(lookup: NodeLookup, pool_id: str, name: str) -> None:
    """Print a request to be a member of a closed pool, for the node that made it. NAME is what it is called here."""
    answer = lookup.client().call("POST", "/v1/pools/ask", body={"pool": pool_id, "label": name})
    print_line(safe(answer["request"]))
    print_note("on the node that made the pool, type:  echonode pool add POOL REQUEST")


@examples("pool add team REQUEST", "pool add team \"$(cat request.txt)\"")
@pool.command("add", short_help="Make a node that asked a member.")
@click.argument("pool_text", metavar="POOL")
@click.argument("request")
@pass_lookup
def pool_add(lookup: NodeLookup, pool_text: str, request: str) -> None:
    """Make the node that printed REQUEST a member of a closed pool that was made here."""
    answer = lookup.client().call("POST", "/v1/pools/add", body={"pool": pool_text, "request": request})
    print_note(f"@{safe(answer['label'])} has {count(_members(answer), 'member')} now")


@examples("pool remove team kitchen", "pool remove team kitchen --void")
@pool.command("remove", short_help="End the membership of a node.")
@click.argument("pool_text", metavar="POOL")
@click.argument("node")
@click.option("--void", is_flag=True, help="All that it wrote for the pool, or will write, is void on every node.")
@pass_lookup
def pool_remove(lookup: NodeLookup, pool_text: str, node: str, void: bool) -> None:
    """State for ever that NODE is no member of a closed pool. What it wrote stands, unless --void."""
    body = {"pool": pool_text, "node": node, "void": void}
    answer = lookup.client().call("POST", "/v1/pools/remove", body=body)
    print_note(f"@{safe(answer['label'])} has {count(_members(answer), 'member')} now")
    if not void:
        print_note("an honest node stops writing there; if this one does not, say --void")


@examples("pool leave team", "pool leave team --for-good")
@pool.command("leave", short_help="Forget a pool.")
@click.argument("pool_text", metavar="POOL")
@click.option("--for-good", is_flag=True, help="Also a closed pool that was made here: nobody can change it any more.")
@pass_lookup
def pool_leave(lookup: NodeLookup, pool_text: str, for_good: bool) -> None:
    """Forget a pool here. What was written for it stays, and is read by its id."""
    answer = lookup.client().call("POST", "/v1/pools/leave", body={"pool": pool_text, "for_good": for_good})
    print_note(f"left @{safe(answer['label'])}; its records are read as @{safe(answer['id'])[:8]}/NAME")


def _members(view: Json) -> int:
    return len({each["id"] for each in view["members"] if each["state"] == "member"})
