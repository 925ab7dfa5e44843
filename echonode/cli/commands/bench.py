"""bench: what two nodes do on this machine, beside what the machine itself could do.

Two real nodes run as processes in temporary homes. One imports records, the other takes them all, and then single puts
travel. Each figure stands beside the limit that bounds it, measured in the same run: a record costs a signature where
it is written, a verification where it arrives, and a durable write on both disks.
"""

import json
import os
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from echonode.cli.arguments import json_option
from echonode.cli.columns import table
from echonode.cli.commands.demo import are_equal, records_in
from echonode.cli.exit_codes import ExitCode, Failure
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import count, print_json, print_line, print_note, print_text, seconds

if TYPE_CHECKING:
    from echonode.cli.demo_nodes import DemoNode, DemoNodes

_CONTEXT: Final = "main"
_BODY_CHARS: Final = 150  # with name, signature and the rest a version of about 400 bytes
_PUTS: Final = 100
_PAUSE_S: Final = 0.01  # between two puts: each travels alone
_POLL_S: Final = 0.1
_ARRIVAL_TIMEOUT_S: Final = 20.0
_MEETING_TIMEOUT_S: Final = 90.0
_RECORDS_PER_S: Final = 200  # far fewer than any machine takes: a run that gives up shows nothing

_BUSY_CORES_MIN: Final = 0.1  # kept busy by other programs: less changes no figure

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one run, as --json writes them. `cores_busy_elsewhere` is None where no file tells it."""

    records: int
    cores: int
    sign_per_s: int
    verify_per_s_one_core: int
    verify_per_s: int
    durable_write_ms: float
    start_s: float
    import_per_s: int
    first_replication_per_s: int
    live_p50_ms: float
    live_p99_ms: float
    cores_busy_elsewhere: float | None


@examples("bench", "bench --records 50000 --json")
@click.command("bench")
@click.option("--records", type=click.IntRange(1000, 200_000), default=10_000, show_default=True)
@json_option
@pass_lookup
def bench(lookup: NodeLookup, records: int, as_json: bool) -> ExitCode:
    """Measure two nodes on this machine, beside what it could do.

    Takes less than a minute, and leaves nothing behind. The nodes' homes are in the folder for temporary files; TMPDIR
    names another, on the disk that is to be measured.
    """
    from echonode.cli.demo_nodes import DemoNodes, stop_signals
    from echonode.cli.machine_limits import MachineLoad

    load = MachineLoad()
    with (
        stop_signals(),
        tempfile.TemporaryDirectory(prefix="echonode-bench-", ignore_cleanup_errors=True) as root,
    ):
        with DemoNodes(lookup.services, Path(root)) as nodes:
            figures = _measure(nodes, Path(root), records)
        figures["cores_busy_elsewhere"] = load.cores_busy_elsewhere()
    found = Figures(records=records, **figures)
    if as_json:
        print_json(asdict(found))
        return ExitCode.DONE
    for line in table_of(found):
        print_line(line)
    print_text(_conditions(found, tempfile.gettempdir()))
    return ExitCode.DONE


def _measure(nodes: "DemoNodes", root: Path, records: int) -> Json:
    from echonode.cli.demo_nodes import LOOPBACK, free_ports
    from echonode.cli.machine_limits import durable_write_s, sign_rate, verify_rate

    cores = _cores()
    print_note("measuring this machine")
    figures: Json = {
        "cores": cores,
        "sign_per_s": round(sign_rate()),
        "verify_per_s_one_core": round(verify_rate(1)),
        "verify_per_s": round(verify_rate(cores)),
        "durable_write_ms": round(1000 * durable_write_s(root), 3),
    }
    here, there = (f"{LOOPBACK}:{port}" for port in free_ports(2))
    options = ["--no-mdns", "--log-format", "json"]
    began_s = time.monotonic()
    one = nodes.start("one", [*options, "--listen", here])
    one.wait_ready()
    figures["start_s"] = round(time.monotonic() - began_s, 2)
    print_note(f"importing {count(records, 'record')} into a node")
    figures["import_per_s"] = round(records / _import(one, records))
    print_note("starting a second node, which takes them all")
    code = one.client.call("POST", "/v1/invitations", body={})["code"]
    two = nodes.start("two", [*options, "--listen", there, "--peer", here, "--join", code])
    two.wait_ready()
    figures["first_replication_per_s"] = round(_replication_rate(one, two, records))
    print_note(f"putting {count(_PUTS, 'record')}, one after the other")
    times_ms = sorted(1000 * taken_s for taken_s in _travel(one, two))
    figures["live_p50_ms"] = round(times_ms[len(times_ms) // 2], 2)
    figures["live_p99_ms"] = round(times_ms[int(0.99 * len(times_ms))], 2)
    return figures


def _cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _import(node: "DemoNode", records: int) -> float:
    """Import `records` records; return the seconds taken. Raises Failure when the node refuses them."""
    from echonode.client.request import record_path

    lines = list(_lines(records))
    began_s = time.monotonic()
    with node.client.open("POST", record_path(_CONTEXT, "/import"), body=iter(lines), timeout_s=None) as response:
        for progress in response.values():
            if "error" in progress:
                raise Failure(f"{node.name} refused the records: {progress['error']['message']}")
    return time.monotonic() - began_s


def _lines(records: int) -> Iterator[bytes]:
    for number in range(records):
        text = f"{number} ".ljust(_BODY_CHARS, "x")
        yield json.dumps({"name": f"bench/{number:06}", "body": text}).encode() + b"\n"


def _replication_rate(one: "DemoNode", two: "DemoNode", records: int) -> float:
    """Wait until both nodes are equal. Return the records per second of the conversation that brought most of them.
    Raises Failure."""
    deadline_s = time.monotonic() + _MEETING_TIMEOUT_S + records / _RECORDS_PER_S
    while True:
        statuses = [one.status(), two.status()]
        if are_equal(statuses) and records_in(statuses[1]) >= records:
            break
        if time.monotonic() > deadline_s:
            raise Failure("the second node did not get all records in time", ExitCode.TIMED_OUT)
        time.sleep(_POLL_S)
    most = max(_conversations(two), key=lambda event: int(event["received"]))
    return float(most["received"]) / max(float(most["duration_s"]), 1e-3)


def _conversations(node: "DemoNode") -> Iterator[Json]:
    """Yield the conversations in the log of `node`."""
    for line in node.log.read_bytes().splitlines():
        if line.startswith(b"{") and (event := json.loads(line))["event"] == "sync.completed":
            yield event


def _travel(one: "DemoNode", two: "DemoNode") -> Iterator[float]:
    """Put one record after the other at `one`; yield for each the seconds until a program at `two` has it."""
    from echonode.client.errors import ClientError
    from echonode.client.synchronous import Client

    reader, writer = Client(location=two.location, retry=0), Client(location=one.location)
    cursor = reader.cursor(_CONTEXT)
    arrived: queue.SimpleQueue[tuple[str, float]] = queue.SimpleQueue()

    def read() -> None:
        with suppress(ClientError):  # the node was stopped: there are no more changes
            for change in reader.changes(_CONTEXT, since=cursor):
                arrived.put((change.record.name, time.perf_counter()))

    threading.Thread(target=read, name="changes", daemon=True).start()
    for number in range(_PUTS):
        name = f"live/{number}"
        began_s = time.perf_counter()
        writer.put(name, "x" * _BODY_CHARS)
        while True:
            try:
                came, at_s = arrived.get(timeout=_ARRIVAL_TIMEOUT_S)
            except queue.Empty:
                raise Failure("a put did not arrive at the second node", ExitCode.TIMED_OUT) from None
            if came == name:
                break
        yield at_s - began_s
        time.sleep(_PAUSE_S)


def table_of(figures: Figures) -> Iterator[str]:
    """Yield the lines of the table: each figure, the limit that bounds it, and their ratio."""
    puts = figures.live_p50_ms / max(figures.durable_write_ms, 1e-3)
    cores = "1 core" if figures.cores == 1 else f"{figures.cores} cores"
    rows = [
        ("a node starts", seconds(figures.start_s), "", ""),
        (
            "import, records a second",
            f"{figures.import_per_s:,}",
            f"{figures.sign_per_s:,} signatures on 1 core",
            f"{figures.import_per_s / figures.sign_per_s:.0%}",
        ),
        (
            "first replication, a second",
            f"{figures.first_replication_per_s:,}",
            f"{figures.verify_per_s:,} verified on {cores}",
            f"{figures.first_replication_per_s / figures.verify_per_s:.0%}",
        ),
        (
            "a put, until it is there",
            f"{figures.live_p50_ms:.1f} ms",
            f"{figures.durable_write_ms:.2f} ms a durable write",
            f"{puts:.1f} x",
        ),
        ("the slowest of 100 puts", f"{figures.live_p99_ms:.1f} ms", "", ""),
    ]
    yield from table(("TWO NODES", "ECHONODE", "THIS MACHINE ALONE", "RATIO"), rows, right=(1, 2, 3), width=80)


def _conditions(figures: Figures, folder: str) -> str:
    """Return a sentence on what the figures depend on."""
    text = (
        f"\n{count(figures.records, 'record')} of about 400 bytes, each signed, verified and written durably at both "
        f"nodes, which shared this machine. Two programs time a put over the API. The disk is that of {folder}."
    )
    elsewhere = figures.cores_busy_elsewhere
    if elsewhere is not None and elsewhere >= _BUSY_CORES_MIN:
        cores = count(figures.cores, "core")
        says = "figures and ratios are worse than they were without them"
        text += f" Other programs kept {elsewhere:.1f} of {cores} busy: {says}."
    return text
