"""demo: a network of real nodes on this machine, each a process of its own.

node-1 makes the network and the others join by an invitation. Records are imported into node-1, and a table shows how
the roots become equal; then the cost of each sync is listed. The command exits 0 only when every root of every context
is equal. The nodes' folders are temporary.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from echonode.cli.columns import table
from echonode.cli.exit_codes import ExitCode, Failure
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import count, print_line, print_note, safe, seconds, short_id, size
from echonode.limits import INVITATION_EXPIRES_S

if TYPE_CHECKING:
    from echonode.cli.demo_nodes import DemoNode, DemoNodes

_CONTEXT: Final = "main"
_ROOT_CHARS: Final = 16
_REFRESH_S: Final = 0.2
# Far more than needed: a demo that gives up on a slow machine shows nothing.
_MEETING_TIMEOUT_S: Final = 90.0
_RECORDS_PER_S: Final = 200
_IMPORT_TIMEOUT_S: Final = 300.0

Json = dict[str, Any]
Draw = Callable[[Sequence[Json], float], None]


@examples("demo", "demo --nodes 5 --records 10000")
@click.command("demo")
@click.option("--nodes", "nodes_wanted", type=click.IntRange(2, 20), default=3, show_default=True)
@click.option("--records", "records_wanted", type=click.IntRange(1, 200_000), default=2000, show_default=True)
@pass_lookup
def demo(lookup: NodeLookup, nodes_wanted: int, records_wanted: int) -> ExitCode:
    """Start several real nodes on this machine, and watch them become equal."""
    import tempfile

    from echonode.cli.demo_nodes import DemoNodes, stop_signals

    with (
        stop_signals(),
        tempfile.TemporaryDirectory(prefix="echonode-demo-", ignore_cleanup_errors=True) as root,
        DemoNodes(lookup.services, Path(root)) as nodes,
    ):
        running = _start(nodes, nodes_wanted)
        with _table() as draw:
            statuses, took_s = _import_and_wait(running, records_wanted, draw)
        every = f"all {len(running)} nodes hold {count(records_wanted, 'record')}"
        print_line(f"equal after {seconds(took_s)}: {every}, and every root is the same on each")
        for line in _cost_lines(running, statuses):
            print_line(line)
    print_note("the nodes are stopped, and their folders are gone")
    return ExitCode.DONE


def _start(nodes: "DemoNodes", wanted: int) -> list["DemoNode"]:
    """Start `wanted` nodes of one new network, and wait until all take commands."""
    print_note(f"starting {wanted} nodes on this machine")
    arguments = _listen_options(wanted)
    first = nodes.start("node-1", arguments[0])
    status = first.wait_ready()
    first.listen()
    invitation = {"uses": wanted - 1, "expires_s": INVITATION_EXPIRES_S}
    code = first.client.call("POST", "/v1/invitations", body=invitation)["code"]
    print_note(f"node-1 made the network {safe(status['network'])}; the others join with {safe(code)}")
    others = [
        nodes.start(f"node-{number}", [*each, "--join", code]) for number, each in enumerate(arguments[1:], start=2)
    ]
    for node in others:
        node.wait_ready()
        node.listen()
    return [first, *others]


def _listen_options(wanted: int) -> list[list[str]]:
    """Return each node's options of where to listen and how to find the others."""
    from echonode.cli.demo_nodes import LOOPBACK, free_ports, multicast_works

    if multicast_works():
        return [["--listen", f"{LOOPBACK}:0", "--interface", LOOPBACK]] * wanted
    print_note("loopback has no multicast here, so mDNS cannot work: each node is told the other nodes' addresses")
    addresses = [f"{LOOPBACK}:{port}" for port in free_ports(wanted)]
    return [
        ["--listen", own, "--no-mdns", *(word for other in addresses if other != own for word in ("--peer", other))]
        for own in addresses
    ]


def _import_and_wait(running: Sequence["DemoNode"], records_wanted: int, draw: Draw) -> tuple[list[Json], float]:
    """Import records into the first node and wait until all are equal; return their statuses, and the seconds taken.

    Raises Failure.
    """
    started_s = time.monotonic()
    deadline_s = started_s + _MEETING_TIMEOUT_S + records_wanted / _RECORDS_PER_S
    for _ in _import(running[0], records_wanted):
        draw([node.status() for node in running], time.monotonic() - started_s)
    while True:
        statuses = [node.status() for node in running]
        elapsed_s = time.monotonic() - started_s
        draw(statuses, elapsed_s)
        if are_equal(statuses) and records_in(statuses[0]) >= records_wanted:
            return statuses, elapsed_s
        if time.monotonic() > deadline_s:
            raise Failure(f"the nodes are not equal after {seconds(deadline_s - started_s)}", ExitCode.TIMED_OUT)
        time.sleep(_REFRESH_S)


def _import(node: "DemoNode", wanted: int) -> Iterator[None]:
    """Import `wanted` records, pausing after each batch."""
    from echonode.client.request import record_path

    path = record_path(_CONTEXT, "/import")
    with node.client.open("POST", path, body=_lines(wanted), timeout_s=_IMPORT_TIMEOUT_S) as response:
        for progress in response.values():
            if "error" in progress:
                raise Failure(f"{node.name} refused the records: {progress['error']['message']}")
            yield


def _lines(wanted: int) -> Iterator[bytes]:
    for number in range(wanted):
        text = f"This is record {number:,} of {wanted:,}. " + "It was made for a demonstration. " * (number % 5)
        body = {"number": number, "square": number * number, "text": text}
        yield json.dumps({"name": f"demo/{number:06}", "body": body, "tags": ["demo"]}).encode() + b"\n"


def are_equal(statuses: Sequence[Json]) -> bool:
    """Return True if all nodes hold the same contexts with the same roots."""
    roots = [{context["name"]: context["root"] for context in status["contexts"]} for status in statuses]
    return all(each == roots[0] for each in roots)


def records_in(status: Json) -> int:
    """Return the number of records in the demo's context at a node."""
    return sum(context["records"] for context in status["contexts"] if context["name"] == _CONTEXT)


def _root_in(status: Json) -> str:
    return next((safe(each["root"])[:_ROOT_CHARS] for each in status["contexts"] if each["name"] == _CONTEXT), "-")


@contextmanager
def _table() -> Iterator[Draw]:
    """Yield a function that draws the nodes: as a live table on a terminal, else as a line at each change."""
    if not sys.stdout.isatty():
        yield _Lines().draw
        return
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    with Live(transient=False, refresh_per_second=8) as live:

        def draw(statuses: Sequence[Json], elapsed_s: float) -> None:
            drawn = Table("node", "records", "root of main", "equal with", title=seconds(elapsed_s))
            for status in statuses:
                root = _root_in(status)
                colour = "green" if root == _root_in(statuses[0]) else "yellow"
                equal_with = sum(are_equal([status, other]) for other in statuses) - 1
                drawn.add_row(
                    Text(safe(status["name"])), f"{records_in(status):,}", Text(root, style=colour), str(equal_with)
                )
            live.update(drawn, refresh=True)

        yield draw


class _Lines:
    """Prints one line at each change."""

    def __init__(self) -> None:
        self._last = ""

    def draw(self, statuses: Sequence[Json], elapsed_s: float) -> None:
        nodes = [f"{safe(status['name'])} {records_in(status):,} {_root_in(status)}" for status in statuses]
        line = "   ".join(nodes)
        if line != self._last:
            self._last = line
            print_line(f"{elapsed_s:6.1f} s  {line}")
            sys.stdout.flush()


def _cost_lines(running: Sequence["DemoNode"], statuses: Sequence[Json]) -> Iterator[str]:
    """Yield the cost of each conversation that moved records."""
    names = {status["id"]: safe(status["name"]) for status in statuses}
    reported = [(names[status["id"]], node.conversations) for node, status in zip(running, statuses, strict=True)]
    moved, idle = split_conversations(reported)
    rows = [
        (
            f"{initiator} > {names.get(event['peer'], short_id(event['peer']))}",
            safe(event["context"]),
            safe(event["mode"]),
            f"{event['sent']:,}",
            f"{event['received']:,}",
            size(event["bytes_sent"] + event["bytes_received"]),
            f"{event['round_trips']}",
            seconds(event["duration_s"]),
            safe(event["reason"]),
        )
        for initiator, event in moved
    ]
    header = ("WHO ASKED WHOM", "CONTEXT", "MODE", "SENT", "RECEIVED", "TRAFFIC", "ROUND TRIPS", "TIME", "WHY")
    if rows:
        yield from table(header, rows, right=(3, 4, 5, 6, 7), optional=(6, 5))
    if idle:
        yield f"and {count(idle, 'conversation')} that found nothing to move"


def split_conversations(reported: Iterable[tuple[str, Sequence[Json]]]) -> tuple[list[tuple[str, Json]], int]:
    """Return the conversations that moved records, each with the name of the node that opened it, and the number of the
    rest.

    Both ends report each conversation; only the initiator's report counts.
    """
    opened = [(name, event) for name, events in reported for event in list(events) if event["role"] == "initiator"]
    moved = [(name, event) for name, event in opened if event["sent"] or event["received"]]
    return moved, len(opened) - len(moved)
