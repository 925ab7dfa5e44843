"""Who meets in the targets that run a whole node, and what each holds: the node under test, a peer, and Carol.

    context   the node's store and the peer's
    main      much in common; edited, deleted and written on both sides
    few       one record differs
    log       each has followed the other's so far, and both have written since
    notes     only the node has it
    books     only the peer has it

All are made from fixed seeds, so that what was recorded of one run fits into the next, AUTH signatures included.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from echonode.model.identity import Instance, identity_of, shared_pool_root
from echonode.model.keys import KeyState, statement_draft
from echonode.model.record import IDENTITIES, MAIN, Record, leaf_key
from echonode.store.memory import MemoryStore
from echonode.store.port import Cursor, Store
from echonode.wire.messages import Close, Message, Put, Records, Refused
from tests.model.forge import PERSON, PLAIN, forged
from tests.store.people import Person
from tests.sync.pair import Author, acquainted
from tests.wire.ends import NETWORK_KEY

_UNFOLLOWED: Final = 3  # of `log`, on either side
_BESIDE: Final = 48  # records of `main` below one child of the root, so that the tree has a third level


@dataclass(frozen=True)
class Cast:
    """The two stores' records by context, and the statements with which the peer introduces itself."""

    node: Author
    peer: Author
    carol: Author
    held: dict[str, list[Record]]
    theirs: dict[str, list[Record]]
    statements: tuple[Record, ...]
    ours: Cursor  # how far the node has followed the peer's `log` ..
    its: Cursor  # .. and the peer the node's


@cache
def cast() -> Cast:
    """Made once a process."""
    return asyncio.run(_cast())


async def _cast() -> Cast:
    node, peer, carol = await acquainted(3)
    await carol.put_all([(name, b"carol's") for name in _names(carol)])
    await carol.put_all([(f"few {number}", b"1") for number in range(40)], context="few")
    await carol.put_all([(f"entry {number}", b"1") for number in range(8)], context="log")
    for context in (MAIN, "few", "log"):
        records = await _heads(carol.store, context)
        await node.store.apply(context, records)
        await peer.store.apply(context, records[:-6] if context == MAIN else records)
    for author in (node, peer):
        await author.put_all([(f"{number} of mine", b"2") for number in range(_UNFOLLOWED)], context="log")
        await author.put_all([(f"{number} of {author.identity.id[0]}", b"own") for number in range(12)])
    await node.delete("1 of " + str(node.identity.id[0]))
    await peer.put("few and mine", b"2", context="few")
    await node.put_all([(f"note {number}", b"n" * 100) for number in range(10)], context="notes")
    await peer.put_all([(f"book {number}", b"b" * 100) for number in range(18)], context="books")
    await _join_pool(node)
    own = [record for record in await _heads(peer.store, IDENTITIES) if record.author == peer.identity.id]
    statements = (*own, await _join_pool(peer))
    held, theirs = [
        {context: await _heads(author.store, context) for context in author.store.contexts()} for author in (node, peer)
    ]
    held[IDENTITIES] = [record for record in held[IDENTITIES] if record.author != peer.identity.id]
    ours, its = await _cursor(peer, theirs), await _cursor(node, held)
    return Cast(node, peer, carol, held, theirs, statements, ours, its)


async def _cursor(author: Author, holds: dict[str, list[Record]]) -> Cursor:
    """That of somebody who has followed the author's `log` up to what only the author has."""
    store = await store_of(holds, author.store.instance)
    return Cursor(author.identity.id, store.instance, "log", store.seq("log") - _UNFOLLOWED)


async def _join_pool(author: Author) -> Record:
    """The statement that the author's device speaks for the network's pool, as every member makes at its start."""
    pool = shared_pool_root(NETWORK_KEY)
    draft = statement_draft(identity_of(pool.public), author.identity.device.public, KeyState.ACTIVE)
    (statement,), _ = await author.store.write([draft], pool, author.tick)
    assert statement is not None
    return statement


def _names(author: Author) -> Sequence[str]:
    """24 names anywhere, and as many as `_BESIDE` that lie close to each other in the tree."""
    close = [
        name
        for name in (f"close {number}" for number in range(2000))
        if leaf_key(author.identity.id, name)[0] >> 4 == 5
    ]
    return [f"far {number}" for number in range(24)] + close[:_BESIDE]


async def _heads(store: Store, context: str) -> list[Record]:
    return (await store.scan(context, 0, limit=10_000))[0]


async def store_of(held: dict[str, list[Record]], instance: Instance) -> MemoryStore:
    """A store that holds just this."""
    store = MemoryStore(instance)
    for context, records in held.items():
        applied = await store.apply(context, records)
        assert not applied.refused
    return store


@cache
def hostile_records() -> tuple[bytes, ...]:
    """Versions that only their signers could make, and that a peer may send all the same."""
    stranger, by_peer, by_carol = Person(7), Person(8), Person(9)
    by_peer.identity, by_carol.identity = cast().peer.identity, cast().carol.identity
    held = cast().held[MAIN]
    ours = next(record for record in held if record.author == by_carol.id)
    far = max(held, key=lambda record: record.counter)
    return (
        *[record.raw for records in cast().theirs.values() for record in records[:3]],
        ours.raw,
        spoiled(ours.raw),
        spoiled(by_carol.version("new", b"forged").raw),
        spoiled(by_carol.version(ours.name, b"forged", [ours]).raw),
        by_carol.version(ours.name, b"of another life, and so a conflict").raw,
        stranger.statement().raw,
        stranger.statement(KeyState.COMPROMISED).raw,
        stranger.version("a stranger's").raw,
        stranger.version(ours.name, b"forged", [ours], author=ours.author).raw,
        by_peer.version("has seen much", b"x", [far]).raw,
        by_peer.version("a", b"1").raw,
        by_peer.version("a", b"2", is_tombstone=False).raw,
        by_peer.version("a", is_tombstone=True).raw,
        by_peer.version("foreign", context="elsewhere").raw,
        by_peer.version("large", b"L" * 2000).raw,
        by_peer.statement(KeyState.RETIRED, stranger.device.public).raw,
        by_peer.statement(KeyState.ACTIVE, PERSON.device.public).raw,
        by_peer.statement(KeyState.COMPROMISED).raw,
        forged({**PLAIN, 6: {**PLAIN[6], bytes(16): 2**64 - 1}}),
        forged({**PLAIN, 99: [1, {"unknown": None}]}),
        forged({**PLAIN, 2: by_peer.id, 4: 2**64 - 1}),
    )


def spoiled(raw: bytes) -> bytes:
    """The version with a signature that is nobody's; its id is the same."""
    return raw[:-1] + bytes([raw[-1] ^ 1])


@cache
def hostile_messages() -> tuple[Message, ...]:
    """Messages that carry them, and reasons that there are not."""
    raws = hostile_records()
    several = [raws[at : at + 4] for at in range(0, len(raws), 4)]
    return (
        *[Put((raw,)) for raw in raws],
        *[Records(tuple(some), (), False) for some in several],
        *[Records((raw,), (), True) for raw in raws[:4]],
        Close(200, ("x",)),
        Refused(200, ("x",)),
    )
