"""Targets that run the whole node, as it ships, against a scripted peer: virtual time, simulated links.

    responder   the peer dials:  node.accept, the manager and the executors behind it, invitations
    initiator   the node dials:  the scheduler's dial, the manager's turn, the executors that ask

Whatever the peer does: no error but the peer's own, nothing left open, no version lost or forged, the tree that of the
records, and the node can still write.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any, Final, TypeVar

from echonode.errors import Reason
from echonode.limits import KIB
from echonode.model.filter import Filter
from echonode.model.keys import KeyState
from echonode.model.merkle import Tree, state_of
from echonode.model.record import IDENTITIES, MAIN, Draft, Record, parse, supersedes, verify
from echonode.node.events import Event, SessionFailed
from echonode.node.handshake import Session
from echonode.node.mode_table import MODES
from echonode.node.mode_table import initiate as run_mode
from echonode.node.node import Node, Settings
from echonode.node.session_report import SessionReport
from echonode.sim.event_loop import SimClock, SimEntropy, SimLoop
from echonode.sim.network import SimNetwork
from echonode.sim.tcp_link import LinkConditions
from echonode.store.memory import MemoryStore
from echonode.store.port import Cursor
from echonode.sync.conversation import Result
from echonode.sync.modes import get, pull, put
from echonode.sync.select import Mode
from echonode.sync.streams import ByteStream
from echonode.wire.channel import Handshake, NetworkSecret
from echonode.wire.codec import decode, encode
from echonode.wire.messages import (
    Asked,
    Auth,
    Close,
    Direction,
    Hello,
    LevelWiseInit,
    PairAnswer,
    PairConfirm,
    PairStart,
    Ping,
    Records,
)
from echonode.wire.pairing import Code, PairingInitiator, normalise_code
from tests.contracts.traffic import tapped
from tests.fuzz import mutate
from tests.fuzz.cast import cast, hostile_messages, spoiled, store_of
from tests.fuzz.data import message_seeds
from tests.fuzz.peers import GREETED, INVITED, OPTIONS, PACED, RAW, SEALED, SHAKEN, SILENT, SMALL, Peer, options_of
from tests.fuzz.target import Target
from tests.sync.pair import Author
from tests.wire.ends import NETWORK_KEY, key

T = TypeVar("T")

HERE: Final = "10.0.0.1:22087"
THERE: Final = "10.0.0.9:22087"


@dataclass
class Stage:
    """A node on a network of its own, and what it told."""

    network: SimNetwork
    node: Node
    store: MemoryStore
    events: list[Event]


async def _stage(options: int) -> Stage:
    """The node under test, alone so far."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    link = LinkConditions(latency_s=0.0, fragment_bytes_max=64 if options & SMALL else 64 * KIB)
    return await _join(SimNetwork(loop, seed=1, link=link), cast().node, cast().held, cast().ours, HERE)


async def _join(
    network: SimNetwork, author: Author, held: dict[str, list[Record]], cursor: Cursor, address: str
) -> Stage:
    """A node that holds what `author` does and has followed as far as `cursor`, listening at `address`."""
    store = await store_of(held, author.store.instance)
    store.note(cursor)
    events: list[Event] = []
    node = Node(
        store,
        author.identity,
        Settings(name=address, network_key=NETWORK_KEY),
        clock=SimClock(network.loop),
        entropy=SimEntropy(address),
        dial=network.dial(address.rpartition(":")[0]),
        observe=events.append,
        announce=lambda _: None,
        save_network_key=lambda _: None,
    )
    await node.start([address])
    return Stage(network, node, store, events)


def run_responder(script: bytes) -> None:
    played(respond(script))


def run_initiator(script: bytes) -> None:
    played(initiate(script))


def played(play: Coroutine[Any, Any, T]) -> T:
    """Run it on a loop of its own: what a task raised unseen is raised here, and so is a deadlock."""
    overheard(True), overheard(False)  # on loops of their own
    return SimLoop(seed=1, keep_events=20).complete(play)


async def respond(script: bytes) -> tuple[Peer, Stage]:
    """The peer dials, and follows `script`."""
    options = options_of(script)
    stage = await _stage(options)
    secret = NetworkSecret.private(NETWORK_KEY)
    if options & INVITED:
        await stage.node.invite(uses=1, expires_s=600.0)
        secret = NetworkSecret.public()
    listener = stage.network.listen(HERE, stage.node.accept)
    peer = Peer(await stage.network.dial("10.0.0.9")(HERE), script, overheard(True).hello)
    handshake = Handshake.initiator(secret, static=key("peer static"), ephemeral=key("peer ephemeral"))
    await peer.follow(handshake)
    while listener._handlers:
        await asyncio.wait(list(listener._handlers))
    await _judge(stage)
    await listener.close()
    await stage.node.stop()
    return peer, stage


async def initiate(script: bytes) -> tuple[Peer, Stage]:
    """The node dials, and the peer follows `script`."""
    stage = await _stage(options_of(script))
    said: asyncio.Future[Peer] = stage.network.loop.create_future()
    dials = 0

    async def answer(stream: ByteStream) -> None:
        nonlocal dials
        dials += 1
        if dials > 1:
            return  # one session is enough
        peer = Peer(stream, script, overheard(False).hello)
        secret = (NetworkSecret.private(NETWORK_KEY),)
        try:
            await peer.follow(Handshake.responder(secret, static=key("peer static"), ephemeral=key("peer ephemeral")))
        finally:
            said.set_result(peer)

    listener = stage.network.listen(THERE, answer)
    stage.node.add_peer(THERE)
    peer = await said
    if sessions := list(stage.node.connections._tasks):
        await asyncio.wait(sessions)
    await listener.close()
    await _judge(stage)
    await stage.node.stop()
    return peer, stage


async def _judge(stage: Stage) -> None:
    """What holds after any session."""
    node, store = stage.node, stage.store
    for event in stage.events:
        if isinstance(event, SessionFailed):
            assert event.reason not in ("local", "store_failed"), f"our own fault: {event.detail}"
    pending = node.pending()
    assert not pending.handshakes and not pending.streams and not pending.fills and not pending.sessions
    known = {record.id for records in cast().held.values() for record in records}
    for context, leaves in store._heads.items():
        leaves = {leaf: heads for leaf, heads in leaves.items() if heads}
        assert Tree((leaf, state_of(head.id for head in heads)) for leaf, heads in leaves.items()).root == (
            store.tree(context).root
        ), "the tree is not that of the records"
        for head in [head for heads in leaves.values() for head in heads]:
            assert head.id in known or _is_admissible(stage, head, context), f"{head.name} has no place here"
    for context, records in cast().held.items():
        for record in records:
            heads = store._heads[context].get(record.key, [])
            assert any(head.id == record.id or supersedes(head, record) for head in heads), f"lost: {record.name}"
    written = await node.records.put(Draft(context=MAIN, author=node.id, name="afterwards", body=b"still writing"))
    assert [head.id for head in await store.heads(MAIN, node.id, "afterwards")] == [written.id]


def _is_admissible(stage: Stage, head: Record, context: str) -> bool:
    """Whether a version that came is signed, of this context, and by a key that may speak for its author."""
    if verify(parse(head.raw)).context != context:
        return False
    return context == IDENTITIES or stage.store.keyring.state_of(head.author, head.kid) in _SPEAKING


_SPEAKING: Final = (KeyState.ACTIVE, KeyState.RETIRED)
_OPENING: Final = encode(LevelWiseInit((1, 0), MAIN, 0, 16, (b"",)))

# -- seeds -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """What the peer says in a session as a real node: its hello, and all that follows."""

    hello: Hello
    payloads: tuple[bytes, ...]


@cache
def overheard(peer_dials: bool) -> Told:
    """Of a session in which the two become equal, and that goes on as a link."""
    cast()  # on a loop of its own too
    with tapped() as ends:
        SimLoop(seed=1).complete(_meeting(peer_dials))
    end = next(each for each in ends if each.is_initiator == peer_dials)
    said = [payload for by, payload in end.payloads if by == peer_dials]
    (hello,) = [message for message in map(decode, said) if isinstance(message, Hello)]
    return Told(hello, tuple(payload for payload in said if not isinstance(decode(payload), Auth | Hello)))


async def _meeting(peer_dials: bool) -> None:
    """The peer as a real node: the two become equal."""
    here = await _stage(0)
    there = await _join(here.network, cast().peer, cast().theirs, cast().its, THERE)
    listeners = [here.network.listen(HERE, here.node.accept), here.network.listen(THERE, there.node.accept)]
    (there.node if peer_dials else here.node).add_peer(HERE if peer_dials else THERE)
    for _ in range(100):
        await asyncio.sleep(0.1)
        if all(here.store.tree(name).root == there.store.tree(name).root for name in here.store.contexts()):
            break
    await asyncio.sleep(1.0)
    await there.node.records.put(Draft(context=MAIN, author=there.node.id, name="told", body=b"by the link"))
    await asyncio.sleep(3.0)
    for listener, stage in zip(listeners, (here, there), strict=True):
        await listener.close()
        await stage.node.stop()


@cache
def conversations() -> dict[Mode, tuple[bytes, ...]]:
    """What a real peer says behind its hello in a session of one conversation, by that one's mode."""
    said = {}
    for mode in MODES:
        with tapped() as ends:
            SimLoop(seed=1).complete(_conversing(mode))
        (end,) = [each for each in ends if each.is_initiator]
        payloads = [payload for by, payload in end.payloads if by]
        said[mode] = tuple(payload for payload in payloads if not isinstance(decode(payload), Auth | Hello))
    return said


async def _conversing(mode: Mode) -> None:
    """The peer as a real node that dials, and opens a conversation of that mode whatever would be selected."""
    here = await _stage(0)
    there = await _join(here.network, cast().peer, cast().theirs, cast().its, THERE)
    listener = here.network.listen(HERE, here.node.accept)

    async def work(session: Session, log: SessionReport) -> None:
        context = {Mode.DELTA: "log", Mode.SNAPSHOT: "notes"}.get(mode, MAIN)
        conversation, finish = there.node.conversations._begin(session, log, context, mode, "", "initiator")
        keys = [key for key, _ in there.store.tree(MAIN).leaves_at(b"")]
        match mode:
            case Mode.PULL:
                await pull.run_initiator(conversation, Filter(name="far*"), after=0, limit=10)
            case Mode.GET:
                await get.run_initiator(conversation, [Asked(key, None) for key in keys[:10]])
            case Mode.PUT:
                await put.run_initiator(conversation, keys[:10])
            case _:
                cursor = there.store.cursor(session.peer.id, context)
                wanted = Filter(name="*1*") if mode is Mode.RECONCILE else None
                assert await run_mode(conversation, mode, Direction.BOTH, 16, cursor, wanted, 20) is Result.EQUAL
        finish(Result.ANSWERED)
        await session.transport.send(Close(Reason.FINISHED))

    await there.node.connections.lead(await here.network.dial("10.0.0.9")(HERE), Direction.BOTH, work)
    await listener.close()
    for stage in (here, there):
        await stage.node.stop()


@cache
def samples() -> tuple[bytes, ...]:
    """Payloads worth saying: overheard, frozen, hostile."""
    said = [*overheard(True).payloads, *overheard(False).payloads]
    said += [payload for payloads in conversations().values() for payload in payloads]
    return (*said, *message_seeds(), *map(encode, hostile_messages()))


Play = Callable[[bytes], Coroutine[Any, Any, tuple[Peer, Stage]]]


def _scripts(told: tuple[bytes, ...], play: Play) -> Iterator[bytes]:
    for options in (GREETED, GREETED | PACED, GREETED | SILENT, GREETED | SMALL):
        yield mutate.script(options, told)
    greeted = played(play(mutate.script(GREETED, ())))[0].said
    yield mutate.script(SEALED, greeted)
    yield mutate.script(SEALED, [*greeted, *told])
    for message in hostile_messages():
        yield mutate.script(GREETED | PACED, [_OPENING, encode(message)])
    for payload in message_seeds():
        yield mutate.script(GREETED, [payload])
    for at, payload in enumerate(told):
        for other in mutate.shortened(payload):
            yield mutate.script(GREETED, [*told[:at], other, *told[at + 1 :]])
        match decode(payload):
            case Records(records, rest, more) if records:
                bad = encode(Records((*records[:-1], spoiled(records[-1])), rest, more))
                yield mutate.script(GREETED, [*told[:at], bad, *told[at + 1 :]])
    for at in range(1, len(told)):
        yield mutate.script(GREETED, told[:at])
        yield mutate.script(GREETED, told[at:])
    yield bytes([SHAKEN]) + b"\0\0\0\x20" + bytes(48)
    yield bytes([RAW]) + b"ECHO\x01" + bytes(48)
    yield bytes([RAW | SILENT]) + b"GET / HTTP/1.1\r\n\r\n"


def _pairing_scripts() -> Iterator[bytes]:
    """A joiner with the code, with another, and with none. Shares and confirmations fit: all is drawn from seeds."""
    joined = SEALED | INVITED | PACED
    for code in (_code(), normalise_code("7-crossover-clockwork")):
        start = b""
        for _ in range(2):  # a joiner's share is the same whatever the handshake was
            peer, _ = played(respond(mutate.script(joined, [start])))
            assert peer.channel is not None
            joiner = PairingInitiator(
                code, handshake_hash=peer.channel.handshake_hash, entropy_f=Random(1).randbytes
            )
            start = encode(PairStart(joiner.start()))
        (answer,) = [message for message in peer.heard if isinstance(message, PairAnswer)]
        yield mutate.script(joined, [start, encode(PairConfirm(joiner.confirm(answer.share)))])
    yield mutate.script(joined, [encode(PairStart(b"A" + bytes(32)))])
    yield mutate.script(joined, [encode(Ping())])


def _code() -> Code:
    """What the node's invitation is, every time."""
    _, stage = played(respond(bytes([INVITED])))
    invitation = stage.node.invitations._invitation
    assert invitation is not None
    return invitation.code


def _mutate(data: bytes, rng: Random) -> bytes:
    return mutate.of_script(data, rng, samples, OPTIONS)


def _by_mode() -> Iterator[bytes]:
    """A conversation of every mode, as it is and with its opening bent."""
    for told in conversations().values():
        for options in (GREETED, GREETED | PACED, GREETED | SMALL):
            yield mutate.script(options, told)
        for other in mutate.shortened(told[0]):
            yield mutate.script(GREETED, [other, *told[1:]])


def _responder_seeds() -> list[bytes]:
    return [*_scripts(overheard(True).payloads, respond), *_by_mode(), *_pairing_scripts()]


def _initiator_seeds() -> list[bytes]:
    return list(_scripts(overheard(False).payloads, initiate))


TARGETS: Final = (
    Target("responder", run_responder, _responder_seeds, _mutate, 16_384),
    Target("initiator", run_initiator, _initiator_seeds, _mutate, 16_384),
)
