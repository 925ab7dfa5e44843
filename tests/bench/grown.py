"""One node as it grows: the cost of an imported record, memory, the store, and a start, at more and more records.

    python -m tests.bench.grown [--records N]

A node process imports N records in ten parts. Then it stops and starts again, with all of them.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.idle import cpu_s
from tests.e2e.processes import NodeProcess, running, wait_for

_PARTS = 10
_BODY_CHARS = 200


def figures(folder: Path, count: int) -> dict[str, Any]:
    """Return the figures; `grown` has a row for each part. `count`: a multiple of ten."""
    node = NodeProcess(folder / "node", "node", mdns=False)
    lines, part = folder / "records.jsonl", count // _PARTS
    rows = []
    for _ in running([node]):
        node.start()
        for first in range(0, count, part):
            _write(lines, range(first, first + part))
            began_s, before_s = time.perf_counter(), cpu_s(node)
            node.cli("import", str(lines))
            rows.append(
                {
                    "records": first + part,
                    "import_cpu_us": round(1e6 * (cpu_s(node) - before_s) / part, 1),
                    "import_per_s": round(part / (time.perf_counter() - began_s)),
                    "rss_mib": rss_mib(node),
                }
            )
        record_bytes = next(each["bytes"] for each in node.json("status")["contexts"] if each["name"] == "main")
        node.stop()
        store_bytes = sum(path.stat().st_size for path in node.home.glob("*.db*"))
        began_s = time.perf_counter()
        node.spawn()
        wait_for(lambda: (node.home / "api.sock").exists() and node.events("node.started"), 120)
        start_s = time.perf_counter() - began_s
        wait_for(lambda: node.cli("status", check=False).returncode == 0)
        start_cpu_s, rss = cpu_s(node), rss_mib(node)
    return {
        "grown": rows,
        "grown_records": count,
        "grown_import_cpu_growth": round(_late(rows) / rows[0]["import_cpu_us"], 2),
        "grown_rss_mib": rss,
        "grown_start_s": round(start_s, 2),
        "grown_start_cpu_s": round(start_cpu_s, 2),
        "grown_store_bytes_per_record_byte": round(store_bytes / record_bytes, 2),
    }


def _late(rows: Sequence[dict[str, Any]]) -> float:
    """Return the cost of a record in the last two parts."""
    return sum(float(row["import_cpu_us"]) for row in rows[-2:]) / 2


def _write(path: Path, numbers: range) -> None:
    with path.open("w") as file:
        for number in numbers:
            body = os.urandom(_BODY_CHARS // 2).hex()
            file.write(json.dumps({"name": f"record-{number}", "body": body}) + "\n")


def rss_mib(node: NodeProcess) -> int:
    """Return the memory that the process has in use."""
    text = Path(f"/proc/{node.pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS"))) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.grown")
    parser.add_argument("--records", type=int, default=100_000)
    with tempfile.TemporaryDirectory(prefix="echonode-grown-") as folder:
        found = figures(Path(folder), parser.parse_args().records)
        for row in found.pop("grown"):
            print("  ".join(f"{key} {value}" for key, value in row.items()))
        for name, value in found.items():
            print(f"{name:36} {value}")


if __name__ == "__main__":
    main()
