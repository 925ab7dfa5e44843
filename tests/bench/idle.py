"""`python -m tests.bench.idle [--seconds N]`: the cost of two nodes that follow each other while nothing happens.

Real nodes run as processes over loopback, with API and mDNS. A request wakes a node, so nothing asks the nodes while
they are measured.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.processes import NodeProcess, code_in, equal, running, wait_for

_PAUSE_S = 20.0  # after the last request, for roots to be sent, logs to be folded and sightings to end
_HOUR_S = 3600


def figures(nodes: Sequence[NodeProcess], seconds: float) -> dict[str, float]:
    """Return CPU in percent of a core, bytes and files written per hour: of the worst node, while all are idle."""
    time.sleep(_PAUSE_S)
    before = [(cpu_s(node), _written_bytes(node), _files(node)) for node in nodes]
    began_s = time.monotonic()
    time.sleep(seconds)
    spent_s = time.monotonic() - began_s
    after = [(cpu_s(node), _written_bytes(node), _files(node)) for node in nodes]
    pairs = list(zip(before, after, strict=True))
    return {
        "idle_s": round(spent_s),
        "idle_cpu_percent": round(max(100 * (now[0] - then[0]) / spent_s for then, now in pairs), 3),
        "idle_written_bytes_per_hour": round(max((now[1] - then[1]) * _HOUR_S / spent_s for then, now in pairs)),
        "idle_files_touched": max(len(now[2] ^ then[2]) for then, now in pairs),
    }


def cpu_s(node: NodeProcess) -> float:
    """Return the CPU seconds of all threads, to the nanosecond: ticks of 10 ms are too coarse for an idle node."""
    threads = Path(f"/proc/{node.pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def _written_bytes(node: NodeProcess) -> int:
    """Return the bytes that the process made the disk write."""
    lines = Path(f"/proc/{node.pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def _files(node: NodeProcess) -> set[tuple[str, int]]:
    """Return the node's files, each with the time of its last write."""
    return {(str(path), path.stat().st_mtime_ns) for path in node.home.rglob("*") if path.is_file()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.idle")
    parser.add_argument("--seconds", type=float, default=300.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="echonode-idle-") as folder:
        a, b = nodes = [NodeProcess(Path(folder) / name, name) for name in ("a", "b")]
        for _ in running(nodes):
            a.start()
            a.cli("put", "one", "x")
            b.start("--join", code_in(a.cli("invite").stdout.decode()))
            wait_for(lambda: equal([a, b], "main") and all(node.events("follow.began") for node in nodes))
            for name, value in figures(nodes, arguments.seconds).items():
                print(f"{name:36} {value}")


if __name__ == "__main__":
    main()
