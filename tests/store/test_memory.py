"""The audit of the memory store, which a test can tamper with."""

import asyncio

from echonode.model.identity import Instance
from echonode.model.keyring import Keyring
from echonode.model.merkle import State
from echonode.model.record import IDENTITIES, MAIN
from echonode.store.memory import MemoryStore
from tests.contracts.store import admit, verdict_of
from tests.store.people import Person


def test_an_audit_in_memory_finds_what_was_tampered_with() -> None:
    async def go() -> None:
        store, person, stranger = MemoryStore(Instance(b"instance")), Person(2), Person(3)
        await admit(store, person)
        version = person.version("a")
        await store.apply(MAIN, [version])
        assert (await verdict_of(store)).problems == ()
        store.tree(MAIN).put(version.key, State(bytes(32)))
        version.raw = version.raw[:-1] + bytes([version.raw[-1] ^ 1])
        problems = (await verdict_of(store)).problems
        assert problems == (
            "main: the tree is not that of its records",
            "main: a: the signature is not that of its key",
        )
        store._heads[MAIN] = {}
        store._heads["other"] = {version.key: [stranger.version("a", context="other")]}
        assert "other: a: its key does not speak for its author" in (await verdict_of(store)).problems
        assert isinstance(store.keyring, Keyring)
        assert store.contexts() == (IDENTITIES, MAIN)

    asyncio.run(go())
