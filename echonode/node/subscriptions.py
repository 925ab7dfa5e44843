"""Wanting a part of a context: what a subscription means for the sessions of this node (PROTOCOL.md §8.14).

A partial node keeps what its filter takes, and whatever it holds already, in every later version. It reconciles what
the filter takes, in both directions with a node that wants all, one way with another partial one. It serves no mode
that passes off what it holds as the whole. From peers it does not want to hear of it takes nothing; what it has, it
gives.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from echonode.errors import LocalError
from echonode.limits import BATCH_RECORDS_MAX, RECONCILES_MAX
from echonode.model.filter import Filter
from echonode.model.filter_text import IdentityResolver, read_filter
from echonode.model.identity import IdentityId
from echonode.model.record import IDENTITIES, Record
from echonode.store.port import Store
from echonode.sync.filtered_set import FilteredSets
from echonode.text import escape
from echonode.wire.messages import Direction

EVERYTHING: Final = Filter()


@dataclass(slots=True)
class Subscriptions:
    """By context, the filter of its subscription; a context without one is wanted whole."""

    store: Store
    filters: Mapping[str, Filter] = field(default_factory=dict)
    terms: Mapping[str, Sequence[str]] = field(default_factory=dict)  # what the filters were made of, for people
    surveys: FilteredSets = field(default_factory=FilteredSets)
    _reconciling: int = 0
    # (peer, context) -> both roots, those of `identities` and the filter, when all that is wanted was equal: not
    # reconciled again until one of them changes.
    _settled: dict[tuple[IdentityId, str], tuple[bytes, ...]] = field(default_factory=dict)
    # (peer, context) of which one side wants a part, when that was last asked for in vain, or not made equal.
    _open: set[tuple[IdentityId, str]] = field(default_factory=set)

    def subscribe(self, subscriptions: Mapping[str, Sequence[str]], resolve: IdentityResolver) -> None:
        """Take these terms (model/filter_text.py) for what is wanted, by context. Raises LocalError."""
        self.filters = {context: read_filter(terms, resolve) for context, terms in subscriptions.items()}
        self.terms = subscriptions

    def of(self, context: str) -> Filter | None:
        """What is wanted of `context`, None when that is all of it."""
        wanted = None if context == IDENTITIES else self.filters.get(context)
        return None if wanted is None or wanted.takes_all else wanted

    def wants(self, context: str, peer: IdentityId) -> Callable[[Record], bool] | None:
        """Whether a record that `peer` brings is kept; None when all are."""
        wanted = self.of(context)
        if wanted is None:
            return None
        is_heard = wanted.accepts_sender(peer)

        def is_wanted(record: Record) -> bool:
            # The tree is asked for each time: that of an empty context is not the one it will have.
            is_held = self.store.tree(context).get(record.key) is not None
            return is_heard and (is_held or wanted.matches(record))

        return is_wanted

    async def forget(self, context: str, is_own: Callable[[Record], bool]) -> int:
        """Let go of what is held of `context` and not wanted, but for our own records; how many there were. Raises
        LocalError when all of it is wanted."""
        wanted = self.of(context)
        if wanted is None:
            raise LocalError(f"all of {escape(context)} is wanted: there is no subscription that leaves anything out")
        keys = [key for key, _ in self.store.tree(context).leaves_at(b"")]
        forgotten = 0
        for start in range(0, len(keys), BATCH_RECORDS_MAX):
            forgotten += await self.store.forget(
                context, keys[start : start + BATCH_RECORDS_MAX], lambda head: is_own(head) or wanted.matches(head)
            )
            self.surveys.clear()
        return forgotten

    @property
    def is_busy(self) -> bool:
        """Whether so many parts are being reconciled that one more has to wait."""
        return self._reconciling >= RECONCILES_MAX

    @contextmanager
    def reconciling(self) -> Iterator[None]:
        """While a part is."""
        self._reconciling += 1
        try:
            yield
        finally:
            self._reconciling -= 1

    def way(self, context: str, peer: IdentityId, direction: Direction, *, is_theirs_partial: bool) -> Direction | None:
        """Which way records may go in a conversation about `context` that we open with `peer`; None: no way.

        Of two that both want a part each pulls its own: neither is to take what the other's filter takes."""
        wanted = self.of(context) or EVERYTHING
        pulls = direction is not Direction.SEND and wanted.accepts_sender(peer)
        pushes = direction is not Direction.RECEIVE and not is_theirs_partial
        if pulls and pushes:
            return Direction.BOTH
        if pulls:
            return Direction.RECEIVE
        return Direction.SEND if pushes else None

    def note(self, peer: IdentityId, context: str, *, is_done: bool) -> None:
        """Whether the part that one side wants was made equal when it was last asked for."""
        (self._open.discard if is_done else self._open.add)((peer, context))

    def is_open(self, peer: IdentityId, context: str) -> bool:
        """Whether it was not."""
        return (peer, context) in self._open

    def settle(self, peer: IdentityId, context: str, roots: tuple[bytes, ...]) -> None:
        """All that is wanted is equal, as of `roots`."""
        self._settled[peer, context] = (*roots, (self.of(context) or EVERYTHING).digest())

    def is_settled(self, peer: IdentityId, context: str, roots: tuple[bytes, ...]) -> bool:
        """Whether nothing has changed since."""
        return self._settled.get((peer, context)) == (*roots, (self.of(context) or EVERYTHING).digest())
