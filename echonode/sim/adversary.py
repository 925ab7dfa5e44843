"""A member of the network that speaks the protocol and lies.

It is a real node (it knows the key, its handshake and its AUTH are good) whose outgoing messages are bent on the way:

    any message     a field of it forged, sent twice or without end, held back, followed by another's, cut short by
                    garbage or silence
    Hello           roots, counts, modes, contexts and `seen` that are nobody's
    records         a bit of a signature flipped, a version of another context, an old one again, one by a key nobody
                    stated; two versions under one dot, each to half of its peers; timestamps of next year; vectors
                    that claim to have seen more of a victim's writer than there is
    connections     dials that stop in the middle of the handshake, or go on with noise

A lie is drawn per message, at a rate drawn per session, so that some sessions get deep before they go wrong.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import fields, replace
from random import Random
from typing import Any, Final

from echonode.clock import Timestamp
from echonode.errors import EchonodeError, TransportError
from echonode.limits import COUNTER_MENTIONED_MAX
from echonode.model.identity import PublicKey, SigningKey, Writer, writer_of
from echonode.model.record import IDENTITIES, MAIN, Draft, Record, sign
from echonode.node.connections import SessionRunner
from echonode.node.events import RecordsApplied
from echonode.node.handshake import Introduction, Session
from echonode.node.session_report import SessionReport
from echonode.sim.world import Member, World
from echonode.sync.live.link import Link
from echonode.sync.transport import StreamTransport
from echonode.wire.codec import encode
from echonode.wire.messages import Direction, Hello, Message

_LIE_RATES: Final = (0.0, 0.05, 0.2, 0.6)
_NEXT_YEAR_MS: Final = 365 * 24 * 3600 * 1000
_SILENCE_S: Final = 100_000.0
_ENDLESS: Final = 500  # as good as without end: nobody may listen for so long


class Adversary:
    """What a byzantine member says instead of the truth."""

    def __init__(self, member: Member, seed: int | str) -> None:
        self.member = member
        self.draw = Random(f"byzantine/{seed}/{member.name}")
        self._stranger = SigningKey(self.draw.randbytes(32))
        self._twins: dict[bytes, bytes] = {}  # of a version, another under the same dot
        self._old: list[bytes] = []  # records it once sent or saw

    def corrupt(self) -> None:
        """Make the member's present process lie."""
        connections = self.member.node.connections
        connections.runner = _LyingRunner(connections.runner, self)
        honest = connections.local.introduction
        connections.local = replace(connections.local, introduction=_LyingIntroduction(honest, self))

    async def write(self, world: World) -> None:
        """Store versions that are well signed and ill meant, for others to fetch."""
        node, draw = self.member.node, self.draw
        author = draw.choice([node.id, node.records.shared or node.id])
        draft = Draft(context=MAIN, author=author, name=f"r{draw.randrange(30)}", body=draw.randbytes(10))
        now_ms = self.member.clock.now_ms() + draw.choice([0, 0, _NEXT_YEAR_MS])
        stamp = Timestamp(now_ms << 16 | draw.randrange(1 << 16))
        key, instance = node.records.identity.device, node.store.instance
        writer = writer_of(key.public, instance)
        vector: dict[Writer, int] = {writer: node.store.seen(key.public).get(instance, 0) + 1}
        for head in await node.records.heads(MAIN, author, draft.name):
            for each, counter in head.vector.items():
                vector[each] = max(counter, vector.get(each, 0))
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

    async def keep_lying(self, world: World) -> None:
        """Write, and pester listeners with connections that go nowhere, until cancelled."""
        while True:
            await asyncio.sleep(self.draw.expovariate(0.3))
            if not self.member.is_up:
                continue
            if self.draw.random() < 0.5:
                await self.write(world)
            else:
                victim = self.draw.choice([each for each in world.members.values() if each is not self.member])
                await self._pester(world, victim)

    async def _pester(self, world: World, victim: Member) -> None:
        try:
            stream = await world.network.dial(self.member.host)(victim.address)
            await stream.write(self.draw.choice([b"", b"ECHO", b"ECHO\x01", b"GET / HTTP/1.1\r\n\r\n"]))
            await stream.write(self.draw.randbytes(self.draw.randrange(200)))
        except TransportError:
            return
        if self.draw.random() < 0.5:
            stream.abort()  # else it is left to the victim's patience

    # -- bending messages --------------------------------------------------------------------------------------------

    def bend(self, message: Message) -> list[Message | bytes] | None:
        """What to send in place of `message`: messages, raw payloads; None: nothing more, ever."""
        draw = self.draw
        match draw.randrange(8):
            case 0:
                return None
            case 1:
                return []
            case 2:
                endless = _replaced(message, "more", True) if hasattr(message, "more") else message
                return [message, message] if draw.random() < 0.7 else [endless] * _ENDLESS
            case 3:
                return [draw.randbytes(draw.randrange(1, 100))]
            case 4:
                payload = bytearray(encode(message))
                payload[draw.randrange(len(payload))] ^= 1 << draw.randrange(8)
                return [bytes(payload)]
            case _:
                return [self.forge(message)]

    def forge(self, message: Message) -> Message:
        """`message` with one field that is not what it was."""
        names = [each.name for each in fields(message)]
        if not names:
            return message
        # What is said of records is what the others must see through, and few messages carry any.
        name = "records" if "records" in names and self.draw.random() < 0.6 else self.draw.choice(names)
        value = getattr(message, name)
        forged = self._bend_records(value) if name == "records" else self._bend_value(value)
        return _replaced(message, name, forged)

    def _bend_value(self, value: Any) -> Any:
        draw = self.draw
        match value:
            case bool():
                return not value
            case int():
                return draw.choice([0, 1, value + 1, max(0, value - 1), 2**32, 2**63, 2**64 - 1])
            case bytes() if value:
                at = draw.randrange(len(value))
                bent = value[:at] + bytes([value[at] ^ 1 << draw.randrange(8)]) + value[at + 1 :]
                return draw.choice([draw.randbytes(len(value)), bytes(len(value)), bent, value[:-1], value * 2])
            case str():
                return draw.choice(["main", "notes", "nowhere", value + "x"])
            case tuple() if value:
                at = draw.randrange(len(value))
                replaced = (*value[:at], self._bend_part(value[at]), *value[at + 1 :])
                return draw.choice([(), value[:at], value[::-1], value + value, replaced, replaced])
            case dict():
                return {}
        return value

    def _bend_part(self, part: Any) -> Any:
        if hasattr(part, "__dataclass_fields__"):
            name = self.draw.choice([each.name for each in fields(part)])
            return replace(part, **{name: self._bend_value(getattr(part, name))})
        return self._bend_value(part)

    def _bend_records(self, raws: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """A batch of versions, one of them not what an honest node would send."""
        draw = self.draw
        bent = list(raws)
        at = draw.randrange(len(bent) + 1)
        if bent and draw.random() < 0.3:
            raw = bytearray(bent[at - 1])
            raw[-1 - draw.randrange(64)] ^= 1 << draw.randrange(8)
            bent[at - 1] = bytes(raw)
        elif self._old and draw.random() < 0.5:
            bent.insert(at, draw.choice(self._old))
        else:
            bent.insert(at, self._unwanted().raw)
        return tuple(bent)

    def _unwanted(self) -> Record:
        """A well-signed version of a foreign context, by a key nobody stated, or that states nothing."""
        key, node = self._stranger, self.member.node
        context = self.draw.choice([MAIN, "elsewhere", IDENTITIES])
        signer = node.records.identity.device if context == "elsewhere" else key
        writer = writer_of(signer.public, node.store.instance)
        draft = Draft(context=context, author=node.id, name="forged", body=self.draw.randbytes(5))
        return sign(draft, signer, instance=node.store.instance, vector={writer: 1}, timestamp=Timestamp(1 << 40))

    def twins(self, message: Message, peer: bytes) -> Message:
        """`message` with its equivocations, for the half of the peers that hears the other story."""
        raws = getattr(message, "records", ())
        if not raws:
            return message
        self._old = [*self._old[-50:], *raws[:3]]
        if peer[0] & 1 or not any(raw in self._twins for raw in raws):
            return message
        return _replaced(message, "records", tuple(self._twins.get(raw, raw) for raw in raws))

    def bend_hello(self, hello: Hello) -> Hello:
        if self.draw.random() < 0.5:
            return hello
        contexts = tuple(self._bend_part(each) if self.draw.random() < 0.5 else each for each in hello.contexts)
        bent = replace(hello, contexts=contexts)
        if self.draw.random() < 0.3:
            victims = {bytes(hello.instance): 2**40, self.draw.randbytes(8): 7}
            bent = replace(bent, seen=dict(sorted(victims.items())))
        if self.draw.random() < 0.3:
            modes = self.draw.choice([hello.modes[:1], hello.modes[::-1], ("telepathy", *hello.modes)])
            bent = replace(bent, modes=modes)
        # Never under an honest node's name: whoever comes first under one has it, until a person decides.
        return replace(bent, name=self.draw.choice([hello.name, hello.name, f"{hello.name} the second"]))


def _replaced(message: Message, field: str, value: object) -> Message:
    """`message` with another value in `field`, whatever its kind and whatever the value."""
    return replace(message, **{field: value})  # type: ignore[arg-type]


class _LyingTransport(StreamTransport):
    """A session's transport that sends what the liar makes of it."""

    def __init__(self, inner: StreamTransport, liar: Adversary, peer: bytes) -> None:
        vars(self).update(vars(inner))
        self._liar = liar
        self._peer = peer
        self._rate = liar.draw.choice(_LIE_RATES)

    async def send(self, message: Message) -> None:
        if self._liar.draw.random() >= self._rate:
            await super().send(self._liar.twins(message, self._peer))
            return
        said = self._liar.bend(message)
        if said is None:
            await asyncio.sleep(_SILENCE_S)
            return
        for each in said:
            payload = each if isinstance(each, bytes) else self._encoded(each)
            if payload:
                await self.stream.write(self.channel.send(payload))

    def _encoded(self, message: Message) -> bytes:
        try:
            return encode(message)
        except (ValueError, TypeError, OverflowError):
            return b""  # not even it can write this down


class _LyingIntroduction:
    """Introduces the liar under its own name and key, with hellos that are bent."""

    def __init__(self, honest: Introduction, liar: Adversary) -> None:
        self._honest = honest
        self._liar = liar

    @property
    def device(self) -> SigningKey:
        return self._honest.device

    def statements(self) -> Sequence[Record]:
        return self._honest.statements()

    def make(self, peer: PublicKey, session: bytes) -> Hello:
        return self._liar.bend_hello(self._honest.make(peer, session))


class _LyingRunner:
    """Runs sessions and lies in them. A liar that trips over its own lies ends its session, and nothing else."""

    def __init__(self, honest: SessionRunner, liar: Adversary) -> None:
        self._honest = honest
        self._liar = liar

    async def lead(
        self, session: Session, log: SessionReport, direction: Direction = Direction.BOTH, *, may_link: bool = False
    ) -> Link | None:
        return await self._lie(session, lambda bent: self._honest.lead(bent, log, direction, may_link=may_link))

    async def serve(self, session: Session, log: SessionReport) -> Link | None:
        return await self._lie(session, lambda bent: self._honest.serve(bent, log))

    async def _lie(
        self, session: Session, work: Callable[[Session], Coroutine[Any, Any, Link | None]]
    ) -> Link | None:
        lying = _LyingTransport(session.transport, self._liar, session.peer.id)
        try:
            return await work(replace(session, transport=lying))
        except EchonodeError:
            raise
        except Exception as error:
            raise TransportError(f"the liar tripped over {type(error).__name__}") from None

