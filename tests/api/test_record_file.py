"""Record files over the API: written and taken as streams, with progress, in bounded memory."""

import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from echonode.errors import StoreError
from echonode.limits import BATCH_RECORDS_MAX, MIB
from echonode.model.identity import Instance
from echonode.model.member_secret import MemberSecret
from echonode.model.record import MAIN, Draft, LeafKey
from echonode.store.memory import MemoryStore
from echonode.wire.record_file import ContextEnd, FileHeader
from tests.api.serving import Served, hearing, run, serving

PATH = "/v1/record-file"


async def put_many(served: Served, count: int, body: bytes = b"x") -> None:
    node = served.node
    for start in range(0, count, BATCH_RECORDS_MAX):
        wanted = range(start, min(start + BATCH_RECORDS_MAX, count))
        await node.records.put_all(
            [Draft(context=MAIN, author=node.id, name=f"{number:06}", body=body) for number in wanted]
        )


async def file_of(served: Served, query: str = "") -> bytes:
    answer = await served.ask("GET", PATH + query)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/cbor-seq")
    return answer.body


async def take(served: Served, data: bytes, query: str = "") -> list[dict[str, Any]]:
    answer = await served.ask("POST", PATH + query, data)
    assert answer.status == 200
    return answer.lines()


def test_a_file_goes_from_node_to_node_with_progress(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one, serving(tmp_path, name="two") as two:
            await put_many(one, 2 * BATCH_RECORDS_MAX + 5)
            await one.put("x", context="books")
            lines = await take(two, await file_of(one))
            assert [line["versions"] for line in lines] == sorted(line["versions"] for line in lines)
            last = lines[-1]
            assert last["done"] and (last["new"], last["refused"]) == (2 * BATCH_RECORDS_MAX + 8, 0)
            assert last["by"]["name"] == "one"
            books = next(each for each in last["contexts"] if each["name"] == "books")
            assert (books["new"], books["is_equal"], books["is_kept"]) == (1, True, True)
            assert (await two.ask("GET", f"/v1/records/books?id={last['by']['id']}/x")).body == b"x"
            assert [event.name for event in two.events].count("file.taken") == 1

    run(test)


def test_contexts_are_chosen_in_both_directions(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one, serving(tmp_path, name="two") as two:
            await one.put("x", context="a%20b")
            await one.put("x", context="books")
            await take(two, await file_of(one, "?context=a%20b"))
            assert "a b" in two.node.store.contexts() and "books" not in two.node.store.contexts()
            last = (await take(two, await file_of(one), "?context=main"))[-1]
            assert {each["name"]: each["is_kept"] for each in last["contexts"]} == {
                "identities": True,
                "a b": False,
                "books": False,
            }

    run(test)


def test_what_is_wrong_with_a_file_is_the_last_line(tmp_path: Path) -> None:
    async def test() -> None:
        other = MemberSecret.of_lone_key(bytes(32))
        async with (
            serving(tmp_path) as one,
            serving(tmp_path, name="two") as two,
            serving(tmp_path, name="far", secret=other) as far,
        ):
            await put_many(one, 20)
            data = await file_of(one)
            cut = (await take(two, data[:-200]))[-1]
            assert cut["error"]["code"] == "damaged" and "done" not in cut
            assert 0 < cut["new"] < 22 and cut["contexts"][1]["new"] == len(two.node.store.tree(MAIN))
            (foreign,) = await take(far, data)
            assert foreign["error"]["code"] == "unusable" and one.node.network in foreign["error"]["message"]
            assert (foreign["by"]["name"], foreign["contexts"]) == ("one", [])
            (none,) = await take(two, b"{}\n" * 1000)
            assert (none["by"], none["error"]["code"]) == (None, "unusable")

    run(test)


def test_a_node_that_is_to_join_a_network_writes_and_takes_no_file(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one:
            one.node._settings = replace(one.node._settings, is_provisional=True)
            for method in ("GET", "POST"):
                answer = await one.ask(method, PATH)
                assert (answer.status, answer.code) == (422, "unusable")

    run(test)


class FailingStore(MemoryStore):
    """A store whose disk fails after some pages."""

    pages = 10**6

    async def read(self, context: str, keys: "list[LeafKey]", *, bytes_max: int) -> tuple[list[bytes], int]:  # type: ignore[override]
        self.pages -= 1
        if self.pages < 0:
            raise StoreError("the disk gave up")
        return await super().read(context, keys[:2], bytes_max=bytes_max)


def test_a_file_whose_writing_failed_ends_where_a_reader_notices(tmp_path: Path) -> None:
    async def test() -> None:
        store = FailingStore(Instance(b"i" * 8))
        async with serving(tmp_path, store=store) as one, serving(tmp_path, name="two") as two:
            await put_many(one, 20)
            store.pages = 8
            last = (await take(two, await file_of(one)))[-1]
            assert last["error"]["code"] == "damaged" and 0 < last["new"] < 22

    run(test)


def test_a_client_that_goes_away_leaves_what_it_brought(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one, serving(tmp_path, name="two") as two:
            await put_many(one, 3 * BATCH_RECORDS_MAX)
            data = await file_of(one)
            async with two.connection() as connection:
                await connection.begin("POST", PATH, [("transfer-encoding", "chunked")])
                await connection.send(data[: len(data) // 2])
                with hearing(two.node) as events:
                    while len(two.node.store.tree(MAIN)) < BATCH_RECORDS_MAX:
                        await events.get()
                    connection.cut()
                    while (await events.get()).name != "file.taken":
                        pass
            assert (await take(two, data))[-1]["done"]
            assert two.node.store.tree(MAIN).root == one.node.store.tree(MAIN).root

    run(test)


def test_a_long_file_is_taken_in_bounded_memory(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one, serving(tmp_path, name="two") as two:
            await put_many(one, 100, b"x" * 100_000)
            await take(two, await file_of(one))
            store = one.node.store
            keys = [key for key, _ in store.tree(MAIN).leaves_at(b"")]
            raws, _ = await store.read(MAIN, keys, bytes_max=100 * MIB)
            header = FileHeader(one.node.membership.secret.netid[:8], one.node.id, "one", ("identities", MAIN))

            async def chunks() -> AsyncIterator[bytes]:  # the same versions again and again: 50 MB
                yield header.encode() + ContextEnd(0, None, False).encode()
                for raw in raws * 5:
                    for at in range(0, len(raw), 65_536):
                        yield raw[at : at + 65_536]
                yield ContextEnd(500, None, False).encode()

            tracemalloc.start()
            (*_, last) = [taken async for taken in two.node.files.take(chunks())]
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert (last.contexts[1].versions, last.contexts[1].had) == (500, 500)
            assert peak < 16 * MIB, peak

    run(test)
