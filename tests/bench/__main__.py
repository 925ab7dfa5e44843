"""`python -m tests.bench [--records N] [--tree N] [--json FILE]`: figures, each beside the limit of this machine.

Real nodes run as processes over loopback. Compare ratios within one run, and never figures of different runs.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from tests.bench import idle, limits_here, live, modes
from tests.e2e.data import characters, write_lines
from tests.e2e.processes import NodeProcess, code_in, equal, running, wait_for

_IDLE_S = 60


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--records", type=int, default=50_000, help="records to import and replicate")
    parser.add_argument("--tree", type=int, default=100_000, help="records in the trees that are compared")
    parser.add_argument("--json", type=Path, help="write all figures here too")
    arguments = parser.parse_args()
    figures: dict[str, object] = {
        "sign_per_s": round(limits_here.sign_rate()),
        "verify_per_s_one_thread": round(limits_here.verify_rate(1)),
        "verify_per_s_two_threads": round(limits_here.verify_rate(2)),
    }
    with tempfile.TemporaryDirectory(prefix="echonode-bench-") as folder:
        figures |= _nodes(Path(folder), arguments.records)
    figures |= live.latency()
    figures["verify_per_s_two_threads_again"] = round(limits_here.verify_rate(2))
    figures["modes"] = modes.table(arguments.tree, [1, 100, 1000]) if arguments.tree else []
    _show(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def _nodes(folder: Path, count: int) -> dict[str, object]:
    lines = folder / "records.jsonl"
    written = write_lines(lines, (record for record, _ in zip(characters(), range(count), strict=False)))
    a, b, c = nodes = [NodeProcess(folder / name, name) for name in ("a", "b", "c")]
    figures: dict[str, object] = {"records": written}
    for _ in running(nodes):
        began = time.perf_counter()
        a.start()
        figures["start_to_answering_s"] = round(time.perf_counter() - began, 3)
        began = time.perf_counter()
        a.cli("import", str(lines))
        figures["import_per_s"] = round(written / (time.perf_counter() - began))
        b.start("--join", code_in(a.cli("invite").stdout.decode()))
        wait_for(lambda: equal([a, b], "main"), 600)
        figures["first_replication_per_s"] = _rate(b, written)
        c.start()
        c.cli("put", "own", "x")
        c.cli("join", code_in(a.cli("invite").stdout.decode()))
        wait_for(lambda: equal([a, c], "main"), 600)
        figures["replication_into_one_record_per_s"] = _rate(c, written)
        figures["rss_mib"] = {node.name: _rss_mib(node) for node in nodes}
        figures |= idle.figures(nodes, _IDLE_S)
    return figures


def _rate(node: NodeProcess, least: int) -> int:
    """Return records per second of the conversation that brought more than half of `least`."""
    big = wait_for(
        lambda: next((event for event in node.events("sync.completed") if event["received"] > least // 2), None)
    )
    return round(big["received"] / big["duration_s"])


def _rss_mib(node: NodeProcess) -> int:
    text = Path(f"/proc/{node.pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS"))) // 1024


def _show(figures: dict[str, object]) -> None:
    for name, value in figures.items():
        if name != "modes":
            print(f"{name:36} {value}")
    verify, sign = figures["verify_per_s_two_threads"], figures["sign_per_s"]
    for name, limit in (
        ("import_per_s", sign),
        ("first_replication_per_s", verify),
        ("replication_into_one_record_per_s", verify),
    ):
        print(f"{name + ' / limit':36} {figures[name] / limit:.0%}")
    for row in figures["modes"]:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
