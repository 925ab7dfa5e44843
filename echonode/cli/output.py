"""The output of commands: lines, JSON, times, sizes. Data goes to stdout, everything else to stderr.

Text that a peer may have chosen is escaped here, before it reaches a terminal or a column. JSON is written in ASCII: no
terminal misreads it, and every encoding can hold it.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TextIO

from echonode.cli.columns import terminal_width, wrap
from echonode.manual import log_lines
from echonode.text import escape

ID_CHARS: Final = 52  # of 32 bytes in base32
_SHORT_ID_CHARS: Final = 8
_TEXT_CHARS_MAX: Final = 400
_DAY_S: Final = 86_400.0
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7e]+")


def is_coloured(stream: TextIO) -> bool:
    """Return True if colours may be written: to a terminal, unless NO_COLOR or a dumb TERM forbids it."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_line(line: str) -> None:
    """Print a line of data on stdout."""
    sys.stdout.write(line + "\n")


def print_note(line: str) -> None:
    """Print a line for a person on stderr; on a terminal it ends at a blank."""
    for part in line.split("\n"):
        for piece in wrap(part, terminal_width(sys.stderr)):
            print(piece, file=sys.stderr)


def print_text(line: str, *, indent: str = "") -> None:
    """Print a sentence on stdout. On a terminal long ones are wrapped at blanks, later lines begin with `indent`."""
    for piece in wrap(line, terminal_width(), indent=indent):
        print_line(piece)


@contextmanager
def note_after(delay_s: float, line: str) -> Iterator[None]:
    """Print a line on stderr if the block takes longer than `delay_s`."""
    from threading import Timer

    timer = Timer(delay_s, print_note, [line])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def print_json(value: object) -> None:
    """Print one JSON value on one line of stdout."""
    print_line(json.dumps(value, separators=(", ", ": ")))


def ascii_json(data: bytes) -> bytes:
    """Return JSON with everything but printable ASCII escaped, and otherwise unchanged: numbers stay as written."""
    return _NOT_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], data.decode("utf-8", "replace")).encode("ascii")


def fields_of(fields: Iterable[str], value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the promised fields of an answer, in their order. The node may send more; scripts rely on these."""
    return {field: value.get(field) for field in fields}


def safe(text: object) -> str:
    """Return any text, escaped for a terminal; None becomes ""."""
    return "" if text is None else escape(str(text), _TEXT_CHARS_MAX)


def terminal_text(body: bytes) -> str:
    """Return a body for a terminal, ending in a line end: all that a terminal could obey is escaped.

    Line ends and tabs stay. Bytes that are not UTF-8 are shown as \\xNN.
    """
    text = body.decode("utf-8", "backslashreplace")
    shown = "".join(char if char in "\n\t" or char.isprintable() else escape(char) for char in text)
    return shown if not shown or shown.endswith("\n") else f"{shown}\n"


def short_id(id_text: object) -> str:
    """Return the first characters of an id, or of the author in `author/name`: enough to recognise it and to type it.
    """
    author, slash, name = safe(id_text).partition("/")
    if len(author) != ID_CHARS:
        return author + slash + name
    return f"@{author[:_SHORT_ID_CHARS]}/{name}" if slash else author[:_SHORT_ID_CHARS]


def shown_address(record: Mapping[str, Any]) -> str:
    """Return the address of a record as it can be typed on this node."""
    return safe(record.get("address")) or short_id(record["id"])


def count(number: int, noun: str) -> str:
    """Return `1 record`, `2,000 records`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(number: int | None) -> str:
    """Return a number of bytes in the unit that keeps it short."""
    return log_lines.size(number or 0)


def seconds(value: float | None) -> str:
    """Return a span of time in the unit that keeps it short."""
    return log_lines.span(value or 0.0)


def since(text: str | None, now_s: float) -> str:
    """Return `since 14:02, 3 min` for an RFC 3339 time, in the time zone of this machine; "" for none."""
    if not text:
        return ""
    from datetime import datetime

    try:
        began = datetime.fromisoformat(text).astimezone()
    except ValueError:
        return f"since {safe(text)}"
    past_s = max(0.0, now_s - began.timestamp())
    return f"since {began:{'%H:%M' if past_s < _DAY_S else '%Y-%m-%d %H:%M'}}, {seconds(past_s)}"


def moment(text: object) -> str:
    """Return an RFC 3339 time as people write it, to the second, in UTC."""
    return safe(text)[:19].replace("T", " ") + "Z" if text else ""


def ago(text: str | None, now_s: float) -> str:
    """Return how long before `now_s` (Unix time) an RFC 3339 time was."""
    if not text:
        return "never"
    from datetime import datetime

    try:
        past = now_s - datetime.fromisoformat(text).timestamp()
    except ValueError:
        return safe(text)
    return f"{seconds(past)} ago" if past >= 1 else "just now"
