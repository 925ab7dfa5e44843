"""The table `claims`: what all key statements say, by key and by author, for the keyring to look up.

    key     the stated key
    owner   in a pool's listing the identity whose key it is; empty in a node's statement about its own key
    author  the node, or the pool, that states it
    kind    the kind of the pool, 0 for a node
    state   the furthest state: active, retired or compromised

Every row follows from the statements in the log, and is written in the transaction that stores them. There is one row
for all states of a key, and states are whole words. So damage to a row may make a key unknown, and never admits a void
one. `echonode verify` compares the table with the log.

Anybody who is let in may state any number of keys. So nothing here is read at start, and memory holds the latest
answers only, each of a fixed size.
"""

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from echonode.errors import StoreError
from echonode.limits import CLAIM_ANSWERS_MAX
from echonode.model.identity import IDENTITY_BYTES, IdentityId, PublicKey
from echonode.model.key_claims import Claim, KeyState, Listing, Standing, furthest
from echonode.model.keyring import Member
from echonode.store.sqlite.lookups import Lookups, RecentAnswers
from echonode.text import base32_range

ClaimRow: TypeAlias = tuple[PublicKey, bytes, IdentityId, int, str]

CLAIMS_TABLE: Final = (
    "CREATE TABLE claims (key BLOB NOT NULL, owner BLOB NOT NULL, author BLOB NOT NULL, kind INTEGER NOT NULL,"
    " state TEXT NOT NULL, PRIMARY KEY (key, owner, author)) STRICT, WITHOUT ROWID",
    "CREATE INDEX claims_author ON claims (author, key)",
)
# A state never goes back: what is active may become anything, and whatever is not compromised may become that.
SAVE_CLAIM: Final = (
    "INSERT INTO claims VALUES (?, ?, ?, ?, ?) ON CONFLICT (key, owner, author) DO UPDATE SET state = excluded.state"
    " WHERE state = 'active' OR excluded.state = 'compromised'"
)
_NOBODY: Final = b""
_STATES: Final = {state.name.lower(): state for state in KeyState}


def claim_row(claim: Claim) -> ClaimRow:
    """Return the row that says what `claim` says."""
    if isinstance(claim, Listing):
        return claim.key, claim.owner, claim.pool, claim.kind, claim.state.name.lower()
    return claim.key, _NOBODY, claim.identity, 0, claim.state.name.lower()


class ClaimRows:
    """The `ClaimTable` of a store on disk."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups
        self._standings: RecentAnswers[tuple[IdentityId, PublicKey], Standing] = RecentAnswers(CLAIM_ANSWERS_MAX)

    def add(self, claims: Iterable[Claim]) -> None:
        # The rows are there already. Nothing looks up a standing on the writer's thread meanwhile.
        keys = {claim.key for claim in claims}
        if keys:
            for pair in self._standings.questions():
                if pair[1] in keys:
                    self._standings.drop(pair)

    def state_of(self, identity: IdentityId, key: PublicKey) -> KeyState | None:
        return self.standing(identity, key).own

    def listed_state(self, pool: IdentityId, owner: bytes, key: PublicKey) -> KeyState | None:
        return self._furthest("SELECT state FROM claims WHERE key = ? AND owner = ? AND author = ?", key, owner, pool)

    def standing(self, author: IdentityId, key: PublicKey) -> Standing:
        known = self._standings.get((author, key))
        if known is None:
            known = self._read_standing(author, key)
            self._standings.keep((author, key), known)
        return known

    def _read_standing(self, author: IdentityId, key: PublicKey) -> Standing:
        own = self.listed_state(author, _NOBODY, key)
        listed = self._lookups.rows(
            "SELECT DISTINCT kind, state FROM claims WHERE author = ? AND key = ? AND owner <> x''", author, key
        )
        if not listed:
            return Standing(own)
        return Standing(
            own,
            listed[0][0],
            furthest(*(_state(state) for _, state in listed)),
            self._furthest(
                "SELECT DISTINCT own.state FROM claims AS listed JOIN claims AS own"
                " ON own.key = listed.key AND own.owner = x'' AND own.author = listed.owner"
                " WHERE listed.author = ? AND listed.key = ? AND listed.owner <> x''",
                author,
                key,
            ),
        )

    def pools_of(self, owner: IdentityId, key: PublicKey) -> Iterable[IdentityId]:
        rows = self._lookups.rows("SELECT author FROM claims WHERE key = ? AND owner = ?", key, owner)
        return [pool for (pool,) in rows]

    def owners_of(self, pool: IdentityId, key: PublicKey) -> list[IdentityId]:
        rows = self._lookups.rows(
            "SELECT listed.owner FROM claims AS listed JOIN claims AS own"
            " ON own.key = listed.key AND own.owner = x'' AND own.author = listed.owner"
            " WHERE listed.author = ? AND listed.key = ? AND listed.owner <> x'' ORDER BY listed.owner",
            pool,
            key,
        )
        return [owner for (owner,) in rows]

    def keys_of(self, identity: IdentityId) -> Mapping[PublicKey, KeyState]:
        rows = self._lookups.rows("SELECT key, state FROM claims WHERE author = ? AND owner = x''", identity)
        return {key: _state(state) for key, state in rows}

    def members_of(self, pool: IdentityId) -> list[Member]:
        rows = self._lookups.rows(
            "SELECT listed.owner, listed.key, listed.state, own.state IS NOT NULL FROM claims AS listed"
            " LEFT JOIN claims AS own ON own.key = listed.key AND own.owner = x'' AND own.author = listed.owner"
            " WHERE listed.author = ? AND listed.owner <> x'' ORDER BY listed.key, listed.owner",
            pool,
        )
        return [Member(owner, key, _state(state), bool(is_counted)) for owner, key, state, is_counted in rows]

    def authors(self, prefix: str) -> list[IdentityId]:
        bounds = base32_range(prefix, IDENTITY_BYTES)
        if bounds is None:
            return []
        rows = self._lookups.rows("SELECT DISTINCT author FROM claims WHERE author BETWEEN ? AND ? ORDER BY 1", *bounds)
        return [author for (author,) in rows]

    def has_author(self, author: IdentityId) -> bool:
        return bool(self._lookups.rows("SELECT 1 FROM claims WHERE author = ? LIMIT 1", author))

    def _furthest(self, sql: str, *values: bytes) -> KeyState | None:
        return furthest(*(_state(state) for (state,) in self._lookups.rows(sql, *values)))


def _state(word: str) -> KeyState:
    """Return the state that `word` is. Raises StoreError for another one: the row is damaged."""
    state = _STATES.get(word)
    if state is None:
        raise StoreError("a row of `claims` is damaged; to mend the store, type: echonode verify --repair")
    return state
