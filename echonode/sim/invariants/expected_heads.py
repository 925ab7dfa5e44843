"""The heads that a store holds, and the heads that it should hold: the merge of versions by the definition."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

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


def is_covered(record: Record, leaves: Mapping[LeafKey, Sequence[Record]]) -> bool:
    """Return True if `record` is among the heads or superseded by one of them."""
    return any(head.id == record.id or supersedes(head, record) for head in leaves.get(record.key, ()))


def expected_heads(versions: Iterable[Record]) -> set[VersionId]:
    """Return the versions that no other of `versions` supersedes."""
    return {
        version.id
        for leaf in leaves_of(versions).values()
        for version in leaf
        if not any(supersedes(other, version) for other in leaf)
    }
