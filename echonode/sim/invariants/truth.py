"""The truth of what nodes show: T1 and T2 of the table in sim/invariants/__init__.py. A failed check raises Violation.

A claim may be late, as it takes time to notice that a peer is gone: it is false only when it was not true at any moment
of the last LATE_S seconds.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from echonode.limits import SILENT_S
from echonode.model.merkle import Tree
from echonode.node.views import PeerState, PeerView
from echonode.sim.event_loop import SimLoop
from echonode.sim.invariants.checks import Violation
from echonode.sim.world import Member

LATE_S: Final = SILENT_S + 5.0
_COMMIT_S: Final = 2.0  # a change here is shown when it is on disk
_RESUMED_S: Final = 5.0
_EMPTY: Final = Tree().root


class Truth:
    """A log of the true state of each member of a world."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._up_s: dict[str, float] = {}  # by member: when it last was up and did not stand still
        # By member and context: when each root was the current one for the last time; the latest is current.
        self._roots: dict[tuple[str, str], dict[bytes, float]] = defaultdict(dict)

    def note(self, name: str, context: str, root: bytes) -> None:
        """Note the root of `context` at the member `name` from now on."""
        roots, now_s = self._roots[name, context], self._loop.time()
        roots[next(reversed(roots), _EMPTY)] = now_s
        roots.pop(root, None)
        roots[root] = now_s
        for old in [old for old, left_s in roots.items() if left_s < now_s - LATE_S]:
            del roots[old]

    def look(self, members: Iterable[Member]) -> None:
        """Note which members are up."""
        for member in members:
            if member.is_up and not self._loop.is_stalled(member.owner):
                self._up_s[member.name] = self._loop.time()

    def check(self, member: Member, others: Sequence[Member]) -> None:
        """Check what `member` shows of `others`. Raises Violation."""
        if self._loop.time() - self._loop.resumed_s.get(member.owner, -_RESUMED_S) < _RESUMED_S:
            return  # it has to read first what came while it stood still
        names = {other.identity.id: other.name for other in others}
        for view in member.node.peers():
            if view.id in names and view.state is PeerState.CONNECTED:
                self._check_view(member, names[view.id], view)

    def _check_view(self, member: Member, other: str, view: PeerView) -> None:
        now_s = self._loop.time()
        away_s = now_s - self._up_s.get(other, now_s)
        if away_s > LATE_S:
            raise Violation(f"T2: {member.name} shows {other} as connected, which is away for {away_s:.0f} s")
        if not (view.in_sync and view.following):
            return
        for context in member.node.store.contexts():
            theirs = self._held_since(other, context, now_s - LATE_S)
            if theirs.isdisjoint(self._held_since(member.name, context, now_s - _COMMIT_S)):
                raise Violation(f"T1: {member.name} shows {other} as equal, and in {context} it was not lately")

    def _held_since(self, name: str, context: str, since_s: float) -> set[bytes]:
        """Return the roots that were current at any moment since then."""
        roots = self._roots[name, context] or {_EMPTY: 0.0}
        return {next(reversed(roots)), *[root for root, left_s in roots.items() if left_s >= since_s]}
