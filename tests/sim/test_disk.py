"""The simulated disk: it loses uncommitted writes in a crash, keeps committed ones, and fulfils the store contract."""

import asyncio
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from echonode.errors import StoreError
from echonode.model.identity import Instance
from echonode.model.record import MAIN
from echonode.sim.disk import SimStore
from echonode.sim.event_loop import SimEntropy, run
from tests.contracts import store_lives, store_snapshots, store_voids, store_writing
from tests.contracts.store import CHECKS, Check, admit, holds
from tests.store.people import Person

assert store_lives and store_snapshots and store_voids and store_writing  # importing them adds their checks

COMMIT_S = 1.0


def opened(seed: int = 0, commit_s: float = COMMIT_S) -> SimStore:
    return SimStore(
        Instance(b"instance"), entropy=SimEntropy(seed), commit_s=commit_s, on_commit=lambda *_: None
    )


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_keeps_the_contract_of_every_store(check: Check) -> None:
    def fresh() -> AbstractAsyncContextManager[SimStore]:
        @asynccontextmanager
        async def store():
            yield opened()

        return store()

    run(holds(check, fresh(), timeout_s=1e6), seed=0)


@pytest.mark.parametrize("at_s", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.1])
def test_a_crash_keeps_all_that_was_acknowledged_and_each_call_whole_or_not_at_all(at_s: float) -> None:
    async def main() -> None:
        for seed in range(30):
            store, person = opened(seed), Person(1)
            await admit(store, person)
            before = store.tree(MAIN).root
            records = [person.version(f"r{number}") for number in range(3)]
            call = asyncio.create_task(store.apply(MAIN, records))
            await asyncio.sleep(at_s)
            after = store.reopen()
            if call.done() and call.exception() is None:
                assert len(after.tree(MAIN)) == 3
            else:
                with pytest.raises(StoreError):
                    await call
                assert len(after.tree(MAIN)) == 3 or after.tree(MAIN).root == before

    run(main(), seed=1)


def test_a_crash_finds_calls_on_both_sides_of_their_commit() -> None:
    async def main() -> set[int]:
        found = set()
        for seed in range(40):
            store, person = opened(seed), Person(1)
            await admit(store, person)
            call = asyncio.create_task(store.apply(MAIN, [person.version("r")]))
            await asyncio.sleep(0.25)
            was_acknowledged = call.done()
            held = len(store.reopen().tree(MAIN))
            await asyncio.wait([call])
            if not was_acknowledged:
                assert isinstance(call.exception(), StoreError)
                found.add(held)
        return found

    assert run(main(), seed=1) == {0, 1}


def test_the_store_of_a_dead_process_refuses_every_call() -> None:
    async def main() -> None:
        store, person = opened(), Person(1)
        await admit(store, person)
        reopened = store.reopen()
        with pytest.raises(StoreError, match="gone"):
            await store.apply(MAIN, [person.version("r")])
        with pytest.raises(StoreError, match="gone"):
            await store.forget(MAIN, [], lambda _: True)
        for reading in (
            store.info(MAIN),
            store.read(MAIN, [], bytes_max=1),
            store.heads(MAIN, person.id, "r"),
            store.scan(MAIN, 0, limit=1),
            store.changes(MAIN, 0, records_max=1, bytes_max=1),
            store.snapshot(MAIN).__aenter__(),
            store.peers(),
            anext(store.audit()),
        ):
            with pytest.raises(StoreError, match="gone"):
                await reading
        assert (await reopened.apply(MAIN, [person.version("s")])).records

    run(main(), seed=0)


def test_a_full_disk_takes_nothing_and_loses_nothing() -> None:
    async def main() -> None:
        store, person = opened(), Person(1)
        await admit(store, person)
        await store.apply(MAIN, [person.version("r")])
        store.is_full = True
        with pytest.raises(StoreError, match="full"):
            await store.apply(MAIN, [person.version("s")])
        store.is_full = False
        await store.apply(MAIN, [person.version("t")])
        assert len(store.tree(MAIN)) == 2

    run(main(), seed=0)


def test_a_copy_of_the_disk_is_as_it_was_however_the_original_goes_on() -> None:
    async def main() -> None:
        store, person = opened(), Person(1)
        await admit(store, person)
        await store.apply(MAIN, [person.version("r")])
        open_backup, root = store.backup(), store.tree(MAIN).root
        await store.apply(MAIN, [person.version("s")])
        assert open_backup().tree(MAIN).root == root != store.tree(MAIN).root
        earlier = open_backup()
        await earlier.apply(MAIN, [person.version("t")])
        assert open_backup().tree(MAIN).root == root

    run(main(), seed=0)
