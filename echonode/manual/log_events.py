"""The catalogue of log events: every name that a line may have, its level, its meaning, and its sentence for people.

`echonode help logs` shows it, and log_lines.py makes the lines of a terminal of it. tests/manual holds it to the events
of node/events.py and to the lines that the process writes. In a sentence `{field}` is a field of the line, and behind
the colon stands its form: `who` is a node by its name, `other` one that may not have said who it is, `size` bytes,
`span` seconds.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """One name. `is_calm`: a terminal on which a node runs shows it; the others are for those who look closer."""

    name: str
    level: str
    meaning: str
    sentence: str
    is_calm: bool = True


LOG_EVENTS: Final = (
    LogEvent(
        name="node.started",
        level="info",
        meaning="The node is up. `listen`: where other nodes reach it.",
        sentence="{node_name} is up, listening on {listen}",
        is_calm=False,
    ),
    LogEvent(
        name="node.stopped",
        level="info",
        meaning="The node is down, and every session with it.",
        sentence="stopped",
    ),
    LogEvent(
        name="node.renamed",
        level="info",
        meaning="A person gave this node another name.",
        sentence="this node is called {node_name} now",
    ),
    LogEvent(
        name="node.instance_renewed",
        level="warning",
        meaning="The store was restored, copied or rolled back: this node writes under a fresh instance now.",
        sentence="this store lives a second life, and writes as a new one: {why}",
    ),
    LogEvent(
        name="node.caught_up",
        level="info",
        meaning="A restored node takes writes again: it has from its peers what it wrote since, or none answered.",
        sentence="restored, and records are written again; peers that are equal: {peers}",
    ),
    LogEvent(
        name="node.paused",
        level="info",
        meaning="A person wants no session with a peer (empty: any) until a time (0: until resumed).",
        sentence="paused with {peer}",
    ),
    LogEvent(
        name="node.resumed",
        level="info",
        meaning="A pause is over, by its time or by a person.",
        sentence="the pause with {peer} is over",
    ),
    LogEvent(
        name="pauses.not_kept",
        level="error",
        meaning="A pause holds, and would not hold over a restart: its file cannot be written.",
        sentence="the pause would not outlast a restart: {reason}",
    ),
    LogEvent(
        name="backup.written",
        level="info",
        meaning="A scheduled backup was written, opened again and verified.",
        sentence="backup {path} written, {bytes} bytes, {deleted} older ones deleted",
    ),
    LogEvent(
        name="backup.failed",
        level="error",
        meaning="A scheduled backup could not be written. It is tried again in ten minutes.",
        sentence="no backup: {reason}",
    ),
    LogEvent(
        name="store.audited",
        level="info",
        meaning="The nightly audit read and verified the whole store, and every version of it is whole.",
        sentence="the store was verified: {checked} versions, all whole",
    ),
    LogEvent(
        name="store.damaged",
        level="error",
        meaning="The nightly audit found damage. Peers are asked again for records that were dropped; if there are "
        "more problems than these, stop the node and type: echonode verify --repair.",
        sentence="{problems} problems in the store, {dropped} records are fetched from peers again; first: {first}",
    ),
    LogEvent(
        name="audit.failed",
        level="warning",
        meaning="The nightly audit did not come to its end. It is tried again in an hour.",
        sentence="no verdict over the store: {reason}",
    ),
    LogEvent(
        name="audit.not_kept",
        level="warning",
        meaning="The verdict of an audit cannot be kept over a restart: its file cannot be written.",
        sentence="the verdict would not outlast a restart: {reason}",
    ),
    LogEvent(
        name="node.copy_seen",
        level="warning",
        meaning="Another process has the keys of this node.",
        sentence="at {address} {what_to_do}",
    ),
    LogEvent(
        name="network.joined",
        level="info",
        meaning="This node is a member of another network now.",
        sentence="joined the network {network}",
    ),
    LogEvent(
        name="network.rotated",
        level="warning",
        meaning="The network secret was replaced. `rotator` did it, and `without` was left out.",
        sentence="the network secret was replaced; this is the network {network} now, of {members} members",
    ),
    LogEvent(
        name="network.left_out",
        level="warning",
        meaning="A peer said that the network was rotated without this node, or with others left out.",
        sentence="{peer:who} says that the network went on without this node",
    ),
    LogEvent(
        name="network.rotation_refused",
        level="warning",
        meaning="A peer told of a rotation that is not to be believed.",
        sentence="{peer:who} told of a rotation that is refused: {detail}",
    ),
    LogEvent(
        name="invitation.opened",
        level="info",
        meaning="An invitation is open. `slot` is its number; the code itself is never logged.",
        sentence="invitation {slot} is open for {expires_s:span}",
        is_calm=False,
    ),
    LogEvent(
        name="invitation.used",
        level="info",
        meaning="A node joined by an invitation.",
        sentence="a node at {address} joined by invitation {slot}",
    ),
    LogEvent(
        name="invitation.refused",
        level="warning",
        meaning="A joiner did not know the code, or broke off.",
        sentence="a node at {address} did not join: {detail}",
    ),
    LogEvent(
        name="peer.sighted",
        level="info",
        meaning="Discovery saw a node for the first time. `same_network`: it is of this network.",
        sentence="a node was seen at {address}",
        is_calm=False,
    ),
    LogEvent(
        name="peer.connected",
        level="info",
        meaning="A session with a peer that was absent until now, or is new.",
        sentence="{peer:who} is here, at {address}",
    ),
    LogEvent(
        name="peer.absent",
        level="info",
        meaning="A peer does not answer any more, or took its leave.",
        sentence="{peer:who} is away: {why}",
    ),
    LogEvent(
        name="peer.unreachable",
        level="warning",
        meaning="A configured address leads to no session. Told at the first attempt, then once an hour.",
        sentence="{address} cannot be reached: {why}",
    ),
    LogEvent(
        name="peer.forgotten",
        level="info",
        meaning="A person had this node forget a peer.",
        sentence="{peer:who} is forgotten until it comes again",
    ),
    LogEvent(
        name="peer.pending",
        level="warning",
        meaning="A node that was never met wants in, and waits until a person approves or rejects it. At most 16 an "
        "hour are told; `echonode peers --pending` lists all.",
        sentence="{peer:who} at {address} waits to be let in: echonode peers --pending",
    ),
    LogEvent(
        name="trust.changed",
        level="info",
        meaning="A person decided about a node: it is approved, rejected, denied (its records are hidden) or allowed.",
        sentence="{peer:who} is {decision} now",
    ),
    LogEvent(
        name="peer.identity_changed",
        level="warning",
        meaning="A peer claimed an identity that is known here with a key that its root never stated.",
        sentence="a node at {value} claims to be {pinned:who} with a wrong key; nothing of it is kept",
    ),
    LogEvent(
        name="handshakes.dropped",
        level="warning",
        meaning="Connections were closed before their handshake, as too many were under way.",
        sentence="{count} connections were closed at once, as too many came, the first from {address}",
    ),
    LogEvent(
        name="session.failed",
        level="warning",
        meaning="A session ended early. `reason` is a word for programs, `detail` a sentence.",
        sentence="the session with {peer:other} at {address} failed: {detail}",
    ),
    LogEvent(
        name="sync.completed",
        level="info",
        meaning="One conversation is over. Both nodes write this line, with the same session id.",
        sentence="{context} with {peer:who}: {received} received, {sent} sent, {outcome} "
        "({mode}, {bytes_received:size} in, {bytes_sent:size} out, {duration_s:span})",
    ),
    LogEvent(
        name="sync.progress",
        level="debug",
        meaning="A long conversation moved more records.",
        sentence="{context} with {peer:who}: {received} received, {sent} sent so far, by {mode}",
        is_calm=False,
    ),
    LogEvent(
        name="follow.began",
        level="info",
        meaning="A session goes on as a link, over which each side tells the other what it stores.",
        sentence="linked with {peer:who}: changes travel as they happen",
        is_calm=False,
    ),
    LogEvent(
        name="follow.ended",
        level="info",
        meaning="A link is over, with what travelled over it.",
        sentence="the link with {peer:who} ended after {duration_s:span}, {received} received, {sent} sent: {why}",
        is_calm=False,
    ),
    LogEvent(
        name="records.applied",
        level="debug",
        meaning="Versions became heads. `source`: the peer that sent them, empty for this node. Bodies are not logged.",
        sentence="{records} into {context} from {source:who}",
        is_calm=False,
    ),
    LogEvent(
        name="record.refused",
        level="warning",
        meaning="A version of a peer was not stored: the first of a conversation that was refused.",
        sentence="a record of {context} from {peer:who} was not stored: {detail}",
    ),
    LogEvent(
        name="file.taken",
        level="info",
        meaning="A record file was taken in (`import --signed`, `sync --path`). `by`: who wrote it, as it says itself.",
        sentence="a file of {by_name} brought {received} versions, {refused} were refused: {why}",
    ),
    LogEvent(
        name="record.conflict",
        level="warning",
        meaning="Nodes wrote one record without knowing of each other's version. Both are kept.",
        sentence="two versions of {record} in {context}; to see them: echonode conflicts",
    ),
    LogEvent(
        name="record.conflict_resolved",
        level="info",
        meaning="A record that was in conflict has one version again.",
        sentence="{record} in {context} is no longer in conflict",
    ),
    LogEvent(
        name="record.forked",
        level="warning",
        meaning="One writer gave one counter to two versions: its store was put back, or it lies. Both are kept.",
        sentence="{author:who} wrote {record} twice under one counter: its store was put back, or it lies",
    ),
    LogEvent(
        name="record.signed_again",
        level="warning",
        meaning="This store was rolled back or copied: a version stands again that another life of it had superseded.",
        sentence="{record} in {context} stands again, in conflict: another life of this store wrote over it unseen",
    ),
    LogEvent(
        name="record.outranked",
        level="warning",
        meaning="Versions of one record do not fit beside its other heads; the best are kept until there is room.",
        sentence="{count} versions of {record} in {context} do not fit beside the others, and wait",
    ),
    LogEvent(
        name="record.voided",
        level="warning",
        meaning="A version no longer counts: its key was stated compromised. It stays readable in the history.",
        sentence="a version of {record} in {context} no longer counts: its key is compromised",
    ),
    LogEvent(
        name="key.revoked",
        level="error",
        meaning="The key that this device signs with was stated retired or compromised.",
        sentence="the key of this device is {state}: {what_to_do}",
    ),
    LogEvent(
        name="record.timestamp_ahead",
        level="warning",
        meaning="A record comes from the future: the clock of the node that wrote it is wrong, or the one here is.",
        sentence="{record} from {peer:who} is dated {ahead_s:span} from now: its writer's clock is wrong, or this one",
    ),
    LogEvent(
        name="api.socket_gone",
        level="warning",
        meaning="The socket for commands is gone, and cannot be made again yet.",
        sentence="commands cannot reach this node: {reason}",
    ),
    LogEvent(
        name="api.socket_made_anew",
        level="warning",
        meaning="The socket for commands was removed, and is there again.",
        sentence="the socket {path} had been removed, and is there again",
    ),
    LogEvent(
        name="config.refused",
        level="error",
        meaning="The configuration was read again and has a mistake; nothing changed.",
        sentence="the configuration was not taken: {reason}",
    ),
    LogEvent(
        name="config.reloaded",
        level="info",
        meaning="The configuration was read again. A warning when some keys need another start.",
        sentence="the configuration was read again; changed: {changed}; needs another start: {needs_restart}",
    ),
    LogEvent(
        name="log.level_set",
        level="warning",
        meaning="A person changed the level of this log.",
        sentence="the log has lines from {to} on now",
    ),
    LogEvent(
        name="tcp.port_taken",
        level="warning",
        meaning="The usual port is taken by another program; the node listens on another one.",
        sentence="the usual port is taken: listening on {listen}",
    ),
    LogEvent(
        name="api.port_taken",
        level="info",
        meaning="The usual port of the API on loopback is taken; it listens on another one.",
        sentence="the API listens at {url}, as its usual port is taken",
        is_calm=False,
    ),
    LogEvent(
        name="tcp.refused",
        level="warning",
        meaning="A connection was closed at once, as too many are open.",
        sentence="a connection from {address} was refused: too many are open",
    ),
    LogEvent(
        name="mdns.unavailable",
        level="warning",
        meaning="Nodes of this LAN cannot be found yet; it is tried again.",
        sentence="nodes cannot be found by mDNS yet: {reason}",
    ),
    LogEvent(
        name="log.folded",
        level="info",
        meaning="More than ten lines a second of one event about one peer: the others were only counted.",
        sentence="{count} more lines {folded} about {about:who}",
    ),
    LogEvent(
        name="log.dropped",
        level="warning",
        meaning="The reader of the log stopped reading, and lines were left out in this place.",
        sentence="{count} lines are missing here: the reader of the log had stopped",
    ),
    LogEvent(
        name="library.message",
        level="warning",
        meaning="A library that the node uses said something.",
        sentence="{logger}: {message}",
    ),
)

BY_NAME: Final = {event.name: event for event in LOG_EVENTS}
