"""`python -m tests.bench.costs [--modes M ..] [--json F] [--svg F] [--tables F]`: the cost of each sync mode.

Costs depend on the size of the sets and of the difference. Two stores hold N leaves each and differ in d records, half
of them at either end: *newest*, records that the other store lacks, or *scattered*, old records of which one end has a
later version (two leaves differ for each). Every mode makes the stores equal over a transport in memory. The two ends
run on a thread each, so that each end's CPU time can be measured. Bytes are those of the payloads without the records
and their wrapping, which every mode has to send.

For `delta` each end has followed the other's log up to the first difference. Leaves that both ends hold are random
hashes without records, because most modes read no record behind an equal leaf; `reconcile` and `snapshot` do, and run
over as many real records. `snapshot` fills an empty store, so d does not matter.
"""

import argparse
import asyncio
import json
import random
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from echonode import cbor
from echonode.model.identity import IdentityId
from echonode.model.merkle import Tree
from echonode.model.record import MAIN, Record
from echonode.model.sketch import Sketch, make_sketch
from echonode.store.memory import MemoryStore
from echonode.store.port import Cursor
from echonode.sync import tree_parts
from echonode.sync.conversation import Conversation, Result
from echonode.sync.executor import InitiatorOptions
from echonode.sync.modes import delta, hash_comparison, level_wise, reconcile, sketch, snapshot
from echonode.sync.select import Mode, State, select
from echonode.sync.sketch_cache import SketchCache, _Kept
from echonode.wire.codec import decode, encode
from echonode.wire.messages import Message
from tests.bench.plot import chart
from tests.sync.pair import ignore
from tests.sync.talk import serve
from tests.sync.universe import at_once, universe

SIZES = (1_000, 10_000, 100_000, 1_000_000)
DIFFERENCES = (0, 1, 10, 100, 1_000, 10_000)
KINDS = ("newest", "scattered")
_SKIP_S = 60.0  # a mode that took longer is not tried with more differences

_PEERS = (IdentityId(b"a" * 32), IdentityId(b"b" * 32))


@dataclass
class Pair:
    """Two stores that differ. `since`: the last seq of each log before the first difference."""

    stores: list[MemoryStore]
    sketches: list[SketchCache]
    since: list[int]
    expected: int | None = None

    def options(self) -> InitiatorOptions:
        """Return the options of the initiator, with the expected number of differences."""
        return InitiatorOptions(expected=self.expected)

    def cursor(self, number: int) -> Cursor:
        """Return the cursor with which the other store has followed the log of this one."""
        return Cursor(_PEERS[number], self.stores[number].instance, MAIN, self.since[number])


# Add a new mode here; it is then printed and drawn beside the others.
MODES: dict[str, Callable[[Conversation, Pair], Awaitable[Result]]] = {
    "level_wise": lambda conversation, pair: level_wise.run_initiator(conversation, pair.options()),
    "hash_comparison": lambda conversation, _: hash_comparison.run_initiator(conversation),
    "sketch": lambda conversation, pair: sketch.run_initiator(conversation, pair.options()),
    "delta": lambda conversation, _: delta.run_initiator(conversation),
    "reconcile": lambda conversation, _: reconcile.run_initiator(conversation),
    "snapshot": lambda conversation, _: snapshot.run_initiator(conversation),
}
READING = ("reconcile", "snapshot")  # modes that read records, not only hashes


@dataclass(frozen=True)
class Cost:
    """One cell of the table. `leaves` is the number of leaves that both ends hold."""

    leaves: int
    differences: int
    kind: str
    mode: str
    selected: bool
    result: str
    bytes: int
    round_trips: int
    cpu_initiator_ms: float
    cpu_responder_ms: float
    wall_ms: float
    note: str

    @property
    def bytes_each(self) -> float:
        """The bytes for each differing record."""
        return self.bytes / max(1, self.differences)


class _Inline(ThreadPoolExecutor):
    """An executor that runs work in the calling thread, so that its CPU time counts for that end."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **named: Any) -> "Future[Any]":
        done: Future[Any] = Future()
        try:
            done.set_result(work(*args, **named))
        except Exception as error:
            done.set_exception(error)
        return done


class _End:
    """One end of a transport between two event loops on two threads."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self.other: _End | None = None
        self.bytes_sent = self.bytes_received = self.record_bytes = 0
        self.cpu_ms = 0.0

    async def send(self, message: Message) -> None:
        payload = encode(message)
        self.bytes_sent += len(payload)
        self.record_bytes += sum(len(cbor.encode(raw)) for raw in getattr(message, "records", ()))
        assert self.other is not None
        self.other.loop.call_soon_threadsafe(self.other.inbox.put_nowait, payload)

    async def recv(self) -> Message:
        payload = await self.inbox.get()
        self.bytes_received += len(payload)
        return decode(payload)

    def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Run `work` to its end, on this end's loop and in this thread."""
        asyncio.set_event_loop(self.loop)
        self.loop.set_default_executor(_Inline())
        began = time.thread_time()
        try:
            return self.loop.run_until_complete(work())
        finally:
            self.cpu_ms = 1000 * (time.thread_time() - began)
            self.loop.close()


@dataclass(frozen=True)
class Common:
    """The leaves that both ends hold, in key order and without records, and the sketch of them."""

    entries: bytes
    sketch: Sketch

    @property
    def count(self) -> int:
        """The number of leaves."""
        return len(self.entries) // 64

    @classmethod
    def of(cls, count: int) -> "Common":
        draw = random.Random(count)
        keys = sorted(draw.randbytes(32) for _ in range(count))
        entries = b"".join(key + draw.randbytes(32) for key in keys)
        return cls(entries, make_sketch([entries], SketchCache().key(MAIN)))

    def give(self, store: MemoryStore) -> SketchCache:
        """Put the leaves into `store`. Return a cache that keeps their sketch current, as a running node does."""
        tree = store._index.trees[MAIN] = Tree.from_sorted([self.entries])
        sketches = SketchCache()
        kept = _Kept(weakref.ref(tree), tree.start_journal(), sketches.key(MAIN), deepcopy(self.sketch))
        sketches._kept[MAIN] = kept
        return sketches


@cache
def real_records(count: int) -> list[Record]:
    """Return so many real records."""
    return [universe().writers[0].record(f"common-{number}", body=b"x" * 100) for number in range(count)]


def _holding(records: Sequence[Record]) -> MemoryStore:
    store = universe().store(())
    for start in range(0, len(records), 1000):
        at_once(store.apply(MAIN, records[start : start + 1000]))
    return store


def _pair(common: Common, differences: int, kind: str, mode: str) -> Pair:
    if mode == "snapshot":
        return Pair([_holding(()), _holding(real_records(common.count))], [SketchCache(), SketchCache()], [0, 0])
    if mode in READING:
        stores = [_holding(real_records(common.count)), _holding(real_records(common.count))]
        pair = Pair(stores, [SketchCache(), SketchCache()], [0, 0])
    else:
        stores = [universe().store(()), universe().store(())]
        pair = Pair(stores, [common.give(store) for store in stores], [0, 0])
    writer = universe().writers[0]
    old = [writer.record(f"{kind}-{number}", body=b"x" * 100) for number in range(differences)]
    if kind == "scattered":
        for store in stores:
            at_once(store.apply(MAIN, old))
    pair.since = [store.seq(MAIN) for store in stores]
    for number, record in enumerate(old):
        new = record if kind == "newest" else writer.record(record.name, record, body=b"y" * 100)
        at_once(stores[number % 2].apply(MAIN, [new]))
    return pair


def measure(common: Common, differences: int, kind: str, mode: str) -> Cost:
    """Run one conversation and return its cost."""
    pair = _pair(common, differences, kind, mode)
    selection = select(*(state(store) for store in pair.stores), [each for each in Mode if each.value != "delta"])
    pair.expected = selection.expected
    ours, theirs = _End(), _End()
    ours.other, theirs.other = theirs, ours
    conversations = [
        Conversation(end, store, MAIN, ignore, ignore, cursor=cursor, sketches=kept, session=b"session")
        for end, store, cursor, kept in zip(
            (ours, theirs), pair.stores, (pair.cursor(1), pair.cursor(0)), pair.sketches, strict=True
        )
    ]
    responder = threading.Thread(target=theirs.run, args=(lambda: serve(conversations[1]),))
    began = time.perf_counter()
    responder.start()
    result = ours.run(lambda: MODES[mode](conversations[0], pair))
    responder.join()
    wall_ms = 1000 * (time.perf_counter() - began)
    assert pair.stores[0].tree(MAIN).root == pair.stores[1].tree(MAIN).root
    sent = ours.bytes_sent + theirs.bytes_sent - ours.record_bytes - theirs.record_bytes
    tally = conversations[0].tally
    return Cost(
        leaves=common.count,
        differences=differences,
        kind=kind,
        mode=mode,
        selected=selection.mode is not None and selection.mode.value == mode,
        result=result.value,
        bytes=sent,
        round_trips=tally.round_trips,
        cpu_initiator_ms=round(ours.cpu_ms, 1),
        cpu_responder_ms=round(theirs.cpu_ms, 1),
        wall_ms=round(wall_ms, 1),
        note=tally.note,
    )


def state(store: MemoryStore) -> State:
    """Return the summary of `store` that `select` takes."""
    tree = store.tree(MAIN)
    return State(tree.root, len(tree), tree_parts.cut(tree.children_at(b""), 16))


def table(
    sizes: Sequence[int], differences: Sequence[int], kinds: Sequence[str], modes: Sequence[str]
) -> Iterator[Cost]:
    """Yield every cell that does not take too long."""
    for size in sizes:
        common = Common.of(size)
        for kind, mode in product(kinds, modes):
            for count in differences:
                if count > size:
                    continue
                if mode == "snapshot" and (count or kind != kinds[0]):
                    continue
                cost = measure(common, count, kind, mode)
                yield cost
                if cost.wall_ms > 1000 * _SKIP_S:
                    print(f"{mode} at {size:,} is left out beyond {count:,} differences: it took {cost.wall_ms:,} ms")
                    break


def tables(costs: Sequence[Cost]) -> str:
    """Return the costs as Markdown: a table for each size and kind, a column for each mode, the selected one bold."""
    lines: list[str] = []
    modes = [mode for mode in MODES if mode != "snapshot"]
    cells = {(cost.leaves, cost.kind, cost.differences, cost.mode): cost for cost in costs}
    for size, kind in dict.fromkeys((cost.leaves, cost.kind) for cost in costs):
        lines += [f"**N = {size:,}, {kind}**", "", f"| d | {' | '.join(modes)} |", "|---" * (1 + len(modes)) + "|"]
        for count in sorted({cost.differences for cost in costs if cost.leaves == size}):
            row = [_cell(cells.get((size, kind, count, mode))) for mode in modes]
            lines.append(f"| {count:,} | {' | '.join(row)} |")
        lines.append("")
    filled = [cost for cost in costs if cost.mode == "snapshot"]
    lines += ["**snapshot, into an empty store**", "", "| N | snapshot |", "|---|---|"]
    lines += [f"| {cost.leaves:,} | {_cell(cost)} |" for cost in filled]
    return "\n".join(lines) + "\n"


def _cell(cost: Cost | None) -> str:
    if cost is None:
        return ""
    cpu_ms = cost.cpu_initiator_ms + cost.cpu_responder_ms
    cell = f"{cost.bytes:,} / {cost.round_trips} / {_short(cpu_ms)}"
    return f"**{cell}**" if cost.selected else cell


def _short(ms: float) -> str:
    return f"{ms:.1f}" if ms < 10 else f"{ms:,.0f}"


def sketch_cpu_s(size: int) -> float:
    """Return the seconds of CPU that a node needs once, to build the sketch of so many leaves."""
    tree = Tree.from_sorted([Common.of(size).entries])
    end = _End()
    end.run(lambda: SketchCache().of(MAIN, tree))
    return end.cpu_ms / 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.costs")
    parser.add_argument("--leaves", type=int, nargs="+", default=SIZES)
    parser.add_argument("--differences", type=int, nargs="+", default=DIFFERENCES)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--tables", type=Path, help="write the tables of proto/COSTS.md here")
    parser.add_argument("--svg", type=Path, help="draw bytes against differences here")
    arguments = parser.parse_args()
    costs = []
    print(f"{'N':>9} {'d':>6} kind      mode            {'bytes':>11} {'each':>8} trips  CPU ms, both ends    wall ms")
    for cost in table(arguments.leaves, arguments.differences, arguments.kinds, arguments.modes):
        costs.append(cost)
        print(
            f"{cost.leaves:9,} {cost.differences:6,} {cost.kind:9} {cost.mode:15} {cost.bytes:11,} "
            f"{cost.bytes_each:8,.1f} {cost.round_trips:5} {cost.cpu_initiator_ms:9,.1f} {cost.cpu_responder_ms:9,.1f} "
            f"{cost.wall_ms:10,.1f} {'<- select' if cost.selected else ''} {cost.note}",
            flush=True,
        )
    for size in arguments.leaves:
        print(f"building a sketch of {size:,} leaves: {sketch_cpu_s(size):.3f} s of CPU, once")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(cost) for cost in costs], indent=1) + "\n")
    if arguments.tables:
        arguments.tables.write_text(tables(costs))
    if arguments.svg:
        arguments.svg.write_text(chart(costs))


if __name__ == "__main__":
    main()
