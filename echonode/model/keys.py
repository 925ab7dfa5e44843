"""Key statements as records (PROTOCOL.md §4.5 to §4.7).

Statements are records of the context `identities`, signed by the root key of their author.

    of a node    name  base32(key)/state                  body  [key, state]
    of a pool    name  base32(key)/state/base32(owner)    body  [key, state, kind, owner, proof]

Each (key, state), and in a pool each (key, state, owner), is a record of its own, so no statement replaces another.
Merging is union. What a set of statements means is in model/key_claims.py, what all of them say in model/keyring.py.
"""

from functools import lru_cache
from typing import Final

from echonode import cbor
from echonode.errors import Reason, RemoteError
from echonode.limits import POOL_KIND_MAX
from echonode.model.identity import (
    IDENTITY_BYTES,
    KEY_BYTES,
    SIGNATURE_BYTES,
    IdentityId,
    Pool,
    PoolKind,
    PublicKey,
    SigningKey,
    identity_of,
    is_admissible,
    pool_identity,
)
from echonode.model.key_claims import Admission as Admission
from echonode.model.key_claims import Claim as Claim
from echonode.model.key_claims import KeyState as KeyState
from echonode.model.key_claims import Listing as Listing
from echonode.model.key_claims import Statement as Statement
from echonode.model.key_claims import is_member_proof, member_proof
from echonode.model.record import IDENTITIES, Draft, Record
from echonode.text import to_base32

STATEMENT_MODEL: Final = "key-statement"
_STATES: Final = frozenset(map(int, KeyState))


def statement_draft(identity: IdentityId, key: PublicKey, state: KeyState) -> Draft:
    """Return the draft of a node's statement, for its root key to sign."""
    return _draft(identity, _statement_name(key, state), [key, int(state)])


def listing_draft(pool: Pool, owner: IdentityId, key: PublicKey, proof: bytes, state: KeyState) -> Draft:
    """Return the draft of a pool's statement about a key of `owner`, for the pool's root key to sign."""
    name = _listing_name(key, state, owner)
    return _draft(pool.id, name, [key, int(state), int(pool.kind), owner, proof])


def member_draft(pool: Pool, owner: IdentityId, device: SigningKey) -> Draft:
    """Return the draft by which `pool` lists the key `device` of `owner`, with the proof made here."""
    return listing_draft(pool, owner, device.public, member_proof(pool.id, owner, device), KeyState.ACTIVE)


def _draft(author: IdentityId, name: str, body: cbor.Value) -> Draft:
    return Draft(
        context=IDENTITIES,
        author=author,
        name=name,
        body=cbor.encode(body),
        model=STATEMENT_MODEL,
        media_type="application/cbor",
    )


def read_statement(record: Record) -> Claim:
    """Return what `record`, of the context `identities`, states. Raises RemoteError if it is malformed."""
    claim, proof = _read(record.kid, record.author, record.name, record.body)
    if isinstance(claim, Listing) and not _is_proved(claim, proof):
        # Without this a forged listing could take the place of a good one.
        raise _malformed("the listed key does not agree to be listed for that owner")
    return claim


def read_stored_statement(record: Record) -> Claim:
    """Return what a record from our own disk states; the proof of a listing was verified before it was stored."""
    return _read(record.kid, record.author, record.name, record.body)[0]


def listing_proof(record: Record) -> bytes:
    """Return the proof in a pool statement: later statements about the same key and owner carry it on."""
    return _read(record.kid, record.author, record.name, record.body)[1]


def _malformed(why: str) -> RemoteError:
    return RemoteError(Reason.BAD_RECORD, why)


@lru_cache(maxsize=2048)  # the same statements come from every peer; twice a batch, which is read three times
def _read(root: PublicKey, author: IdentityId, name: str, body: bytes) -> tuple[Claim, bytes]:
    claim: Claim
    proof = b""
    match cbor.decode(body) if body else None:
        case [bytes(key), int(state)] if len(key) == KEY_BYTES and _is_state(state):
            if identity_of(root) != author:
                raise _malformed("a key statement is signed by its identity's root key")
            claim = Statement(author, PublicKey(key), KeyState(state))
            expected_name = _statement_name(claim.key, claim.state)
        case [bytes(key), int(state), int(kind), bytes(owner), bytes(proof)] if (
            (len(key), len(owner), len(proof)) == (KEY_BYTES, IDENTITY_BYTES, SIGNATURE_BYTES)
            and _is_state(state)
            and _is_kind(kind)
        ):
            if pool_identity(kind, root) != author:
                raise _malformed("a pool statement is signed by the root key of its pool, and names the pool's kind")
            if kind == PoolKind.COMMON and state != KeyState.ACTIVE:
                raise _malformed("in a common pool nobody is unlisted: keys are only stated active")
            claim = Listing(author, kind, PublicKey(key), KeyState(state), IdentityId(owner))
            expected_name = _listing_name(claim.key, claim.state, claim.owner)
        case _:
            raise _malformed("a key statement is [key, state], and a pool's [key, state, kind, owner, proof]")
    if name != expected_name:
        raise _malformed("a key statement is named after what it states")
    if not is_admissible(claim.key):
        raise _malformed("the stated key is not a point of the prime-order group")
    return claim, proof


@lru_cache(maxsize=4096)
def _is_proved(listing: Listing, proof: bytes) -> bool:
    return is_member_proof(proof, listing.pool, listing.owner, listing.key)


def _is_state(value: object) -> bool:
    return type(value) is int and value in _STATES


def _is_kind(value: object) -> bool:
    return type(value) is int and 1 <= value <= POOL_KIND_MAX


def _statement_name(key: PublicKey, state: KeyState) -> str:
    return f"{to_base32(key)}/{state.name.lower()}"


def _listing_name(key: PublicKey, state: KeyState, owner: IdentityId) -> str:
    return f"{_statement_name(key, state)}/{to_base32(owner)}"
