"""Readers of what people type after a command (spans, times, bodies), and the options that many commands share."""

import re
import sys
import time
from collections.abc import Callable
from typing import Any, BinaryIO, Final, TypeVar

import click

from echonode.cli.exit_codes import Failure
from echonode.errors import LocalError
from echonode.limits import BODY_BYTES_MAX, KIB
from echonode.model.time_text import maybe_span_s, read_time_ms

_Function = TypeVar("_Function", bound=Callable[..., Any])

_SECONDS: Final = re.compile(r"\d{1,12}(\.\d{1,9})?", re.ASCII)


def to_seconds(text: str) -> float:
    """Return the seconds that an option means: 90s, 10m, 2h, 1d, or a number of seconds. Raises click.BadParameter."""
    value = float(text) if _SECONDS.fullmatch(text) else maybe_span_s(text)
    if not value:
        raise click.BadParameter(f"{text!r} is not a length of time: write 90s, 10m, 2h or 1d")
    return value


def to_time(text: str) -> str:
    """Return `text`, a time as the API takes it (model/time_text.py). Raises click.BadParameter for any other text."""
    try:
        read_time_ms(text, now_ms=int(time.time() * 1000))
    except LocalError as error:
        raise click.BadParameter(str(error)) from None
    return text


def json_option(function: _Function) -> _Function:
    """Add --json to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON to stdout.")(function)


def context_option(function: _Function) -> _Function:
    """Add -c, --context to a command."""
    add = click.option("-c", "--context", default="main", show_default=True, help="The set of records meant.")
    return add(function)


def stdin_bytes() -> BinaryIO:
    """Return stdin as bytes. Raises click.UsageError when the parent process closed it."""
    if sys.stdin is None:
        raise click.UsageError("stdin is closed; give a file or a value instead.")
    return sys.stdin.buffer


def read_body(value: str | None, file: str | None) -> tuple[bytes, str | None]:
    """Return the body that VALUE or --file gives, and its media type if it can be told. `-` is stdin. Raises
    click.UsageError unless exactly one of the two is given, and Failure when the body is too long."""
    if (value is None) == (file is None):
        raise click.UsageError("Give a VALUE, or --file FILE, or - to read stdin.")
    if "-" in (value, file):
        return _bounded(stdin_bytes().read(BODY_BYTES_MAX + 1)), None
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
