"""The handshake between two real ends: members get a channel, others get silence, and tampering gets nowhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echonode.errors import LocalError, Reason, RemoteError
from echonode.wire.channel import PREAMBLE, PROTOCOL_NAME, Handshake, NetworkSecret
from echonode.wire.noise import HandshakeState, KeyPair
from tests.wire.ends import OTHER, SECRET, channels, initiator, key, messages, responder


def assert_silent_failure(handshake: Handshake, data: bytes) -> None:
    """Assert that `data` ends the handshake with its one error, again on each later call, and that nothing is sent."""
    for again in (data, b""):
        with pytest.raises(RemoteError) as caught:
            handshake.receive_data(again)
        assert caught.value.reason is Reason.PROTOCOL_ERROR
        assert caught.value.detail == "the handshake failed: not of our network, or altered on the way"
        assert handshake.data_to_send() == b""
        assert handshake.channel is None


def test_two_ends_of_one_network_come_to_share_a_channel() -> None:
    ours, theirs = channels()
    assert ours.is_initiator and not theirs.is_initiator
    assert ours.handshake_hash == theirs.handshake_hash and len(ours.handshake_hash) == 32
    assert ours.own_static == theirs.remote_static == KeyPair.of(key(" is")).public
    assert theirs.own_static == ours.remote_static == KeyPair.of(key(" rs")).public
    assert ours.secret == theirs.secret == SECRET
    assert theirs.receive_data(ours.send(b"ping")) == [b"ping"]
    assert ours.receive_data(theirs.send(b"pong")) == [b"pong"]


def test_the_messages_have_their_fixed_sizes_and_only_the_preamble_is_in_clear() -> None:
    first, second, third = messages()
    assert [len(first), len(second), len(third)] == [5 + 48, 96, 64]
    assert first[:5] == b"ECHO\x01"
    stream = first + second + third
    for hidden in (SECRET.netid, SECRET.psk, KeyPair.of(key(" is")).public, KeyPair.of(key(" rs")).public):
        assert hidden not in stream


def test_no_two_connections_share_a_handshake_hash() -> None:
    assert channels(seed="a")[0].handshake_hash != channels(seed="b")[0].handshake_hash


@given(st.lists(st.integers(1, 60), min_size=1, max_size=20))
def test_any_chopping_leads_to_the_same_channel(sizes: list[int]) -> None:
    ours, theirs = initiator(), responder()
    turn = 0
    pipes = [(ours, theirs), (theirs, ours), (ours, theirs)]
    for sender, receiver in pipes:
        data = sender.data_to_send()
        while data:
            size = sizes[turn % len(sizes)]
            turn += 1
            receiver.receive_data(data[:size])
            data = data[size:]
    assert ours.channel is not None and theirs.channel is not None
    assert theirs.channel.receive_data(ours.channel.send(b"hello")) == [b"hello"]


def test_bytes_behind_the_handshake_wait_in_the_channel() -> None:
    ours, theirs = initiator(), responder()
    theirs.receive_data(ours.data_to_send())
    ours.receive_data(theirs.data_to_send())
    assert ours.channel is not None
    frame = ours.channel.send(b"auth")
    theirs.receive_data(ours.data_to_send() + frame + b"\0")
    assert theirs.channel is not None
    assert theirs.channel.has_partial_frame
    assert theirs.channel.receive_data(b"") == [b"auth"]
    assert theirs.channel.bytes_received == len(frame) + 1
    with pytest.raises(LocalError, match="channel's"):
        theirs.receive_data(b"more")


def test_a_responder_recognises_each_network_it_takes_part_in() -> None:
    public = NetworkSecret.public()
    for secret in (SECRET, OTHER, public):
        ours, theirs = initiator(secret), responder(SECRET, OTHER, public)
        theirs.receive_data(ours.data_to_send())
        ours.receive_data(theirs.data_to_send())
        theirs.receive_data(ours.data_to_send())
        assert theirs.channel is not None and ours.channel is not None
        assert theirs.channel.secret == ours.channel.secret == secret


def test_a_responder_of_other_networks_answers_nothing() -> None:
    for secret in (SECRET, NetworkSecret.public()):
        assert_silent_failure(responder(OTHER), initiator(secret).data_to_send())
    assert_silent_failure(Handshake.responder((), static=key("s"), ephemeral=key("e")), initiator().data_to_send())


def test_no_flipped_bit_of_the_handshake_leads_to_a_channel() -> None:
    first, second, third = messages()
    for bit in range(8 * len(first)):
        assert_silent_failure(responder(), flipped(first, bit))
    for bit in range(8 * len(second)):
        ours = initiator()
        assert ours.data_to_send() == first
        assert_silent_failure(ours, flipped(second, bit))
    for bit in range(8 * len(third)):
        theirs = responder()
        theirs.receive_data(first)
        assert theirs.data_to_send() == second
        assert_silent_failure(theirs, flipped(third, bit))


def flipped(data: bytes, bit: int) -> bytes:
    altered = bytearray(data)
    altered[bit // 8] ^= 1 << bit % 8
    return bytes(altered)


def test_a_handshake_cut_anywhere_just_waits() -> None:
    first, second, third = messages()
    for size in range(len(first)):
        theirs = responder()
        theirs.receive_data(first[:size])
        assert theirs.data_to_send() == b"" and theirs.channel is None
    for size in range(len(second)):
        ours = initiator()
        assert ours.data_to_send() == first
        ours.receive_data(second[:size])
        assert ours.data_to_send() == b"" and ours.channel is None
    for size in range(len(third)):
        theirs = responder()
        theirs.receive_data(first + third[:size])
        assert theirs.data_to_send() == second and theirs.channel is None


def test_a_handshake_message_of_no_other_length_leads_to_a_session() -> None:
    """Each message is cut by any number of bytes, or lengthened by up to a message; the honest rest follows it."""
    first, second, third = messages()
    ours, theirs = channels()
    frames = ours.send(b"auth") + ours.send(b"more"), theirs.send(b"auth") + theirs.send(b"more")
    for size in range(1, 97):
        more = bytes(size)
        for heard in (first[:-size] + third + frames[0], first + more + third + frames[0]):
            assert_no_session(responder(), heard)
        for heard in (first + third[:-size] + frames[0], first + third + more + frames[0]):
            assert_no_session(responder(), heard)
        for heard in (second[:-size] + frames[1], second + more + frames[1]):
            assert_no_session(initiator(), heard)


def assert_no_session(handshake: Handshake, heard: bytes) -> None:
    """Assert that no bytes behind an altered handshake become a payload."""
    handshake.data_to_send()
    try:
        handshake.receive_data(heard)
        channel = handshake.channel
        if channel is not None:  # the inserted bytes are in the place of the first frame
            assert channel.receive_data(b"") == []
    except RemoteError as error:
        assert error.reason in (Reason.PROTOCOL_ERROR, Reason.TOO_LARGE)


@given(st.binary(max_size=300))
def test_whatever_else_a_stranger_sends_is_met_with_silence(data: bytes) -> None:
    for greeting in (b"", PREAMBLE):
        theirs = responder()
        if len(greeting + data) < 53:
            theirs.receive_data(greeting + data)
            assert theirs.data_to_send() == b""
        else:
            assert_silent_failure(theirs, greeting + data)


def test_a_failed_third_message_takes_back_an_answer_not_yet_sent() -> None:
    first, _, third = messages()
    assert_silent_failure(responder(), first + flipped(third, 0))


def test_messages_of_one_handshake_do_not_fit_another() -> None:
    first, _, third = messages()
    theirs = responder(seed="another start")
    theirs.receive_data(first)
    assert theirs.data_to_send() != b""
    assert_silent_failure(theirs, third)
    ours = initiator(seed="another start")
    ours.data_to_send()
    assert_silent_failure(ours, messages()[1])


def test_an_initiator_that_gets_its_own_bytes_back_gives_up() -> None:
    ours = initiator()
    assert_silent_failure(ours, ours.data_to_send() * 2)


def test_who_knows_the_netid_but_not_the_psk_gets_no_channel() -> None:
    impostor = NetworkSecret(psk=bytes(32), netid=SECRET.netid)
    ours, theirs = initiator(impostor), responder()
    theirs.receive_data(ours.data_to_send())
    ours.receive_data(theirs.data_to_send())
    assert_silent_failure(theirs, ours.data_to_send())
    ours, theirs = initiator(), responder(impostor)
    theirs.receive_data(ours.data_to_send())
    ours.receive_data(theirs.data_to_send())
    assert_silent_failure(theirs, ours.data_to_send())


def test_another_magic_version_or_domain_is_refused_even_by_who_knows_the_network() -> None:
    for greeting, prologue in (
        (b"ECHP\x01", b"echonode channel" + b"ECHP\x01"),
        (b"ECHO\x02", b"echonode channel" + b"ECHO\x02"),
        (b"ECHO\x01", b"echonode channel" + b"ECHO\x02"),
        (b"ECHO\x01", b"ECHO\x01"),
    ):
        assert_silent_failure(responder(), greeting + forged(prologue + SECRET.netid, KeyPair.of(key("e"))))
    theirs = responder()
    theirs.receive_data(PREAMBLE + forged(b"echonode channel" + PREAMBLE + SECRET.netid, KeyPair.of(key("e"))))
    assert len(theirs.data_to_send()) == 96


def test_a_member_with_an_ephemeral_key_of_small_order_gets_no_answer() -> None:
    message = forged(b"echonode channel" + PREAMBLE + SECRET.netid, KeyPair(key("e"), bytes(32)))
    assert_silent_failure(responder(), PREAMBLE + message)


def forged(prologue: bytes, ephemeral: KeyPair) -> bytes:
    return HandshakeState(
        PROTOCOL_NAME, initiator=True, prologue=prologue, s=KeyPair.of(key("s")), e=ephemeral, psk=SECRET.psk
    ).write_message(b"")


def test_networks_differ_in_both_halves_of_their_secret_and_show_neither() -> None:
    secrets = [SECRET, OTHER, NetworkSecret.public()]
    assert len({value for secret in secrets for value in (secret.psk, secret.netid)}) == 6
    assert NetworkSecret.public() == NetworkSecret.public()
    assert repr(SECRET) == "NetworkSecret()"


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_network_key_is_32_bytes(size: int) -> None:
    with pytest.raises(LocalError, match="32 bytes"):
        NetworkSecret.private(bytes(size))
