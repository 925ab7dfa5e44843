"""Real traffic: nodes that meet, become equal, refuse and invite each other, and every payload that passed.

The nodes are those that ship, over simulated links; a tap on `StreamTransport` notes what each end sends and receives.
A few peers are driven by hand, to ask for what no honest node would.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache

from echonode.errors import EchonodeError, PeerRefused, Reason
from echonode.limits import BATCH_RECORDS_MAX
from echonode.model.filter import Filter
from echonode.model.identity import IdentityId, PublicKey, SigningKey
from echonode.model.keys import KeyState, statement_draft
from echonode.model.record import MAIN, Draft, Record, leaf_key
from echonode.node.handshake import LocalSide, Session, initiate, receive
from echonode.sim.event_loop import SimEntropy, SimLoop, run
from echonode.sim.world import PORT, Member, World
from echonode.sync.conversation import Conversation
from echonode.sync.modes import sketch
from echonode.sync.sketch_cache import SketchCache
from echonode.sync.transport import StreamTransport
from echonode.wire.channel import NetworkSecret
from echonode.wire.codec import encode
from echonode.wire.messages import (
    Asked,
    Bodies,
    Close,
    Commits,
    Follow,
    FollowInit,
    Hello,
    Lazy,
    LevelWiseInit,
    Missing,
    Ping,
    Place,
    Refused,
    SnapshotInit,
    Turn,
)
from tests.sync.pair import Author, ignore

SEED = 7


@dataclass
class Heard:
    """What one end of one connection sent and received, in its own order: (was sent by the initiator, payload)."""

    is_initiator: bool
    payloads: list[tuple[bool, bytes]] = field(default_factory=list)


@contextmanager
def tapped() -> Iterator[list[Heard]]:
    """Notes every payload of every StreamTransport, one Heard for each end."""
    heard: dict[int, Heard] = {}
    transports: list[StreamTransport] = []  # kept, so that no two share an id
    send, receive = StreamTransport.send, StreamTransport._payload

    def note(transport: StreamTransport, is_sent: bool, payload: bytes) -> None:
        if id(transport) not in heard:
            transports.append(transport)
            heard[id(transport)] = Heard(transport.channel.is_initiator)
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
def sessions() -> tuple[Heard, ...]:
    """Every connection of a world in which everything happens once, each told by both its ends."""
    with tapped() as ends:
        run(_everything(), seed=SEED)
    return tuple(ends)


@cache
def payloads() -> tuple[bytes, ...]:
    """Every payload of it, each once."""
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
    """Few differences, then many, on both sides at once, in a context large enough for sketches and in another; a
    conflict; a deletion. First between stores that are not the ones that were followed, then between those that are."""
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
    _part(world, full, empty, third)
    await _put(full, [f"more {number}" for number in range(1200)])  # than a message holds, whoever dials
    await _put(empty, [f"more here {number}" for number in range(1200)])
    world.network.heal()
    await world.settled(within_s=600)


def _part(world: World, one: Member, *others: Member) -> None:
    """From now on until all is healed, `one` and the others know nothing of each other."""
    world.network.partition([one.host], [other.host for other in others])
    for other in others:
        world.network.cut(one.host, other.host)


async def _write_on(world: World) -> None:
    """What links carry: one after another, enough for the window to open again, a context that is new."""
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
    """A node of another network joins, after it was told a wrong code."""
    inviter = world.members["full"]
    joiner = await world.add_node("joiner", key=bytes(32), contexts=frozenset({MAIN}))
    code = await inviter.node.invite(uses=1, expires_s=600)
    slot = code.partition("-")[0]
    with _expected(EchonodeError):
        await joiner.node.join(f"{slot}-adroitness-aardvark", at=f"{inviter.host}:{PORT}")
    await joiner.node.join(code, at=f"{inviter.host}:{PORT}")


async def _want_a_part(world: World, full: Member) -> None:
    """A node that wants a part of `main`, also after both sides wrote; and questions of each kind and several pages."""
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
    wanted = [Asked(leaf_key(IdentityId(one.author), one.name), None) for one in pulled.ids]
    await part.node.on_demand.get(full.node.id, MAIN, wanted[: BATCH_RECORDS_MAX + 1], 60)
    node = part.node
    drafts = [Draft(context=MAIN, author=node.id, name=f"offered {number}") for number in range(BATCH_RECORDS_MAX + 1)]
    await node.store.write(drafts, node.records.identity.device, node.records.tick)  # so that nobody is told
    keys = [leaf_key(node.id, draft.name) for draft in drafts]
    await node.on_demand.put(full.node.id, MAIN, keys, 60)


async def _ask_by_hand(world: World, full: Member) -> None:
    """What an honest node would not ask, of a full node and of one that takes `main` alone."""
    stranger = Author(99)
    await stranger.introduce()
    picky = world.members["joiner"]

    session = await _meet(world, full, stranger, lambda hello: hello)
    await session.transport.send(Ping())
    await session.transport.send(LevelWiseInit((2, 0), MAIN, 0, 16, (b"",)))
    await session.transport.recv()  # Refused: another major
    await session.transport.send(Turn(()))
    await receive(session.transport, Turn)
    await session.transport.send(FollowInit((2, 0), session.hello.instance, ()))
    await receive(session.transport, Refused)
    await session.transport.send(Close(Reason.FINISHED))
    await session.transport.stream.close()

    session = await _meet(world, picky, stranger, lambda hello: hello)
    await session.transport.send(SnapshotInit((1, 0), "books", None))
    await session.transport.recv()  # Refused: not taken here
    await session.transport.send(Ping())
    await session.transport.send(session.hello)  # has no place here
    await _until_over(session)

    session = await _meet(world, full, stranger, lambda hello: hello)
    await stranger.put("own")
    # One that computes other short ids: what it sends cannot be read, salted or not, and it has to walk.
    strange = SketchCache(lambda: b"another network")
    await sketch.run_initiator(
        Conversation(session.transport, stranger.store, MAIN, ignore, ignore, sketches=strange, session=session.id)
    )
    await session.transport.send(Close(Reason.FINISHED))
    await session.transport.stream.close()

    session = await _meet(world, full, stranger, lambda hello: hello)
    await _follow_by_hand(session, full)

    newer = await _meet(world, full, stranger, lambda hello: replace(hello, version=(2, 0)))
    await _until_over(newer)


async def _follow_by_hand(session: Session, full: Member) -> None:
    """Have a version announced, and ask for it."""
    transport = session.transport
    await transport.send(FollowInit((1, 0), session.hello.instance, (Place(MAIN, None),)))
    await receive(transport, Follow)
    await transport.send(Lazy())
    await asyncio.sleep(1)  # until that is heard
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
    """A session with `member`, opened by `stranger`, who sends `change` of its hello."""
    device = stranger.identity.device
    draft = statement_draft(stranger.identity.id, device.public, KeyState.ACTIVE)
    own: list[Record] = await stranger.store.heads(draft.context, draft.author, draft.name)

    local = LocalSide(Stranger(stranger, own, change), OpenGate())
    stream = await world.network.dial("10.9.9.9")(f"{member.host}:{PORT}")
    key = member.network_key
    assert key is not None
    return await initiate(stream, NetworkSecret.private(key), local, SimEntropy("stranger"))


@dataclass
class Stranger:
    """Introduces `author` by a hello that `change` made of its own."""

    author: Author
    own: Sequence[Record]
    change: Callable[[Hello], Hello]

    @property
    def device(self) -> SigningKey:
        return self.author.identity.device

    def statements(self) -> Sequence[Record]:
        return self.own

    def make(self, _peer: PublicKey, session: bytes) -> Hello:
        instance = self.author.store.instance
        return self.change(Hello((1, 0), session, "stranger", bytes(8), instance, 0, {"note": (1, 0)}, (), (), {}))


class OpenGate:
    """Lets every peer in."""

    def admit(self, *_: object) -> None:
        pass

    def suspect(self, *_: object) -> None:
        pass

    def note_foreign(self, *_: object) -> None:
        pass


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
