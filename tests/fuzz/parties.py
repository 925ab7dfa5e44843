"""The parties of the targets that run a whole node: the node under test, a peer and Carol, with their records.

    context   the stores of the node and the peer
    main      much in common; edited, deleted and written on both sides
    few       one record differs
    log       each has followed the other's log to a point, and both have written since
    notes     only the node holds it
    books     only the peer holds it

All keys and records come from fixed seeds. So bytes recorded in one run fit into the next, AUTH signatures included.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from echonode.model.identity import Instance, shared_pool
from echonode.model.keys import KeyState, member_draft
from echonode.model.record import IDENTITIES, MAIN, Record, leaf_key
from echonode.store.memory import MemoryStore
from echonode.store.port import Cursor, Store
from echonode.wire.messages import Close, Message, Put, Records, Refused
from tests.model.forge import PERSON, PLAIN, forged
from tests.store.people import Person
from tests.sync.pair import Author, acquainted
from tests.wire.ends import MEMBER_SECRET

_UNFOLLOWED: Final = 3  # new entries of `log`, on either side
_CLOSE: Final = 48  # records of `main` below one child of the root: the tree gets a third level


@dataclass(frozen=True)
class Parties:
    """The authors, the records of both stores by context, the peer's own statements, and the cursors."""

    node: Author
    peer: Author
    carol: Author
    node_records: dict[str, list[Record]]
    peer_records: dict[str, list[Record]]
    statements: tuple[Record, ...]
    node_cursor: Cursor  # of the node, in the peer's `log`
    peer_cursor: Cursor  # of the peer, in the node's `log`


@cache
def parties() -> Parties:
    """Return the parties, made once in a process."""
    return asyncio.run(_make_parties())


async def _make_parties() -> Parties:
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
    node_cursor, peer_cursor = await _cursor(peer, theirs), await _cursor(node, held)
    return Parties(node, peer, carol, held, theirs, statements, node_cursor, peer_cursor)


async def _cursor(author: Author, holds: dict[str, list[Record]]) -> Cursor:
    """Return the cursor of a node that has followed the author's `log` up to the entries that only the author has."""
    store = await store_of(holds, author.store.instance)
    return Cursor(author.identity.id, store.instance, "log", store.seq("log") - _UNFOLLOWED)


async def _join_pool(author: Author) -> Record:
    """State that the author's device speaks for the network's pool, as every member does when it starts."""
    pool = shared_pool(MEMBER_SECRET.pool_seed)
    draft = member_draft(pool, author.identity.id, author.identity.device)
    (statement,), _ = await author.store.write([draft], pool.root, author.tick)
    assert statement is not None
    return statement


def _names(author: Author) -> Sequence[str]:
    """Return 24 names anywhere in the tree, and `_CLOSE` names that lie close to each other."""
    close = [
        name
        for name in (f"close {number}" for number in range(2000))
        if leaf_key(author.identity.id, name)[0] >> 4 == 5
    ]
    return [f"far {number}" for number in range(24)] + close[:_CLOSE]


async def _heads(store: Store, context: str) -> list[Record]:
    return (await store.scan(context, 0, limit=10_000))[0]


async def store_of(held: dict[str, list[Record]], instance: Instance) -> MemoryStore:
    """Return a store that holds these records."""
    store = MemoryStore(instance)
    for context, records in held.items():
        applied = await store.apply(context, records)
        assert not applied.refused
    return store


@cache
def hostile_records() -> tuple[bytes, ...]:
    """Return versions that a hostile peer may send: signed by their keys, forged, or without a statement."""
    stranger, by_peer, by_carol = Person(7), Person(8), Person(9)
    by_peer.identity, by_carol.identity = parties().peer.identity, parties().carol.identity
    held = parties().node_records[MAIN]
    ours = next(record for record in held if record.author == by_carol.id)
    far = max(held, key=lambda record: record.counter)
    return (
        *[record.raw for records in parties().peer_records.values() for record in records[:3]],
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
    """Return the version with a bad signature; its id stays the same."""
    return raw[:-1] + bytes([raw[-1] ^ 1])


@cache
def hostile_messages() -> tuple[Message, ...]:
    """Return messages that carry the hostile versions, and messages with reasons that do not exist."""
    raws = hostile_records()
    several = [raws[at : at + 4] for at in range(0, len(raws), 4)]
    return (
        *[Put((raw,)) for raw in raws],
        *[Records(tuple(some), (), False) for some in several],
        *[Records((raw,), (), True) for raw in raws[:4]],
        Close(200, ("x",)),
        Refused(200, ("x",)),
    )
