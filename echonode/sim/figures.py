"""What a simulated world tells afterwards: how fast nodes came to agree, what it cost, and how the roots met."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

from echonode.model.record import Record, VersionId
from echonode.node.events import SyncCompleted
from echonode.sim.event_loop import SimLoop
from echonode.sim.invariants import Invariants
from echonode.sim.world import Member, World

_SAMPLES_MAX = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One world. Times are virtual seconds; lags are of writes made after the nodes had met, from the writer's commit
    to the last node's; `groups` says when there were how many different states. The last three, of one node, where it
    was measured: what it is sent in a second while nobody writes, what it is sent beyond that for each write, and how
    large a written record is."""

    seed: int
    failure: str = ""
    nodes: int
    versions: int
    met_after_s: float | None  # from nothing to equal, when that was waited for
    agreed_after_s: float  # once everything works
    virtual_s: float
    bytes_per_node: float
    bytes_of_records: int
    conversations: dict[str, int]
    median_lag_s: float
    worst_lag_s: float
    groups: tuple[tuple[float, int], ...]
    trace: str
    idle_bytes_s: float | None = None
    bytes_per_write: float | None = None
    bytes_of_write: float | None = None

    def as_dict(self) -> dict[str, object]:
        """Everything, by name."""
        return asdict(self)


def failed(seed: int, why: str) -> Figures:
    """The account of a world in which something did not hold."""
    return Figures(
        seed=seed,
        failure=why,
        nodes=0,
        versions=0,
        met_after_s=None,
        agreed_after_s=0.0,
        virtual_s=0.0,
        bytes_per_node=0.0,
        bytes_of_records=0,
        conversations={},
        median_lag_s=0.0,
        worst_lag_s=0.0,
        groups=(),
        trace="",
    )


class Progress:
    """Takes samples of a world while it runs."""

    def __init__(self, world: World, members: Sequence[Member]) -> None:
        self._world = world
        self._members = members
        self._groups: list[tuple[float, int]] = []
        self._spread: dict[VersionId, tuple[float, float, int]] = {}  # first and last commit, on how many disks
        self._marks: list[tuple[float, int]] = []
        self.met_after_s: float | None = None
        self.agreed_after_s = 0.0

    def committed(self, records: Sequence[Record], *, is_live: bool) -> None:
        """Somebody's disk holds these now. Only what is written while `is_live` is followed."""
        now_s = self._world.loop.time()
        for record in records:
            first_s, _, disks = self._spread.get(record.id, (now_s, now_s, 0))
            if disks or is_live:
                self._spread[record.id] = (first_s, now_s, disks + 1)

    def mark(self) -> None:
        """Take note of what was sent so far. Between the first mark and the second nobody writes."""
        self._marks.append((self._world.loop.time(), sum(self._world.network.delivered.values())))

    def note(self) -> None:
        """How many different states there are now."""
        groups = len({tuple(sorted(member.roots().items())) for member in self._members})
        if len(self._groups) < _SAMPLES_MAX and (not self._groups or self._groups[-1][1] != groups):
            self._groups.append((round(self._world.loop.time(), 3), groups))

    def describe(self) -> str:
        """Who holds what, for the message of a failure."""
        return "; ".join(
            f"{member.name}{'' if member.is_up else ' (down)'}: "
            + ", ".join(f"{context} {root.hex()[:8]}" for context, root in member.roots().items())
            for member in self._members
        )

    def figures(self, seed: int, loop: SimLoop, judge: Invariants) -> Figures:
        """The account so far."""
        self.note()
        modes = Counter(
            event.mode
            for member in self._members
            for event in member.events
            if isinstance(event, SyncCompleted) and event.role == "initiator"
        )
        known = {
            record.id: len(record.raw)
            for contexts in judge.committed.values()
            for versions in contexts.values()
            for record in versions.values()
        }
        written = [known[version] for version in self._spread if version in known]
        idle_bytes_s, bytes_per_write = self._costs(len(written))
        lags = [last_s - first_s for first_s, last_s, disks in self._spread.values() if disks > 1] or [0.0]
        return Figures(
            seed=seed,
            nodes=len(self._members),
            versions=len(known),
            met_after_s=self.met_after_s,
            agreed_after_s=round(self.agreed_after_s, 3),
            virtual_s=round(loop.time(), 3),
            bytes_per_node=round(sum(self._world.network.delivered.values()) / max(1, len(self._world.members)), 1),
            bytes_of_records=sum(known.values()),
            conversations=dict(sorted(modes.items())),
            median_lag_s=round(median(lags), 6),
            worst_lag_s=round(max(lags), 6),
            groups=tuple(self._groups),
            trace=loop.trace.digest,
            idle_bytes_s=idle_bytes_s,
            bytes_per_write=bytes_per_write,
            bytes_of_write=round(sum(written) / len(written), 1) if written else None,
        )

    def _costs(self, writes: int) -> tuple[float | None, float | None]:
        """What one node is sent in a second while nobody writes, and beyond that for each write."""
        if len(self._marks) < 3 or not writes:
            return None, None
        (began_s, before), (idle_until_s, idle), (until_s, after) = self._marks
        idle_bytes_s = (idle - before) / (idle_until_s - began_s)
        live = after - idle - idle_bytes_s * (until_s - idle_until_s)
        nodes = len(self._members)
        return round(idle_bytes_s / nodes, 1), round(live / nodes / writes, 1)
