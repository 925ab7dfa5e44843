"""SyncHistory: the syncs that a person or a program asked for, the latest last. Kept over a restart.

An entry is one peer's part in one operation. At most SYNC_HISTORY_MAX entries are kept; the oldest go first.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from echonode.limits import SYNC_HISTORY_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One operation with one peer.

    `peer`        the peer's id, empty when a configured address led to none
    `operation`   push, pull, sync, batch or resolve
    `status`      success, conflict, partial, error or timed out
    `details`     plain values: sync_id, records and bytes that moved, conflicts, attempts, error
    """

    timestamp_ms: int
    peer: bytes
    peer_name: str
    operation: str
    status: str
    duration_s: float
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_error(self) -> bool:
        """True when the operation did not do what was asked."""
        return self.status in ("error", "timed out")


class HistoryFile(Protocol):
    """The place where entries outlive the process."""

    def read(self) -> Sequence[HistoryEntry]:
        """Return what is kept, the oldest first."""
        ...

    def append(self, entry: HistoryEntry) -> None:
        """Keep one entry more. Never raises: a sync does not fail for its history."""
        ...


class SyncHistory:
    """The entries of one node."""

    def __init__(self) -> None:
        self._entries: deque[HistoryEntry] = deque(maxlen=SYNC_HISTORY_MAX)
        self._file: HistoryFile | None = None

    def keep_in(self, file: HistoryFile) -> None:
        """Take the entries of earlier runs from `file`, and keep later ones there."""
        self._entries.extendleft(reversed(file.read()))
        self._file = file

    def add(self, entry: HistoryEntry) -> None:
        """Note an operation that is over."""
        self._entries.append(entry)
        if self._file is not None:
            self._file.append(entry)

    def of(self, peers: Iterable[bytes] | None = None, *, limit: int) -> list[HistoryEntry]:
        """Return the latest entries, the newest first: those with `peers`, or all."""
        chosen = None if peers is None else frozenset(peers)
        found = [entry for entry in reversed(self._entries) if chosen is None or entry.peer in chosen]
        return found[:limit]
