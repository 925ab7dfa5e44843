"""`python -m tests.bench.catchup [--records N] [--differences D] [--times T]`: a node that was away catches up.

Real nodes run as processes over loopback. One is stopped, the other takes D records, and the first starts again and
goes on from its cursor. The figure is the duration of that conversation, beside the time to verify D signatures on two
threads.
"""

import argparse
import statistics
import tempfile
from collections import Counter
from itertools import islice
from pathlib import Path

from tests.bench.limits_here import verify_rate
from tests.e2e.data import characters, write_lines
from tests.e2e.processes import NodeProcess, code_in, equal, running, wait_for


def figures(folder: Path, count: int, differences: int, times: int) -> dict[str, object]:
    """Return medians over `times` absences; those after which the node did not use its cursor do not count."""
    lines, source = folder / "records.jsonl", characters()
    a, b = nodes = [NodeProcess(folder / name, name) for name in ("a", "b")]
    took_s, limit_s, modes = [], [], Counter[str]()
    for _ in running(nodes):
        a.start()
        write_lines(lines, islice(source, count))
        a.cli("import", str(lines))
        b.start("--join", code_in(a.cli("invite").stdout.decode()))
        wait_for(lambda: equal(nodes, "main"), 600)
        for _ in range(times):
            b.stop()
            write_lines(lines, islice(source, differences))
            a.cli("import", str(lines))
            b.lines.clear()
            b.start()
            wait_for(lambda: equal(nodes, "main"))
            brought = wait_for(lambda: [each for each in b.events("sync.completed") if each["received"]])
            modes.update(each["mode"] for each in brought)
            by_cursor = [each["duration_s"] for each in brought if each["mode"] == "delta"]
            if by_cursor:  # now and then the nodes select another mode, and that is not measured
                took_s.append(sum(by_cursor))
                limit_s.append(differences / verify_rate(2))
    return {
        "catchup_modes": dict(modes),
        "catchup_ms": round(1000 * statistics.median(took_s)),
        "catchup_best_ms": round(1000 * min(took_s)),
        "catchup_verifying_alone_ms": round(1000 * statistics.median(limit_s)),
        "catchup_in_verifying": round(statistics.median(took_s) / statistics.median(limit_s), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.catchup")
    parser.add_argument("--records", type=int, default=100_000, help="records that both hold")
    parser.add_argument("--differences", type=int, default=1_000, help="records that one has missed")
    parser.add_argument("--times", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="echonode-catchup-") as folder:
        for name, value in figures(Path(folder), arguments.records, arguments.differences, arguments.times).items():
            print(f"{name:36} {value}")


if __name__ == "__main__":
    main()
