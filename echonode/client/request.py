"""Requests to a node's API, and where they go. Pure, and light: every command imports it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

MAIN: Final = "main"
JSON_TYPE: Final = "application/json"

Query = Iterable[tuple[str, str | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request. `is_safe`: sending it twice does no harm; `timeout_s` None: the client's own."""

    method: str
    target: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    is_safe: bool = False
    timeout_s: float | None = None


def record_path(context: str, action: str = "") -> str:
    """Return the path of a context's records, or with `action` ("/list") of an action on them."""
    return f"/v1/records/{quote(context, safe='')}{action}"


def conflict_path(context: str, action: str = "") -> str:
    """Return the path of one conflict of a context, or with `action` ("/resolve") of an action on it."""
    return f"/v1/conflicts/{quote(context, safe='')}{action}"


def target(path: str, query: Query = ()) -> str:
    """Return the path with its query, without the pairs whose value is None."""
    text = urlencode([(key, value) for key, value in query if value is not None])
    return f"{path}?{text}" if text else path
