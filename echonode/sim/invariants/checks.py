"""The checks of a world's invariants: on each commit, on each event, at any moment, and after the faults.

    name  what must hold                                                            checked by
    on every commit
    S1    every stored version is signed, by a key that may speak for its author    on_commit and intern; all: check
    on every event
    V     an end of a conversation or link that calls itself equal has a root       watch
          that its honest peer has had, unless the peer says that it went one way
    at any moment
    S2    the root of a context is the root of its heads, computed anew             check
    S3    an acknowledged version is stored, or a version that supersedes it        check
    S4    no superseded version is a head, be it by a tombstone or another version  check
    S5    a pin never changes                                                       check
    S6    a node's clock stays near the wall clock of its machine                   check
    S7    tasks, connections and tables stay below their bounds                     check
    S8    no conversation is complete without its close                             V; tests/sync/test_transport.py
    after the faults
    E1    all honest nodes hold the same versions, roots and key statements;        check_agreement, check_partial
          partial nodes hold what they want, and nothing outdated
    E2    these versions are the merge of all versions ever stored                  check_agreement
    E3    that is so within a bound of time and of conversations                    sim/scenario.py
    E4    no work is left, and all nodes know that they are equal                   check_known_equal, check_quiescence,
                                                                                    sim/scenario.py
    E5    two versions under one dot are both held and reported by every node       check_forks
    after rotations of the network secret
    N1    all honest nodes are of one network                                       E3
    N2    nothing crosses between them and those that were left out                 sim/network_rotations.py
    N3    what was in `shared` before can be read there                             sim/network_rotations.py
    in every world
    I1    every applied version reaches every synced peer                           E1
    I2    all nodes come to agree                                                   E2, E3
    I3    a merge is deterministic and does not depend on the order of arrival      E2
    I4    all modes lead to the same state                                          E2, as all modes run in 300 worlds:
                                                                                    tests/sim/test_scenario.py
    I5    no silent loss: a node that holds records merges                          S3, E2
    I6    records written during a sync are kept and sent                           S3, E2
    I7    a snapshot is verified before it becomes visible                          S1, V
    I8    causal order                                                              S4
    I9    ids are deterministic                                                     S1; the rest of a run:
                                                                                    tests/sim/test_determinism.py
    I11   a node advertises only what runs                                          watch; all that is advertised runs:
                                                                                    tests/sim/test_scenario.py
    I12   "nothing to do" is said, not guessed                                      V, E4, Clients.check_answers

There is no I10. Names without a file are methods of `Invariants`. A failed check raises Violation.

The model knows every version that was ever durable on a node, except those that a rollback of the disk removed. It also
knows versions that were stored but never acknowledged.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from echonode.clock import to_ms
from echonode.errors import LocalError, Reason
from echonode.limits import CANDIDATES_MAX, CONNECTIONS_MAX, TIMESTAMP_AHEAD_MS_MAX
from echonode.model.heads import LEAF_BOUNDS, LeafBounds
from echonode.model.identity import IdentityId
from echonode.model.keys import read_statement
from echonode.model.merkle import Tree, state_of
from echonode.model.record import IDENTITIES, LeafKey, Record, VersionId, supersedes
from echonode.node.events import Event, RecordForked, SessionFailed, SyncCompleted
from echonode.node.mode_table import MODES
from echonode.sim.invariants.expected_heads import all_heads, expected_heads, is_covered, leaves_of
from echonode.sim.invariants.stated_keys import StatedKeys
from echonode.sim.invariants.version_check import AuthenticVersions
from echonode.sim.quiescence import unfinished
from echonode.sim.world import Member, World
from echonode.store.memory import MemoryStore
from echonode.store.port import Store

TASKS_MAX: Final = 3 * CONNECTIONS_MAX
PROTOCOL_ERROR: Final = Reason.PROTOCOL_ERROR.text
EMPTY_ROOT: Final = Tree().root
_RECENT_COMMITS: Final = 8  # that may come between a Done and its SyncCompleted event
QUIESCENT_WITHIN_S: Final = 60.0  # a comparison over a slow link takes some seconds, and others may follow
_STEP_S: Final = 0.05


class Violation(LocalError):
    """An invariant does not hold."""


class Invariants:
    """The invariants of one world. `is_honest(identity)` is False for adversaries and for nodes of other networks."""

    def __init__(
        self,
        world: World,
        is_honest: Callable[[IdentityId], bool] = lambda _: True,
        bounds: LeafBounds = LEAF_BOUNDS,
    ) -> None:
        self._world = world
        self._is_honest = is_honest
        self._bounds = bounds
        # By member, context and id: every version that was durable there.
        self.committed: dict[str, dict[str, dict[VersionId, Record]]] = defaultdict(lambda: defaultdict(dict))
        self.acknowledged: dict[Member, list[Record]] = defaultdict(list)
        self.is_wire_whole = True  # no fault changes bytes on their way
        self.stated = StatedKeys()  # by anybody
        self._stated_at: dict[str, StatedKeys] = defaultdict(StatedKeys)  # by member
        self._left_out: set[str] = set()  # members that a rotation of the network secret left out
        self._authentic = AuthenticVersions()
        self.on_roots: Callable[[str, str, bytes], None] = lambda _member, _context, _root: None
        self._roots: dict[tuple[str, str], dict[bytes, None]] = defaultdict(dict)  # by member and context
        self._agreed_heads: dict[str, list[Record]] = {}  # by context
        self._known: dict[Member, set[IdentityId]] = {}
        self._wall_clocks_ms: dict[Member, int] = {}  # the latest time that each showed
        self._outcomes: dict[tuple[str, bytes, str, str], str] = {}  # by member, session, context and role
        self._suspicions: dict[tuple[str, bytes, str, str], str] = {}  # by the end whose outcome decides

    # -- on each commit and each event -------------------------------------------------------------------------------

    def on_commit(self, name: str, store: Store, context: str, records: Sequence[Record]) -> None:
        """Check S1 for versions that just became durable on the disk of the member `name`. Add them to the model."""
        with self._ending_the_world():
            self._note_roots(name, store, store.contexts() if context == IDENTITIES else (context,))
            for record in records:
                self._check_version(name, context, record)
                self.committed[name][context][record.id] = record
                if context == IDENTITIES:
                    self._note_statement(name, record)

    def watch(self, member: Member) -> None:
        """Check V and I11 on the member's events from now on."""
        member.observers.append(lambda event: self._on_event(member, event))
        member.on_equal.append(lambda peer: self._on_link_equal(member, peer))

    @contextmanager
    def _ending_the_world(self) -> Iterator[None]:
        """End the world with a violation that is found inside a node's code, where it would only end a session."""
        try:
            yield
        except Exception as error:
            self._world.loop.unhandled.append(error)
            raise

    def _note_roots(self, name: str, store: Store, contexts: Iterable[str]) -> None:
        for context in contexts:
            roots, root = self._roots[name, context], store.tree(context).root
            roots.pop(root, None)  # a root may come again: keep the latest last
            roots[root] = None
            self.on_roots(name, context, root)

    def _on_event(self, member: Member, event: Event) -> None:
        if isinstance(event, SessionFailed) and event.reason == PROTOCOL_ERROR and self.is_wire_whole:
            peer = IdentityId(event.peer)
            if peer and self._is_honest(peer) and self._is_honest(member.identity.id):
                with self._ending_the_world():
                    other = self._world.identified(peer).name
                    raise Violation(f"T4: {member.name} and {other} are honest, and end in {event.detail}")
        if isinstance(event, SyncCompleted):
            with self._ending_the_world():
                if event.mode not in [mode.value for mode in MODES]:
                    raise Violation(f"I11: {member.name} ran {event.mode}, which it does not advertise")
                if event.verified:
                    self._check_equal(member, event)
                self._resolve_suspicions(member.name, event)

    def _check_equal(self, member: Member, event: SyncCompleted) -> None:
        """V: suspect a member that calls itself equal to an honest peer at a root that the peer never had.

        In a conversation that goes one way, equal means that nothing is missing here, and the other end says one_way.
        So the outcome at the other end decides.
        """
        peer = IdentityId(event.peer)
        if not self._is_honest(peer) or event.mode == "reconcile":
            return  # a filtered set has no root; `check_partial` compares versions
        other = self._world.identified(peer)
        theirs = {EMPTY_ROOT, *self._roots[other.name, event.context]}
        latest = list(self._roots[member.name, event.context])[-_RECENT_COMMITS:] or [EMPTY_ROOT]
        if theirs.isdisjoint(latest):
            role = "responder" if event.role == "initiator" else "initiator"
            suspicion = f"V: {member.name} calls itself equal to {other.name} in {event.context}, and never was"
            self._suspicions[other.name, event.session, event.context, role] = suspicion

    def _on_link_equal(self, member: Member, peer: IdentityId) -> None:
        """V: a link that calls itself equal has roots that its peer has had, in every context."""
        if self._is_honest(peer):
            with self._ending_the_world():
                store, other = member.node.store, self._world.identified(peer).name
                for context in store.contexts():
                    root = store.tree(context).root
                    if root != EMPTY_ROOT and root not in self._roots[other, context]:
                        raise Violation(f"V: {member.name} calls its link with {other} equal: not so in {context}")

    def _resolve_suspicions(self, name: str, event: SyncCompleted) -> None:
        """Note the outcome at this end, and decide every suspicion that waited for it. Either end may be the first."""
        self._outcomes[name, event.session, event.context, event.role] = event.outcome
        for end in [end for end in self._suspicions if end in self._outcomes]:
            suspicion = self._suspicions.pop(end)
            if self._outcomes[end] != "one_way":
                raise Violation(suspicion)

    def _note_statement(self, name: str, record: Record) -> None:
        claim = read_statement(record)
        if name not in self._left_out:
            self.stated.note(claim)
        self._stated_at[name].note(claim)

    def note_left_out(self, member: Member) -> None:
        """Count no statement that only `member` knows: it is not of the network any more."""
        self._left_out.add(member.name)
        self._count_statements()

    def _count_statements(self) -> None:
        known = [stated for name, stated in self._stated_at.items() if name not in self._left_out]
        self.stated = StatedKeys().add_all(known)

    def intern(self, record: Record) -> Record:
        """Check S1 and return one object for each version: a thousand nodes would fill memory with copies."""
        with self._ending_the_world():
            return self._authentic_version(record)

    def _authentic_version(self, record: Record) -> Record:
        found = self._authentic.find(record)
        if found is None:
            raise Violation(f"S1: {record.name} is not signed, or not what its bytes say")
        return found

    def _check_version(self, name: str, context: str, record: Record) -> None:
        self._authentic_version(record)
        if record.context != context:
            raise Violation(f"S1: {record.name} of {record.context} is stored in {context}")
        if context == IDENTITIES:
            read_statement(record)
        elif not self._stated_at[name].is_admitted(record.author, record.kid):
            raise Violation(f"S1: {name} stores {record.name}, and its key does not speak for its author")

    # -- what clients did --------------------------------------------------------------------------------------------

    def acknowledge(self, member: Member, records: Iterable[Record | None]) -> None:
        """Note that `member` told a client that these versions are stored. None stands for an unchanged record."""
        self.acknowledged[member] += [record for record in records if record is not None]

    async def note_rollback(self, member: Member) -> None:
        """Remove from the model what `member` lost when its disk was rolled back to an earlier state."""
        self._note_roots(member.name, member.store, member.store.contexts())
        assert isinstance(member.store, MemoryStore), "simulated disks are"
        for versions in self.committed[member.name].values():
            lost = [version.id for version in versions.values() if not member.store.keeps(version)]
            for version_id in lost:
                del versions[version_id]
        self.acknowledged[member] = [
            record for record in self.acknowledged[member] if record.id in self.committed[member.name][record.context]
        ]
        self._known.pop(member, None)
        self._stated_at[member.name] = StatedKeys()
        for statement in await all_heads(member.store, IDENTITIES):
            self._note_statement(member.name, statement)
        # The lost statement that a key is compromised may have been the only copy.
        self._count_statements()

    # -- at any moment -----------------------------------------------------------------------------------------------

    async def check(self, member: Member) -> None:
        """Check S1 to S7 of one node that is up, in full."""
        store, name = member.node.store, member.name
        for context in store.contexts():
            leaves = leaves_of(await all_heads(store, context))
            tree = Tree((key, state_of(head.id for head in heads)) for key, heads in leaves.items())
            if tree.root != store.tree(context).root:
                raise Violation(f"S2: {name}'s root of {context} is not that of its records")
            for heads in leaves.values():
                for head in heads:
                    self._check_version(name, context, head)
                    if any(supersedes(other, head) for other in heads):
                        raise Violation(f"S4: {name} shows {head.name}, which it knows to be superseded")
                if len(expected_heads(heads, self._bounds)) < len(heads):
                    raise Violation(f"S4: {name} shows more heads of {heads[0].name} than it may have")
            self._check_acknowledged(member, context, leaves)
        self._check_clock(member)
        await self._check_known(member)
        self._check_bounds(member)

    def _check_acknowledged(self, member: Member, context: str, leaves: dict[LeafKey, list[Record]]) -> None:
        for record in self.acknowledged[member]:
            if record.context != context or self.stated.is_void(record.author, record.kid):
                continue
            if not is_covered(record, leaves, self._bounds):
                raise Violation(f"S3: {member.name} acknowledged {context}/{record.name} and has lost it")

    def note_clock(self, member: Member) -> None:
        """Note the member's wall clock. Call it before and after the clock is set."""
        self._wall_clocks_ms[member] = max(self._wall_clocks_ms.get(member, 0), member.clock.now_ms())

    def _check_clock(self, member: Member) -> None:
        self.note_clock(member)
        if to_ms(member.node.records.latest) > self._wall_clocks_ms[member] + TIMESTAMP_AHEAD_MS_MAX + 1:
            raise Violation(f"S6: {member.name}'s clock followed a clock far ahead")

    async def _check_known(self, member: Member) -> None:
        known = {peer.id for peer in await member.node.store.peers()}
        if forgotten := self._known.get(member, set()) - known:
            names = ", ".join(self._world.identified(identity).name for identity in forgotten)
            raise Violation(f"S5: {member.name} met {names}, and does not know it any more")
        self._known[member] = known

    def _check_bounds(self, member: Member) -> None:
        known = member.node.peer_table
        sizes = {
            "targets": (len(known.targets), CANDIDATES_MAX),
            "peers": (len(known.peers), CANDIDATES_MAX),
            "tasks": (len(self._world.loop.tasks_of(member.owner)), TASKS_MAX),
            "connections": (self._world.network.connections_of(member.host), 2 * CONNECTIONS_MAX),
        }
        for table, (size, most) in sizes.items():
            if size > most:
                raise Violation(f"S7: {member.name} has {size} {table}, more than {most}")

    # -- after healing -----------------------------------------------------------------------------------------------

    async def check_agreement(self, members: Sequence[Member]) -> None:
        """Check S1 to S7, E1 and E2 of all honest full nodes, once no client writes any more."""
        for member in members:
            await self.check(member)
        contexts = {context for member in members for context in member.node.store.contexts()}
        for context in contexts:
            stored = [self.committed[member.name][context].values() for member in members]
            known = {version.id: version for versions in stored for version in versions}
            expected = expected_heads(
                (
                    version
                    for version in known.values()
                    if context == IDENTITIES or not self.stated.is_void(version.author, version.kid)
                ),
                self._bounds,
            )
            for member in members:
                held = {head.id for head in await all_heads(member.node.store, context)}
                if held != expected:
                    raise Violation(
                        f"E2: {member.name} holds {len(held - expected)} versions of {context} too many "
                        f"and lacks {len(expected - held)}"
                    )
            self._agreed_heads[context] = [known[version] for version in expected]
        roots = [member.roots() for member in members]
        if any(other != roots[0] for other in roots):
            raise Violation("E1: nodes that hold the same versions have different roots")

    def check_forks(self, member: Member) -> None:
        """Check E5 among the heads of `check_agreement`, once everything committed is acknowledged.

        Two versions of one record count. A dot given to versions of two records never meets in a merge.
        """
        if member.starts > 1:
            return  # it may have died after it stored the second version and before it reported the pair
        reported = {event.version for event in member.events if isinstance(event, RecordForked)}
        for leaf in leaves_of(head for heads in self._agreed_heads.values() for head in heads).values():
            dots = Counter((head.writer, head.counter) for head in leaf)
            if max(dots.values()) > 1 and reported.isdisjoint(head.id for head in leaf):
                raise Violation(f"E5: {member.name} holds twins of {leaf[0].name} under one dot, and reports none")

    async def check_partial(self, member: Member, full: Member, context: str, tag: str) -> None:
        """Check E1 of a partial node: it holds every version with the tag, and no version that is outdated."""
        current = {head.id: head for head in await all_heads(full.node.store, context)}
        held = {head.id for head in await all_heads(member.node.store, context)}
        if lacking := {version for version, head in current.items() if tag in head.tags} - held:
            raise Violation(f"E1: {member.name} lacks {len(lacking)} versions of {context} that it wants")
        if stale := held - set(current):
            raise Violation(f"E1: {member.name} holds {len(stale)} versions of {context} that are outdated")

    def check_known_equal(self, members: Sequence[Member]) -> None:
        """Check E4: every node knows each honest peer to be equal, and holds no half-received snapshot."""
        names = {member.identity.id: member.name for member in members}
        for member in members:
            for peer in member.node.peers():
                if peer.id in names and not peer.in_sync:
                    raise Violation(f"E4: {member.name} does not know {names[peer.id]} to be equal: {peer.reason}")
                if peer.id in names and peer.lag:
                    raise Violation(f"T3: {member.name} shows {names[peer.id]} as {peer.lag} behind, and it is equal")
            for context in member.node.store.contexts():
                if member.node.store.staged(context) is not None:
                    raise Violation(f"E4: {member.name} has an unfinished snapshot of {context}")

    async def check_quiescence(self, members: Sequence[Member]) -> None:
        """Check E4: wait for a moment at which each node has nothing to do. It comes if no adversary is up."""
        for member in members:
            until_s = self._world.loop.time() + QUIESCENT_WITHIN_S
            while work := unfinished(self._world, member):
                if self._world.loop.time() > until_s:
                    raise Violation(f"E4: {member.name} should have nothing to do and has {', '.join(work)}")
                await asyncio.sleep(_STEP_S)
