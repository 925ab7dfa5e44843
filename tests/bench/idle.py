"""`python -m tests.bench.idle [--seconds N]`: what two nodes cost that follow each other while nothing happens.

Real nodes as processes over loopback, API and mDNS included. Whoever asks a node about itself wakes it: nobody does
while it is measured.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.processes import NodeProcess, code_in, equal, running, wait_for

_SETTLE_S = 20.0  # behind the last request: roots are told, logs are folded, sightings are over
_HOUR_S = 3600


def figures(nodes: Sequence[NodeProcess], seconds: float) -> dict[str, float]:
    """CPU in percent of a core, and bytes and files written in an hour, for each node at rest; the worst of them."""
    time.sleep(_SETTLE_S)
    before = [(_cpu_s(node), _written_bytes(node), _files(node)) for node in nodes]
    began_s = time.monotonic()
    time.sleep(seconds)
    spent_s = time.monotonic() - began_s
    after = [(_cpu_s(node), _written_bytes(node), _files(node)) for node in nodes]
    pairs = list(zip(before, after, strict=True))
    return {
        "idle_s": round(spent_s),
        "idle_cpu_percent": round(max(100 * (now[0] - then[0]) / spent_s for then, now in pairs), 3),
        "idle_written_bytes_per_hour": round(max((now[1] - then[1]) * _HOUR_S / spent_s for then, now in pairs)),
        "idle_files_touched": max(len(now[2] ^ then[2]) for then, now in pairs),
    }


def _cpu_s(node: NodeProcess) -> float:
    """Of all its threads, to the nanosecond: ticks of ten milliseconds say nothing of a node at rest."""
    threads = Path(f"/proc/{node.pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def _written_bytes(node: NodeProcess) -> int:
    """What it had the disk write."""
    lines = Path(f"/proc/{node.pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def _files(node: NodeProcess) -> set[tuple[str, int]]:
    """Its files, and when each was written last."""
    return {(str(path), path.stat().st_mtime_ns) for path in node.home.rglob("*") if path.is_file()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.idle")
    parser.add_argument("--seconds", type=float, default=300.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="echonode-idle-") as folder:
        a, b = nodes = [NodeProcess(Path(folder) / name, name) for name in ("a", "b")]
        for _ in running(nodes):
            a.start()
            a.cli("put", "one", "x")
            b.start("--join", code_in(a.cli("invite").stdout.decode()))
            wait_for(lambda: equal([a, b], "main") and all(node.events("follow.began") for node in nodes))
            for name, value in figures(nodes, asked.seconds).items():
                print(f"{name:36} {value}")


if __name__ == "__main__":
    main()
