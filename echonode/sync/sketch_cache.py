"""The sketches of this node's contexts, each built once and kept up to date as its tree changes.

To build one takes about half a second for a million leaves, on a thread. To update it takes time for the changed leaves
only, so a conversation costs what differs, not what there is. numpy is imported only when a sketch is asked for.
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
    """Sketches by context. `netid` returns the secret with which members of the network key their short ids."""

    def __init__(self, netid: Callable[[], bytes] = bytes) -> None:
        self._netid = netid
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._building = asyncio.Lock()

    def key(self, context: str, session: bytes = b"") -> bytes:
        """Return the 16-byte key of short ids: the same for the whole network, or with `session` one for that session,
        which no peer could know before."""
        return keyed(SKETCH, self._netid(), context.encode() + b"\0" + session, 16)

    async def of(self, context: str, tree: Tree, session: bytes = b"") -> "Sketch":
        """Return the sketch of `tree` as it is at the return: read it before the next await. With `session` the sketch
        is made for that session, and shows the tree as it was at the call."""
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
