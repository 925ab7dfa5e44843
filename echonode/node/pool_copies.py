"""Copies of the records of past pools: after a rotation without somebody, `shared` is a new pool and empty.

    the node that rotated    copies everything that the excluded did not sign
    every other node         copies what it signed itself and the first copy lacks, once it has the first copy
    all, later               copy what they signed themselves and peers brought back, as their store had been put back

So each record is copied by one node, and copies do not conflict. A copy keeps the time at which the record was made: a
record that was changed in `shared` since then is left as it is. The past pool stays readable.
"""

from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Mapping
from contextlib import aclosing
from typing import Any

from echonode.errors import StoreError
from echonode.model.heads import winner
from echonode.model.identity import IdentityId, PublicKey
from echonode.model.record import IDENTITIES, Draft, Record
from echonode.node.events import LinkEqual, RecordsApplied, RecordsStaged, SyncCompleted
from echonode.node.record_book import RecordBook


class PoolCopies:
    """Copies into `shared`. `rotators`: for each past pool, the identity that rotated away from it."""

    def __init__(self, records: RecordBook, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self.rotators: Mapping[IdentityId, IdentityId] = {}
        self._records = records
        self._spawn = spawn
        self._done: set[tuple[IdentityId, str]] = set()

    async def copy_all(self, source: IdentityId, without: Collection[IdentityId]) -> int:
        """Copy every record of the pool `source` that none of `without` signed. Return how many."""
        keyring = self._records.store.keyring
        theirs = {key for each in without for key in keyring.keys_of(each)}
        copied = 0
        for context in self._records.store.contexts():
            if self._records.keeps(context):
                copied += await self._copy(context, source, lambda key: key not in theirs)
        return copied

    def note_synced(self, event: SyncCompleted) -> None:
        """Copy our own records of past pools, once `shared` holds what the rotator copied."""
        if event.verified:
            self._note_equal(event.context, IdentityId(event.peer))

    def note_linked(self, event: LinkEqual) -> None:
        """Do the same where a link found all equal, once it is one with the rotator, or that is this node."""
        peer = IdentityId(event.peer)
        if {peer, self._records.id}.isdisjoint(self.rotators.values()):
            return
        for context in self._records.store.contexts():
            self._note_equal(context, peer)

    def note_brought(self, event: RecordsApplied | RecordsStaged) -> None:
        """Note records of past pools that we signed, and a peer brought back: they are copied when all is equal."""
        if event.source and self.rotators:
            own = set(self._records.store.keyring.keys_of(self._records.id))
            brought = (record for record in event.records if record.author in self.rotators and record.kid in own)
            self._done.difference_update((record.author, record.context) for record in brought)

    def _note_equal(self, context: str, peer: IdentityId) -> None:
        waiting = [pool for pool in self.rotators if (pool, context) not in self._done]
        if waiting and context != IDENTITIES and self._records.keeps(context):
            self._spawn(self._copy_own(context, peer, waiting))

    async def _copy_own(self, context: str, peer: IdentityId, sources: list[IdentityId]) -> None:
        keyring, me = self._records.store.keyring, self._records.id
        for source in sources:
            rotator = self.rotators.get(source)
            if rotator is None or (source, context) in self._done:
                continue
            if rotator in (peer, me) or await self._has_record_by(context, set(keyring.keys_of(rotator))):
                self._done.add((source, context))
                own = set(keyring.keys_of(me))
                try:
                    await self._copy(context, source, lambda key, own=own: key in own)  # type: ignore[misc]
                except StoreError:  # the next time that all is equal
                    self._done.discard((source, context))

    async def _has_record_by(self, context: str, keys: set[PublicKey]) -> bool:
        async with self._pages(context, self._records.shared) as pages:
            async for page in pages:
                if any(record.kid in keys for record in page):
                    return True
        return False

    async def _copy(self, context: str, source: IdentityId, is_wanted: Callable[[PublicKey], bool]) -> int:
        target = self._records.shared
        if target is None or target == source:
            return 0
        copied = 0
        async with self._pages(context, source) as pages:
            async for page in pages:
                drafts = [await self._draft(record, target, is_wanted) for record in page]
                copied += len(await self._records.put_all([draft for draft in drafts if draft is not None]))
        return copied

    def _pages(self, context: str, pool: IdentityId | None) -> "aclosing[AsyncGenerator[list[Record], None]]":
        """Return the records of `pool`, to be read in an `async with`: a node may stop in the midst of it."""
        return aclosing(self._records.scan(context, author=pool, deleted=True, hidden=True))

    async def _draft(
        self, record: Record, target: IdentityId, is_wanted: Callable[[PublicKey], bool]
    ) -> Draft | None:
        """Return the copy to write, None where there is none to make."""
        heads = await self._records.all_heads(record.context, record.author, record.name)
        wanted = [head for head in heads if is_wanted(head.kid)]
        if not wanted:
            return None
        best = winner(wanted)
        there = await self._records.all_heads(record.context, target, record.name)
        if (there and best.created_ms <= winner(there).created_ms) or (best.is_tombstone and not there):
            return None
        return Draft(
            context=record.context,
            author=target,
            name=record.name,
            body=best.body,
            tags=best.tags,
            model=best.model,
            model_version=best.model_version,
            media_type=best.media_type,
            created_ms=best.created_ms,
            is_tombstone=best.is_tombstone,
            later=best.later,
        )
