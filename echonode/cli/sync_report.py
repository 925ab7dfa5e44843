"""The lines and fields of a sync's result: peers, conversations, conflicts, figures, statuses, history."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from echonode.cli.columns import table
from echonode.cli.output import ago, count, fields_of, moment, safe, seconds, short_id, size

_SYNC_FIELDS: Final = ("status", "sync_id", "peers", "conflicts", "contested", "resolved")
_PEER_FIELDS: Final = (
    *("id", "name", "status", "mode", "reason", "sent", "received", "bytes_sent", "bytes_received", "round_trips"),
    *("duration_s", "verified", "attempts", "error"),
)
_VALUE_CHARS: Final = 40


def promised_fields(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the answer that scripts rely on, in their order."""
    fields = fields_of(_SYNC_FIELDS, answer)
    fields["peers"] = [fields_of(_PEER_FIELDS, peer) for peer in answer["peers"]]
    if "metrics" in answer:
        fields["metrics"] = answer["metrics"]
    return fields


def report_lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield a table of the peers, then the conflicts that are left with their two sides."""
    rows = [
        (
            safe(peer.get("name")) or short_id(peer["id"]),
            "yes" if peer["verified"] else "no",
            safe(peer["mode"]) or "-",
            f"{peer['sent'] or 0:,}",
            f"{peer['received'] or 0:,}",
            size((peer["bytes_sent"] or 0) + (peer["bytes_received"] or 0)),
            f"{peer['round_trips'] or 0}",
            seconds(peer["duration_s"]),
            safe(peer["error"] or peer["reason"]),
        )
        for peer in answer["peers"]
    ]
    if rows:
        header = ("PEER", "VERIFIED", "MODE", "SENT", "RECEIVED", "TRAFFIC", "ROUND TRIPS", "TIME", "WHY")
        yield from table(header, rows, right=(3, 4, 5, 6, 7), optional=(6, 2))
    contested = [
        (safe(each["record"]), safe(each["context"]), _value(each["local"]), _value(each["remote"]))
        for each in answer.get("contested", ())
    ]
    if contested:
        yield ""
        yield from table(("CONFLICT", "CONTEXT", "HERE", "THERE"), contested, optional=(1,))
        if answer["conflicts"] > len(contested):
            yield f"and {answer['conflicts'] - len(contested):,} more"


def verbose_lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield a table of the conversations, and the conflicts that were resolved."""
    rows = [
        (
            safe(peer.get("name")) or short_id(peer["id"]),
            safe(part["context"]),
            safe(part["mode"]),
            safe(part["outcome"]),
            f"{part['sent']:,}",
            f"{part['received']:,}",
            f"{part['refused']:,}",
            seconds(part["duration_s"]),
            short_id(part["session"]),
            safe(part["reason"]),
        )
        for peer in answer["peers"]
        for part in peer["contexts"]
    ]
    yield ""
    if rows:
        header = ("PEER", "CONTEXT", "MODE", "OUTCOME", "SENT", "RECEIVED", "REFUSED", "TIME", "SESSION", "REASON")
        yield from table(header, rows, right=(4, 5, 6, 7), optional=(6, 7, 8))
    else:
        yield "no conversation was needed"
    for each in answer.get("resolved", ()):
        yield f"resolved {safe(each['record'])}: {safe(each['how'])}; it is {_value(each['value'])} now"


def figures(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a run, summed over peers."""
    sums = {
        key: sum(peer.get(key) or 0 for peer in answer["peers"])
        for key in ("sent", "received", "bytes_sent", "bytes_received", "round_trips", "attempts")
    }
    verified = sum(bool(peer["verified"]) for peer in answer["peers"])
    span_s = answer["duration_s"]
    moved = sums["sent"] + sums["received"]
    return {
        "duration_s": span_s,
        "peers": len(answer["peers"]),
        "verified": verified,
        **sums,
        "records_per_s": round(moved / span_s, 1) if span_s else 0.0,
        "conflicts": answer["conflicts"],
        "resolved": len(answer["resolved"]),
    }


def metrics_lines(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield the figures, one a line."""
    shown = {
        "time": seconds(metrics["duration_s"]),
        "peers": f"{metrics['peers']:,}, {metrics['verified']:,} verified, {count(metrics['attempts'], 'attempt')}",
        "records": f"{metrics['sent']:,} sent, {metrics['received']:,} received, {metrics['records_per_s']:,}/s",
        "traffic": f"{size(metrics['bytes_sent'])} sent, {size(metrics['bytes_received'])} received, "
        f"{metrics['round_trips']:,} round trips",
        "conflicts": f"{metrics['conflicts']:,} left, {metrics['resolved']:,} resolved",
    }
    yield ""
    yield from (f"{name:<10} {value}" for name, value in shown.items())


def status_lines(nodes: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a table of how it stands with each node."""
    now_s = time.time()
    rows = [
        (
            safe(node["name"]) or short_id(node["node_id"]),
            short_id(node["node_id"]),
            "yes" if node["is_online"] else "no",
            safe(node["status"]),
            ago(node["last_sync"], now_s),
            f"{node['metrics']['sync_count']:,}",
            f"{node['metrics']['error_rate']:.0%}",
            safe(node["reason"]),
        )
        for node in nodes
    ]
    header = ("PEER", "ID", "ONLINE", "STATUS", "COMPARED", "SYNCS", "FAILED", "WHY")
    return table(header, rows, right=(5, 6), optional=(1, 6, 5))


def history_lines(entries: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a table of syncs that were asked for, the newest first."""
    rows = []
    for entry in entries:
        details = entry["details"]
        rows.append(
            (
                moment(entry["timestamp"]),
                safe(entry["name"]),
                safe(entry["operation"]),
                safe(entry["status"]),
                f"{details.get('sent', 0):,}",
                f"{details.get('received', 0):,}",
                seconds(details.get("duration_ms", 0) / 1000),
                safe(details.get("error", "")),
            )
        )
    if not rows:
        return iter(("no sync was asked for yet",))
    header = ("WHEN", "PEER", "ACTION", "STATUS", "SENT", "RECEIVED", "TIME", "WHY")
    return table(header, rows, right=(4, 5, 6), optional=(6, 4, 5))


def _value(value: object) -> str:
    """Return a record's value, short."""
    text = "(deleted)" if value is None else safe(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _VALUE_CHARS else f"{text[: _VALUE_CHARS - 1]}…"
