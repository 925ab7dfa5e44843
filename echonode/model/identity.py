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
from nacl.exceptions import BadSignatureError

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


def shared_pool(seed: bytes) -> Pool:
    """Return the common pool `shared` of a private network, whose root key has the 32-byte seed `seed`."""
    return Pool(PoolKind.COMMON, SigningKey(seed))
