"""Pools as one node knows them: with a label of its own, and the seed of the root key where it holds that."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from echonode import cbor
from echonode.errors import RemoteError
from echonode.limits import NODE_NAME_BYTES_MAX
from echonode.model.address import is_findable
from echonode.model.identity import IDENTITY_BYTES, KEY_BYTES, IdentityId, Pool, PoolKind, SigningKey
from echonode.text import is_node_name

SEED_BYTES: Final = 32
_KINDS: Final = frozenset(map(int, PoolKind))


@dataclass(frozen=True, slots=True)
class KnownPool:
    """A pool that people call `label` at this node. `seed`: of its root key, None where another node holds it."""

    id: IdentityId
    kind: PoolKind
    label: str
    seed: bytes | None = field(default=None, repr=False)

    @classmethod
    def of_seed(cls, kind: PoolKind, label: str, seed: bytes) -> "KnownPool":
        """Return the pool of that kind whose root key has the 32-byte seed `seed`."""
        return cls(Pool(kind, SigningKey(seed)).id, kind, label, seed)

    @property
    def pool(self) -> Pool | None:
        """The pool with its root key, None where that is not held here."""
        return None if self.seed is None else Pool(self.kind, SigningKey(self.seed))

    def to_bytes(self) -> bytes:
        """Return the pool in the form in which an invitation carries it (PROTOCOL.md §10.2)."""
        return cbor.encode(self._fields())

    def _fields(self) -> list[cbor.Value]:
        return [self.id, int(self.kind), self.label, self.seed or b""]

    @classmethod
    def from_bytes(cls, data: bytes) -> "KnownPool":
        """Return the pool in `data`. Raises ValueError for anything else."""
        try:
            return cls._of_fields(cbor.decode(data))
        except RemoteError as error:
            raise ValueError(error.detail) from None

    @classmethod
    def _of_fields(cls, fields: cbor.Value) -> "KnownPool":
        match fields:
            case [bytes(pool), int(kind), str(label), bytes(seed)] if (
                len(pool) == IDENTITY_BYTES
                and type(kind) is int
                and kind in _KINDS
                and is_pool_label(label)
                and len(seed) in (0, KEY_BYTES)
            ):
                known = cls(IdentityId(pool), PoolKind(kind), label, seed or None)
            case _:
                raise ValueError("a pool is [id, kind, label, seed]")
        if known.pool is not None and known.pool.id != known.id:
            raise ValueError("the seed is not that of the pool")
        return known


def is_pool_label(label: str) -> bool:
    """Return True if a pool can be called so, and found by that."""
    return is_node_name(label) and is_findable(label)


def pools_to_bytes(pools: Iterable[KnownPool]) -> bytes:
    """Return the form in which a node keeps its pools."""
    return cbor.encode([pool._fields() for pool in pools])


def pools_from_bytes(data: bytes) -> tuple[KnownPool, ...]:
    """Return the pools in `data`. Raises ValueError for anything else."""
    try:
        match cbor.decode(data):
            case list(items):
                return tuple(map(KnownPool._of_fields, items))
    except RemoteError as error:
        raise ValueError(error.detail) from None
    raise ValueError(f"the pools of a node are a list, each with a label of up to {NODE_NAME_BYTES_MAX} bytes")
