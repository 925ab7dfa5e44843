"""Each metric moves when it should, is named by the conventions and has bounded labels; alerts name what there is."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from echonode.api.metrics import Metrics
from echonode.model.identity import IdentityId
from echonode.model.record import Draft
from echonode.node import events as e
from echonode.node.sync_queue import SyncQueue
from tests.api.serving import VERSION, Served, hearing, run, serving
from tests.api.test_echo_sync import meet, state

ALERTS = Path(__file__).parents[2] / "systemd" / "echonode.alerts.yml"
ID = bytes(32)
PEER = {"session": ID, "peer": ID}
RECORD = {"context": "main", "author": ID, "record": "x"}
MOVED = {"sent": 2, "received": 3, "refused": 1, "bytes_sent": 20, "bytes_received": 30, "duration_s": 0.3}


def conversation(**more: Any) -> e.SyncCompleted:
    about = {"context": "main", "mode": "delta", "reason": "", "role": "initiator", "outcome": "equal"}
    return e.SyncCompleted(**{**PEER, **about, "verified": True, "round_trips": 1, **MOVED, **more})


def link() -> e.FollowEnded:
    return e.FollowEnded(**PEER, why="", had=0, announced=0, fetched=0, **MOVED)


# Each counter: the event that moves it, the sample that moves, and by how much.
MOVES: dict[str, tuple[e.Event, str, float]] = {
    "conversations": (conversation(), '{mode="delta",outcome="equal",role="initiator"}', 1),
    "conversation_duration_seconds": (conversation(), '_bucket{le="0.5",mode="delta"}', 1),
    "records_sent": (conversation(), '{way="conversation"}', 2),
    "records_received": (link(), '{way="link"}', 3),
    "sent_bytes": (link(), '{way="link"}', 20),
    "received_bytes": (conversation(), '{way="conversation"}', 30),
    "records_refused": (conversation(), "", 1),
    "links_ended": (link(), "", 1),
    "links_begun": (e.FollowBegan(**PEER, role="initiator"), "", 1),
    "records_outranked": (e.RecordOutranked(peer=ID, version=ID, count=7, **RECORD), "", 7),
    "records_forked": (e.RecordForked(peer=ID, version=ID, **RECORD), "", 1),
    "records_signed_again": (e.RecordSignedAgain(version=ID, **RECORD), "", 1),
    "records_voided": (e.RecordVoided(peer=ID, version=ID, key=ID, **RECORD), "", 1),
    "timestamps_ahead": (e.TimestampAhead(peer=ID, context="main", record="x", ahead_s=900), "", 1),
    "conflicts_begun": (e.RecordConflict(**RECORD), "", 1),
    "conflicts_resolved": (e.RecordConflictResolved(**RECORD), "", 1),
    "sessions_failed": (e.SessionFailed(**PEER, address="", reason="busy", detail=""), '{reason="busy"}', 1),
    "handshakes_dropped": (e.HandshakesDropped(address="", count=5), "", 5),
    "peer_changes": (e.PeerAbsent(peer=ID, peer_name="", why=""), '{change="absent"}', 1),
    "instances_renewed": (e.InstanceRenewed(instance=ID, why=""), "", 1),
    "copies_seen": (e.CopySeen(address="", what_to_do=""), "", 1),
    "identities_refused": (e.PinViolated(kind="", value="", pinned=ID, offered=ID), "", 1),
    "keys_revoked": (e.KeyRevoked(key=ID, state="", what_to_do=""), "", 1),
    "invitations": (e.InvitationUsed(slot="1", address=""), '{result="used"}', 1),
}
# Each gauge, and the counters that records move; test_gauges moves them by what a node does.
BY_DEEDS = {
    *("info", "context_records", "context_bytes", "context_conflicts", "peers", "peers_equal", "peers_unequal"),
    *("links", "untaken_records", "sync_queue_waiting", "sync_queue_running", "history_versions", "history_bytes"),
    "records_applied",
}


async def sample(served: Served, name: str) -> float:
    """Return one sample of the node, 0 where there is none yet."""
    text = (await served.ask("GET", "/metrics")).body.decode()
    found = re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[0]) if found else 0.0


def sample_name(counter: str, suffix: str) -> str:
    return f"echonode_{counter}{suffix if suffix.startswith('_') else f'_total{suffix}'}"


@pytest.mark.parametrize("counter", MOVES)
def test_a_counter_moves_by_its_event_and_by_no_other(tmp_path: Path, counter: str) -> None:
    event, suffix, by = MOVES[counter]

    async def test() -> None:
        async with serving(tmp_path) as served:
            name = sample_name(counter, suffix)
            before = await sample(served, name)
            served.node.bus.publish(e.NodeRenamed(node_name="one"))
            assert await sample(served, name) == before
            served.node.bus.publish(event)
            assert await sample(served, name) == before + by

    run(test)


def test_every_metric_is_moved_by_a_test_and_named_by_the_conventions(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            families = {family.name: family for family in Metrics(served.node, VERSION).registry.collect()}
            own = {name.removeprefix("echonode_") for name in families if not name.startswith("process_")}
            assert own == MOVES.keys() | BY_DEEDS
            for name, family in families.items():
                assert re.fullmatch(r"(echonode|process)(_[a-z]+)+", name)
                assert family.documentation
                assert (family.type == "counter") <= (not name.endswith("_total"))  # the sample's suffix, added there

    run(test)


def test_records_that_come_by_snapshot_are_counted(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one, serving(tmp_path, name="two") as two:
            for number in range(3):
                await two.put(f"theirs-{number}")
            before = await sample(one, 'echonode_context_records{context="main"}')
            one.node.add_peer(two.listen[0])
            async with asyncio.timeout(30):  # and without a reader of events: it would be told of each record
                while (await one.ask("POST", "/v1/sync", {"timeout": 10})).json()["status"] != "verified":
                    pass
            assert (before, await sample(one, 'echonode_context_records{context="main"}')) == (0, 3)
            statements = await sample(one, 'echonode_context_records{context="identities"}') - 2  # its own, two of them
            assert await sample(one, 'echonode_records_applied_total{source="peer"}') == 3 + statements

    run(test)


def test_the_gauges_say_what_is_now(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one:
            assert await sample(one, f'echonode_info{{version="{VERSION}"}}') == 1
            async with serving(tmp_path, name="two") as two:
                await one.put("shared/x", b"1")
                await two.put("shared/x", b"2")
                path = await meet(one, two)
                assert (await one.ask("POST", f"{path}/push", state({}))).status == 200
                for name, expected in (
                    ('context_records{context="main"}', 1),
                    ('context_conflicts{context="main"}', 1),
                    ('records_applied_total{source="own"}', 1),
                    ("peers_unequal", 0),
                    ("sync_queue_waiting", 0),
                    ("sync_queue_running", 0),
                ):
                    assert await sample(one, f"echonode_{name}") == expected, name
                assert await sample(one, 'echonode_context_bytes{context="main"}') > 100
                assert await sample(one, 'echonode_records_applied_total{source="peer"}') > 0
                await _linked(one)
                assert await sample(one, "echonode_links") == 1
                assert await sample(one, "echonode_peers_equal") == 1
                assert await sample(one, 'echonode_peers{state="connected"}') == 1
                await _wrote_for_a_link(one)
                await one.put("shared/x", b"3")
                assert await sample(one, 'echonode_context_conflicts{context="main"}') == 0
                assert await sample(one, "echonode_history_versions") == 2
                assert await sample(one, "echonode_history_bytes") > 100
            one.node.peer_table.opened(IdentityId(ID), "far", "127.0.0.1:1", target=None, is_initiator=False)
            one.node.peer_table.closed(0, 0, IdentityId(ID), in_sync=False, reason="records were refused")
            assert await sample(one, "echonode_peers_unequal") == 1
            queue = one.node.on_demand.queue
            async with queue.place("peer"):
                waiting = asyncio.create_task(_place(queue))
                assert await sample(one, "echonode_sync_queue_running") == 1
                assert await sample(one, "echonode_sync_queue_waiting") == 1
            await waiting

    run(test)


async def _place(queue: SyncQueue) -> None:
    async with queue.place("peer"):
        pass


async def _wrote_for_a_link(served: Served) -> None:
    """Write a record, and look before the link has had a turn of the loop to tell of it."""
    metrics = Metrics(served.node, VERSION)
    await served.node.records.put(Draft(context="main", author=served.node.id, name="untaken"))
    assert b"\nechonode_untaken_records 1.0\n" in await metrics.text()


async def _linked(served: Served) -> None:
    """Wait until the node's peer is equal over a link."""
    with hearing(served.node) as events:
        while not all(peer.following and (peer.in_sync or peer.in_step) for peer in served.node.peers()):
            await events.get()


def test_labels_are_bounded_whatever_peers_say(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            named = "hostile\n\x1bname"
            served.node.bus.publish(e.PeerConnected(**PEER, peer_name=named, address=named))
            served.node.bus.publish(e.RecordConflict(context="main", author=ID, record=named))
            text = (await served.ask("GET", "/metrics")).body.decode()
            assert "hostile" not in text
            labels = {name for _, names in re.findall(r"^(echonode_\w+)\{(.*)\}", text, re.MULTILINE) for name in
                      re.findall(r'(\w+)="', names)}  # fmt: skip
            assert labels <= {"version", "context", "state", "mode", "role", "outcome", "way", "source", "change", "le",
                              "reason", "result"}  # fmt: skip

    run(test)


def test_every_alert_names_metrics_that_there_are(tmp_path: Path) -> None:
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert len(rules) >= 6

    async def test() -> None:
        async with serving(tmp_path) as served:
            known = {
                sample.name
                for family in Metrics(served.node, VERSION).registry.collect()
                for sample in (*family.samples, _Named(family.name), _Named(f"{family.name}_total"))
            }
            for rule in rules:
                used = set(re.findall(r"\b(?:echonode|process)_\w+", rule["expr"]))
                assert used <= known, rule["alert"]
                assert used or "up{" in rule["expr"]
                assert rule["annotations"]["summary"] and rule["annotations"]["what_to_do"]

    run(test)


class _Named:
    def __init__(self, name: str) -> None:
        self.name = name
