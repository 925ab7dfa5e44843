"""Live latency beside a bulk: puts into `main` at one node, read at the other, while records go into `books`.

    python -m tests.bench.beside [--records N]

Two node processes over loopback. The time runs from the put's request until a read at the other node finds the record.
"""

import argparse
import http.client
import socket
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlencode

from tests.e2e.processes import NodeProcess, code_in, equal, running, wait_for

_EVERY_S = 0.2
_POLL_S = 0.005
_LIVE_S_MAX = 60.0


def _ask(node: NodeProcess, method: str, name: str, body: bytes | None = None) -> int:
    connection = http.client.HTTPConnection("node", timeout=30)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(node.home / "api.sock"))
    connection.request(method, "/v1/records/main?" + urlencode({"id": name}), body=body)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


def _live_s(one: NodeProcess, other: NodeProcess, author: str, name: str) -> tuple[float, float]:
    """Return the seconds that the put took, and until it could be read at the other node."""
    began_s = time.perf_counter()
    assert _ask(one, "PUT", name, b"x") in (200, 201)
    put_s = time.perf_counter() - began_s
    while _ask(other, "GET", f"{author}/{name}") != 200:
        assert time.perf_counter() - began_s < _LIVE_S_MAX, f"{name} does not arrive"
        time.sleep(_POLL_S)
    return put_s, time.perf_counter() - began_s


def latency(folder: Path, records: int) -> dict[str, float]:
    """Return times in milliseconds while so many records are imported and travel."""
    one, other = nodes = [NodeProcess(folder / name, name, mdns=False) for name in ("one", "other")]
    times: list[tuple[float, float]] = []
    for _ in running(nodes):
        one.start()
        code = code_in(one.cli("invite").stdout.decode())
        other.start("--join", code, "--peer", one.address())
        wait_for(lambda: equal(nodes, "identities"))
        author = one.json("status")["id"]
        lines = folder / "books.jsonl"
        lines.write_text("".join(f'{{"name": "b{number}", "body": {number}}}\n' for number in range(records)))
        began_s = time.perf_counter()
        importing = threading.Thread(target=one.cli, args=("import", "-c", "books", str(lines)))
        importing.start()
        number = 0
        while importing.is_alive() or not equal(nodes, "books"):
            number += 1
            times.append(_live_s(one, other, author, f"live-{number}"))
            time.sleep(_EVERY_S)
        all_s = time.perf_counter() - began_s
    both = sorted(both_s for _, both_s in times)
    puts = sorted(put_s for put_s, _ in times)
    return {
        "beside_puts": len(times),
        "beside_put_p50_ms": round(1000 * puts[len(puts) // 2], 1),
        "beside_live_p50_ms": round(1000 * both[len(both) // 2], 1),
        "beside_live_p95_ms": round(1000 * both[int(len(both) * 0.95)], 1),
        "beside_live_p99_ms": round(1000 * both[int(len(both) * 0.99)], 1),
        "beside_live_worst_ms": round(1000 * both[-1], 1),
        "beside_bulk_s": round(all_s, 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.beside")
    parser.add_argument("--records", type=int, default=100_000)
    with tempfile.TemporaryDirectory(prefix="echonode-beside-") as name:
        for figure, value in latency(Path(name), parser.parse_args().records).items():
            print(f"{figure:24} {value}")
