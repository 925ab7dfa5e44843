"""The Echo Sync HTTP API, as published clients of that protocol speak it (`EchoSyncClient` of tushell).

    GET  /api/v1/echo-sync/nodes?pattern=                       the peers, by a glob on names and ids
    POST /api/v1/echo-sync/nodes/{id}/push                      write each key of `data`, then push to that node
    POST /api/v1/echo-sync/nodes/{id}/pull                      pull from that node, then tell the state
    GET  /api/v1/echo-sync/nodes/{id}/status
    POST /api/v1/echo-sync/nodes/{id}/conflicts/resolve
    GET  /api/v1/echo-sync/nodes/{id}/history?limit=
    GET  /api/v1/echo-sync/nodes/{id}/replay

State is the live records of one author in `main`: of the pool `shared`, or this node's own (`echo_author`). A key is a
record's name, a value its JSON body. What did not succeed has the status 502, 504 when time was up, so that a client
that looks at no more than that does not take it for done. A cursor is `INSTANCE.SEQ` of this store's log.
"""

from collections.abc import Sequence
from typing import Annotated, Final
from urllib.parse import unquote

from msgspec import Meta, Raw, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from echonode.api.json_forms import JSON_TYPE, MODEL, MODEL_VERSION, check_json, maybe_rfc3339, nfc, rfc3339
from echonode.api.problems import RequestError, too_large
from echonode.api.requests import TIMEOUT_S_MAX, Query, StrategyName, json_body, now_ms, peer_of
from echonode.api.responses import reply, route
from echonode.api.shutdown import Stop
from echonode.api.sync import contested_form, matching, resolved_form, value_form
from echonode.clock import to_ms
from echonode.limits import BATCH_RECORDS_MAX, MIB, NAME_BYTES_MAX, SYNC_ATTEMPTS_MAX, SYNC_PRIORITY_MAX
from echonode.model.identity import IdentityId
from echonode.model.record import MAIN, Draft, Record
from echonode.node.conflicts import Strategy
from echonode.node.echo_sync import Resolved, SyncOrder, SyncOutcome
from echonode.node.node import Node
from echonode.node.sync_history import HistoryEntry
from echonode.node.views import PeerState, PeerView, SyncStatus
from echonode.text import escape, is_nfc_text, to_base32
from echonode.wire.messages import Direction

PREFIX: Final = "/api/v1/echo-sync/nodes"
_PUSH_BYTES_MAX: Final = 8 * MIB
_STATE_RECORDS_MAX: Final = 100_000  # in one answer; `/v1/records/main/list` streams any number
_HISTORY_SHOWN: Final = 100
_HISTORY_MAX: Final = 1000
_TIMEOUT_S: Final = 30.0
_BY_HAND: Final = "the value that was given is kept"
_ONLINE: Final = (PeerState.CONNECTED, PeerState.REACHABLE)


class _Options(Struct, frozen=True, forbid_unknown_fields=True):
    force: bool = False
    strategy: StrategyName = "merge"
    timeout: Annotated[float, Meta(gt=0, le=TIMEOUT_S_MAX)] = _TIMEOUT_S
    priority: Annotated[int, Meta(ge=0, le=SYNC_PRIORITY_MAX)] = 0
    retry: Annotated[int, Meta(ge=1, le=SYNC_ATTEMPTS_MAX)] = 3


class _State(Struct, forbid_unknown_fields=True):
    """`version` and `metadata` are the client's own; they are taken, and not kept."""

    node_id: str = ""
    data: Annotated[dict[str, Raw], Meta(max_length=BATCH_RECORDS_MAX)] = {}
    version: str = ""
    metadata: Raw = Raw(b"{}")


class _PushRequest(Struct, forbid_unknown_fields=True):
    state: _State
    force: bool = False
    options: _Options = _Options()


class _PullRequest(Struct, forbid_unknown_fields=True):
    last_sync: str | None = None
    options: _Options = _Options()


class _ResolveRequest(Struct, forbid_unknown_fields=True):
    """`resolution_data`: by record name, the value to keep instead of what the strategy gives."""

    strategy: StrategyName = "merge"
    resolution_data: Annotated[dict[str, Raw], Meta(max_length=BATCH_RECORDS_MAX)] = {}
    timestamp: str = ""


class EchoSyncRoutes:
    """Serves the Echo Sync API for `node`."""

    def __init__(self, node: Node, stop: Stop) -> None:
        self._node = node
        self._stop = stop

    def routes(self) -> list[Route]:
        """Return the routes, as openapi.yaml describes them."""
        return [
            route(PREFIX, GET=self._nodes),
            route(PREFIX + "/{id}/push", POST=self._push),
            route(PREFIX + "/{id}/pull", POST=self._pull),
            route(PREFIX + "/{id}/status", GET=self._status),
            route(PREFIX + "/{id}/conflicts/resolve", POST=self._resolve),
            route(PREFIX + "/{id}/history", GET=self._history),
            route(PREFIX + "/{id}/replay", GET=self._replay),
        ]

    async def _nodes(self, request: Request) -> Response:
        pattern = Query(request, ("pattern",)).one("pattern")
        views = {view.id: view for view in self._node.peers() if view.id is not None}
        chosen = list(views) if pattern is None else matching(self._node, list(views), pattern)
        return reply(
            [
                {"id": to_base32(peer), "name": views[peer].label or views[peer].name, "status": _word(views[peer])}
                for peer in chosen
            ]
        )

    async def _push(self, request: Request) -> Response:
        peer = self._peer(request)
        body = await json_body(request, self._stop, _PushRequest, bytes_max=_PUSH_BYTES_MAX)
        if body.state.node_id and peer_of(self._node, body.state.node_id) != peer:
            raise RequestError("state.node_id is another node than that in the path")
        drafts = [self._draft(name, value) for name, value in body.state.data.items()]
        await self._node.records.put_all(drafts, skip_unchanged=True)
        order = _order("push", Direction.SEND, body.options, is_forced=body.force or body.options.force)
        outcome = await self._run(peer, order)
        status = _status(outcome)
        return reply(
            {
                "status": status,
                "success": status == "success",
                "message": _message(outcome, f"{len(drafts)} records pushed"),
                "sync_id": outcome.sync_id,
                "conflicts": self._conflicts(outcome),
                "timestamp": rfc3339(now_ms()),
                "metrics": _metrics(outcome) | {"data_size": sum(len(draft.body) for draft in drafts)},
            },
            _http_status(outcome),
        )

    async def _pull(self, request: Request) -> Response:
        peer = self._peer(request)
        body = await json_body(request, self._stop, _PullRequest)
        since = self._node.store.seq(MAIN) if body.last_sync is None else self._seq(body.last_sync)
        outcome = await self._run(peer, _order("pull", Direction.RECEIVE, body.options, is_forced=body.options.force))
        live, changes, cursor = await self._state(since)
        return reply(
            {
                "node_id": to_base32(peer),
                "data": {record.name: value_form(record) for record in live},
                "version": to_base32(self._node.store.tree(MAIN).root),
                "timestamp": rfc3339(now_ms()),
                "status": _status(outcome),
                "message": _message(outcome, "pulled"),
                "changes": [_change_form(record) for record in changes],
                "conflicts": self._conflicts(outcome),
                "cursor": f"{to_base32(self._node.store.instance)}.{cursor}",
                "metrics": _metrics(outcome) | {"data_size": sum(len(record.body) for record in live)},
            },
            _http_status(outcome),
        )

    async def _status(self, request: Request) -> Response:
        peer = self._peer(request)
        Query(request, ())
        return reply(self._status_form(peer))

    async def _resolve(self, request: Request) -> Response:
        peer = self._peer(request)
        body = await json_body(request, self._stop, _ResolveRequest, bytes_max=_PUSH_BYTES_MAX)
        drafts = [self._draft(name, value) for name, value in body.resolution_data.items()]
        by_hand = await self._resolve_by_hand(peer, drafts) if drafts else []
        with self._stop.ends_waiting():
            outcome = await self._node.echo_sync.resolve(peer, Strategy(body.strategy), _TIMEOUT_S)
        resolved = by_hand + outcome.resolved
        told = "" if _is_told(outcome) else "; the node was not reached, and hears of it later"
        return reply(
            {
                "success": not outcome.contested,
                "message": f"{len(resolved)} conflicts resolved, {len(outcome.contested)} left{told}",
                "resolved": [resolved_form(self._node, each) for each in resolved],
            }
        )

    async def _resolve_by_hand(self, peer: IdentityId, drafts: Sequence[Draft]) -> list[Resolved]:
        """Write `drafts` over all that `peer` holds of their records. Return those that were in conflict.

        A name that no record can have is refused before anything is asked of the peer."""
        for draft in drafts:
            if not is_nfc_text(draft.name, NAME_BYTES_MAX):
                raise RequestError(f"'{escape(draft.name)}' is no name of a record", status=422, code="unusable")
        await self._run(peer, _order("pull", Direction.RECEIVE, _Options(), is_forced=False))
        contested = {each.local.name for each in await self._node.echo_sync.contested({d.name for d in drafts})}
        written = await self._node.records.put_all(drafts)
        return [Resolved(record, _BY_HAND) for record in written if record is not None and record.name in contested]

    async def _history(self, request: Request) -> Response:
        peer = self._peer(request)
        limit = Query(request, ("limit",)).count("limit")
        return reply(self._operations(peer, _HISTORY_SHOWN if limit is None else min(limit, _HISTORY_MAX)))

    async def _replay(self, request: Request) -> Response:
        peer = self._peer(request)
        Query(request, ())
        live, _, _ = await self._state(self._node.store.seq(MAIN))
        return reply(
            {
                "node": self._status_form(peer),
                "state": {record.name: value_form(record) for record in live},
                "operations": self._operations(peer, _HISTORY_SHOWN),
                "conflicts": [contested_form(self._node, each) for each in await self._node.echo_sync.contested()],
            }
        )

    # -- shared by the routes ----------------------------------------------------------------------------------------

    def _peer(self, request: Request) -> IdentityId:
        try:
            return peer_of(self._node, unquote(request.path_params["id"], errors="strict"))
        except UnicodeDecodeError:
            raise RequestError("the path is not percent-encoded UTF-8") from None

    def _draft(self, name: str, value: Raw) -> Draft:
        try:
            check_json(bytes(value))
        except (ValueError, RecursionError) as error:
            raise RequestError(f"{escape(name)}: {escape(str(error))}") from None
        return Draft(
            context=MAIN,
            author=self._node.echo_sync.author,
            name=nfc(name),
            body=bytes(value),
            model=MODEL,
            model_version=MODEL_VERSION,
            media_type=JSON_TYPE,
        )

    async def _run(self, peer: IdentityId, order: SyncOrder) -> SyncOutcome:
        with self._stop.ends_waiting():
            return await self._node.echo_sync.sync([peer], order)

    def _seq(self, cursor: str) -> int:
        """Return the place in the log that a cursor names; 0 when it is of another life of this store."""
        instance, dot, seq = cursor.partition(".")
        if not dot or not seq.isascii() or not seq.isdigit() or len(seq) > 19:
            raise RequestError("last_sync is no cursor: give what the last pull returned under `cursor`")
        is_here = instance == to_base32(self._node.store.instance) and int(seq) <= self._node.store.seq(MAIN)
        return int(seq) if is_here else 0

    async def _state(self, since: int) -> tuple[list[Record], list[Record], int]:
        """Return the live records of the state, those written behind `since` (deleted ones too), and the log's end."""
        cursor = self._node.store.seq(MAIN)
        live: list[Record] = []
        async for page in self._node.records.scan(MAIN, author=self._node.echo_sync.author):
            live += page
            if len(live) > _STATE_RECORDS_MAX:
                raise too_large(f"the state has more than {_STATE_RECORDS_MAX} records: use /v1/records/{MAIN}/list")
        changes: list[Record] = []
        while since < cursor:
            page, last = await self._node.store.scan(MAIN, since, limit=BATCH_RECORDS_MAX)
            shown = self._node.records.denials.shown(page)
            changes += [record for record in shown if record.author == self._node.echo_sync.author]
            if last == since or len(changes) > _STATE_RECORDS_MAX:
                break
            since = last
        return live, changes[:_STATE_RECORDS_MAX], max(cursor, since)

    def _conflicts(self, outcome: SyncOutcome) -> list[dict[str, object]]:
        return [contested_form(self._node, each) for each in outcome.contested]

    def _operations(self, peer: IdentityId, limit: int) -> list[dict[str, object]]:
        return [_entry_form(entry) for entry in self._node.echo_sync.history.of([peer], limit=limit)]

    def _status_form(self, peer: IdentityId) -> dict[str, object]:
        view = next(view for view in self._node.peers() if view.id == peer)
        entries = self._node.echo_sync.history.of([peer], limit=_HISTORY_MAX)
        errors = sum(entry.is_error for entry in entries)
        return {
            "node_id": to_base32(peer),
            "name": view.label or view.name,
            "is_online": view.state in _ONLINE,
            "last_sync": maybe_rfc3339(view.last_sync_ms),
            "version": to_base32(self._node.store.tree(MAIN).root) if view.in_sync else None,
            "status": _word(view),
            "reason": view.reason,
            "metrics": {
                "sync_count": len(entries),
                "error_count": errors,
                "error_rate": round(errors / len(entries), 4) if entries else 0.0,
                "conflicts": self._node.conflicts.count(),
                "lag": view.lag,
            },
        }


def _order(operation: str, direction: Direction, options: _Options, *, is_forced: bool) -> SyncOrder:
    return SyncOrder(
        operation=operation,
        direction=direction,
        timeout_s=options.timeout,
        priority=options.priority,
        attempts=options.retry,
        is_forced=is_forced,
        strategy=Strategy(options.strategy),
    )


def _word(view: PeerView) -> str:
    """Return one word for how it stands with a peer."""
    if view.state not in _ONLINE:
        return str(view.state.value)
    if view.in_sync:
        return "in sync"
    return "in step" if view.in_step else "differs" if view.in_sync is False else "unknown"


def _is_told(outcome: SyncOutcome) -> bool:
    return all(report.status is SyncStatus.VERIFIED for report in outcome.reports)


def _status(outcome: SyncOutcome) -> str:
    if not _is_told(outcome):
        return "error"
    return "conflict" if outcome.contested else "success"


def _http_status(outcome: SyncOutcome) -> int:
    if _is_told(outcome):
        return 200
    return 504 if any(report.status is SyncStatus.TIMED_OUT for report in outcome.reports) else 502


def _message(outcome: SyncOutcome, done: str) -> str:
    errors = "; ".join(report.error for report in outcome.reports if report.error)
    if errors:
        return errors
    left = len(outcome.contested)
    resolved = f", {len(outcome.resolved)} conflicts resolved" if outcome.resolved else ""
    return f"{done}{resolved}, {left} records in conflict" if left else f"{done}{resolved}, and verified"


def _metrics(outcome: SyncOutcome) -> dict[str, object]:
    parts = [part for report in outcome.reports for part in report.conversations]
    return {
        "duration_ms": round(outcome.duration_s * 1000, 3),
        "records_sent": sum(part.sent for part in parts),
        "records_received": sum(part.received for part in parts),
        "bytes_sent": sum(part.bytes_sent for part in parts),
        "bytes_received": sum(part.bytes_received for part in parts),
    }


def _change_form(record: Record) -> dict[str, object]:
    return {
        "record": record.name,
        "value": value_form(record),
        "deleted": record.is_tombstone,
        "version": to_base32(record.id),
        "timestamp": rfc3339(to_ms(record.timestamp)),
    }


def _entry_form(entry: HistoryEntry) -> dict[str, object]:
    return {
        "timestamp": rfc3339(entry.timestamp_ms),
        "operation": entry.operation,
        "status": entry.status,
        "details": {"duration_ms": round(entry.duration_s * 1000, 3), **entry.details},
    }
