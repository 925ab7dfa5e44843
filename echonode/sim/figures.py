"""What a simulated world tells afterwards: how fast nodes came to agree, what it cost, and how the roots met."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from echonode.node.events import SyncCompleted
from echonode.sim.judge import Judge
from echonode.sim.loop import SimLoop
from echonode.sim.world import Member, World

_SAMPLES_MAX = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One world. Times are virtual seconds; `groups` says how many different states there were, and when."""

    seed: int
    nodes: int
    versions: int
    agreed_after_s: float
    virtual_s: float
    bytes_per_node: float
    conversations: dict[str, int]
    worst_lag_s: float
    groups: tuple[tuple[float, int], ...]
    trace: str


class Progress:
    """Takes samples of a world while it runs."""

    def __init__(self, world: World, members: Sequence[Member]) -> None:
        self._world = world
        self._members = members
        self._groups: list[tuple[float, int]] = []
        self.agreed_after_s = 0.0
        self.worst_lag_s = 0.0

    def note(self) -> None:
        """How many different states there are now."""
        groups = len({tuple(sorted(member.roots().items())) for member in self._members})
        if not self._groups or self._groups[-1][1] != groups:
            self._groups.append((round(self._world.loop.time(), 3), groups))
            del self._groups[_SAMPLES_MAX:]

    def describe(self) -> str:
        """Who holds what, for the message of a failure."""
        return "; ".join(
            f"{member.name}{'' if member.is_up else ' (down)'}: "
            + ", ".join(f"{context} {root.hex()[:8]}" for context, root in member.roots().items())
            for member in self._members
        )

    def figures(self, seed: int, loop: SimLoop, judge: Judge) -> Figures:
        """The account so far."""
        self.note()
        modes = Counter(
            event.mode
            for member in self._members
            for event in member.events
            if isinstance(event, SyncCompleted) and event.role == "initiator"
        )
        versions = {each for name in judge.committed for some in judge.committed[name].values() for each in some}
        sent = sum(self._world.network.delivered.values())
        return Figures(
            seed=seed,
            nodes=len(self._members),
            versions=len(versions),
            agreed_after_s=round(self.agreed_after_s, 3),
            virtual_s=round(loop.time(), 3),
            bytes_per_node=round(sent / max(1, len(self._world.members)), 1),
            conversations=dict(sorted(modes.items())),
            worst_lag_s=round(self.worst_lag_s, 6),
            groups=tuple(self._groups),
            trace=loop.trace.digest,
        )
