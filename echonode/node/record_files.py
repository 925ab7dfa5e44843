"""RecordFiles: whole contexts written to a record file, and taken from one (PROTOCOL.md §14).

A file is a peer that only tells: each of its versions is verified and judged as one from a session is (verify_apply.py,
intake.py), and what is refused is counted by reason. A damaged file ends the intake; what was verified before the
damage is kept. The header's node and name are claims: the events of what a file brings have this node as their source,
so that nobody counts as having what a file says it has.
"""

from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Never

from echonode.errors import LocalError, Reason, RemoteError
from echonode.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, CONTEXTS_TOLD_MAX, VERIFY_CHUNK
from echonode.model.identity import IdentityId
from echonode.model.merkle import Digest
from echonode.model.record import IDENTITIES, LeafKey, Record
from echonode.node.addresses import Addresses
from echonode.node.event_bus import EventBus
from echonode.node.events import FileTaken, OtherLifeMet, RecordOutranked, RecordsApplied, RecordVoided
from echonode.node.intake import Intake
from echonode.node.membership import OPEN, Membership
from echonode.node.refusal_book import RefusalBook
from echonode.node.subscriptions import Subscriptions
from echonode.store.port import Outranked, RefusedVersion, Store, VoidedVersion
from echonode.sync.conversation import Conversation, Tally
from echonode.sync.verify_apply import Pipeline, merge, verify_all
from echonode.text import escape, to_base32
from echonode.wire.channel import NetworkSecret
from echonode.wire.messages import Message
from echonode.wire.record_file import NETWORK_BYTES, ContextEnd, FileHeader, FileItem, FileReader


class FileDamagedError(LocalError):
    """A record file is cut or was tampered with. What was verified before that is kept."""


@dataclass(slots=True)
class TakenContext:
    """The outcome of one context of a file. `versions` is their number, `new` those that became heads here, `had` those
    known or superseded here; `refused` counts the others by reason, and `why` is the first one's detail.

    `is_kept` False: the context is not kept here, or was not asked for; its versions were passed over. `root` is the
    file's claim, None where it makes none, and `is_equal` True when it is the root here."""

    name: str
    versions: int = 0
    new: int = 0
    had: int = 0
    refused: Counter[Reason] = field(default_factory=Counter)
    why: str = ""
    is_kept: bool = True
    is_partial: bool = False
    root: Digest | None = None
    is_equal: bool = False

    def refuse(self, refused: Sequence[RefusedVersion]) -> None:
        """Count versions that were refused."""
        self.refused.update(each.reason for each in refused)
        self.why = self.why or next((each.detail for each in refused if each.reason is not Reason.NOT_ACCEPTED), "")


@dataclass(slots=True)
class TakenFile:
    """The outcome of a file so far. `header`: None until it was read."""

    header: FileHeader | None = None
    contexts: list[TakenContext] = field(default_factory=list)


class RecordFiles:
    """The record files of one node. `own`: its identity; `addresses` has the name that its files bear."""

    def __init__(
        self,
        store: Store,
        bus: EventBus,
        own: IdentityId,
        addresses: Addresses,
        membership: Membership,
        intake: Intake,
        subscriptions: Subscriptions,
        refusals: RefusalBook,
    ) -> None:
        self._store = store
        self._bus = bus
        self._own = own
        self._addresses = addresses
        self._membership = membership
        self._intake = intake
        self._subscriptions = subscriptions
        self._refusals = refusals

    # -- writing -----------------------------------------------------------------------------------------------------

    async def write(self, contexts: Sequence[str] | None = None) -> AsyncGenerator[bytes]:
        """Yield a record file of `contexts`, None for all that are kept here, with `identities` before them.

        Writes go on meanwhile: each version is in the file that was a head from the beginning to the end. The same
        state gives the same bytes."""
        chosen = self._kept() if contexts is None else contexts
        names = (IDENTITIES, *(each for each in dict.fromkeys(chosen) if each != IDENTITIES))[:CONTEXTS_TOLD_MAX]
        yield FileHeader(self._network, self._own, self._addresses.name, names).encode()
        for context in names:
            root, count = self._store.tree(context).root, 0
            async for raws in self._heads(context):
                count += len(raws)
                yield b"".join(raws)
            is_partial = self._subscriptions.of(context) is not None
            has_moved = self._store.tree(context).root != root
            yield ContextEnd(count, None if has_moved else root, is_partial).encode()

    def _kept(self) -> list[str]:
        return [context for context in self._store.contexts() if self._subscriptions.takes(context)]

    async def _heads(self, context: str) -> AsyncGenerator[list[bytes]]:
        """Yield the heads of `context` in key order."""
        after: LeafKey | None = None
        # The tree is asked for each time: it may change while we wait for the reader.
        while keys := self._keys(context, after):
            at = 0
            while at < len(keys):
                raws, read = await self._store.read(context, keys[at:], bytes_max=BATCH_BYTES_MAX)
                at += read
                yield raws
            after = keys[-1]

    def _keys(self, context: str, after: LeafKey | None) -> list[LeafKey]:
        return [key for key, _ in islice(self._store.tree(context).leaves_at(b"", after), BATCH_RECORDS_MAX)]

    # -- taking ------------------------------------------------------------------------------------------------------

    async def take(
        self, chunks: AsyncIterator[bytes], only: Collection[str] | None = None
    ) -> AsyncGenerator[TakenFile]:
        """Store what is in a record file that comes in pieces; `only` these contexts and `identities`, None: all.

        Yields the figures at the beginning, after each batch and at the end, the same object each time. Raises
        FileDamagedError, LocalError for what is no record file of this network, and what `chunks` raises. Closing it
        early keeps what was stored.
        """
        taken, why = TakenFile(), "it was not read to its end"
        try:
            yield taken
            async with aclosing(self._take(chunks, only, taken)) as steps:
                async for _ in steps:
                    yield taken
            why = "it was read to its end"
        except LocalError as error:
            why = str(error)
            raise
        finally:
            self._publish(taken, why)

    async def _take(
        self, chunks: AsyncIterator[bytes], only: Collection[str] | None, taken: TakenFile
    ) -> AsyncGenerator[None]:
        reader = FileReader()
        async with aclosing(_items(reader, chunks)) as items:
            try:
                header = await anext(items)
            except RemoteError as error:
                raise _fault(error, "") from None
            assert isinstance(header, FileHeader), "nothing else is read first"
            taken.header = header
            self._check_network(header)
            for name in header.contexts:
                context = TakenContext(name)
                taken.contexts.append(context)
                context.is_kept = name == IDENTITIES or only is None or name in only
                context.is_kept &= self._subscriptions.takes(name)
                async with aclosing(self._take_context(header, context, items)) as steps:
                    async for _ in steps:
                        yield
            try:
                await anext(items, None)  # it finds out whether anything follows
            except RemoteError as error:
                raise _fault(error, " after its last context") from None

    async def _take_context(
        self, header: FileHeader, taken: TakenContext, items: AsyncGenerator[FileItem]
    ) -> AsyncGenerator[None]:
        """Take the versions of one context, up to its end. Yield after each batch."""
        conversation = self._conversation(header.node, taken)
        unwritten: deque[list[bytes]] = deque()

        async def write(records: list[Record]) -> None:
            await merge(conversation, records)
            taken.versions += len(unwritten.popleft())

        try:
            async with Pipeline(taken.name) as pipeline, aclosing(_batches(items)) as batches:
                async for batch in batches:
                    if isinstance(batch, ContextEnd):
                        end = batch
                    elif taken.is_kept:
                        unwritten.append(batch)
                        await pipeline.put(batch, write)
                        yield
                    else:
                        taken.versions += len(batch)
        except RemoteError as error:
            await self._take_up_to_damage(conversation, taken, unwritten)
            raise _fault(error, f" in the context {escape(taken.name)}, after {taken.versions:,} versions") from None
        taken.root, taken.is_partial = end.root, end.is_partial
        taken.is_equal = end.root == self._store.tree(taken.name).root
        yield

    async def _take_up_to_damage(
        self, conversation: Conversation, taken: TakenContext, unwritten: Collection[list[bytes]]
    ) -> None:
        """Take the versions of batches of which one is bad, up to that. Raises FileDamagedError for it."""
        for batch in unwritten:
            good, fault = await _verified_beginning(batch, taken.name)
            if good:
                await merge(conversation, good)
            taken.versions += len(good)
            if fault is not None:
                number = taken.versions + 1
                place = f"version {number:,} of the context {escape(taken.name)}"
                raise FileDamagedError(f"{place} is damaged: {escape(fault.detail)}")

    def _conversation(self, node: IdentityId, taken: TakenContext) -> Conversation:
        context = taken.name

        def applied(records: Sequence[Record]) -> None:
            taken.new += len(records)
            self._bus.publish(RecordsApplied(context=context, source=self._own, records=tuple(records)))

        def outranked(outranked: Sequence[Outranked]) -> None:
            for each in outranked:
                self._bus.publish(RecordOutranked.of(each, peer=self._own, context=context))

        def voided(voided: Sequence[VoidedVersion]) -> None:
            for each in voided:
                self._bus.publish(RecordVoided.of(each, peer=self._own))

        def refused(records: Sequence[Record], refused: Sequence[RefusedVersion]) -> None:
            taken.refuse(refused)
            self._refusals.note(node, context, records, refused)

        def progress(tally: Tally) -> None:
            taken.had = tally.had

        return Conversation(
            _NoPeer(),
            self._store,
            context,
            on_applied=applied,
            on_progress=progress,
            on_strangers=lambda strangers: self._bus.publish(OtherLifeMet(strangers=strangers)),
            on_outranked=outranked,
            on_voided=voided,
            on_refused=refused,
            judge=partial(self._intake.judge, context, self._own),
            wants=self._subscriptions.wants(context, node),
        )

    def _publish(self, taken: TakenFile, why: str) -> None:
        header = taken.header
        self._bus.publish(
            FileTaken(
                by=header.node if header else b"",
                by_name=header.name if header else "an unknown node",
                received=sum(each.new for each in taken.contexts),
                had=sum(each.had for each in taken.contexts),
                refused=sum(each.refused.total() for each in taken.contexts),
                why=why,
            )
        )

    # -- networks ----------------------------------------------------------------------------------------------------

    @property
    def _network(self) -> bytes:
        return self._membership.secret.netid[:NETWORK_BYTES]

    def _check_network(self, header: FileHeader) -> None:
        """Raise LocalError for a file of another network."""
        if header.network == self._network:
            return
        theirs = _network_name(header.network)
        if header.network in self._past_networks():
            raise LocalError(
                f"it is a file of the network {theirs}, which this node has left or whose secret was replaced: write "
                "it anew on a node of today's network"
            )
        raise LocalError(f"it is a file of the network {theirs}, and this node is in {self._membership.name}")

    def _past_networks(self) -> Iterator[bytes]:
        for past in self._membership.past:
            yield NetworkSecret.private(past.secret.key).netid[:NETWORK_BYTES]


class _NoPeer:
    """The transport of a conversation in which nothing is asked or answered: a file has said all it has to say."""

    bytes_sent = 0
    bytes_received = 0

    async def send(self, message: Message) -> None:
        raise LocalError("a file takes no messages")

    async def recv(self) -> Never:
        raise LocalError("a file sends no messages")


async def _verified_beginning(batch: Sequence[bytes], context: str) -> tuple[list[Record], RemoteError | None]:
    """Return the versions before the first bad one of a batch, and its fault; all of them and None when none is bad."""
    with suppress(RemoteError):
        return await verify_all(batch, context), None  # on every core; seldom is a version bad
    good: list[Record] = []
    for start in range(0, len(batch), VERIFY_CHUNK):
        chunk = batch[start : start + VERIFY_CHUNK]
        try:
            good += await verify_all(chunk, context)
        except RemoteError:
            for raw in chunk:
                try:
                    good += await verify_all([raw], context)
                except RemoteError as error:
                    return good, error
    return good, None


async def _items(reader: FileReader, chunks: AsyncIterator[bytes]) -> AsyncGenerator[FileItem]:
    """Yield the items of a file that comes in pieces. Raises RemoteError, and what `chunks` raises."""
    async for chunk in chunks:
        reader.receive_data(chunk)
        while (item := reader.next_item()) is not None:
            yield item
    reader.finish()


async def _batches(items: AsyncGenerator[FileItem]) -> AsyncGenerator[list[bytes] | ContextEnd]:
    """Yield the versions of one context in batches, then its end. Raises RemoteError behind all that is before it."""
    batch: list[bytes] = []
    size = 0
    try:
        while not isinstance(item := await anext(items), ContextEnd):
            assert isinstance(item, bytes), "there is one header"
            batch.append(item)
            size += len(item)
            if len(batch) == BATCH_RECORDS_MAX or size >= BATCH_BYTES_MAX:
                yield batch
                batch, size = [], 0
    except RemoteError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
    yield item


def _fault(error: RemoteError, place: str) -> LocalError:
    """Return the error, for a person, of a file that cannot be read on."""
    if error.reason is Reason.UNSUPPORTED_PROTOCOL:
        return LocalError(error.detail)
    return FileDamagedError(f"the file is cut or damaged{place}: {escape(error.detail)}")


def _network_name(network: bytes) -> str:
    return OPEN if network == NetworkSecret.public().netid[:NETWORK_BYTES] else to_base32(network)
