"""The keys that speak for authors, by a search of all statements: PROTOCOL.md §4.5 to §4.7, written a second time."""

from collections import defaultdict
from collections.abc import Iterable

from echonode.model.identity import IdentityId, PoolKind, PublicKey
from echonode.model.keys import Claim, KeyState, Listing, Statement


class StatedKeys:
    """A set of statements, and what follows from it."""

    def __init__(self) -> None:
        self._claims: dict[PublicKey, set[Claim]] = defaultdict(set)

    def note(self, claim: Claim) -> None:
        """Add a statement."""
        self._claims[claim.key].add(claim)

    def add_all(self, others: "Iterable[StatedKeys]") -> "StatedKeys":
        """Add the statements of `others`, and return this set."""
        for other in others:
            for key, claims in other._claims.items():
                self._claims[key] |= claims
        return self

    def is_admitted(self, author: IdentityId, key: PublicKey) -> bool:
        """Return True if versions of `author` that `key` signed belong to their context."""
        return not self.is_void(author, key) and (
            any(self._says(author, key, state) for state in KeyState) or bool(self._counted(author, key))
        )

    def is_void(self, author: IdentityId, key: PublicKey) -> bool:
        """Return True if no signature of `key` for `author` counts any more."""
        return (
            self._says(author, key, KeyState.COMPROMISED)
            or any(self._says(owner, key, KeyState.COMPROMISED) for owner in self._counted(author, key))
            or any(
                isinstance(claim, Listing)
                and (claim.pool, claim.kind, claim.state) == (author, PoolKind.CLOSED, KeyState.COMPROMISED)
                for claim in self._claims[key]
            )
        )

    def _says(self, identity: IdentityId, key: PublicKey, state: KeyState) -> bool:
        return Statement(identity, key, state) in self._claims[key]

    def _counted(self, pool: IdentityId, key: PublicKey) -> list[IdentityId]:
        return [
            claim.owner
            for claim in self._claims[key]
            if isinstance(claim, Listing)
            and claim.pool == pool
            and claim.kind in list(PoolKind)
            and any(self._says(claim.owner, key, state) for state in KeyState)
        ]
