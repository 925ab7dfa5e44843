"""A byte that flips in the store of a running node: the audit finds it, drops the record, and a peer brings it back."""

import asyncio
import os
import random
import shutil
from contextlib import suppress
from pathlib import Path

from echonode import Node
from echonode.errors import StoreError
from echonode.model.record import IDENTITIES, MAIN
from echonode.model.usage import Usage
from echonode.node.audits import AuditReport
from tests.api.serving import run as serve
from tests.contracts.store import verdict_of
from tests.store.files import commits, flip, look, opened, run
from tests.store.people import Owner, Person

FLIPS = 400 if os.environ.get("ECHO_TEST_SLOW") else 40
SEED = int(os.environ.get("ECHO_TEST_SEED", "1"))
_HEADER_BYTES = 12  # in front of the key in a row, and of the part of it in the index: the types and lengths of columns


def flip_in_place(path: Path, piece: bytes) -> None:
    """Flip a bit of `piece`, which stands in the file once, while a process has it open."""
    look(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    data = path.read_bytes()
    assert data.count(piece) == 1
    at = data.index(piece)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([piece[0] ^ 1]))
        file.flush()
        os.fsync(file.fileno())


def test_a_damaged_record_is_dropped_and_its_older_version_stands_until_a_peer_brings_it(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def test() -> None:
        async with opened(path) as store:
            owner = Owner(store)
            await owner.begin()
            first = await owner.put("x", b"the first")
            second = await owner.put("x", b"the second, which rots")
            whole = await owner.put("y", b"whole")
            flip_in_place(path, b"the second, which rots")
            found = await verdict_of(store)
            assert len(found.problems) == 1
            assert found.damaged == ((MAIN, second.key),)
            assert await store.drop_damaged(MAIN, [whole.key]) == []
            assert await store.drop_damaged(IDENTITIES, [second.key]) == []
            assert await store.drop_damaged(MAIN, [second.key, whole.key]) == [second.id]
            assert commits(path) == 1, "the leaf is never gone on the disk"
            size = first.size + whole.size
            assert store.usage.of(owner.id) == store.usage.total == Usage(2, size, 0), "what was dropped counts no more"
            assert [head.id for head in await store.heads(MAIN, owner.id, "x")] == [first.id]
            assert [head.id for head in await store.heads(MAIN, owner.id, "y")] == [whole.id]
            assert (await verdict_of(store)).problems == ()
            assert (await store.apply(MAIN, [second])).records == (second,)
            third = await owner.put("x", b"the third")
            assert third.counter > whole.counter, "no dot is given twice"
        async with opened(path) as store:
            assert (await verdict_of(store)).problems == ()

    run(test())


def test_a_running_node_gets_a_damaged_record_back_from_its_peer(tmp_path: Path) -> None:
    async def test() -> None:
        options = {"listen": "127.0.0.1:0", "mdns": False, "environ": {}}
        async with Node.open(tmp_path / "a", **options) as one, Node.open(tmp_path / "b", **options) as two:
            await two.join(await one.invite(), one.listening[0])
            for number in range(20):
                written = await one.put(f"n{number}", f"this is number {number} of twenty")
            async for change in two.changes("main"):
                if change.record.version == written.version:
                    break
            instance = one._running.store.instance
            flip_in_place(tmp_path / "a" / "store.db", b"this is number 7 of twenty")
            report = await one._running.audits.run()
            assert (report.problems, report.dropped) == (1, 1)
            async for change in one.changes("main", since=written.cursor):
                if change.record.name == "n7":
                    assert change.record.body == b"this is number 7 of twenty"
                    break
            assert one._running.records.other_life is None, "its own record came back, and no copy wrote it"
            assert one._running.store.instance == instance
            again = await one._running.audits.run()
            assert again == AuditReport(again.ended_ms, report.checked)
            assert one._running.audits.last == again

    serve(test)


def test_an_audit_ends_with_a_verdict_whichever_type_or_length_a_flipped_bit_gives_a_column(tmp_path: Path) -> None:
    whole = tmp_path / "whole.db"

    async def fill() -> None:
        async with opened(whole) as store:
            owner, other = Owner(store), Person(2)
            await owner.begin()
            await store.apply(IDENTITIES, [other.statement()])
            for number in range(4):
                await owner.put(f"n{number}", b"first")
                await owner.put(f"n{number}", b"second")
            await store.apply(MAIN, [other.version("theirs", b"body")])

    async def audited(path: Path) -> None:
        async with opened(path) as store, asyncio.timeout(20):
            found = await verdict_of(store)
            for context, key in found.damaged:
                await store.drop_damaged(context, [key])

    run(fill())
    data = whole.read_bytes()
    keys = [key for table in ("log", "history", "writers") for (key,) in look(whole, f"SELECT key FROM {table}")]
    starts = [at for key in keys for at in range(len(data)) if data.startswith(key[:8], at)]
    draw = random.Random(SEED)
    for number in range(FLIPS):
        path = tmp_path / f"{number}.db"
        shutil.copy(whole, path)
        flip(path, 8 * (draw.choice(starts) - draw.randint(1, _HEADER_BYTES)) + draw.randrange(8))
        with suppress(StoreError):  # a store that does not open says so
            run(audited(path))
