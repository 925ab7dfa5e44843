"""A context that shrinks leaf by leaf has at every count the root of a fresh tree of what is left, in both stores."""

import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from echonode.model.record import MAIN
from echonode.store.port import Store
from tests.contracts.store import admit, root_of, verdict_of
from tests.store.files import run
from tests.store.people import Person
from tests.store.test_contract import memory, sqlite

LEAVES = 400  # buckets hold 16 leaves: enough to merge at several levels of the tree


@pytest.mark.parametrize("opened", [memory, sqlite])
def test_the_root_is_that_of_a_fresh_tree_at_every_count(
    opened: Callable[[Path], AbstractAsyncContextManager[Store]], tmp_path: Path
) -> None:
    async def go() -> None:
        async with opened(tmp_path) as store:
            person = Person(2)
            await admit(store, person)
            left = [person.version(f"n{number}") for number in range(LEAVES)]
            await store.apply(MAIN, left)
            random.Random(7).shuffle(left)
            while left:
                assert await store.forget(MAIN, [left.pop().key], lambda _: False) == 1
                assert store.tree(MAIN).root == root_of(*([version] for version in left)), len(left)
            assert store.contexts() == ("identities",)
            assert (await verdict_of(store)).problems == ()

    run(go())
