"""A peer table with the scheduler that reads it, wired as node/connections.py wires them; and chosen entropy."""

from dataclasses import dataclass, field

from echonode.clock import Entropy
from echonode.model.identity import IdentityId
from echonode.node.link_selection import LinkSelection
from echonode.node.peer_table import PeerTable
from echonode.node.scheduler import DialNow, Scheduler

NEVER = float("inf")


@dataclass
class Drawn:
    """Entropy that gives a chosen point of every range, and remembers the ranges."""

    at: float = 0.5
    ranges: list[tuple[float, float]] = field(default_factory=list)

    def uniform(self, low: float, high: float) -> float:
        self.ranges.append((low, high))
        return low + (high - low) * self.at

    def random_bytes(self, size: int) -> bytes:
        return bytes(size)


class Timetable:
    """A peer table, and the decisions of scheduler and link selection, carried out at once."""

    def __init__(self, entropy: Entropy) -> None:
        self.table = PeerTable(entropy)
        self.scheduler = Scheduler(self.table, entropy)

    @property
    def links(self) -> LinkSelection:
        return self.scheduler.links

    def due(self, now_s: float) -> list[DialNow]:
        """Begin the dials that are due."""
        peer = self.links.to_rank_anew(now_s)
        if peer is not None:
            self.table.rank_anew(peer)
        dials = self.scheduler.due(now_s)
        for dial in dials:
            self.table.dial_begun(dial.target)
        return dials

    def next_due_s(self) -> float:
        return self.scheduler.next_due_s()

    def dial_ended(self, now_s: float, key: str, **end: object) -> bool:
        """End a dial. Return True when its peer is absent from now on."""
        return self.table.dial_ended(now_s, key, **end) is not None  # type: ignore[arg-type]

    def changed(self, now_s: float, source: IdentityId | None) -> None:
        """Note a change of the store that came from `source`, None for our own."""
        self.table.store_changed(source, now_s)
        self.table.compare_soon(now_s, self.scheduler.to_tell(source))

    def wants_link(self, peer: IdentityId, now_s: float) -> bool:
        """Try a link with `peer` if it is one to follow. Return False when it is not."""
        if not self.links.wants_link(peer, now_s):
            return False
        self.table.link_tried(now_s, peer)
        return True


def peer_id(number: int) -> IdentityId:
    return IdentityId(bytes((number,)) * 32)


def sight(times: Timetable, *numbers: int) -> None:
    for number in numbers:
        times.table.sighted(f"t{number}", "mdns", (f"10.0.0.{number}:1",))
