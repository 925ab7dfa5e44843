"""Messages of a session: the identities and states of both nodes, the turns, and the end (PROTOCOL.md §5, §8.7).

Auth and Hello open every session. Turn passes the right to open conversations. Ping, Pong and Close may come at any
time after Auth.
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class IdentityOffer:
    """A proof that the sender speaks for `identity` (PROTOCOL.md §5.2).

    `statement` is the root's key statement about `key`; `signature` is the key's, over what names this connection.
    """

    identity: bytes
    key: bytes
    statement: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Auth:
    """The identities of the sender. The first is the node itself; the others are pools that list its device key."""

    code: ClassVar[int] = 1
    offers: tuple[IdentityOffer, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """The state of one context, as a part of Hello.

    `count` is the number of leaves, `seq` the newest entry of the sender's log. `level1` is the branch part of the root
    (see `Nodes`) with 16 bytes a digest. `is_partial`: the sender wants only a part of the context. `is_full`: it takes
    no more records of the receiver's own identity there, because its quota is used up.
    """

    context: str
    root: bytes
    count: int
    seq: int
    level1: bytes
    is_partial: bool
    is_full: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """The version with the highest counter that the sender holds of the receiver's device key under one instance.

    `raw` is the version itself, as a proof, or empty.
    """

    instance: bytes
    counter: int
    version: bytes
    raw: bytes


@dataclass(frozen=True, slots=True)
class Hello:
    """The sender's name, versions, modes and contexts (PROTOCOL.md §5.3 explains each field).

    `port` is 0 when the node does not listen. `seen` has the instances of the receiver's device key, the one that it
    told first.
    """

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
    seen: tuple[Seen, ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """Passes the right to open conversations to the receiver. `contexts`: those that the sender leaves to it."""

    code: ClassVar[int] = 8
    contexts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Close:
    """Ends the session (SECURITY.md H10). `supported` names what would work instead, for some reasons.

    A stream that ends without Close is a failed session.
    """

    code: ClassVar[int] = 3
    reason: int
    supported: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rotated:
    """A rotation of the network (PROTOCOL.md §10.4), with the secret that it leads to.

    `signed`, `signature`, `statement`: model/rotation.py. `is_last`: the sender tells of no further rotation.
    """

    code: ClassVar[int] = 9
    signed: bytes
    signature: bytes
    statement: bytes
    secret: bytes
    is_last: bool


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for a Pong."""

    code: ClassVar[int] = 6


@dataclass(frozen=True, slots=True)
class Pong:
    """Answers a Ping, as soon as that is read."""

    code: ClassVar[int] = 7
