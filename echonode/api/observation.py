"""The routes by which a person looks into a node: its log, the level of that, sessions message by message, and reasons.

GET  /v1/logs        lines of this run, more than what is stored; with follow=1 as they come
GET  /v1/log-level   the level, and that of peers; PUT sets it for a while
GET  /v1/trace       the last sessions with a peer: messages with time, type, size and reason, never values
GET  /v1/why         why a record is not here, or a peer not equal
"""

from collections.abc import AsyncGenerator, Iterable
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from echonode.api.json_forms import rfc3339
from echonode.api.problems import RequestError, not_found
from echonode.api.requests import Query, context_name, json_body, now_ms, peer_of, record_address
from echonode.api.responses import reply, route
from echonode.api.shutdown import Stop
from echonode.api.streams import StreamResponse, json_lines
from echonode.errors import LocalError
from echonode.limits import LOG_RING_LINES
from echonode.model.identity import IdentityId
from echonode.model.record import MAIN
from echonode.model.time_text import read_time_ms
from echonode.node.events import LogLevelSet
from echonode.node.explanation import Finding
from echonode.node.log_filter import LogFilter
from echonode.node.node import Node
from echonode.node.run_log import LEVELS, RunLog
from echonode.node.session_traces import SessionTrace
from echonode.text import escape, to_base32

_FOR_S_MAX = 30 * 86_400
_PAGE_LINES = 256
_LOG_QUERY = ("level", "event", "peer", "session", "since", "follow")


class LogLevelRequest(Struct, forbid_unknown_fields=True):
    """`level` None goes back to the configured one; `for_s` is in seconds, None for as long as the node runs."""

    level: Literal["debug", "info", "warning", "error"] | None = None
    for_s: Annotated[float, Meta(gt=0, le=_FOR_S_MAX)] | None = None
    peer: str | None = None


class ObservationRoutes:
    """Serves what `run_log` keeps, and what `node` knows of sessions and reasons."""

    def __init__(self, node: Node, stop: Stop, run_log: RunLog) -> None:
        self._node = node
        self._stop = stop
        self._log = run_log

    def routes(self) -> list[Route]:
        """Return the routes, as openapi.yaml describes them."""
        return [
            route("/v1/logs", GET=self._logs),
            route("/v1/log-level", GET=self._level, PUT=self._set_level),
            route("/v1/trace", GET=self._trace),
            route("/v1/why", GET=self._why),
        ]

    # -- the log -----------------------------------------------------------------------------------------------------

    async def _logs(self, request: Request) -> Response:
        query = Query(request, _LOG_QUERY)
        level, since = query.one("level") or "debug", query.one("since")
        if level not in LEVELS:
            raise RequestError(f"level is one of {', '.join(LEVELS)}")
        try:
            since_ms = 0 if since is None else read_time_ms(since, now_ms())
        except LocalError as error:
            raise RequestError(str(error)) from None
        peer = query.one("peer")
        wanted = LogFilter(
            level=level,
            event=query.one("event") or "",
            peer=to_base32(peer_of(self._node, peer)) if peer else "",
            session=query.one("session") or "",
            since_ms=since_ms,
        )
        return StreamResponse(json_lines(self._lines(wanted, is_followed=query.flag("follow")), self._stop))

    async def _lines(self, wanted: LogFilter, *, is_followed: bool) -> AsyncGenerator[list[dict[str, Any]]]:
        """Yield pages of lines. A reader that is slower than the node finds a line with the count of what it missed."""
        after = 0
        while True:
            page: list[dict[str, Any]] = []
            lines, first = list(self._log.lines(after, least=wanted.level)), after
            missed = lines[0].number - after - 1 if lines and after and wanted.level == "debug" else 0
            if missed:
                page.append({"time": rfc3339(lines[0].ms), "level": "warning", "event": "log.dropped", "count": missed})
            for line in lines:
                form = line.as_json()
                if wanted.takes(form):
                    page.append(form)
                after = line.number
                if len(page) >= _PAGE_LINES:
                    yield page
                    page = []
            if page or not first:
                yield page
            if not is_followed:
                return
            after = max(after, self._log.last if not lines else after)
            await self._log.wait(after)

    async def _level(self, request: Request) -> Response:
        Query(request, ())
        return reply(self._level_form())

    async def _set_level(self, request: Request) -> Response:
        body = await json_body(request, self._stop, LogLevelRequest)
        peer = None if body.peer is None else peer_of(self._node, body.peer)
        if body.level is None:
            self._log.reset(peer)
        else:
            try:
                self._log.set_level(body.level, for_s=body.for_s, peer=peer)
            except LocalError as error:
                raise RequestError(str(error), status=409, code="conflict") from None
        self._node.bus.publish(
            LogLevelSet(to=body.level or self._log.level, for_s=body.for_s, peer=b"" if peer is None else peer)
        )
        return reply(self._level_form())

    def _level_form(self) -> dict[str, object]:
        labels = self._node.addresses.node_labels()
        return {
            "level": self._log.level,
            "left_s": self._log.left_s(),
            "peers": [
                {"id": to_base32(peer), "name": labels.get(IdentityId(peer), ""), "level": level, "left_s": left_s}
                for peer, (level, left_s) in self._log.peer_levels().items()
            ],
            "kept": LOG_RING_LINES,
            "first": None if self._log.first_ms is None else rfc3339(self._log.first_ms),
        }

    # -- sessions ----------------------------------------------------------------------------------------------------

    async def _trace(self, request: Request) -> Response:
        query = Query(request, ("peer",))
        peer = peer_of(self._node, query.needed("peer"))
        traces = self._node.traces
        return reply(
            {
                "node": to_base32(self._node.id),
                "name": self._node.name,
                "peer": to_base32(peer),
                "peer_name": self._node.addresses.node_labels().get(peer, ""),
                "sessions": [self._session_form(trace) for trace in traces.of(peer)],
            }
        )

    def _session_form(self, trace: SessionTrace) -> dict[str, object]:
        wall_ms = self._node.traces.wall_ms
        return {
            "session": to_base32(trace.session),
            "address": trace.address,
            "role": "initiator" if trace.is_initiator else "responder",
            "began": rfc3339(wall_ms(trace.began_s)),
            "why": trace.why,
            "messages": [
                {
                    "time": rfc3339(wall_ms(message.at_s)),
                    "way": "sent" if message.is_sent else "received",
                    "number": message.number,
                    "type": message.kind,
                    "bytes": message.bytes,
                    "note": escape(message.note),
                }
                for message in tuple(trace.messages.messages)
            ],
        }

    # -- reasons -----------------------------------------------------------------------------------------------------

    async def _why(self, request: Request) -> Response:
        query = Query(request, ("peer", "id", "context"))
        peer = query.one("peer")
        if (peer is None) == (query.one("id") is None):
            raise RequestError("give a peer, or the id of a record")
        if peer is not None:
            try:
                about, findings = self._node.explanations.of_peer(peer)
            except LocalError as error:
                raise not_found(str(error)) from None
            return reply({"about": about, "findings": _finding_forms(findings)})
        context = context_name(query.one("context") or MAIN)
        author, name = record_address(self._node, query)
        with self._stop.ends_waiting():
            findings = await self._node.explanations.of_record(context, author, name)
        about = f"{self._node.addresses.author_text(author)}/{name}"
        return reply({"about": about, "findings": _finding_forms(findings)})


def _finding_forms(findings: Iterable[Finding]) -> list[dict[str, str]]:
    return [
        {"reason": finding.because.value, "text": finding.text, "what_to_do": finding.what_to_do}
        for finding in findings
    ]
