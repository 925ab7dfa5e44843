"""`sketch`: finds what differs in three round trips, for bytes of the difference alone (PROTOCOL.md §8.8).

    initiator                                        responder
      SketchInit(root, first symbols, counts)      ->
                                                   <-  SketchAnswer(number of symbols needed)
      SketchMore(the next symbols)                 ->  reads them against its own sketch
                                                   <-  SketchAnswer(ids it lacks), Records that the initiator lacks
      Put of what it lacks, Done(root)             ->
                                                   <-  Stored, Done(root)       equal: over; else walk as level_wise

Reading is a guess that the roots confirm. A sketch that cannot be read is tried once more with ids keyed for this
session, in case colliding ids were made on purpose. Then the same conversation goes on as `level_wise`, at the level
that the estimate suggests. Both directions only: one way, nothing would prove that nothing is missing.
"""

import asyncio
from collections.abc import Iterable
from math import ceil, sqrt
from typing import TYPE_CHECKING, Final

from echonode.errors import Reason, RemoteError
from echonode.limits import PUTS_IN_FLIGHT_MAX, SKETCH_BLOCKS_MAX, SKETCH_SYMBOLS_MAX
from echonode.model.merkle import Tree, state_of
from echonode.model.record import LeafKey, Record, VersionId
from echonode.sync.agreement import Agreement
from echonode.sync.answer_check import START, check_order
from echonode.sync.conversation import Conversation, Result
from echonode.sync.done import done_of, exchange_dones
from echonode.sync.executor import DEFAULTS, InitiatorOptions
from echonode.sync.modes import level_wise
from echonode.sync.record_batches import heads_of
from echonode.sync.responder import Responder
from echonode.sync.transfer import PutWindow, receive_records, send_answer
from echonode.sync.verify_apply import Pipeline, merge
from echonode.sync.work import LEAF_SKETCHED_S, SYMBOL_S
from echonode.wire.messages import (
    PROTOCOL_VERSION,
    Direction,
    NodesRequest,
    Records,
    SketchAnswer,
    SketchInit,
    SketchMore,
)
from echonode.wire.messages.sketch import ID_PREFIX_BYTES, SYMBOL_BYTES

if TYPE_CHECKING:
    from echonode.model.sketch import ShortIds, Sketch

_WIDTH: Final = 16  # bytes of a digest, if the tree is walked
_PROBE_SYMBOLS: Final = 64  # sent at first when it is not known how much differs
_PROBE_COUNTS: Final = 192  # sent at first: 256 estimate a tenth better, and cost as many bytes as they save


async def run_initiator(conversation: Conversation, options: InitiatorOptions = DEFAULTS) -> Result:
    """Make the context equal in both stores."""
    initiator = _Initiator(conversation)
    answer = await initiator.open(options.expected)
    if answer.root == initiator.root:
        return _result_of(conversation, answer.root)
    if not answer.is_read:
        conversation.tally.note = "the sketch could not be read, so the tree was walked"
    elif (result := await initiator.exchange_records(answer)) is not None:
        return result
    else:
        conversation.tally.note = "roots differed after the sketch, so the tree was walked"
    walker = level_wise.Walker(conversation, Direction.BOTH, _WIDTH, initiator.still_differing, is_open=True)
    return await Agreement(conversation, Direction.BOTH, _WIDTH, walker.walk).reach()


def _result_of(conversation: Conversation, root: bytes) -> Result:
    """Return the result of a conversation in which both sides told the same root. Ours may have changed since."""
    return Result.EQUAL if conversation.tree.root == root else Result.MOVED


class _Initiator:
    """The initiator's side, up to the Dones. `still_differing`: about how many leaves differ now."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._is_salted = False  # the ids are keyed for this session
        self._salted: Sketch | None = None  # our sketch with such ids, once it is needed
        self._sent = b""  # symbols
        self._counts = 0  # number of counts that were sent
        self.root = b""  # of our tree, as the peer was told
        self.still_differing = 0

    async def open(self, expected: int | None) -> SketchAnswer:
        """Send symbols until the peer could read them, or asks for no more. Return its last answer."""
        conversation = self._conversation
        sketch = await self._sketch()
        tree = self._tree
        symbols, self._counts = _probe(expected)
        self._sent, self.root = sketch.symbols(0, symbols), tree.root
        counts = sketch.counts(self._counts)
        init = SketchInit(PROTOCOL_VERSION, conversation.context, tree.root, len(tree), counts, self._sent)
        answer = await conversation.request(init, SketchAnswer)
        for _ in range(SKETCH_BLOCKS_MAX):
            if answer.is_read or answer.root == self.root:
                break
            needed = answer.symbols
            if not needed:
                if self._is_salted or not 0 < answer.estimate < SKETCH_SYMBOLS_MAX // 2:
                    break
                self._is_salted = True
                needed = max(len(self._sent) // SYMBOL_BYTES, symbols_for(answer.estimate))
            answer = await self._send_more(needed)
        self.still_differing = answer.estimate
        return answer

    async def _send_more(self, needed: int) -> SketchAnswer:
        sketch = await self._sketch()
        sent = len(self._sent) // SYMBOL_BYTES
        # Symbols of two different states of the tree cannot be read together.
        start = sent if needed > sent and sketch.symbols(0, sent) == self._sent else 0
        symbols = sketch.symbols(start, min(needed, len(sketch)))
        self._sent = symbols if start == 0 else self._sent + symbols
        counts = sketch.counts(_PROBE_COUNTS) if self._counts < _PROBE_COUNTS else b""
        self._counts = _PROBE_COUNTS
        more = SketchMore(self._is_salted, start, counts, symbols)
        return await self._conversation.request(more, SketchAnswer)

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

    async def exchange_records(self, answer: SketchAnswer) -> Result | None:
        """Receive the records we lack, put those the peer lacks, and exchange Dones. Return None when the roots still
        differ."""
        from echonode.model import sketch

        conversation = self._conversation
        key = conversation.sketches.key(conversation.context, conversation.session if self._is_salted else b"")
        ids = sketch.ids_from_prefixes(_whole(answer.wanted, ID_PREFIX_BYTES))
        keys = find(self._tree, key, ids, bits=8 * ID_PREFIX_BYTES)
        came = await _receive(conversation, keys) if answer.leaves else {}
        tree = self._tree
        # A leaf that came may have superseded ours: then the peer has all of it.
        lacking = [leaf for leaf in keys if leaf not in came or tree.get(leaf) != state_of(came[leaf])]
        puts = PutWindow(conversation, PUTS_IN_FLIGHT_MAX)
        await puts.put(heads_of(conversation, lacking))
        ours = done_of(conversation, is_final=False)
        theirs = await exchange_dones(conversation, ours, puts)
        self.still_differing = 0  # the estimate was about the leaves that have moved
        return _result_of(conversation, theirs.root) if theirs.root == ours.root else None


def _probe(expected: int | None) -> tuple[int, int]:
    """Return the numbers of symbols and counts to begin with."""
    if expected is not None:
        symbols = symbols_for(round(expected + 2 * sqrt(expected)))
        if symbols <= _PROBE_SYMBOLS:
            return symbols, symbols
    return _PROBE_SYMBOLS, _PROBE_COUNTS


async def _receive(conversation: Conversation, keys: Iterable[LeafKey]) -> dict[LeafKey, list[VersionId]]:
    """Merge the Records behind a SketchAnswer. Return the versions that came of the leaves `keys`."""
    answer = _LackedRecords(conversation, keys)
    async with Pipeline(conversation.context) as pipeline:
        await receive_records(conversation, pipeline, answer)
    return answer.came


class _LackedRecords:
    """The Records behind a SketchAnswer, as a PendingAnswer. `came`: the versions that came of the leaves `keys`."""

    def __init__(self, conversation: Conversation, keys: Iterable[LeafKey]) -> None:
        self._conversation = conversation
        self._keys = set(keys)
        self._last = START
        self.came: dict[LeafKey, list[VersionId]] = {}

    def check(self, message: Records) -> None:
        if message.rest or (message.more and not message.records):
            raise RemoteError(Reason.PROTOCOL_ERROR, "Records behind a sketch bring something and leave no rest")

    async def store(self, _: Records, records: list[Record]) -> None:
        self._last = check_order(records, self._last)
        for record in records:
            if record.key in self._keys:
                self.came.setdefault(record.key, []).append(record.id)
        await merge(self._conversation, records)


# -- the responder ---------------------------------------------------------------------------------------------------


async def run_responder(conversation: Conversation, init: SketchInit) -> Result:
    """Serve the conversation that `init` opened."""
    reader = _SymbolReader(conversation, init)
    root = await reader.answer()
    answers = Responder(conversation, Direction.BOTH, _WIDTH)
    blocks = 0
    while root != init.root:  # the initiator compares the same two roots, so both end here or neither
        message = await conversation.transport.recv()
        match message:
            case SketchMore() if blocks < SKETCH_BLOCKS_MAX and not reader.is_read:
                blocks += 1
                root = await reader.more(message, is_last=blocks >= SKETCH_BLOCKS_MAX // 2)
            case NodesRequest(prefixes):
                await level_wise.send_nodes(conversation, prefixes, _WIDTH)
            case _:
                if (result := await answers.answer(message)) is not None:
                    return result
    return _result_of(conversation, root)


class _SymbolReader:
    """The responder's reading of the peer's symbols against its own sketch. `is_read`: it succeeded."""

    def __init__(self, conversation: Conversation, init: SketchInit) -> None:
        self._conversation = conversation
        self._init = init
        self._symbols, self._counts = _whole(init.symbols, SYMBOL_BYTES), init.counts
        self._salted: Sketch | None = None
        self.is_read = False

    async def more(self, message: SketchMore, *, is_last: bool) -> bytes:
        """Read further symbols, and answer. Return the root that was told. `is_last`: no more are asked for. Raises
        RemoteError for symbols that do not join the earlier ones."""
        conversation = self._conversation
        if message.is_salted and self._salted is None:
            self._salted = await conversation.sketches.of(conversation.context, self._tree, conversation.session)
            await conversation.charge(LEAF_SKETCHED_S * len(self._tree))
        if message.start not in (0, len(self._symbols) // SYMBOL_BYTES):
            raise RemoteError(Reason.PROTOCOL_ERROR, "symbols that do not join those that came before")
        whole = (self._symbols if message.start else b"") + _whole(message.symbols, SYMBOL_BYTES)
        if len(whole) > SKETCH_SYMBOLS_MAX * SYMBOL_BYTES:
            raise RemoteError(Reason.PROTOCOL_ERROR, "more symbols than a sketch has")
        self._symbols, self._counts = whole, message.counts or self._counts
        return await self.answer(is_last=is_last)

    async def answer(self, *, is_last: bool = False) -> bytes:
        """Read the symbols received so far, and answer. When they could be read, send the records the peer lacks.
        Return the root that was told."""
        conversation = self._conversation
        sketch = self._salted or await conversation.sketches.of(conversation.context, self._tree)
        root, surplus = self._tree.root, self._init.count - len(self._tree)
        if root == self._init.root:
            self.is_read = True
            await conversation.transport.send(SketchAnswer(root, 0, True, 0, b"", 0))
            return root
        estimate = min(sketch.estimate(self._counts, surplus), _ESTIMATE_MAX)
        read = sketch.difference_from(self._symbols)
        difference = await asyncio.get_running_loop().run_in_executor(None, read)
        await conversation.charge(SYMBOL_S * (len(self._symbols) // SYMBOL_BYTES))
        if difference is None:
            needed = 0 if is_last else _needed(len(self._symbols) // SYMBOL_BYTES, len(self._counts), estimate)
            await conversation.transport.send(SketchAnswer(root, estimate, False, needed, b"", 0))
            return root
        self.is_read = True
        await self._send_difference(root, difference.theirs, difference.ours)
        return root

    async def _send_difference(self, root: bytes, theirs: "ShortIds", ours: "ShortIds") -> None:
        from echonode.model import sketch

        conversation = self._conversation
        key = conversation.sketches.key(conversation.context, conversation.session if self._salted else b"")
        keys = find(self._tree, key, ours)
        differences = len(theirs) + len(ours)
        wanted = sketch.id_prefixes(theirs)
        await conversation.transport.send(SketchAnswer(root, differences, True, 0, wanted, len(keys)))
        if keys:
            await send_answer(conversation, heads_of(conversation, keys), lambda raws, more: Records(raws, (), more))

    @property
    def _tree(self) -> Tree:
        return self._conversation.tree


_ESTIMATE_MAX: Final = 2**32


def _needed(have: int, counts: int, estimate: int) -> int:
    """Return the number of symbols to ask for, 0 when a sketch would need too many. `have`: symbols received; `counts`:
    counts received, from which about `estimate` leaves differ."""
    if counts < _PROBE_COUNTS:
        return max(_PROBE_SYMBOLS, have)  # the next symbols bring counts that estimate better
    # Enough 19 times of 20: the reading spreads by the root of the estimate, the estimate by a tenth of itself.
    spread = sqrt(estimate + (0.14 * estimate) ** 2)
    needed = max(ceil(1.36 * estimate + sqrt(estimate) + 1.65 * spread), have + have // 2)
    return needed if needed <= SKETCH_SYMBOLS_MAX else 0


# -- shared ----------------------------------------------------------------------------------------------------------


def find(tree: Tree, key: bytes, ids: "ShortIds", *, bits: int = 64) -> list[LeafKey]:
    """Return the keys, ascending, of the leaves in `tree` with a short id that begins with the first `bits` of one of
    `ids`. `key`: the key of the short ids."""
    from echonode.model import sketch

    around = dict.fromkeys(entries for place in sketch.prefixes_of(ids) for entries in tree.entries_around(place))
    return sorted(map(LeafKey, sketch.find_keys(b"".join(around), key, ids, bits=bits).values()))


def _whole(pieces: bytes, size: int) -> bytes:
    """Return `pieces`. Raises RemoteError unless they are whole pieces of `size` bytes."""
    if len(pieces) % size:
        raise RemoteError(Reason.PROTOCOL_ERROR, f"not whole pieces of {size} bytes")
    return pieces


def symbols_for(differences: int) -> int:
    """Return the number of symbols that read so many differences 19 times of 20, as measured from 1 to 10,000."""
    return ceil(1.36 * differences + 3.0 * sqrt(differences))
