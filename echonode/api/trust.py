"""The routes by which a person decides about other nodes: who is let in, and whose records are shown here.

    GET  /v1/trust           the policy, and what was decided
    POST /v1/peers/approve   let a node in              POST /v1/peers/reject   keep it out
    POST /v1/deny            hide a node's records      POST /v1/allow          show them again
"""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from echonode.api.problems import RequestError, not_found
from echonode.api.requests import ForgetPeerRequest, Query, json_body
from echonode.api.responses import reply, route
from echonode.api.shutdown import Stop
from echonode.errors import LocalError
from echonode.model.identity import IdentityId
from echonode.node.node import Node
from echonode.node.trust_control import Decided, TrustControl
from echonode.text import to_base32


class TrustRoutes:
    """Serves decisions about nodes to the `node` that they are made at."""

    def __init__(self, node: Node, stop: Stop) -> None:
        self._node = node
        self._stop = stop

    @property
    def _control(self) -> TrustControl:
        return self._node.trust_control

    def routes(self) -> list[Route]:
        """Return the routes, as openapi.yaml describes them."""
        return [
            route("/v1/trust", GET=self._trust),
            route("/v1/peers/approve", POST=self._approve),
            route("/v1/peers/reject", POST=self._reject),
            route("/v1/deny", POST=self._deny),
            route("/v1/allow", POST=self._allow),
        ]

    async def _trust(self, request: Request) -> Response:
        Query(request, ())
        decided = list(self._control.decisions())
        return reply(
            {
                "policy": self._control.trust.policy.value,
                **{
                    kind: [_form(each) for each in decided if each.decision == kind]
                    for kind in ("approved", "rejected", "denied")
                },
            }
        )

    async def _approve(self, request: Request) -> Response:
        return await self._decided(request, self._control.approve)

    async def _reject(self, request: Request) -> Response:
        return await self._decided(request, self._control.reject)

    async def _deny(self, request: Request) -> Response:
        return await self._decided(request, self._control.deny)

    async def _allow(self, request: Request) -> Response:
        return await self._decided(request, self._control.allow)

    async def _decided(self, request: Request, decide: Callable[[IdentityId], None]) -> Response:
        """Make a decision about the node that the request names, and return how it is shown."""
        body = await json_body(request, self._stop, ForgetPeerRequest)
        try:
            node = self._control.resolve(body.peer)
        except LocalError as error:
            raise not_found(str(error)) from None
        try:
            decide(node)
        except LocalError as error:
            raise RequestError(str(error), status=409, code="conflict") from None
        return reply({"peer": self._control.label(node), "id": to_base32(node)})


def _form(decided: Decided) -> dict[str, object]:
    return {"id": to_base32(decided.id), "label": decided.label, "configured": decided.is_configured}
