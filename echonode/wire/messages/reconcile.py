"""Messages of the mode `reconcile` (PROTOCOL.md §8.10). Records, Offers, Heads, Put and Stored are in records.py."""

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class ReconcileInit:
    """Opens `reconcile` about the records that `filter` takes. `message` is the first of the Negentropy protocol."""

    code: ClassVar[int] = 64
    version: tuple[int, int]
    context: str
    direction: int
    filter: dict[int, Any]
    message: bytes


@dataclass(frozen=True, slots=True)
class Reconcile:
    """The next message of the Negentropy protocol, in either direction."""

    code: ClassVar[int] = 65
    message: bytes


@dataclass(frozen=True, slots=True)
class Want:
    """Asks for versions by id. The answer is Records, without those that are no heads any more."""

    code: ClassVar[int] = 66
    versions: tuple[bytes, ...]
