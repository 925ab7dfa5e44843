"""`python -m tests.bench [--quick | --full] [--only PART ..] [--json FILE]`: figures, each beside its goal.

    limits    signing, verifying on one and two threads: what this machine could reach
    nodes     import, first replication, replication into one record, memory, idle cost, short commands
    live      one put until a follower can read it, beside one bare durable row
    beside    the same while a peer imports into another context
    catchup   a node that was away goes on from its cursor
    inside    one store and one tree: CPU time of a write and its growth, pages of a put, upkeep of the tree
    modes     bytes and round trips of the modes that walk a tree

Real nodes run as processes over loopback. Compare ratios within one run, and never figures of different runs: the last
line says how busy the machine was with other things.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tests.bench import beside, catchup, command, goals, idle, inside, limits_here, live, modes
from tests.e2e.data import characters, write_lines
from tests.e2e.processes import NodeProcess, code_in, equal, running, wait_for


@dataclass(frozen=True, slots=True)
class Size:
    """The amounts of one run."""

    records: int  # imported and replicated
    tree: int  # in the trees that are compared
    idle_s: float
    absences: int  # after which a node catches up


QUICK = Size(5_000, 5_000, 10, 2)
USUAL = Size(50_000, 100_000, 60, 5)
FULL = Size(100_000, 1_000_000, 300, 7)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--quick", action="store_const", dest="size", const=QUICK, help="in two minutes")
    amount.add_argument("--full", action="store_const", dest="size", const=FULL, help="in an hour")
    parser.add_argument("--only", action="append", choices=PARTS, help="measure this part; may be repeated")
    parser.add_argument("--records", type=int, help="records to import and replicate")
    parser.add_argument("--json", type=Path, help="write all figures here too")
    arguments = parser.parse_args()
    size = arguments.size or USUAL
    if arguments.records:
        size = Size(arguments.records, size.tree, size.idle_s, size.absences)
    figures: dict[str, Any] = {}
    began_s, busy_s = time.monotonic(), _busy_s()
    for name, part in PARTS.items():
        if arguments.only and name not in arguments.only and name != "limits":
            continue
        with tempfile.TemporaryDirectory(prefix="echonode-bench-") as folder:
            figures |= part(Path(folder), size)
    if "first_replication_per_s" in figures:
        figures["verify_per_s_two_threads_again"] = round(limits_here.verify_rate(2))
    others = _busy_s() - busy_s - sum(os.times()[:4])
    figures["cores_busy_with_other_things"] = round(max(0.0, others) / (time.monotonic() - began_s), 2)
    _show(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def _busy_s() -> float:
    """Return the CPU seconds that all processes of this machine have used, 0 where nothing tells."""
    try:
        fields = Path("/proc/stat").read_text().split()[1:9]
    except OSError:
        return 0.0
    user, nice, system, _, _, irq, softirq, _ = map(int, fields)
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _limits(_: Path, __: Size) -> dict[str, Any]:
    return {
        "sign_per_s": round(limits_here.sign_rate()),
        "verify_per_s_one_thread": round(limits_here.verify_rate(1)),
        "verify_per_s_two_threads": round(limits_here.verify_rate(2)),
    }


def _nodes(folder: Path, size: Size) -> dict[str, Any]:
    lines = folder / "records.jsonl"
    written = write_lines(lines, islice(characters(), size.records))
    a, b, c = nodes = [NodeProcess(folder / name, name) for name in ("a", "b", "c")]
    figures: dict[str, Any] = {"records": written}
    for _ in running(nodes):
        began = time.perf_counter()
        a.start()
        figures["start_to_answering_s"] = round(time.perf_counter() - began, 3)
        figures["idle_rss_mib"] = _rss_mib(a)
        figures |= command.figures(a)
        began, cpu_s = time.perf_counter(), idle.cpu_s(a)
        a.cli("import", str(lines))
        figures["import_per_s"] = round(written / (time.perf_counter() - began))
        figures["import_cpu_us"] = round(1e6 * (idle.cpu_s(a) - cpu_s) / written, 1)
        b.start()
        figures |= {f"first_replication_{name}": value for name, value in _join(a, b, written).items()}
        c.start()
        c.cli("put", "own", "x")
        figures |= {f"replication_into_one_record_{name}": value for name, value in _join(a, c, written).items()}
        figures["rss_mib"] = {node.name: _rss_mib(node) for node in nodes}
        figures |= idle.figures(nodes, size.idle_s)
    return figures


def _join(sender: NodeProcess, receiver: NodeProcess, count: int) -> dict[str, float]:
    """Let `receiver` join, and return what the conversation cost that brought more than half of `count` records.

    Nothing else runs meanwhile: a command asking for the state again and again would take one of two cores."""
    code, before_s = code_in(sender.cli("invite").stdout.decode()), idle.cpu_s(sender)
    received_s = idle.cpu_s(receiver)
    receiver.cli("join", code)
    big = wait_for(
        lambda: next((event for event in receiver.events("sync.completed") if event["received"] > count // 2), None),
        600,
    )
    figures = {
        "per_s": round(big["received"] / big["duration_s"]),
        "cpu_us": round(1e6 * (idle.cpu_s(receiver) - received_s) / count, 1),
        "sender_cpu_us": round(1e6 * (idle.cpu_s(sender) - before_s) / count, 1),
    }
    wait_for(lambda: equal([sender, receiver], "main"), 600)
    return figures


def _rss_mib(node: NodeProcess) -> int:
    text = Path(f"/proc/{node.pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS"))) // 1024


def _modes(_: Path, size: Size) -> dict[str, Any]:
    rows = modes.table(size.tree, [1, 100, 1000])
    figures: dict[str, Any] = {"modes": rows}
    if size.tree == FULL.tree:  # the goal is one for large sets
        (most,) = [row for row in rows if row["mode"] == "level_wise" and row["differences"] == 1000]
        figures["level_wise_bytes_each"] = round(most["bytes_without_records"] / most["differences"])
    return figures


PARTS: dict[str, Callable[[Path, Size], dict[str, Any]]] = {
    "limits": _limits,
    "nodes": _nodes,
    "live": lambda _, __: live.latency(),
    "beside": lambda folder, size: beside.latency(folder, size.records),
    "catchup": lambda folder, size: catchup.figures(folder, size.records, size.records // 50, size.absences),
    "inside": lambda folder, size: inside.figures(folder, size.records),
    "modes": _modes,
}


def _show(figures: dict[str, Any]) -> None:
    for name, value in figures.items():
        if name != "modes":
            print(f"{name:36} {value}")
    for row in figures.get("modes", ()):
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    print()
    for line in goals.lines(figures):
        print(line)


if __name__ == "__main__":
    main()
