"""The columns of `log` beside a version's bytes, and how its rows are found by the leaf. Pure.

    created   whole seconds in 7 bytes and the milliseconds in 2, big-endian: they sort as the times do, and a row of a
              filtered read begins with the seconds (store/port.py)
"""

from typing import Any, Final

from echonode.model.record import LeafKey, VersionId

PREFIX_BYTES: Final = 8  # of a key, in the index of leaves
LEAF_PREFIX: Final = f"substr(key, 1, {PREFIX_BYTES})"  # as the index has it
SECONDS_BYTES: Final = 7

# For each table of versions: `spare` and `history` have an index of whole keys, and lose nothing by a prefix.
BY_LEAF: Final = f"context = ? AND {LEAF_PREFIX} = ? AND key = ?"
BY_VERSION: Final = f"{BY_LEAF} AND id = ?"


def created_column(created_ms: int) -> bytes:
    """Return the column for a time of creation."""
    return (created_ms // 1000 << 16 | created_ms % 1000).to_bytes(SECONDS_BYTES + 2, "big")


def leaf_values(context_id: int, key: LeafKey) -> tuple[Any, ...]:
    """Return the values for BY_LEAF."""
    return context_id, key[:PREFIX_BYTES], key


def version_values(context_id: int, key: LeafKey, version: VersionId) -> tuple[Any, ...]:
    """Return the values for BY_VERSION."""
    return context_id, key[:PREFIX_BYTES], key, version
