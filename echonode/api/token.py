"""The routes of the token: read it, replace it. Who may use this API has its power anyway."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from echonode.api.access import TcpAccess
from echonode.api.problems import RequestError
from echonode.api.requests import Query
from echonode.api.responses import reply, route


class TokenRoutes:
    """Serves requests about the token of `access`; None: this API has none."""

    def __init__(self, access: TcpAccess | None) -> None:
        self._access = access

    def routes(self) -> list[Route]:
        """Return the routes, as openapi.yaml describes them."""
        return [route("/v1/token", GET=self._read, POST=self._renew)]

    async def _read(self, request: Request) -> Response:
        Query(request, ())
        access = self._needed()
        return self._answer(access, access.token.text)

    async def _renew(self, request: Request) -> Response:
        Query(request, ())
        access = self._needed()
        access.pages.end_all()
        return self._answer(access, access.token.renew())

    def _needed(self) -> TcpAccess:
        if self._access is None:
            raise RequestError("the node is not running: it has a token when it runs", status=409, code="conflict")
        return self._access

    def _answer(self, access: TcpAccess, token: str) -> Response:
        return reply({"token": token, "url": access.url}, headers={"cache-control": "no-store"})
