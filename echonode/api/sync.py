"""The route of a sync on demand: with which peers, which way, how, and the report on each of them."""

from collections.abc import Coroutine, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from echonode.api.json_forms import body_of
from echonode.api.requests import SyncRequest, json_body, peer_of
from echonode.api.responses import reply, route
from echonode.api.shutdown import Stop
from echonode.model.identity import IdentityId
from echonode.model.record import Record
from echonode.node.conflicts import Strategy
from echonode.node.echo_sync import Contested, Resolved, SyncOrder, SyncOutcome
from echonode.node.events import SyncCompleted
from echonode.node.node import Node
from echonode.node.views import SyncReport, SyncStatus
from echonode.text import to_base32
from echonode.wire.messages import Direction

DIRECTIONS: Final = {
    "both": Direction.BOTH,
    "batch": Direction.BOTH,
    "pull": Direction.RECEIVE,
    "push": Direction.SEND,
}
OPERATIONS: Final = {"both": "sync"}  # the word in the history, where it is another one
_CONTESTED_SHOWN: Final = 100


class SyncRoutes:
    """Serves requests to sync now."""

    def __init__(self, node: Node, stop: Stop) -> None:
        self._node = node
        self._stop = stop

    def routes(self) -> list[Route]:
        """Return the routes, as openapi.yaml describes them."""
        return [route("/v1/sync", POST=self._sync)]

    async def _sync(self, request: Request) -> Response:
        body = await json_body(request, self._stop, SyncRequest)
        work = begin_sync(self._node, body)
        with self._stop.ends_waiting():
            outcome = await work
        return reply(sync_form(self._node, outcome))


def begin_sync(node: Node, wish: SyncRequest) -> Coroutine[Any, Any, SyncOutcome]:
    """Return the work of the sync that is wished for. Raises RequestError, at once, for a peer that is not known."""
    if wish.peers is None:
        known, targets = node.views.to_sync()
    else:
        known, targets = list(dict.fromkeys(peer_of(node, text) for text in wish.peers)), []
    if wish.filter is not None:
        known, targets = matching(node, known, wish.filter), []
    order = SyncOrder(
        operation=OPERATIONS.get(wish.action, wish.action),
        direction=DIRECTIONS[wish.action],
        timeout_s=wish.timeout,
        priority=wish.priority,
        attempts=wish.retry,
        batch_size=wish.batch_size if wish.action == "batch" else None,
        is_forced=wish.force,
        strategy=Strategy(wish.strategy),
    )
    return node.echo_sync.sync(known, order, targets=targets)


def matching(node: Node, peers: Sequence[IdentityId], pattern: str) -> list[IdentityId]:
    """Return those of `peers` whose name, label or id fits the glob `pattern`."""
    views = {view.id: view for view in node.peers()}
    return [
        peer
        for peer in peers
        if any(
            fnmatchcase(text, pattern)
            for text in (to_base32(peer), *((views[peer].name, views[peer].label) if peer in views else ()))
        )
    ]


def sync_form(node: Node, outcome: SyncOutcome) -> dict[str, object]:
    """Return the answer to a sync."""
    return {
        "status": overall(outcome.reports),
        "sync_id": outcome.sync_id,
        "peers": [_report_form(report, outcome) for report in outcome.reports],
        "conflicts": len(outcome.contested),
        "contested": [contested_form(node, each) for each in outcome.contested[:_CONTESTED_SHOWN]],
        "resolved": [resolved_form(node, each) for each in outcome.resolved[:_CONTESTED_SHOWN]],
        "duration_s": outcome.duration_s,
    }


def contested_form(node: Node, contested: Contested) -> dict[str, object]:
    """Return a conflict with its two sides."""
    record = contested.local
    return {
        "record": f"{node.addresses.author_text(record.author)}/{record.name}",
        "context": record.context,
        "local": value_form(contested.local),
        "remote": value_form(contested.remote),
    }


def resolved_form(node: Node, resolved: Resolved) -> dict[str, object]:
    """Return a conflict that is over."""
    record = resolved.record
    return {
        "record": f"{node.addresses.author_text(record.author)}/{record.name}",
        "context": record.context,
        "value": value_form(record),
        "how": resolved.how,
    }


def value_form(record: Record) -> object:
    """Return the body as a JSON value: JSON as it is, text as text, other bytes in base64, null for a deleted one."""
    if record.is_tombstone:
        return None
    form = body_of(record)
    return form.body if form.body_base64 is UNSET else {"base64": form.body_base64}


def overall(reports: Sequence[SyncReport]) -> str:
    """Return one status for all peers: verified only when every peer is."""
    statuses = {report.status for report in reports}
    if not statuses:
        return "no peers"
    if statuses == {SyncStatus.VERIFIED}:
        return SyncStatus.VERIFIED.value
    if SyncStatus.TIMED_OUT in statuses:
        return SyncStatus.TIMED_OUT.value
    if statuses & {SyncStatus.VERIFIED, SyncStatus.PARTIAL}:
        return SyncStatus.PARTIAL.value
    return SyncStatus.FAILED.value


def _report_form(report: SyncReport, outcome: SyncOutcome) -> dict[str, object]:
    """Return a report with sums over its conversations; mode and reason are those of the one that moved most."""
    parts = report.conversations
    chief = max(parts, key=lambda part: part.sent + part.received, default=None)
    return {
        "id": None if report.peer is None else to_base32(report.peer),
        "name": report.name,
        "status": report.status.value,
        "mode": None if chief is None else chief.mode,
        "reason": chief.reason if chief is not None else "" if report.error else "nothing differs",
        "sent": sum(part.sent for part in parts),
        "received": sum(part.received for part in parts),
        "bytes_sent": sum(part.bytes_sent for part in parts),
        "bytes_received": sum(part.bytes_received for part in parts),
        "round_trips": sum(part.round_trips for part in parts),
        "duration_s": round(sum(part.duration_s for part in parts), 6),
        "verified": report.status is SyncStatus.VERIFIED,
        "attempts": outcome.attempts.get(report.peer or report.name, 1),
        "error": report.error,
        "contexts": [_conversation_form(part) for part in parts],
    }


def _conversation_form(part: SyncCompleted) -> dict[str, object]:
    return {
        "context": part.context,
        "session": to_base32(part.session),
        "role": part.role,
        "mode": part.mode,
        "reason": part.reason,
        "outcome": part.outcome,
        "verified": part.verified,
        "sent": part.sent,
        "received": part.received,
        "refused": part.refused,
        "bytes_sent": part.bytes_sent,
        "bytes_received": part.bytes_received,
        "round_trips": part.round_trips,
        "duration_s": part.duration_s,
    }
