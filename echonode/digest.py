"""BLAKE2b with a domain for each use, so that a hash made for one purpose never passes for another.

Every hash of the protocol is made here, but Noise's own. The domains are BLAKE2b's `person` strings and part of the
wire and disk formats (PROTOCOL.md §3).
"""

from collections.abc import Callable
from functools import cache
from hashlib import blake2b
from typing import Final

IDENTITY: Final = b"echonode ident"
WRITER: Final = b"echonode writer"
VERSION: Final = b"echonode version"
LEAF_KEY: Final = b"echonode key"
STATE: Final = b"echonode state"
LEAF: Final = b"echonode leaf"
BUCKET: Final = b"echonode bucket"
NODE: Final = b"echonode node"
NETWORK: Final = b"echonode netid"
PSK: Final = b"echonode psk"
POOL_ROOT: Final = b"echonode pool"
ROTATION: Final = b"echonode rotate"
NEW_SECRET: Final = b"echonode newkey"
SECRET_CHECK: Final = b"echonode secret"
COMMON_POOL: Final = b"echonode pool 1"
CLOSED_POOL: Final = b"echonode pool 2"
GROUP_TAG: Final = b"echonode group"
OFFERS: Final = b"echonode offers"
FILTER: Final = b"echonode filter"
ID_LIST: Final = b"echonode ids"
SKETCH: Final = b"echonode sketch"
ROOT_TAG: Final = b"echonode tag"
PAIRING: Final = b"echonode pairing"


@cache
def _start(person: bytes, size: int) -> Callable[[], blake2b]:
    """Return the function that begins a hash. Copying the beginning takes half the time of making it."""
    return blake2b(digest_size=size, person=person).copy


def digest(person: bytes, data: bytes) -> bytes:
    """Return 32 bytes of BLAKE2b over `data`, in the domain `person`."""
    state = _start(person, 32)()
    state.update(data)
    return state.digest()


def begun(person: bytes, beginning: bytes) -> Callable[[], blake2b]:
    """Return the function that begins a hash of 32 bytes in the domain `person`, of data that begin with `beginning`.
    """
    state = _start(person, 32)()
    state.update(beginning)
    return state.copy


def digest16(person: bytes, data: bytes) -> bytes:
    """Return 16 bytes of BLAKE2b over `data`, in the domain `person`. They are not a truncation of the 32."""
    state = _start(person, 16)()
    state.update(data)
    return state.digest()


def keyed(person: bytes, key: bytes, data: bytes, size: int = 32) -> bytes:
    """Return `size` bytes of BLAKE2b over `data`, keyed with `key`, in the domain `person`."""
    return blake2b(data, digest_size=size, key=key, person=person).digest()
