"""The routes of the process around a node: is it alive, is it ready, and with which configuration does it run.

/healthz and /readyz need no token: who supervises a node has none, and they tell nothing of it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from echonode.api.requests import Query
from echonode.api.responses import reply, route

HEALTH: Final = ("/healthz", "/readyz")


@dataclass(frozen=True, slots=True)
class ProcessState:
    """Facts of the process. `trouble` returns why the node cannot work, "" while it can; `settings` returns key, value
    and origin of each setting."""

    trouble: Callable[[], str] = lambda: ""
    settings: Callable[[], Iterable[tuple[str, object, str]]] = lambda: ()


class ProcessRoutes:
    """Serves the state of the process."""

    def __init__(self, state: ProcessState) -> None:
        self._state = state

    def routes(self) -> list[Route]:
        """Return the routes, as openapi.yaml describes them."""
        return [
            route("/healthz", GET=self._alive),
            route("/readyz", GET=self._ready),
            route("/v1/config", GET=self._config),
        ]

    async def _alive(self, request: Request) -> Response:
        Query(request, ())
        return reply({"status": "alive"})

    async def _ready(self, request: Request) -> Response:
        Query(request, ())
        trouble = self._state.trouble()
        return reply({"status": "not ready", "reason": trouble}, 503) if trouble else reply({"status": "ready"})

    async def _config(self, request: Request) -> Response:
        Query(request, ())
        settings = [
            {"key": key, "value": value, "origin": origin} for key, value, origin in self._state.settings()
        ]
        return reply({"settings": settings})
