"""What people read: tables, times, sizes. Data goes to stdout, everything else to stderr.

Whatever a peer may have chosen is escaped here, before it reaches a terminal or lines up in a table. JSON is written
in ASCII, which no terminal misreads and every encoding holds.
"""

import json
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Final

from echonode.text import escape

ID_CHARS: Final = 52  # of 32 bytes in base32
_SHORT_ID_CHARS: Final = 8
_TEXT_CHARS_MAX: Final = 400
_ROWS_MEASURED: Final = 200  # a list may be long: it starts after so many rows, and keeps their widths


def print_line(line: str) -> None:
    """A line of data."""
    sys.stdout.write(line + "\n")


def print_note(line: str) -> None:
    """A line beside the data."""
    print(line, file=sys.stderr)


def print_json(value: object) -> None:
    """One JSON value on one line."""
    print_line(json.dumps(value, separators=(", ", ": ")))


def json_line(line: bytes) -> bytes:
    """A line of JSON with everything but ASCII escaped."""
    return json.dumps(json.loads(line), separators=(",", ":")).encode("ascii")


def fields_of(fields: Iterable[str], value: Mapping[str, Any]) -> dict[str, Any]:
    """The promised fields of an answer, in their order: the node may say more, scripts rely on these."""
    return {field: value.get(field) for field in fields}


def safe(text: object) -> str:
    """Any text of others', fit to be shown; None is nothing."""
    return "" if text is None else escape(str(text), _TEXT_CHARS_MAX)


def short_id(id_text: object) -> str:
    """Enough of an id, or of the author in `author/name`, to recognise it and to type it."""
    author, slash, name = safe(id_text).partition("/")
    return (author[:_SHORT_ID_CHARS] if len(author) == ID_CHARS else author) + slash + name


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> Iterator[str]:
    """Lines of aligned columns; those in `right` lean to the right, the last one is never padded."""
    rest = iter(rows)
    first = list(islice(rest, _ROWS_MEASURED))
    widths = [max(map(_width, column)) for column in zip(header, *first, strict=True)]
    leaning = set(right)
    for row in chain([header], first, rest):
        cells = [
            (cell.rjust if index in leaning else cell.ljust)(widths[index] + len(cell) - _width(cell))
            for index, cell in enumerate(row)
        ]
        yield "  ".join(cells).rstrip()


def _width(text: str) -> int:
    """Columns that `text` takes on a terminal (UAX 11)."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def count(number: int, noun: str) -> str:
    """`1 record`, `2,000 records`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(number: int | None) -> str:
    """Bytes, in the unit that keeps it short."""
    value = float(number or 0)
    if value < 1000:
        return f"{value:.0f} B"
    for unit, factor in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if value < 999.95 * factor:
            return f"{value / factor:.1f} {unit}"
    return f"{value / 1e12:.1f} TB"


def seconds(value: float | None) -> str:
    """A span of time, in the unit that keeps it short."""
    span = value or 0.0
    if span < 1:
        return f"{span * 1000:.0f} ms"
    if span < 120:
        return f"{span:.1f} s"
    if span < 7200:
        return f"{span / 60:.0f} min"
    return f"{span / 3600:.0f} h" if span < 172_800 else f"{span / 86_400:.0f} days"


def moment(text: object) -> str:
    """An RFC 3339 time as people write it, to the second, in UTC."""
    return safe(text)[:19].replace("T", " ") + "Z" if text else ""


def ago(text: str | None, now_s: float) -> str:
    """How long before `now_s` (Unix time) an RFC 3339 time was."""
    if not text:
        return "never"
    from datetime import datetime

    try:
        past = now_s - datetime.fromisoformat(text).timestamp()
    except ValueError:
        return safe(text)
    return f"{seconds(past)} ago" if past >= 1 else "just now"
