"""The rule that decides how many leaves or log entries go into one answer, the same for every store."""

from collections.abc import Iterable, Sequence

from echonode.store.port import Change


def fit_leaves(
    leaves: Iterable[Sequence[bytes]], *, bytes_max: int, records_max: int | None = None
) -> tuple[list[bytes], int, bool]:
    """Take as many of `leaves`, each the heads of one leaf, as fit; at least the first one, however large it is.

    Returns the versions, how many leaves they are of, and True when these were all leaves. The heads of one leaf are
    never split. Consumes at most one leaf beyond those returned."""
    records: list[bytes] = []
    size = taken = 0
    for heads in leaves:
        size += sum(map(len, heads))
        if taken and (size > bytes_max or (records_max is not None and len(records) + len(heads) > records_max)):
            return records, taken, False
        records += heads
        taken += 1
    return records, taken, True


def fit_changes(entries: Iterable[Change], *, records_max: int, bytes_max: int) -> tuple[list[Change], bool]:
    """Return as many of `entries` as fit, at least the first one, and True when these were all."""
    found: list[Change] = []
    size = 0
    for entry in entries:
        size += len(entry.raw)
        if found and (len(found) == records_max or size > bytes_max):
            return found, False
        found.append(entry)
    return found, True
