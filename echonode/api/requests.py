"""What a request says, checked: its query, its body up to a bound, the record it means. Refusals are RequestErrors."""

from collections.abc import AsyncGenerator, Iterable
from typing import Annotated, Final, Literal, TypeVar
from urllib.parse import parse_qsl, unquote

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request

from echonode.api.json_forms import nfc
from echonode.api.problems import RequestError, too_large
from echonode.api.shutdown import Stop
from echonode.errors import LocalError, TransportError
from echonode.limits import (
    BATCH_RECORDS_MAX,
    BODY_BYTES_MAX,
    CONTEXT_BYTES_MAX,
    INVITATION_EXPIRES_S,
    INVITATION_USES_MAX,
    KIB,
)
from echonode.model.identity import IdentityId
from echonode.model.record import MAIN
from echonode.node.node import Node
from echonode.text import escape, is_nfc_text

JSON_BYTES_MAX: Final = 64 * KIB  # of a request that is one JSON object
_EXPIRES_S_MAX: Final = 7 * 86_400
_TIMEOUT_S_MAX: Final = 3600
_IDS_MAX: Final = 100_000  # of one pull: about 20 MB of JSON
_FIELDS_MAX: Final = 100  # 64 tags and every other parameter

_T = TypeVar("_T", bound=Struct)


class TrustRequest(Struct, forbid_unknown_fields=True):
    """`peer`: an id, an unambiguous prefix of one, or a name."""

    peer: str


class SyncRequest(Struct, forbid_unknown_fields=True):
    """`peers`: as in TrustRequest; None for all that are reachable. `timeout`: seconds in all."""

    peers: list[str] | None = None
    action: Literal["both", "pull", "push"] = "both"
    timeout: Annotated[float, Meta(gt=0, le=_TIMEOUT_S_MAX)] = 30.0


class _OfPeer(Struct, forbid_unknown_fields=True, kw_only=True):
    """A question to one peer. `peer`: as in TrustRequest; `timeout`: seconds in all."""

    peer: str
    context: str = MAIN
    timeout: Annotated[float, Meta(gt=0, le=_TIMEOUT_S_MAX)] = 30.0


class PullRequest(_OfPeer, forbid_unknown_fields=True, kw_only=True):
    """`filter`: terms (model/filter_text.py); `after`: where the last answer ended; `limit`: ids enough."""

    filter: list[str] = []
    after: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    limit: Annotated[int, Meta(ge=1, le=_IDS_MAX)] = BATCH_RECORDS_MAX


class GetItem(Struct, forbid_unknown_fields=True):
    """author/name, and one version of it when it is given."""

    id: str
    version: str | None = None


class GetRequest(_OfPeer, forbid_unknown_fields=True, kw_only=True):
    """The records to fetch."""

    records: Annotated[list[GetItem], Meta(min_length=1, max_length=BATCH_RECORDS_MAX)]


class OfferRequest(_OfPeer, forbid_unknown_fields=True, kw_only=True):
    """The records to offer: author/name of each."""

    records: Annotated[list[str], Meta(min_length=1, max_length=BATCH_RECORDS_MAX)]


class InvitationRequest(Struct, forbid_unknown_fields=True):
    """How many may join by the code, and for how long."""

    uses: Annotated[int, Meta(ge=1, le=INVITATION_USES_MAX)] = 1
    expires_s: Annotated[float, Meta(gt=0, le=_EXPIRES_S_MAX)] = INVITATION_EXPIRES_S


class JoinRequest(Struct, forbid_unknown_fields=True):
    """`at`: HOST:PORT of the inviter; None to look for it on the LAN."""

    code: str
    at: str | None = None


class NetworkRequest(Struct, forbid_unknown_fields=True):
    """`key`: 32 bytes in base32."""

    key: str


class Query:
    """The query of a request, every parameter of which must be one of `known`: a misspelt one is not passed over."""

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
        """Every value given for `name`, in order."""
        return tuple(value for key, value in self._pairs if key == name)

    def one(self, name: str) -> str | None:
        """The one value of `name`."""
        values = self.all(name)
        if len(values) > 1:
            raise RequestError(f"{name} is given {len(values)} times")
        return values[0] if values else None

    def needed(self, name: str) -> str:
        """The one value of `name`, which must be there."""
        value = self.one(name)
        if not value:
            raise RequestError(f"{name} is missing")
        return value

    def flag(self, name: str) -> bool:
        """`name=1`."""
        value = self.one(name)
        if value not in (None, "0", "1"):
            raise RequestError(f"{name} is 0 or 1")
        return value == "1"

    def count(self, name: str) -> int | None:
        """A number from 0 on."""
        value = self.one(name)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) <= 12):
            raise RequestError(f"{name} is not a number")
        return int(value)


def context_of(request: Request) -> str:
    """The context in the path, which comes as it was sent: percent-encoded, so that a name may have a slash in it."""
    try:
        text = unquote(request.path_params["context"], errors="strict")
    except UnicodeDecodeError:
        raise RequestError("the path is not percent-encoded UTF-8") from None
    return context_name(text)


def context_name(text: str) -> str:
    """`text` as the name of a context."""
    name = nfc(text)
    if not is_nfc_text(name, CONTEXT_BYTES_MAX):
        raise RequestError(f"a context name is 1 to {CONTEXT_BYTES_MAX} bytes of text without control characters")
    return name


def address(node: Node, query: Query) -> tuple[IdentityId, str]:
    """Author and name of the record that `id` means."""
    try:
        return node.records.resolve(nfc(query.needed("id")))
    except RequestError:
        raise
    except LocalError as error:
        raise RequestError(str(error), status=409, code="conflict") from None


async def chunks(request: Request, stop: Stop) -> AsyncGenerator[bytes]:
    """The request's body as it comes. Raises Stopping, and TransportError when the client goes away."""
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
    """The whole body. What is declared too large is refused before any of it is awaited."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > bytes_max:
        raise _body_too_large(bytes_max)
    data = bytearray()
    async for chunk in chunks(request, stop):
        data += chunk
        if len(data) > bytes_max:
            raise _body_too_large(bytes_max)
    return bytes(data)


async def json_body(request: Request, stop: Stop, kind: type[_T]) -> _T:
    """The one JSON object that the request carries; an empty body is an empty object."""
    data = await body(request, stop, bytes_max=JSON_BYTES_MAX)
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not what this takes: {escape(str(error))}") from None


def _body_too_large(bytes_max: int) -> RequestError:
    return too_large(f"a body is at most {bytes_max} bytes here")
