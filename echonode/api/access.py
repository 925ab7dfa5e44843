"""The access to the API over TCP: a bearer token, and no page of another site.

    Host     must be a loopback address or localhost: a foreign name that leads to this machine (DNS rebinding) is not
    Origin   if a browser sends it, must be the page's own: this API's. Sec-Fetch-Site likewise
    token    Authorization: Bearer TOKEN (RFC 6750), compared in constant time; the status page has one of its own. The
             files of that page hold no secret and need none

Over the Unix socket none of this is asked: its mode decides who may open it.
"""

import hmac
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from ipaddress import ip_address
from socket import socket
from time import monotonic
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from echonode.api.page_sessions import PageSessions
from echonode.api.problems import Problem
from echonode.api.responses import refusal

_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(:\d{1,5})?", re.ASCII)
_OWN_SITE: Final = ("same-origin", "none")
_FOREIGN_HOST: Final = "this is not the host that was asked for; use 127.0.0.1, [::1] or localhost"
_FOREIGN_ORIGIN: Final = "pages of other sites may not use this node"
_NO_TOKEN: Final = "the token is missing: on this node's machine `echonode api token` prints it, for ECHO_TOKEN"
_WRONG_TOKEN: Final = "that is not this node's token: on its machine `echonode api token` prints it, for ECHO_TOKEN"


class ApiToken:
    """The token of one node. `renewed` makes another one, keeps it and returns it."""

    __slots__ = ("_renewed", "_text")

    def __init__(self, text: str, renewed: Callable[[], str]) -> None:
        self._text = text
        self._renewed = renewed

    @property
    def text(self) -> str:
        """The token itself. It goes to its owner, and never into a log."""
        return self._text

    def renew(self) -> str:
        """Replace the token, and return the new one. The earlier one is good no more."""
        self._text = self._renewed()
        return self._text

    def is_equal(self, other: bytes) -> bool:
        """Return whether `other` is the token. The time this takes does not tell how much of it is right."""
        return hmac.compare_digest(self._text.encode(), other)


@dataclass(frozen=True, slots=True)
class TcpAccess:
    """The token, the bound socket on which it is asked for, and the sessions of the page there.

    `listening` is None where the configuration switches that off.
    """

    token: ApiToken
    listening: socket | None
    pages: PageSessions = field(default_factory=lambda: PageSessions(monotonic))

    @property
    def url(self) -> str | None:
        """The URL of the listener."""
        if self.listening is None:
            return None
        host, port = self.listening.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Guard:
    """Passes those requests on to `app` that may be answered over TCP, and refuses all others.

    `without_token`: the method and path of each request that is answered without a token.
    """

    def __init__(self, app: ASGIApp, access: TcpAccess, without_token: Collection[tuple[str, str]]) -> None:
        self._app = app
        self._access = access
        self._without_token = without_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        needs_token = (scope["method"], scope["path"]) not in self._without_token
        problem = self._problem(scope["headers"], needs_token=needs_token)
        if problem is None:
            await self._app(scope, receive, send)
            return
        headers = {"www-authenticate": 'Bearer realm="echonode"'} if problem.status == 401 else {}
        await refusal(problem, headers)(scope, receive, send)

    def _problem(self, headers: list[tuple[bytes, bytes]], *, needs_token: bool) -> Problem | None:
        """Return the reason to refuse a request with these headers, None if it may be answered."""
        hosts = [value.lower() for name, value in headers if name == b"host"]
        if len(hosts) != 1 or not _is_loopback(hosts[0].decode("latin-1")):
            return Problem(403, "forbidden", _FOREIGN_HOST)
        origins = [value.lower() for name, value in headers if name == b"origin"]
        sites = [value.decode("latin-1") for name, value in headers if name == b"sec-fetch-site"]
        if any(origin != b"http://" + hosts[0] for origin in origins) or any(site not in _OWN_SITE for site in sites):
            return Problem(403, "forbidden", _FOREIGN_ORIGIN)
        if not needs_token:
            return None
        credentials = [value for name, value in headers if name == b"authorization"]
        if not credentials:
            return Problem(401, "unauthorised", _NO_TOKEN)
        scheme, _, token = credentials[0].partition(b" ")
        if len(credentials) != 1 or scheme.lower() != b"bearer" or not self._is_good(token.strip()):
            return Problem(401, "unauthorised", _WRONG_TOKEN)
        return None

    def _is_good(self, token: bytes) -> bool:
        return self._access.token.is_equal(token) or self._access.pages.holds(token)


def _is_loopback(host: str) -> bool:
    """Return whether a Host header names this machine by an address, or as localhost."""
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = match[1].strip("[]")
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
