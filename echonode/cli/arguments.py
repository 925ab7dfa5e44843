"""What people type after a command: spans, times, bodies; and the options that many commands share."""

import re
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from echonode.cli.exit_codes import Failure
from echonode.limits import BODY_BYTES_MAX, KIB

_Function = TypeVar("_Function", bound=Callable[..., Any])

_SPAN: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(s|m|h|d)", re.ASCII)
_SECONDS: Final = re.compile(r"\d{1,12}(\.\d{1,9})?", re.ASCII)
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def span_s(text: str) -> float | None:
    """Seconds of `90s`, `10m`, `2h` or `1d`; None when it is no such thing."""
    match = _SPAN.fullmatch(text)
    return float(match[1]) * _UNIT_S[match[2]] if match else None


def to_seconds(text: str) -> float:
    """A length of time, in seconds, as an option takes it: 90s, 10m, 2h, 1d, or a number of seconds."""
    value = float(text) if _SECONDS.fullmatch(text) else span_s(text)
    if not value:
        raise click.BadParameter(f"{text!r} is not a length of time: write 90s, 10m, 2h or 1d")
    return value


def to_moment(text: str) -> str:
    """A moment, as the API takes it: RFC 3339, a date, Unix seconds, or a span before now; in UTC unless it says."""
    from datetime import UTC, datetime

    if _SECONDS.fullmatch(text):
        return text
    before_now = span_s(text)
    try:
        if before_now is not None:
            return f"{datetime.now(UTC).timestamp() - before_now:.3f}"
        when = datetime.fromisoformat(text)
        return f"{(when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp():.3f}"
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(f"{text!r} is not a time: write 2026-11-22, 2026-11-22T12:00:00Z or 2h") from None


def json_option(function: _Function) -> _Function:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON to stdout.")(function)


def context_option(function: _Function) -> _Function:
    """-c, --context."""
    add = click.option("-c", "--context", default="main", show_default=True, help="The set of records meant.")
    return add(function)


def read_body(value: str | None, file: str | None) -> tuple[bytes, str | None]:
    """The body that VALUE or --file gives, `-` being stdin, and its media type where that can be told."""
    if (value is None) == (file is None):
        raise click.UsageError("Give a VALUE, or --file FILE, or - to read stdin.")
    if "-" in (value, file):
        return _bounded(sys.stdin.buffer.read(BODY_BYTES_MAX + 1)), None
    if value is not None:
        try:
            return _bounded(value.encode()), "text/plain"
        except UnicodeEncodeError:
            raise click.UsageError("VALUE is not valid text; use --file for other bytes.") from None
    assert file is not None
    import mimetypes

    with open(file, "rb") as source:
        return _bounded(source.read(BODY_BYTES_MAX + 1)), mimetypes.guess_type(file)[0]


def _bounded(body: bytes) -> bytes:
    if len(body) > BODY_BYTES_MAX:
        raise Failure(f"a record's body may have {BODY_BYTES_MAX // KIB} KiB, and this is more")
    return body
