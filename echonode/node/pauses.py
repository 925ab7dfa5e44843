"""Pauses: the peers with which no session is wanted for a while, or all of them. Pure; the times are those of the wall.

A pause holds over a restart: a person made it, and its end is a time or another command.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from echonode.model.identity import IdentityId


@dataclass(frozen=True, slots=True)
class Pause:
    """One pause. `peer` None: of this node, with every peer; `until_ms` None: until it is ended."""

    peer: IdentityId | None
    until_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePaused:
    """No session with `peer`, or with b"" with any peer, is wanted until `until_ms`; 0: until a person ends it."""

    name: ClassVar[str] = "node.paused"
    level: ClassVar[str] = "info"
    peer: bytes
    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeResumed:
    """The pause with `peer`, or with b"" that with all, is over."""

    name: ClassVar[str] = "node.resumed"
    level: ClassVar[str] = "info"
    peer: bytes


class Pauses:
    """The pauses of one node, one for each peer at most."""

    def __init__(self) -> None:
        self._pauses: dict[IdentityId | None, Pause] = {}
        self._lifted: Counter[IdentityId] = Counter()  # peers with which a forced sync is under way

    def __iter__(self) -> Iterator[Pause]:
        return iter(tuple(self._pauses.values()))

    def load(self, pauses: Iterable[Pause]) -> None:
        """Take in what was kept over a restart."""
        self._pauses.update({pause.peer: pause for pause in pauses})

    def begin(self, pause: Pause) -> None:
        """Begin a pause; it replaces an earlier one with the same peer."""
        self._pauses[pause.peer] = pause

    def lift(self, peer: IdentityId) -> None:
        """Let no pause keep `peer` out until as many calls of `lower`."""
        self._lifted[peer] += 1

    def lower(self, peer: IdentityId) -> None:
        """Take one `lift` back."""
        self._lifted[peer] -= 1
        self._lifted += Counter()  # drops the zeros

    def end(self, peer: IdentityId | None) -> bool:
        """End the pause with `peer`, or the one with every peer; return False when there is none."""
        return self._pauses.pop(peer, None) is not None

    def over(self, now_ms: int) -> list[Pause]:
        """Return the pauses whose time is over."""
        return [pause for pause in self if pause.until_ms is not None and pause.until_ms <= now_ms]

    def next_end_ms(self) -> int | None:
        """Return when the next pause is over, None when none ends by itself."""
        return min((pause.until_ms for pause in self if pause.until_ms is not None), default=None)

    def of(self, peer: IdentityId | None) -> Pause | None:
        """Return the pause that keeps `peer` out, None when none does. None: a peer that is not known by name."""
        if peer is not None and self._lifted[peer]:
            return None
        return self._pauses.get(None) or (self._pauses.get(peer) if peer is not None else None)
