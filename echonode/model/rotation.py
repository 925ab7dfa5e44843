"""Rotation: the network secret replaced by another one, for those that the rotation names (PROTOCOL.md §10.4).

    signed     [domain, parent, commitment, rotator, key, members, without]
               parent: netid of the secret that is replaced      commitment: hash of the new secret
    rank       hash of `signed`
    row        rotations of which each replaces the secret that the one before made; of two rows that begin at one
               secret the one counts that leaves somebody out, and of equals the one whose first rank is greater; a
               row counts as far as the other one names its rotators

A rotation says who may get the new secret; it does not contain it. Pure: what follows from a rotation is `judge`.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import takewhile
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
        """The hash by which rows that begin at one secret are compared, where both leave somebody out or neither."""
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


def judge(
    offered: Rotation, *, later: Sequence[Rotation] = (), me: IdentityId, network: bytes, chain: Sequence[Rotation]
) -> Verdict:
    """Return what the node `me` does about a rotation (the table of PROTOCOL.md §10.4).

    `later`: the rotations that were told of behind it; `network`: the netid of the secret of `me`; `chain`: the
    rotations by which it came to that, the oldest first.
    """
    if offered.parent == network:
        return Verdict.TAKE if me in offered.members else Verdict.LEFT_OUT
    for at, first in enumerate(chain):
        if first.parent != offered.parent:
            continue
        # Whom a rotation left out can still make others: none of them counts against the row that left it out.
        theirs = list(takewhile(lambda each: me in each.members, _by_members_of(chain[at:], [offered, *later])))
        ours = _by_members_of(theirs, chain[at:])
        counts_more = (_leaves_out(theirs), offered.rank) > (_leaves_out(ours), first.rank)
        is_new = offered.commitment != first.commitment
        return Verdict.TAKE if theirs and counts_more and is_new else Verdict.KEEP
    return Verdict.FOREIGN


def _by_members_of(row: Sequence[Rotation], other: Iterable[Rotation]) -> list[Rotation]:
    """Return the beginning of the row `other` whose rotators are all named by every rotation of `row`."""
    return list(takewhile(lambda each: all(each.rotator in one.members for one in row), other))


def _leaves_out(row: Sequence[Rotation]) -> bool:
    """Return True if a rotation of `row` leaves somebody out. Such a row counts for more than one that does not.

    Who was left out may not have heard of it, and have replaced the same secret: that must not let it in again."""
    return any(each.without for each in row)
