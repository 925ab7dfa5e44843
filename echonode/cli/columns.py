"""Aligned columns that fit the terminal: 80 columns hold every table, wider terminals are used.

    PEER    ID        STATE      EQUAL  WHY
    pantry  bbbbbbbb  connected  no     34 records differ,
                                        and a sync is due

A table that is too wide first wraps its last column at blanks, then leaves out optional columns, then puts the last
column on lines of its own below the row. No word is broken. Off a terminal a table has the width that it needs.
"""

import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final, TextIO

from echonode.text import columns_of as columns_of

_ROWS_MEASURED: Final = 200  # a long list is shown after so many rows, in the widths that these have
_GAP: Final = "  "
_LAST_COLUMNS_MIN: Final = 24  # a narrower last column is hard to read
_BELOW_INDENT: Final = "    "


def terminal_width(stream: TextIO | None = None) -> int | None:
    """Return the number of columns of the terminal behind `stream` (by default stdout); None when it is no terminal."""
    if not (stream or sys.stdout).isatty():
        return None
    return shutil.get_terminal_size().columns


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Iterable[int] = (),
    optional: Sequence[int] = (),
    width: int | None = None,
) -> Iterator[str]:
    """Yield the lines of a table. The columns in `right` lean to the right.

    `optional` names the columns to leave out where space is short, the first one first. `width` is the space, by
    default the terminal's; without a terminal there is no bound.
    """
    rest = iter(rows)
    first = list(islice(rest, _ROWS_MEASURED))
    widths = [max(map(columns_of, column)) for column in zip(header, *first, strict=True)]
    layout = _Layout(widths, set(right), optional, width or terminal_width())
    yield from layout.header(header)
    for row in chain(first, rest):
        yield from layout.lines(row)


class _Layout:
    """The columns to show, their widths, and the place of the last one."""

    def __init__(self, widths: Sequence[int], right: set[int], optional: Sequence[int], space: int | None) -> None:
        self._widths = widths
        self._right = right
        self._space = space
        self._last = len(widths) - 1
        self._shown = list(range(self._last))
        self._is_below = False
        last_columns = min(widths[self._last], _LAST_COLUMNS_MIN)
        if space is not None and not self._fit(space - last_columns, optional):
            self._is_below = True
            self._fit(space + len(_GAP), optional)

    def _fit(self, space: int, optional: Sequence[int]) -> bool:
        """Leave out optional columns until the others, each with a gap behind it, fit into `space`."""
        shown = list(range(self._last))
        left_out = iter(optional)
        while self._indent(shown) > space:
            column = next(left_out, None)
            if column is None:
                return False
            shown.remove(column)
        self._shown = shown
        return True

    def _indent(self, shown: Sequence[int]) -> int:
        """Return the column at which the cell behind these columns begins."""
        return sum(self._widths[column] + len(_GAP) for column in shown)

    def header(self, row: Sequence[str]) -> Iterator[str]:
        """Yield the lines of the header. A last column below the rows needs none."""
        return self.lines([*row[: self._last], "" if self._is_below else row[self._last]])

    def lines(self, row: Sequence[str]) -> Iterator[str]:
        """Yield the lines of one row."""
        cells = [self._padded(column, row[column]) for column in self._shown]
        if self._is_below:
            yield _GAP.join(cells).rstrip()
            if row[self._last]:
                yield from wrap(row[self._last], self._space, indent=_BELOW_INDENT, first=_BELOW_INDENT)
            return
        first = "".join(f"{cell}{_GAP}" for cell in cells)
        last = self._padded(self._last, row[self._last]) if self._last in self._right else row[self._last]
        yield from wrap(last, self._space, indent=" " * self._indent(self._shown), first=first)

    def _padded(self, column: int, cell: str) -> str:
        padded = self._widths[column] + len(cell) - columns_of(cell)
        return cell.rjust(padded) if column in self._right else cell.ljust(padded)


def wrap(text: str, space: int | None, *, indent: str = "", first: str = "") -> Iterator[str]:
    """Yield `text` behind `first`, in lines of at most `space` columns; later ones begin with `indent`.

    A line ends at a blank. A word that is longer than the space stays whole. Without a space there is one line.
    """
    if space is None or columns_of(first) + columns_of(text) <= space:
        yield (first + text).rstrip()
        return
    line, is_empty = first, True
    for word in text.split(" "):
        if not is_empty and columns_of(line) + 1 + columns_of(word) > space:
            yield line.rstrip()
            line, is_empty = indent, True
        line += word if is_empty else f" {word}"
        is_empty = False
    yield line.rstrip()
