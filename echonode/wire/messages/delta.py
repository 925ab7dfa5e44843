"""Messages of the mode `delta` (PROTOCOL.md §8.9)."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class DeltaInit:
    """Opens `delta`: the changes behind `since` in the log of that instance, as the initiator's cursor has it."""

    code: ClassVar[int] = 52
    version: tuple[int, int]
    context: str
    direction: int
    instance: bytes
    since: int


@dataclass(frozen=True, slots=True)
class Changes:
    """Versions in log order; with them the receiver has followed the sender up to `seq`. `followed`, in the last one:
    how far the sender has followed the receiver, null when it has not."""

    code: ClassVar[int] = 53
    seq: int
    records: tuple[bytes, ...]
    is_last: bool
    followed: int | None
