"""`reconcile`: two filtered sets made equal by range-based reconciliation (PROTOCOL.md §8.15).

    initiator                                        responder
      ReconcileInit(filter, message)         ->
                                             <-        Reconcile(message)
      Reconcile(message)                     ->                           .. until the initiator knows all differences
      Want(ids)  x window                    ->
                                             <-        Records
      Offers, Put (sync/offers.py)         ->
                                             <-        Heads, Stored
      Done(hash of the ids, is_final)        ->
                                             <-        Done(hash of the ids)      equal or final: over; else once more

The messages are the Negentropy protocol's (wire/negentropy.py). The end is certain all the same: both sides hash the
sorted ids of what the filter takes, recomputed. One way, the initiator knows which set the other must have had, so it
can tell by the other's hash whether it saw all of it.

An initiator that keeps only what the filter takes also offers whatever else it holds: it follows that too.
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
from echonode.model.merkle import State
from echonode.model.record import LeafKey
from echonode.sync.conversation import Conversation, Result
from echonode.sync.done import responder_result
from echonode.sync.executor import DEFAULTS, InitiatorOptions
from echonode.sync.filtered_set import FilteredSet, id_list_digest
from echonode.sync.named_records import NamedRequest, send_named
from echonode.sync.offers import answer_offers, offer
from echonode.sync.responder import store_put
from echonode.sync.transfer import request_records
from echonode.sync.transport import unexpected
from echonode.wire.messages import (
    PROTOCOL_VERSION,
    Direction,
    Done,
    Offers,
    Put,
    Reconcile,
    ReconcileInit,
    Want,
)
from echonode.wire.negentropy import Negentropy


async def run_initiator(conversation: Conversation, options: InitiatorOptions = DEFAULTS) -> Result:
    """Make what `options.wanted` takes of the context equal on both sides, or one way nothing missing."""
    wanted = options.wanted or Filter()
    survey = await conversation.surveys.of(conversation.store, conversation.context, wanted)
    initiator = _Initiator(conversation, survey, wanted, options.direction, options.follows_all)
    return await initiator.reach()


class _Initiator:
    def __init__(
        self, conversation: Conversation, survey: FilteredSet, wanted: Filter, direction: Direction, follows_all: bool
    ) -> None:
        self._conversation = conversation
        self._survey = survey
        self._wanted = wanted
        self._direction = direction
        self._follows_all = follows_all
        self._is_open = False
        self._offered: dict[LeafKey, State] = {}
        self._ours: set[bytes] = set()  # when the last pass began
        self._expected = b""  # the other side's hash, if it was seen whole and does not move
        self._is_owed = False  # what it said it holds did not all come

    async def reach(self) -> Result:
        tally = self._conversation.tally
        for round_number in range(1, ROUNDS_MAX + 1):
            before = tally.moved
            await self._pass()
            progressed = tally.moved != before
            is_one_way = self._direction is not Direction.BOTH
            is_last = is_one_way or round_number == ROUNDS_MAX or not progressed
            await self._survey.refresh()
            ours = stamp(self._conversation, self._survey, is_final=is_last)
            theirs = (await self._conversation.request(ours, Done)).root
            if theirs == ours.root:
                await self._survey.refresh()
                return Result.EQUAL if self._survey.digest() == theirs else Result.MOVED
            if is_last:
                await self._survey.refresh()
                return self._verdict(theirs, progressed)
        raise AssertionError("the last round is final")

    def _verdict(self, theirs: bytes, progressed: bool) -> Result:
        tally = self._conversation.tally
        if tally.refused or tally.refused_there:
            return Result.DIFFERENT
        if self._direction is Direction.SEND and self._survey.ids() != self._ours:
            return Result.MOVED  # what was written here since, it may have missed
        if self._direction is not Direction.BOTH:
            return Result.EQUAL if theirs == self._expected and not self._is_owed else Result.MOVED
        has_moved = progressed or theirs != self._expected or self._survey.ids() != self._ours
        return Result.MOVED if has_moved else Result.DIFFERENT

    async def _pass(self) -> None:
        """Find the differences, and move them."""
        survey, conversation = self._survey, self._conversation
        ours = self._ours = survey.ids()
        side = Negentropy(await survey.items(), limit=NEGENTROPY_BYTES_MAX)
        await self._compare(side)
        theirs = (ours - set(side.have)) | set(side.need)
        refused = {each.version for each in conversation.tally.refused}
        need = [id for id in dict.fromkeys(side.need) if id not in refused]  # once is enough, of those remembered
        if self._direction is not Direction.SEND and need:
            lists = [tuple(need[start : start + BATCH_RECORDS_MAX]) for start in range(0, len(need), BATCH_RECORDS_MAX)]
            requests = [NamedRequest(conversation, Want(ids), versions=frozenset(ids)) for ids in lists]
            await request_records(conversation, requests)
            self._is_owed = sum(len(request.came) for request in requests) < len(need)
        keys = {key for id in side.have if (key := survey.key_of(id)) is not None}
        if self._follows_all:
            keys |= self._besides()
        if keys and (self._follows_all or self._direction is not Direction.RECEIVE):
            offered = await offer(conversation, self._not_offered(keys), self._direction)
            if self._direction is not Direction.RECEIVE:
                theirs = (theirs | ours) - offered.stale.keys() - offered.overtaken
        self._expected = id_list_digest(theirs)

    def _not_offered(self, keys: set[LeafKey]) -> list[LeafKey]:
        """Those of `keys` that have not been offered as they stand now."""
        tree = self._conversation.tree
        states = {key: state for key in keys if (state := tree.get(key)) is not None}
        new = [key for key, state in states.items() if self._offered.get(key) != state]
        self._offered |= states
        return new

    def _besides(self) -> set[LeafKey]:
        """Leaves held here that the filter does not take."""
        return {key for key, _ in self._conversation.tree.leaves_at(b"")} - self._survey.keys()

    async def _compare(self, side: Negentropy) -> None:
        """Exchange messages until all differences are known."""
        conversation, loop = self._conversation, asyncio.get_running_loop()
        message: bytes | None = side.initiate()
        for _ in range(NEGENTROPY_MESSAGES_MAX):
            if message is None or len(side.have) + len(side.need) > WALK_PREFIXES_MAX:
                return  # what is beyond that is left to another round
            question: Reconcile | ReconcileInit = Reconcile(message)
            if not self._is_open:
                self._is_open = True
                fields = self._wanted.without_senders.fields()
                question = ReconcileInit(PROTOCOL_VERSION, conversation.context, self._direction, fields, message)
            answer = await conversation.request(question, Reconcile)
            message = await loop.run_in_executor(None, side.answer, answer.message)
        raise RemoteError(Reason.TOO_LARGE, "a reconciliation of more messages than two sets can need")


def stamp(conversation: Conversation, survey: FilteredSet, *, is_final: bool) -> Done:
    """Our Done: what we hold of what the filter takes."""
    return Done(survey.digest(), len(survey), conversation.store.seq(conversation.context), is_final)


async def run_responder(conversation: Conversation, init: ReconcileInit) -> Result:
    """Serve the conversation that `init` opened."""
    wanted = Filter.from_fields(init.filter)
    survey = await conversation.surveys.of(conversation.store, conversation.context, wanted)
    message: bytes | None = init.message
    for _ in range(ROUNDS_MAX):
        side = Negentropy(await survey.items(), limit=NEGENTROPY_BYTES_MAX)
        result = await _serve(conversation, survey, side, init.direction, message)
        if result is not None:
            return result
        message = None
        await survey.refresh()
    raise RemoteError(Reason.PROTOCOL_ERROR, "a reconciliation begun too often")


async def _serve(
    conversation: Conversation, survey: FilteredSet, side: Negentropy, direction: int, message: bytes | None
) -> Result | None:
    """One round, up to its Done; None when another is to come."""
    loop = asyncio.get_running_loop()
    left = NEGENTROPY_MESSAGES_MAX
    while True:
        if message is not None:
            left -= 1
            if left < 0:
                raise RemoteError(Reason.TOO_LARGE, "a reconciliation of more messages than two sets can need")
            answer = await loop.run_in_executor(None, side.answer, message)
            assert answer is not None, "a responder always has an answer"
            await conversation.transport.send(Reconcile(answer))
            message = None
        match await conversation.transport.recv():
            case Reconcile(message):
                pass
            case Want(versions) if direction != Direction.SEND:
                asked = [(key, version) for version in versions if (key := survey.key_of(version)) is not None]
                named: dict[LeafKey, set[bytes]] = {}
                for key, version in asked:
                    named.setdefault(key, set()).add(version)
                await send_named(conversation, named)
            case Offers(leaves):
                await answer_offers(conversation, leaves, to_keep=direction != Direction.SEND)
            case Put(records) if direction != Direction.RECEIVE:
                await store_put(conversation, records)
            case Done(is_final=is_final) as theirs:
                await survey.refresh()
                ours = stamp(conversation, survey, is_final=is_final)
                await conversation.transport.send(ours)
                return responder_result(conversation, direction, theirs, ours)
            case other:
                raise unexpected(other)
