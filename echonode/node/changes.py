"""Changes: the change log of a context, as programs follow it and go on after a restart.

    cursor   SEQ-LIFE   a place in the log: SEQ is an entry's number, LIFE names the store's life and the context, and
                        whose versions are hidden where a person denied somebody

The log holds one entry for each head, in the order in which they came; a superseded version's entry leaves it. So a
reader that goes on from a cursor is told of every record that changed since, in its latest state, and of every deletion
once. A reader keeps its place in a number and nothing here: a thousand slow ones cost nothing but their connections.

A cursor of another life of the store (it was restored, copied or begun anew) says nothing about this one's log. The
reader is told so by a `gap`, and the log from its beginning. So is one whose cursor is of a time when other versions
were hidden: records that are shown again would else never be told.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from echonode.errors import LocalError
from echonode.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, PULL_SCAN_MAX
from echonode.model.filter import Filter
from echonode.model.heads import winner
from echonode.model.identity import INSTANCE_BYTES
from echonode.model.record import IDENTITIES, LeafKey, Record, from_store
from echonode.node.denials import MARK_BYTES
from echonode.node.event_bus import EventBus
from echonode.node.events import ContextShown, RecordsApplied, TrustChanged
from echonode.node.record_book import RecordBook
from echonode.text import escape, from_base32, to_base32

EVERYTHING: Final = Filter()
_TAG_BYTES: Final = 4
_LIFE_CHARS: Final = 20  # of instance and tag in base32
_SEQ_MAX: Final = 2**63 - 1
_GAP: Final = "the store was restored, copied or begun anew since: all that it holds is told from the beginning"
_SHOWN_ANEW: Final = "records of other nodes are hidden here than then: all that is shown is told from the beginning"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordChange:
    """A record that changed. `record`: the version that readers get now, a tombstone for a deleted one; `heads`: all
    that stand, two or more in a conflict; `cursor`: the place behind this change."""

    record: Record
    heads: tuple[Record, ...]
    cursor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePage:
    """Changes in order. `seq`, and `cursor` as text: the place behind all that was looked at; `is_end`: that was all of
    the log."""

    changes: tuple[RecordChange, ...]
    seq: int
    cursor: str
    is_end: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The place at which a reader begins. `gap`: why it is not the one that was asked for, in a sentence; else ""."""

    seq: int
    gap: str = ""


class Changes:
    """Reads the change log of a store as readers see it, and waits for its next entries."""

    def __init__(self, records: RecordBook, bus: EventBus) -> None:
        self._store = records.store
        self._denials = records.denials
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        bus.on(RecordsApplied, self._wake)
        bus.on(ContextShown, self._wake)
        bus.on(TrustChanged, self._wake_all)

    @property
    def view(self) -> bytes:
        """A mark of whose versions are hidden now. A reader that began under another one has to begin anew."""
        return self._denials.mark

    def cursor(self, context: str, seq: int | None = None) -> str:
        """Return the cursor of an entry of the log of `context`; of the newest without a `seq`."""
        life = self._store.instance + crc32(context.encode()).to_bytes(_TAG_BYTES, "big") + self.view
        return f"{self._store.seq(context) if seq is None else seq}-{to_base32(life)}"

    def start(self, context: str, since: str | None) -> Start:
        """Return where a reader with the cursor `since` goes on: at the beginning without one. Raises LocalError for a
        text that is no cursor, and for a cursor of another context."""
        if since is None:
            return Start(seq=0)
        number, _, life = since.partition("-")
        try:
            raw = from_base32(life, INSTANCE_BYTES + _TAG_BYTES + (MARK_BYTES if len(life) > _LIFE_CHARS else 0))
        except ValueError:
            raise _no_cursor(since) from None
        if not (number.isascii() and number.isdigit() and int(number[:20]) <= _SEQ_MAX and len(number) < 20):
            raise _no_cursor(since)
        tag, view = raw[INSTANCE_BYTES:][:_TAG_BYTES], raw[INSTANCE_BYTES + _TAG_BYTES :]
        if tag != crc32(context.encode()).to_bytes(_TAG_BYTES, "big"):
            raise LocalError(f"that is a cursor of another context than {escape(context)}")
        seq = int(number)
        if raw[:INSTANCE_BYTES] != self._store.instance or seq > self._store.seq(context):
            return Start(seq=0, gap=_GAP)
        return Start(seq=seq) if view == self.view else self.start_anew()

    def start_anew(self) -> Start:
        """Return the beginning, for a reader that began while other versions were hidden."""
        return Start(seq=0, gap=_SHOWN_ANEW)

    async def page(
        self,
        context: str,
        after: int,
        *,
        wanted: Filter = EVERYTHING,
        limit: int = BATCH_RECORDS_MAX,
        bytes_max: int = BATCH_BYTES_MAX,
    ) -> ChangePage:
        """Return the wanted changes behind the seq `after`: up to `limit`, and of more than one as many as fit into
        `bytes_max`. There may be none before the end, where many in a row are not wanted.

        A deletion has no tags and no model, so a filter on these takes every deletion."""
        changes: list[RecordChange] = []
        for _ in range(PULL_SCAN_MAX):
            entries, seq = await self._store.changes(
                context, after, records_max=min(limit, BATCH_RECORDS_MAX), bytes_max=bytes_max
            )
            latest: dict[LeafKey, tuple[Record, int]] = {}
            for entry in entries:
                record = from_store(entry.raw)
                latest.pop(record.key, None)  # a record in conflict is told once, at its last entry
                latest[record.key] = (record, entry.seq)
            for record, at in latest.values():
                heads = self._denials.shown(await self._heads(record))
                shown = winner(heads) if heads else None
                if shown is not None and _is_wanted(wanted, shown):
                    changes.append(RecordChange(record=shown, heads=tuple(heads), cursor=self.cursor(context, at)))
            after = seq
            if changes or after >= self._store.seq(context):
                break
        return ChangePage(
            changes=tuple(changes),
            seq=after,
            cursor=self.cursor(context, after),
            is_end=after >= self._store.seq(context),
        )

    async def follow(
        self, context: str, after: int, *, wanted: Filter = EVERYTHING, bytes_max: int = BATCH_BYTES_MAX
    ) -> AsyncIterator[ChangePage]:
        """Yield page after page, for ever: those that are there, then each as it comes."""
        while True:
            page = await self.page(context, after, wanted=wanted, bytes_max=bytes_max)
            after = page.seq
            yield page
            if page.is_end:
                await self.wait(context, after)

    async def wait(self, context: str, after: int) -> None:
        """Return once the log of `context` has entries behind the seq `after`, or other versions are hidden."""
        view = self.view
        while self._store.seq(context) <= after and self.view == view:
            future = asyncio.get_running_loop().create_future()
            waiting = self._waiting.setdefault(context, set())
            waiting.add(future)
            try:
                await future
            finally:
                waiting.discard(future)
                if not waiting and self._waiting.get(context) is waiting:
                    del self._waiting[context]

    async def _heads(self, record: Record) -> tuple[Record, ...]:
        """Return all heads of `record`, itself one of them when it was read."""
        if record.key not in self._store.conflicts(record.context):
            return (record,)
        return tuple(await self._store.heads(record.context, record.author, record.name)) or (record,)

    def _wake(self, event: RecordsApplied | ContextShown) -> None:
        # A key statement may void versions of any context, so that earlier ones are heads again.
        contexts = list(self._waiting) if event.context == IDENTITIES else [event.context]
        self._release(contexts)

    def _wake_all(self, event: TrustChanged) -> None:
        self._release(list(self._waiting))

    def _release(self, contexts: Iterable[str]) -> None:
        for context in contexts:
            for future in self._waiting.pop(context, ()):
                if not future.done():
                    future.set_result(None)


def _is_wanted(wanted: Filter, record: Record) -> bool:
    if not record.is_tombstone:
        return wanted.matches(record)
    return Filter(
        authors=wanted.authors, not_authors=wanted.not_authors, pools=wanted.pools, name=wanted.name
    ).matches(record)


def _no_cursor(text: str) -> LocalError:
    return LocalError(f"{escape(text, 80)} is no cursor: give one that an answer of this node had")
