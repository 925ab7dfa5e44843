"""Writes proto/vectors/conversation.json: two small stores become equal by `level_wise`, every message frozen.

Run `python -m tests.wire.make_conversation_vector` to rewrite it, on purpose only: other bytes are another protocol,
and nodes of today will not speak with nodes of tomorrow. Such a change belongs in PROTOCOL.md and CHANGELOG.md too.
"""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from echonode.clock import HybridClock, Timestamp
from echonode.model.identity import Identity, IdentityId, Instance, SigningKey, identity_of, shared_pool_root
from echonode.model.keys import KeyState, statement_draft
from echonode.model.record import IDENTITIES, MAIN, Draft, Record
from echonode.store.memory import MemoryStore
from echonode.sync import level_wise
from echonode.sync.outcome import Conversation, Result
from echonode.wire.codec import decode, encode
from echonode.wire.messages import LevelWiseInit, Message
from tests.wire.ends import NETWORK_KEY, key

PATH = Path(__file__).parents[2] / "proto" / "vectors" / "conversation.json"
_COMMON = 40  # enough for a branch with buckets below it
_POOL = shared_pool_root(NETWORK_KEY)
SHARED = identity_of(_POOL.public)


class End:
    """One end of a conversation: every payload goes into a log that both ends share."""

    bytes_sent = bytes_received = 0

    def __init__(
        self, name: str, inbox: "asyncio.Queue[bytes]", outbox: "asyncio.Queue[bytes]", log: list[Any]
    ) -> None:
        self._name, self._inbox, self._outbox, self._log = name, inbox, outbox, log

    async def send(self, message: Message) -> None:
        payload = encode(message)
        self._log.append({"from": self._name, "message": type(message).__name__, "payload": payload.hex()})
        self._outbox.put_nowait(payload)

    async def recv(self) -> Message:
        return decode(await self._inbox.get())


class Writer:
    """A node's keys, clock and store; everything drawn from its name."""

    def __init__(self, name: str) -> None:
        self.identity = Identity.from_seeds(key(f"{name} root"), key(f"{name} device"))
        self.store = MemoryStore(Instance(key(f"{name} instance")[:8]))
        self._clock = HybridClock()
        self._now_ms = 1_700_000_000_000

    def _tick(self) -> Timestamp:
        self._now_ms += 1
        return self._clock.tick(self._now_ms)

    async def state(self, root: SigningKey) -> Record:
        """That `root` lets this writer's device speak for it."""
        draft = statement_draft(identity_of(root.public), self.identity.device.public, KeyState.ACTIVE)
        return (await self._write([draft], root))[0]

    async def put(self, *names: str, author: IdentityId | None = None, body: bytes = b"1") -> None:
        drafts = [
            Draft(
                context=MAIN,
                author=author or self.identity.id,
                name=name,
                body=body,
                media_type="text/plain",
                is_tombstone=not body,
            )
            for name in names
        ]
        await self._write(drafts, self.identity.device)

    async def _write(self, drafts: Sequence[Draft], signer: SigningKey) -> list[Record]:
        written, applied = await self.store.write(drafts, signer, self._tick)
        assert not applied.refused
        return [record for record in written if record is not None]

    async def heads(self) -> list[Record]:
        return sorted((await self.store.scan(MAIN, 0, limit=1000))[0], key=lambda record: (record.key, record.id))


async def _stores() -> tuple[Writer, Writer, list[Record]]:
    """The two stores before they meet, and the statements that both hold."""
    left, right = Writer("left"), Writer("right")
    statements = [await writer.state(root) for writer in (left, right) for root in (writer.identity.root, _POOL)]
    for writer in (left, right):
        await writer.store.apply(IDENTITIES, statements)
    await left.put(*[f"common {number}" for number in range(_COMMON)])
    await right.store.apply(MAIN, await left.heads())
    await left.put("common 7", body=b"edited")
    await left.put("common 8", body=b"")
    await left.put("new on the left")
    await right.put("new on the right", "Ångström", body=b"2")
    await left.put("todo", author=SHARED, body=b"milk")
    await right.put("todo", author=SHARED, body=b"bread")
    return left, right, statements


async def _converse() -> dict[str, Any]:
    left, right, statements = await _stores()
    before = [await _shown(writer) for writer in (left, right)]
    log: list[Any] = []
    there: asyncio.Queue[bytes] = asyncio.Queue()
    back: asyncio.Queue[bytes] = asyncio.Queue()
    initiator = _conversation(End("initiator", back, there, log), left)
    responder = _conversation(End("responder", there, back, log), right)

    async def serve() -> Result:
        first = await responder.transport.recv()
        assert isinstance(first, LevelWiseInit)
        return await level_wise.run_responder(responder, first)

    results = await asyncio.gather(level_wise.run_initiator(initiator), serve())
    assert results == [Result.EQUAL, Result.EQUAL]
    after = [await _shown(writer) for writer in (left, right)]
    assert after[0]["root"] == after[1]["root"] and sorted(after[0]["records"]) == sorted(after[1]["records"])
    return {
        "about": "Two stores become equal: what each held, every message in order, what both hold then. Bytes in hex.",
        "context": MAIN,
        "statements": [statement.raw.hex() for statement in statements],
        "initiator_before": before[0],
        "responder_before": before[1],
        "messages": log,
        "both_after": after[0],
    }


def _conversation(end: End, writer: Writer) -> Conversation:
    return Conversation(end, writer.store, MAIN, lambda _: None, lambda _: None)


async def _shown(writer: Writer) -> dict[str, Any]:
    """A store's context: its root, how many leaves, and every head, by leaf key and version id."""
    tree, heads = writer.store.tree(MAIN), await writer.heads()
    return {"root": tree.root.hex(), "count": len(tree), "records": [head.raw.hex() for head in heads]}


def build() -> dict[str, Any]:
    """The vector as JSON."""
    return asyncio.run(_converse())


if __name__ == "__main__":
    PATH.write_text(json.dumps(build(), indent=1) + "\n")
