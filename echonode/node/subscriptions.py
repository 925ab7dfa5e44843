"""Subscriptions: which contexts this node wants, and which part of each (PROTOCOL.md §8.14).

A partial node keeps the records that its filter takes, and every later version of a record that it holds already. It
reconciles what the filter takes, in both directions with a node that wants all, one way with another partial one. It
serves no mode that passes off what it holds as the whole. It takes nothing from peers that its filter excludes, and
gives them all it has.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

from echonode.errors import LocalError
from echonode.limits import BATCH_RECORDS_MAX, RECONCILES_MAX
from echonode.model.filter import Filter
from echonode.model.filter_text import IdentityResolver, read_filter
from echonode.model.identity import IdentityId
from echonode.model.record import IDENTITIES, Record
from echonode.node.kept_contexts import KeptContexts
from echonode.node.remembered import remember
from echonode.store.port import Store
from echonode.sync.filtered_set import FilteredSets
from echonode.text import escape
from echonode.wire.messages import Direction

EVERYTHING: Final = Filter()


@dataclass(slots=True)
class Subscriptions:
    """The contexts that are kept here, and the filters of those that are wanted in part.

    `kept`: the contexts that are kept; `filters`: by context, the part that is wanted, a context without one being
    wanted whole; `terms`: the text that each filter was made of, for people; `closed` returns the authors beyond their
    quota in a context.
    """

    store: Store
    kept: KeptContexts
    filters: Mapping[str, Filter] = field(default_factory=dict)
    terms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    filtered_sets: FilteredSets = field(default_factory=FilteredSets)
    closed: Callable[[str], frozenset[IdentityId]] = field(default=lambda _: frozenset())
    _reconciling: int = 0
    # (peer, context) -> both roots, those of `identities` and the filter, when all that is wanted was equal: not
    # reconciled again until one of them changes.
    _equal: "OrderedDict[tuple[IdentityId, str], tuple[bytes, ...]]" = field(default_factory=OrderedDict)
    # (peer, context) of which one side wants a part, when that was last asked for in vain, or not made equal.
    _open: "OrderedDict[tuple[IdentityId, str], None]" = field(default_factory=OrderedDict)

    def subscribe(self, subscriptions: Mapping[str, Sequence[str]], resolve: IdentityResolver) -> None:
        """Want only the parts that these terms name (model/filter_text.py), by context. Raises LocalError."""
        self.filters = {context: read_filter(terms, resolve) for context, terms in subscriptions.items()}
        self.terms = subscriptions

    def takes(self, context: str) -> bool:
        """Return whether `context` is kept here."""
        return self.kept.takes(context)

    @property
    def wants_all(self) -> bool:
        """True when every context that is kept is wanted whole."""
        return not self.filters

    def of(self, context: str) -> Filter | None:
        """Return the part of `context` that is wanted, without authors beyond their quota; None when that is all."""
        wanted, closed = self._chosen(context), self.closed(context)
        if not closed or context == IDENTITIES:
            return wanted
        wanted = wanted or EVERYTHING
        return replace(wanted, not_authors=wanted.not_authors | closed)

    def terms_of(self, context: str) -> Sequence[str] | None:
        """Return the text of the part of `context` that the configuration names, None when that is all of it."""
        return None if self._chosen(context) is None else self.terms[context]

    def _chosen(self, context: str) -> Filter | None:
        """Return the part of `context` that the configuration names, None when that is all of it."""
        wanted = None if context == IDENTITIES else self.filters.get(context)
        return None if wanted is None or wanted.takes_all else wanted

    def wants(self, context: str, peer: IdentityId) -> Callable[[Record], bool] | None:
        """Return a judge of the records that `peer` brings, True for one to keep; None when all are kept."""
        wanted = self._chosen(context)
        if wanted is None:
            return None
        is_heard = wanted.accepts_sender(peer)

        def is_wanted(record: Record) -> bool:
            # The tree is asked for each time: that of an empty context is not the one it will have.
            is_held = self.store.tree(context).get(record.key) is not None
            return is_heard and (is_held or wanted.matches(record))

        return is_wanted

    async def forget(self, context: str, is_own: Callable[[Record], bool]) -> int:
        """Delete what is held of `context` and not wanted, but for our own records. Return how many records that was.

        Raises LocalError when all of the context is wanted.
        """
        wanted = self._chosen(context)
        if wanted is None:
            raise LocalError(f"all of {escape(context)} is wanted: there is no subscription that leaves anything out")
        keys = [key for key, _ in self.store.tree(context).leaves_at(b"")]
        forgotten = 0
        for start in range(0, len(keys), BATCH_RECORDS_MAX):
            forgotten += await self.store.forget(
                context, keys[start : start + BATCH_RECORDS_MAX], lambda head: is_own(head) or wanted.matches(head)
            )
            self.filtered_sets.clear()
        return forgotten

    async def drop(self, context: str) -> int:
        """Delete all that is held of `context`. Return how many records that was."""
        dropped = 0
        while keys := [key for key, _ in islice(self.store.tree(context).leaves_at(b""), BATCH_RECORDS_MAX)]:
            dropped += await self.store.forget(context, keys, lambda _: False)
        self.filtered_sets.clear()
        return dropped

    @property
    def is_busy(self) -> bool:
        """True while so many parts are being reconciled that one more has to wait."""
        return self._reconciling >= RECONCILES_MAX

    @contextmanager
    def reconciling(self) -> Iterator[None]:
        """Count one more reconciliation while the body runs."""
        self._reconciling += 1
        try:
            yield
        finally:
            self._reconciling -= 1

    def way(self, context: str, peer: IdentityId, direction: Direction, *, is_theirs_partial: bool) -> Direction | None:
        """Return the direction of records in a conversation about `context` that we open with `peer`; None: no way.

        Of two nodes that both want a part each pulls its own: neither is to take what the other's filter takes.
        """
        wanted = self.of(context) or EVERYTHING
        pulls = direction is not Direction.SEND and wanted.accepts_sender(peer)
        pushes = direction is not Direction.RECEIVE and not is_theirs_partial
        if pulls and pushes:
            return Direction.BOTH
        if pulls:
            return Direction.RECEIVE
        return Direction.SEND if pushes else None

    def note(self, peer: IdentityId, context: str, *, is_done: bool) -> None:
        """Note whether the part that one side wants was made equal when it was last asked for."""
        if is_done:
            self._open.pop((peer, context), None)
        else:
            remember(self._open, (peer, context), None)

    def is_open(self, peer: IdentityId, context: str) -> bool:
        """Return whether the part that one side wants was last asked for in vain, or not made equal."""
        return (peer, context) in self._open

    def note_equal(self, peer: IdentityId, context: str, roots: tuple[bytes, ...]) -> None:
        """Note that all that is wanted is equal, as of `roots`."""
        remember(self._equal, (peer, context), (*roots, (self.of(context) or EVERYTHING).digest()))

    def is_equal(self, peer: IdentityId, context: str, roots: tuple[bytes, ...]) -> bool:
        """Return whether all that is wanted was equal as of these `roots`, under the filter of today."""
        return self._equal.get((peer, context)) == (*roots, (self.of(context) or EVERYTHING).digest())
