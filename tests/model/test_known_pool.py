"""Pools as a node knows them: their bytes, and what is no pool."""

import pytest

from echonode import cbor
from echonode.model.identity import PoolKind
from echonode.model.known_pool import KnownPool, pools_from_bytes, pools_to_bytes

TEAM = KnownPool.of_seed(PoolKind.COMMON, "team", b"\7" * 32)
HEARD_OF = KnownPool(TEAM.id, TEAM.kind, "heard of", None)


@pytest.mark.parametrize("pool", [TEAM, HEARD_OF])
def test_a_pool_survives_its_bytes(pool: KnownPool) -> None:
    assert KnownPool.from_bytes(pool.to_bytes()) == pool
    assert pools_from_bytes(pools_to_bytes([pool, TEAM])) == (pool, TEAM)


FIELDS: list[cbor.Value] = [TEAM.id, int(TEAM.kind), "team", b"\7" * 32]


@pytest.mark.parametrize(
    "fields",
    [
        FIELDS[:3],
        [TEAM.id[1:], *FIELDS[1:]],
        [TEAM.id, True, *FIELDS[2:]],
        [TEAM.id, 99, *FIELDS[2:]],
        [*FIELDS[:2], " ", FIELDS[3]],
        [*FIELDS[:3], b"short"],
        [*FIELDS[:3], b"\x08" * 32],  # the seed of another pool
    ],
)
def test_what_is_no_pool_is_refused(fields: list[cbor.Value]) -> None:
    with pytest.raises(ValueError, match="pool"):
        KnownPool.from_bytes(cbor.encode(fields))
    with pytest.raises(ValueError, match="pool"):
        pools_from_bytes(cbor.encode([FIELDS, fields]))


@pytest.mark.parametrize("data", [b"", b"\xff", cbor.encode(7)])
def test_bytes_that_hold_no_pools_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"pool|bytes|CBOR|end"):
        KnownPool.from_bytes(data)
    with pytest.raises(ValueError, match=r"pool|bytes|CBOR|end"):
        pools_from_bytes(data)
