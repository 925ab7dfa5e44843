"""The bytes and round trips of the tree modes: two memory stores, one conversation, every message through the codec."""

import asyncio
import random
import time

from echonode.model.record import MAIN
from echonode.sync.modes import hash_comparison, level_wise
from echonode.wire.messages import HashComparisonInit, LevelWiseInit
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
