"""Events of the lives of a store: it was restored, copied or rolled back (node/other_lives.py, node/catch_up.py)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from echonode.model.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRenewed:
    """The store was restored, cloned or rolled back. This node writes under a fresh instance now."""

    name: ClassVar[str] = "node.instance_renewed"
    level: ClassVar[str] = "warning"
    instance: bytes
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaughtUp:
    """A node that was restored from a backup takes writes again: it is equal with so many peers, or none answered."""

    name: ClassVar[str] = "node.caught_up"
    level: ClassVar[str] = "info"
    peers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSignedAgain:
    """A version stands again that another life of this store had taken the place of: the store was rolled back, or
    copied. `version` is the new one. It stands beside the others, as a conflict."""

    name: ClassVar[str] = "record.signed_again"
    level: ClassVar[str] = "warning"
    context: str
    author: bytes
    record: str
    version: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherLifeMet:
    """A peer brought versions that are signed in this store's name, and never were by it. They need not be heads. An
    event for handlers alone."""

    strangers: Sequence[Record]
