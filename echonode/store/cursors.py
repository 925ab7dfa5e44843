"""The cursors of a store: how far each peer's change log has been followed. Pure, shared by all stores.

    saved with records   in the transaction that stores what they cover (`Store.apply`), every CURSOR_STEP entries
    noted                in memory; what they cover is durable already, so they may wait for a later transaction

A lost cursor costs one comparison of trees. A cursor that claims too much would cost records. So a cursor may lag
behind what is held and never runs ahead of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from echonode.limits import CURSOR_STEP, CURSORS_MAX
from echonode.model.identity import IdentityId
from echonode.store.port import Cursor

CursorKey: TypeAlias = tuple[IdentityId, str]


def key_of(cursor: Cursor) -> CursorKey:
    """Return the peer and the context of `cursor`: one cursor is kept for each pair."""
    return cursor.peer, cursor.context


def covers(known: Cursor | None, cursor: Cursor) -> bool:
    """Return True when `known` is of the same life of the peer's store as `cursor` and goes at least as far."""
    return known is not None and known.instance == cursor.instance and known.seq >= cursor.seq


@dataclass(slots=True)
class Cursors:
    """One cursor for each peer and context, of the peer's latest instance. Past CURSORS_MAX the oldest are dropped.

    A partial node follows no log, so there are no cursors for parts of a context."""

    _kept: dict[CursorKey, Cursor] = field(default_factory=dict)
    _unsaved: dict[CursorKey, Cursor | None] = field(default_factory=dict)
    _saved: dict[CursorKey, Cursor] = field(default_factory=dict)

    def get(self, peer: IdentityId, context: str) -> Cursor | None:
        """Return how far `peer` has been followed in `context`, None when it never was."""
        return self._kept.get((peer, context))

    def covers(self, cursor: Cursor) -> bool:
        """Return True when the kept cursor covers `cursor`."""
        return covers(self._kept.get(key_of(cursor)), cursor)

    def note(self, cursor: Cursor) -> None:
        """Keep `cursor`, and list it under `unsaved` until `saved` is called with it.

        Ignores a cursor that goes back within the same life of the peer's store: the records that it covers are held.
        """
        key = key_of(cursor)
        is_covered = self.covers(cursor)
        known = self._kept.pop(key, None)
        if known is not None and is_covered:
            self._kept[key] = known
            return
        if known is None and len(self._kept) >= CURSORS_MAX:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            self._unsaved[oldest] = None
        self._kept[key] = self._unsaved[key] = cursor

    def set_back(self, peer: IdentityId, seqs: Mapping[str, int]) -> None:
        """Drop the cursors of `peer` that lie beyond `seqs`, the state of its log by context."""
        for key, cursor in list(self._kept.items()):
            if cursor.peer == peer and cursor.seq > seqs.get(cursor.context, 0):
                del self._kept[key]
                self._unsaved[key] = None

    def drop(self, context: str) -> None:
        """Drop every cursor of `context`. The caller deletes those that are saved."""
        for kept in (self._kept, self._unsaved, self._saved):
            for key in [key for key in kept if key[1] == context]:
                del kept[key]

    def load(self, cursor: Cursor) -> None:
        """Keep `cursor` as read from the place where it is saved."""
        self._kept[key_of(cursor)] = self._saved[key_of(cursor)] = cursor

    def is_due(self, cursor: Cursor) -> bool:
        """Return True when `cursor` is far enough from the saved one to be saved by the way: after a crash, what lies
        between comes once more."""
        saved = self._saved.get(key_of(cursor))
        return saved is None or saved.instance != cursor.instance or not 0 <= cursor.seq - saved.seq < CURSOR_STEP

    def unsaved(self, *, is_last: bool = False) -> tuple[list[Cursor], list[CursorKey]]:
        """Return the cursors that a transaction should save, and the keys of those that it should delete; all of them
        in the last transaction."""
        changed = [cursor for cursor in self._unsaved.values() if cursor is not None]
        if not is_last:
            changed = [cursor for cursor in changed if self.is_due(cursor)]
        return changed, [key for key, cursor in self._unsaved.items() if cursor is None]

    def saved(self, cursors: list[Cursor], deleted: list[CursorKey]) -> None:
        """Forget that `cursors` and `deleted` are unsaved; call it once the transaction with them is durable."""
        for cursor in cursors:
            self._saved[key_of(cursor)] = cursor
            if self._unsaved.get(key_of(cursor)) == cursor:
                del self._unsaved[key_of(cursor)]
        for key in deleted:
            self._saved.pop(key, None)
            if key in self._unsaved and self._unsaved[key] is None:
                del self._unsaved[key]
