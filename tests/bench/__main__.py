"""`python -m tests.bench [--quick | --full] [--only PART ..] [--peers] [--plot DIR] [--json FILE]`: figures and goals.

    limits    signing, verifying, durable rows, frames over loopback: what this machine could reach
    nodes     import, first replication, replication into one record, memory, idle cost, short commands
    live      one put until a follower can read it, beside one bare durable row
    steady    the same while 1,000 puts a second come
    connect   a peer is sighted, until both are proved equal
    beside    the same while a peer imports into another context
    catchup   a node that was away goes on from its cursor
    inside    one store and one tree: CPU time of a write and its growth, pages of a put, upkeep of the tree
    grown     one node at more and more records: imports, memory, store, start
    modes     bytes and round trips of the modes, and what reconciliation takes
    spread    bytes that a write costs a node of 50, with --full of 1,000, in virtual time

Real nodes run as processes over loopback. Compare ratios within one run, and never figures of different runs: the last
line says how busy the machine was with other things.
"""

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from echonode.cli.machine_limits import MachineLoad
from tests.bench import (
    beside,
    catchup,
    command,
    connect,
    goals,
    grown,
    idle,
    inside,
    limits_here,
    live,
    modes,
    network_plot,
    peers,
    spread,
    steady,
)
from tests.e2e.data import characters, write_lines
from tests.e2e.processes import NodeProcess, code_in, equal, running, wait_for

_SAMPLE_S = 0.1


@dataclass(frozen=True, slots=True)
class Size:
    """The amounts of one run."""

    records: int  # imported and replicated
    tree: int  # in the trees that are compared
    idle_s: float
    absences: int  # after which a node catches up
    steady_s: float  # of 1,000 puts a second
    grown: int  # records of the node that grows


QUICK = Size(5_000, 5_000, 10, 2, 10, 10_000)
USUAL = Size(50_000, 100_000, 60, 5, 60, 100_000)
FULL = Size(100_000, 1_000_000, 300, 7, 60, 1_000_000)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--quick", action="store_const", dest="size", const=QUICK, help="in two minutes")
    amount.add_argument("--full", action="store_const", dest="size", const=FULL, help="in an hour")
    parser.add_argument("--only", action="append", choices=PARTS, help="measure this part; may be repeated")
    parser.add_argument("--records", type=int, help="records to import and replicate")
    parser.add_argument("--peers", action="store_true", help="measure other systems too, where npm installs them")
    parser.add_argument("--json", type=Path, help="write all figures here too")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw charts of what is measured into this folder")
    arguments = parser.parse_args()
    size = arguments.size or USUAL
    if arguments.records:
        size = replace(size, records=arguments.records)
    figures: dict[str, Any] = {}
    load = MachineLoad()
    for name, part in PARTS.items():
        if arguments.only and name not in arguments.only and name != "limits":
            continue
        with tempfile.TemporaryDirectory(prefix="echonode-bench-") as folder:
            figures |= part(Path(folder), size)
    if arguments.peers:
        with tempfile.TemporaryDirectory(prefix="echonode-peers-") as folder:
            figures |= peers.figures(Path(folder), size.records)
    if "first_replication_per_s" in figures:
        figures["verify_per_s_two_threads_again"] = round(limits_here.verify_rate(2))
    figures["cores_busy_with_other_things"] = load.cores_busy_elsewhere()
    _show(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    if arguments.plot:
        for path in network_plot.write(arguments.plot, figures):
            print(path)


def _limits(folder: Path, _: Size) -> dict[str, Any]:
    return {
        "sign_per_s": round(limits_here.sign_rate()),
        "verify_per_s_one_thread": round(limits_here.verify_rate(1)),
        "verify_per_s_two_threads": round(limits_here.verify_rate(2)),
        "durable_row_ms": round(limits_here.durable_row_ms(folder), 3),
        "log_rows_per_s": round(limits_here.log_rows_rate(folder)),
        "loopback_frames_per_s": round(limits_here.frame_rate()),
    }


def _nodes(folder: Path, size: Size) -> dict[str, Any]:
    lines = folder / "records.jsonl"
    written = write_lines(lines, islice(characters(), size.records))
    a, b, c = nodes = [NodeProcess(folder / name, name) for name in "abc"]
    others = [NodeProcess(folder / f"b{number}", f"b{number}") for number in range(1, size.absences)]
    figures: dict[str, Any] = {"records": written}
    for _ in running([*nodes, *others]):
        began = time.perf_counter()
        a.start()
        figures["start_to_answering_s"] = round(time.perf_counter() - began, 3)
        figures["idle_rss_mib"] = grown.rss_mib(a)
        figures |= command.figures(a)
        began, cpu_s = time.perf_counter(), idle.cpu_s(a)
        a.cli("import", str(lines))
        figures["import_per_s"] = round(written / (time.perf_counter() - began))
        figures["import_cpu_us"] = round(1e6 * (idle.cpu_s(a) - cpu_s) / written, 1)
        runs, limits = [], []
        for receiver in (b, *others):
            receiver.start()
            with _Progress(receiver, written) as progress:
                runs.append(_join(a, receiver, written))
            limits.append(limits_here.verify_rate(2))
            if receiver is not b:
                receiver.stop()
        figures |= {f"first_replication_{name}": statistics.median(run[name] for run in runs) for name in runs[0]}
        figures["first_replication_in_verifying"] = round(
            statistics.median(run["per_s"] / limit for run, limit in zip(runs, limits, strict=True)), 3
        )
        figures["first_replication_progress"] = progress.points
        c.start()
        c.cli("put", "own", "x")
        figures |= {f"replication_into_one_record_{name}": value for name, value in _join(a, c, written).items()}
        figures["rss_mib"] = {node.name: grown.rss_mib(node) for node in nodes}
        figures |= idle.figures(nodes, size.idle_s)
    return figures


def _join(sender: NodeProcess, receiver: NodeProcess, count: int) -> dict[str, float]:
    """Let `receiver` join, and return what the conversation cost that brought more than half of `count` records.

    Nothing else runs meanwhile: a command asking for the state again and again would take one of two cores."""
    code = code_in(sender.cli("invite").stdout.decode())
    sender_s, receiver_s = _cpu_s(sender), _cpu_s(receiver)
    receiver.cli("join", code)
    big = wait_for(
        lambda: next((event for event in receiver.events("sync.completed") if event["received"] > count // 2), None),
        600,
    )
    figures = {
        "per_s": round(big["received"] / big["duration_s"]),
        "cpu_us": round(1e6 * (_cpu_s(receiver) - receiver_s) / count, 1),
        "sender_cpu_us": round(1e6 * (_cpu_s(sender) - sender_s) / count, 1),
    }
    wait_for(lambda: equal([sender, receiver], "main"), 600)
    return figures


def _cpu_s(node: NodeProcess) -> float:
    """Return the CPU seconds of the process in ticks, threads that have ended included: a snapshot has one of its own.
    """
    fields = Path(f"/proc/{node.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Progress:
    """Samples how far a node has come, by the bytes that it wrote: to ask it would slow it down. `points`: (seconds,
    records), as if each byte were as much of a record as the next."""

    def __init__(self, node: NodeProcess, records: int) -> None:
        self._node, self._records = node, records
        self._samples: list[tuple[float, int]] = []
        self._is_over = threading.Event()
        self._sampler = threading.Thread(target=self._sample)

    def __enter__(self) -> "_Progress":
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._sampler.join()

    def _sample(self) -> None:
        began_s = time.perf_counter()
        while not self._is_over.wait(_SAMPLE_S):
            fields = Path(f"/proc/{self._node.pid}/io").read_text().split()
            self._samples.append((time.perf_counter() - began_s, int(fields[fields.index("wchar:") + 1])))

    @property
    def points(self) -> list[tuple[float, float]]:
        if not self._samples:
            return []
        first, last = self._samples[0][1], self._samples[-1][1]
        scale = self._records / max(1, last - first)
        return [(round(at_s, 2), round((written - first) * scale)) for at_s, written in self._samples]


def _modes(_: Path, size: Size) -> dict[str, Any]:
    return {"modes": modes.table(size.tree, [1, 100, 1000])} | modes.figures(size.tree, [100, min(10_000, size.tree)])


def _grown(folder: Path, size: Size) -> dict[str, Any]:
    found = grown.figures(folder, size.grown)
    if size.grown == FULL.grown:  # the goals are those of a million records
        found |= {name.replace("grown_", "million_"): value for name, value in found.items()}
    return found


def _spread(folder: Path, size: Size) -> dict[str, Any]:
    figures = spread.figures(folder, 50)
    return figures | spread.figures(folder, 1000) if size == FULL else figures


PARTS: dict[str, Callable[[Path, Size], dict[str, Any]]] = {
    "limits": _limits,
    "nodes": _nodes,
    "live": lambda _, __: live.latency(),
    "steady": lambda folder, size: steady.latency(folder, size.steady_s),
    "connect": lambda _, __: connect.figures(),
    "beside": lambda folder, size: beside.latency(folder, size.records),
    "catchup": lambda folder, size: catchup.figures(folder, size.records, size.records // 50, size.absences),
    "inside": lambda folder, size: inside.figures(folder, size.records),
    "grown": _grown,
    "modes": _modes,
    "spread": _spread,
}
_TABLES = ("modes", "grown")  # figures that are rows


def _show(figures: dict[str, Any]) -> None:
    for name, value in figures.items():
        if not isinstance(value, list):
            print(f"{name:36} {value}")
    for row in (row for table in _TABLES for row in figures.get(table, ())):
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    print()
    for line in goals.lines(figures):
        print(line)


if __name__ == "__main__":
    main()
