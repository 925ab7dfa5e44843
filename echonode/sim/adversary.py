"""An adversary: a member of the network that breaks the protocol.

It is a real node. It knows the network key, and its handshake and its AUTH are good. Its outgoing messages are forged:

    any message     one field forged; sent twice or 500 times; held back; replaced by another, by garbage or by silence
    Hello           false roots, counts, modes, contexts and `seen`
    records         a bit of a signature flipped; a version of another context; an old version again; a version by a key
                    without a statement; two versions under one dot, each to half of its peers; timestamps of next year;
                    vectors that claim to have seen more of a victim's writer than exists; so many concurrent
                    versions of one record that its leaf is full
    connections     dials that stop in the middle of the handshake, or go on with noise

Each message is forged or not by a draw. The rate is drawn for each session, so that some sessions get far before the
first forgery.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import fields, replace
from random import Random
from typing import Any, Final

from echonode.clock import Timestamp
from echonode.errors import EchonodeError, TransportError
from echonode.limits import COUNTER_MENTIONED_MAX
from echonode.model.identity import INSTANCE_BYTES, Instance, PublicKey, SigningKey, Writer, writer_of
from echonode.model.record import IDENTITIES, MAIN, Draft, Record, sign
from echonode.node.connections import SessionRunner
from echonode.node.events import RecordsApplied
from echonode.node.handshake import Introduction, Session
from echonode.node.session_report import SessionReport
from echonode.sim.world import Member, World
from echonode.sync.live.link import Link
from echonode.sync.transport import StreamTransport
from echonode.wire.codec import encode
from echonode.wire.messages import Direction, Hello, Message, Seen

_FORGERY_RATES: Final = (0.0, 0.05, 0.2, 0.6)
_NOTHING_SEEN: Final = Seen(bytes(8), 7, bytes(32), b"")
_NEXT_YEAR_MS: Final = 365 * 24 * 3600 * 1000
_SILENCE_S: Final = 100_000.0
_REPEATS: Final = 500  # more repetitions than a peer may accept


class Adversary:
    """The forgeries of one member: its messages, its versions, its connections."""

    def __init__(self, member: Member, seed: int | str) -> None:
        self.member = member
        self.draw = Random(f"byzantine/{seed}/{member.name}")  # another label would change the world of every seed
        self._crowd_draw = Random(f"crowd/{seed}/{member.name}")
        self._stranger = SigningKey(self.draw.randbytes(32))
        self._twins: dict[bytes, bytes] = {}  # by version: another version under the same dot
        self._old: list[bytes] = []  # versions that it sent before

    def take_over(self) -> None:
        """Let the member's present process forge its messages."""
        connections = self.member.node.connections
        connections.runner = _ForgingRunner(connections.runner, self)
        honest = connections.local.introduction
        connections.local = replace(connections.local, introduction=_ForgingIntroduction(honest, self))

    async def write(self, world: World) -> None:
        """Store hostile versions with good signatures, for peers to fetch."""
        node, draw = self.member.node, self.draw
        author = draw.choice([node.id, node.records.shared or node.id])
        draft = Draft(context=MAIN, author=author, name=f"r{draw.randrange(30)}", body=draw.randbytes(10))
        now_ms = self.member.clock.now_ms() + draw.choice([0, 0, _NEXT_YEAR_MS])
        stamp = Timestamp(now_ms << 16 | draw.randrange(1 << 16))
        key, instance = node.records.identity.device, node.store.instance
        writer = writer_of(key.public, instance)
        vector: dict[Writer, int] = {writer: node.store.seen(key.public).get(instance, 0) + 1}
        for head in await node.records.heads(MAIN, author, draft.name):
            for seen, counter in head.vector.items():
                vector[seen] = max(counter, vector.get(seen, 0))
        if draw.random() < 0.2:
            victim = draw.choice(list(world.members.values()))
            other = writer_of(victim.identity.device.public, victim.store.instance)
            vector[other] = draw.choice([1, 1000, COUNTER_MENTIONED_MAX - 1, COUNTER_MENTIONED_MAX + 5])
        if len(vector) > 60:
            return
        version = sign(draft, key, instance=instance, vector=vector, timestamp=stamp)
        if draw.random() < 0.5:
            twin = replace(draft, body=draw.randbytes(10))
            other_version = sign(twin, key, instance=instance, vector=vector, timestamp=stamp)
            self._twins[version.raw] = other_version.raw
        try:
            await node.store.apply(MAIN, [version])
        except EchonodeError:
            return
        node.bus.publish(RecordsApplied(context=MAIN, source=b"", records=(version,)))

    async def crowd(self, world: World) -> None:
        """Store versions of one record by one key in many lives, whose vectors claim anything: they fill its leaf."""
        node, draw = self.member.node, self._crowd_draw
        if node.records.shared is None or draw.random() < 0.5:
            return
        key, name = node.records.identity.device, f"r{draw.randrange(30)}"
        writers = [writer_of(each.identity.device.public, each.store.instance) for each in world.members.values()]
        versions: list[Record] = []
        for _ in range(draw.randrange(1, 24)):
            instance = Instance(draw.randbytes(INSTANCE_BYTES))
            seen = draw.sample(writers, draw.randrange(len(writers) + 1))
            vector = {writer: draw.choice([1, 2, 50, COUNTER_MENTIONED_MAX]) for writer in seen}
            vector[writer_of(key.public, instance)] = draw.choice([1, 2**64 - 1])
            stamp = Timestamp((self.member.clock.now_ms() + draw.choice([0, _NEXT_YEAR_MS])) << 16)
            draft = Draft(context=MAIN, author=node.records.shared, name=name, body=draw.randbytes(3))
            versions.append(sign(draft, key, instance=instance, vector=vector, timestamp=stamp))
        try:
            applied = await node.store.apply(MAIN, versions)
        except EchonodeError:
            return
        if applied.records:
            node.bus.publish(RecordsApplied(context=MAIN, source=b"", records=applied.records))

    async def keep_attacking(self, world: World) -> None:
        """Write hostile versions and open false connections, until cancelled."""
        while True:
            await asyncio.sleep(self.draw.expovariate(0.3))
            if not self.member.is_up:
                continue
            if self.draw.random() < 0.5:
                await self.write(world)
                await self.crowd(world)
            else:
                victim = self.draw.choice([each for each in world.members.values() if each is not self.member])
                await self._open_false_connection(world, victim)

    async def _open_false_connection(self, world: World, victim: Member) -> None:
        """Dial `victim` and send noise."""
        try:
            stream = await world.network.dial(self.member.host)(victim.address)
            await stream.write(self.draw.choice([b"", b"ECHO", b"ECHO\x01", b"GET / HTTP/1.1\r\n\r\n"]))
            await stream.write(self.draw.randbytes(self.draw.randrange(200)))
        except TransportError:
            return
        if self.draw.random() < 0.5:
            stream.abort()  # otherwise the victim must time out

    # -- forging messages --------------------------------------------------------------------------------------------

    def replace_message(self, message: Message) -> list[Message | bytes] | None:
        """Return the messages and raw payloads to send in place of `message`; None to fall silent for ever."""
        draw = self.draw
        match draw.randrange(8):
            case 0:
                return None
            case 1:
                return []
            case 2:
                unfinished = _replaced(message, "more", True) if hasattr(message, "more") else message
                return [message, message] if draw.random() < 0.7 else [unfinished] * _REPEATS
            case 3:
                return [draw.randbytes(draw.randrange(1, 100))]
            case 4:
                payload = bytearray(encode(message))
                payload[draw.randrange(len(payload))] ^= 1 << draw.randrange(8)
                return [bytes(payload)]
            case _:
                return [self.forge(message)]

    def forge(self, message: Message) -> Message:
        """Return `message` with another value in one field."""
        names = [each.name for each in fields(message)]
        if not names:
            return message
        # Forged records matter most, and few messages carry records: prefer that field.
        name = "records" if "records" in names and self.draw.random() < 0.6 else self.draw.choice(names)
        value = getattr(message, name)
        forged = self._forge_records(value) if name == "records" else self._forge_value(value)
        return _replaced(message, name, forged)

    def _forge_value(self, value: Any) -> Any:
        draw = self.draw
        match value:
            case bool():
                return not value
            case int():
                return draw.choice([0, 1, value + 1, max(0, value - 1), 2**32, 2**63, 2**64 - 1])
            case bytes() if value:
                at = draw.randrange(len(value))
                flipped = value[:at] + bytes([value[at] ^ 1 << draw.randrange(8)]) + value[at + 1 :]
                return draw.choice([draw.randbytes(len(value)), bytes(len(value)), flipped, value[:-1], value * 2])
            case str():
                return draw.choice(["main", "notes", "nowhere", value + "x"])
            case tuple() if value:
                at = draw.randrange(len(value))
                replaced = (*value[:at], self._forge_part(value[at]), *value[at + 1 :])
                return draw.choice([(), value[:at], value[::-1], value + value, replaced, replaced])
            case dict():
                return {}
        return value

    def _forge_part(self, part: Any) -> Any:
        if hasattr(part, "__dataclass_fields__"):
            name = self.draw.choice([each.name for each in fields(part)])
            return replace(part, **{name: self._forge_value(getattr(part, name))})
        return self._forge_value(part)

    def _forge_seen(self, seen: Seen) -> Seen:
        """Return a claim about what the peer wrote: with another counter or id, of another version, or without proof.
        """
        draw = self.draw
        forged = [
            replace(seen, counter=draw.choice([1, seen.counter, 2**40])),
            replace(seen, version=draw.randbytes(32), raw=b""),
            replace(seen, raw=draw.choice([b"", draw.randbytes(40), *self._old[-3:]])),
            replace(seen, raw=seen.raw[:-1] + bytes(1)),
        ]
        return draw.choice(forged)

    def _forge_records(self, raws: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Return the batch with one version that an honest node would not send there."""
        draw = self.draw
        forged = list(raws)
        at = draw.randrange(len(forged) + 1)
        if forged and draw.random() < 0.3:
            raw = bytearray(forged[at - 1])
            raw[-1 - draw.randrange(64)] ^= 1 << draw.randrange(8)
            forged[at - 1] = bytes(raw)
        elif self._old and draw.random() < 0.5:
            forged.insert(at, draw.choice(self._old))
        else:
            forged.insert(at, self._make_unwanted().raw)
        return tuple(forged)

    def _make_unwanted(self) -> Record:
        """Return a signed version that no peer may take: of another context, by a key without a statement, or in the
        context of statements without being one.
        """
        key, node = self._stranger, self.member.node
        context = self.draw.choice([MAIN, "elsewhere", IDENTITIES])
        signer = node.records.identity.device if context == "elsewhere" else key
        writer = writer_of(signer.public, node.store.instance)
        draft = Draft(context=context, author=node.id, name="forged", body=self.draw.randbytes(5))
        return sign(draft, signer, instance=node.store.instance, vector={writer: 1}, timestamp=Timestamp(1 << 40))

    def equivocate(self, message: Message, peer: bytes) -> Message:
        """Return `message` for `peer`: half of the peers get, for some versions, another one under the same dot."""
        raws = getattr(message, "records", ())
        if not raws:
            return message
        self._old = [*self._old[-50:], *raws[:3]]
        if peer[0] & 1 or not any(raw in self._twins for raw in raws):
            return message
        return _replaced(message, "records", tuple(self._twins.get(raw, raw) for raw in raws))

    def forge_hello(self, hello: Hello) -> Hello:
        if self.draw.random() < 0.5:
            return hello
        contexts = tuple(self._forge_part(each) if self.draw.random() < 0.5 else each for each in hello.contexts)
        forged = replace(hello, contexts=contexts)
        if self.draw.random() < 0.3:
            forged = replace(forged, seen=tuple(self._forge_seen(each) for each in (*hello.seen, _NOTHING_SEEN)))
        if self.draw.random() < 0.3:
            modes = self.draw.choice([hello.modes[:1], hello.modes[::-1], ("telepathy", *hello.modes)])
            forged = replace(forged, modes=modes)
        # Never the name of an honest node: the first node with a name keeps it until a person decides.
        return replace(forged, name=self.draw.choice([hello.name, hello.name, f"{hello.name} the second"]))


def _replaced(message: Message, field: str, value: object) -> Message:
    """Return `message` with `value` in `field`, even if the type of the field forbids it."""
    return replace(message, **{field: value})  # type: ignore[arg-type]


class _ForgingTransport(StreamTransport):
    """A session's transport that sends the adversary's forgeries."""

    def __init__(self, inner: StreamTransport, adversary: Adversary, peer: bytes) -> None:
        vars(self).update(vars(inner))
        self._adversary = adversary
        self._peer = peer
        self._rate = adversary.draw.choice(_FORGERY_RATES)

    async def send(self, message: Message) -> None:
        if self._adversary.draw.random() >= self._rate:
            await super().send(self._adversary.equivocate(message, self._peer))
            return
        replacement = self._adversary.replace_message(message)
        if replacement is None:
            await asyncio.sleep(_SILENCE_S)
            return
        for part in replacement:
            payload = part if isinstance(part, bytes) else self._try_encode(part)
            if payload:
                await self.stream.write(self.channel.send(payload))

    def _try_encode(self, message: Message) -> bytes:
        try:
            return encode(message)
        except (ValueError, TypeError, OverflowError):
            return b""  # the forged value has no encoding


class _ForgingIntroduction:
    """A node's introduction with forged hellos. Name and key are the member's own."""

    def __init__(self, inner: Introduction, adversary: Adversary) -> None:
        self._inner = inner
        self._adversary = adversary

    @property
    def device(self) -> SigningKey:
        return self._inner.device

    def statements(self) -> Sequence[Record]:
        return self._inner.statements()

    def make(self, peer: PublicKey, session: bytes, instance: bytes = b"") -> Hello:
        return self._adversary.forge_hello(self._inner.make(peer, session, instance))


class _ForgingRunner:
    """A node's sessions over forging transports. An exception caused by a forgery ends its session, no more."""

    def __init__(self, inner: SessionRunner, adversary: Adversary) -> None:
        self._inner = inner
        self._adversary = adversary

    async def lead(
        self, session: Session, report: SessionReport, direction: Direction = Direction.BOTH, *, may_link: bool = False
    ) -> Link | None:
        return await self._run(session, lambda forging: self._inner.lead(forging, report, direction, may_link=may_link))

    async def serve(self, session: Session, report: SessionReport) -> Link | None:
        return await self._run(session, lambda forging: self._inner.serve(forging, report))

    async def _run(
        self, session: Session, work: Callable[[Session], Coroutine[Any, Any, Link | None]]
    ) -> Link | None:
        transport = _ForgingTransport(session.transport, self._adversary, session.peer.id)
        try:
            return await work(replace(session, transport=transport))
        except EchonodeError:
            raise
        except Exception as error:
            raise TransportError(f"a forgery raised {type(error).__name__} at the adversary") from None

