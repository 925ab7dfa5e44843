"""Frames between two real channels: cut anywhere, at every limit, and altered in every way."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from noise.connection import Keypair, NoiseConnection

from echonode.errors import LocalError, Reason, RemoteError
from echonode.limits import AUTH_BYTES_MAX, FRAME_BYTES_MAX, REKEY_MESSAGES
from echonode.wire.channel import Channel
from echonode.wire.frame import PIECE_BYTES_MAX
from tests.wire.ends import SECRET, channels, initiator, key, past_auth

sizes = st.sampled_from(
    [1, 2, 3, 4, 5, 300, PIECE_BYTES_MAX - 1, PIECE_BYTES_MAX, PIECE_BYTES_MAX + 1, 2 * PIECE_BYTES_MAX, 200_000]
)


@settings(max_examples=60)
@given(st.lists(sizes, min_size=1, max_size=5), st.lists(st.floats(0, 1), max_size=12), st.booleans())
def test_any_chopping_gives_the_same_payloads(lengths: list[int], cuts: list[float], by_initiator: bool) -> None:
    sender, receiver = past_auth() if by_initiator else past_auth()[::-1]
    payloads = [bytes([number + 1]) * length for number, length in enumerate(lengths)]
    stream = b"".join(sender.send(payload) for payload in payloads)
    edges = sorted({0, len(stream), *(int(cut * len(stream)) for cut in cuts)})
    got: list[bytes] = []
    for start, end in pairwise(edges):
        got += receiver.receive_data(stream[start:end])
        assert receiver.has_partial_frame == (end not in boundaries(payloads))
    assert got == payloads
    assert receiver.receive_data(b"") == []


def boundaries(payloads: list[bytes]) -> set[int]:
    """Return the end of each frame of `payloads`: 4 bytes, the payload, and 16 bytes for each piece."""
    ends, at = {0}, 0
    for payload in payloads:
        at += 4 + len(payload) + 16 * -(-len(payload) // 65_519)
        ends.add(at)
    return ends


def test_one_byte_at_a_time_gives_the_same_payloads() -> None:
    sender, receiver = past_auth()
    stream = sender.send(b"first") + sender.send(b"second" * 50)
    got = [payload for byte in stream for payload in receiver.receive_data(bytes([byte]))]
    assert got == [b"first", b"second" * 50]


def test_the_largest_payload_passes_and_a_larger_one_cannot_be_built() -> None:
    sender, receiver = past_auth()
    payload = bytes(range(256)) * (FRAME_BYTES_MAX // 256)
    frame = sender.send(payload)
    assert len(frame) == 4 + FRAME_BYTES_MAX + 17 * 16
    assert receiver.receive_data(frame) == [payload]
    for size in (0, FRAME_BYTES_MAX + 1):
        with pytest.raises(LocalError, match="payload"):
            sender.send(bytes(size))


def test_a_frame_is_the_length_in_clear_and_pieces_with_a_tag_each() -> None:
    sender, _ = past_auth()
    assert sender.send(b"x")[:4] == b"\0\0\0\x01"
    assert len(sender.send(b"x")) == 4 + 1 + 16
    assert len(sender.send(bytes(65_519))) == 4 + 65_535
    assert len(sender.send(bytes(65_520))) == 4 + 65_535 + 17


@pytest.mark.parametrize("length", [0, FRAME_BYTES_MAX + 1, 2**32 - 1])
def test_a_length_out_of_bounds_is_refused_before_any_payload_comes(length: int) -> None:
    _, receiver = past_auth()
    header = length.to_bytes(4, "big")
    assert receiver.receive_data(header[:3]) == []
    with pytest.raises(RemoteError) as caught:
        receiver.receive_data(header[3:])
    assert caught.value.reason is Reason.TOO_LARGE


def test_the_first_payload_is_no_larger_than_auth_whatever_the_limit_says() -> None:
    sender, receiver = channels()
    with pytest.raises(RemoteError) as caught:
        receiver.receive_data(sender.send(bytes(AUTH_BYTES_MAX + 1))[:4])
    assert caught.value.reason is Reason.TOO_LARGE
    sender, receiver = channels()
    assert receiver.receive_data(sender.send(bytes(AUTH_BYTES_MAX))) == [bytes(AUTH_BYTES_MAX)]


def test_a_large_payload_right_behind_auth_in_the_same_bytes_is_welcome() -> None:
    sender, receiver = channels()
    stream = sender.send(b"auth") + sender.send(bytes(60_000))
    assert receiver.receive_data(stream) == [b"auth", bytes(60_000)]


def test_the_limit_of_later_payloads_can_be_set_at_any_time() -> None:
    sender, receiver = channels()
    assert receiver.receive_bytes_max == FRAME_BYTES_MAX
    receiver.receive_bytes_max = 100
    assert receiver.receive_data(sender.send(bytes(100)) + sender.send(bytes(100))) == [bytes(100)] * 2
    with pytest.raises(RemoteError) as caught:
        receiver.receive_data(sender.send(bytes(101)))
    assert caught.value.reason is Reason.TOO_LARGE
    sender, receiver = channels()
    receiver.receive_bytes_max = 100
    with pytest.raises(RemoteError):
        receiver.receive_data(sender.send(bytes(101)))


def test_no_flipped_bit_of_a_frame_goes_unnoticed() -> None:
    bits = 8 * len(past_auth()[0].send(b"text"))
    for bit in range(bits):
        sender, receiver = past_auth()
        frame = bytearray(sender.send(b"text"))
        frame[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RemoteError):
            # A longer length makes the reader wait. The first piece then fails: its tag covers the length.
            receiver.receive_data(bytes(frame) + bytes(FRAME_BYTES_MAX))


@settings(max_examples=60)
@given(st.lists(sizes, min_size=1, max_size=4), st.floats(0, 1), st.binary(max_size=40), st.integers(0, 40))
def test_of_an_altered_stream_nothing_is_taken_but_what_came_before(
    lengths: list[int], where: float, put_in: bytes, left_out: int
) -> None:
    sender, receiver = past_auth()
    payloads = [bytes([number + 1]) * length for number, length in enumerate(lengths)]
    stream = b"".join(sender.send(payload) for payload in payloads)
    at = int(where * len(stream))
    altered = stream[:at] + put_in + stream[at + left_out :]
    got: list[bytes] = []
    is_refused = False
    for start in range(0, len(altered), 60_000):
        try:
            got += receiver.receive_data(altered[start : start + 60_000])
        except RemoteError as error:
            assert error.reason in (Reason.PROTOCOL_ERROR, Reason.TOO_LARGE)
            is_refused = True
            break
    assert got == payloads[: len(got)]
    assert (got == payloads and not is_refused and not receiver.has_partial_frame) == (altered == stream)


@pytest.mark.parametrize("length", [4, 6])
def test_the_length_is_covered_by_the_first_tag_even_where_the_bytes_would_fit(length: int) -> None:
    sender, receiver = past_auth()
    frame = sender.send(b"12345")
    altered = length.to_bytes(4, "big") + frame[4 : 4 + length + 16].ljust(length + 16, b"\0")
    with pytest.raises(RemoteError, match="authenticate"):
        receiver.receive_data(altered)


def test_frames_replayed_reordered_left_out_or_reflected_are_refused() -> None:
    def refuse(receiver: Channel, stream: bytes) -> None:
        with pytest.raises(RemoteError, match="authenticate"):
            receiver.receive_data(stream)

    sender, receiver = past_auth()
    frame = sender.send(b"once")
    refuse(receiver, frame + frame)
    sender, receiver = past_auth()
    frames = sender.send(b"1"), sender.send(b"2")
    refuse(receiver, frames[1] + frames[0])
    sender, receiver = past_auth()
    frames = sender.send(b"1"), sender.send(b"2")
    refuse(receiver, frames[1])
    sender, receiver = past_auth()
    refuse(sender, sender.send(b"mine"))


def test_pieces_of_one_payload_cannot_change_places() -> None:
    sender, receiver = past_auth()
    frame = sender.send(bytes(3 * PIECE_BYTES_MAX))
    one, two, three = (frame[4 + start : 4 + start + 65_535] for start in (0, 65_535, 131_070))
    with pytest.raises(RemoteError, match="authenticate"):
        receiver.receive_data(frame[:4] + one + three + two)


@pytest.mark.parametrize("prefix", [b"", b"begun"])
def test_after_a_failure_even_honest_frames_are_refused(prefix: bytes) -> None:
    sender, receiver = past_auth()
    frame = bytearray(sender.send(b"text"))
    frame[-1] ^= 1
    assert receiver.receive_data(bytes(frame[: len(prefix)])) == []
    with pytest.raises(RemoteError) as first:
        receiver.receive_data(bytes(frame[len(prefix) :]))
    with pytest.raises(RemoteError) as second:
        receiver.receive_data(b"")
    assert second.value.reason is first.value.reason
    assert sender.receive_data(receiver.send(b"close")) == [b"close"]


def test_a_truncated_stream_is_a_partial_frame_and_never_a_payload() -> None:
    sender, _ = past_auth()
    frame = sender.send(b"text")
    for size in range(1, len(frame)):
        sender, receiver = past_auth()
        assert receiver.receive_data(sender.send(b"text")[:size]) == []
        assert receiver.has_partial_frame
    assert not past_auth()[1].has_partial_frame


def test_both_ends_count_the_bytes_on_the_wire() -> None:
    sender, receiver = channels()
    stream = sender.send(b"auth") + sender.send(bytes(100_000))
    receiver.receive_data(stream[:50])
    receiver.receive_data(stream[50:])
    assert sender.bytes_sent == receiver.bytes_received == len(stream)
    assert sender.bytes_received == receiver.bytes_sent == 0


def test_both_directions_go_on_past_the_rekeying() -> None:
    ours, theirs = channels()
    for number in range(REKEY_MESSAGES + 16):
        payload = number.to_bytes(4, "big")
        assert theirs.receive_data(ours.send(payload)) == [payload]
        assert ours.receive_data(theirs.send(payload)) == [payload]


@pytest.mark.filterwarnings("ignore:One of ephemeral keypairs is already set")
def test_another_library_that_rekeys_after_exactly_2_to_the_14_messages_reads_every_piece() -> None:
    judge = NoiseConnection.from_name(b"Noise_XXpsk3_25519_ChaChaPoly_SHA256")
    judge.set_psks(SECRET.psk)
    judge.set_prologue(b"echonode channel" + b"ECHO\x01" + SECRET.netid)
    judge.set_keypair_from_private_bytes(Keypair.STATIC, key("judge"))
    judge.set_as_responder()
    judge.start_handshake()
    ours = initiator()
    judge.read_message(ours.data_to_send()[5:])
    ours.receive_data(bytes(judge.write_message()))
    judge.read_message(ours.data_to_send())
    channel = ours.channel
    assert channel is not None
    assert channel.handshake_hash == judge.get_handshake_hash()
    cipher = judge.noise_protocol.cipher_state_decrypt
    channel.send(b"skipped so that a payload of two pieces lies across the boundary")
    cipher.n += 1
    read = 1
    while read < 2**14 + 16:
        payload = bytes(PIECE_BYTES_MAX + 1) if read == 2**14 - 1 else read.to_bytes(4, "big")
        frame = channel.send(payload)
        header, pieces, opened = frame[:4], frame[4:], b""
        while pieces:
            opened += cipher.decrypt_with_ad(header if not opened else b"", pieces[:65_535])
            pieces = pieces[65_535:]
            read += 1
            if read % 2**14 == 0:
                cipher.rekey()
        assert opened == payload
