"""`python -m tests.bench --peers`: what other systems do here, in the same run: first replication and live latency.

hypercore is installed by npm into the temporary folder, and both of its ends run as processes over loopback
(hypercore.mjs). It checks one signature for many blocks, and its live figure ends where the other end has the block in
its hands. The others are named with the reason why there is no figure.
"""

import json
import shutil
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_DRIVER = Path(__file__).with_name("hypercore.mjs")
_HYPERCORE = "hypercore@11"
_PUTS = 200
_INSTALL_S = 300
_RUN_S = 900
_NOT_MEASURED = {
    "ssb_ebt": "not measured: it has no driver here",
    "iroh_docs": "not measured: its nodes call relays outside of this machine",
}


def figures(folder: Path, records: int) -> dict[str, Any]:
    """Return the figures of each system, or a line that says why there are none. `records`: a multiple of 1,000."""
    return {**_hypercore(folder, records), **_NOT_MEASURED}


def _hypercore(folder: Path, records: int) -> dict[str, Any]:
    if shutil.which("node") is None or shutil.which("npm") is None:
        return {"hypercore": "not measured: there is no node or no npm here"}
    install = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), _HYPERCORE]
    try:
        done = subprocess.run(install, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        return {"hypercore": f"not measured: npm took more than {_INSTALL_S} s"}
    if done.returncode:
        return {"hypercore": f"not measured: {(done.stderr.strip() or 'npm failed').splitlines()[-1]}"}
    version = json.loads((folder / "node_modules/hypercore/package.json").read_text())["version"]
    with _serving(folder, records) as there:
        args = ["fetch", str(folder / "two"), str(records), str(_PUTS), there["key"], str(there["port"])]
        fetch = subprocess.run(_command(*args), cwd=folder, capture_output=True, timeout=_RUN_S, check=True)
    here = json.loads(fetch.stdout)
    live_ms = sorted(here["live"])
    return {
        "hypercore": version,
        "hypercore_write_per_s": round(1000 * records / there["tookMs"]),
        "hypercore_first_replication_per_s": round(1000 * records / here["tookMs"]),
        "hypercore_live_p50_ms": round(statistics.median(live_ms), 2),
        "hypercore_live_p99_ms": round(live_ms[int(0.99 * len(live_ms))], 2),
    }


def _command(*args: str) -> list[str]:
    return ["node", str(_DRIVER), *args]


@contextmanager
def _serving(folder: Path, records: int) -> Iterator[dict[str, Any]]:
    """Run the end that has the records; yield what it says of itself."""
    args = ["serve", str(folder / "one"), str(records), str(_PUTS)]
    with subprocess.Popen(_command(*args), cwd=folder, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()
