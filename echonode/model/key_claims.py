"""The claims about one key, and whether it speaks for an author (PROTOCOL.md §4.5 to §4.7). Pure.

An identity's root states of its own device keys:

    active < retired < compromised       retired: old records stand; compromised: every signature of the key is void

A pool's root *lists* keys of other identities, each with the owner of the key. A listing counts once the owner's root
has stated anything of that key itself. So nobody is listed as somebody else.

    author is ..     the key is admitted when ..            and void for ever when ..
    a node           its root stated the key                its root said compromised
    a common pool    a listing of the key counts            any counted listing's owner said compromised
    a closed pool    a listing of the key counts            an owner did, or the pool's own root said compromised
    of another kind  never                                  never

The answer depends on the set of statements alone, and only moves forward: unknown, admitted, void.
"""

from dataclasses import dataclass, field
from enum import Enum, IntEnum

from echonode import cbor
from echonode.model.identity import IdentityId, PoolKind, PublicKey, SigningKey, is_signed

_PROOF_DOMAIN = "echonode member 1"


class KeyState(IntEnum):
    """The state of a key, as a root key states it. States only move forward."""

    ACTIVE = 1
    RETIRED = 2
    COMPROMISED = 3


class Admission(Enum):
    """The standing of a version by its key: a store holds ADMITTED ones only."""

    ADMITTED = "admitted"
    UNKNOWN = "unknown"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class Statement:
    """The contents of a key statement: the root of `identity` says this of one of its own keys."""

    identity: IdentityId
    key: PublicKey
    state: KeyState


@dataclass(frozen=True, slots=True)
class Listing:
    """The contents of a pool statement: the root of `pool` says this of a key of `owner`, who has agreed to it.

    `kind` is a PoolKind, or the number of a kind that this version does not know."""

    pool: IdentityId
    kind: int
    key: PublicKey
    state: KeyState
    owner: IdentityId


Claim = Statement | Listing


@dataclass(frozen=True, slots=True)
class Standing:
    """All that decides whether one key speaks for one author. Each field only moves forward.

    `own`: the state that the author's own root gave the key; None for no statement. For a pool: its `kind`, `listed`,
    the furthest state in its listings of the key, and `counted`, the furthest state that an owner gave the key whose
    listing counts."""

    own: KeyState | None = None
    kind: int = 0
    listed: KeyState | None = None
    counted: KeyState | None = None

    @property
    def admission(self) -> Admission:
        """The standing of versions of the author that the key signed."""
        if self.own is not None:
            return Admission.VOID if self.own is KeyState.COMPROMISED else Admission.ADMITTED
        if self.kind not in (PoolKind.COMMON, PoolKind.CLOSED):
            return Admission.UNKNOWN
        if self.kind == PoolKind.CLOSED and self.listed is KeyState.COMPROMISED:
            return Admission.VOID
        if self.counted is None:
            return Admission.UNKNOWN
        return Admission.VOID if self.counted is KeyState.COMPROMISED else Admission.ADMITTED

    def joined(self, other: "Standing") -> "Standing":
        """Return the standing by what both know."""
        return Standing(
            furthest(self.own, other.own),
            self.kind or other.kind,
            furthest(self.listed, other.listed),
            furthest(self.counted, other.counted),
        )


def furthest(*states: KeyState | None) -> KeyState | None:
    """Return the furthest of `states`, None when none is known."""
    return max((state for state in states if state is not None), default=None)


def member_proof(pool: IdentityId, owner: IdentityId, key: SigningKey) -> bytes:
    """Return the proof that the holder of `key` agrees to be listed in `pool` as a key of `owner`."""
    return key.sign(_proof_message(pool, owner, key.public))


def is_member_proof(proof: bytes, pool: IdentityId, owner: IdentityId, key: PublicKey) -> bool:
    """Return True if `key` itself signed that it is a key of `owner` in `pool`."""
    return is_signed(_proof_message(pool, owner, key), proof, key)


def _proof_message(pool: IdentityId, owner: IdentityId, key: PublicKey) -> bytes:
    return cbor.encode([_PROOF_DOMAIN, pool, owner, key])


@dataclass(slots=True)
class PoolClaims:
    """The listings of one key in one pool: the furthest state by owner."""

    kind: int
    states: dict[IdentityId, KeyState] = field(default_factory=dict)


@dataclass(slots=True)
class KeyClaims:
    """All that is stated of one key: by its own identities, and by the pools that list it."""

    own: dict[IdentityId, KeyState] = field(default_factory=dict)
    pools: dict[IdentityId, PoolClaims] = field(default_factory=dict)

    def add(self, claim: Claim) -> bool:
        """Add what a statement about this key says. Return True if that is news."""
        if isinstance(claim, Statement):
            states, subject = self.own, claim.identity
        else:
            # A pool's id fixes its kind, so all of its listings agree on it.
            pool = self.pools.setdefault(claim.pool, PoolClaims(claim.kind))
            states, subject = pool.states, claim.owner
        known = states.get(subject)
        if known is not None and known >= claim.state:
            return False
        states[subject] = claim.state
        return True

    def counted(self, pool: IdentityId) -> list[IdentityId]:
        """Return the owners whose listing of the key in `pool` counts."""
        claims = self.pools.get(pool)
        return [owner for owner in claims.states if owner in self.own] if claims else []

    def standing(self, author: IdentityId) -> Standing:
        """Return what is known of the key's standing for `author`."""
        claims = self.pools.get(author)
        if claims is None:
            return Standing(self.own.get(author))
        counted = [self.own[owner] for owner in self.counted(author)]
        return Standing(self.own.get(author), claims.kind, furthest(*claims.states.values()), furthest(*counted))
