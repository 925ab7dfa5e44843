"""The options of a world, drawn from its seed, so that every seed is another experiment.

Most worlds are small and short, because most bugs need few nodes and little time. A few are large, slow or long.
"""

from dataclasses import dataclass
from math import inf
from random import Random
from typing import Final

from echonode.limits import IDLE_TIMEOUT_S, KIB
from echonode.model.heads import LEAF_BOUNDS, LeafBounds
from echonode.sim.clients import Habits
from echonode.sim.mdns import RELIABLE, MulticastConditions
from echonode.sim.tcp_link import LAN, LinkConditions

KINDS_OF_FAULT: Final = (  # see sim/faults.py
    *("cut", "cut_later", "half_open", "corrupt", "block", "partition", "heal", "slow_link"),
    *("crash", "full_disk", "roll_back", "set_clock", "mislead", "restart"),
)
_LINKS: Final = (
    LAN,
    LAN,
    LinkConditions(latency_s=0.05, jitter_s=0.05),
    LinkConditions(latency_s=0.3, jitter_s=0.5),
    LinkConditions(latency_s=0.01, bandwidth_bytes_s=100_000),
    LinkConditions(latency_s=0.005, fragment_bytes_max=2000, window_bytes=4096),
    LinkConditions(latency_s=0.02, cut_after_bytes=30_000),
)
# Records that are full after a few conflicts. Each version that a world writes fits by itself. The spare stays large:
# what a node dropped for good the model cannot know.
_SMALL_LEAVES: Final = (
    LeafBounds(heads=3, heads_per_key=2),
    LeafBounds(heads=4, heads_per_key=1, entries=96, size_bytes=32 * KIB),
)
DEFAULT_HABITS: Final = Habits()
PARTIAL_TAG: Final = "red"  # a tag that clients use now and then (sim/clients.py)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of one world. Rates are per second for all nodes together. Units: seconds, bytes."""

    nodes: int = 3
    records: int = 20  # in all, written before the nodes meet
    is_all_at_once: bool = False  # nodes hear of each other once all are up and hold their records; all stop together
    common_records: int = 0  # records of the first node that every other node starts with
    habits: Habits = DEFAULT_HABITS
    links: tuple[LinkConditions, ...] = (LAN,)  # one is drawn for each direction of each pair of nodes
    uplink_bytes_s: float = inf  # of each node, for everything that it sends
    multicast: MulticastConditions = RELIABLE
    commit_s: float = 0.0  # a commit to disk takes at most this long
    skews_ms: tuple[int, ...] = (0,)  # one is drawn for the wall clock of each node
    meets_first: bool = False  # faults and writes begin once all nodes are equal for the first time
    idle_s: float = 0.0  # then no node has news for so long, to measure what that costs
    faults_s: float = 0.0  # how long clients write and faults happen
    partition_s: float = 0.0  # for so long, at the beginning of faults_s, half of the nodes are cut off
    faults: tuple[str, ...] = ()
    fault_rate: float = 0.3
    stall_rate: float = 0.0  # of processes that stand still for a while during faults_s, beside `faults`
    bulk_records: int = 0  # imported into another context during faults_s, beside the writes of clients
    loss_rate: float = 0.0  # connections cut during faults_s, beside `faults`
    adversaries: int = 0  # nodes that break the protocol (sim/adversary.py)
    adversaries_stay: bool = False  # they go on forging messages, but write no more, while the others come to agree
    partials: int = 0  # nodes that want only the records tagged PARTIAL_TAG of the first context
    strangers: int = 0  # nodes of another network on the same LAN
    newcomers: int = 0  # nodes that join by an invitation during faults_s
    is_compromised: bool = False  # the owner of a node states its device key compromised during faults_s
    key_changes: int = 0  # new and void keys, pools made, joined and left, during faults_s (sim/key_changes.py)
    rotations: int = 0  # of the network secret, some without a node, during faults_s (sim/network_rotations.py)
    has_equal_names: bool = False  # every node has the same name, as machines of one image do
    has_shared_address: bool = False  # every host has and announces the same address too, as of a container bridge
    restarts_unseen: bool = False  # once all are equal, all are restarted together, and no discovery helps any more
    leaf_bounds: LeafBounds = LEAF_BOUNDS  # of every record on every node
    quiescence_s: float = 0.0  # how long the nodes are watched when nothing is left to do; 0: not at all

    @property
    def expected_duration_s(self) -> float:
        """The expected virtual duration, without the time to agree, which is unknown."""
        return self.idle_s + self.faults_s + (self.quiescence_s and 2 * IDLE_TIMEOUT_S + self.quiescence_s)


def draw_options(seed: int) -> Options:
    """Draw the options of the world of `seed`."""
    draw, beside, meeting, keys, networks = (
        Random(f"{each}/{seed}") for each in ("options", "beside", "meeting", "key changes", "networks")
    )
    is_large = draw.random() < 0.02
    nodes = draw.randint(7, 12) if is_large else draw.choices([2, 3, 4, 5, 6], [30, 40, 18, 8, 4])[0]
    contexts = draw.choice([("main",), ("main",), ("main", "notes"), ("main", "main", "notes", "a/b c")])
    habits = Habits(
        contexts=contexts,
        names=draw.choice([3, 30, 300]),
        writes_per_s=draw.choice([0.3, 0.7, 2.0]) * 2 / nodes,
        requests_per_s=draw.choice([0.01, 0.05, 0.2]),
        burst_records=draw.choice([5, 20, 60]),
        import_records=draw.choices([0, 1200], [93, 7])[0],
        bodies=draw.choice([(0, 10), (0, 10), (0, 10, 10, 100, 1_000), (10, 10_000)]),
    )
    links = tuple(draw.sample(_LINKS, draw.choice([1, 1, 2, 3])))
    return Options(
        nodes=nodes,
        records=draw.choice([0, 0, 3, 3, 15, 40]) * min(nodes, 4),
        habits=habits,
        links=links,
        multicast=draw.choice(
            [RELIABLE, MulticastConditions(delay_s=2.0), MulticastConditions(delay_s=5.0, loss=0.3)]
        ),
        commit_s=draw.choice([0.0, 0.002, 0.02, 0.5]),
        skews_ms=draw.choice([(0,), (0,), (0, 3_000, -60_000), (0, 3_600_000, -86_400_000)]),
        # Over connections that always break too early no two nodes ever meet.
        meets_first=draw.random() < 0.3 and all(link.cut_after_bytes is None for link in links),
        faults_s=draw.choices([3.0, 6.0, 12.0, 20.0, 60.0], [25, 30, 25, 15, 5])[0],
        faults=tuple(kind for kind in KINDS_OF_FAULT if draw.random() < draw.choice([0.2, 0.5])),
        fault_rate=draw.choice([0.1, 0.3, 1.0]),
        adversaries=draw.choices([0, 1, 2], [70, 25, 5])[0],
        adversaries_stay=draw.random() < 0.4,
        partials=draw.choices([0, 1, 2], [80, 15, 5])[0],
        strangers=draw.choices([0, 1], [85, 15])[0],
        newcomers=draw.choices([0, 1], [85, 15])[0],
        is_compromised=draw.random() < 0.08,
        quiescence_s=draw.choices([0.0, 120.0], [75, 25])[0],
        common_records=draw.choices([0, 2_200], [96, 4])[0],  # large stores that differ in little, without a cursor
        stall_rate=beside.choices([0.0, 0.05, 0.2], [80, 15, 5])[0],
        bulk_records=beside.choices([0, 2_000, 10_000], [94, 5, 1])[0],
        uplink_bytes_s=draw.choices([inf, 1_000_000, 200_000], [85, 10, 5])[0],
        has_equal_names=meeting.random() < 0.25,
        has_shared_address=meeting.random() < 0.25,
        restarts_unseen=meeting.random() < 0.2,
        key_changes=keys.choices([0, 3, 8], [75, 15, 10])[0],
        rotations=networks.choices([0, 1, 2, 4], [80, 7, 8, 5])[0],
        leaf_bounds=draw.choices([LEAF_BOUNDS, *_SMALL_LEAVES], [80, 10, 10])[0],
    )
