"""Answers that are complete before they are sent, and routes."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from echonode.api.json_forms import JSON_TYPE, encode
from echonode.api.problems import Problem

PROBLEM_TYPE: Final = "application/problem+json"

Handler = Callable[[Request], Awaitable[Response]]


def reply(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer that holds `value` as JSON."""
    return Response(encode(value), status, {**(headers or {}), "content-type": JSON_TYPE})


def refusal(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer that reports a problem."""
    return Response(encode(problem.as_details()), problem.status, {**(headers or {}), "content-type": PROBLEM_TYPE})


def route(path: str, **handlers: Handler) -> Route:
    """Return the route of `path` with a handler for each method: route("/v1/peers", GET=..). HEAD works only where
    given."""
    return Route(path, _Resource(handlers))


class _Resource:
    """An ASGI application for one path. Starlette would add methods to a plain function; it leaves this alone."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = self._handlers.get(scope["method"])
        if handler is None:
            allowed = ", ".join(self._handlers)
            problem = Problem(405, "method_not_allowed", f"this path takes {allowed}")
            await refusal(problem, {"allow": allowed})(scope, receive, send)
            return
        response = await handler(Request(scope, receive))
        await response(scope, receive, send)
