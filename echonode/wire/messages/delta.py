"""Messages of the mode `delta` (PROTOCOL.md §8.9). Credit and Put are in records.py."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class DeltaInit:
    """Opens `delta`: asks for the entries behind `since` in the responder's log. `instance` is the log's."""

    code: ClassVar[int] = 52
    version: tuple[int, int]
    context: str
    direction: int
    instance: bytes
    since: int


@dataclass(frozen=True, slots=True)
class Changes:
    """Versions in log order. The receiver's cursor moves to `seq` when it has stored them.

    `followed`, in the last message only, is the sender's own cursor of the receiver's log; None when it has none.
    """

    code: ClassVar[int] = 53
    seq: int
    records: tuple[bytes, ...]
    is_last: bool
    followed: int | None
