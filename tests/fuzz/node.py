"""Targets that run the whole node, as it ships, against a scripted peer: in virtual time, over simulated links.

    responder   the peer dials:  node.accept, the conversations and the executors behind it, invitations
    initiator   the node dials:  the scheduler's dial, the node's turn to open, the executors of the initiator

For any behaviour of the peer, the node reports only errors of the peer and leaves nothing open. It loses no version and
takes no forged one, its tree is that of its records, and it can still write.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Any, Final, TypeVar

from echonode.errors import Reason
from echonode.limits import KIB
from echonode.model.filter import Filter
from echonode.model.keys import Admission
from echonode.model.merkle import Tree, state_of
from echonode.model.record import IDENTITIES, MAIN, Draft, Record, parse, supersedes, verify
from echonode.node.events import Event, SessionFailed
from echonode.node.handshake import Session
from echonode.node.mode_table import MODES, spec_of
from echonode.node.node import Node, Settings
from echonode.node.session_report import SessionReport
from echonode.sim.event_loop import SimClock, SimEntropy, SimLoop
from echonode.sim.network import SimNetwork
from echonode.sim.tcp_link import LinkConditions
from echonode.store.memory import MemoryStore
from echonode.store.port import Cursor
from echonode.sync.conversation import Result
from echonode.sync.executor import InitiatorOptions
from echonode.sync.modes import pull
from echonode.sync.select import Mode
from echonode.sync.streams import ByteStream
from echonode.wire.channel import Handshake, NetworkSecret
from echonode.wire.codec import decode, encode
from echonode.wire.messages import (
    Auth,
    Close,
    Direction,
    Hello,
    LevelWiseInit,
    PairAnswer,
    PairConfirm,
    PairStart,
    Ping,
    RecordRequest,
    Records,
)
from echonode.wire.pairing import Code, PairingInitiator, normalise_code
from tests.contracts.traffic import tapped
from tests.fuzz import mutate
from tests.fuzz.parsers import message_seeds
from tests.fuzz.parties import hostile_messages, parties, spoiled, store_of
from tests.fuzz.peers import GREETED, INVITED, OPTIONS, PACED, RAW, SEALED, SHAKEN, SILENT, SMALL, Peer, options_of
from tests.fuzz.target import Target
from tests.kept import Kept
from tests.sync.pair import Author
from tests.wire.ends import MEMBER_SECRET, NETWORK_KEY, key

T = TypeVar("T")

HERE: Final = "10.0.0.1:22087"
THERE: Final = "10.0.0.9:22087"


@dataclass
class Stage:
    """A node on a network of its own, with its store and its events."""

    network: SimNetwork
    node: Node
    store: MemoryStore
    events: list[Event]


async def _stage(options: int) -> Stage:
    """Return the node under test, on an empty network."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    link = LinkConditions(latency_s=0.0, fragment_bytes_max=64 if options & SMALL else 64 * KIB)
    network, us = SimNetwork(loop, seed=1, link=link), parties()
    return await _join(network, us.node, us.node_records, us.node_cursor, HERE)


async def _join(
    network: SimNetwork, author: Author, held: dict[str, list[Record]], cursor: Cursor, address: str
) -> Stage:
    """Start a node with the identity of `author`, the records `held` and the cursor `cursor`, at `address`."""
    store = await store_of(held, author.store.instance)
    store.note(cursor)
    events: list[Event] = []
    node = Node(
        store,
        author.identity,
        Settings(name=address, member_secret=MEMBER_SECRET),
        clock=SimClock(network.loop),
        entropy=SimEntropy(address),
        dial=network.dial(address.rpartition(":")[0]),
        observe=events.append,
        announce=lambda _: None,
        save_secret=lambda *_: None,
        save_name=lambda name: None,
        safe=Kept(),
    )
    await node.start([address])
    return Stage(network, node, store, events)


def run_responder(script: bytes) -> None:
    played(respond(script))


def run_initiator(script: bytes) -> None:
    played(initiate(script))


def played(play: Coroutine[Any, Any, T]) -> T:
    """Run `play` on a loop of its own. Raises unhandled exceptions of tasks, and Deadlock."""
    overheard(True), overheard(False)  # cache them now: they need loops of their own
    return SimLoop(seed=1, keep_events=20).complete(play)


async def respond(script: bytes) -> tuple[Peer, Stage]:
    """Let the peer dial and follow `script`."""
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
    await _check_stage(stage)
    await listener.close()
    await stage.node.stop()
    return peer, stage


async def initiate(script: bytes) -> tuple[Peer, Stage]:
    """Let the node dial, and the peer follow `script`."""
    stage = await _stage(options_of(script))
    finished: asyncio.Future[Peer] = stage.network.loop.create_future()
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
            finished.set_result(peer)

    listener = stage.network.listen(THERE, answer)
    stage.node.add_peer(THERE)
    peer = await finished
    if sessions := list(stage.node.connections._tasks):
        await asyncio.wait(sessions)
    await listener.close()
    await _check_stage(stage)
    await stage.node.stop()
    return peer, stage


async def _check_stage(stage: Stage) -> None:
    """Check what must hold after any session."""
    node, store = stage.node, stage.store
    for event in stage.events:
        if isinstance(event, SessionFailed):
            assert event.reason not in ("local", "store_failed"), f"our own fault: {event.detail}"
    pending = node.pending()
    assert not pending.handshakes and not pending.streams and not pending.fills and not pending.sessions
    known = {record.id for records in parties().node_records.values() for record in records}
    for context, leaves in store._heads.items():
        leaves = {leaf: heads for leaf, heads in leaves.items() if heads}
        assert Tree((leaf, state_of(head.id for head in heads)) for leaf, heads in leaves.items()).root == (
            store.tree(context).root
        ), "the tree is not that of the records"
        for head in [head for heads in leaves.values() for head in heads]:
            assert head.id in known or _is_admissible(stage, head, context), f"{head.name} has no place here"
    for context, records in parties().node_records.items():
        for record in records:
            heads = store._heads[context].get(record.key, [])
            assert any(head.id == record.id or supersedes(head, record) for head in heads), f"lost: {record.name}"
    written = await node.records.put(Draft(context=MAIN, author=node.id, name="afterwards", body=b"still writing"))
    assert [head.id for head in await store.heads(MAIN, node.id, "afterwards")] == [written.id]


def _is_admissible(stage: Stage, head: Record, context: str) -> bool:
    """Return True if a received version is signed, of this context, and by a key that may speak for its author."""
    if verify(parse(head.raw)).context != context:
        return False
    return context == IDENTITIES or stage.store.keyring.admission(head) is Admission.ADMITTED


_OPENING: Final = encode(LevelWiseInit((1, 0), MAIN, 0, 16, (b"",)))

# -- seeds -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Speech:
    """The messages of the peer in a session that it held as a real node: its hello, and all that follow."""

    hello: Hello
    payloads: tuple[bytes, ...]


@cache
def overheard(peer_dials: bool) -> Speech:
    """Return the peer's messages in a session that makes the two nodes equal and goes on as a link."""
    parties()  # cache them now: they need a loop of their own
    with tapped() as ends:
        SimLoop(seed=1).complete(_meeting(peer_dials))
    end = next(end for end in ends if end.is_initiator == peer_dials)
    sent = [payload for by, payload in end.payloads if by == peer_dials]
    (hello,) = [message for message in map(decode, sent) if isinstance(message, Hello)]
    return Speech(hello, tuple(payload for payload in sent if not isinstance(decode(payload), Auth | Hello)))


async def _meeting(peer_dials: bool) -> None:
    """Let the peer run as a real node until the two are equal, and then write over the link."""
    here = await _stage(0)
    there = await _join(here.network, parties().peer, parties().peer_records, parties().peer_cursor, THERE)
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
    """Return for each mode the messages of a real peer behind its hello, in a session of one conversation."""
    by_mode = {}
    for mode in MODES:
        with tapped() as ends:
            SimLoop(seed=1).complete(_conversing(mode))
        (end,) = [end for end in ends if end.is_initiator]
        payloads = [payload for by, payload in end.payloads if by]
        by_mode[mode] = tuple(payload for payload in payloads if not isinstance(decode(payload), Auth | Hello))
    return by_mode


async def _conversing(mode: Mode) -> None:
    """Let the peer dial as a real node and open a conversation of this mode, even if selection would choose another."""
    here = await _stage(0)
    there = await _join(here.network, parties().peer, parties().peer_records, parties().peer_cursor, THERE)
    listener = here.network.listen(HERE, here.node.accept)

    async def work(session: Session, log: SessionReport) -> None:
        context = {Mode.DELTA: "log", Mode.SNAPSHOT: "notes"}.get(mode, MAIN)
        conversation, finish = there.node.conversations._begin(session, log, context, mode, "", "initiator")
        keys = [key for key, _ in there.store.tree(MAIN).leaves_at(b"")]
        options = InitiatorOptions(expected=20)
        if mode is Mode.RECONCILE:
            options = replace(options, wanted=Filter(name="*1*"), follows_all=True)
        questions = {
            Mode.PULL: pull.IdQuery(Filter(name="far*"), after=0, limit=10),
            Mode.GET: [RecordRequest(key, None) for key in keys[:10]],
            Mode.PUT: keys[:10],
        }
        answer = await spec_of(mode).executor.run_initiator(conversation, questions.get(mode, options))
        assert mode in questions or answer is Result.EQUAL
        finish(Result.ANSWERED)
        await session.transport.send(Close(Reason.FINISHED))

    await there.node.connections.lead([HERE], Direction.BOTH, work, peer=here.node.id)
    await listener.close()
    for stage in (here, there):
        await stage.node.stop()


@cache
def samples() -> tuple[bytes, ...]:
    """Return payloads for scripts: those of real sessions, of the vectors, and hostile ones."""
    sent = [*overheard(True).payloads, *overheard(False).payloads]
    sent += [payload for payloads in conversations().values() for payload in payloads]
    return (*sent, *message_seeds(), *map(encode, hostile_messages()))


Play = Callable[[bytes], Coroutine[Any, Any, tuple[Peer, Stage]]]


def _scripts(payloads: tuple[bytes, ...], play: Play) -> Iterator[bytes]:
    for options in (GREETED, GREETED | PACED, GREETED | SILENT, GREETED | SMALL):
        yield mutate.script(options, payloads)
    greeted = played(play(mutate.script(GREETED, ())))[0].sent
    yield mutate.script(SEALED, greeted)
    yield mutate.script(SEALED, [*greeted, *payloads])
    for message in hostile_messages():
        yield mutate.script(GREETED | PACED, [_OPENING, encode(message)])
    for payload in message_seeds():
        yield mutate.script(GREETED, [payload])
    for at, payload in enumerate(payloads):
        for other in mutate.shortened(payload):
            yield mutate.script(GREETED, [*payloads[:at], other, *payloads[at + 1 :]])
        match decode(payload):
            case Records(records, rest, more) if records:
                bad = encode(Records((*records[:-1], spoiled(records[-1])), rest, more))
                yield mutate.script(GREETED, [*payloads[:at], bad, *payloads[at + 1 :]])
    for at in range(1, len(payloads)):
        yield mutate.script(GREETED, payloads[:at])
        yield mutate.script(GREETED, payloads[at:])
    yield bytes([SHAKEN]) + b"\0\0\0\x20" + bytes(48)
    yield bytes([RAW]) + b"ECHO\x01" + bytes(48)
    yield bytes([RAW | SILENT]) + b"GET / HTTP/1.1\r\n\r\n"


def _pairing_scripts() -> Iterator[bytes]:
    """Yield scripts of a joiner with the code, with another one, and with none. Seeds make the shares fit."""
    joined = SEALED | INVITED | PACED
    for code in (_code(), normalise_code("7-crossover-clockwork")):
        start = b""
        for _ in range(2):  # a joiner's share does not depend on the handshake
            peer, _ = played(respond(mutate.script(joined, [start])))
            assert peer.channel is not None
            joiner = PairingInitiator(code, handshake_hash=peer.channel.handshake_hash, entropy_f=Random(1).randbytes)
            start = encode(PairStart(joiner.start()))
        (answer,) = [message for message in peer.heard if isinstance(message, PairAnswer)]
        yield mutate.script(joined, [start, encode(PairConfirm(joiner.confirm(answer.share)))])
    yield mutate.script(joined, [encode(PairStart(b"A" + bytes(32)))])
    yield mutate.script(joined, [encode(Ping())])


def _code() -> Code:
    """Return the code of the node's invitation, which is the same every time."""
    _, stage = played(respond(bytes([INVITED])))
    invitation = stage.node.invitations._invitation
    assert invitation is not None
    return invitation.code


def _mutate(data: bytes, rng: Random) -> bytes:
    return mutate.of_script(data, rng, samples, OPTIONS)


def _by_mode() -> Iterator[bytes]:
    """Yield a conversation of every mode, as it is and with a changed opening."""
    for payloads in conversations().values():
        for options in (GREETED, GREETED | PACED, GREETED | SMALL):
            yield mutate.script(options, payloads)
        for other in mutate.shortened(payloads[0]):
            yield mutate.script(GREETED, [other, *payloads[1:]])


def _responder_seeds() -> list[bytes]:
    return [*_scripts(overheard(True).payloads, respond), *_by_mode(), *_pairing_scripts()]


def _initiator_seeds() -> list[bytes]:
    return list(_scripts(overheard(False).payloads, initiate))


TARGETS: Final = (
    Target("responder", run_responder, _responder_seeds, _mutate, 16_384),
    Target("initiator", run_initiator, _initiator_seeds, _mutate, 16_384),
)
