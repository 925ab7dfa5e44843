"""`LogTail`: the newest entries of the change log in memory, so that links and readers are told without reading it.

A context has a tail from its first read on, until nobody reads it while BATCH_RECORDS_MAX entries come. The tail ends
where the log ends, else it holds nothing: entries that came by a way past it begin it anew.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from echonode.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX
from echonode.model.record import VersionId
from echonode.store.merge import MergePlan
from echonode.store.port import Change


@dataclass(slots=True)
class _ContextTail:
    """The log of one context behind seq `start`, up to seq `upto`. `size`: bytes of its entries; `unread`: entries
    added since it was read last."""

    start: int
    upto: int
    entries: OrderedDict[VersionId, Change] = field(default_factory=OrderedDict)
    size: int = 0
    unread: int = 0

    def drop(self, version: VersionId) -> None:
        """Remove a version that left the log."""
        entry = self.entries.pop(version, None)
        if entry is not None:
            self.size -= len(entry.raw)


class LogTail:
    """The tails of all contexts."""

    def __init__(self) -> None:
        self._tails: dict[str, _ContextTail] = {}

    def read(self, context: str, after: int, newest: int) -> list[Change] | None:
        """Return every entry of `context` behind the seq `after`, in order; None when not all of them are here.
        `newest`: the newest seq of the log. What is not here yet is here from the next entry on."""
        tail = self._tails.get(context)
        if tail is None or tail.upto != newest:
            self._tails[context] = _ContextTail(newest, newest)
            return [] if after >= newest else None
        tail.unread = 0
        if after < tail.start:
            return None
        found: list[Change] = []
        for entry in reversed(tail.entries.values()):
            if entry.seq <= after:
                break
            found.append(entry)
        found.reverse()
        return found

    def add(self, plan: MergePlan, before: int, upto: int) -> None:
        """Carry out `plan`, now durable, where its context has a tail. The log's newest seq was `before`, and is `upto`
        now: that of the last new head, and the others have the seqs right before it."""
        tail = self._tails.get(plan.context)
        if tail is None:
            return
        records = plan.added()
        tail.unread += len(records)
        if tail.upto != before or tail.unread > BATCH_RECORDS_MAX:
            del self._tails[plan.context]
            return
        tail.upto = upto
        for merge in plan.merges.values():
            for move in merge.left():
                tail.drop(move.version.id)
        for seq, record in enumerate(records, upto - len(records) + 1):
            tail.entries[record.id] = Change(seq, record.id, record.raw)
            tail.size += record.size
        while len(tail.entries) > BATCH_RECORDS_MAX or tail.size > BATCH_BYTES_MAX:
            _, gone = tail.entries.popitem(last=False)
            tail.size -= len(gone.raw)
            tail.start = gone.seq

    def forget(self, context: str) -> None:
        """Remove the tail of `context`: what is in the log changed past it."""
        self._tails.pop(context, None)
