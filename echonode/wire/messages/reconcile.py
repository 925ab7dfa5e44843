"""Messages of the mode `reconcile` (PROTOCOL.md §8.10)."""

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class ReconcileInit:
    """Opens `reconcile` about what `filter` takes. `message` is the first one of the Negentropy protocol."""

    code: ClassVar[int] = 64
    version: tuple[int, int]
    context: str
    direction: int
    filter: dict[int, Any]
    message: bytes


@dataclass(frozen=True, slots=True)
class Reconcile:
    """The next message of the Negentropy protocol, either way."""

    code: ClassVar[int] = 65
    message: bytes


@dataclass(frozen=True, slots=True)
class Want:
    """Asks for these versions; the answer is Records, without those that are no heads any more."""

    code: ClassVar[int] = 66
    versions: tuple[bytes, ...]
