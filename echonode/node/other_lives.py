"""OtherLives: a store that was rolled back under its node, or cloned, finds out from peers (PROTOCOL.md §5.6).

    a Hello proves a version signed in our name, but never by us ──┐   (a claim without that version proves nothing)
    such a version arrives ────────────────────────────────────────┴─> Fork kept, a new instance before the next write
    a peer holds such a version that is not held here ───────────────> receive from it first, then send
    whatever arrives then that covers versions of either life ───────> those that no head stands for are signed again
    after the start, where peers are known ──────────────────────────> the first write waits 2 s for a Hello

A disk that goes back as a whole (a snapshot of a virtual machine, of LVM or ZFS) takes its marks with it, so nothing on
this machine tells (store/sqlite/life.py has what can be told). A lie costs the check of one signature.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from echonode.errors import EchonodeError, RemoteError, StoreError
from echonode.limits import BATCH_RECORDS_MAX, FIRST_WRITE_WAIT_S, LEAF_HISTORY_MAX, RECEIVE_FIRST_S
from echonode.model.identity import IdentityId, Writer, writer_of
from echonode.model.other_life import Fork, to_sign_again
from echonode.model.record import Record, SignedRecord, parse, verify
from echonode.node.events import OtherLifeMet, RecordsApplied, RecordsStaged
from echonode.node.record_book import RecordBook
from echonode.wire.messages import Hello, Seen

_Place: TypeAlias = tuple[str, IdentityId, str]  # context, author and name of a record


class OtherLives:
    """Watches what peers tell of this store's own writes. `spawn` starts work that ends with the node;
    `receive_from` dials a peer and receives what it holds, for that many seconds at most."""

    def __init__(
        self,
        records: RecordBook,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        receive_from: Callable[[IdentityId, float], Awaitable[None]],
    ) -> None:
        self._records = records
        self._store = records.store
        self._spawn = spawn
        self._receive_from = receive_from
        self._heard = asyncio.Event()  # set by the first Hello
        self._asked: set[IdentityId] = set()  # peers that told of the other life since it became known
        self._receives_first: set[IdentityId] = set()
        self._receiving: set[IdentityId] = set()
        self._is_history_due = False
        self._looking = asyncio.Lock()  # two looks into one record would sign the same versions

    # -- the first write -----------------------------------------------------------------------------------------------

    def hold_first_write(self) -> None:
        """Let writes wait until a peer has said what it has seen, or for FIRST_WRITE_WAIT_S."""
        self._records.may_write.clear()
        self._spawn(self._release())

    async def _release(self) -> None:
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(FIRST_WRITE_WAIT_S):
                    await self._heard.wait()
        finally:
            self._records.may_write.set()

    # -- what peers tell -----------------------------------------------------------------------------------------------

    async def hear(self, hello: Hello, peer: IdentityId) -> bool:
        """Take a new instance if the `hello` of `peer` proves that another store writes under the present one.

        Return True while the peer holds something of the other life that was not received yet. Before that nothing is
        to be sent to it: versions of ours would supersede there what it holds. The proof itself is kept at once."""
        is_news = False
        for seen in hello.seen:
            stranger = self._stranger_in(seen)
            if stranger is None:
                continue
            if self._is_in_our_name(stranger):
                self._asked.clear()
                self._suspect([stranger])
                await self._begin_anew(self._records.other_life)
            if peer not in self._asked and not await self._holds(stranger):
                is_news = True
                await self._records.take_stranger(stranger, peer)
        if is_news:
            self._asked.add(peer)
            self._receives_first.add(peer)
        self._heard.set()
        return peer in self._receives_first

    def receive_first(self, peer: IdentityId) -> None:
        """Dial `peer`, and receive from it. Until that is over, or RECEIVE_FIRST_S, `hear` returns True."""
        if peer not in self._receiving:
            self._receiving.add(peer)
            self._start(self._receive(peer))

    async def _receive(self, peer: IdentityId) -> None:
        try:
            await self._receive_from(peer, RECEIVE_FIRST_S)
        finally:
            self._receiving.discard(peer)
            self._receives_first.discard(peer)

    def takes_first(self, peer: IdentityId) -> bool:
        """Return True, once, if this node should only receive in the next conversations that it opens with `peer`."""
        is_due = peer in self._receives_first
        self._receives_first.discard(peer)
        return is_due

    async def _holds(self, version: Record) -> bool:
        place = version.context, version.author, version.name
        heads = await self._store.heads(*place)
        earlier = await self._store.earlier(*place, limit=LEAF_HISTORY_MAX)
        return version.id in {*(head.id for head in heads), *(each.record.id for each in earlier)}

    def _stranger_in(self, seen: Seen) -> Record | None:
        """Return the version that `seen` shows, if it is of our key and one of our instances, and never signed here."""
        if not seen.raw or (seen.instance != self._store.instance and seen.instance not in self._store.forks):
            return None
        try:
            version = parse(seen.raw)
            is_of_our_key = version.kid == self._records.identity.device.public
            if not is_of_our_key or version.instance != seen.instance or self._store.has_signed(version) is not False:
                return None
            return verify(version)
        except RemoteError:
            return None  # it proves nothing

    def _is_in_our_name(self, version: SignedRecord) -> bool:
        return (version.kid, version.instance) == (self._records.identity.device.public, self._store.instance)

    def note_strangers(self, event: OtherLifeMet) -> None:
        """Take a new instance, and look into what became of the strangers and of what they met here."""
        self._suspect(event.strangers)
        self._start(self._meet(event.strangers))

    def note_applied(self, event: RecordsApplied) -> None:
        """Do the same for records of a peer, which the record book has looked at."""
        if not event.source:
            return
        if self._records.other_life is not None:
            self._start(self._meet(event.records))
        elif self._store.forks:
            writers = self._forks().keys()
            covering = [record for record in event.records if not writers.isdisjoint(record.vector)]
            if covering:
                self._start(self._look_into(_places(covering)))

    def note_staged(self, event: RecordsStaged) -> None:
        """Take a new instance if the record book found a stranger among records that are not shown yet."""
        if self._records.other_life is not None:
            self._start(self._begin_anew(self._records.other_life))

    def _suspect(self, strangers: Sequence[Record]) -> None:
        """Let the next write take a new instance."""
        for stranger in strangers:
            if self._is_in_our_name(stranger):
                self._records.other_life = self._records.other_life or Fork.proven_by(stranger)

    # -- what follows --------------------------------------------------------------------------------------------------

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside the node. A full disk does not end the node: the next write, or Hello, goes on with it."""
        self._spawn(_without_failure(work))

    async def _meet(self, records: Sequence[Record]) -> None:
        await self._begin_anew(self._records.other_life)
        forks = self._store.forks
        for record in records:
            fork = forks.get(record.instance)
            if fork is not None and self._is_strange(record):
                earlier = fork.joined(Fork.proven_by(record))
                if earlier != fork:
                    await self._store.save_fork(earlier)
                    self._is_history_due = True
        await self._look_into(_places(records))
        await self._look_into_history()

    def _is_strange(self, version: Record) -> bool:
        is_of_our_key = version.kid == self._records.identity.device.public
        return is_of_our_key and self._store.has_signed(version) is False

    async def _begin_anew(self, fork: Fork | None) -> None:
        """Write under a new instance. Look into all that was superseded before this was known."""
        await self._records.renew_if_copied()
        if fork is not None:
            self._is_history_due = True
            self._start(self._look_into_history())

    async def _look_into_history(self) -> None:
        """Look into the records of which the history has a version that may be due now that more is known of a fork."""
        device = self._records.identity.device.public
        while self._is_history_due:
            self._is_history_due = False
            try:
                page, after, last = list[Record](), -1, 0
                while last != after:
                    after = last
                    page, last = await self._store.earlier_by(device, after, limit=BATCH_RECORDS_MAX)
                    forks = self._store.forks
                    may_be_due = [one for one in page if one.instance in forks and forks[one.instance].is_before(one)]
                    await self._look_into(_places(may_be_due))
            except StoreError:
                self._is_history_due = True
                raise

    async def _look_into(self, places: Iterable[_Place]) -> None:
        """Sign again what no head of these records stands for, of either life."""
        async with self._looking:
            for place in places:
                earlier = await self._store.earlier(*place, limit=LEAF_HISTORY_MAX)
                if not earlier:
                    continue
                heads = await self._store.heads(*place)
                held = [*heads, *(each.record for each in earlier if self._records.is_admitted(each.record))]
                due = to_sign_again(held, self._forks(), self._store.has_signed)
                if due:
                    await self._records.sign_again(due)

    def _forks(self) -> dict[Writer, Fork]:
        device = self._records.identity.device.public
        return {writer_of(device, instance): fork for instance, fork in self._store.forks.items()}


async def _without_failure(work: Coroutine[Any, Any, None]) -> None:
    with suppress(EchonodeError):
        await work


def _places(records: Iterable[Record]) -> list[_Place]:
    return list(dict.fromkeys((record.context, record.author, record.name) for record in records))
