"""The figures of a simulated world: times until nodes agree, bytes sent, and how many different states there were."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

from echonode.model.record import Record, VersionId
from echonode.node.events import SyncCompleted
from echonode.sim.event_loop import SimLoop
from echonode.sim.invariants.checks import Invariants
from echonode.sim.world import Member, World

_SAMPLES_MAX = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of one world. Times are virtual seconds.

    A lag is the time from a write's commit at its writer to the commit at the last node; only writes after the first
    meeting count. The last three fields are None where they were not measured.
    """

    seed: int
    failure: str = ""  # the invariant that failed, or the exception; "" if all held
    nodes: int
    versions: int
    met_after_s: float | None  # until all were equal for the first time, if the scenario waited for that
    agreed_after_s: float  # from the end of all faults until all were equal
    virtual_s: float
    bytes_per_node: float
    bytes_of_records: int
    conversations: dict[str, int]
    median_lag_s: float
    worst_lag_s: float
    groups: tuple[tuple[float, int], ...]  # (time, number of different states from then on)
    trace: str  # the hash of the run (sim/event_loop.py)
    idle_bytes_s: float | None = None  # sent to one node per second while no client writes
    bytes_per_write: float | None = None  # sent to one node for each write, beyond the idle traffic
    bytes_of_write: float | None = None  # size of a written record, on average

    def as_dict(self) -> dict[str, object]:
        """Return all figures by name."""
        return asdict(self)


def failed(seed: int, failure: str) -> Figures:
    """Return the figures of a world that failed."""
    return Figures(
        seed=seed,
        failure=failure,
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


class Samples:
    """The samples taken of a world while it runs."""

    def __init__(self, world: World, members: Sequence[Member]) -> None:
        self._world = world
        self._members = members
        self._groups: list[tuple[float, int]] = []
        self._commits: dict[VersionId, tuple[float, float, int]] = {}  # (first commit, last commit, disks)
        self._traffic: list[tuple[float, int]] = []  # (time, bytes delivered so far)
        self.met_after_s: float | None = None
        self.agreed_after_s = 0.0

    def note_commit(self, records: Sequence[Record], *, is_live: bool) -> None:
        """Note that one more disk holds `records`. Only records first written while `is_live` are followed."""
        now_s = self._world.loop.time()
        for record in records:
            first_s, _, disks = self._commits.get(record.id, (now_s, now_s, 0))
            if disks or is_live:
                self._commits[record.id] = (first_s, now_s, disks + 1)

    def mark_traffic(self) -> None:
        """Note the bytes delivered so far. Called three times: before and after the idle time, and after the writes."""
        self._traffic.append((self._world.loop.time(), sum(self._world.network.delivered.values())))

    def sample_roots(self) -> None:
        """Sample the number of different states among the members."""
        groups = len({tuple(sorted(member.roots().items())) for member in self._members})
        if len(self._groups) < _SAMPLES_MAX and (not self._groups or self._groups[-1][1] != groups):
            self._groups.append((round(self._world.loop.time(), 3), groups))

    def describe_roots(self) -> str:
        """Return the roots of each member in words, for the message of a failure."""
        return "; ".join(
            f"{member.name}{'' if member.is_up else ' (down)'}: "
            + ", ".join(f"{context} {root.hex()[:8]}" for context, root in member.roots().items())
            for member in self._members
        )

    def figures(self, seed: int, loop: SimLoop, invariants: Invariants) -> Figures:
        """Return the figures so far."""
        self.sample_roots()
        modes = Counter(
            event.mode
            for member in self._members
            for event in member.events
            if isinstance(event, SyncCompleted) and event.role == "initiator"
        )
        known = {
            record.id: len(record.raw)
            for contexts in invariants.committed.values()
            for versions in contexts.values()
            for record in versions.values()
        }
        written = [known[version] for version in self._commits if version in known]
        idle_bytes_s, bytes_per_write = self._costs(len(written))
        lags = [last_s - first_s for first_s, last_s, disks in self._commits.values() if disks > 1] or [0.0]
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
        """Return (bytes sent to one node per second while idle, bytes beyond that for each write), where measured."""
        if len(self._traffic) < 3 or not writes:
            return None, None
        (idle_from_s, before), (idle_to_s, idle), (writes_to_s, after) = self._traffic
        idle_bytes_s = (idle - before) / (idle_to_s - idle_from_s)
        live = after - idle - idle_bytes_s * (writes_to_s - idle_to_s)
        nodes = len(self._members)
        return round(idle_bytes_s / nodes, 1), round(live / nodes / writes, 1)
