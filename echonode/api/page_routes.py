"""The status page at `/`: its files, the link that signs a browser in, and the session that the link gives.

The files hold no secret and ask nothing of other sites. What the page shows comes from the API, with a token. Its
policy (Content-Security-Policy Level 3) lets scripts, styles and answers come from this node only, and nothing inline.
"""

from functools import cache
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from echonode.api.access import TcpAccess
from echonode.api.problems import RequestError
from echonode.api.requests import PageSessionRequest, Query, json_body
from echonode.api.responses import reply, route
from echonode.api.shutdown import Stop
from echonode.limits import PAGE_TICKET_S

_FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}
_BEGIN: Final = "/v1/page/session"
WITHOUT_TOKEN: Final = frozenset([*[("GET", path) for path in _FILES], ("POST", _BEGIN)])


class PageRoutes:
    """Serves the page, and signs browsers in, over the listener of `access`; None: this API has no listener."""

    def __init__(self, access: TcpAccess | None, stop: Stop) -> None:
        self._access = access
        self._stop = stop

    def routes(self) -> list[Route]:
        """Return the routes, as openapi.yaml describes them."""
        return [
            *[route(path, GET=self._file) for path in _FILES],
            route("/v1/page", POST=self._link),
            route(_BEGIN, POST=self._begin),
        ]

    async def _file(self, request: Request) -> Response:
        name, media_type = _FILES[request.url.path]
        return Response(_content(name), headers={**_HEADERS, "content-type": media_type})

    async def _link(self, request: Request) -> Response:
        Query(request, ())
        if self._access is None or self._access.url is None:
            message = "the page needs the API on TCP: remove api.listen = off from the configuration"
            raise RequestError(message, status=409, code="conflict")
        ticket = self._access.pages.make_ticket()
        answer = {"url": f"{self._access.url}/#{ticket}", "expires_s": PAGE_TICKET_S}
        return reply(answer, headers={"cache-control": "no-store"})

    async def _begin(self, request: Request) -> Response:
        body = await json_body(request, self._stop, PageSessionRequest)
        token = None if self._access is None else self._access.pages.begin(body.ticket)
        if token is None:
            message = "that link was used before, or is older than a minute; `echonode open` makes another"
            raise RequestError(message, status=401, code="unauthorised")
        return reply({"token": token}, headers={"cache-control": "no-store"})


@cache
def _content(name: str) -> bytes:
    return files("echonode.api").joinpath("page", name).read_bytes()
