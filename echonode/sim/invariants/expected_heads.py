"""What a store holds, and what it should: the model's merge, by the definition."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from echonode.model.record import LeafKey, Record, VersionId, supersedes
from echonode.store.port import Store

_PAGE: Final = 1000


async def all_heads(store: Store, context: str) -> list[Record]:
    """Every head of a context, in log order."""
    heads: list[Record] = []
    after = 0
    while True:
        page, after = await store.scan(context, after, limit=_PAGE)
        if not page:
            return heads
        heads += page


def leaves_of(heads: Iterable[Record]) -> dict[LeafKey, list[Record]]:
    """Versions by the record they are of."""
    leaves: dict[LeafKey, list[Record]] = defaultdict(list)
    for head in heads:
        leaves[head.key].append(head)
    return leaves


def is_covered(record: Record, leaves: Mapping[LeafKey, Sequence[Record]]) -> bool:
    """Whether `record` is among the heads, or superseded by one."""
    return any(head.id == record.id or supersedes(head, record) for head in leaves.get(record.key, ()))


def merge_of(versions: Iterable[Record]) -> set[VersionId]:
    """What no other version dominates, by the definition."""
    return {
        one.id
        for some in leaves_of(versions).values()
        for one in some
        if not any(supersedes(other, one) for other in some)
    }
