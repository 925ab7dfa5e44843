"""Noise against the published vectors, against another library, and against hostile messages."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_aead_chacha20poly1305_ietf_encrypt
from noise.connection import Keypair, NoiseConnection

from echonode.errors import LocalError, Reason, RemoteError
from echonode.wire.noise import NONCE_MAX, CipherState, HandshakeState, KeyPair

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "vectors" / "noise.json").read_text())[
    "vectors"
]
XX_PSK3 = "Noise_XXpsk3_25519_ChaChaPoly_SHA256"
PSK = bytes(range(32))

# Every encoding of a point of small order, for which X25519 gives zero (RFC 7748 §6.1), on the twist too.
SMALL_ORDER = [
    bytes.fromhex(point)
    for point in (
        "00" * 32,
        "01" + "00" * 31,
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
]


def vector_side(vector: dict[str, Any], role: str) -> HandshakeState:
    def maybe(name: str) -> bytes | None:
        return bytes.fromhex(vector[f"{role}_{name}"]) if f"{role}_{name}" in vector else None

    static, psks = maybe("static"), vector.get(f"{role}_psks")
    return HandshakeState(
        vector["protocol_name"],
        initiator=role == "init",
        prologue=bytes.fromhex(vector[f"{role}_prologue"]),
        e=KeyPair.of(bytes.fromhex(vector[f"{role}_ephemeral"])),
        s=None if static is None else KeyPair.of(static),
        rs=maybe("remote_static"),
        psk=bytes.fromhex(psks[0]) if psks else None,
    )


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['protocol_name']} {len(vector['messages'])}")
def test_every_published_vector_comes_out_byte_for_byte_on_both_sides(vector: dict[str, Any]) -> None:
    writer, reader = vector_side(vector, "init"), vector_side(vector, "resp")
    initiator, responder = writer, reader
    rounds = 3 if "XX" in vector["protocol_name"] else 2
    said = [(bytes.fromhex(item["payload"]), bytes.fromhex(item["ciphertext"])) for item in vector["messages"]]
    for payload, ciphertext in said[:rounds]:
        assert writer.write_message(payload) == ciphertext
        assert reader.read_message(ciphertext) == payload
        writer, reader = reader, writer
    assert initiator.handshake_hash == responder.handshake_hash
    if "handshake_hash" in vector:
        assert initiator.handshake_hash.hex() == vector["handshake_hash"]
    sending, receiving = initiator.split(), responder.split()
    for number, (payload, ciphertext) in enumerate(said[rounds:], rounds):
        assert sending[number % 2].encrypt_with_ad(b"", payload) == ciphertext
        assert receiving[number % 2].decrypt_with_ad(b"", ciphertext) == payload


def test_the_vectors_are_all_there() -> None:
    assert len(VECTORS) == 27
    assert {name.split("_")[1] for name in (vector["protocol_name"] for vector in VECTORS)} == {
        "NN",
        "KK",
        "IK",
        "XX",
        "XXpsk3",
    }


def judge(*, initiator: bool, static: bytes, ephemeral: bytes, psk: bytes, prologue: bytes) -> NoiseConnection:
    connection = NoiseConnection.from_name(XX_PSK3.encode())
    connection.set_psks(psk)
    connection.set_prologue(prologue)
    connection.set_keypair_from_private_bytes(Keypair.STATIC, static)
    connection.set_keypair_from_private_bytes(Keypair.EPHEMERAL, ephemeral)
    (connection.set_as_initiator if initiator else connection.set_as_responder)()
    connection.start_handshake()
    return connection


secret_keys = st.binary(min_size=32, max_size=32)


@pytest.mark.filterwarnings("ignore:One of ephemeral keypairs is already set")
@given(
    st.booleans(),
    secret_keys,
    secret_keys,
    secret_keys,
    secret_keys,
    secret_keys,
    st.binary(max_size=80),
    st.lists(st.binary(max_size=200), min_size=3, max_size=3),
)
def test_another_library_agrees_in_either_role(
    ours_initiates: bool,
    our_static: bytes,
    our_ephemeral: bytes,
    their_static: bytes,
    their_ephemeral: bytes,
    psk: bytes,
    prologue: bytes,
    payloads: list[bytes],
) -> None:
    ours = HandshakeState(
        XX_PSK3,
        initiator=ours_initiates,
        prologue=prologue,
        e=KeyPair.of(our_ephemeral),
        s=KeyPair.of(our_static),
        psk=psk,
    )
    theirs = judge(
        initiator=not ours_initiates, static=their_static, ephemeral=their_ephemeral, psk=psk, prologue=prologue
    )
    for turn, payload in enumerate(payloads):
        if (turn % 2 == 0) == ours_initiates:
            assert theirs.read_message(ours.write_message(payload)) == payload
        else:
            assert ours.read_message(bytes(theirs.write_message(payload))) == payload
    assert ours.handshake_hash == theirs.get_handshake_hash()
    assert ours.rs == KeyPair.of(their_static).public
    first, second = ours.split()
    send, receive = (first, second) if ours_initiates else (second, first)
    for payload in payloads:
        assert theirs.decrypt(send.encrypt_with_ad(b"", payload)) == payload
        assert receive.decrypt_with_ad(b"", bytes(theirs.encrypt(payload))) == payload
    send.rekey()
    receive.rekey()
    theirs.rekey_inbound_cipher()
    theirs.rekey_outbound_cipher()
    assert theirs.decrypt(send.encrypt_with_ad(b"", b"after")) == b"after"
    assert receive.decrypt_with_ad(b"", bytes(theirs.encrypt(b"after"))) == b"after"


def test_rekey_is_the_encryption_of_zeros_under_the_reserved_nonce_and_keeps_counting() -> None:
    cipher = CipherState(PSK)
    cipher.encrypt_with_ad(b"", b"one")
    cipher.rekey()
    reserved = bytes(4) + b"\xff" * 8
    assert cipher.k == crypto_aead_chacha20poly1305_ietf_encrypt(bytes(32), b"", reserved, PSK)[:32]
    assert cipher.n == 1


def test_a_cipher_without_a_key_passes_plaintext_through() -> None:
    assert CipherState().encrypt_with_ad(b"ad", b"text") == b"text"
    assert CipherState().decrypt_with_ad(b"ad", b"text") == b"text"


def test_a_failed_decryption_uses_no_nonce_up() -> None:
    sender, receiver = CipherState(PSK), CipherState(PSK)
    sealed = sender.encrypt_with_ad(b"ad", b"text")
    for bad_ad, bad in ((b"", sealed), (b"ad", sealed[:-1]), (b"ad", sealed[:15]), (b"ad", b"")):
        with pytest.raises(RemoteError) as caught:
            receiver.decrypt_with_ad(bad_ad, bad)
        assert caught.value.reason is Reason.PROTOCOL_ERROR
    assert receiver.decrypt_with_ad(b"ad", sealed) == b"text"


def test_the_reserved_nonce_is_never_used() -> None:
    sender, receiver = CipherState(PSK), CipherState(PSK)
    sender.n = receiver.n = NONCE_MAX - 1
    assert receiver.decrypt_with_ad(b"", sender.encrypt_with_ad(b"", b"last")) == b"last"
    with pytest.raises(LocalError, match="used up"):
        sender.encrypt_with_ad(b"", b"one more")
    with pytest.raises(RemoteError, match="used up"):
        receiver.decrypt_with_ad(b"", bytes(20))


def state(
    name: str = XX_PSK3, *, initiator: bool = True, psk: bytes | None = PSK, rs: bytes | None = None
) -> HandshakeState:
    own = "1" if initiator else "2"
    return HandshakeState(
        name,
        initiator=initiator,
        prologue=b"",
        e=KeyPair.of(own.encode() * 32),
        s=KeyPair.of(own.encode() * 32),
        psk=psk,
        rs=rs,
    )


def with_ephemeral(public: bytes, *, name: str, psk: bytes | None) -> HandshakeState:
    return HandshakeState(name, initiator=True, prologue=b"", e=KeyPair(PSK, public), s=KeyPair.of(PSK), psk=psk)


@pytest.mark.parametrize("point", SMALL_ORDER + [point[:31] + bytes([point[31] | 0x80]) for point in SMALL_ORDER])
def test_an_ephemeral_key_of_small_order_is_refused(point: bytes) -> None:
    theirs = with_ephemeral(point, name=XX_PSK3, psk=PSK)
    ours = state(initiator=False)
    ours.read_message(theirs.write_message(b""))
    with pytest.raises(RemoteError, match="small order") as caught:
        ours.write_message(b"")
    assert caught.value.reason is Reason.PROTOCOL_ERROR


def test_a_static_key_of_small_order_is_refused() -> None:
    ours = state()
    theirs = HandshakeState(
        XX_PSK3,
        initiator=False,
        prologue=b"",
        e=KeyPair.of(b"e" * 32),
        s=KeyPair(b"s" * 32, SMALL_ORDER[0]),
        psk=PSK,
    )
    theirs.read_message(ours.write_message(b""))
    with pytest.raises(RemoteError, match="small order"):
        ours.read_message(theirs.write_message(b""))


def test_a_message_cut_anywhere_is_refused() -> None:
    first = state().write_message(b"")
    for size in range(len(first)):
        with pytest.raises(RemoteError):
            state(initiator=False).read_message(first[:size])


def test_a_key_cut_short_is_refused_where_no_tag_covers_it_yet() -> None:
    name = "Noise_NN_25519_ChaChaPoly_SHA256"
    first = state(name, psk=None).write_message(b"")
    for size in range(len(first)):
        with pytest.raises(RemoteError, match="too short"):
            state(name, psk=None, initiator=False).read_message(first[:size])


def test_a_message_longer_than_noise_allows_is_neither_written_nor_read() -> None:
    with pytest.raises(LocalError, match="65535"):
        state().write_message(bytes(65_535 - 47))
    with pytest.raises(RemoteError, match="too long"):
        state(initiator=False).read_message(bytes(65_536))
    largest = state().write_message(bytes(65_535 - 48))
    assert state(initiator=False).read_message(largest) == bytes(65_535 - 48)


def test_messages_go_in_turn_and_end() -> None:
    ours, theirs = state(), state(initiator=False)
    with pytest.raises(LocalError, match="turn"):
        ours.read_message(b"")
    with pytest.raises(LocalError, match="turn"):
        theirs.write_message(b"")
    theirs.read_message(ours.write_message(b""))
    ours.read_message(theirs.write_message(b""))
    with pytest.raises(LocalError, match="not finished"):
        ours.split()
    theirs.read_message(ours.write_message(b""))
    with pytest.raises(LocalError, match="is finished"):
        theirs.write_message(b"")


@pytest.mark.parametrize(
    "name",
    [
        "Noise_XX_448_ChaChaPoly_SHA256",
        "Noise_XX_25519_AESGCM_SHA256",
        "Noise_XX_25519_ChaChaPoly_SHA512",
        "Noise_XXpsk0_25519_ChaChaPoly_SHA256",
        "XX",
    ],
)
def test_another_protocol_name_is_our_mistake(name: str) -> None:
    with pytest.raises(LocalError, match="not a Noise protocol"):
        state(name)


def test_a_psk_goes_with_a_psk_pattern_only() -> None:
    for name, psk in ((XX_PSK3, None), (XX_PSK3, b"short"), ("Noise_XX_25519_ChaChaPoly_SHA256", PSK)):
        with pytest.raises(LocalError, match="psk"):
            state(name, psk=psk)


def test_missing_and_misshapen_keys_are_our_mistake() -> None:
    with pytest.raises(LocalError, match="32 bytes, not 31"):
        KeyPair.of(bytes(31))
    with pytest.raises(LocalError, match="of the peer's"):
        state("Noise_IK_25519_ChaChaPoly_SHA256", psk=None)
    with pytest.raises(LocalError, match="of the peer's"):
        state("Noise_IK_25519_ChaChaPoly_SHA256", psk=None, rs=bytes(31))
    with pytest.raises(LocalError, match="static key of ours"):
        HandshakeState(
            "Noise_KK_25519_ChaChaPoly_SHA256",
            initiator=True,
            prologue=b"",
            e=KeyPair.of(PSK),
            rs=KeyPair.of(PSK).public,
        )


def test_a_key_pair_does_not_show_its_secret() -> None:
    assert "private" not in repr(KeyPair.of(PSK))
