"""The CPU time of short commands, from start to end of their process: `--help`, and `status` of a running node."""

import resource
import statistics
import subprocess
from collections.abc import Sequence

from tests.e2e.processes import NodeProcess

_TIMES = 9


def figures(node: NodeProcess) -> dict[str, float]:
    """Return medians in milliseconds. `node` runs."""
    return {"help_cpu_ms": _cpu_ms(node.command("--help")), "status_cpu_ms": _cpu_ms(node.command("status"))}


def _cpu_ms(command: Sequence[str]) -> float:
    return round(1000 * statistics.median(_cpu_s(command) for _ in range(_TIMES)))


def _cpu_s(command: Sequence[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
