"""The routes of the node itself: status, peers, contexts, events, verify, invitations, the network."""

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import get_args

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from echonode.api.json_forms import maybe_rfc3339, rfc3339
from echonode.api.problems import RequestError, not_found
from echonode.api.recent_events import EventFilter, EventRing, kinds_of
from echonode.api.requests import (
    ForgetContextRequest,
    ForgetPeerRequest,
    InvitationRequest,
    JoinRequest,
    NameRequest,
    NetworkRequest,
    PauseRequest,
    Query,
    ResumeRequest,
    RotationRequest,
    context_name,
    context_of,
    json_body,
    peer_of,
)
from echonode.api.responses import reply, route
from echonode.api.shutdown import Stop
from echonode.api.streams import EVENT_STREAM, StreamResponse, json_lines
from echonode.errors import ConfigError, LocalError
from echonode.model.identity import IdentityId
from echonode.model.member_secret import MemberSecret
from echonode.node.audits import AuditReport
from echonode.node.events import Event
from echonode.node.node import Node
from echonode.node.views import PeerView
from echonode.store.port import ContextInfo
from echonode.text import escape, to_base32
from echonode.wire.messages import version_text
from echonode.wire.pairing import normalise_code

_EVENT_NAMES = tuple(sorted(kind.name for kind in get_args(Event)))


class NodeRoutes:
    """Serves requests about `node` itself. `api` lists the sockets of this API, `ring` holds the latest events."""

    def __init__(self, node: Node, stop: Stop, ring: EventRing, *, version: str, api: Sequence[str]) -> None:
        self._node = node
        self._stop = stop
        self._version = version
        self._api = tuple(api)
        self._ring = ring

    def routes(self) -> list[Route]:
        """Return the routes, as openapi.yaml describes them."""
        return [
            route("/v1/status", GET=self._status),
            route("/v1/peers", GET=self._peers),
            route("/v1/peers/forget", POST=self._forget_peer),
            route("/v1/name", PUT=self._rename),
            route("/v1/pause", POST=self._pause),
            route("/v1/resume", POST=self._resume),
            route("/v1/contexts", GET=self._contexts),
            route("/v1/contexts/{context}/forget", POST=self._forget_context),
            route("/v1/events", GET=self._events),
            route("/v1/verify", POST=self._verify),
            route("/v1/invitations", POST=self._invite),
            route("/v1/join", POST=self._join),
            route("/v1/network", GET=self._network, PUT=self._set_network),
            route("/v1/network/rotate", POST=self._rotate_network),
        ]

    async def _status(self, request: Request) -> Response:
        Query(request, ())
        status = await self._node.status()
        return reply(
            {
                "id": to_base32(status.id),
                "name": status.name,
                "label": status.label,
                "instance": to_base32(status.instance),
                "network": status.network,
                "version": self._version,
                "listen": status.listen,
                "api": self._api,
                "models": _versions(self._node.models),
                "contexts": [await self._context_form(info) for info in status.contexts],
                "history": asdict(status.history),
                "peers": [_peer_form(peer) for peer in status.peers],
                "invitation": status.invitation,
                "handshakes_dropped": status.handshakes_dropped,
                "joining": status.joining,
                "key_problem": status.key_problem,
                "paused": None if status.pause is None else {"until": maybe_rfc3339(status.pause.until_ms)},
                "left_out_by": list(status.left_out_by),
                "audit": _audit_form(self._node.audits.last),
            }
        )

    async def _peers(self, request: Request) -> Response:
        Query(request, ())
        return reply({"peers": [_peer_form(peer) for peer in self._node.peers()]})

    async def _forget_peer(self, request: Request) -> Response:
        body = await json_body(request, self._stop, ForgetPeerRequest)
        try:
            peer = self._node.trust_control.resolve(body.peer)
        except LocalError as error:
            raise not_found(str(error)) from None
        try:
            return reply({"peer": await self._node.forget_peer(to_base32(peer))})
        except LocalError as error:
            raise RequestError(str(error), status=409, code="conflict") from None

    async def _pause(self, request: Request) -> Response:
        body = await json_body(request, self._stop, PauseRequest)
        if body.peer is not None:
            peer_of(self._node, body.peer)
        pause = self._node.pause_control.pause(body.peer, body.for_s)
        return reply({"until": maybe_rfc3339(pause.until_ms)})

    async def _resume(self, request: Request) -> Response:
        body = await json_body(request, self._stop, ResumeRequest)
        if body.peer is not None:
            peer_of(self._node, body.peer)
        try:
            self._node.pause_control.resume(body.peer)
        except LocalError as error:
            raise RequestError(str(error), status=409, code="conflict") from None
        return reply({})

    async def _rename(self, request: Request) -> Response:
        body = await json_body(request, self._stop, NameRequest)
        try:
            return reply({"name": await self._node.rename(body.name)})
        except LocalError as error:
            raise RequestError(str(error)) from None

    async def _contexts(self, request: Request) -> Response:
        Query(request, ())
        return reply({"contexts": [await self._context_form(info) for info in (await self._node.status()).contexts]})

    async def _forget_context(self, request: Request) -> Response:
        context = context_of(request)
        body = await json_body(request, self._stop, ForgetContextRequest)
        try:
            return reply({"forgotten": await self._node.forget_context(context, own_too=body.own)})
        except LocalError as error:
            raise RequestError(str(error), status=409, code="conflict") from None

    async def _events(self, request: Request) -> Response:
        query = Query(request, ("types", "context", "peer", "since"))
        try:
            kinds = kinds_of(query.one("types") or "", _EVENT_NAMES)
        except ValueError as error:
            there = ", ".join(_EVENT_NAMES)
            raise RequestError(f"no event {escape(str(error))}; there are: {there}") from None
        context, peer = query.one("context"), query.one("peer")
        wanted = EventFilter(
            kinds=kinds,
            context=None if context is None else context_name(context),
            peer=None if peer is None else peer_of(self._node, peer),
        )
        last_id = request.headers.get("last-event-id") or query.one("since")
        return StreamResponse(self._ring.read(wanted, last_id, self._stop), media_type=EVENT_STREAM)

    async def _verify(self, request: Request) -> Response:
        Query(request, ())

        async def totals() -> AsyncGenerator[list[dict[str, object]]]:
            checked, problems = 0, tuple[str, ...]()
            async with aclosing(self._node.records.audit()) as audits:
                async for audit in audits:
                    new = audit.problems[len(problems) :]
                    checked, problems = audit.checked, audit.problems
                    yield [{"checked": checked, "problems": new}]
            yield [{"ok": not problems, "checked": checked, "problems": problems, "done": True}]

        return StreamResponse(json_lines(totals(), self._stop))

    async def _invite(self, request: Request) -> Response:
        body = await json_body(request, self._stop, InvitationRequest)
        code = await self._node.invite(uses=body.uses, expires_s=body.expires_s, pool=body.pool)
        return reply({"code": code, "expires": rfc3339(round((time.time() + body.expires_s) * 1000))})

    async def _join(self, request: Request) -> Response:
        body = await json_body(request, self._stop, JoinRequest)
        try:
            normalise_code(body.code)
        except ConfigError as error:
            raise RequestError(str(error)) from None
        with self._stop.ends_waiting():
            network = await self._node.join(body.code, body.at)
        return reply({"network": network})

    async def _network(self, request: Request) -> Response:
        Query(request, ())
        secret = self._node.network_secret()
        return reply({"network": self._node.network, "secret": None if secret is None else secret.to_text()})

    async def _set_network(self, request: Request) -> Response:
        body = await json_body(request, self._stop, NetworkRequest)
        try:
            secret = MemberSecret.from_text(body.secret, self._node.network_secret())
        except ConfigError as error:
            raise RequestError(str(error)) from None
        left = await self._node.set_network(secret)
        return reply({"network": self._node.network, "left": None if left is None else asdict(left)})

    async def _rotate_network(self, request: Request) -> Response:
        body = await json_body(request, self._stop, RotationRequest)
        without = [self._member(text) for text in body.without]
        report = await self._node.rotations.rotate(without)
        name = self._node.addresses.author_text
        return reply(
            {
                "network": report.network,
                "members": [name(each) for each in report.members],
                "without": [name(each) for each in without],
                "copied": report.copied,
                "past_pool": report.past_pool,
            }
        )

    def _member(self, text: str) -> IdentityId:
        """Return the member of this network that `text` names. Raises RequestError for none, or several."""
        try:
            found = self._node.addresses.resolve_author(text)
        except LocalError as error:
            raise not_found(str(error)) from None
        if found not in self._node.rotations.members():
            raise not_found(f"{escape(text)} is no member of this network")
        return found

    async def _context_form(self, info: ContextInfo) -> dict[str, object]:
        terms = self._node.subscriptions.terms_of(info.name)
        return {
            "name": info.name,
            "root": to_base32(info.root),
            "records": info.records,
            "bytes": info.bytes,
            "conflicts": await self._node.conflicts.count_shown(info.name),
            "wants": None if terms is None else list(terms),
        }


def _audit_form(report: AuditReport | None) -> dict[str, object] | None:
    if report is None:
        return None
    verdict = {"checked": report.checked, "problems": report.problems, "dropped": report.dropped, "first": report.first}
    return {"ended": rfc3339(report.ended_ms), **verdict}


def _peer_form(peer: PeerView) -> dict[str, object]:
    return {
        "id": None if peer.id is None else to_base32(peer.id),
        "name": peer.name,
        "label": peer.label or peer.name,
        "state": peer.state.value,
        "address": peer.address,
        "found_by": peer.found_by,
        "in_sync": peer.in_sync,
        "last_sync": maybe_rfc3339(peer.last_sync_ms),
        "last_seen": maybe_rfc3339(peer.last_seen_ms),
        "reason": peer.reason,
        "following": peer.following,
        "lag": peer.lag,
        "in_step": peer.in_step,
        "since": maybe_rfc3339(peer.since_ms),
        "models": _versions(peer.models),
        "unreadable": list(peer.unreadable),
        "denied": peer.is_denied,
    }


def _versions(models: Mapping[str, tuple[int, int]]) -> dict[str, str]:
    return {name: version_text(version) for name, version in sorted(models.items())}
