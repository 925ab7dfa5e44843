"""`reconcile`: makes two filtered sets equal by range-based reconciliation (PROTOCOL.md §8.10).

    initiator                                        responder
      ReconcileInit(filter, message)         ->
                                             <-        Reconcile(message)
      Reconcile(message)                     ->                           .. until the initiator knows all differences
      Want(ids)  x window                    ->
                                             <-        Records
      Offers, Put (sync/offers.py)           ->
                                             <-        Heads, Stored
      Done(hash of the ids, is_final)        ->
                                             <-        Done(hash of the ids)      equal or final: over; else once more

The messages are those of the Negentropy protocol (wire/negentropy.py). The end is proved apart from it: both sides
recompute the hash of the sorted ids that the filter takes. One way, the initiator knows which set the other must have
had, and the other's hash tells whether it saw all of it.

An initiator that keeps only the part the filter takes (`follows_all`) also offers the other records it holds, so that
they stay current.
"""

import asyncio

from echonode.errors import Reason, RemoteError
from echonode.limits import (
    BATCH_RECORDS_MAX,
    NEGENTROPY_BYTES_MAX,
    NEGENTROPY_MESSAGES_MAX,
    ROUNDS_MAX,
    WALK_PREFIXES_MAX,
)
from echonode.model.filter import Filter
from echonode.model.merkle import State, state_of
from echonode.model.record import LeafKey
from echonode.sync.conversation import Conversation, Result
from echonode.sync.done import responder_result
from echonode.sync.executor import DEFAULTS, InitiatorOptions
from echonode.sync.filtered_set import FilteredSet, FilteredSetsFullError, id_list_digest
from echonode.sync.named_records import NamedRequest, send_named
from echonode.sync.offers import answer_offers, offer_leaves
from echonode.sync.responder import store_put
from echonode.sync.transfer import request_records
from echonode.sync.transport import unexpected
from echonode.sync.work import RANGE_BYTE_S
from echonode.wire.messages import (
    PROTOCOL_VERSION,
    Direction,
    Done,
    Offers,
    Put,
    Reconcile,
    ReconcileInit,
    Refused,
    Want,
)
from echonode.wire.negentropy import Negentropy


async def run_initiator(conversation: Conversation, options: InitiatorOptions = DEFAULTS) -> Result:
    """Make the part of the context that `options.wanted` takes equal on both sides, or one way let nothing be
    missing."""
    wanted = options.wanted or Filter()
    ours = await conversation.filtered_sets.of(conversation.store, conversation.context, wanted)
    initiator = _Initiator(conversation, ours, wanted, options.direction, options.follows_all)
    return await initiator.reach()


class _Initiator:
    """The initiator's side. `ours`: the filtered set here."""

    def __init__(
        self, conversation: Conversation, ours: FilteredSet, wanted: Filter, direction: Direction, follows_all: bool
    ) -> None:
        self._conversation = conversation
        self._ours = ours
        self._wanted = wanted
        self._direction = direction
        self._follows_all = follows_all
        self._is_open = False
        self._offered: dict[LeafKey, State] = {}
        self._ids_before: set[bytes] = set()  # of our set, when the last pass began
        self._expected = b""  # the peer's hash, if its whole set was seen and has not changed since
        self._is_owed = False  # the peer did not send all that it claimed to have

    async def reach(self) -> Result:
        """Compare and move records until the hashes are equal, at most ROUNDS_MAX times; return how it ended."""
        tally = self._conversation.tally
        for round_number in range(1, ROUNDS_MAX + 1):
            before = tally.moved
            await self._pass()
            progressed = tally.moved != before
            is_one_way = self._direction is not Direction.BOTH
            is_last = is_one_way or round_number == ROUNDS_MAX or not progressed
            await self._ours.refresh()
            done = await _done_of(self._conversation, self._ours, is_final=is_last)
            theirs = (await self._conversation.request(done, Done)).root
            if theirs == done.root:
                await self._ours.refresh()
                return Result.EQUAL if await self._ours.digest() == theirs else Result.MOVED
            if is_last:
                await self._ours.refresh()
                return self._verdict(theirs, progressed)
        raise AssertionError("the last round is final")

    def _verdict(self, theirs: bytes, progressed: bool) -> Result:
        tally = self._conversation.tally
        if tally.refused or tally.refused_there:
            return Result.DIFFERENT
        if self._direction is Direction.SEND and self._ours.ids() != self._ids_before:
            return Result.MOVED  # the pass may have missed what was written here since it began
        if self._direction is not Direction.BOTH:
            return Result.EQUAL if theirs == self._expected and not self._is_owed else Result.MOVED
        has_moved = progressed or theirs != self._expected or self._ours.ids() != self._ids_before
        return Result.MOVED if has_moved else Result.DIFFERENT

    async def _pass(self) -> None:
        """Find the differences and move the records."""
        conversation = self._conversation
        ours = self._ids_before = self._ours.ids()
        side = Negentropy(self._ours.items(), limit=NEGENTROPY_BYTES_MAX)
        await self._compare(side)
        theirs = (ours - set(side.have)) | set(side.need)
        refused = {each.version for each in conversation.tally.refused}
        stale: set[LeafKey] = set()
        need = [id for id in dict.fromkeys(side.need) if id not in refused]  # none is fetched to be refused again
        if self._direction is not Direction.SEND and need:
            lists = [tuple(need[start : start + BATCH_RECORDS_MAX]) for start in range(0, len(need), BATCH_RECORDS_MAX)]
            requests = [NamedRequest(conversation, Want(ids), versions=frozenset(ids)) for ids in lists]
            await request_records(conversation, requests)
            self._is_owed = sum(len(request.came) for request in requests) < len(need)
            # A version that is stale here may be superseded by one that the filter does not take: it is offered too.
            tree = conversation.tree
            came = [(version, key) for request in requests for version, key in request.came.items()]
            stale = {key for version, key in came if tree.get(key) != state_of((version,))}
        keys = {key for id in side.have for key in self._ours.keys_of(id)} | stale
        if self._follows_all:
            keys |= self._ours.others()
        if keys and (self._follows_all or self._direction is not Direction.RECEIVE):
            answers = await offer_leaves(conversation, self._not_offered(keys), self._direction)
            if self._direction is not Direction.RECEIVE:
                theirs = (theirs | ours) - answers.stale.keys() - answers.overtaken
        self._expected = id_list_digest(theirs)

    def _not_offered(self, keys: set[LeafKey]) -> list[LeafKey]:
        """Return the leaves of `keys` that were not offered in their present state, and note them as offered."""
        tree = self._conversation.tree
        states = {key: state for key in keys if (state := tree.get(key)) is not None}
        new = [key for key, state in states.items() if self._offered.get(key) != state]
        self._offered |= states
        return new

    async def _compare(self, side: Negentropy) -> None:
        """Exchange messages until all differences are known. Raises RemoteError (TOO_LARGE) for a peer that goes on."""
        conversation, loop = self._conversation, asyncio.get_running_loop()
        message: bytes | None = side.initiate()
        for _ in range(NEGENTROPY_MESSAGES_MAX):
            if message is None or len(side.have) + len(side.need) > WALK_PREFIXES_MAX:
                return  # more differences are left to another round
            question: Reconcile | ReconcileInit = Reconcile(message)
            if not self._is_open:
                self._is_open = True
                fields = self._wanted.without_senders.fields()
                question = ReconcileInit(PROTOCOL_VERSION, conversation.context, self._direction, fields, message)
            answer = await conversation.request(question, Reconcile)
            message = await loop.run_in_executor(None, side.answer, answer.message)
        raise RemoteError(Reason.TOO_LARGE, "a reconciliation of more messages than two sets can need")


async def _done_of(conversation: Conversation, ours: FilteredSet, *, is_final: bool) -> Done:
    """Return this side's Done: the hash and the size of its filtered set."""
    return Done(await ours.digest(), len(ours), conversation.store.seq(conversation.context), is_final)


async def run_responder(conversation: Conversation, init: ReconcileInit) -> Result:
    """Serve the conversation that `init` opened."""
    wanted = Filter.from_fields(init.filter)
    try:
        sets, charge = conversation.filtered_sets, conversation.charge
        ours = await sets.of(conversation.store, conversation.context, wanted, charge)
    except FilteredSetsFullError as full:
        await conversation.transport.send(Refused(full.reason))
        return Result.REFUSED
    message: bytes | None = init.message
    for _ in range(ROUNDS_MAX):
        side = Negentropy(ours.items(), limit=NEGENTROPY_BYTES_MAX)
        result = await _serve(conversation, ours, side, init.direction, message)
        if result is not None:
            return result
        message = None
        await ours.refresh(conversation.charge)
    raise RemoteError(Reason.PROTOCOL_ERROR, "a reconciliation begun too often")


async def _serve(
    conversation: Conversation, ours: FilteredSet, side: Negentropy, direction: int, message: bytes | None
) -> Result | None:
    """Serve one round, up to its Done. Return the result, None when the initiator begins another round. `message`: the
    first of this round, when it has come already."""
    loop = asyncio.get_running_loop()
    messages_left = NEGENTROPY_MESSAGES_MAX
    while True:
        if message is not None:
            messages_left -= 1
            if messages_left < 0:
                raise RemoteError(Reason.TOO_LARGE, "a reconciliation of more messages than two sets can need")
            answer = await loop.run_in_executor(None, side.answer, message)
            assert answer is not None, "a responder always has an answer"
            await conversation.transport.send(Reconcile(answer))
            await conversation.charge(RANGE_BYTE_S * (len(message) + len(answer)))
            message = None
        match await conversation.transport.recv():
            case Reconcile(message):
                pass
            case Want(versions) if direction != Direction.SEND:
                wanted: dict[LeafKey, set[bytes]] = {}
                for version in versions:
                    for key in ours.keys_of(version):
                        wanted.setdefault(key, set()).add(version)
                await send_named(conversation, wanted)
            case Offers(leaves):
                await answer_offers(conversation, leaves, to_keep=direction != Direction.SEND)
            case Put(records) if direction != Direction.RECEIVE:
                await store_put(conversation, records)
            case Done(is_final=is_final) as theirs:
                await ours.refresh(conversation.charge)
                done = await _done_of(conversation, ours, is_final=is_final)
                await conversation.transport.send(done)
                return responder_result(conversation, direction, theirs, done)
            case other:
                raise unexpected(other)
