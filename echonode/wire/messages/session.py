"""Messages of a session as a whole: who the two nodes are, whose turn it is, and the end (PROTOCOL.md §5)."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class IdentityOffer:
    """An identity the sender speaks for: the key, the root's statement of it, and a signature over the handshake."""

    identity: bytes
    key: bytes
    statement: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Auth:
    """The first offer is the node's own identity and device key; the rest are pools it is a member of."""

    code: ClassVar[int] = 1
    offers: tuple[IdentityOffer, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """A context as a hello tells it. `level1` is the branch part (see `Nodes`) of the root at 16 bytes a digest."""

    context: str
    root: bytes
    count: int
    seq: int
    level1: bytes
    is_partial: bool


@dataclass(frozen=True, slots=True)
class Hello:
    """`seen`: per instance of the other's device key, the highest counter held here. `port` is 0 when not listening."""

    code: ClassVar[int] = 2
    version: tuple[int, int]
    session: bytes
    name: str
    tag: bytes
    instance: bytes
    port: int
    models: dict[str, tuple[int, int]]
    modes: tuple[str, ...]
    contexts: tuple[Summary, ...]
    seen: dict[bytes, int]


@dataclass(frozen=True, slots=True)
class Turn:
    """The receiver may now open conversations. `contexts`: those the sender leaves to it, being empty there."""

    code: ClassVar[int] = 8
    contexts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Close:
    """The explicit end of a session (H10). EOF without it is a failed session."""

    code: ClassVar[int] = 3
    reason: int
    supported: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there?"""

    code: ClassVar[int] = 6


@dataclass(frozen=True, slots=True)
class Pong:
    """Yes."""

    code: ClassVar[int] = 7
