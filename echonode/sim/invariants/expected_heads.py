"""The heads that a store holds, and the heads that it should hold: the merge of versions by the definition."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from echonode.model.heads import LEAF_BOUNDS, LeafBounds
from echonode.model.record import LeafKey, Record, VersionId, supersedes
from echonode.store.port import Store

_PAGE: Final = 1000


async def all_heads(store: Store, context: str) -> list[Record]:
    """Return every head of a context, in log order."""
    heads: list[Record] = []
    after = 0
    while True:
        page, after = await store.scan(context, after, limit=_PAGE)
        if not page:
            return heads
        heads += page


def leaves_of(heads: Iterable[Record]) -> dict[LeafKey, list[Record]]:
    """Return the versions grouped by record."""
    leaves: dict[LeafKey, list[Record]] = defaultdict(list)
    for head in heads:
        leaves[head.key].append(head)
    return leaves


def is_covered(record: Record, leaves: Mapping[LeafKey, Sequence[Record]], bounds: LeafBounds = LEAF_BOUNDS) -> bool:
    """Return True if `record` is among the heads, or superseded by one of them, or does not fit beside them."""
    heads = leaves.get(record.key, ())
    if any(head.id == record.id or supersedes(head, record) for head in heads):
        return True
    return record.id not in expected_heads([*heads, record], bounds)


def expected_heads(versions: Iterable[Record], bounds: LeafBounds = LEAF_BOUNDS) -> set[VersionId]:
    """Return the heads of `versions` by the words of PROTOCOL.md §4.4."""
    return {head.id for leaf in leaves_of(versions).values() for head in _heads_of(leaf, bounds)}


def _heads_of(leaf: Sequence[Record], bounds: LeafBounds) -> list[Record]:
    taken: list[Record] = []
    for version in sorted(leaf, key=lambda one: (sum(one.vector.values()), one.timestamp, one.id), reverse=True):
        together = [*taken, version]
        fits = (
            sum(head.kid == version.kid for head in together) <= bounds.heads_per_key
            and len(together) <= bounds.heads
            and sum(len(head.vector) for head in together) <= bounds.entries
            and sum(head.size for head in together) <= bounds.size_bytes
        )
        if fits and not any(supersedes(head, version) for head in taken):
            taken.append(version)
    return taken
