"""Usage is counted when a store is opened, whatever the lengths of names and bodies, and after a snapshot."""

import asyncio
from collections import Counter
from pathlib import Path

from echonode.model.merkle import State, Tree, state_of
from echonode.model.record import IDENTITIES, Record
from echonode.model.usage import Usage
from tests.store.files import opened
from tests.store.people import Person


def test_usage_is_found_again_when_the_store_is_opened(tmp_path: Path) -> None:
    people = [Person(number) for number in (2, 3, 4)]
    contexts = ("a", "b" * 23, "c" * 24, "d" * 64)
    bodies = (b"", b"x", bytes(100), bytes(300), bytes(3500), bytes(5000), bytes(70_000))
    held: list[Record] = []

    async def fill() -> None:
        async with opened(tmp_path / "store.db") as store:
            await store.apply(IDENTITIES, [person.statement() for person in people])
            for context in contexts:
                records = [
                    person.version(f"{len(body)}{'n' * 90 * (len(body) % 3)}", body, context=context)
                    for person in people
                    for body in bodies
                ]
                records.append(people[0].version("gone", context=context, is_tombstone=True))
                await store.apply(context, records)
                held.extend(records)
            root = Tree((record.key, State(state_of([record.id]))) for record in staged()).root
            await store.stage("staged", root, sorted(staged(), key=lambda record: record.key))
            assert await store.promote("staged", expected=root) is not None
            held.extend(staged())
            check(store.usage)
            await store.stage("half", Tree().root, waiting)
            held.extend(waiting)
            check(store.usage)

    waiting = [people[2].version("staged", bytes(5000), context="half")]
    once = [people[1].version(f"{number}", bytes(number), context="staged") for number in range(50)]

    def staged() -> list[Record]:
        return once

    def check(usage) -> None:
        for person in people:
            own = [record for record in held if record.author == person.id]
            sizes = sum(record.size for record in own)
            assert usage.of(person.id) == Usage(len(own), sizes, sum(record.is_tombstone for record in own))
        assert usage.total.records == len(held)
        assert Counter(record.author for record in held).total() == usage.total.records

    async def look() -> None:
        async with opened(tmp_path / "store.db") as store:
            check(store.usage)

    asyncio.run(fill())
    asyncio.run(look())
