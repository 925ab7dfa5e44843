"""The places of a context's entries in the log, roughly: a reader passes over the entries of other contexts. Pure.

All contexts share one log, and its rows stand in the order of their seqs alone: an index by context would cost a page
of each commit. Memory knows the runs of seqs in which a context has entries. A run may hold entries of others, up to
_GAP_MAX between two of its own as long as the store is open, and up to a page of the scan that found it (log_scan.py).
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

_GAP_MAX: Final = 1024  # seqs; reading so many entries of others takes less than beginning another query


class LogRuns:
    """The runs of one context. Runs are added in the order of their seqs."""

    def __init__(self) -> None:
        self._firsts = array("Q")
        self._lasts = array("Q")

    def add(self, first: int, last: int) -> None:
        """Add the run from the seq `first` to `last`."""
        assert not self._firsts or first >= self._firsts[-1], "only what is in the log has a run, and seqs rise there"
        if self._lasts and first <= self._lasts[-1] + _GAP_MAX:
            self._lasts[-1] = max(last, self._lasts[-1])
        else:
            self._firsts.append(first)
            self._lasts.append(last)

    def between(self, after: int, until: int) -> Iterator[tuple[int, int]]:
        """Yield each run, first and last seq, as far as it lies behind `after` and not behind `until`."""
        at = max(0, bisect_right(self._firsts, after) - 1)
        for first, last in zip(self._firsts[at:], self._lasts[at:], strict=True):
            first, last = max(first, after + 1), min(last, until)
            if first > until:
                return
            if first <= last:
                yield first, last
