"""The state that all links share: the versions that came lately, of which the oldest are forgotten."""

import time
from collections import OrderedDict

from echonode.limits import RECENT_VERSIONS_MAX
from echonode.model.record import VersionId
from echonode.store.memory import MemoryStore
from echonode.sync.live.plumtree import Plumtree, ShortId, remember, short_id


def versions(start: int, count: int) -> list[VersionId]:
    return [VersionId(number.to_bytes(32, "little")) for number in range(start, start + count)]


def test_the_latest_versions_are_remembered_and_no_more() -> None:
    plumtree, known = Plumtree(MemoryStore(b"instance")), OrderedDict[ShortId, None]()
    ids = [short_id(each) for each in versions(0, RECENT_VERSIONS_MAX + 10)]
    plumtree.note_arrived(ids, None)
    remember(known, ids)
    assert [plumtree.has_arrived(each) for each in (ids[9], ids[10], ids[-1])] == [False, True, True]
    assert list(known) == ids[10:]


def test_to_forget_the_oldest_costs_no_more_than_to_remember() -> None:
    """A node that has seen many versions must not spend its time on finding the oldest of them."""
    plumtree, known = Plumtree(MemoryStore(b"instance")), OrderedDict[ShortId, None]()

    def cost_s(start: int) -> float:
        batches = [[short_id(each) for each in versions(start + at, 64)] for at in range(0, RECENT_VERSIONS_MAX, 64)]
        began_s = time.process_time()
        for batch in batches:
            plumtree.note_arrived(batch, None)
            remember(known, batch)
        return time.process_time() - began_s

    first_s = cost_s(0)
    assert min(cost_s(number * RECENT_VERSIONS_MAX) for number in range(1, 6)) < 6 * first_s
