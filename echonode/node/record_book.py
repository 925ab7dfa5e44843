"""RecordBook: records as people and programs handle them: written, read by address, listed.

It is what a node is without a network: a store, the identity that writes into it, and the pool `shared`.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from operator import attrgetter
from typing import Final

from echonode.clock import Clock, Entropy, HybridClock, Timestamp, to_ms
from echonode.errors import LocalError
from echonode.limits import BATCH_RECORDS_MAX, CONTEXTS_OWN_MAX, IMPORT_SHARED_RECORDS, SHARED_FOR_S
from echonode.model.address import SHARED
from echonode.model.heads import winner
from echonode.model.identity import (
    INSTANCE_BYTES,
    Identity,
    IdentityId,
    Instance,
    Pool,
    SigningKey,
    shared_pool,
)
from echonode.model.keys import Admission, KeyState, member_draft, statement_draft
from echonode.model.member_secret import MemberSecret
from echonode.model.other_life import Fork, signed_again
from echonode.model.record import IDENTITIES, Draft, LeafKey, Record, from_store
from echonode.node.denials import Denials
from echonode.node.event_bus import EventBus
from echonode.node.events import (
    InstanceRenewed,
    OtherLifeMet,
    RecordForked,
    RecordOutranked,
    RecordsApplied,
    RecordSignedAgain,
    RecordsStaged,
    RecordVoided,
    TimestampAhead,
)
from echonode.node.kept_contexts import KeptContexts
from echonode.store.port import Applied, Audit, EarlierVersion, StaleWriterError, Store
from echonode.sync.tasks import uninterrupted
from echonode.text import escape, to_base32

KEY_IS_VOID: Final = (
    "this device's key was stated compromised: what it signed is void everywhere, and so is what it would sign now. If "
    "this device is in good hands, run `echonode key new`, then `echonode key resign` to keep what it wrote"
)


@dataclass(frozen=True, slots=True)
class WrittenRecord:
    """A record that was written, and the number of other heads that stand beside it: it could not cover them. `seq` is
    its entry's in the change log."""

    record: Record
    beside: int
    seq: int


class RecordBook:
    """The records of one store. `contexts`: those that the configuration lists, None for no list.

    `shared`: the pool of the network, None on the open network; `pools`: others that are known here; `past_pools`: what
    was `shared` before, by id, with its label; `own_statements`: the key statements that say that our device key speaks
    for us, and for `shared`; `other_life`: proof that another store writes under this one's instance, which is to be
    renewed; `denials`: whose versions readers do not get.
    """

    def __init__(
        self,
        store: Store,
        identity: Identity,
        clock: Clock,
        entropy: Entropy,
        bus: EventBus,
        contexts: frozenset[str] | None = None,
    ) -> None:
        self.store = store
        self.identity = identity
        self.kept = KeptContexts(store, identity, contexts)
        self.shared: IdentityId | None = None
        self.pools: set[IdentityId] = set()
        self.past_pools: dict[IdentityId, str] = {}
        self.own_statements: list[Record] = []
        self._introducing = asyncio.Lock()
        self.shared_pool: Pool | None = None
        self.other_life: Fork | None = None
        self.denials = Denials(lambda: store.keyring)
        self.may_write = asyncio.Event()  # cleared while a restored node catches up
        self.may_write.set()
        self._renewal = asyncio.Lock()
        self._clock = clock
        self._entropy = entropy
        self._bus = bus
        self._hybrid = HybridClock()
        self._few_came_s = float("-inf")  # when one record was written, or a few arrived, last

    @property
    def id(self) -> IdentityId:
        """The node id."""
        return self.identity.id

    @property
    def latest(self) -> Timestamp:
        """The greatest timestamp that a version written here got, or that was noted from a peer's version."""
        return self._hybrid.latest

    @property
    def is_shared(self) -> bool:
        """True while records are written or arrive a few at a time, and a bulk should leave room for them."""
        return self._clock.monotonic_s() - self._few_came_s < SHARED_FOR_S

    async def introduce(self, secret: MemberSecret | None) -> None:
        """State that our device key speaks for us, and list it in the pool of the network with that secret.

        Raises LocalError where the root key is elsewhere and the statement is not here. Raises StoreError too; then the
        pool is the one that it was."""
        async with self._introducing:
            pool = None if secret is None else shared_pool(secret.pool_seed)
            self.own_statements = await self._state_device(self.identity.device, pool)
            self.shared_pool, self.shared = pool, None if pool is None else pool.id

    async def change_device(self, device: SigningKey) -> None:
        """Sign with `device` from now on, and prove this identity with it.

        What `introduce` states is stated before: an Auth that shows one key and a statement about another looks like
        an attack to the peer that gets it. Raises StoreError; then the device key is the one that it was."""
        async with self._introducing:
            statements = await self._state_device(device, self.shared_pool)
            self.identity, self.own_statements = replace(self.identity, device=device), statements

    async def _state_device(self, device: SigningKey, pool: Pool | None) -> list[Record]:
        """State the key of `device`, and list it in `pool`. Return the statements that an Auth shows."""
        own = await self.state_once(statement_draft(self.id, device.public, KeyState.ACTIVE), self.identity.root)
        return [own] if pool is None else [own, await self._list_in(pool, device)]

    async def list_device(self, pool: Pool) -> Record:
        """State in `pool` that our device key is one of ours. Return the pool's statement, which may be there."""
        return await self._list_in(pool, self.identity.device)

    async def _list_in(self, pool: Pool, device: SigningKey) -> Record:
        return await self.state_once(member_draft(pool, self.id, device), pool.root)

    async def state_once(self, draft: Draft, root: SigningKey | None) -> Record:
        """Return the statement that `draft` would make, written now unless it is there already. Raises LocalError."""
        heads = await self.store.heads(IDENTITIES, draft.author, draft.name)
        if heads:
            return winner(heads)
        if root is None:
            raise LocalError(
                "the root key is not on this machine, and no statement about the device key is in the store: "
                "put it back with `echonode key import-root FILE` while the node is stopped"
            )
        return await self.state_key(draft, root)

    async def state_key(self, draft: Draft, root: SigningKey) -> Record:
        """Write the key statement `draft`, signed with the root key of the identity that it speaks of."""
        (record,), _ = await self._write([draft], root, skip_unchanged=False)
        assert record is not None
        return record

    # -- writing -----------------------------------------------------------------------------------------------------

    async def put(self, draft: Draft) -> Record:
        """Write one record; it covers the heads known here. Raises LocalError when it may not be written."""
        return (await self.write(draft)).record

    async def write(self, draft: Draft) -> WrittenRecord:
        """Write one record as `put` does, and say how many heads it could not cover (PROTOCOL.md §4.3)."""
        self._check_drafts([draft])
        self._few_came_s = self._clock.monotonic_s()
        (record,), applied = await self._write([draft], self.identity.device, skip_unchanged=False)
        assert record is not None
        return WrittenRecord(record, dict(applied.beside).get(record.id, 0), applied.seq)

    async def write_all(
        self, drafts: Sequence[Draft], *, skip_unchanged: bool = False
    ) -> tuple[list[Record | None], int]:
        """Write as `put_all` does. Return also the seq of the last of them in the change log."""
        self._check_drafts(drafts)
        records, applied = await self._write(drafts, self.identity.device, skip_unchanged=skip_unchanged)
        return records, applied.seq

    async def put_all(self, drafts: Sequence[Draft], *, skip_unchanged: bool = False) -> list[Record | None]:
        """Write `drafts`, all of one context, in one transaction. Return a record for each; None: unchanged, left out.

        Raises LocalError when one may not be written; then none is.
        """
        records, _ = await self.write_all(drafts, skip_unchanged=skip_unchanged)
        return records

    def _check_drafts(self, drafts: Sequence[Draft]) -> None:
        """Raise LocalError unless all of `drafts` may be written here."""
        for context, author in dict.fromkeys((draft.context, draft.author) for draft in drafts):
            if context == IDENTITIES:
                raise LocalError(f"the context {IDENTITIES} is kept by the nodes themselves")
            if not self.keeps(context):
                raise LocalError(f"the context {escape(context)} is not kept here")
            why_not = self.reason_not_to_write(author)
            if why_not is not None:
                raise LocalError(why_not)
            if not self.kept.has_room_to_write(context):
                raise LocalError(
                    f"{CONTEXTS_OWN_MAX} contexts besides main were written here already: no more are told to peers"
                )

    def reason_not_to_write(self, author: IdentityId) -> str | None:
        """Return the reason why this node may not write records of `author`, None when it may."""
        device, keyring = self.identity.device.public, self.store.keyring
        if author in self.past_pools:
            return (
                "that was `shared` under an earlier network secret, and is only read now: put what should stay into "
                f"{SHARED}/NAME"
            )
        if author not in (self.id, self.shared) and author not in self.pools:
            return "only one's own records and those of `shared` and of pools that one is a member of can be written"
        if keyring.state_of(self.id, device) is KeyState.COMPROMISED:
            return KEY_IS_VOID
        if author != self.id and keyring.listed_state(author, self.id, device) is KeyState.RETIRED:
            return "the maker of that pool has removed this node: it is a member no more"
        match keyring.admission_of(author, device):
            case Admission.ADMITTED:
                return None
            case Admission.VOID:
                return "the maker of that pool has removed this node, and all that it wrote there"
            case _:
                return "that pool does not list this device yet: its maker adds it with `echonode pool add`"

    def keeps(self, context: str) -> bool:
        """Return whether `context` may be written here."""
        return context != IDENTITIES and self.kept.may_write(context)

    async def delete(self, context: str, author: IdentityId, name: str) -> Record:
        """Delete one record. Raises LocalError when there is nothing to delete."""
        heads = await self.store.heads(context, author, name)
        if not heads or winner(heads).is_tombstone:
            raise LocalError(f"there is no record {self.label(author)}/{escape(name)}")
        return await self.put(Draft(context=context, author=author, name=name, is_tombstone=True))

    async def _write(
        self, drafts: Sequence[Draft], key: SigningKey, *, skip_unchanged: bool
    ) -> tuple[list[Record | None], Applied]:
        """Write and publish. What is stored is published, if the caller is cancelled meanwhile too."""
        await self.may_write.wait()
        await self.renew_if_copied()
        if not drafts:
            return [], Applied()
        context = drafts[0].context
        await self.kept.note_written(context)
        write = partial(
            self.store.write,
            created_ms=self._clock.now_ms(),
            skip_unchanged=skip_unchanged,
            report=partial(self._publish_written, context),
        )
        try:
            records, applied = await write(drafts, key, self.tick)
        except StaleWriterError:
            await self.renew_instance("a head claims a counter of this instance that was never given")
            records, applied = await write(drafts, key, self.tick)
        if applied.refused:
            raise LocalError(applied.refused[0].detail)
        return records, applied

    def _publish_written(self, context: str, applied: Applied) -> None:
        if applied.records:
            self._bus.publish(RecordsApplied(context=context, source=b"", records=tuple(applied.records)))
        for outranked in applied.outranked:
            self._bus.publish(RecordOutranked.of(outranked, peer=b"", context=context))
        for voided in applied.voided:
            self._bus.publish(RecordVoided.of(voided, peer=b""))

    async def take_stranger(self, stranger: Record, peer: IdentityId) -> None:
        """Keep a version that another life of this store signed, and that `peer` showed as the proof of it."""

        def report(applied: Applied) -> None:
            if applied.records:
                self._bus.publish(RecordsApplied(context=stranger.context, source=peer, records=applied.records))
            self._bus.publish(OtherLifeMet(strangers=(stranger,)))

        if self.keeps(stranger.context):
            await self.store.apply(stranger.context, [stranger], report=report)

    async def sign_again(self, versions: Sequence[Record]) -> None:
        """Let versions of one record, of our device key, stand again that another life took the place of."""

        def report(applied: Applied) -> None:
            self._publish_written(context, applied)
            for record in applied.records:
                self._bus.publish(
                    RecordSignedAgain(context=context, author=record.author, record=record.name, version=record.id)
                )

        if self.reason_not_to_write(versions[0].author) is None:
            context = versions[0].context
            again = [signed_again(version, self.identity.device) for version in versions]
            await self.store.apply(context, again, report=report)

    async def renew_if_copied(self) -> None:
        """Renew the instance when another store writes under it, unless that was done already."""
        async with self._renewal:
            fork = self.other_life
            if fork is None:
                return
            if fork.instance == self.store.instance:
                await self.store.save_fork(fork)
                await self.renew_instance("another store writes under this instance: one was put back or copied")
            self.other_life = None

    async def renew_instance(self, why: str = "it was asked for") -> None:
        """Write under a fresh instance from now on: our store was rolled back or copied, or peers lie about it."""
        await uninterrupted(self._renew_instance(why))

    async def _renew_instance(self, why: str) -> None:
        instance = Instance(self._entropy.random_bytes(INSTANCE_BYTES))
        await self.store.renew_instance(instance)
        self._bus.publish(InstanceRenewed(instance=instance, why=why))

    def tick(self) -> Timestamp:
        """Return the timestamp of a version written now, later than every one given or noted before."""
        return self._hybrid.tick(self._clock.now_ms())

    def note_applied(self, event: RecordsApplied) -> None:
        """Note versions that a peer brought: those written here next come after them, unless their clock is far ahead.

        Publishes RecordForked for one of two versions under one dot, and TimestampAhead for a clock that is not
        believed.
        """
        if not event.source or not event.records:
            return
        records, peer = event.records, event.source
        if len(records) < IMPORT_SHARED_RECORDS:
            self._few_came_s = self._clock.monotonic_s()
        self.note_forks(records, peer)
        self._note_written(records, peer)

    def note_forks(self, records: Sequence[Record], peer: bytes) -> None:
        """Publish RecordForked for each of `records`, brought by `peer`, that shares its dot with another version."""
        forked = self.store.forked()
        for record in records if forked else ():
            if record.id in forked:
                self._bus.publish(
                    RecordForked(
                        peer=peer,
                        context=record.context,
                        author=record.author,
                        record=record.name,
                        version=record.id,
                    )
                )

    def note_staged(self, event: RecordsStaged) -> None:
        """Note versions of a peer as `note_applied` does, before they are shown: they are not read again then."""
        if event.records:
            self._note_written(event.records, event.source)

    def _note_written(self, records: Sequence[Record], peer: bytes) -> None:
        instance, key = self.store.instance, self.identity.device.public
        for record in records:
            if record.instance == instance and record.kid == key and self.store.has_signed(record) is False:
                self.other_life = self.other_life or Fork.proven_by(record)  # another store writes as this one
        now_ms = self._clock.now_ms()
        newest = max(records, key=attrgetter("timestamp"))
        if not self._hybrid.observe(newest.timestamp, now_ms):
            ahead_s = (to_ms(newest.timestamp) - now_ms) // 1000
            self._bus.publish(TimestampAhead(peer=peer, context=newest.context, record=newest.name, ahead_s=ahead_s))
            for record in records:
                self._hybrid.observe(record.timestamp, now_ms)

    def is_admitted(self, record: Record) -> bool:
        """Return False for a version of the history whose key is void by now."""
        return record.context == IDENTITIES or self.store.keyring.admission(record) is Admission.ADMITTED

    def is_own(self, record: Record) -> bool:
        """Return whether this node wrote `record`, or it is of its own identity: the only copy may be here."""
        return record.kid == self.identity.device.public or record.author == self.id

    # -- reading -----------------------------------------------------------------------------------------------------

    async def heads(self, context: str, author: IdentityId, name: str) -> list[Record]:
        """Return the heads of one record that readers see, tombstones included; [] when there are none. Readers get the
        `winner`."""
        return self.denials.shown(await self.all_heads(context, author, name))

    async def all_heads(self, context: str, author: IdentityId, name: str) -> list[Record]:
        """Return all heads of one record, those of denied nodes too."""
        return await self.store.heads(context, author, name)

    async def earlier(self, context: str, author: IdentityId, name: str, *, limit: int) -> list[EarlierVersion]:
        """Return up to `limit` earlier versions of one record that readers see, the one superseded last first."""
        found = await self.store.earlier(context, author, name, limit=limit)
        return [each for each in found if self.denials.owner(each.record) is None]

    async def scan(
        self,
        context: str,
        *,
        author: IdentityId | None = None,
        tag: str | None = None,
        since_ms: int | None = None,
        deleted: bool = False,
        hidden: bool = False,
    ) -> AsyncGenerator[list[Record], None]:
        """Yield the records of `context` that fit, in log order, in pages; of a conflict only the winner.

        `hidden`: also those of denied nodes."""
        shown = list if hidden else self.denials.shown
        after = 0
        while True:
            page, last = await self.store.scan(context, after, limit=BATCH_RECORDS_MAX)
            found = [
                record
                for record in shown(page)
                if (deleted or not record.is_tombstone)
                and (author is None or record.author == author)
                and (tag is None or tag in record.tags)
                and (since_ms is None or record.created_ms >= since_ms)
            ]
            contested = self.store.conflicts(context)
            if contested:
                found = [record for record in found if await self._is_read(record, contested, shown)]
            if found:
                yield found
            if last == after:
                return
            after = last

    async def _is_read(
        self, record: Record, contested: Collection[LeafKey], shown: Callable[[list[Record]], list[Record]]
    ) -> bool:
        if record.key not in contested:
            return True
        heads = shown(await self.all_heads(record.context, record.author, record.name))
        return not heads or winner(heads).id == record.id

    async def conflicts(self, context: str) -> list[list[Record]]:
        """Return every record with more than one head that readers see: these heads, the winner first."""
        found: list[list[Record]] = []
        for key in sorted(self.store.conflicts(context)):
            heads = self.denials.shown(await self._heads_at(context, key))
            if len(heads) > 1:
                found.append(sorted(heads, key=lambda head: (head.timestamp, head.id), reverse=True))
        return found

    async def _heads_at(self, context: str, key: LeafKey) -> list[Record]:
        raws, _ = await self.store.read(context, [key], bytes_max=0)
        return [from_store(raw) for raw in raws]

    def audit(self) -> AsyncGenerator[Audit, None]:
        """Re-hash and re-verify everything held; yield how far that is."""
        return self.store.audit()

    def label(self, author: IdentityId) -> str:
        """Return an author as lists show it: `shared`, or its id in base32."""
        return SHARED if author == self.shared else _id_text(author)


_id_text: Final = lru_cache(maxsize=256)(to_base32)  # the same few authors in every list
