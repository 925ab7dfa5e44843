"""Live latency under a steady load: 1,000 puts a second come to one node, and a program at the other reads the changes.

    python -m tests.bench.steady [--seconds S]

Two node processes over loopback. Ten records are put in one request every 10 ms, each request at its time whether or
not the ones before are answered. A record's time runs from when its request was due until its change is read at the
other node.
"""

import argparse
import queue
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from echonode import Client
from echonode.client.errors import ClientError
from tests.bench.idle import cpu_s
from tests.e2e.processes import NodeProcess, code_in, equal, running, wait_for

_PER_S = 1000
_TOGETHER = 10
_BODY = "x" * 200
_WITHIN_S = 60.0


def latency(folder: Path, seconds: float) -> dict[str, float]:
    """Return times in milliseconds, the rate that was kept up, and the CPU of each end as a share of one core."""
    one, other = nodes = [NodeProcess(folder / name, name, mdns=False) for name in ("one", "other")]
    for _ in running(nodes):
        one.start()
        other.start("--join", code_in(one.cli("invite").stdout.decode()), "--peer", one.address())
        wait_for(lambda: equal(nodes, "identities") and all(node.events("follow.began") for node in nodes))
        arrived = _arrivals(other)
        before = [cpu_s(node) for node in nodes]
        due, spent_s = _put(one, round(seconds * _PER_S))
        times_s = []
        while due:
            name, at_s = arrived.get(timeout=_WITHIN_S)
            times_s.append(at_s - due.pop(name))
        cpu = [cpu_s(node) - then for node, then in zip(nodes, before, strict=True)]
    times_s.sort()
    return {
        "steady_puts_per_s": round(len(times_s) / spent_s),
        "steady_live_p50_ms": round(1000 * times_s[len(times_s) // 2], 1),
        "steady_live_p99_ms": round(1000 * times_s[int(len(times_s) * 0.99)], 1),
        "steady_live_worst_ms": round(1000 * times_s[-1], 1),
        "steady_writer_cores": round(cpu[0] / spent_s, 2),
        "steady_follower_cores": round(cpu[1] / spent_s, 2),
    }


def _arrivals(node: NodeProcess) -> "queue.SimpleQueue[tuple[str, float]]":
    """Return a queue that gets the name and the time of every change from now on."""
    client, arrived = Client(home=node.home), queue.SimpleQueue()
    cursor = client.cursor()

    def read() -> None:
        with suppress(ClientError):  # the node was stopped: there are no more changes
            for change in client.changes(since=cursor):
                arrived.put((change.record.name, time.perf_counter()))

    threading.Thread(target=read, daemon=True).start()
    return arrived


def _put(node: NodeProcess, count: int) -> tuple[dict[str, float], float]:
    """Put `count` records at their times. Return when each was due, and the seconds from the first to the last
    answer."""
    client, due = Client(home=node.home), {}
    began_s = time.perf_counter()
    with ThreadPoolExecutor(4) as pool:
        answers = []
        for first in range(0, count, _TOGETHER):
            at_s = began_s + first / _PER_S
            time.sleep(max(0.0, at_s - time.perf_counter()))
            names = [f"steady-{number}" for number in range(first, first + _TOGETHER)]
            due |= dict.fromkeys(names, at_s)
            answers.append(pool.submit(client.put_all, dict.fromkeys(names, _BODY)))
        for answer in answers:
            answer.result()
    return due, time.perf_counter() - began_s


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.steady")
    parser.add_argument("--seconds", type=float, default=60.0)
    with tempfile.TemporaryDirectory(prefix="echonode-steady-") as folder:
        for name, value in latency(Path(folder), parser.parse_args().seconds).items():
            print(f"{name:36} {value}")


if __name__ == "__main__":
    main()
