"""Identities and their keys: Ed25519 (RFC 8032), verified as libsodium does (PROTOCOL.md §4.1, §4.3, §4.6).

An identity is the BLAKE2b of its root key. The root key signs key statements and nothing else; device keys sign
records. A writer is one signing key in one life of a store, so that a restored or cloned store never reuses a dot.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final, NewType

from nacl import bindings
from nacl.exceptions import BadSignatureError, CryptoError

from echonode.digest import CLOSED_POOL, COMMON_POOL, IDENTITY, POOL_ROOT, WRITER, digest, digest16

IdentityId = NewType("IdentityId", bytes)  # 32 bytes
PublicKey = NewType("PublicKey", bytes)  # 32 bytes, Ed25519
Instance = NewType("Instance", bytes)  # 8 bytes
Writer = NewType("Writer", bytes)  # 16 bytes

IDENTITY_BYTES: Final = 32
KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
INSTANCE_BYTES: Final = 8
WRITER_BYTES: Final = 16
SALT_BYTES: Final = 16
NONCE_BYTES: Final = 24
SEAL_BYTES: Final = 16
_ARGON2_PASSES: Final = 3  # the "moderate" strength of libsodium, for a file that a thief may hold for years
_ARGON2_BYTES: Final = 256 * 1024 * 1024


class SigningKey:
    """An Ed25519 key that can sign. It is made from a 32-byte seed, which the caller must keep secret."""

    __slots__ = ("_secret", "public")

    def __init__(self, seed: bytes) -> None:
        public, self._secret = bindings.crypto_sign_seed_keypair(seed)
        self.public = PublicKey(public)

    @property
    def seed(self) -> bytes:
        """The seed that it was made from."""
        return self._secret[:KEY_BYTES]

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


def passphrase_key(passphrase: bytes, salt: bytes) -> bytes:
    """Return the key that Argon2id makes of a passphrase: 3 passes over 256 MiB, about a second. Releases the GIL."""
    return bindings.crypto_pwhash_alg(
        KEY_BYTES, passphrase, salt, _ARGON2_PASSES, _ARGON2_BYTES, bindings.crypto_pwhash_ALG_ARGON2ID13
    )


def seal(key: bytes, nonce: bytes, data: bytes, associated: bytes) -> bytes:
    """Return `data` encrypted and authenticated with XChaCha20-Poly1305."""
    return bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(data, associated, nonce, key)


def open_sealed(key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes | None:
    """Return what `seal` encrypted, None for another key or altered bytes."""
    try:
        return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, associated, nonce, key)
    except CryptoError:
        return None


@lru_cache(maxsize=1024)  # a node asks for its own id at every turn
def identity_of(root: PublicKey) -> IdentityId:
    """Return the identity with the root key `root`."""
    return IdentityId(digest(IDENTITY, root))


class PoolKind(IntEnum):
    """The kinds of pools: who decides about members. In a common pool every member holds the root key."""

    COMMON = 1
    CLOSED = 2


_POOL_DOMAINS: Final[Mapping[int, bytes]] = {PoolKind.COMMON: COMMON_POOL, PoolKind.CLOSED: CLOSED_POOL}


@lru_cache(maxsize=4096)
def pool_identity(kind: int, root: PublicKey) -> IdentityId:
    """Return the id of the pool of that kind with the root key `root`. Another kind makes it another identity.

    Kinds of later versions, up to POOL_KIND_MAX, have ids too: their statements are kept and passed on."""
    return IdentityId(digest(_POOL_DOMAINS.get(kind) or b"%s %d" % (POOL_ROOT, kind), root))


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool of which the root key is held here."""

    kind: PoolKind
    root: SigningKey

    @property
    def id(self) -> IdentityId:
        """The pool's id."""
        return pool_identity(self.kind, self.root.public)


@lru_cache(maxsize=4096)
def writer_of(key: PublicKey, instance: Instance) -> Writer:
    """Return the writer: one signing key in one life of a store."""
    return Writer(digest16(WRITER, key + instance))


@dataclass(frozen=True, slots=True)
class Identity:
    """This node's own keys: the root key of its identity, and the device key that signs its records.

    `root`: None while the root key is kept off this machine."""

    root_public: PublicKey
    device: SigningKey
    root: SigningKey | None

    @classmethod
    def from_seeds(cls, root_seed: bytes, device_seed: bytes) -> "Identity":
        """Return the identity with these keys. Both seeds are 32 secret bytes."""
        root = SigningKey(root_seed)
        return cls(root.public, SigningKey(device_seed), root)

    @classmethod
    def without_root(cls, root_public: PublicKey, device_seed: bytes) -> "Identity":
        """Return the identity with this device key, whose root key is kept elsewhere."""
        return cls(root_public, SigningKey(device_seed), None)

    @property
    def id(self) -> IdentityId:
        """The node id."""
        return identity_of(self.root_public)


def shared_pool(seed: bytes) -> Pool:
    """Return the common pool `shared` of a private network, whose root key has the 32-byte seed `seed`."""
    return Pool(PoolKind.COMMON, SigningKey(seed))
