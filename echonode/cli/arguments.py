"""Readers of what people type after a command (spans, times, bodies), and the options that many commands share."""

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
    """Return the seconds of `90s`, `10m`, `2h` or `1d`; None when `text` is no span."""
    match = _SPAN.fullmatch(text)
    return float(match[1]) * _UNIT_S[match[2]] if match else None


def to_seconds(text: str) -> float:
    """Return the seconds that an option means: 90s, 10m, 2h, 1d, or a number of seconds. Raises click.BadParameter."""
    value = float(text) if _SECONDS.fullmatch(text) else span_s(text)
    if not value:
        raise click.BadParameter(f"{text!r} is not a length of time: write 90s, 10m, 2h or 1d")
    return value


def to_moment(text: str) -> str:
    """Return a moment in the form that the API takes. `text` is an RFC 3339 time, a date, Unix seconds, or a span
    before now; a time without a zone is UTC. Raises click.BadParameter."""
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
    """Add --json to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON to stdout.")(function)


def context_option(function: _Function) -> _Function:
    """Add -c, --context to a command."""
    add = click.option("-c", "--context", default="main", show_default=True, help="The set of records meant.")
    return add(function)


def read_body(value: str | None, file: str | None) -> tuple[bytes, str | None]:
    """Return the body that VALUE or --file gives, and its media type if it can be told. `-` is stdin. Raises
    click.UsageError unless exactly one of the two is given, and Failure when the body is too long."""
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
