"""This machine: its name, by which a store notices that it was carried to another one (store/sqlite/life.py), and
threads for its cores."""

import ctypes
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final

_CONTAINER_MARKS: Final = (".dockerenv", "run/.containerenv", "run/systemd/container")
_DRAWN_AT_BOOT: Final = "run/machine-id"  # systemd keeps an id there that it cannot save
_ID_FILES: Final = ("etc/machine-id", "var/lib/dbus/machine-id")
_ID_CHARS: Final = 32


def machine_id(root: Path = Path("/"), environ: Mapping[str, str] | None = None) -> str:
    """Return a name of this machine that lasts, "" where there is none.

    It is a hash of machine-id(5), which is not to be shown, on macOS of gethostuuid(2). A container has none: its image
    gives many containers one id, or each start draws another. Nor has a system that draws its id when it boots."""
    is_container = bool((os.environ if environ is None else environ).get("container"))
    if is_container or any((root / mark).exists() for mark in (*_CONTAINER_MARKS, _DRAWN_AT_BOOT)):
        return ""
    raw = _host_uuid() if sys.platform == "darwin" else _read_id(root)
    return blake2b(raw, digest_size=16, person=b"echonode machine").hexdigest() if raw else ""


def worker_threads() -> ThreadPoolExecutor:
    """Return a thread for each core that this process may use. They compute, above all signatures: more threads would
    only take the cores, and the interpreter's lock, from each other."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return ThreadPoolExecutor(cores, thread_name_prefix="worker")


def _read_id(root: Path) -> bytes:
    for name in _ID_FILES:
        with suppress(OSError, ValueError):  # "uninitialized" is no id, nor is an empty file
            return bytes.fromhex((root / name).read_text("ascii").strip()[:_ID_CHARS])
    return b""


def _host_uuid() -> bytes:
    uuid, patience = ctypes.create_string_buffer(16), (ctypes.c_long * 2)(1, 0)  # a timespec: one second
    try:
        return b"" if ctypes.CDLL(None).gethostuuid(uuid, patience) else uuid.raw
    except (OSError, AttributeError):
        return b""
