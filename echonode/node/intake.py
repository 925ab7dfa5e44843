"""Intake: which of the versions that peers bring are kept here. That is local policy: it makes this node partial, never
a context different (PROTOCOL.md §4.5, §8.14).

    refused with `quota`                                        until
      a record of an author beyond the author's quota           the author's records take less
      a record of a stranger beyond one author's quota          the records of all strangers take less
      a record beyond the quota of the whole store              the store holds less
      a context beyond those that one identity may introduce    one of these holds nothing live any more

A version of a record held here is always kept: an edit or a tombstone must not stop spreading. So are key statements,
and this node's own records. Records of a pool are counted by the key that signed them: no member uses up what others
may write. Where nodes have to be approved, strangers are those that were not let in, and they share one author's quota:
anybody can make identities.

Once something of an author was refused, this node is partial for that author in that context: it compares the rest, and
not that again in vain.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from echonode.errors import Reason
from echonode.limits import CLOSED_AUTHORS_MAX, QUOTA_REOPENED_AT
from echonode.model.identity import IdentityId
from echonode.model.keys import Admission
from echonode.model.record import IDENTITIES, Record
from echonode.model.usage import Usage
from echonode.node.kept_contexts import KeptContexts
from echonode.node.settings import Quota, Quotas
from echonode.store.port import RefusedVersion, Store

_Coming: TypeAlias = defaultdict[tuple[bytes, ...], Usage]  # in one batch, by author or by pool and key; () for all
_AS_STRANGER: Final = (b"",)  # in a batch, what strangers bring
_TOO_MANY_CONTEXTS: Final = "its author introduced as many contexts as one identity may"
_STRANGERS_FULL: Final = "the records of all nodes that were not let in here take as much as one author may"
_AUTHOR_FULL: Final = "the records of its author take as much as one author may"
_STORE_FULL: Final = "records take as much as this node gives them"


@dataclass(frozen=True, slots=True)
class _Strangers:
    """The authors that are no strangers, and how much the others take."""

    known: Collection[IdentityId]
    usage: Usage


@dataclass(slots=True)
class Intake:
    """Judges what peers bring to `store`. `own`: this node's identity, whose records are always kept; `acquainted`
    returns the authors that are no strangers, None where nobody is one."""

    store: Store
    kept: KeptContexts
    own: IdentityId
    quotas: Quotas
    acquainted: Callable[[], Collection[IdentityId] | None]
    _closed: dict[str, set[IdentityId]] = field(default_factory=lambda: defaultdict(set))  # authors, by context

    def judge(self, context: str, peer: IdentityId, records: Sequence[Record]) -> list[RefusedVersion]:
        """Return those of `records` of `context`, brought by `peer`, that are not taken, each with the reason."""
        if context == IDENTITIES or not (self.quotas.are_set or self.kept.is_new(context)):
            return []  # the usual case costs nothing
        tree, refused = self.store.tree(context), list[RefusedVersion]()
        coming: _Coming = defaultdict(Usage)
        strangers = self._strangers()
        for record in records:
            if record.author == self.own or tree.get(record.key) is not None:
                continue
            if self.store.keyring.admission(record) is not Admission.ADMITTED:
                continue  # the store says why
            why = self._why_not(context, peer, record, coming, strangers)
            if why:
                refused.append(RefusedVersion(record.id, Reason.QUOTA, why))
                if why != _TOO_MANY_CONTEXTS:
                    self._close(context, record)
        return refused

    def _strangers(self) -> "_Strangers | None":
        known = self.acquainted() if self.quotas.author != Quota() else None
        return None if known is None else _Strangers(known, self.store.usage.of_others(known))

    def _why_not(
        self, context: str, peer: IdentityId, record: Record, coming: "_Coming", strangers: "_Strangers | None"
    ) -> str:
        """Return why `record` is not taken beside those of the same batch that are, "" when it is."""
        counted: tuple[bytes, ...] = (record.author,)
        usage, full = self.store.usage.of(record.author), _AUTHOR_FULL
        if self.kept.is_of_pool(record):
            counted, usage = (record.author, record.kid), self.store.usage.of_key(record.author, record.kid)
        elif strangers is not None and record.author not in strangers.known:
            counted, usage, full = _AS_STRANGER, strangers.usage, _STRANGERS_FULL
        if _is_beyond(self.quotas.author, usage, coming[counted], record):
            return full
        if _is_beyond(self.quotas.total, self.store.usage.total, coming[()], record):
            return _STORE_FULL
        if not self.kept.introduce(context, self.kept.introducer(record, peer)):
            return _TOO_MANY_CONTEXTS
        for each in (coming[counted], coming[()]):
            each.add(1, record.size, record.is_tombstone)
        return ""

    def _close(self, context: str, record: Record) -> None:
        closed = self._closed[context]
        if not self.kept.is_of_pool(record) and len(closed) < CLOSED_AUTHORS_MAX:
            closed.add(record.author)

    def closed(self, context: str) -> frozenset[IdentityId]:
        """Return the authors of which nothing more is taken in `context`; those with room again are taken off."""
        closed = self._closed.get(context)
        if not closed:
            return frozenset()
        strangers = self._strangers()
        closed -= {author for author in closed if self._has_room_again(author, strangers)}
        return frozenset(closed)

    def _has_room_again(self, author: IdentityId, strangers: "_Strangers | None") -> bool:
        usage = self.store.usage
        share = usage.of(author)
        if strangers is not None and author not in strangers.known:
            share = strangers.usage
        return not (_is_near(self.quotas.author, share) or _is_near(self.quotas.total, usage.total))


def _is_beyond(quota: Quota, usage: Usage, coming: Usage, record: Record) -> bool:
    """Return whether `record` is too much beside what there is and what comes with it."""
    wanted = (
        (quota.records, usage.records + coming.records + 1),
        (quota.bytes, usage.bytes + coming.bytes + record.size),
        (quota.tombstones, usage.tombstones + coming.tombstones + 1 if record.is_tombstone else 0),
    )
    return any(bound and value > bound for bound, value in wanted)


def _is_near(quota: Quota, usage: Usage) -> bool:
    pairs = ((quota.records, usage.records), (quota.bytes, usage.bytes), (quota.tombstones, usage.tombstones))
    return any(bound and value > bound * QUOTA_REOPENED_AT for bound, value in pairs)
