"""Spread: the bytes that a write costs each node of a large network, in virtual time (`echonode simulate`)."""

import json
import subprocess
import sys
from pathlib import Path


def figures(folder: Path, nodes: int) -> dict[str, float]:
    """Return the figures of a calm network of so many nodes; exact for a version, whatever machine runs it."""
    path = folder / "figures.json"
    command = [sys.executable, "-m", "echonode", "simulate", "--nodes", str(nodes), "--records", "200"]
    subprocess.run([*command, "--json", str(path)], check=True, capture_output=True)
    (world,) = json.loads(path.read_text())
    return {
        f"spread_{nodes}_bytes_per_record_byte": round(world["bytes_per_write"] / world["bytes_of_write"], 2),
        f"spread_{nodes}_median_lag_ms": round(1000 * world["median_lag_s"], 1),
        f"spread_{nodes}_worst_lag_ms": round(1000 * world["worst_lag_s"], 1),
        f"spread_{nodes}_idle_bytes_s": world["idle_bytes_s"],
    }
