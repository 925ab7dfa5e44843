"""Real traffic: every payload of nodes that meet, become equal, refuse and invite each other.

The nodes run the shipped code over simulated links. A tap on `StreamTransport` records what each end sends and
receives. A few peers are driven by hand and send what no honest node sends.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from echonode.errors import EchonodeError, PeerRefused, Reason
from echonode.limits import BATCH_RECORDS_MAX
from echonode.model.filter import Filter
from echonode.model.identity import IdentityId, PoolKind, PublicKey, SigningKey
from echonode.model.keys import KeyState, statement_draft
from echonode.model.member_secret import MemberSecret
from echonode.model.merkle import Tree
from echonode.model.record import MAIN, Draft, Record, leaf_key
from echonode.model.sketch import Sketch
from echonode.node.handshake import LocalSide, Session, initiate, receive
from echonode.sim.event_loop import SimEntropy, SimLoop, run
from echonode.sim.world import PORT, Member, World
from echonode.sync.conversation import Conversation
from echonode.sync.executor import InitiatorOptions
from echonode.sync.modes import sketch
from echonode.sync.sketch_cache import SketchCache
from echonode.sync.transport import StreamTransport
from echonode.wire.channel import NetworkSecret
from echonode.wire.codec import encode
from echonode.wire.messages import (
    Bodies,
    Close,
    Commits,
    ContextCursor,
    Direction,
    Follow,
    FollowInit,
    Hello,
    Lazy,
    LevelWiseInit,
    Missing,
    Ping,
    RecordRequest,
    Refused,
    SketchEqual,
    SketchInit,
    SnapshotInit,
    Turn,
)
from tests.sync.pair import Author, ignore

SEED = 7


@dataclass
class EndLog:
    """The payloads of one connection, in the order of one of its ends: (True if the initiator sent it, payload)."""

    is_initiator: bool
    payloads: list[tuple[bool, bytes]] = field(default_factory=list)


@contextmanager
def tapped() -> Iterator[list[EndLog]]:
    """Record every payload of every StreamTransport, in one EndLog for each end."""
    heard: dict[int, EndLog] = {}
    transports: list[StreamTransport] = []  # a reference, so that no id is reused
    send, receive = StreamTransport.send, StreamTransport._payload

    def note(transport: StreamTransport, is_sent: bool, payload: bytes) -> None:
        if id(transport) not in heard:
            transports.append(transport)
            heard[id(transport)] = EndLog(transport.channel.is_initiator)
        heard[id(transport)].payloads.append((transport.channel.is_initiator == is_sent, payload))

    async def noted_send(self, message):
        note(self, True, encode(message))
        await send(self, message)

    async def noted_receive(self):
        payload = await receive(self)
        note(self, False, payload)
        return payload

    StreamTransport.send, StreamTransport._payload = noted_send, noted_receive  # type: ignore[method-assign]
    try:
        yield (ends := [])
    finally:
        StreamTransport.send, StreamTransport._payload = send, receive  # type: ignore[method-assign]
        ends += heard.values()


@cache
def sessions() -> tuple[EndLog, ...]:
    """Return every connection of a world in which everything happens once, one EndLog for each of its ends."""
    with tapped() as ends:
        run(_everything(), seed=SEED)
    return tuple(ends)


@cache
def payloads() -> tuple[bytes, ...]:
    """Return every payload of that world, each once."""
    return tuple(dict.fromkeys(payload for end in sessions() for _, payload in end.payloads))


async def _everything() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    world = World(loop, seed=SEED)
    full = await world.add_node("full")
    await _put(full, [f"n{number}" for number in range(2500)])
    await _put(full, [f"book {number}" for number in range(1200)], context="books")
    await world.add_node("empty")
    await world.add_node("third", node_name="Straße 3")
    world.introduce()
    await world.settled(within_s=60)  # snapshots, one of them after a turn
    await _differ(world)
    await _write_on(world)
    await _invite(world)
    await _ask_by_hand(world, full)
    await _want_a_part(world, full)
    await full.node.rotations.rotate()
    await full.node.rotations.rotate()  # two steps for the others
    await asyncio.sleep(120)  # the others hear of it
    await world.stop()


async def _put(member: Member, names: Sequence[str], *, context: str = MAIN, deleted: bool = False) -> None:
    node = member.node
    body = b"" if deleted else b"x"
    await node.records.put_all(
        [
            Draft(context=context, author=node.id, name=name, body=body, tags=("a", "b"), is_tombstone=deleted)
            for name in names
        ]
    )


async def _differ(world: World) -> None:
    """Write few differences, then many, on both sides, in a context large enough for sketches and in a small one.

    There are a conflict and a deletion too. The stores first have no cursors of each other, then they have.
    """
    full, empty, third = world.members.values()
    for member in (full, third, empty):
        await member.node.records.renew_instance()
    _part(world, full, empty, third)
    await _put(full, ["one more"])
    await _put(full, ["emma"], context="books")
    await _put(third, ["and another"])
    await _put(third, ["persuasion"], context="books")
    world.network.heal()
    await world.settled(within_s=600)
    _part(world, full, empty, third)
    for member in (full, third):
        await _put(member, [f"{member.name} {number}" for number in range(300)])
        await _put(member, [f"{member.name} {number}" for number in range(100)], context="books")
        records = member.node.records
        assert records.shared is not None
        await records.put(Draft(context=MAIN, author=records.shared, name="todo", body=member.name.encode()))
    await _put(full, ["one more"], deleted=True)
    for member in (full, third, empty):
        await member.node.records.renew_instance()
    world.network.heal()
    await world.settled(within_s=600)
    await full.node.sync(None, Direction.BOTH, 60.0)  # each pair has cursors of the new lives
    _part(world, full, empty, third)
    await _put(full, [f"more {number}" for number in range(1200)])  # more than a message holds, whichever side dials
    await _put(empty, [f"more here {number}" for number in range(1200)])
    world.network.heal()
    await world.settled(within_s=600)


def _part(world: World, one: Member, *others: Member) -> None:
    """Part `one` from the others until the network heals."""
    world.network.partition([one.host], [other.host for other in others])
    for other in others:
        world.network.cut(one.host, other.host)


async def _write_on(world: World) -> None:
    """Write what links carry: single records, enough of them for the window to open again, and a new context."""
    full, empty, third = world.members.values()
    for number, member in enumerate((full, third, empty, full)):
        await _put(member, [f"live {number}"])
        await asyncio.sleep(2)
    node = full.node
    for number in range(12):
        await node.records.put(Draft(context=MAIN, author=node.id, name=f"large {number}", body=bytes(100_000)))
    await _put(third, ["a note"], context="notes")
    await asyncio.sleep(100)
    await world.settled(within_s=60)


async def _invite(world: World) -> None:
    """Invite a node of another network into a closed pool. It joins after it tried a wrong code."""
    inviter = world.members["full"]
    joiner = await world.add_node("joiner", secret=MemberSecret.of_lone_key(bytes(32)), contexts=frozenset({MAIN}))
    await inviter.node.pools.create("team", PoolKind.CLOSED)
    code = await inviter.node.invite(uses=1, expires_s=600, pool="team")
    slot = code.partition("-")[0]
    with _expected(EchonodeError):
        await joiner.node.join(f"{slot}-adroitness-aardvark", at=f"{inviter.host}:{PORT}")
    await joiner.node.join(code, at=f"{inviter.host}:{PORT}")


async def _want_a_part(world: World, full: Member) -> None:
    """Run a node that wants a part of `main`, also after both sides wrote; then pull, get and put, in several pages."""
    part = await world.add_node("part", subscriptions={MAIN: ("tag=a",)})
    others = [member.host for member in world.members.values() if member is not part]
    world.introduce()
    await asyncio.sleep(30)
    world.network.partition(others, [part.host])
    await _put(full, ["for all"])
    await _put(part, ["of part"])
    world.network.heal()
    await asyncio.sleep(600)
    pulled = await part.node.on_demand.pull(full.node.id, MAIN, Filter(), after=0, limit=2000, timeout_s=60)
    wanted = [RecordRequest(leaf_key(IdentityId(one.author), one.name), None) for one in pulled.ids]
    await part.node.on_demand.get(full.node.id, MAIN, wanted[: BATCH_RECORDS_MAX + 1], 60)
    node = part.node
    drafts = [Draft(context=MAIN, author=node.id, name=f"offered {number}") for number in range(BATCH_RECORDS_MAX + 1)]
    await node.store.write(drafts, node.records.identity.device, node.records.tick)  # so that no link carries it
    keys = [leaf_key(node.id, draft.name) for draft in drafts]
    await node.on_demand.put(full.node.id, MAIN, keys, 60)


async def _ask_by_hand(world: World, full: Member) -> None:
    """Ask a full node, and one that takes only `main`, for what no honest node asks for."""
    stranger = Author(99)
    await stranger.introduce()
    picky = world.members["joiner"]

    session = await _meet(world, full, stranger, lambda hello: hello)
    await session.transport.send(Ping())
    await session.transport.send(LevelWiseInit((2, 0), MAIN, 0, 16, (b"",)))
    await session.transport.recv()  # refused: another major
    await session.transport.send(Turn(()))
    await receive(session.transport, Turn)
    await session.transport.send(FollowInit((2, 0), session.hello.instance, ()))
    await receive(session.transport, Refused)
    await session.transport.send(Close(Reason.FINISHED))
    await session.transport.stream.close()

    session = await _meet(world, picky, stranger, lambda hello: hello)
    await session.transport.send(SnapshotInit((1, 0), "books", None))
    await session.transport.recv()  # refused: the context is not taken here
    await session.transport.send(Ping())
    await session.transport.send(session.hello)  # a message that has no place here
    await _until_over(session)

    session = await _meet(world, full, stranger, lambda hello: hello)
    await stranger.put("own")
    # A node that computes other checks: it cannot read a sketch, salted or not, so it has to walk.
    conversation = Conversation(
        session.transport, stranger.store, MAIN, ignore, ignore, sketches=OtherChecks(), session=session.id
    )
    await sketch.run_initiator(conversation, InitiatorOptions(expected=None))
    tag = sketch.root_tag(conversation, full.node.store.tree(MAIN).root)
    await session.transport.send(SketchInit((1, 0), MAIN, tag, 0, b""))
    await receive(session.transport, SketchEqual)
    await session.transport.send(Close(Reason.FINISHED))
    await session.transport.stream.close()

    session = await _meet(world, full, stranger, lambda hello: hello)
    await _follow_by_hand(session, full)

    newer = await _meet(world, full, stranger, lambda hello: replace(hello, version=(2, 0)))
    await _until_over(newer)


async def _follow_by_hand(session: Session, full: Member) -> None:
    """Let a node announce a version, and ask for it."""
    transport = session.transport
    await transport.send(FollowInit((1, 0), session.hello.instance, (ContextCursor(MAIN, None),)))
    await receive(transport, Follow)
    await transport.send(Lazy())
    await asyncio.sleep(1)  # until the peer has it
    await _put(full, ["announced"])
    while True:
        match await transport.recv():
            case Commits(context, _, (), ((seq, _),)):
                await transport.send(Missing(context, (seq,)))
            case Bodies():
                break
    await transport.send(Close(Reason.FINISHED))
    await transport.stream.close()


async def _meet(world: World, member: Member, stranger: Author, change: Callable[[Hello], Hello]) -> Session:
    """Open a session with `member` from `stranger`, with `change` applied to the Hello of `stranger`."""
    device = stranger.identity.device
    draft = statement_draft(stranger.identity.id, device.public, KeyState.ACTIVE)
    own: list[Record] = await stranger.store.heads(draft.context, draft.author, draft.name)

    local = LocalSide(Stranger(stranger, own, change), OpenGate())
    stream = await world.network.dial("10.9.9.9")(f"{member.host}:{PORT}")
    assert member.member_secret is not None
    return await initiate(stream, NetworkSecret.private(member.member_secret.key), local, SimEntropy("stranger"))


@dataclass
class Stranger:
    """The introduction of `author`, with `change` applied to its Hello."""

    author: Author
    own: Sequence[Record]
    change: Callable[[Hello], Hello]

    @property
    def device(self) -> SigningKey:
        return self.author.identity.device

    def statements(self) -> Sequence[Record]:
        return self.own

    def make(self, _peer: PublicKey, session: bytes, _instance: bytes = b"") -> Hello:
        instance = self.author.store.instance
        return self.change(Hello((1, 0), session, "stranger", bytes(8), instance, 0, {"note": (1, 0)}, (), (), ()))


class OpenGate:
    """Lets every peer in."""

    def dialled(self, *_: object) -> None:
        pass

    def is_own(self, *_: object) -> bool:
        return False

    def admit(self, *_: object) -> None:
        pass

    def suspect(self, *_: object) -> None:
        pass

    def note_foreign(self, *_: object) -> None:
        pass


class OtherChecks(SketchCache):
    """Sketches that fit nobody else's."""

    async def of(self, context: str, tree: Tree, session: bytes = b"") -> Sketch:
        made = await super().of(context, tree, session)
        made._checks += np.uint64(1)
        return made


async def _until_over(session: Session) -> None:
    with _expected(PeerRefused):
        while True:
            await session.transport.recv()
    session.transport.stream.abort()


@contextmanager
def _expected(kind: type[Exception]) -> Iterator[None]:
    try:
        yield
    except kind:
        return
    raise AssertionError(f"a {kind.__name__} was expected")
