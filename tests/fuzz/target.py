"""A fuzz target: a function of bytes that raises when a promise is broken, with its inputs and its changes of them.

The promise of all targets: bad input costs a RemoteError, a value or an outcome, never another exception, and less than
`LIMIT_S` of processor time. Each target asserts its further promises itself.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Final

LIMIT_S: Final = 0.1
_PIECES_MAX: Final = 64


@dataclass(frozen=True)
class Target:
    """One target. `run` takes any bytes; `mutate` changes an input so that it gets further than with flipped bits."""

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    mutate: Callable[[bytes, Random], bytes]
    bytes_max: int = 4096


class Reader:
    """A reader that takes an input apart from the front; missing bytes read as nothing, missing numbers as zero."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, size: int = 1) -> int:
        return int.from_bytes(self.take(size), "big")

    def rest(self) -> bytes:
        return self.take(max(0, len(self._data) - self._at))


def chopped(data: bytes, sizes: bytes) -> Iterable[bytes]:
    """Yield `data` in pieces, with the bytes of `sizes` as lengths in turn; after `_PIECES_MAX` pieces the rest."""
    at, turn = 0, 0
    while at < len(data):
        size = max(1, sizes[turn % len(sizes)]) if sizes and turn < _PIECES_MAX else len(data)
        yield data[at : at + size]
        at, turn = at + size, turn + 1


def cost_s(target: Target, data: bytes, *, times: int = 5) -> float:
    """Return the seconds of processor time that `data` costs: the least of several runs on a shared machine."""
    return min(_timed(target, data) for _ in range(times))


def _timed(target: Target, data: bytes) -> float:
    began = time.thread_time()
    target.run(data)
    return time.thread_time() - began
