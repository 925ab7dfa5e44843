"""What must be true of a world of nodes, all the while and in the end.

    on each commit      S1 every version durable anywhere is signed by its kid, and its key speaks for its author
    on each event       V  a conversation called equal ended at a root that the honest peer really had, unless the peer
                           says that it went one way; nor is a link called equal at another
    at any moment       S2 root == recomputed root      S3 what was acknowledged is there, or what superseded it
                        S4 nothing a tombstone (or anything else) covers is visible       S5 pins stay
                        S6 clocks stay near a wall clock  S7 tasks, connections, tables are bounded
    after healing       E1 all live nodes hold the same versions, roots and statements    E2 the model's merge, no more
                        E5 two versions under one dot are both known to everybody
    after a rest        E4 nothing pending (in those worlds whose options have a rest; sim/quiescence.py)

E3, the bound in time and in conversations, is the swarm's (sim/scenario.py). S8, no conversation complete without its
close, is V and the tests of sync/transport.py. SEEDS.md's invariants, and where each is asserted:

    I1          E1                          I2, I3  E2, whatever the order in which versions came
    I4          E2, under whichever modes ran: each does in the worlds of 300 seeds (tests/sim/test_scenario.py)
    I5          S3 and E2                   I6      S3 and E2, as writes go on during syncs
    I7          S1, on the commit that makes a snapshot visible, and V
    I8          S4                          I9      S1 for ids; tests/sim/test_determinism.py for all the rest
    I11         `_on_event`: what runs is advertised; tests/sim/test_scenario.py: what is advertised runs
    I12         E4, V and `Workload.hear_answers`

The model knows every version that was ever durable on a node that is still there, so also those whose writer was never
told of it.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from echonode.clock import to_ms
from echonode.errors import LocalError
from echonode.limits import CANDIDATES_MAX, CONNECTIONS_MAX, TIMESTAMP_AHEAD_MS_MAX
from echonode.model.identity import IdentityId, PublicKey
from echonode.model.keys import KeyState, read_statement
from echonode.model.merkle import Tree, state_of
from echonode.model.record import IDENTITIES, LeafKey, Record, VersionId, supersedes
from echonode.node.events import Event, RecordForked, SyncCompleted
from echonode.node.mode_table import MODES
from echonode.sim.expected_heads import all_heads, is_covered, leaves_of, merge_of
from echonode.sim.quiescence import unfinished
from echonode.sim.version_reading import SoundOnes
from echonode.sim.world import Member, World
from echonode.store.port import Store

TASKS_MAX: Final = 3 * CONNECTIONS_MAX
EMPTY_ROOT: Final = Tree().root
_LATELY: Final = 8  # commits that may come between a Done and the event that tells of it
STILL_WITHIN_S: Final = 60.0  # a comparison over a slow link takes some seconds, and others may follow it
_STEP_S: Final = 0.05


class Violation(LocalError):
    """Something that must always hold does not."""


class Invariants:
    """Watches one world. `is_honest` tells who may be believed."""

    def __init__(self, world: World, is_honest: Callable[[IdentityId], bool] = lambda _: True) -> None:
        self._world = world
        self._is_honest = is_honest
        self.committed: dict[str, dict[str, dict[VersionId, Record]]] = defaultdict(lambda: defaultdict(dict))
        self.acknowledged: dict[Member, list[Record]] = defaultdict(list)
        self.void: set[tuple[IdentityId, PublicKey]] = set()
        self._stated: dict[str, dict[tuple[IdentityId, PublicKey], KeyState]] = defaultdict(dict)  # by member
        self._sound = SoundOnes()
        self._roots: dict[tuple[str, str], dict[bytes, None]] = defaultdict(dict)  # by member and context, in order
        self._agreed: dict[str, list[Record]] = {}  # heads by context
        self._pins: dict[Member, dict[tuple[str, str], IdentityId]] = {}
        self._walls_ms: dict[Member, int] = {}
        self._outcomes: dict[tuple[str, bytes, str, str], str] = {}  # by member, session, context and role
        self._doubts: dict[tuple[str, bytes, str, str], str] = {}  # by the end whose outcome is to tell

    # -- on each commit and each event -------------------------------------------------------------------------------

    def on_commit(self, name: str, store: Store, context: str, records: Sequence[Record]) -> None:
        """S1, for what just became durable on the disk of the member `name`; the model takes note."""
        with self._kept():
            self._note_roots(name, store, store.contexts() if context == IDENTITIES else (context,))
            for record in records:
                self._check_sound(name, context, record)
                self.committed[name][context][record.id] = record
                if context == IDENTITIES:
                    self._note_statement(name, record)

    def watch(self, member: Member) -> None:
        """Listen to the member's events from now on."""
        member.observers.append(lambda event: self._on_event(member, event))
        member.on_equal.append(lambda peer: self._on_linked_equal(member, peer))

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """For what is checked in the midst of a node, where a violation only ends a session: it fails the world too."""
        try:
            yield
        except Exception as error:
            self._world.loop.unhandled.append(error)
            raise

    def _note_roots(self, name: str, store: Store, contexts: Iterable[str]) -> None:
        for context in contexts:
            roots, root = self._roots[name, context], store.tree(context).root
            roots.pop(root, None)  # it may be an earlier one again: the latest is the last
            roots[root] = None

    def _on_event(self, member: Member, event: Event) -> None:
        if isinstance(event, SyncCompleted):
            with self._kept():
                if event.mode not in [mode.value for mode in MODES]:
                    raise Violation(f"I11: {member.name} ran {event.mode}, which it does not advertise")
                if event.verified:
                    self._check_equal(member, event)
                self._judge_doubts(member.name, event)

    def _check_equal(self, member: Member, event: SyncCompleted) -> None:
        """V: the root at which `member` says it is equal to an honest peer is one that the peer has had.

        Of a conversation that went one way, equal means that nothing is missing here; its other end says one_way.
        """
        peer = IdentityId(event.peer)
        if not self._is_honest(peer) or event.mode == "reconcile":
            return  # of what a filter takes there is no root: `check_part` looks at the versions
        other = self._world.identified(peer)
        theirs = {EMPTY_ROOT, *self._roots[other.name, event.context]}
        latest = list(self._roots[member.name, event.context])[-_LATELY:] or [EMPTY_ROOT]
        if theirs.isdisjoint(latest):
            role = "responder" if event.role == "initiator" else "initiator"
            doubt = f"V: {member.name} calls itself equal to {other.name} in {event.context}, and never was"
            self._doubts[other.name, event.session, event.context, role] = doubt

    def _on_linked_equal(self, member: Member, peer: IdentityId) -> None:
        """V: when a link says that all is equal, the roots here are ones that its peer has had, in every context."""
        if self._is_honest(peer):
            with self._kept():
                store, other = member.node.store, self._world.identified(peer).name
                for context in store.contexts():
                    root = store.tree(context).root
                    if root != EMPTY_ROOT and root not in self._roots[other, context]:
                        raise Violation(f"V: {member.name} calls its link with {other} equal: not so in {context}")

    def _judge_doubts(self, name: str, event: SyncCompleted) -> None:
        """Either end may be the first to tell."""
        self._outcomes[name, event.session, event.context, event.role] = event.outcome
        for which in [which for which in self._doubts if which in self._outcomes]:
            doubt = self._doubts.pop(which)
            if self._outcomes[which] != "one_way":
                raise Violation(doubt)

    def _note_statement(self, name: str, record: Record) -> None:
        stated = read_statement(record)
        which = (stated.identity, stated.key)
        self._stated[name][which] = max(stated.state, self._stated[name].get(which, KeyState.ACTIVE))
        if stated.state is KeyState.COMPROMISED:
            self.void.add(which)

    def one_of(self, record: Record) -> Record:
        """S1: that version, for all nodes that hold it the same object; a thousand would fill memory with copies."""
        with self._kept():
            return self._sound_one(record)

    def _sound_one(self, record: Record) -> Record:
        found = self._sound.find(record)
        if found is None:
            raise Violation(f"S1: {record.name} is not signed, or not what its bytes say")
        return found

    def _check_sound(self, name: str, context: str, record: Record) -> None:
        self._sound_one(record)
        if record.context != context:
            raise Violation(f"S1: {record.name} of {record.context} is stored in {context}")
        if context == IDENTITIES:
            read_statement(record)
        elif self._stated[name].get((record.author, record.kid)) not in (KeyState.ACTIVE, KeyState.RETIRED):
            raise Violation(f"S1: {name} stores {record.name}, and its key does not speak for its author")

    # -- what clients did --------------------------------------------------------------------------------------------

    def acknowledge(self, member: Member, records: Iterable[Record | None]) -> None:
        """`member` told a client that these are stored."""
        self.acknowledged[member] += [record for record in records if record is not None]

    async def forget_lost(self, member: Member) -> None:
        """`member`'s disk was put back to an earlier state: what came later is not to be found on it any more."""
        self._note_roots(member.name, member.store, member.store.contexts())
        for context, versions in self.committed[member.name].items():
            leaves = leaves_of(await all_heads(member.store, context))
            gone = [one.id for one in versions.values() if not is_covered(one, leaves)]
            for version in gone:
                del versions[version]
        self.acknowledged[member] = [
            record for record in self.acknowledged[member] if record.id in self.committed[member.name][record.context]
        ]
        self._pins.pop(member, None)
        self._stated[member.name].clear()
        for statement in await all_heads(member.store, IDENTITIES):
            self._note_statement(member.name, statement)
        stated = (which for states in self._stated.values() for which in states.items())
        self.void = {which for which, state in stated if state is KeyState.COMPROMISED}  # nobody else may have heard

    # -- at any moment -----------------------------------------------------------------------------------------------

    async def check(self, member: Member) -> None:
        """S1 to S7 of one node that is up, in full."""
        store, name = member.node.store, member.name
        for context in store.contexts():
            leaves = leaves_of(await all_heads(store, context))
            tree = Tree((key, state_of(head.id for head in heads)) for key, heads in leaves.items())
            if tree.root != store.tree(context).root:
                raise Violation(f"S2: {name}'s root of {context} is not that of its records")
            for heads in leaves.values():
                for head in heads:
                    self._check_sound(name, context, head)
                    if any(supersedes(other, head) for other in heads):
                        raise Violation(f"S4: {name} shows {head.name}, which it knows to be superseded")
            self._check_acknowledged(member, context, leaves)
        self._check_clock(member)
        await self._check_pins(member)
        self._check_bounds(member)

    def _check_acknowledged(self, member: Member, context: str, leaves: dict[LeafKey, list[Record]]) -> None:
        for record in self.acknowledged[member]:
            if record.context != context or (record.author, record.kid) in self.void:
                continue
            if not is_covered(record, leaves):
                raise Violation(f"S3: {member.name} acknowledged {context}/{record.name} and has lost it")

    def note_clock(self, member: Member) -> None:
        """What the member's wall clock shows now; to be told before and after somebody sets it."""
        self._walls_ms[member] = max(self._walls_ms.get(member, 0), member.clock.now_ms())

    def _check_clock(self, member: Member) -> None:
        self.note_clock(member)
        if to_ms(member.node.records.latest) > self._walls_ms[member] + TIMESTAMP_AHEAD_MS_MAX + 1:
            raise Violation(f"S6: {member.name}'s clock followed somebody far ahead")

    async def _check_pins(self, member: Member) -> None:
        pins = await member.node.store.pins()
        for which, identity in self._pins.get(member, {}).items():
            if pins.get(which) != identity:
                raise Violation(f"S5: {member.name} changed the pin of {which}")
        self._pins[member] = dict(pins)

    def _check_bounds(self, member: Member) -> None:
        table = member.node.peer_table
        sizes = {
            "targets": (len(table.targets), CANDIDATES_MAX),
            "peers": (len(table.peers), CANDIDATES_MAX),
            "tasks": (len(self._world.loop.tasks_of(member.owner)), TASKS_MAX),
            "connections": (self._world.network.connections_of(member.host), 2 * CONNECTIONS_MAX),
        }
        for what, (size, most) in sizes.items():
            if size > most:
                raise Violation(f"S7: {member.name} has {size} {what}, more than {most}")

    # -- after healing -----------------------------------------------------------------------------------------------

    async def check_agreement(self, members: Sequence[Member]) -> None:
        """E1 and E2 over the live full nodes, given that nothing is written any more."""
        for member in members:
            await self.check(member)
        contexts = {context for member in members for context in member.node.store.contexts()}
        for context in contexts:
            known = {version.id: version for one in members for version in self.committed[one.name][context].values()}
            expected = merge_of(
                version
                for version in known.values()
                if context == IDENTITIES or (version.author, version.kid) not in self.void
            )
            for member in members:
                held = {head.id for head in await all_heads(member.node.store, context)}
                if held != expected:
                    raise Violation(
                        f"E2: {member.name} holds {len(held - expected)} versions of {context} too many "
                        f"and lacks {len(expected - held)}"
                    )
            self._agreed[context] = [known[version] for version in expected]
        roots = [member.roots() for member in members]
        if any(each != roots[0] for each in roots):
            raise Violation("E1: nodes that hold the same versions have different roots")

    def check_forks(self, member: Member) -> None:
        """E5, of what was agreed on, once everything committed is acknowledged. Of one record: a dot given to versions
        of two records is nothing that a merge ever meets."""
        if member.starts > 1:
            return  # it may have died between storing the second one and saying so
        told = {event.version for event in member.events if isinstance(event, RecordForked)}
        for some in leaves_of(head for heads in self._agreed.values() for head in heads).values():
            dots = Counter((head.writer, head.counter) for head in some)
            if max(dots.values()) > 1 and told.isdisjoint(head.id for head in some):
                raise Violation(f"E5: {member.name} holds twins of {some[0].name} under one dot, and says nothing")

    async def check_part(self, member: Member, full: Member, context: str, tag: str) -> None:
        """E1 of a partial node: it holds all that is tagged so, and of everything else nothing that is not current."""
        current = {head.id: head for head in await all_heads(full.node.store, context)}
        held = {head.id for head in await all_heads(member.node.store, context)}
        if lacking := {version for version, head in current.items() if tag in head.tags} - held:
            raise Violation(f"E1: {member.name} lacks {len(lacking)} versions of {context} that it wants")
        if stale := held - set(current):
            raise Violation(f"E1: {member.name} holds {len(stale)} versions of {context} that nobody else does")

    def check_rest(self, members: Sequence[Member]) -> None:
        """E4: every node knows every honest node of its network to be equal, and no snapshot is half received."""
        here = {member.identity.id: member.name for member in members}
        for member in members:
            for peer in member.node.peers():
                if peer.id in here and not peer.in_sync:
                    raise Violation(f"E4: {member.name} does not know {here[peer.id]} to be equal: {peer.reason}")
            for context in member.node.store.contexts():
                if member.node.store.staged(context) is not None:
                    raise Violation(f"E4: {member.name} has an unfinished snapshot of {context}")

    async def check_still(self, members: Sequence[Member]) -> None:
        """E4: soon there is a moment at which a node has nothing to do, given that nobody lies to it."""
        for member in members:
            until_s = self._world.loop.time() + STILL_WITHIN_S
            while left := unfinished(self._world, member):
                if self._world.loop.time() > until_s:
                    raise Violation(f"E4: {member.name} is at rest and has {', '.join(left)}")
                await asyncio.sleep(_STEP_S)
