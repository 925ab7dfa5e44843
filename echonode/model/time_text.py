"""Times as people and programs write them: one grammar for commands, filters, imports and the configuration. Pure.

    2026-11-22                     a date: its beginning, in UTC
    2026-11-22T12:00:00.5+01:00    RFC 3339; a blank may stand for the T, and without a zone it is UTC
    1795348800.25                  seconds since 1970
    90s  10m  2h  1d               before now, where there is a now

Times lie between 1970 and 9999 and have milliseconds; smaller fractions are cut off.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from echonode.errors import LocalError
from echonode.text import escape

MS_MAX: Final = 253_402_300_799_999  # the last millisecond that RFC 3339 can write

_SPAN: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)([smhd])", re.ASCII)
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SECONDS: Final = re.compile(r"\d{1,12}(\.\d{1,9})?", re.ASCII)
_RFC_3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)?)?", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)


def read_time_ms(text: str, now_ms: int | None = None) -> int:
    """Return the ms since 1970 of a time. Without `now_ms` a span before now is no time. Raises LocalError."""
    ms = -1
    if _RFC_3339.fullmatch(text):  # first: every line of an import has such a one
        ms = _rfc_3339_ms(text)
    elif _SECONDS.fullmatch(text):
        ms = round(float(text) * 1000)
    elif now_ms is not None and (span_s := maybe_span_s(text)) is not None:
        ms = now_ms - round(span_s * 1000)
    if not 0 <= ms <= MS_MAX:
        before_now = ", 2h (before now)" if now_ms is not None else ""
        raise LocalError(
            f"'{escape(text)}' is no time between 1970 and 9999: "
            f"write 2026-11-22, 2026-11-22T12:00:00Z{before_now}, or seconds since 1970"
        )
    return ms


def maybe_span_s(text: str) -> float | None:
    """Return the seconds of `90s`, `10m`, `2h` or `1d`; None when `text` is no span."""
    match = _SPAN.fullmatch(text)
    return float(match[1]) * _UNIT_S[match[2]] if match else None


def _rfc_3339_ms(text: str) -> int:
    """Return the ms since 1970, -1 for a day or an hour that does not exist."""
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        return -1
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MS
