"""The keyring: what all key statements together say (PROTOCOL.md §4.5 to §4.7). Pure.

The rules are here; a `ClaimTable` keeps the claims. Strangers may state any number of keys of their own. So each
question is about one key or one author, and a store on disk reads that much and no more.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from echonode.model.identity import IdentityId, PublicKey
from echonode.model.key_claims import Admission, Claim, KeyClaims, KeyState, Listing, Standing, Statement
from echonode.model.record import Record
from echonode.text import to_base32


@dataclass(frozen=True, slots=True)
class Member:
    """One listing of a pool: `key`, as a key of `owner`. It `is_counted` once the owner's root has stated the key."""

    owner: IdentityId
    key: PublicKey
    state: KeyState
    is_counted: bool


class ClaimTable(Protocol):
    """The claims of a store, for the keyring to ask."""

    def add(self, claims: Iterable[Claim]) -> None:
        """Take over `claims`, which the store holds from now on."""
        ...

    def state_of(self, identity: IdentityId, key: PublicKey) -> KeyState | None:
        """Return the furthest state that the root of `identity` stated of its own `key`, None without a statement."""
        ...

    def listed_state(self, pool: IdentityId, owner: IdentityId, key: PublicKey) -> KeyState | None:
        """Return the furthest state in which `pool` lists `key` as one of `owner`, None when it does not."""
        ...

    def standing(self, author: IdentityId, key: PublicKey) -> Standing:
        """Return what is known of the standing of `key` for `author`."""
        ...

    def pools_of(self, owner: IdentityId, key: PublicKey) -> Iterable[IdentityId]:
        """Return the pools that list `key` as one of `owner`."""
        ...

    def owners_of(self, pool: IdentityId, key: PublicKey) -> list[IdentityId]:
        """Return the owners, in the order of their ids, whose listing of `key` in `pool` counts."""
        ...

    def keys_of(self, identity: IdentityId) -> Mapping[PublicKey, KeyState]:
        """Return every key of which the root of `identity` stated something, with its furthest state."""
        ...

    def members_of(self, pool: IdentityId) -> list[Member]:
        """Return every listing of `pool`, sorted by key and owner."""
        ...

    def authors(self, prefix: str) -> list[IdentityId]:
        """Return, sorted, every identity and pool of which a statement is held and whose text begins with `prefix`."""
        ...

    def has_author(self, author: IdentityId) -> bool:
        """Return True if a statement of `author` is held."""
        ...


class Keyring:
    """All that is known of keys: a union of statements. Read only."""

    def __init__(self, table: ClaimTable) -> None:
        self._table = table
        # Questions that the table answers by itself.
        self.state_of = table.state_of
        self.listed_state = table.listed_state
        self.keys_of = table.keys_of
        self.members_of = table.members_of
        self.authors = table.authors
        self.has_author = table.has_author

    def admission(self, record: Record) -> Admission:
        """Return the standing of `record`, which is outside `identities`, by what is known of its key and author."""
        return self._table.standing(record.author, record.kid).admission

    def admission_of(self, author: IdentityId, key: PublicKey) -> Admission:
        """Return how versions of `author` stand that `key` signed."""
        return self._table.standing(author, key).admission

    def is_listed(self, author: IdentityId, key: PublicKey) -> bool:
        """Return True if `author` is a pool that lists `key`."""
        return self._table.standing(author, key).listed is not None

    def signers_of(self, author: IdentityId, key: PublicKey) -> list[IdentityId]:
        """Return the nodes that sign for `author` with `key`: itself, or the owners that count where it is a pool."""
        own = self._table.state_of(author, key)
        return self._table.owners_of(author, key) if own is None else [author]

    def voided_by(self, new: Iterable[Claim]) -> set[tuple[IdentityId, PublicKey]]:
        """Return each (author, key) whose versions are void once `new` is added, and are not yet."""
        new = list(new)
        # No other statement of a node makes anything void, and most that arrive are others.
        compromised = {
            (claim.identity, claim.key)
            for claim in new
            if isinstance(claim, Statement) and claim.state is KeyState.COMPROMISED
        }
        gained: dict[tuple[IdentityId, PublicKey], Standing] = {}
        for author, key, news in self._news(new, compromised):
            gained[author, key] = gained.get((author, key), Standing()).joined(news)
        voided: set[tuple[IdentityId, PublicKey]] = set()
        for (author, key), news in gained.items():
            before = self._table.standing(author, key)
            if before.joined(news).admission is Admission.VOID is not before.admission:
                voided.add((author, key))
        return voided

    def _news(
        self, new: Iterable[Claim], compromised: set[tuple[IdentityId, PublicKey]]
    ) -> Iterator[tuple[IdentityId, PublicKey, Standing]]:
        """Yield what listings and compromises add to the standing of a key for an author."""
        for owner, key in compromised:
            yield owner, key, Standing(own=KeyState.COMPROMISED)
            for pool in self._table.pools_of(owner, key):
                yield pool, key, Standing(counted=KeyState.COMPROMISED)
        for claim in new:
            if isinstance(claim, Listing):
                pair = claim.owner, claim.key
                own = KeyState.COMPROMISED if pair in compromised else self._table.state_of(*pair)
                yield claim.pool, claim.key, Standing(kind=claim.kind, listed=claim.state, counted=own)


class ClaimsInMemory:
    """A `ClaimTable` in dictionaries."""

    def __init__(self, claims: Iterable[Claim] = ()) -> None:
        self._by_key: dict[PublicKey, KeyClaims] = {}
        self.add(claims)

    def add(self, claims: Iterable[Claim]) -> None:
        for claim in claims:
            self._by_key.setdefault(claim.key, KeyClaims()).add(claim)

    def state_of(self, identity: IdentityId, key: PublicKey) -> KeyState | None:
        return self._claims(key).own.get(identity)

    def listed_state(self, pool: IdentityId, owner: IdentityId, key: PublicKey) -> KeyState | None:
        listings = self._claims(key).pools.get(pool)
        return listings.states.get(owner) if listings else None

    def standing(self, author: IdentityId, key: PublicKey) -> Standing:
        return self._claims(key).standing(author)

    def pools_of(self, owner: IdentityId, key: PublicKey) -> Iterable[IdentityId]:
        return [pool for pool, listings in self._claims(key).pools.items() if owner in listings.states]

    def owners_of(self, pool: IdentityId, key: PublicKey) -> list[IdentityId]:
        return sorted(self._claims(key).counted(pool))

    def keys_of(self, identity: IdentityId) -> Mapping[PublicKey, KeyState]:
        return {key: claims.own[identity] for key, claims in self._by_key.items() if identity in claims.own}

    def members_of(self, pool: IdentityId) -> list[Member]:
        return [
            Member(owner, key, state, owner in claims.own)
            for key, claims in sorted(self._by_key.items(), key=lambda item: item[0])
            if pool in claims.pools
            for owner, state in sorted(claims.pools[pool].states.items())
        ]

    def authors(self, prefix: str) -> list[IdentityId]:
        found = {author for claims in self._by_key.values() for author in (*claims.own, *claims.pools)}
        return sorted(author for author in found if to_base32(author).startswith(prefix))

    def has_author(self, author: IdentityId) -> bool:
        return any(author in claims.own or author in claims.pools for claims in self._by_key.values())

    def claims(self) -> Iterator[Claim]:
        """Yield the furthest claim about each key of each author, and in a pool of each owner."""
        for key, claims in self._by_key.items():
            for identity, state in claims.own.items():
                yield Statement(identity, key, state)
            for pool, listings in claims.pools.items():
                for owner, state in listings.states.items():
                    yield Listing(pool, listings.kind, key, state, owner)

    def _claims(self, key: PublicKey) -> KeyClaims:
        return self._by_key.get(key) or KeyClaims()
