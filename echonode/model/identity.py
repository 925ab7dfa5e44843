"""Identities and their keys: Ed25519 (RFC 8032), verified as libsodium does (PROTOCOL.md §4.1, §4.3, §4.6).

An identity is the BLAKE2b of its root key. The root key signs key statements and nothing else; device keys sign
records. A writer is one signing key in one life of a store, so that a restored or cloned store never reuses a dot.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NewType

from nacl import bindings
from nacl.exceptions import BadSignatureError

from echonode.digest import IDENTITY, WRITER, digest, digest16

IdentityId = NewType("IdentityId", bytes)  # 32 bytes
PublicKey = NewType("PublicKey", bytes)  # 32 bytes, Ed25519
Instance = NewType("Instance", bytes)  # 8 bytes
Writer = NewType("Writer", bytes)  # 16 bytes

IDENTITY_BYTES: Final = 32
KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
INSTANCE_BYTES: Final = 8
WRITER_BYTES: Final = 16


class SigningKey:
    """An Ed25519 key that can sign. It is made from a 32-byte seed, which the caller must keep secret."""

    __slots__ = ("_secret", "public")

    def __init__(self, seed: bytes) -> None:
        public, self._secret = bindings.crypto_sign_seed_keypair(seed)
        self.public = PublicKey(public)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of `message`. It is deterministic. Releases the GIL."""
        return bindings.crypto_sign(message, self._secret)[:SIGNATURE_BYTES]


def is_signed(message: bytes, signature: bytes, public: PublicKey) -> bool:
    """Return True if `signature` over `message` is that of `public`. Refuse small-order and non-canonical inputs."""
    if len(signature) != SIGNATURE_BYTES or not is_admissible(public):
        return False
    try:
        bindings.crypto_sign_open(signature + message, public)
    except (BadSignatureError, ValueError):
        return False
    return True


@lru_cache(maxsize=4096)
def is_admissible(public: PublicKey) -> bool:
    """Return True if `public` is a point of the prime-order group, not of small order. No other key is admitted."""
    return len(public) == KEY_BYTES and bool(bindings.crypto_core_ed25519_is_valid_point(public))


def identity_of(root: PublicKey) -> IdentityId:
    """Return the identity with the root key `root`."""
    return IdentityId(digest(IDENTITY, root))


@lru_cache(maxsize=4096)
def writer_of(key: PublicKey, instance: Instance) -> Writer:
    """Return the writer: one signing key in one life of a store."""
    return Writer(digest16(WRITER, key + instance))


@dataclass(frozen=True, slots=True)
class Identity:
    """This node's own keys: the root key of its identity, and the device key that signs its records."""

    root: SigningKey
    device: SigningKey

    @classmethod
    def from_seeds(cls, root_seed: bytes, device_seed: bytes) -> "Identity":
        """Return the identity with these keys. Both seeds are 32 secret bytes."""
        return cls(SigningKey(root_seed), SigningKey(device_seed))

    @property
    def id(self) -> IdentityId:
        """The node id."""
        return identity_of(self.root.public)
