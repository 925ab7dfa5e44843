"""Denials: the identities whose versions are hidden from readers at this node. Pure.

A version is hidden when it is of a denied node, or stands in a pool and was signed by a key that the pool lists as that
node's. It stays in the tree, is counted and passed on: what a node shows changes nothing about what is equal.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Final
from zlib import crc32

from echonode.model.identity import IdentityId, PublicKey
from echonode.model.keyring import Keyring
from echonode.model.record import IDENTITIES, Record

MARK_BYTES: Final = 4


class Denials:
    """The denied identities of one node. `keyring` returns what is known of keys: whose they are, in each pool."""

    def __init__(self, keyring: Callable[[], Keyring]) -> None:
        self._keyring = keyring
        self._denied: frozenset[IdentityId] = frozenset()
        self.mark = b""

    def __contains__(self, identity: IdentityId) -> bool:
        return identity in self._denied

    def set(self, denied: Collection[IdentityId]) -> None:
        """Hide the versions of `denied`, and of nobody else. `mark` is b"" for nobody, else another for every set."""
        self._denied = frozenset(denied)
        self.mark = crc32(b"".join(sorted(denied))).to_bytes(MARK_BYTES, "big") if denied else b""

    def owner(self, record: Record) -> IdentityId | None:
        """Return the denied identity that `record` is of; None for a version that readers get."""
        if not self._denied or record.context == IDENTITIES:
            return None
        owners = self._keyring().signers_of(record.author, record.kid)
        return next((owner for owner in owners if owner in self._denied), None)

    def shown(self, records: Iterable[Record]) -> list[Record]:
        """Return those of `records`, all of one context, that readers get, in order."""
        if not self._denied:
            return list(records)
        owners: dict[tuple[IdentityId, PublicKey], IdentityId | None] = {}  # a lookup on disk for each author and key
        shown = []
        for record in records:
            signer = record.author, record.kid
            if signer not in owners:
                owners[signer] = self.owner(record)
            if owners[signer] is None:
                shown.append(record)
        return shown
