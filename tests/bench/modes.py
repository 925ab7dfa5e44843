"""The bytes and round trips of the modes: two memory stores, one conversation, every message through the codec."""

import asyncio
import random
import time
from collections.abc import Sequence

from echonode.model.record import MAIN
from echonode.sync.modes import hash_comparison, level_wise
from echonode.wire.messages import HashComparisonInit, LevelWiseInit
from echonode.wire.negentropy import Negentropy
from echonode.wire.ranges import ID_BYTES, Items, item
from tests.bench.costs import Common, measure
from tests.sync.pair import acquainted, conversation, paired

_BATCH = 1000


async def _differing(size: int, differences: int) -> tuple[object, object]:
    """Return two ends with stores of `size` records; `differences` of them, scattered, were edited at one end."""
    ours, theirs = await acquainted(2)
    for at in range(0, size, _BATCH):
        records = await theirs.put_all([(f"record-{n}", b"x" * 100) for n in range(at, min(at + _BATCH, size))])
        await ours.store.apply(MAIN, records)
    chosen = random.Random(differences).sample(range(size), differences)
    await theirs.put_all([(f"record-{n}", b"edited") for n in chosen])
    return ours, theirs


async def _serve(theirs: object) -> None:
    init = await theirs.transport.recv()
    match init:
        case LevelWiseInit():
            await level_wise.run_responder(theirs, init)
        case HashComparisonInit():
            await hash_comparison.run_responder(theirs, init)


async def _measure(mode: str, size: int, differences: int) -> dict[str, object]:
    ours, theirs = await _differing(size, differences)
    here, there = paired()
    mine = conversation(here, ours.store)
    run = level_wise.run_initiator if mode == "level_wise" else hash_comparison.run_initiator
    began = time.perf_counter()
    result, _ = await asyncio.gather(run(mine), _serve(conversation(there, theirs.store)))
    records = sum(len(raw) for message in there.sent for raw in getattr(message, "records", ()))
    records += sum(len(raw) for message in here.sent for raw in getattr(message, "records", ()))
    total = here.bytes_sent + there.bytes_sent
    return {
        "mode": mode,
        "records": size,
        "differences": differences,
        "result": result.value,
        "bytes": total,
        "bytes_without_records": total - records,
        "round_trips": mine.tally.round_trips,
        "seconds": round(time.perf_counter() - began, 4),
    }


def table(size: int, differences: list[int]) -> list[dict[str, object]]:
    """Return one row for each mode and number of differences."""
    return [
        asyncio.run(_measure(mode, size, count)) for count in differences for mode in ("level_wise", "hash_comparison")
    ]


def figures(size: int, differences: Sequence[int]) -> dict[str, float]:
    """Return the costs that have goals, of sets of `size` leaves: each mode in the worst of `differences` that both
    ends' newest records make."""
    common = Common.of(size)
    equal = measure(common, 0, "newest", "sketch")
    sketches = [measure(common, count, "newest", "sketch") for count in differences]
    level_wise = measure(common, 1000, "newest", "level_wise")
    return {
        "equal_round_trips": equal.round_trips,  # of a conversation about equal sets; roots in hellos make it needless
        "equal_bytes": equal.bytes,
        "sketch_bytes_each": round(max(cost.bytes_each for cost in sketches), 1),
        "sketch_round_trips": max(cost.round_trips for cost in sketches),
        "level_wise_bytes_each": round(level_wise.bytes_each, 1),
        "level_wise_round_trips": level_wise.round_trips,
    } | _ranges(100_000, 1000)


def _ranges(size: int, differences: int) -> dict[str, float]:
    """Return the costs of range-based reconciliation alone, of sets in memory: CPU of both ends, sorting included."""
    draw = random.Random(size)
    rows = [item(draw.randrange(10**9), draw.randbytes(ID_BYTES)) + bytes(8) for _ in range(size + differences)]
    began_s = time.thread_time()
    ours, theirs = Items(rows[:size], 8), Items(rows[differences:], 8)
    loaded_s = time.thread_time() - began_s
    initiator, responder = Negentropy(ours), Negentropy(theirs)
    message: bytes | None = initiator.initiate()
    sent = 0
    while message is not None:
        answer = responder.answer(message)
        assert answer is not None
        message, last = initiator.answer(answer), message
        sent += len(last) + len(answer)
    return {
        "reconcile_load_cpu_ms": round(1000 * loaded_s, 1),
        "reconcile_cpu_ms": round(1000 * (time.thread_time() - began_s), 1),
        "reconcile_bytes": sent,
        "reconcile_memory_bytes_each": round((len(ours._data) + len(ours._sums)) / size, 1),
    }
