"""AUTH: each end of a channel proves the identities that it speaks for (SECURITY.md H3-H6, PROTOCOL.md §5.2).

An end offers its own node's identity first, then the pools that list its device key. The device key signs, for each
offer, what names this connection and this side of it:

    handshake hash    a signature cannot be replayed or relayed to another connection
    role byte         a signature cannot be reflected, even to a node that shares the key
    hash of offers    no offer can be added, removed or exchanged
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from echonode import cbor
from echonode.digest import OFFERS, digest
from echonode.errors import Reason, RemoteError
from echonode.model.identity import IdentityId, PoolKind, PublicKey, SigningKey, is_signed
from echonode.model.keys import Claim, KeyState, Listing, Statement, read_statement
from echonode.model.record import IDENTITIES, Record, parse, verify
from echonode.wire.channel import Channel
from echonode.wire.messages import Auth, IdentityOffer

_DOMAIN: Final = "echonode auth 1"
_INITIATOR: Final = 0
_RESPONDER: Final = 1


@dataclass(frozen=True, slots=True)
class Peer:
    """The proved identity at the other end, its device key, and the verified `statements`, the node's own first."""

    id: IdentityId
    key: PublicKey
    statements: tuple[Record, ...]


def offer(channel: Channel, device: SigningKey, statements: Sequence[Record]) -> Auth:
    """Return our Auth. `statements` say that `device` speaks for each of our identities, the node's own first."""
    pairs = [(statement.author, device.public) for statement in statements]
    message = _signed_bytes(channel, is_initiator=channel.is_initiator, static=channel.own_static, pairs=pairs)
    signature = device.sign(message)
    return Auth(tuple(IdentityOffer(s.author, device.public, s.raw, signature) for s in statements))


def check(channel: Channel, auth: Auth) -> Peer:
    """Return the sender of `auth`. Raises RemoteError if a signature or a statement does not hold."""
    pairs = [(offered.identity, offered.key) for offered in auth.offers]
    message = _signed_bytes(channel, is_initiator=not channel.is_initiator, static=channel.remote_static, pairs=pairs)
    node = IdentityId(auth.offers[0].identity)
    statements = []
    for offered in auth.offers:
        if not is_signed(message, offered.signature, PublicKey(offered.key)):
            raise RemoteError(Reason.PROTOCOL_ERROR, "AUTH: the signature is not that of the offered key")
        statements.append(_check_statement(offered, node))
    return Peer(node, PublicKey(auth.offers[0].key), tuple(statements))


def _check_statement(offered: IdentityOffer, node: IdentityId) -> Record:
    """Return the statement of one offer: that of the node itself, or of a pool that lists the node's key."""
    record = verify(parse(offered.statement))
    if record.context == IDENTITIES and not record.is_tombstone and _backs(read_statement(record), offered, node):
        return record
    raise RemoteError(Reason.PROTOCOL_ERROR, "AUTH: the identity's root does not state the offered key")


def _backs(claim: Claim, offered: IdentityOffer, node: IdentityId) -> bool:
    key = PublicKey(offered.key)
    if offered.identity == node:
        return claim == Statement(node, key, KeyState.ACTIVE)
    return claim in [Listing(IdentityId(offered.identity), kind, key, KeyState.ACTIVE, node) for kind in PoolKind]


def _signed_bytes(
    channel: Channel, *, is_initiator: bool, static: bytes, pairs: Sequence[tuple[bytes, bytes]]
) -> bytes:
    """Return the bytes that each offer signs (PROTOCOL.md §5.2)."""
    role = _INITIATOR if is_initiator else _RESPONDER
    offers = digest(OFFERS, cbor.encode([list(pair) for pair in pairs]))
    return cbor.encode([_DOMAIN, role, channel.handshake_hash, static, pairs[0][0], offers])
