"""Targets behind keys. Inputs say how to alter honest bytes, because no fuzzer guesses an authentication tag.

    handshake   either role; an honest handshake altered by a mask, or any bytes: only the unaltered one makes a channel
    channel     frames sent, altered, cut and joined by a script: payloads arrive as sent, up to the first alteration
    auth        an AUTH, and the same offers signed by an attacker's key: no attacker proves another identity
    pairing     shares and confirmations: only the right code gets the secret, and each wrong one spends a try
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from hashlib import sha256
from random import Random
from typing import Final

from spake2.ed25519_basic import Q

from echonode import cbor
from echonode.digest import OFFERS, digest
from echonode.errors import ConfigError, Reason, RemoteError
from echonode.limits import AUTH_BYTES_MAX, INVITATION_TRIES
from echonode.model.identity import identity_of
from echonode.model.keys import KeyState
from echonode.model.record import Record
from echonode.wire import auth
from echonode.wire.channel import Channel, Handshake
from echonode.wire.codec import decode, encode
from echonode.wire.frame import PIECE_BYTES_MAX
from echonode.wire.messages import Auth, IdentityOffer
from echonode.wire.pairing import Invitation, PairingInitiator, PairingResponder, normalise_code
from tests.fuzz import mutate
from tests.fuzz.target import Reader, Target, chopped
from tests.store.people import Person
from tests.wire.ends import MEMBER_SECRET, channels, initiator, messages, responder

# -- handshake -------------------------------------------------------------------------------------------------------

_INITIATORS: Final = 1  # option: the initiator is under test
_MASKED: Final = 2  # option: the input is a mask over honest bytes

FIRST, SECOND, THIRD = messages()


def run_handshake(data: bytes) -> None:
    """Run on a byte of options, two bytes of chunk sizes, then a mask over the bytes to receive, or those bytes."""
    reader = Reader(data)
    options, sizes, rest = reader.number(), reader.take(2), reader.rest()
    ours = initiator() if options & _INITIATORS else responder()
    honest = SECOND if options & _INITIATORS else FIRST + THIRD
    heard = rest
    if options & _MASKED:
        mask = rest[: len(honest)].ljust(len(honest), b"\0")
        heard = bytes(a ^ b for a, b in zip(honest, mask, strict=True)) + rest[len(honest) :]
    channel, answered = _shake(ours, chopped(heard, sizes.strip(b"\0")))
    assert (channel is not None) == heard.startswith(honest), "only the honest handshake makes a channel"
    if not options & _INITIATORS:
        assert answered in (b"", SECOND)
        assert heard.startswith(FIRST) or not answered, "a stranger was answered"
        assert answered or not heard.startswith(FIRST) or _is_harmed(heard), "a member was not answered"


def _is_harmed(heard: bytes) -> bool:
    """Return True if a false third message came: an answer that was not sent is then taken back."""
    return len(heard) >= len(FIRST + THIRD) and not heard.startswith(FIRST + THIRD)


def _shake(side: Handshake, pieces: Iterable[bytes]) -> tuple[Channel | None, bytes]:
    """Return the channel, if one was made, and all bytes sent after the first message."""
    side.data_to_send()
    answered = b""
    waiting = list(pieces)
    while waiting and side.channel is None:
        try:
            side.receive_data(waiting.pop(0))
        except RemoteError as error:
            assert error.reason is Reason.PROTOCOL_ERROR
            assert side.data_to_send() == b"" and side.channel is None
            _stays_failed(side)
            return None, answered
        answered += side.data_to_send()
    if side.channel is not None:
        behind = b"".join(waiting)
        try:
            assert side.channel.receive_data(behind) == [], "bytes without the keys make no payload"
        except RemoteError as error:
            assert error.reason in (Reason.PROTOCOL_ERROR, Reason.TOO_LARGE)
    return side.channel, answered


def _stays_failed(side: Handshake) -> None:
    try:
        side.receive_data(b"")
    except RemoteError:
        return
    raise AssertionError("a handshake that failed goes on")


def _handshake_seeds() -> Iterator[bytes]:
    yield bytes([_MASKED, 0, 0])
    yield bytes([_MASKED | _INITIATORS, 0, 0])
    yield bytes([_MASKED, 1, 7]) + bytes(len(FIRST + THIRD)) + b"\0\0\0\x05hello"
    yield bytes([_MASKED | _INITIATORS, 5, 0]) + bytes(len(SECOND)) + b"\0\0\x10\x01"
    yield bytes([0, 0, 0]) + FIRST + THIRD
    yield bytes([0, 53, 64]) + FIRST + SECOND
    yield bytes([_INITIATORS, 0, 0]) + SECOND


# -- channel ---------------------------------------------------------------------------------------------------------


def run_channel(data: bytes) -> None:
    """Run on a script of operations: a byte each, and their arguments. Payloads are made from running numbers."""
    reader = Reader(data)
    flags = reader.number()
    sender, receiver = channels() if flags & 1 else channels()[::-1]
    sizes = reader.take(2).strip(b"\0") if flags & 2 else b""
    sent: list[bytes] = []
    stream, is_harmed = b"", False
    got: list[bytes] = []
    for number in range(32):
        if not reader:
            break
        match reader.number() % 8:
            case 0 | 1 | 2:
                sent.append(bytes([number]) * (1 + reader.number()))
                stream += sender.send(sent[-1])
            case 3:
                size = min(1 + 2 * reader.number(2), PIECE_BYTES_MAX + 4096 if sent else AUTH_BYTES_MAX)
                sent.append(bytes([number]) * size)
                stream += sender.send(sent[-1])
            case 4 if stream:
                at, bit = reader.number(2) % len(stream), reader.number() % 8
                stream = stream[:at] + bytes([stream[at] ^ 1 << bit]) + stream[at + 1 :]
                is_harmed = True
            case 5:
                at, more = reader.number(2) % (len(stream) + 1), reader.take(1 + reader.number() % 16)
                stream, is_harmed = stream[:at] + more + stream[at:], is_harmed or bool(more)
            case 6 if stream:
                at = reader.number(2) % len(stream)
                stream, is_harmed = stream[:at] + stream[at + 1 + reader.number() :], True
            case _:
                if not _deliver(receiver, stream, sizes, got, is_harmed):
                    break
                stream = b""
    else:
        reader.rest()
    _deliver(receiver, stream, sizes, got, is_harmed)
    assert got == sent[: len(got)], "payloads arrive as sent, in order"
    assert is_harmed or (got == sent and not receiver.has_partial_frame)
    reply = receiver.send(b"still here")
    assert sender.receive_data(reply) == [b"still here"], "harm in one direction does not touch the other"


def _deliver(receiver: Channel, stream: bytes, sizes: bytes, got: list[bytes], is_harmed: bool) -> bool:
    """Deliver `stream` in pieces. Return False once the receiver refuses; it must then refuse for ever."""
    for piece in chopped(stream, sizes):
        try:
            got += receiver.receive_data(piece)
        except RemoteError as error:
            assert is_harmed and error.reason in (Reason.PROTOCOL_ERROR, Reason.TOO_LARGE)
            try:
                receiver.receive_data(b"")
            except RemoteError:
                return False
            raise AssertionError("a channel that failed goes on") from None
    return True


def _channel_seeds() -> Iterator[bytes]:
    yield bytes([1, 0, 10, 0, 255, 7, 3, 0, 200, 7])
    yield bytes([2, 1, 9, 0, 10, 1, 30, 7, 2, 0])
    yield bytes([0, 0, 4, 3, 255, 255, 0, 0, 7])
    yield bytes([1, 0, 4, 0, 4, 4, 0, 1, 0, 7, 0, 1])
    yield bytes([1, 0, 4, 5, 0, 3, 1, 9, 9, 7, 6, 0, 0, 2])


# -- auth ------------------------------------------------------------------------------------------------------------

ALICE, MALLORY, POOL = Person(1), Person(2), Person(3)
_STATEMENTS: Final = (ALICE.statement(), POOL.statement(key=ALICE.device.public))
_OTHERS: Final = (
    MALLORY.statement(),
    MALLORY.statement(KeyState.RETIRED),
    MALLORY.statement(key=ALICE.device.public),
    MALLORY.version("name"),
    POOL.statement(key=MALLORY.device.public),
)


@cache
def _ends() -> tuple[Channel, Channel]:
    return channels()


@cache
def _honest(is_initiator: bool) -> bytes:
    return encode(auth.offer(_ends()[0 if is_initiator else 1], ALICE.device, _STATEMENTS))


def run_auth(data: bytes) -> None:
    """Run on a byte that chooses the checking side, then the payload."""
    is_initiators, payload = bool(data[:1] < b"\x80"), data[1:]
    checker = _ends()[1 if is_initiators else 0]
    try:
        message = decode(payload)
    except RemoteError:
        return
    if not isinstance(message, Auth):
        return
    if _is_proved(checker, message):
        assert payload == _honest(is_initiators), "only Alice can prove to be Alice"
    forged = _signed_by_mallory(checker, message, is_initiators)
    is_proved = _is_proved(checker, forged)
    honest = [(MALLORY.id, _OTHERS[0].raw)]
    assert is_proved or [(offer.identity, offer.statement) for offer in forged.offers] != honest, "Mallory is refused"
    if is_proved:
        for offer in forged.offers:
            assert offer.key == MALLORY.device.public
            assert offer.identity in (MALLORY.id, POOL.id), "Mallory proved another identity"


def _is_proved(checker: Channel, message: Auth) -> bool:
    try:
        peer = auth.check(checker, message)
    except RemoteError as error:
        assert error.reason in (Reason.IDENTITY_CHANGED, Reason.BAD_RECORD, Reason.PROTOCOL_ERROR)
        return False
    assert peer.id == message.offers[0].identity and peer.key == message.offers[0].key
    assert all(identity_of(statement.kid) == statement.author for statement in peer.statements)
    return True


def _signed_by_mallory(checker: Channel, message: Auth, is_initiators: bool) -> Auth:
    """Return the same offers for Mallory's key, signed with it for this channel (PROTOCOL.md §5.2)."""
    key = MALLORY.device
    offers = [replace(offer, key=key.public) for offer in message.offers]
    listed = digest(OFFERS, cbor.encode([[offer.identity, offer.key] for offer in offers]))
    static, role = checker.remote_static, 0 if is_initiators else 1
    signed = cbor.encode(["echonode auth 1", role, checker.handshake_hash, static, offers[0].identity, listed])
    return Auth(tuple(replace(offer, signature=key.sign(signed)) for offer in offers))


def _auth_of(*statements: Record) -> bytes:
    return encode(Auth(tuple(IdentityOffer(s.author, MALLORY.device.public, s.raw, bytes(64)) for s in statements)))


@cache
def _auth_payloads() -> tuple[bytes, ...]:
    pairs = [(other, third) for other in _OTHERS for third in (*_OTHERS, *_STATEMENTS)]
    return (_honest(True), _honest(False), *map(_auth_of, (*_OTHERS, *_STATEMENTS)), *(_auth_of(*two) for two in pairs))


def _mutate_auth(data: bytes, rng: Random) -> bytes:
    side = rng.choice((data[:1] or b"\0", b"\0", b"\xff"))
    return side + mutate.with_samples(data[1:], rng, _auth_payloads)


# -- pairing ---------------------------------------------------------------------------------------------------------

CODE: Final = normalise_code("7-crossover-clockwork")
_HASH: Final = sha256(b"handshake").digest()


def _joiner() -> PairingInitiator:
    return PairingInitiator(CODE, handshake_hash=_HASH, entropy_f=Random(1).randbytes)


def _inviter(invitation: Invitation) -> PairingResponder:
    return PairingResponder(
        invitation, secret=MEMBER_SECRET, handshake_hash=_HASH, entropy_f=Random(2).randbytes
    )


@cache
def _honest_exchange() -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """Return (start, answer, joiner's confirmation, inviter's confirmation, sealed secret) of an honest exchange."""
    joiner, inviter = _joiner(), _inviter(Invitation(CODE, 600.0))
    start = joiner.start()
    answer = inviter.answer(start)
    confirmation = joiner.confirm(answer)
    return start, answer, confirmation, *inviter.finish(confirmation, now_s=0.0)


def run_pairing(data: bytes) -> None:
    """Run on a byte that chooses the side, the length of the share, a share, a confirmation, a sealed secret."""
    reader = Reader(data)
    side, size = reader.number() % 3, reader.number()
    if side == 2:
        _check_typed_code(reader.rest())
        return
    share, confirmation, sealed = reader.take(size), reader.take(32), reader.rest()
    start, answer, right, theirs, key = _honest_exchange()
    if side == 0:
        invitation = Invitation(CODE, 600.0)
        inviter = _inviter(invitation)
        try:
            assert inviter.answer(share) == answer
            inviter.finish(confirmation, now_s=0.0)
        except RemoteError as error:
            assert error.reason is Reason.PAIRING_FAILED and invitation.uses_left == 1
            assert (share, confirmation) != (start, right)
            assert invitation.tries_left in (INVITATION_TRIES, INVITATION_TRIES - 1)
            return
        assert (share, confirmation) == (start, right), "a secret without the code"
        assert invitation.uses_left == 0
        return
    joiner = _joiner()
    assert joiner.start() == start
    try:
        joiner.confirm(share)
        got = joiner.accept(confirmation, sealed)
    except RemoteError as error:
        assert error.reason is Reason.PAIRING_FAILED and (share, confirmation, sealed) != (answer, theirs, key)
        return
    assert (share, confirmation, sealed, got) == (answer, theirs, key, (MEMBER_SECRET, None))


def _check_typed_code(text: bytes) -> None:
    """Normalise text that a person may type for a code."""
    try:
        code = normalise_code(text.decode("utf-8", "replace"))
    except ConfigError:
        return
    assert normalise_code(code) == code


def _pairing_seeds() -> Iterator[bytes]:
    start, answer, right, theirs, key = _honest_exchange()
    yield bytes([0, 33]) + start + right
    yield bytes([1, 33]) + answer + theirs + key
    yield bytes([0, 34]) + start + b"\0" + right
    yield bytes([1, 34]) + answer + b"\0" + theirs + key
    for y in (0, 1, Q - 1, Q, Q + 1, 2**255 - 1):  # points of small order, and other encodings of them
        yield bytes([0, 33]) + b"A" + y.to_bytes(32, "little") + right
        yield bytes([1, 33]) + b"B" + y.to_bytes(32, "little") + theirs + key
    yield bytes([0, 33]) + answer + right
    yield bytes([1, 33]) + start + theirs + key
    yield b"\x02\0" + b" 07 Crossover_clockwork"


TARGETS: Final = (
    Target("handshake", run_handshake, lambda: list(_handshake_seeds()), mutate.of_bytes, 512),
    Target("channel", run_channel, lambda: list(_channel_seeds()), mutate.of_bytes, 256),
    Target(
        "auth",
        run_auth,
        lambda: [side + payload for side in (b"\0", b"\xff") for payload in _auth_payloads()],
        _mutate_auth,
    ),
    Target("pairing", run_pairing, lambda: list(_pairing_seeds()), mutate.of_bytes, 256),
)
