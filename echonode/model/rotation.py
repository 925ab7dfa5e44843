"""Rotation: the network secret replaced by another one, for those that the rotation names (PROTOCOL.md §10.4).

    signed     [domain, parent, commitment, rotator, key, members, without]
               parent: netid of the secret that is replaced      commitment: hash of the new secret
    rank       hash of `signed`: of two rotations of one secret the greater counts

A rotation says who may get the new secret; it does not contain it. Pure: what follows from a rotation is `judge`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from echonode import cbor
from echonode.digest import ROTATION, digest
from echonode.errors import Reason, RemoteError
from echonode.limits import ROTATION_MEMBERS_MAX
from echonode.model.identity import IDENTITY_BYTES, KEY_BYTES, IdentityId, PublicKey, SigningKey, is_signed
from echonode.model.keys import KeyState, Statement, read_statement
from echonode.model.member_secret import MemberSecret
from echonode.model.record import IDENTITIES, parse, verify

_DOMAIN: Final = "echonode rotation 1"
_HASH_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Rotation:
    """One rotation, with the bytes that were signed and what proves the signature.

    `without`: those that were left out on purpose; `statement`: the key statement of the rotator's key.
    """

    parent: bytes
    commitment: bytes
    rotator: IdentityId
    key: PublicKey
    members: frozenset[IdentityId]
    without: frozenset[IdentityId]
    signed: bytes
    signature: bytes
    statement: bytes

    @property
    def rank(self) -> bytes:
        """The hash by which two rotations of one secret are compared."""
        return digest(ROTATION, self.signed)


class Verdict(Enum):
    """The answer of a node to a rotation that it hears of."""

    TAKE = "take"  # the new secret is this node's from now on
    KEEP = "keep"  # this node has it already, or one that counts for more
    LEFT_OUT = "left out"  # this node's network was rotated without it
    FOREIGN = "foreign"  # it concerns another network


def sign_rotation(
    parent: bytes,
    new: MemberSecret,
    *,
    rotator: IdentityId,
    device: SigningKey,
    statement: bytes,
    members: Collection[IdentityId],
    without: Collection[IdentityId],
) -> Rotation:
    """Return the rotation of the network with netid `parent` to the secret `new`. At most ROTATION_MEMBERS_MAX each."""
    fields: list[cbor.Value] = [_DOMAIN, parent, new.commitment, rotator, device.public]
    signed = cbor.encode([*fields, [*sorted(members)], [*sorted(without)]])
    return read_rotation(signed, device.sign(signed), statement)


def read_rotation(signed: bytes, signature: bytes, statement: bytes) -> Rotation:
    """Return the rotation in these bytes. Raises RemoteError if it is malformed or not signed by its rotator."""
    match cbor.decode(signed):
        case [str(domain), bytes(parent), bytes(commitment), bytes(rotator), bytes(key), list(members), list(without)]:
            is_whole = len(parent) == len(commitment) == _HASH_BYTES and len(key) == KEY_BYTES
            if domain != _DOMAIN or not is_whole:
                raise _malformed("a field of the rotation has another form")
            stays, leaves = _read_ids(members), _read_ids(without)
        case _:
            raise _malformed("a rotation has seven fields")
    record = verify(parse(statement))
    stated = Statement(IdentityId(rotator), PublicKey(key), KeyState.ACTIVE)
    if record.context != IDENTITIES or record.is_tombstone or read_statement(record) != stated:
        raise _malformed("the statement beside a rotation is not about its key")
    if not is_signed(signed, signature, PublicKey(key)):
        raise _malformed("the rotation is not signed by its key")
    return Rotation(
        parent,
        commitment,
        IdentityId(rotator),
        PublicKey(key),
        stays,
        leaves,
        signed,
        signature,
        statement,
    )


def _read_ids(items: Sequence[cbor.Value]) -> frozenset[IdentityId]:
    """Return the ids in `items`: in ascending order, each once, not too many. Raises RemoteError."""
    ids = [IdentityId(each) for each in items if isinstance(each, bytes) and len(each) == IDENTITY_BYTES]
    if len(items) > ROTATION_MEMBERS_MAX or len(ids) != len(items) or ids != sorted(set(ids)):
        raise _malformed("a list of a rotation is not of ids in ascending order")
    return frozenset(ids)


def _malformed(why: str) -> RemoteError:
    return RemoteError(Reason.PROTOCOL_ERROR, why)


def judge(offered: Rotation, *, me: IdentityId, network: bytes, chain: Sequence[Rotation]) -> Verdict:
    """Return what the node `me` does about a rotation (the table of PROTOCOL.md §10.4).

    `network`: the netid of its secret; `chain`: the rotations by which it came to that, the oldest first.
    """
    if offered.parent == network:
        return Verdict.TAKE if me in offered.members else Verdict.LEFT_OUT
    for at, ours in enumerate(chain):
        if ours.parent != offered.parent:
            continue
        # Without this, those whom a rotation left out could make another one, of a greater hash, and be in again.
        is_by_member = all(offered.rotator in each.members for each in chain[at:])
        counts_more = offered.rank > ours.rank and is_by_member and me in offered.members
        return Verdict.TAKE if counts_more else Verdict.KEEP
    return Verdict.FOREIGN
