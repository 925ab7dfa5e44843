"""Write proto/vectors/conversation.json: the frozen messages by which two small stores become equal, once by each mode.

Run `python -m tests.wire.make_conversation_vector` to rewrite it, and only on purpose: other bytes are another
protocol, and old nodes cannot talk to new ones. Such a change belongs in PROTOCOL.md and CHANGELOG.md too.
"""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from echonode.clock import HybridClock, Timestamp
from echonode.model.identity import Identity, IdentityId, Instance, SigningKey, shared_pool
from echonode.model.keys import KeyState, member_draft, statement_draft
from echonode.model.record import IDENTITIES, MAIN, Draft, Record
from echonode.node.mode_table import spec_of
from echonode.store.memory import MemoryStore
from echonode.store.port import Cursor
from echonode.sync.conversation import Conversation, Result
from echonode.sync.executor import InitiatorOptions
from echonode.sync.select import Mode
from echonode.sync.sketch_cache import SketchCache
from echonode.wire.channel import NetworkSecret
from echonode.wire.codec import decode, encode
from echonode.wire.messages import InitPayload, Message
from tests.wire.ends import MEMBER_SECRET, key

PATH = Path(__file__).parents[2] / "proto" / "vectors" / "conversation.json"
_COMMON = 40  # enough for a branch with buckets below it
_SESSION = key("session")[:16]
_NETID = NetworkSecret.private(MEMBER_SECRET.key).netid
_POOL = shared_pool(MEMBER_SECRET.pool_seed)
SHARED = _POOL.id


class End:
    """One end of a conversation. It writes every payload to a log that both ends share."""

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
    """The keys, the clock and the store of a node, all drawn from its name."""

    def __init__(self, name: str) -> None:
        self.identity = Identity.from_seeds(key(f"{name} root"), key(f"{name} device"))
        self.store = MemoryStore(Instance(key(f"{name} instance")[:8]))
        self._clock = HybridClock()
        self._now_ms = 1_700_000_000_000

    def _tick(self) -> Timestamp:
        self._now_ms += 1
        return self._clock.tick(self._now_ms)

    async def state(self) -> list[Record]:
        """Store the statements about this writer's device key: its identity's own, and that of `shared`."""
        draft = statement_draft(self.identity.id, self.identity.device.public, KeyState.ACTIVE)
        own = await self._write([draft], self.identity.root)
        return own + await self._write([member_draft(_POOL, self.identity.id, self.identity.device)], _POOL.root)

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


class Stores:
    """Two stores before they meet, a third without records, and the statements that all of them hold."""

    async def fill(self) -> "Stores":
        left, right, empty = self.left, self.right, self.empty = Writer("left"), Writer("right"), Writer("empty")
        writers = (left, right, empty)
        self.statements = [*await left.state(), *await right.state()]
        for writer in writers:
            await writer.store.apply(IDENTITIES, self.statements)
        await left.put(*[f"common {number}" for number in range(_COMMON)])
        await right.store.apply(MAIN, await left.heads())
        self.followed = left.store.seq(MAIN), right.store.seq(MAIN)  # the cursors from their last meeting
        await left.put("common 7", body=b"edited")
        await left.put("common 8", body=b"")
        await left.put("new on the left")
        await right.put("new on the right", "Ångström", body=b"2")
        await left.put("todo", author=SHARED, body=b"milk")
        await right.put("todo", author=SHARED, body=b"bread")
        return self


async def _converse(mode: Mode) -> tuple[list[Any], dict[str, Any]]:
    """Return every message of a conversation, and the state of both stores afterwards."""
    stores = await Stores().fill()
    left, right = stores.empty if mode is Mode.SNAPSHOT else stores.left, stores.right
    of_left, of_right = stores.followed
    ours = Cursor(right.identity.id, right.store.instance, MAIN, of_right)
    theirs = Cursor(left.identity.id, left.store.instance, MAIN, of_left)
    log: list[Any] = []
    there: asyncio.Queue[bytes] = asyncio.Queue()
    back: asyncio.Queue[bytes] = asyncio.Queue()
    initiator = _conversation(End("initiator", back, there, log), left, ours)
    responder = _conversation(End("responder", there, back, log), right, theirs)
    executor = spec_of(mode).executor

    async def serve() -> Result:
        init = await responder.transport.recv()
        assert isinstance(init, InitPayload) and spec_of(init).mode is mode
        return await executor.run_responder(responder, init)

    opened = executor.run_initiator(initiator, InitiatorOptions(expected=None))
    assert await asyncio.gather(opened, serve()) == [Result.EQUAL, Result.EQUAL], mode
    after = [await _shown(writer) for writer in (left, right)]
    assert after[0]["root"] == after[1]["root"] and sorted(after[0]["records"]) == sorted(after[1]["records"])
    return log, after[0]


async def _all() -> dict[str, Any]:
    stores = await Stores().fill()
    modes = (Mode.LEVEL_WISE, Mode.HASH_COMPARISON, Mode.SKETCH, Mode.RECONCILE, Mode.DELTA, Mode.SNAPSHOT)
    talks = {mode: await _converse(mode) for mode in modes}
    (_, merged), (_, copied) = talks[Mode.LEVEL_WISE], talks[Mode.SNAPSHOT]
    before = [await _shown(writer) for writer in (stores.left, stores.right)]
    assert all(after == (copied if mode is Mode.SNAPSHOT else merged) for mode, (_, after) in talks.items())
    assert copied == before[1]
    return {
        "about": "Two stores become equal: what each held, every message in order by each mode, what both hold then. "
        "Bytes in hex; seqs by version id. For delta each has followed the other's log up to what both hold, at the "
        "seqs given; by snapshot a store that holds only the statements becomes the responder's.",
        "context": MAIN,
        "session": _SESSION.hex(),
        "netid": _NETID.hex(),
        "statements": [statement.raw.hex() for statement in stores.statements],
        "initiator_before": before[0],
        "responder_before": before[1],
        "initiator_seqs": await _seqs(stores.left),
        "responder_seqs": await _seqs(stores.right),
        "initiator_log_followed_to": stores.followed[0],
        "responder_log_followed_to": stores.followed[1],
        "messages": {mode.value: log for mode, (log, _) in talks.items()},
        "both_after": merged,
    }


def _conversation(end: End, writer: Writer, cursor: Cursor) -> Conversation:
    sketches = SketchCache(lambda: _NETID)
    return Conversation(
        end, writer.store, MAIN, lambda _: None, lambda _: None, cursor=cursor, sketches=sketches, session=_SESSION
    )


async def _shown(writer: Writer) -> dict[str, Any]:
    """Return the context of a store: its root, its number of leaves, and every head by leaf key and version id."""
    tree, heads = writer.store.tree(MAIN), await writer.heads()
    return {"root": tree.root.hex(), "count": len(tree), "records": [head.raw.hex() for head in heads]}


async def _seqs(writer: Writer) -> dict[str, int]:
    """Return the seq in the log of a store of every head, by version id."""
    changes, _ = await writer.store.changes(MAIN, 0, records_max=1000, bytes_max=1 << 30)
    return {change.version.hex(): change.seq for change in changes}


def build() -> dict[str, Any]:
    """Return the vector as JSON."""
    return asyncio.run(_all())


if __name__ == "__main__":
    PATH.write_text(json.dumps(build(), indent=1) + "\n")
