"""run, invite, join, network: a node, and the network that it belongs to."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import click

from echonode.cli.arguments import json_option, stdin_bytes, to_seconds
from echonode.cli.exit_codes import ExitCode, Failure
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import count, fields_of, moment, note_after, print_json, print_line, print_note, safe
from echonode.cli.services import RunOptions
from echonode.client.errors import NotRunning
from echonode.errors import ConfigError
from echonode.limits import INVITATION_USES_MAX
from echonode.text import to_base32

if TYPE_CHECKING:
    from echonode.model.member_secret import MemberSecret

_JOIN_TIMEOUT_S: Final = 90.0  # the node itself gives up after 60
_LOOK_S: Final = 1.0  # a joiner that has found its inviter is done by then
_SECRET_FILE_BYTES_MAX: Final = 1024
_NETWORK_FIELDS: Final = ("network", "secret")
_ROTATION_FIELDS: Final = ("network", "members", "without", "copied", "past_pool")
_ROTATE_TIMEOUT_S: Final = 600.0  # a large `shared` is copied meanwhile


@examples("run", "run --join 7-crossover-clockwork --name kitchen")
@click.command("run")
@click.option("--join", metavar="CODE", help="Join a network by an invitation; records that are here are kept.")
@click.option("--at", metavar="HOST:PORT", help="With --join: where the inviting node is, instead of looking for it.")
@click.option("--name", metavar="N", help="What people call this node.")
@click.option("--listen", metavar="HOST:PORT", help="Where other nodes can reach it; port 0 takes a free one.")
@click.option("--peer", "peers", multiple=True, metavar="HOST:PORT", help="A node to speak to; several times.")
@click.option("--interface", "interfaces", multiple=True, metavar="IP", help="Address to use for mDNS; several times.")
@click.option("--no-mdns", is_flag=True, help="Neither announce this node nor look for others.")
@click.option("--open", "is_open", is_flag=True, help="Take part in the public network, with anyone on this LAN.")
@click.option("--live", is_flag=True, help="Show a table of peers and contexts that is drawn anew each second.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--log-format", type=click.Choice(["json", "console"]))
@pass_lookup
def run(
    lookup: NodeLookup,
    join: str | None,
    at: str | None,
    name: str | None,
    listen: str | None,
    peers: Sequence[str],
    interfaces: Sequence[str],
    no_mdns: bool,
    is_open: bool,
    live: bool,
    log_level: str | None,
    log_format: str | None,
) -> int:
    """Run a node in the foreground. Its first run makes an identity and a network."""
    if join and is_open:
        raise click.UsageError("--join and --open exclude each other: an invitation leads to a private network.")
    if at and not join:
        raise click.UsageError("--at says where to join: it needs --join CODE. A node to speak to is a --peer.")
    options = RunOptions(
        home=lookup.home(),
        join=join,
        at=at,
        name=name,
        listen=listen,
        peers=tuple(peers),
        interfaces=tuple(interfaces),
        no_mdns=no_mdns,
        open=is_open,
        log_level=log_level,
        log_format=log_format,
    )
    if not live:
        return lookup.services.run_node(options)
    if not sys.stdout.isatty():
        raise click.UsageError("--live draws on a terminal, and stdout is none.")
    from echonode.cli.commands.live_view import LiveView

    with LiveView(lookup) as view:
        return lookup.services.run_node(replace(options, say=view.say))


def join_instruction(code: str) -> str:
    """Return the sentence that says what to type on the other machine."""
    shown = safe(code)
    return (
        f"on the other machine, type:  echonode run --join {shown}\n"
        f"or, where a node or the service runs there already:  echonode join {shown}"
    )


@examples("invite", "invite --uses 3 --expires 1h", "invite --pool team")
@click.command("invite")
@click.option("--uses", type=click.IntRange(1, INVITATION_USES_MAX), default=1, show_default=True)
@click.option("--expires", "expires_s", type=to_seconds, metavar="SPAN", default="10m", show_default=True)
@click.option("--pool", metavar="POOL", help="Make them members of this pool too, also when they are in the network.")
@json_option
@pass_lookup
def invite(lookup: NodeLookup, uses: int, expires_s: float, pool: str | None, as_json: bool) -> None:
    """Make a code with which another machine can join. Only the code goes to stdout.

    With the policy `approve` here, who joined then waits to be let in: peers --pending.
    """
    answer = lookup.client().call("POST", "/v1/invitations", body={"uses": uses, "expires_s": expires_s, "pool": pool})
    if as_json:
        print_json(fields_of(("code", "expires"), answer))
        return
    print_line(safe(answer["code"]))
    print_note(f"{join_instruction(answer['code'])}\ngood for {count(uses, 'use')}, until {moment(answer['expires'])}")


@examples("join 7-crossover-clockwork", "join 7-crossover-clockwork --at 192.168.1.20:22087")
@click.command("join")
@click.argument("code")
@click.option("--at", metavar="HOST:PORT", help="Where the inviting node is, instead of looking for it.")
@pass_lookup
def join(lookup: NodeLookup, code: str, at: str | None) -> None:
    """Join a network by an invitation. The records that are here are kept."""
    client = lookup.client(start_command="run --join CODE")
    with note_after(
        _LOOK_S,
        "not joined yet: the code may be wrong, spent or expired; looking on for a minute (Ctrl-C ends the waiting)",
    ):
        answer = client.call("POST", "/v1/join", body={"code": code, "at": at}, timeout_s=_JOIN_TIMEOUT_S)
    print_line(safe(answer["network"]))
    print_note(f"joined the network {safe(answer['network'])}")


@examples("network show", "network rotate --without kitchen")
@click.group("network")
def network() -> None:
    """Show, set or rotate the secret that makes nodes one network."""


@examples("network show", "network show --json")
@network.command("show")
@json_option
@pass_lookup
def network_show(lookup: NodeLookup, as_json: bool) -> None:
    """Print the network secret, a line of 112 letters and digits. Every machine that has it is a member."""
    try:
        answer = lookup.client().call("GET", "/v1/network")
    except NotRunning:
        answer = _network_of_stopped_node(lookup)
    if as_json:
        print_json(fields_of(_NETWORK_FIELDS, answer))
    elif answer["secret"] is None:
        print_note("this node takes part in the open network, which has no secret")
    else:
        print_line(safe(answer["secret"]))


def _network_of_stopped_node(lookup: NodeLookup) -> dict[str, str | None]:
    """Return the answer that the node would give if it ran. Raises Failure when no network was chosen yet."""
    home = lookup.home()
    if not home.has_network():
        raise Failure(f"{home.root} has no network yet; the first `echonode run` or `echonode network set` makes one")
    secret = home.read_member_secret()
    if secret is None:
        return {"network": "open", "secret": None}
    return {"network": _short_name(secret), "secret": secret.to_text()}


def _short_name(secret: "MemberSecret") -> str:
    from echonode.wire.channel import NetworkSecret

    return to_base32(NetworkSecret.private(secret.key).netid[:8])


@examples("network set < secret.txt", "--home /srv/echo network set < secret.txt")
@network.command("set")
@click.argument("secret_text", metavar="[SECRET]", required=False)
@pass_lookup
def network_set(lookup: NodeLookup, secret_text: str | None) -> None:
    """Choose the network by its secret, read from stdin unless SECRET is given. Before the first run it works too."""
    from echonode.model.member_secret import MemberSecret, is_lone_key

    text, secret = _read_secret(secret_text)
    if secret_text not in (None, "-"):
        print_note("others on this machine may have seen the secret on the command line: give it on stdin instead")
    if is_lone_key(text):
        print_note(
            "that is a network key alone, in which no mistyped letter shows: compare the name of the network on each "
            "machine, or set what `echonode network show` prints"
        )
    left = None
    try:
        left = lookup.client().call("PUT", "/v1/network", body={"secret": text})["left"]
    except NotRunning:
        home = lookup.home()
        home.choose_network(MemberSecret.from_text(text, home.read_member_secret()))
    print_note(f"this node's network is {_short_name(secret)} now")
    if left is not None:
        print_note(_left_behind(left))


def _left_behind(left: Mapping[str, Any]) -> str:
    said = f"it left the network {safe(left['network'])}: nothing is exchanged with its nodes any more"
    if left["peers"]:
        said += f", of which {count(left['peers'], 'node')} could be reached"
    if left["past_pool"]:
        return f"{said}; the records of its `shared` stay here, as @{safe(left['past_pool'])}/NAME"
    return f"{said}; `shared` is the same pool as before"


@examples("network rotate", "network rotate --without kitchen")
@network.command("rotate")
@click.option("--without", "without", multiple=True, metavar="NODE", help="A member to leave out; several times.")
@json_option
@pass_lookup
def network_rotate(lookup: NodeLookup, without: Sequence[str], as_json: bool) -> None:
    """Replace the network secret. Members get the new one when they connect, for 90 days.

    A node that is left out stays behind, and `shared` becomes a new pool: records that it did not sign are copied.
    """
    from echonode.model.address import ME

    body = {"without": list(without)}
    answer = lookup.client().call("POST", "/v1/network/rotate", body=body, timeout_s=_ROTATE_TIMEOUT_S)
    if as_json:
        print_json(fields_of(_ROTATION_FIELDS, answer))
        return
    print_line(safe(answer["network"]))
    others = [name for name in answer["members"] if name != ME]
    if others:
        print_note(f"the new secret goes to {count(len(others), 'node')} by itself: {safe(', '.join(others))}")
    else:
        print_note("no other node is a member; copies of the old secret are worth nothing now")
    if answer["without"]:
        print_note(f"left out: {safe(', '.join(answer['without']))}")
    if answer["past_pool"]:
        print_note(
            f"`shared` is a new pool with {count(answer['copied'], 'record')} of the old one, "
            f"which stays readable as @{safe(answer['past_pool'])}/NAME"
        )


def _read_secret(text: str | None) -> tuple[str, "MemberSecret"]:
    """Return what was typed, and the secret that it means in a home without one."""
    from echonode.model.member_secret import MemberSecret

    if text is None or text == "-":
        stdin = stdin_bytes()
        if stdin.isatty():
            text = str(click.prompt("Network secret", hide_input=True, err=True))
        else:
            text = stdin.read(_SECRET_FILE_BYTES_MAX).decode("ascii", "replace")
    try:
        return text.strip(), MemberSecret.from_text(text)
    except ConfigError as error:
        raise Failure(str(error), ExitCode.USAGE) from None
