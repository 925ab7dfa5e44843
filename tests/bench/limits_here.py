"""The limits of this machine, measured in the same run as the node."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from echonode.model.identity import SigningKey, is_signed

_CALLS = 4000


def sign_rate() -> float:
    """Return the Ed25519 signatures per second of one thread."""
    key, message = SigningKey(os.urandom(32)), os.urandom(400)
    return _rate(lambda: [key.sign(message) for _ in range(_CALLS)], _CALLS)


def verify_rate(threads: int) -> float:
    """Return the Ed25519 verifications per second of so many threads."""
    key, message = SigningKey(os.urandom(32)), os.urandom(400)
    signature = key.sign(message)

    def work(_: int) -> None:
        for _ in range(_CALLS):
            assert is_signed(message, signature, key.public)

    with ThreadPoolExecutor(threads) as pool:
        return _rate(lambda: list(pool.map(work, range(threads))), threads * _CALLS)


def _rate(work: Callable[[], object], calls: int) -> float:
    began = time.perf_counter()
    work()
    return calls / (time.perf_counter() - began)
