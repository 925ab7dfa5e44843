"""Requests, checked: the query, the body up to a bound, the record it names. Every refusal is a RequestError."""

import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Annotated, Final, Literal, TypeVar
from urllib.parse import parse_qsl, unquote

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request

from echonode.api.json_forms import nfc
from echonode.api.problems import RequestError, not_found, too_large
from echonode.api.shutdown import Stop
from echonode.errors import LocalError, TransportError
from echonode.limits import (
    BATCH_RECORDS_MAX,
    BODY_BYTES_MAX,
    CONTEXT_BYTES_MAX,
    INVITATION_EXPIRES_S,
    INVITATION_USES_MAX,
    KIB,
    SYNC_ATTEMPTS_MAX,
    SYNC_BATCH_MAX,
    SYNC_PRIORITY_MAX,
)
from echonode.model.address import UnknownLabelError, parse_address
from echonode.model.filter import Filter
from echonode.model.filter_text import read_filter
from echonode.model.identity import IdentityId
from echonode.model.record import IDENTITIES, MAIN
from echonode.node.node import Node
from echonode.text import escape, is_nfc_text

JSON_BYTES_MAX: Final = 64 * KIB  # of a request that is one JSON object
_EXPIRES_S_MAX: Final = 7 * 86_400
TIMEOUT_S_MAX: Final = 3600
_PAUSE_S_MAX: Final = 366 * 86_400
StrategyName = Literal["merge", "prefer_local", "prefer_remote"]
_IDS_MAX: Final = 100_000  # of one pull: about 20 MB of JSON
_FIELDS_MAX: Final = 100  # 64 tags and every other parameter

_T = TypeVar("_T", bound=Struct)


class ForgetPeerRequest(Struct, forbid_unknown_fields=True):
    """`peer` is an id, an unambiguous prefix of one, a name or a label."""

    peer: str


class PauseRequest(Struct, forbid_unknown_fields=True):
    """`peer` is named as in ForgetPeerRequest, None means all; `for_s` is in seconds, None means until it is ended."""

    peer: str | None = None
    for_s: Annotated[float, Meta(gt=0, le=_PAUSE_S_MAX)] | None = None


class ResumeRequest(Struct, forbid_unknown_fields=True):
    """`peer` is named as in ForgetPeerRequest, None means every pause."""

    peer: str | None = None


class ForgetContextRequest(Struct, forbid_unknown_fields=True):
    """`own`: also when the context was written here."""

    own: bool = False


class PageSessionRequest(Struct, forbid_unknown_fields=True):
    """`ticket` is what stands behind `#` in the link to the page."""

    ticket: str


class NameRequest(Struct, forbid_unknown_fields=True):
    """`name` is the new name of this node."""

    name: str


class SyncRequest(Struct, forbid_unknown_fields=True):
    """`peers` are named as in ForgetPeerRequest; None means all that are reachable. `filter` is a glob on their names
    and ids. `timeout` is in seconds, for all of them; `batch_size` counts for the action batch alone, and `strategy`
    with `force`."""

    peers: list[str] | None = None
    action: Literal["both", "pull", "push", "batch"] = "both"
    timeout: Annotated[float, Meta(gt=0, le=TIMEOUT_S_MAX)] = 30.0
    filter: str | None = None
    force: bool = False
    strategy: StrategyName = "merge"
    priority: Annotated[int, Meta(ge=0, le=SYNC_PRIORITY_MAX)] = 0
    retry: Annotated[int, Meta(ge=1, le=SYNC_ATTEMPTS_MAX)] = 1
    batch_size: Annotated[int, Meta(ge=1, le=SYNC_BATCH_MAX)] = 100


class _PeerRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """A request to one peer. `peer` is named as in ForgetPeerRequest; `timeout` is in seconds."""

    peer: str
    context: str = MAIN
    timeout: Annotated[float, Meta(gt=0, le=TIMEOUT_S_MAX)] = 30.0


class PullRequest(_PeerRequest, forbid_unknown_fields=True, kw_only=True):
    """`filter` holds terms (model/filter_text.py), `after` is the place where the last answer ended, `limit` the number
    of ids that is enough."""

    filter: list[str] = []
    after: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    limit: Annotated[int, Meta(ge=1, le=_IDS_MAX)] = BATCH_RECORDS_MAX


class GetItem(Struct, forbid_unknown_fields=True):
    """`id` is author/name; `version` names one version of it."""

    id: str
    version: str | None = None


class GetRequest(_PeerRequest, forbid_unknown_fields=True, kw_only=True):
    """`records` are to be fetched from the peer."""

    records: Annotated[list[GetItem], Meta(min_length=1, max_length=BATCH_RECORDS_MAX)]


class PutRequest(_PeerRequest, forbid_unknown_fields=True, kw_only=True):
    """`records` are to be put to the peer, author/name each."""

    records: Annotated[list[str], Meta(min_length=1, max_length=BATCH_RECORDS_MAX)]


class InvitationRequest(Struct, forbid_unknown_fields=True):
    """`uses` is the number of nodes that may join by the code, `expires_s` its life in seconds.

    `pool`: a pool that they become members of too, by label or id."""

    uses: Annotated[int, Meta(ge=1, le=INVITATION_USES_MAX)] = 1
    expires_s: Annotated[float, Meta(gt=0, le=_EXPIRES_S_MAX)] = INVITATION_EXPIRES_S
    pool: str | None = None


class JoinRequest(Struct, forbid_unknown_fields=True):
    """`at` is HOST:PORT of the inviting node; None to look for it on the LAN."""

    code: str
    at: str | None = None


class NetworkRequest(Struct, forbid_unknown_fields=True):
    """`secret` is the text that `echonode network show` prints."""

    secret: str


class RotationRequest(Struct, forbid_unknown_fields=True):
    """`without`: the nodes that are left out, named as in ForgetPeerRequest."""

    without: list[str] = []


class Query:
    """The query of a request. Every parameter must be one of `known`: a misspelt one is an error, not ignored."""

    def __init__(self, request: Request, known: Iterable[str]) -> None:
        try:
            self._pairs = parse_qsl(
                request.scope["query_string"].decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=_FIELDS_MAX,
            )
        except ValueError:
            raise RequestError("the query is not percent-encoded UTF-8, or too long") from None
        names = set(known)
        for name, _ in self._pairs:
            if name not in names:
                raise RequestError(f"no parameter {escape(name)} here; there are: {', '.join(sorted(names))}")

    def all(self, name: str) -> tuple[str, ...]:
        """Return every value of `name`, in order."""
        return tuple(value for key, value in self._pairs if key == name)

    def one(self, name: str) -> str | None:
        """Return the one value of `name`, or None. Raises RequestError when there are several."""
        values = self.all(name)
        if len(values) > 1:
            raise RequestError(f"{name} is given {len(values)} times")
        return values[0] if values else None

    def needed(self, name: str) -> str:
        """Return the one value of `name`. Raises RequestError when it is missing."""
        value = self.one(name)
        if not value:
            raise RequestError(f"{name} is missing")
        return value

    def flag(self, name: str) -> bool:
        """Return True for `name=1`, False for `name=0` and when it is missing."""
        value = self.one(name)
        if value not in (None, "0", "1"):
            raise RequestError(f"{name} is 0 or 1")
        return value == "1"

    def choice(self, name: str, values: Sequence[str]) -> str:
        """Return the one value of `name`, one of `values`; the first of them when it is missing."""
        value = self.one(name)
        if value is None:
            return values[0]
        if value not in values:
            raise RequestError(f"{name} is one of {', '.join(values)}")
        return value

    def count(self, name: str) -> int | None:
        """Return a number of 0 or more, or None when it is missing."""
        value = self.one(name)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) <= 12):
            raise RequestError(f"{name} is not a number")
        return int(value)


def context_of(request: Request) -> str:
    """Return the context named in the path, where it is percent-encoded, slashes too."""
    try:
        text = unquote(request.path_params["context"], errors="strict")
    except UnicodeDecodeError:
        raise RequestError("the path is not percent-encoded UTF-8") from None
    return context_name(text)


def context_name(text: str) -> str:
    """Return `text` in NFC, checked to be a context's name."""
    name = nfc(text)
    if not is_nfc_text(name, CONTEXT_BYTES_MAX):
        raise RequestError(f"a context name is 1 to {CONTEXT_BYTES_MAX} bytes of text without control characters")
    return name


def has_context(node: Node, context: str) -> bool:
    """Return True if the context holds anything, is kept on every node, or has a subscription."""
    return context in (MAIN, IDENTITIES, *node.store.contexts(), *node.subscriptions.terms)


def need_context(node: Node, context: str) -> None:
    """Raise RequestError unless the context exists here: most unknown names are misspelt ones."""
    if not has_context(node, context):
        there = ", ".join(escape(name) for name in sorted({MAIN, *node.store.contexts()}))
        raise not_found(f"there is no context {escape(context)} here; there are: {there}")


def record_address(node: Node, query: Query) -> tuple[IdentityId, str]:
    """Return author and name of the record that `id` addresses (model/address.py)."""
    text = nfc(query.needed("id"))
    try:
        parse_address(text)
    except LocalError as error:
        raise RequestError(str(error)) from None
    try:
        return node.addresses.resolve(text)
    except UnknownLabelError as error:
        raise not_found(str(error)) from None
    except LocalError as error:
        raise RequestError(str(error), status=409, code="conflict") from None


def peer_of(node: Node, text: str) -> IdentityId:
    """Return the peer with this name, id or beginning of an id, with or without @ before it."""
    try:
        return node.resolve_peer(text)
    except LocalError as error:
        raise not_found(str(error)) from None


def filter_of(node: Node, terms: Sequence[str], *, why_no_sender: str) -> Filter:
    """Return the filter of these terms (model/filter_text.py). Refuse senders, for the reason `why_no_sender`."""
    try:
        wanted = read_filter(terms, node.addresses.resolve_author, now_ms())
    except LocalError as error:
        raise RequestError(str(error)) from None
    if wanted.senders or wanted.not_senders:
        raise RequestError(f"sender is for subscriptions: {why_no_sender}")
    return wanted


def now_ms() -> int:
    """Return the wall clock's time in ms since 1970."""
    return int(time.time() * 1000)


async def chunks(request: Request, stop: Stop) -> AsyncGenerator[bytes]:
    """Yield the request's body as it comes. Raises Stopping, and TransportError when the client goes away."""
    while True:
        with stop.ends_waiting():
            message = await request.receive()
        if message["type"] == "http.disconnect":
            raise TransportError("the client went away")
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body"):
            return


async def body(request: Request, stop: Stop, *, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """Return the whole body. A body declared too large is refused before any of it is read."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > bytes_max:
        raise _body_too_large(bytes_max)
    data = bytearray()
    async for chunk in chunks(request, stop):
        data += chunk
        if len(data) > bytes_max:
            raise _body_too_large(bytes_max)
    return bytes(data)


async def json_body(request: Request, stop: Stop, kind: type[_T], *, bytes_max: int = JSON_BYTES_MAX) -> _T:
    """Return the JSON object that is the request's body; an empty body counts as an empty object."""
    data = await body(request, stop, bytes_max=bytes_max)
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not what this takes: {escape(str(error))}") from None


def _body_too_large(bytes_max: int) -> RequestError:
    return too_large(f"a body is at most {bytes_max} bytes here")
