"""How many leaves go into one answer: the same rule for every store. A leaf's heads are never split."""

from collections.abc import Iterable, Sequence

from echonode.store.port import Change


def fit(
    leaves: Iterable[Sequence[bytes]], *, bytes_max: int, records_max: int | None = None
) -> tuple[list[bytes], int, bool]:
    """The versions of as many `leaves` (each the heads of one) as fit, or of the first one however large it is; how
    many leaves that were; and whether these were all. Takes no more from `leaves` than one leaf beyond."""
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
    """As many `entries` as fit, or the first one however large it is; and whether these were all."""
    found: list[Change] = []
    size = 0
    for entry in entries:
        size += len(entry.raw)
        if found and (len(found) == records_max or size > bytes_max):
            return found, False
        found.append(entry)
    return found, True
