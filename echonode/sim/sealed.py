"""Keeping the real world out: while a simulation runs, whoever reaches for the operating system raises `Forbidden`.

That is, for sockets, name look-ups, processes, threads, signals and blocking sleep, in the code that tried. Files may
be read: modules are imported when they are first needed.
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
from typing import Any, Final, NoReturn

from echonode.errors import LocalError


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


def forbidden(what: str) -> Callable[..., NoReturn]:
    def refuse(*_args: object, **_options: object) -> NoReturn:
        raise Forbidden(f"{what} does not exist in a simulation")

    return refuse


@contextmanager
def sealed() -> Iterator[None]:
    """While a simulation runs, reaching for the operating system raises Forbidden in whoever does it.

    The collector runs finalisers, so when it runs is part of the order: the loop calls it at counted steps. What was
    there before is frozen: it costs nothing to collect around, and its finalisers are not of this run.
    """
    saved = [(owner, name, getattr(owner, name)) for owner, name in _REAL]
    gc.disable()
    gc.freeze()
    for owner, name, _ in saved:
        setattr(owner, name, forbidden(f"{owner.__name__}.{name}"))
    try:
        yield
    finally:
        for owner, name, original in saved:
            setattr(owner, name, original)
        gc.unfreeze()
        gc.enable()
