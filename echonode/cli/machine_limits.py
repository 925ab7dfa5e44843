"""The limits of this machine that bound a node: signatures, verifications, durable writes, and the load of others.

Rates are per second of wall time, by the library that the node itself uses.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Final

from echonode.model.identity import SigningKey, is_signed

_CALLS: Final = 4000
_MESSAGE_BYTES: Final = 400
_WRITES: Final = 60
_PAGE_BYTES: Final = 4096


def sign_rate() -> float:
    """Return the Ed25519 signatures a second of one thread."""
    key, message = SigningKey(os.urandom(32)), os.urandom(_MESSAGE_BYTES)
    return _rate(lambda: [key.sign(message) for _ in range(_CALLS)], _CALLS)


def verify_rate(threads: int) -> float:
    """Return the Ed25519 verifications a second of so many threads together."""
    key, message = SigningKey(os.urandom(32)), os.urandom(_MESSAGE_BYTES)
    signature = key.sign(message)

    def verify(_: int) -> None:
        for _ in range(_CALLS):
            is_signed(message, signature, key.public)

    with ThreadPoolExecutor(threads) as pool:
        return _rate(lambda: list(pool.map(verify, range(threads))), threads * _CALLS)


def _rate(work: Callable[[], object], calls: int) -> float:
    began_s = time.perf_counter()
    work()
    return calls / (time.perf_counter() - began_s)


def durable_write_s(folder: Path) -> float:
    """Return the median seconds to append a page to a file in `folder` and wait until the disk has it."""
    page, times_s = bytes(_PAGE_BYTES), []
    path = folder / "durable"
    with path.open("wb", buffering=0) as file:
        for _ in range(_WRITES):
            began_s = time.perf_counter()
            file.write(page)
            os.fsync(file.fileno())
            times_s.append(time.perf_counter() - began_s)
    path.unlink()
    return median(times_s)


class MachineLoad:
    """The load of other programs, from when it was made."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._busy_s = _busy_s()
        self._own_s = sum(os.times()[:4])

    def cores_busy_elsewhere(self) -> float | None:
        """Return how many cores other programs kept busy since then, None where the system does not tell. Child
        processes count as ours once they have ended."""
        busy_s = _busy_s()
        if busy_s is None or self._busy_s is None:
            return None
        others_s = busy_s - self._busy_s - (sum(os.times()[:4]) - self._own_s)
        return round(max(0.0, others_s) / max(time.monotonic() - self._began_s, 1e-3), 2)


def _busy_s() -> float | None:
    """Return the CPU seconds that all programs of this machine have used, None where no file tells."""
    try:
        fields = Path("/proc/stat").read_text().split()[1:9]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, _ = map(int, fields)
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
