"""LogCursor: the place to which this node has followed the change log of one peer."""

from collections.abc import Collection
from dataclasses import dataclass

from echonode.model.identity import IdentityId, Instance
from echonode.node.handshake import Session
from echonode.store.port import Cursor, Store
from echonode.sync import tree_parts
from echonode.sync.select import Mode, State


@dataclass(frozen=True, slots=True)
class LogCursor:
    """A reading of the stored cursors of one peer. `instance`: the life of its store that its hello names."""

    store: Store
    peer: IdentityId
    instance: Instance

    @classmethod
    def of(cls, store: Store, session: Session) -> "LogCursor":
        """Return the cursor into the log of the peer of `session`."""
        return cls(store, session.peer.id, Instance(session.hello.instance))

    def cursor(self, context: str) -> Cursor | None:
        """Return the cursor of `context`; None when there is none, or it is of another life of the peer's store."""
        cursor = self.store.cursor(self.peer, context)
        return cursor if cursor is not None and cursor.instance == self.instance else None

    def seq(self, context: str) -> int | None:
        """Return the sequence number up to which nothing of the peer's log is missing here; None without a cursor."""
        cursor = self.cursor(context)
        return None if cursor is None else cursor.seq

    def reached(self, context: str, seq: int) -> None:
        """Note that nothing of the peer's log up to `seq` is missing here."""
        self.store.note(Cursor(self.peer, self.instance, context, seq))

    def can_follow(self, context: str, served: Collection[str]) -> bool:
        """Return whether a `delta` may go on from the cursor, `served` being the modes that the peer serves."""
        return self.cursor(context) is not None and Mode.DELTA.value in served

    def our_state(self, context: str, is_partial: bool) -> State:
        """Return our side of a selection. `is_partial`: only a part of the context is wanted here."""
        tree = self.store.tree(context)
        level1 = tree_parts.cut(tree.children_at(b""), 16)
        return State(tree.root, len(tree), level1, self.store.seq(context), self.seq(context), is_partial)
