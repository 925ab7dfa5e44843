"""Events of audits: the verdict over the whole store. They are among the events of node/events.py."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAudited:
    """The whole store was read and verified again, and every version of it is whole."""

    name: ClassVar[str] = "store.audited"
    level: ClassVar[str] = "info"
    checked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreDamaged:
    """An audit found contradictions in the store, of which `first` is one. `dropped`: records with damaged bytes, which
    peers are asked for again."""

    name: ClassVar[str] = "store.damaged"
    level: ClassVar[str] = "error"
    checked: int
    problems: int
    dropped: int
    first: str
