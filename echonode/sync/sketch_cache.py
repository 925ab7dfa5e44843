"""The sketches of this node's contexts, each built once and kept up to date as its tree changes.

Building one takes about half a second of a million leaves, on a thread; bringing it up to date takes what has changed.
So a conversation costs what differs, not what there is. Nothing here imports numpy before a sketch is asked for.
"""

import asyncio
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from echonode.digest import SKETCH, keyed
from echonode.limits import SKETCHES_MAX
from echonode.model.merkle import Journal, Tree

if TYPE_CHECKING:
    from echonode.model.sketch import Sketch


@dataclass(slots=True)
class _Kept:
    tree: "weakref.ref[Tree]"
    journal: Journal
    key: bytes
    sketch: "Sketch"

    def is_of(self, tree: Tree, key: bytes) -> bool:
        return self.tree() is tree and tree.writes_to(self.journal) and self.key == key


class SketchCache:
    """By context. `netid` is the secret by which members of the network key their short ids."""

    def __init__(self, netid: Callable[[], bytes] = bytes) -> None:
        self._netid = netid
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._building = asyncio.Lock()

    def key(self, context: str, session: bytes = b"") -> bytes:
        """What short ids are keyed with: the same for the whole network, or one that nobody knew before `session`."""
        return keyed(SKETCH, self._netid(), context.encode() + b"\0" + session, 16)

    async def of(self, context: str, tree: Tree, session: bytes = b"") -> "Sketch":
        """The sketch of `tree` as it is when this returns. Read it before the next await. One for a session is made
        for it, and is of the moment in which this was called."""
        from echonode.model import sketch

        loop = asyncio.get_running_loop()
        key = self.key(context, session)
        if session:
            return await loop.run_in_executor(None, sketch.make_sketch, list(tree.entries_around(b"")), key)
        async with self._building:
            kept = self._kept.get(context)
            if kept is None or not kept.is_of(tree, key):
                journal = tree.start_journal()
                made = await loop.run_in_executor(None, sketch.make_sketch, list(tree.entries_around(b"")), key)
                kept = self._kept[context] = _Kept(weakref.ref(tree), journal, key, made)
            self._kept.move_to_end(context)
            while len(self._kept) > SKETCHES_MAX:
                self._kept.popitem(last=False)
        kept.sketch.remove(sketch.short_ids(bytes(kept.journal.removed), key))
        kept.sketch.add(sketch.short_ids(bytes(kept.journal.added), key))
        kept.journal.clear()
        return kept.sketch
