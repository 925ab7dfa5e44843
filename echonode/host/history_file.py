"""HistoryFile: the history of syncs in a file of the home, one JSON object a line, the latest last.

    history.jsonl   at most twice SYNC_HISTORY_MAX lines; then it is written anew with the latest of them

A line that a crash cut, or that nobody can read any more, is passed over. Where the file cannot be written, the history
of this run is in memory alone.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from echonode.limits import SYNC_HISTORY_MAX
from echonode.node.sync_history import HistoryEntry
from echonode.text import from_base32, to_base32

_ID_BYTES = 32


class _Line(msgspec.Struct):
    at: int
    peer: str
    name: str
    operation: str
    status: str
    duration_s: float
    details: dict[str, Any]


class HistoryFile:
    """The file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = 0

    def read(self) -> Sequence[HistoryEntry]:
        """Return the latest entries, the oldest first."""
        try:
            data = self._path.read_bytes()
        except OSError:
            return []
        lines = data.splitlines()
        self._lines = len(lines)
        entries = [entry for line in lines[-SYNC_HISTORY_MAX:] if (entry := _entry(line)) is not None]
        if self._lines > SYNC_HISTORY_MAX or not data.endswith(b"\n"):  # a later line must not join half a one
            self._write_anew(entries)
        return entries

    def append(self, entry: HistoryEntry) -> None:
        """Add one line, and drop the oldest when there are too many. Never raises."""
        try:
            with open(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:
                file.write(_line(entry))
        except OSError:
            return
        self._lines += 1
        if self._lines >= 2 * SYNC_HISTORY_MAX:
            self.read()

    def _write_anew(self, entries: Sequence[HistoryEntry]) -> None:
        new = self._path.with_suffix(".new")
        try:
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(b"".join(map(_line, entries)))
            os.replace(new, self._path)
        except OSError:
            return
        self._lines = len(entries)


def _line(entry: HistoryEntry) -> bytes:
    line = _Line(
        at=entry.timestamp_ms,
        peer=to_base32(entry.peer),
        name=entry.peer_name,
        operation=entry.operation,
        status=entry.status,
        duration_s=entry.duration_s,
        details=dict(entry.details),
    )
    return msgspec.json.encode(line) + b"\n"


def _entry(line: bytes) -> HistoryEntry | None:
    try:
        read = msgspec.json.decode(line, type=_Line)
        peer = from_base32(read.peer, _ID_BYTES) if read.peer else b""
    except (ValueError, RecursionError):
        return None
    return HistoryEntry(
        timestamp_ms=read.at,
        peer=peer,
        peer_name=read.name,
        operation=read.operation,
        status=read.status,
        duration_s=read.duration_s,
        details=read.details,
    )
