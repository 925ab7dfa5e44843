"""The Noise Protocol Framework, revision 34, for 25519 and ChaChaPoly: handshakes as a table.

Names and section numbers are those of the specification (https://noiseprotocol.org/noise.html). Pure: private keys come
in as 32-byte values, messages go in and out as bytes. A failure that a peer can cause is a `RemoteError`; the object
must not be used after it. A mistake of the caller is a `LocalError`.

Not here: other DH functions and ciphers, fallback patterns, PSK modifiers but psk3. echonode speaks only
`Noise_XXpsk3_25519_ChaChaPoly_SHA256` (`channel.py`); the published vectors test this module with the other rows.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_decrypt,
    crypto_aead_chacha20poly1305_ietf_encrypt,
    crypto_scalarmult,
    crypto_scalarmult_base,
)
from nacl.exceptions import CryptoError

from echonode.errors import LocalError, Reason, RemoteError
from echonode.limits import NOISE_MESSAGE_BYTES_MAX

DHLEN: Final = 32
KEYLEN: Final = 32
TAGLEN: Final = 16
NONCE_MAX: Final = 2**64 - 1  # reserved for rekey (§5.1)

Token: TypeAlias = Literal["e", "s", "ee", "es", "se", "ss", "psk"]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A handshake pattern (§7): the static keys known before it, and the tokens of each message in turn."""

    initiator_known: bool
    responder_known: bool
    messages: tuple[tuple[Token, ...], ...]

    @property
    def is_psk(self) -> bool:
        return any("psk" in message for message in self.messages)


# §7.5, §9.4. Messages alternate, the initiator's first.
PATTERNS: Final[dict[str, Pattern]] = {
    "NN": Pattern(False, False, (("e",), ("e", "ee"))),
    "KK": Pattern(True, True, (("e", "es", "ss"), ("e", "ee", "se"))),
    "IK": Pattern(False, True, (("e", "es", "s", "ss"), ("e", "ee", "se"))),
    "XX": Pattern(False, False, (("e",), ("e", "ee", "s", "es"), ("s", "se"))),
    "XXpsk3": Pattern(False, False, (("e",), ("e", "ee", "s", "es"), ("s", "se", "psk"))),
}
HASHES: Final[dict[str, Callable[[bytes], bytes]]] = {  # §12
    "SHA256": lambda data: hashlib.sha256(data).digest(),
    "BLAKE2b": lambda data: hashlib.blake2b(data).digest(),
    "BLAKE2s": lambda data: hashlib.blake2s(data).digest(),
}


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An X25519 key pair (§4.1)."""

    private: bytes = field(repr=False)
    public: bytes

    @classmethod
    def of(cls, private: bytes) -> "KeyPair":
        """Return the pair of the 32-byte secret `private`. Raises LocalError for another length."""
        # The binding does not check lengths: libsodium would read past the end of a short key.
        if len(private) != DHLEN:
            raise LocalError(f"an X25519 private key is {DHLEN} bytes, not {len(private)}")
        return cls(private, crypto_scalarmult_base(private))


class CipherState:
    """The key and the nonce of one direction (§5.1). Without a key it passes plaintext through, for early messages."""

    __slots__ = ("k", "n")

    def __init__(self, k: bytes | None = None) -> None:
        self.k = k
        self.n = 0

    def encrypt_with_ad(self, ad: bytes, plaintext: bytes) -> bytes:
        """Return `plaintext` encrypted, with a 16-byte tag behind it that also covers `ad`."""
        if self.k is None:
            return plaintext
        if self.n >= NONCE_MAX:
            raise LocalError("the nonces of a Noise key are used up")
        ciphertext = crypto_aead_chacha20poly1305_ietf_encrypt(plaintext, ad, _nonce(self.n), self.k)
        self.n += 1
        return ciphertext

    def decrypt_with_ad(self, ad: bytes, ciphertext: bytes) -> bytes:
        """Return the plaintext. Raises RemoteError when the tag does not fit; the nonce then stays (§5.1)."""
        if self.k is None:
            return ciphertext
        if self.n >= NONCE_MAX:
            raise _refused("the nonces of a key are used up")
        if len(ciphertext) < TAGLEN:
            raise _refused("a message is shorter than its tag")
        try:
            plaintext = crypto_aead_chacha20poly1305_ietf_decrypt(ciphertext, ad, _nonce(self.n), self.k)
        except CryptoError:
            raise _refused("a message does not authenticate") from None
        self.n += 1
        return plaintext

    def rekey(self) -> None:
        """Replace the key by a one-way function of itself (§4.2, §11.3). The nonce is not reset."""
        assert self.k is not None, "rekey needs a key"
        self.k = crypto_aead_chacha20poly1305_ietf_encrypt(bytes(KEYLEN), b"", _nonce(NONCE_MAX), self.k)[:KEYLEN]


class SymmetricState:
    """The hash of all messages so far, and the chain of keys (§5.2)."""

    __slots__ = ("_hash", "_hash_name", "cipher", "ck", "h")

    def __init__(self, protocol_name: bytes, hash_name: str) -> None:
        self._hash_name = hash_name.lower()
        self._hash = HASHES[hash_name]
        hashlen = len(self._hash(b""))
        self.h = protocol_name.ljust(hashlen, b"\0") if len(protocol_name) <= hashlen else self._hash(protocol_name)
        self.ck = self.h
        self.cipher = CipherState()

    def mix_key(self, input_key_material: bytes) -> None:
        self.ck, temp_k = self._hkdf(input_key_material, 2)
        self.cipher = CipherState(temp_k[:KEYLEN])

    def mix_hash(self, data: bytes) -> None:
        self.h = self._hash(self.h + data)

    def mix_key_and_hash(self, input_key_material: bytes) -> None:
        self.ck, temp_h, temp_k = self._hkdf(input_key_material, 3)
        self.mix_hash(temp_h)
        self.cipher = CipherState(temp_k[:KEYLEN])

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        ciphertext = self.cipher.encrypt_with_ad(self.h, plaintext)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        plaintext = self.cipher.decrypt_with_ad(self.h, ciphertext)
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[CipherState, CipherState]:
        """Return the keys of the transport phase: initiator to responder, responder to initiator."""
        temp_k1, temp_k2 = self._hkdf(b"", 2)
        return CipherState(temp_k1[:KEYLEN]), CipherState(temp_k2[:KEYLEN])

    def _hkdf(self, input_key_material: bytes, num_outputs: int) -> list[bytes]:
        """Return `num_outputs` keys by HKDF (§4.3): RFC 5869 with `ck` as the salt and no info."""
        temp_key = hmac.digest(self.ck, input_key_material, self._hash_name)
        outputs = [b""]
        for counter in range(1, num_outputs + 1):
            outputs.append(hmac.digest(temp_key, outputs[-1] + bytes([counter]), self._hash_name))
        return outputs[1:]


class HandshakeState:
    """One side of one handshake (§5.3): `write_message` and `read_message` in turn, then `split`.

    `s` is our static key pair. `e` is our ephemeral one, made for this handshake only. `rs` is the peer's static public
    key if the pattern knows it beforehand. `psk` has 32 bytes if the pattern has one.
    """

    def __init__(
        self,
        protocol_name: str,
        *,
        initiator: bool,
        prologue: bytes,
        e: KeyPair,
        s: KeyPair | None = None,
        rs: bytes | None = None,
        psk: bytes | None = None,
    ) -> None:
        pattern_name, hash_name = _parse(protocol_name)
        self._pattern = PATTERNS[pattern_name]
        if self._pattern.is_psk != (psk is not None) or (psk is not None and len(psk) != KEYLEN):
            raise LocalError(f"{protocol_name}: a psk of {KEYLEN} bytes goes with a psk pattern, and with no other")
        self._initiator = initiator
        self._turn = 0
        self._e = e
        self._s = s
        self._psk = psk
        self.rs = rs
        self.re: bytes | None = None
        self._symmetric = SymmetricState(protocol_name.encode("ascii"), hash_name)
        self._symmetric.mix_hash(prologue)
        for is_known, is_initiators in ((self._pattern.initiator_known, True), (self._pattern.responder_known, False)):
            if is_known:  # a pre-message (§7.1)
                self._symmetric.mix_hash(self._own_s.public if is_initiators == initiator else _present(self.rs))

    @property
    def handshake_hash(self) -> bytes:
        """The hash of all messages so far. After the last it names this session at both ends (§11.2)."""
        return self._symmetric.h

    def write_message(self, payload: bytes) -> bytes:
        """Return our next message with `payload`. Raises RemoteError when a key of the peer is of small order."""
        tokens = self._next_tokens(writing=True)
        parts: list[bytes] = []
        for token in tokens:
            match token:
                case "e":
                    parts.append(self._e.public)
                    self._mix_e(self._e.public)
                case "s":
                    parts.append(self._symmetric.encrypt_and_hash(self._own_s.public))
                case _:
                    self._mix(token)
        parts.append(self._symmetric.encrypt_and_hash(payload))
        message = b"".join(parts)
        if len(message) > NOISE_MESSAGE_BYTES_MAX:
            raise LocalError(f"a Noise message holds at most {NOISE_MESSAGE_BYTES_MAX} bytes")
        return message

    def read_message(self, message: bytes) -> bytes:
        """Return the payload of the peer's next message. Raises RemoteError if it is malformed or not authentic."""
        tokens = self._next_tokens(writing=False)
        if len(message) > NOISE_MESSAGE_BYTES_MAX:
            raise _refused("a message is too long")
        at = 0
        for token in tokens:
            match token:
                case "e":
                    self.re, at = _take(message, at, DHLEN)
                    self._mix_e(self.re)
                case "s":
                    size = DHLEN + (TAGLEN if self._symmetric.cipher.k is not None else 0)
                    sealed, at = _take(message, at, size)
                    self.rs = self._symmetric.decrypt_and_hash(sealed)
                case _:
                    self._mix(token)
        return self._symmetric.decrypt_and_hash(message[at:])

    def split(self) -> tuple[CipherState, CipherState]:
        """Return the keys of the finished handshake: initiator to responder, responder to initiator."""
        if self._turn != len(self._pattern.messages):
            raise LocalError("the handshake is not finished")
        return self._symmetric.split()

    @property
    def _own_s(self) -> KeyPair:
        if self._s is None:
            raise LocalError("this handshake needs a static key of ours")
        return self._s

    def _next_tokens(self, *, writing: bool) -> tuple[Token, ...]:
        if self._turn == len(self._pattern.messages):
            raise LocalError("the handshake is finished")
        if ((self._turn % 2 == 0) == self._initiator) != writing:
            raise LocalError("it is the other side's turn to speak")
        self._turn += 1
        return self._pattern.messages[self._turn - 1]

    def _mix_e(self, public: bytes) -> None:
        self._symmetric.mix_hash(public)
        if self._pattern.is_psk:  # no key made from the psk may be used with the same nonce twice (§9.2)
            self._symmetric.mix_key(public)

    def _mix(self, token: Literal["ee", "es", "se", "ss", "psk"]) -> None:
        """Mix a token that adds no bytes to the message. Both sides do the same, each with its own half of the keys."""
        if token == "psk":
            assert self._psk is not None, "the constructor saw to it"
            self._symmetric.mix_key_and_hash(self._psk)
            return
        # §7.3: the first letter names the initiator's key, the second the responder's.
        ours, theirs = token if self._initiator else reversed(token)
        self._symmetric.mix_key(
            _dh(self._e if ours == "e" else self._own_s, self.re if theirs == "e" else self.rs),
        )


def _parse(protocol_name: str) -> tuple[str, str]:
    """Return the pattern and the hash named in `Noise_PATTERN_25519_ChaChaPoly_HASH` (§8)."""
    match protocol_name.split("_"):
        case ["Noise", pattern, "25519", "ChaChaPoly", hash_name] if pattern in PATTERNS and hash_name in HASHES:
            return pattern, hash_name
    raise LocalError(f"not a Noise protocol spoken here: {protocol_name}")


def _nonce(n: int) -> bytes:
    return b"\0\0\0\0" + n.to_bytes(8, "little")  # §12.3


def _dh(ours: KeyPair, theirs: bytes | None) -> bytes:
    """Return the X25519 of both keys (§12.1).

    Raises RemoteError for an all-zero result, which the peer's key alone would decide. §12.1 permits either.
    """
    try:
        return crypto_scalarmult(ours.private, _present(theirs))
    except CryptoError:
        raise _refused("a public key is of small order") from None


def _present(public: bytes | None) -> bytes:
    if public is None or len(public) != DHLEN:
        raise LocalError(f"this handshake needs a public key of the peer's of {DHLEN} bytes")
    return public


def _take(message: bytes, at: int, size: int) -> tuple[bytes, int]:
    end = at + size
    if end > len(message):
        raise _refused("a message is too short")
    return message[at:end], end


def _refused(detail: str) -> RemoteError:
    return RemoteError(Reason.PROTOCOL_ERROR, f"Noise: {detail}")
