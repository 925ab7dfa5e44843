"""Keeping the real world out: while a simulation runs, whoever reaches for the operating system raises `Forbidden`.

That is, for sockets, name look-ups, processes, threads, signals and blocking sleep, in the code that tried. Files may
be read: modules are imported when they are first needed.

And keeping it short: what many nodes compute of the same bytes, and each on a machine of its own, is computed once.
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
_OF_MANY: Final = (record, "is_signed")  # the most of what a thousand nodes do when they meet
_SIGNATURES_REMEMBERED: Final = 10_000


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
    saved = [(owner, name, getattr(owner, name)) for owner, name in (*_REAL, _OF_MANY)]
    gc.disable()
    gc.freeze()
    for owner, name in _REAL:
        setattr(owner, name, forbidden(f"{owner.__name__}.{name}"))
    setattr(*_OF_MANY, lru_cache(_SIGNATURES_REMEMBERED)(getattr(*_OF_MANY)))
    try:
        yield
    finally:
        for owner, name, original in saved:
            setattr(owner, name, original)
        gc.unfreeze()
        gc.enable()
