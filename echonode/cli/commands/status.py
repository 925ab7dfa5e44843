"""status, contexts, rename: this node, the sets of records that it holds, and whether all nodes are equal."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final
from urllib.parse import quote

import click

from echonode.cli.arguments import json_option
from echonode.cli.columns import table
from echonode.cli.exit_codes import ExitCode
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import (
    ago,
    count,
    fields_of,
    moment,
    print_json,
    print_line,
    print_note,
    print_text,
    safe,
    short_id,
    since,
    size,
)

_STATUS_FIELDS: Final = ("id", "name", "instance", "network", "listen", "api", "contexts", "peers")
_LATER_FIELDS: Final = ("paused", "history", "joining", "audit")  # which nodes of the first versions do not tell
_CONTEXT_FIELDS: Final = ("name", "root", "records", "bytes", "conflicts", "wants")
_PEER_FIELDS: Final = (
    *("id", "name", "state", "address", "found_by", "in_sync", "last_sync", "reason"),
    *("following", "lag", "in_step", "since", "models", "unreadable", "denied"),
)
_OTHER_NETWORK: Final = "other network"
_COPY: Final = "copy"
_GONE: Final = "gone"
_LEFT_OUT: Final = "left out"
PENDING: Final = "pending"
_REJECTED: Final = "rejected"
_NOT_COUNTED: Final = (_OTHER_NETWORK, _COPY, _GONE, _LEFT_OUT, PENDING, _REJECTED)  # in what is said of equality
_FACT_INDENT: Final = 12
_ROOT_CHARS: Final = 16  # 80 bits: enough to tell two roots apart; --json has all
_REASONS_MAX: Final = 3  # in the verdict; the table shows all
_EQUAL: Final = {True: "yes", False: "no", None: "?"}

Json = dict[str, Any]


@examples("status", "status --json")
@click.command("status")
@json_option
@pass_lookup
def status(lookup: NodeLookup, as_json: bool) -> ExitCode:
    """Show this node, the other nodes, whether they are equal, and if not, why.

    Of a node that does not run it shows what the store holds, and exits with 5.
    """
    with lookup.reader() as reader:
        answer = reader.client.call("GET", "/v1/status")
    if not reader.is_running:
        answer |= {"listen": [], "api": []}
    code = ExitCode.DONE if reader.is_running else ExitCode.NOT_RUNNING
    if as_json:
        answer["contexts"] = [fields_of(_CONTEXT_FIELDS, context) for context in answer["contexts"]]
        answer["peers"] = [fields_of(_PEER_FIELDS, peer) for peer in answer["peers"]]
        print_json(fields_of((*_STATUS_FIELDS, *(field for field in _LATER_FIELDS if field in answer)), answer))
    else:
        _show_status(answer, time.time(), is_running=reader.is_running)
    return code


def _show_status(answer: Json, now_s: float, *, is_running: bool) -> None:
    what = "joining a network" if answer.get("joining") else f"a node of {_network(answer['network'])}"
    print_text(f"{safe(answer.get('label') or answer['name'])}, {what}")
    facts = {
        "id": safe(answer["id"]),
        "listens on": safe(" ".join(answer["listen"])),
        "commands": safe(" ".join(answer["api"])),
        "peers": _known_text(answer["peers"]),
        "reads": ", ".join(f"{safe(name)} {safe(version)}" for name, version in answer.get("models", {}).items()),
        "paused": _paused_text(answer.get("paused")),
        "invitation": f"{safe(answer['invitation'])} is open" if answer.get("invitation") else "",
        "history": _history(answer.get("history")),
        "verified": _audit_text(answer.get("audit"), now_s),
    }
    for name, fact in facts.items():
        if fact:
            print_text(f"{name:<{_FACT_INDENT}}{fact}", indent=" " * _FACT_INDENT)
    print_line("")
    for line in context_lines(answer["contexts"]):
        print_line(line)
    print_line("")
    if answer["peers"]:
        for line in peer_lines(answer["peers"], now_s):
            print_line(line)
        print_line("")
    if answer.get("key_problem"):
        print_text(safe(answer["key_problem"]))
    contested = sum(context.get("conflicts", 0) for context in answer["contexts"])
    if contested:
        print_text(f"{count(contested, 'record')} in conflict; to see them, type: echonode conflicts")
    if says := answer.get("left_out_by"):
        print_text(
            f"This network was rotated without this node, says {safe(' and '.join(says[:_REASONS_MAX]))}: nothing is "
            "exchanged with its members any more. To join them again, ask one of them for an invitation."
        )
    if is_running:
        print_text(verdict(answer["peers"], now_s))


def _audit_text(verdict: Json | None, now_s: float) -> str:
    """Return when the store was audited last and what that found; "" when it was not."""
    if verdict is None:
        return ""
    when, versions = ago(verdict["ended"], now_s), count(verdict["checked"], "version")
    if not verdict["problems"]:
        return f"{when}: {versions}, all whole"
    found = f"{when}: {count(verdict['problems'], 'problem')} in {versions}, as {safe(verdict['first'])}"
    if verdict["dropped"]:
        found += f"; {count(verdict['dropped'], 'record')} fetched from peers again"
    if verdict["problems"] > verdict["dropped"]:  # one damaged record may be more than one problem
        when = "if the next audit finds problems too" if verdict["dropped"] else "to mend that"
        found += f"; {when}, stop this node and type: echonode verify --repair"
    return found


def _paused_text(pause: Json | None) -> str:
    """Return until when this node is paused with every peer; "" when it is not."""
    if pause is None:
        return ""
    until = f"until {moment(pause['until'])}; " if pause["until"] else ""
    return f"with every peer, {until}to end that, type: echonode resume"


def _history(history: Json | None) -> str:
    """Return how much is kept of what was edited and deleted; "" for nothing."""
    if not history or not history["versions"]:
        return ""
    return f"{count(history['versions'], 'older version')}, {size(history['bytes'])}"


def _known_text(peers: Sequence[Json]) -> str:
    """Return how many peers this node has met, now or before it was started, "" for none."""
    strangers = (_OTHER_NETWORK, _COPY, PENDING)
    met = [peer for peer in peers if peer["state"] != _REJECTED or peer.get("last_seen")]
    known = [peer for peer in met if peer["id"] is not None and peer["state"] not in strangers]
    connected = len(of_state(known, "connected"))
    return f"{count(len(known), 'peer')} known, {connected} connected" if known else ""


def _network(network: str) -> str:
    return "the open network" if network == "open" else f"the network {safe(network)}"


def verdict(peers: Sequence[Json], now_s: float | None = None) -> str:
    """Return one sentence that says whether all nodes are equal, and if not, why."""
    parts = [*map(_copy_warning, of_state(peers, _COPY)), _equality(peers, now_s), _waiting(peers)]
    return " ".join(part for part in parts if part)


def of_state(peers: Sequence[Json], state: str) -> list[Json]:
    """Return those of `peers` that are in that state."""
    return [peer for peer in peers if peer["state"] == state]


def _copy_warning(copy: Json) -> str:
    return f"At {safe(copy['address'])} {safe(copy['reason'])}."


def _waiting(peers: Sequence[Json]) -> str:
    """Return how many nodes wait for a person to let them in; "" for none."""
    number = len(of_state(peers, PENDING))
    if not number:
        return ""
    return f"{count(number, 'node')} {'waits' if number == 1 else 'wait'} to be let in: echonode peers --pending."


def _equality(peers: Sequence[Json], now_s: float | None) -> str:
    ours = [peer for peer in peers if peer["state"] not in _NOT_COUNTED]
    gone = len(of_state(peers, _GONE))
    beside = f" ({count(gone, 'more node')} not seen for 30 days.)" if gone else ""
    if not ours:
        if any(of_state(peers, state) for state in (_GONE, _COPY, PENDING, _REJECTED)):
            return f"No other node of this network is known to be there.{beside}"
        return "No other node of this network was seen yet; to add one, type: echonode invite"
    unequal = [peer for peer in ours if peer["in_sync"] is not True]
    if not unequal:
        return f"Equal with {count(len(ours), 'node')}: all that are known.{beside}"
    if all(_is_in_step(peer) for peer in unequal):
        in_flight = sum(peer["lag"] or 0 for peer in unequal)
        what = f"{count(in_flight, 'change')} on the way" if in_flight else "the last changes are being compared"
        return f"In step with {count(len(ours), 'node')}: {what}, nothing else differs.{beside}"
    unequal = [peer for peer in unequal if not _is_in_step(peer)]
    reasons = "; ".join(f"{_name(peer)}: {_reason_text(peer, now_s)}" for peer in unequal[:_REASONS_MAX])
    if len(unequal) > _REASONS_MAX:
        reasons += f"; and {len(unequal) - _REASONS_MAX} more, in the table"
    return f"Equal with {len(ours) - len(unequal)} of {count(len(ours), 'node')}. {reasons}.{beside}"


def _is_in_step(peer: Json) -> bool:
    return peer["in_sync"] is not True and bool(peer.get("in_step"))


def _name(peer: Json) -> str:
    return safe(peer_label(peer) or short_id(peer["id"]) or peer["address"])


def peer_label(peer: Json) -> str:
    """Return the name of a peer as it is shown: with the beginning of its id where another node has the same name."""
    label: str = peer.get("label") or peer["name"]
    return label


def _reason_text(peer: Json, now_s: float | None) -> str:
    """Return the reason why a peer is not known to be equal, with its time when the peer is away."""
    reason = safe(peer["reason"]).rstrip(".")
    reason = reason or ("not equal yet" if peer["in_sync"] is False else safe(peer["state"]))
    away = since(peer.get("since"), now_s) if peer["state"] == "absent" and now_s is not None else ""
    return f"{reason}, {away}" if away else reason


def _why(peer: Json, now_s: float) -> str:
    """Return the reason in the table; empty when there is nothing to explain."""
    return _reason_text(peer, now_s) if peer["reason"] else ""


def _equal(peer: Json) -> str:
    """Return whether the peer is known to be equal, or lacks only what is in flight."""
    return "in step" if _is_in_step(peer) else _EQUAL[peer["in_sync"]]


def _following(peer: Json) -> str:
    """Return whether changes travel to this peer as they happen, and how many it has not taken yet."""
    if not peer["following"]:
        return "-"
    return f"{peer['lag']:,} behind" if peer["lag"] else "yes"


def peer_lines(peers: Iterable[Json], now_s: float) -> Iterator[str]:
    """Yield the table of peers."""
    rows = [
        (
            safe(peer_label(peer)) or "-",
            short_id(peer["id"]) or "-",
            safe(peer["state"]),
            "-" if peer["state"] in (_OTHER_NETWORK, _COPY, PENDING) else _equal(peer),
            _following(peer),
            ago(peer["last_sync"], now_s),
            safe(peer["address"]) or "-",
            safe(peer["found_by"]) or "-",
            _reads(peer),
            _why(peer, now_s),
        )
        for peer in peers
    ]
    header = ("PEER", "ID", "STATE", "EQUAL", "FOLLOWS", "LAST SYNC", "ADDRESS", "FOUND BY", "READS", "WHY")
    if not any(reads for *_, reads, _ in rows):  # few nodes configure the models they read
        return table((*header[:-2], header[-1]), [(*row[:-2], row[-1]) for row in rows], optional=(7, 6, 5))
    return table(header, rows, optional=(7, 8, 6, 5))


def _reads(peer: Json) -> str:
    """Return the models that the peer reads. A model read here in another major version is marked."""
    return ", ".join(
        f"{safe(name)} {safe(version)}" + (" (not as here)" if name in peer.get("unreadable", ()) else "")
        for name, version in (peer.get("models") or {}).items()
    )


def context_lines(contexts: Iterable[Json]) -> Iterator[str]:
    """Yield the table of contexts; with a column for subscriptions when there are any."""
    rows = [
        (
            safe(context["name"]),
            f"{context['records']:,}",
            size(context["bytes"]),
            safe(context["root"])[:_ROOT_CHARS],
            "all" if context.get("wants") is None else safe(" ".join(context["wants"])),
        )
        for context in contexts
    ]
    if all(wanted == "all" for *_, wanted in rows):
        return table(("CONTEXT", "RECORDS", "SIZE", "ROOT"), [row[:-1] for row in rows], right=(1, 2))
    return table(("CONTEXT", "RECORDS", "SIZE", "ROOT", "WANTED"), rows, right=(1, 2))


@examples("contexts", "contexts --json")
@click.group("contexts", invoke_without_command=True)
@json_option
@click.pass_context
def contexts(ctx: click.Context, as_json: bool) -> None:
    """List the contexts held here, each with its root."""
    if ctx.invoked_subcommand is not None:
        return
    with ctx.ensure_object(NodeLookup).reader() as reader:
        answer = reader.client.call("GET", "/v1/contexts")
    if as_json:
        print_json(answer)
        return
    for line in context_lines(answer["contexts"]):
        print_line(line)


@examples("contexts forget junk", "contexts forget old-photos --own")
@contexts.command("forget", short_help="Delete a context here, and take it no more.")
@click.argument("context", metavar="CONTEXT")
@click.option("--own", is_flag=True, help="Also when it was written here, and other nodes may lack its records.")
@pass_lookup
def forget_context(lookup: NodeLookup, context: str, own: bool) -> None:
    """Delete all that is held here of a context, and take it from no node until it is written here again.

    Other nodes keep what they have.
    """
    path = f"/v1/contexts/{quote(context, safe='')}/forget"
    answer = lookup.client().call("POST", path, body={"own": own})
    print_note(f"{safe(context)} is forgotten, with {count(answer['forgotten'], 'record')}")


@examples("rename kitchen", "rename 'Anna, laptop'")
@click.command("rename")
@click.argument("name", metavar="NAME")
@pass_lookup
def rename(lookup: NodeLookup, name: str) -> None:
    """Give this node another name, now and for later starts. Other nodes see it in a moment.

    A name is a label for people: its records and its id stay. A name that is configured later counts again.
    """
    answer = lookup.client().call("PUT", "/v1/name", body={"name": name})
    print_note(f"this node is called {safe(answer['name'])} now")
