"""Isolation of a simulation from the real world, and one cache that all nodes of a world share.

While a simulation runs, code that reaches for the operating system gets `Forbidden`: for sockets, name look-ups,
processes, threads, signals and blocking sleep. Files may be read, because modules are imported when they are first
needed.

The cache holds results of signature checks. A thousand real nodes check a signature on a thousand machines; one process
that simulates them would do the same work a thousand times.
"""

import gc
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, NoReturn

from echonode.errors import LocalError
from echonode.model import record


class Forbidden(LocalError):
    """Simulated code reached for the real world."""


_REAL: Final[tuple[tuple[Any, str], ...]] = (
    (socket.socket, "__init__"),
    (socket, "getaddrinfo"),
    (subprocess.Popen, "__init__"),
    (threading.Thread, "start"),
    (os, "fork"),
    (signal, "signal"),
    (time, "sleep"),
)
_SIGNATURE_CHECK: Final = (record, "is_signed")  # most of the processor time when a thousand nodes meet
_CHECKS_CACHED: Final = 10_000


def forbid(name: str) -> Callable[..., NoReturn]:
    """Return a function that raises Forbidden, to stand in the place of `name`."""

    def refuse(*_args: object, **_options: object) -> NoReturn:
        raise Forbidden(f"{name} does not exist in a simulation")

    return refuse


@contextmanager
def isolated() -> Iterator[None]:
    """Keep the operating system out while a simulation runs; share signature checks; switch the garbage collector off.

    The garbage collector runs finalisers, so the moment at which it runs is part of the order of events: the loop calls
    it at counted steps. Objects made before the simulation are frozen: the collector does not visit them, and their
    finalisers are not part of this run.
    """
    saved = [(owner, name, getattr(owner, name)) for owner, name in (*_REAL, _SIGNATURE_CHECK)]
    gc.disable()
    gc.freeze()
    for owner, name in _REAL:
        setattr(owner, name, forbid(f"{owner.__name__}.{name}"))
    setattr(*_SIGNATURE_CHECK, lru_cache(_CHECKS_CACHED)(getattr(*_SIGNATURE_CHECK)))
    try:
        yield
    finally:
        for owner, name, original in saved:
            setattr(owner, name, original)
        gc.unfreeze()
        gc.enable()
