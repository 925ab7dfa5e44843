"""Conditional writes (RFC 9110 §13): a program says which heads of a record it has seen, and writes only over those.

    GET  -> ETag: "TAG"              names exactly the heads that stand
    PUT, DELETE  If-Match: "TAG"     only while these are the heads; `*`: only what is there
    PUT  If-None-Match: *            only what is not there

The store looks again in the transaction that writes, so that of two programs with the same tag one gets 412.
"""

import re
from collections.abc import Sequence
from typing import Final

from starlette.requests import Request

from echonode.api.json_forms import etag_of
from echonode.api.problems import RequestError
from echonode.model.heads import winner
from echonode.model.record import Record, VersionId

_TAG: Final = re.compile(r'\s*"([\x21\x23-\x7e]*)"\s*')
_ANY: Final = "*"


def tagged(heads: Sequence[Record]) -> dict[str, str]:
    """Return the header that names `heads`, none for a record of which only history is held."""
    return {"etag": f'"{etag_of(heads)}"'} if heads else {}


def is_conditional(request: Request) -> bool:
    """Return whether a condition has to hold for the record that `request` writes."""
    return "if-match" in request.headers or "if-none-match" in request.headers


def expected_heads(
    request: Request, heads: Sequence[Record], standing: Sequence[Record]
) -> frozenset[VersionId] | None:
    """Return the ids of `standing` where the request's condition holds for `heads`; None without a condition.

    `standing`: the heads that stand; `heads`: those of them that readers see. Raises RequestError where it does not
    hold (412), or is none (400).
    """
    match, none_match = request.headers.get("if-match"), request.headers.get("if-none-match")
    if match is None and none_match is None:
        return None
    is_there = bool(heads) and not winner(heads).is_tombstone
    if none_match is not None and none_match.strip() != _ANY:
        raise RequestError("If-None-Match takes * alone here: write only what is not there yet")
    if none_match is not None and is_there:
        raise _failed("the record is there already: read it, then write with If-Match")
    if match is not None and match.strip() == _ANY:
        if not is_there:
            raise _failed("there is no such record: write it without If-Match")
    elif match is not None and (not heads or etag_of(heads) not in _tags(match)):
        raise _failed("the record was written since it was read: read it again, then write over that")
    return frozenset(head.id for head in standing)


def _tags(text: str) -> list[str]:
    found = [_TAG.fullmatch(part) for part in text.split(",")]
    if not all(found):
        raise RequestError('If-Match is * or the ETag of an answer, in double quotes: If-Match: "TAG"')
    return [each[1] for each in found if each is not None]


def _failed(message: str) -> RequestError:
    return RequestError(message, status=412, code="precondition_failed")
