"""BLAKE2b with one domain per use, so that no hash made for one purpose can be passed off as another.

Every hash of the protocol is made here; the `person` strings are part of the wire and disk format (PROTOCOL.md §3).
"""

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
GROUP_TAG: Final = b"echonode group"
OFFERS: Final = b"echonode offers"
FILTER: Final = b"echonode filter"
ID_LIST: Final = b"echonode ids"
SKETCH: Final = b"echonode sketch"
PAIRING: Final = b"echonode pairing"


def digest(person: bytes, data: bytes) -> bytes:
    """32 bytes of BLAKE2b over `data`, in the domain `person`."""
    return blake2b(data, digest_size=32, person=person).digest()


def digest16(person: bytes, data: bytes) -> bytes:
    """16 bytes of BLAKE2b (its own parameter block, not a truncation) over `data`, in the domain `person`."""
    return blake2b(data, digest_size=16, person=person).digest()


def keyed(person: bytes, key: bytes, data: bytes, size: int = 32) -> bytes:
    """`size` bytes of BLAKE2b keyed with `key`."""
    return blake2b(data, digest_size=size, key=key, person=person).digest()
