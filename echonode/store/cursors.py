"""The cursors of a store: how far each peer's change log has been followed. Pure, shared by all stores.

    saved with records   in the transaction that stores what they cover (`Store.apply`)
    noted                in memory; what they cover is durable already, so they may wait for the next transaction

A cursor that is lost costs a comparison of trees and nothing else; one that says too much would cost records. So what
is kept may lag behind what is held, never run ahead of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from echonode.limits import CURSORS_MAX
from echonode.model.identity import IdentityId
from echonode.store.port import Cursor

_Key: TypeAlias = tuple[IdentityId, str]


def _key(cursor: Cursor) -> _Key:
    return cursor.peer, cursor.context


@dataclass(slots=True)
class Cursors:
    """One cursor for each peer and context, that of the peer's latest instance; the oldest go when there are too many.
    Who wants a part follows nobody, so there is none for a part."""

    _kept: dict[_Key, Cursor] = field(default_factory=dict)
    _unsaved: dict[_Key, Cursor | None] = field(default_factory=dict)

    def get(self, peer: IdentityId, context: str) -> Cursor | None:
        """How far `peer` has been followed, None when it never was."""
        return self._kept.get((peer, context))

    def is_behind(self, cursor: Cursor) -> bool:
        """Whether one at least as far, of the same life of the peer's store, is kept already."""
        known = self._kept.get(_key(cursor))
        return known is not None and known.instance == cursor.instance and known.seq >= cursor.seq

    def note(self, cursor: Cursor) -> None:
        """`cursor` stands from now on; `unsaved` has it until `saved` is told. One that goes back in the same life of
        the peer's store is passed over: records it would cover are held."""
        key = _key(cursor)
        is_behind = self.is_behind(cursor)
        known = self._kept.pop(key, None)
        if known is not None and is_behind:
            self._kept[key] = known
            return
        if known is None and len(self._kept) >= CURSORS_MAX:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            self._unsaved[oldest] = None
        self._kept[key] = self._unsaved[key] = cursor

    def set_back(self, peer: IdentityId, seqs: Mapping[str, int]) -> None:
        """The log of `peer` is at `seqs`, by context: cursors beyond that hold no more."""
        for key, cursor in list(self._kept.items()):
            if cursor.peer == peer and cursor.seq > seqs.get(cursor.context, 0):
                del self._kept[key]
                self._unsaved[key] = None

    def drop(self, context: str) -> None:
        """No peer has been followed in `context` any more; what is saved of it goes by another hand."""
        for kept in (self._kept, self._unsaved):
            for key in [key for key in kept if key[1] == context]:
                del kept[key]

    def load(self, cursor: Cursor) -> None:
        """`cursor` was read from where it is saved."""
        self._kept[_key(cursor)] = cursor

    def unsaved(self) -> tuple[list[Cursor], list[_Key]]:
        """What a transaction should save, and what it should delete."""
        changed = [cursor for cursor in self._unsaved.values() if cursor is not None]
        return changed, [key for key, cursor in self._unsaved.items() if cursor is None]

    def saved(self, cursors: list[Cursor], deleted: list[_Key]) -> None:
        """A transaction that saved `cursors` and deleted `deleted` is durable."""
        for cursor in cursors:
            if self._unsaved.get(_key(cursor)) == cursor:
                del self._unsaved[_key(cursor)]
        for key in deleted:
            if key in self._unsaved and self._unsaved[key] is None:
                del self._unsaved[key]
