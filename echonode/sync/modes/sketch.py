"""`sketch`: finds what differs in two round trips, for bytes of the difference alone (PROTOCOL.md §8.8).

    initiator                                        responder
      SketchInit(tag of the root, counts)          ->
                                                   <-  SketchEqual, and both are at the end; or
                                                   <-  SketchAnswer(as many symbols as the counts call for)
      reads them against its own sketch
      Put of what the responder lacks
      SketchWant(ids it lacks itself)              ->
                                                   <-  Stored, Records of these, Done(root)
      Done(root)                                   ->  equal: over; else the initiator walks as level_wise

Reading is a guess that the roots confirm. When the symbols are too few, SketchMore asks for the next ones. A sketch
that still cannot be read is tried again with ids keyed for this session, in case colliding ids were made on purpose.
Then the same conversation goes on as `level_wise`, at the level that the estimate suggests. Both directions only: one
way, nothing would prove that nothing is missing.
"""

import asyncio
from math import ceil, sqrt
from typing import TYPE_CHECKING, Final, TypeAlias

from echonode.digest import ROOT_TAG, keyed
from echonode.errors import Reason, RemoteError
from echonode.limits import PUTS_IN_FLIGHT_MAX, SKETCH_BLOCKS_MAX, SKETCH_SYMBOLS_MAX
from echonode.model.merkle import Tree, state_of
from echonode.model.record import LeafKey, Record, VersionId
from echonode.sync.agreement import Agreement
from echonode.sync.answer_check import START, check_order
from echonode.sync.conversation import Conversation, Result
from echonode.sync.done import done_of, note_followed, responder_result
from echonode.sync.executor import DEFAULTS, InitiatorOptions
from echonode.sync.modes import level_wise
from echonode.sync.record_batches import heads_of
from echonode.sync.responder import Responder, store_put
from echonode.sync.transfer import PutWindow, receive_records, send_answer
from echonode.sync.transport import unexpected
from echonode.sync.verify_apply import Pipeline, merge
from echonode.sync.work import LEAF_SKETCHED_S, PART_S, RECORD_SENT_S, SYMBOL_S
from echonode.wire.messages import (
    PROTOCOL_VERSION,
    Direction,
    Done,
    NodesRequest,
    Put,
    Records,
    SketchAnswer,
    SketchEqual,
    SketchInit,
    SketchMore,
    SketchWant,
)
from echonode.wire.messages.sketch import COUNTS_SIZE_BYTES, ID_PREFIX_BYTES, ROOT_TAG_BYTES, SYMBOL_BYTES

if TYPE_CHECKING:
    from echonode.model.sketch import ShortIds, Sketch, SketchDifference

_Answer: TypeAlias = SketchAnswer | SketchEqual

_WIDTH: Final = 16  # bytes of a digest, if the tree is walked
_ASKED_MAX: Final = 100  # symbols asked for by number: enough for all that first levels can tell; else counts are sent
_COUNTS: Final = 192  # sent when it is not known how much differs; more estimate better, and cost what that saves
_TRIES: Final = SKETCH_BLOCKS_MAX // 2  # SketchMores with the ids of the network, before those of the session


def root_tag(conversation: Conversation, root: bytes) -> bytes:
    """Return what says in short which root this side holds. It is keyed for the session: nobody can have sought for
    another root with the same tag."""
    return keyed(ROOT_TAG, conversation.session, root, ROOT_TAG_BYTES)


# -- the initiator ---------------------------------------------------------------------------------------------------


async def run_initiator(conversation: Conversation, options: InitiatorOptions = DEFAULTS) -> Result:
    """Make the context equal in both stores."""
    initiator = _Initiator(conversation)
    difference = await initiator.read(options.expected)
    if initiator.is_equal:
        return _result_of(conversation, initiator.root)
    if difference is None:
        conversation.tally.note = "the sketch could not be read, so the tree was walked"
    elif (result := await initiator.exchange_records(difference)) is not None:
        return result
    else:
        conversation.tally.note = "roots differed after the sketch, so the tree was walked"
    walker = level_wise.Walker(conversation, Direction.BOTH, _WIDTH, initiator.still_differing, is_open=True)
    return await Agreement(conversation, Direction.BOTH, _WIDTH, walker.walk).reach()


def _result_of(conversation: Conversation, root: bytes) -> Result:
    """Return the result of a conversation in which both sides told the same root. Ours may have changed since."""
    return Result.EQUAL if conversation.tree.root == root else Result.MOVED


class _Initiator:
    """The initiator's side, up to the Dones. `is_equal`: the responder holds `root`, which was ours at the beginning.
    `still_differing`: about how many leaves differ now."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._is_salted = False  # the ids are keyed for this session
        self._salted: Sketch | None = None  # our sketch with such ids, once it is needed
        self._symbols = b""  # the peer's
        self._is_estimated = False  # counts were sent
        self.root = b""
        self.is_equal = False
        self.still_differing = 0

    async def read(self, expected: int | None) -> "SketchDifference | None":
        """Ask for symbols until the difference can be read. Return it, None when it cannot, or when nothing differs."""
        answer = await self._open(expected)
        tries = 0
        while isinstance(answer, SketchAnswer):
            self._take(answer)
            sketch = await self._sketch()
            read = sketch.difference_from(self._symbols)
            difference = await asyncio.get_running_loop().run_in_executor(None, read)
            is_too_much = self._is_estimated and not answer.symbols
            if difference is not None or is_too_much or tries == SKETCH_BLOCKS_MAX:
                return difference
            question = await self._more(is_salted=tries >= _TRIES)
            if question is None:
                return None
            tries += 1
            answer = await self._ask(question)
        self.is_equal = True
        return None

    async def _open(self, expected: int | None) -> _Answer:
        conversation = self._conversation
        symbols = _ASKED_MAX + 1 if expected is None else symbols_for(round(expected + 2 * sqrt(expected)))
        counts = b""
        if symbols > _ASKED_MAX:
            counts, symbols = (await self._sketch()).counts(_COUNTS), 0
            self._is_estimated = True
        self.root = self._tree.root
        tag = root_tag(conversation, self.root)
        return await self._ask(SketchInit(PROTOCOL_VERSION, conversation.context, tag, symbols, counts))

    async def _more(self, *, is_salted: bool) -> SketchMore | None:
        """Return the question for more symbols than there are, None when no more would help."""
        have = len(self._symbols) // SYMBOL_BYTES
        if is_salted and not self._is_salted:
            if have > SKETCH_SYMBOLS_MAX // 2:
                return None
            self._is_salted = True
            return SketchMore(is_salted, have, b"")
        counts = b"" if self._is_estimated else (await self._sketch()).counts(_COUNTS)
        self._is_estimated = True
        if have == SKETCH_SYMBOLS_MAX:
            return None
        return SketchMore(self._is_salted, min(have + have // 8 + 8, SKETCH_SYMBOLS_MAX), counts)

    async def _ask(self, question: SketchInit | SketchMore) -> _Answer:
        return await self._conversation.request(question, SketchAnswer, SketchEqual)

    def _take(self, answer: SketchAnswer) -> None:
        """Join the symbols of `answer` to those before, unless it brings all. Raises RemoteError for a bad place."""
        self.still_differing = answer.estimate
        if answer.start not in (0, len(self._symbols) // SYMBOL_BYTES):
            raise RemoteError(Reason.PROTOCOL_ERROR, "symbols that do not join those that came before")
        self._symbols = (self._symbols if answer.start else b"") + _whole(answer.symbols, SYMBOL_BYTES)
        if len(self._symbols) > SKETCH_SYMBOLS_MAX * SYMBOL_BYTES:
            raise RemoteError(Reason.PROTOCOL_ERROR, "more symbols than a sketch has")

    async def _sketch(self) -> "Sketch":
        conversation = self._conversation
        if not self._is_salted:
            return await conversation.sketches.of(conversation.context, self._tree)
        if self._salted is None:
            self._salted = await conversation.sketches.of(conversation.context, self._tree, conversation.session)
        return self._salted

    @property
    def _tree(self) -> Tree:
        return self._conversation.tree

    async def exchange_records(self, difference: "SketchDifference") -> Result | None:
        """Put the records the peer lacks, receive those we lack, and exchange Dones. Return None when the roots still
        differ."""
        from echonode.model import sketch

        conversation = self._conversation
        key = conversation.sketches.key(conversation.context, conversation.session if self._is_salted else b"")
        puts = PutWindow(conversation, PUTS_IN_FLIGHT_MAX)
        await puts.put(heads_of(conversation, find(self._tree, key, difference.ours)))
        await conversation.ask(SketchWant(sketch.id_prefixes(difference.theirs)))
        await puts.drain()
        async with Pipeline(conversation.context) as pipeline:
            await receive_records(conversation, pipeline, _LackedRecords(conversation))
        theirs = await conversation.receive_answer(Done)
        note_followed(conversation, theirs)
        ours = done_of(conversation, is_final=False)
        await conversation.transport.send(ours)
        self.still_differing = 0  # the estimate was about the leaves that have moved
        return _result_of(conversation, theirs.root) if theirs.root == ours.root else None


class _LackedRecords:
    """The Records behind a SketchWant, as a PendingAnswer."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._last = START

    def check(self, message: Records) -> None:
        if message.rest or (message.more and not message.records):
            raise RemoteError(Reason.PROTOCOL_ERROR, "Records behind a sketch bring something and leave no rest")

    async def store(self, _: Records, records: list[Record]) -> None:
        self._last = check_order(records, self._last)
        await merge(self._conversation, records)


# -- the responder ---------------------------------------------------------------------------------------------------


async def run_responder(conversation: Conversation, init: SketchInit) -> Result:
    """Serve the conversation that `init` opened."""
    source = _SymbolSource(conversation, init.tag)
    exchange = _Exchange(conversation)
    answers = Responder(conversation, Direction.BOTH, _WIDTH)
    equal_root = await source.answer(init)
    blocks = 0
    while equal_root is None:
        message = await conversation.transport.recv()
        match message:
            case SketchMore() if blocks < SKETCH_BLOCKS_MAX and not exchange.is_over:
                blocks += 1
                equal_root = await source.answer(message)
            case Put(records) if not exchange.is_over:
                await exchange.store(records)
            case SketchWant(wanted) if not exchange.is_over:
                await exchange.send_wanted(wanted, source.key)
            case Done() if exchange.done is not None:
                if (result := exchange.compare(message)) is not None:
                    return result
            case _ if exchange.done is not None:
                raise unexpected(message)
            case NodesRequest(prefixes):
                exchange.is_over = True
                await level_wise.send_nodes(conversation, prefixes, _WIDTH)
            case _:
                if (result := await answers.answer(message)) is not None:
                    return result
    return _result_of(conversation, equal_root)


class _SymbolSource:
    """The responder's symbols, as they are asked for. `tag`: of the initiator's root."""

    def __init__(self, conversation: Conversation, tag: bytes) -> None:
        self._conversation = conversation
        self._tag = tag
        self._salted: Sketch | None = None
        self._sent = b""  # symbols

    async def answer(self, message: SketchInit | SketchMore) -> bytes | None:
        """Answer with the symbols asked for. Return the root when it is the initiator's too: then that is the answer.
        Raises RemoteError for counts of no form."""
        conversation = self._conversation
        if 0 < len(message.counts) < COUNTS_SIZE_BYTES:
            raise RemoteError(Reason.PROTOCOL_ERROR, "counts without the number of all leaves")
        if isinstance(message, SketchMore) and message.is_salted and self._salted is None:
            self._salted = await conversation.sketches.of(conversation.context, conversation.tree, conversation.session)
            self._sent = b""
            await conversation.charge(LEAF_SKETCHED_S * len(conversation.tree))
        root = conversation.tree.root
        if root_tag(conversation, root) == self._tag:
            await conversation.transport.send(SketchEqual())
            return root
        sketch = self._salted or await conversation.sketches.of(conversation.context, conversation.tree)
        estimate, end = 0, message.symbols
        if message.counts:
            estimate = min(sketch.estimate(message.counts), _ESTIMATE_MAX)
            end = max(end, _symbols_for_estimate(estimate))
        end = min(end, len(sketch)) if end <= SKETCH_SYMBOLS_MAX else 0  # 0: a walk finds so much
        sent = len(self._sent) // SYMBOL_BYTES
        # Symbols of two different states of the tree cannot be read together.
        start = sent if end > sent and sketch.symbols(0, sent) == self._sent else 0
        symbols = sketch.symbols(start, end)
        self._sent = symbols if start == 0 else self._sent + symbols
        await conversation.transport.send(SketchAnswer(estimate, start, symbols))
        await conversation.charge(SYMBOL_S * (end - start))
        return None

    @property
    def key(self) -> bytes:
        """The key of the ids in the symbols that were sent last."""
        conversation = self._conversation
        return conversation.sketches.key(conversation.context, conversation.session if self._salted else b"")


class _Exchange:
    """The responder's side of the records that move behind a sketch. `done`: what was told at the end of it, until the
    initiator's came. `is_over`: nothing of it may come any more."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._joined: set[LeafKey] = set()  # leaves that the initiator put, and that have other heads here
        self.done: Done | None = None
        self.is_over = False

    async def store(self, raws: tuple[bytes, ...]) -> None:
        """Store the records of a Put, and answer it. Raises RemoteError for a bad record."""
        put: dict[LeafKey, list[VersionId]] = {}
        for record in await store_put(self._conversation, raws):
            put.setdefault(record.key, []).append(record.id)
        tree = self._conversation.tree
        self._joined |= {key for key, ids in put.items() if tree.get(key) not in (None, state_of(ids))}

    async def send_wanted(self, wanted: bytes, key: bytes) -> None:
        """Send the heads of the leaves that the initiator names, and of those where it lacks some; then Done. `key`: of
        the short ids."""
        from echonode.model import sketch

        conversation = self._conversation
        self.is_over = True
        ids = sketch.ids_from_prefixes(_whole(wanted, ID_PREFIX_BYTES))
        found = find(conversation.tree, key, ids, bits=8 * ID_PREFIX_BYTES)
        keys = sorted({*found, *self._joined})
        await send_answer(conversation, heads_of(conversation, keys), lambda raws, more: Records(raws, (), more))
        self.done = done_of(conversation, is_final=False)
        await conversation.transport.send(self.done)
        await conversation.charge(RECORD_SENT_S * len(keys) + PART_S * len(ids))

    def compare(self, theirs: Done) -> Result | None:
        """Return how the conversation ended, by the initiator's Done behind ours. None when it walks now."""
        assert self.done is not None
        ours, self.done = self.done, None
        note_followed(self._conversation, theirs)
        return responder_result(self._conversation, Direction.BOTH, theirs, ours)


_ESTIMATE_MAX: Final = 2**32


def _symbols_for_estimate(estimate: int) -> int:
    """Return the number of symbols that read the difference 19 times of 20, when counts say that it is `estimate`: the
    reading spreads by the root of the difference, the estimate by a tenth of itself, which is some 0.15 in symbols."""
    spread = sqrt(estimate + (0.16 * estimate) ** 2)
    return ceil(1.36 * estimate + sqrt(estimate) + 1.65 * spread)


# -- shared ----------------------------------------------------------------------------------------------------------


def find(tree: Tree, key: bytes, ids: "ShortIds", *, bits: int = 48) -> list[LeafKey]:
    """Return the keys, ascending, of the leaves in `tree` with a short id that begins with the first `bits` of one of
    `ids`. `key`: the key of the short ids."""
    from echonode.model import sketch

    around = dict.fromkeys(entries for place in sketch.prefixes_of(ids) for entries in tree.entries_around(place))
    return sorted(map(LeafKey, sketch.find_keys(b"".join(around), key, ids, bits=bits)))


def _whole(pieces: bytes, size: int) -> bytes:
    """Return `pieces`. Raises RemoteError unless they are whole pieces of `size` bytes."""
    if len(pieces) % size:
        raise RemoteError(Reason.PROTOCOL_ERROR, f"not whole pieces of {size} bytes")
    return pieces


def symbols_for(differences: int) -> int:
    """Return the number of symbols that read so many differences 19 times of 20, as measured from 1 to 10,000."""
    return ceil(1.36 * differences + 3.0 * sqrt(differences))
