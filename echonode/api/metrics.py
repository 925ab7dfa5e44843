"""The metrics of a node, for Prometheus: counters that the event bus moves, and gauges that are read when asked for.

Names follow the conventions of Prometheus: `echonode_`, base units, `_total` for counters. Labels are bounded: modes,
outcomes, states and reasons are enumerations of this program; contexts are at most CONTEXTS_MAX. No label holds a
peer's name, id or address. `process_*` come from the library.

This is the only door to prometheus-client.
"""

from collections import Counter as Tally
from collections.abc import Mapping
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from echonode.api.requests import Query
from echonode.api.responses import route
from echonode.node import events as e
from echonode.node.node import Node
from echonode.node.views import PeerState

_DURATIONS_S: Final = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0)


class Metrics:
    """The metrics of `node`, from this moment on."""

    def __init__(self, node: Node, version: str) -> None:
        self._node = node
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._counters = _counters(self.registry)
        self._gauges = _gauges(self.registry)
        self._conversation_s = Histogram(
            "echonode_conversation_duration_seconds",
            "Time that a conversation took.",
            ("mode",),
            buckets=_DURATIONS_S,
            registry=self.registry,
        )
        self._gauges["info"].labels(version).set(1)
        for kind in get_args(e.Event):
            node.bus.on(kind, self._note)
        node.bus.on(e.ContextShown, lambda event: self._add("records_applied", "peer", by=event.count))

    async def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        await self._look()
        return generate_latest(self.registry)

    def _add(self, name: str, *labels: str, by: float = 1) -> None:
        counter = self._counters[name]
        (counter.labels(*labels) if labels else counter).inc(by)

    def _note(self, event: e.Event) -> None:
        match event:
            case e.SyncCompleted():
                self._note_conversation(event)
            case e.FollowEnded():
                self._moved("link", event.sent, event.received, event.bytes_sent, event.bytes_received)
                self._add("records_refused", by=event.refused)
                self._add("links_ended")
            case e.RecordsApplied():
                self._add("records_applied", "peer" if event.source else "own", by=len(event.records))
            case e.SessionFailed():
                self._add("sessions_failed", event.reason)
            case e.HandshakesDropped():
                self._add("handshakes_dropped", by=event.count)
            case e.RecordOutranked():
                self._add("records_outranked", by=event.count)
            case _:
                name, *labels = _OCCURRENCES.get(type(event), ("",))
                if name:
                    self._add(name, *labels)

    def _note_conversation(self, event: e.SyncCompleted) -> None:
        self._add("conversations", event.mode, event.role, event.outcome)
        self._conversation_s.labels(event.mode).observe(event.duration_s)
        self._moved("conversation", event.sent, event.received, event.bytes_sent, event.bytes_received)
        self._add("records_refused", by=event.refused)

    def _moved(self, way: str, sent: int, received: int, bytes_sent: int, bytes_received: int) -> None:
        self._add("records_sent", way, by=sent)
        self._add("records_received", way, by=received)
        self._add("sent_bytes", way, by=bytes_sent)
        self._add("received_bytes", way, by=bytes_received)

    async def _look(self) -> None:
        """Set the gauges to what is now."""
        node, gauges = self._node, self._gauges
        status = await node.status()
        for name in ("context_records", "context_bytes", "context_conflicts"):
            gauges[name].clear()
        for info in status.contexts:
            gauges["context_records"].labels(info.name).set(info.records)
            gauges["context_bytes"].labels(info.name).set(info.bytes)
            gauges["context_conflicts"].labels(info.name).set(node.conflicts.count(info.name))
        states = Tally(peer.state for peer in status.peers)
        for state in PeerState:
            gauges["peers"].labels(state.value).set(states[state])
        gauges["peers_equal"].set(sum(bool(peer.in_sync or peer.in_step) for peer in status.peers))
        gauges["peers_unequal"].set(sum(peer.in_sync is False and not peer.in_step for peer in status.peers))
        gauges["links"].set(sum(peer.following for peer in status.peers))
        gauges["untaken_records"].set(sum(peer.lag or 0 for peer in status.peers))
        gauges["sync_queue_waiting"].set(node.on_demand.queue.waiting)
        gauges["sync_queue_running"].set(node.on_demand.queue.running)
        gauges["history_versions"].set(status.history.versions)
        gauges["history_bytes"].set(status.history.bytes)


class MetricRoutes:
    """Serves `metrics`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def routes(self) -> list[Route]:
        """Return the routes, as openapi.yaml describes them."""
        return [route("/metrics", GET=self._answer)]

    async def _answer(self, request: Request) -> Response:
        Query(request, ())
        return Response(await self._metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})


# The events that are counted one by one: counter, and its label.
_OCCURRENCES: Final[Mapping[type, tuple[str, ...]]] = {
    e.PeerSighted: ("peer_changes", "sighted"),
    e.PeerConnected: ("peer_changes", "connected"),
    e.PeerAbsent: ("peer_changes", "absent"),
    e.PeerUnreachable: ("peer_changes", "unreachable"),
    e.PeerForgotten: ("peer_changes", "forgotten"),
    e.FollowBegan: ("links_begun",),
    e.RecordConflict: ("conflicts_begun",),
    e.RecordConflictResolved: ("conflicts_resolved",),
    e.RecordForked: ("records_forked",),
    e.RecordSignedAgain: ("records_signed_again",),
    e.RecordVoided: ("records_voided",),
    e.KeyRevoked: ("keys_revoked",),
    e.TimestampAhead: ("timestamps_ahead",),
    e.InstanceRenewed: ("instances_renewed",),
    e.CopySeen: ("copies_seen",),
    e.PinViolated: ("identities_refused",),
    e.InvitationOpened: ("invitations", "opened"),
    e.InvitationUsed: ("invitations", "used"),
    e.InvitationRefused: ("invitations", "refused"),
}


def _counters(registry: CollectorRegistry) -> dict[str, Counter]:
    """Return every counter by its name without `echonode_` and `_total`."""
    described = {
        "conversations": ("Conversations that are over.", ("mode", "role", "outcome")),
        "records_sent": ("Versions sent to peers.", ("way",)),
        "records_received": ("Versions received from peers.", ("way",)),
        "sent_bytes": ("Bytes sent to peers in conversations and over links.", ("way",)),
        "received_bytes": ("Bytes received from peers in conversations and over links.", ("way",)),
        "records_applied": ("Versions that became heads here.", ("source",)),
        "records_refused": ("Versions that either side refused.", ()),
        "records_outranked": ("Versions that did not fit beside the other heads of their record.", ()),
        "records_voided": ("Versions that the statement of a compromised key made void.", ()),
        "keys_revoked": ("Times that the key of this device was stated retired or compromised.", ()),
        "records_signed_again": ("Versions that stand again, which another life of this store had superseded.", ()),
        "records_forked": ("Versions of writers that used a counter twice.", ()),
        "timestamps_ahead": ("Times that a clock was found too far ahead, a peer's or ours.", ()),
        "conflicts_begun": ("Records that came into conflict.", ()),
        "conflicts_resolved": ("Records that were in conflict and have one head again.", ()),
        "sessions_failed": ("Sessions that ended early.", ("reason",)),
        "handshakes_dropped": ("Connections closed before their handshake, as too many were under way.", ()),
        "links_begun": ("Sessions that became links.", ()),
        "links_ended": ("Links that are over.", ()),
        "peer_changes": ("Changes of what is known about peers.", ("change",)),
        "instances_renewed": ("Times that this store took a new instance: it was restored, copied or rolled back.", ()),
        "copies_seen": ("Times that a copy of this node was found.", ()),
        "identities_refused": ("Peers that claimed an identity with a key that is not its own.", ()),
        "invitations": ("Invitations opened and used, and joiners refused.", ("result",)),
    }
    return {
        name: Counter(f"echonode_{name}", text, labels, registry=registry)
        for name, (text, labels) in described.items()
    }


def _gauges(registry: CollectorRegistry) -> dict[str, Gauge]:
    """Return every gauge by its name without `echonode_`."""
    described = {
        "info": ("The program; always 1.", ("version",)),
        "context_records": ("Records in a context, deleted ones too.", ("context",)),
        "context_bytes": ("Bytes of the versions in a context.", ("context",)),
        "context_conflicts": ("Records of a context that are in conflict.", ("context",)),
        "peers": ("Peers by state.", ("state",)),
        "peers_equal": ("Peers that are equal, or nearly so over a link.", ()),
        "peers_unequal": ("Peers that are known to differ.", ()),
        "links": ("Links that are up.", ()),
        "untaken_records": ("Changes here that linked peers have not taken yet, over all of them.", ()),
        "sync_queue_waiting": ("Syncs on demand that wait for a place.", ()),
        "sync_queue_running": ("Syncs on demand that run.", ()),
        "history_versions": ("Superseded versions that are kept.", ()),
        "history_bytes": ("Bytes of the superseded versions that are kept.", ()),
    }
    return {
        name: Gauge(f"echonode_{name}", text, labels, registry=registry) for name, (text, labels) in described.items()
    }
