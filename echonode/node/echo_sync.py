"""EchoSync: what the Echo Sync Protocol asks of a node, in terms of syncs, conflicts and their resolution.

    sync     with chosen peers, now, some at a time, each tried again with back-off until the time is up. Then conflicts
             are looked for; a forced sync resolves them by a strategy, and tells the peers
    resolve  ends the conflicts that are here, and tells a peer

State in this protocol is what several nodes write: the records of `author`, the pool `shared` of a private network, or
the node's own. A push carries nothing back, so a peer may then hold two heads of a record of which one is unknown here.
It is asked for the versions that it holds, and those of contested records are fetched.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar

from echonode.clock import Clock, Entropy
from echonode.errors import EchonodeError, LocalError
from echonode.limits import BATCH_RECORDS_MAX, SYNC_ATTEMPT_S
from echonode.model.filter import Filter
from echonode.model.identity import IdentityId
from echonode.model.record import IDENTITIES, Record, leaf_key
from echonode.node.conflicts import Conflicts, Strategy
from echonode.node.on_demand import OnDemand
from echonode.node.pause_control import PauseControl
from echonode.node.record_book import RecordBook
from echonode.node.sync_history import HistoryEntry, SyncHistory
from echonode.node.views import SyncReport, SyncStatus
from echonode.text import to_base32
from echonode.wire.messages import Direction, RecordRequest

T = TypeVar("T")

_SYNC_ID_BYTES: Final = 8
_PAUSED: Final = "paused here: to end that, type: echonode resume; sync --force ignores it"
_LISTED_MAX: Final = 100_000  # versions of one peer looked at for conflicts after a push
_AGAIN: Final = (SyncStatus.UNREACHABLE, SyncStatus.FAILED)
_HISTORY_STATUS: Final = {
    SyncStatus.VERIFIED: "success",
    SyncStatus.PARTIAL: "partial",
    SyncStatus.FAILED: "error",
    SyncStatus.UNREACHABLE: "error",
    SyncStatus.TIMED_OUT: "timed out",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncOrder:
    """The way to sync. `operation` is the word in the history; `attempts` counts the first one too.

    `batch_size`: so many peers at a time, None for all; `is_forced`: resolve conflicts by `strategy`, and try again
    without back-off.
    """

    operation: str
    direction: Direction
    timeout_s: float
    priority: int = 0
    attempts: int = 1
    batch_size: int | None = None
    is_forced: bool = False
    strategy: Strategy = Strategy.MERGE


@dataclass(frozen=True, slots=True)
class Contested:
    """A record in conflict. `local` is the newest head that this node wrote, else the one that readers get here;
    `remote` the newest of the others."""

    local: Record
    remote: Record


@dataclass(frozen=True, slots=True)
class Resolved:
    """A conflict that is over. `how`: in words, what the content is now."""

    record: Record
    how: str


@dataclass(slots=True, kw_only=True)
class SyncOutcome:
    """The result of a sync: one report for each peer, and the conflicts that are left."""

    sync_id: str
    reports: list[SyncReport] = field(default_factory=list)
    attempts: Mapping[object, int] = field(default_factory=dict)
    resolved: list[Resolved] = field(default_factory=list)
    contested: list[Contested] = field(default_factory=list)
    duration_s: float = 0.0


class EchoSync:
    """The operations of one node. `author_text` is `shared`, `me`, or None for what the network suggests."""

    def __init__(
        self,
        records: RecordBook,
        conflicts: Conflicts,
        on_demand: OnDemand,
        pause_control: PauseControl,
        clock: Clock,
        entropy: Entropy,
        author_text: str | None,
    ) -> None:
        self.history = SyncHistory()
        self._records = records
        self._conflicts = conflicts
        self._on_demand = on_demand
        self._pause_control = pause_control
        self._clock = clock
        self._entropy = entropy
        self._is_own = author_text == "me"

    @property
    def author(self) -> IdentityId:
        """The author whose records are the state."""
        shared = self._records.shared
        return self._records.id if self._is_own or shared is None else shared

    async def sync(
        self,
        peers: Sequence[IdentityId],
        order: SyncOrder,
        *,
        targets: Sequence[str] = (),
        names: Collection[str] | None = None,
    ) -> SyncOutcome:
        """Sync with `peers` and with the nodes at `targets`, as `order` says. `names`: only conflicts of these count.

        Raises what the store raises; what goes wrong with a peer is in its report.
        """
        if order.is_forced:
            with self._pause_control.lifted(peers):
                return await self._sync(peers, order, targets, names)
        return await self._sync(peers, order, targets, names)

    async def _sync(
        self,
        peers: Sequence[IdentityId],
        order: SyncOrder,
        targets: Sequence[str],
        names: Collection[str] | None,
    ) -> SyncOutcome:
        began_s = self._clock.monotonic_s()
        until_s = began_s + order.timeout_s
        outcome = SyncOutcome(sync_id=to_base32(self._entropy.random_bytes(_SYNC_ID_BYTES)))
        counts: Counter[object] = Counter()
        outcome.attempts = counts
        size = order.batch_size or len(peers) + len(targets) or 1
        waiting: list[tuple[IdentityId | None, str]] = [*((peer, "") for peer in peers), *((None, t) for t in targets)]
        for start in range(0, len(waiting), size):
            chunk = waiting[start : start + size]
            outcome.reports += await self._tried(chunk, order, until_s, counts)
        if order.direction is Direction.SEND:
            await self._learn_contested(outcome.reports, until_s)
        outcome.contested = await self.contested(names)
        if order.is_forced and outcome.contested:
            outcome.resolved = await self.resolve_all(order.strategy, names)
            if order.direction is not Direction.RECEIVE:
                await self._tell(outcome, order, until_s, counts)
            outcome.contested = await self.contested(names)
        outcome.duration_s = round(self._clock.monotonic_s() - began_s, 6)
        self._note(outcome, order)
        return outcome

    async def contested(self, names: Collection[str] | None = None) -> list[Contested]:
        """Return the records of `author` that are in conflict here, or those of them with `names`."""
        found = []
        for context in self._records.store.contexts():
            if context == IDENTITIES:
                continue
            for heads in await self._records.conflicts(context):
                if heads[0].author == self.author and (names is None or heads[0].name in names):
                    found += [self._sides(heads)]
        return found

    async def resolve_all(self, strategy: Strategy, names: Collection[str] | None = None) -> list[Resolved]:
        """Resolve those conflicts by `strategy`. One that another node resolved meanwhile is left out."""
        done = []
        for record in [each.local for each in await self.contested(names)]:
            with suppress(LocalError):
                resolution = await self._conflicts.resolve(record.context, record.author, record.name, strategy)
                done.append(Resolved(resolution.record, resolution.how))
        return done

    async def resolve(self, peer: IdentityId, strategy: Strategy, timeout_s: float) -> SyncOutcome:
        """Learn of the peer's versions, resolve what is in conflict, and tell the peer."""
        order = SyncOrder(
            operation="resolve", direction=Direction.BOTH, timeout_s=timeout_s, is_forced=True, strategy=strategy
        )
        return await self.sync([peer], order)

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _tried(
        self,
        chosen: Sequence[tuple[IdentityId | None, str]],
        order: SyncOrder,
        until_s: float,
        counts: Counter[object],
    ) -> list[SyncReport]:
        """Return one report for each of `chosen`. Those that failed are tried again while there are attempts left."""
        reports: dict[object, SyncReport] = {}
        paused = [peer for peer, _ in chosen if peer is not None and self._pause_control.pauses.of(peer) is not None]
        labels = self._on_demand.labels()
        for peer in paused:
            reports[peer] = SyncReport(
                peer=peer, name=labels.get(peer, ""), status=SyncStatus.FAILED, conversations=(), error=_PAUSED
            )
        waiting = [each for each in chosen if each[0] not in paused]
        for attempt in range(order.attempts if waiting else 0):
            if attempt and not order.is_forced:
                most_s = min(SYNC_ATTEMPT_S[1], SYNC_ATTEMPT_S[0] * 2**attempt)
                left_s = max(0.0, until_s - self._clock.monotonic_s())
                await asyncio.sleep(min(self._entropy.uniform(0, most_s), left_s))
            fresh = await self._on_demand.sync(
                [peer for peer, _ in waiting if peer is not None],
                order.direction,
                max(0.0, until_s - self._clock.monotonic_s()),
                targets=[key for peer, key in waiting if peer is None],
                priority=order.priority,
                total_s=order.timeout_s,
            )
            for report in fresh:
                key = report.peer or report.name
                counts[key] += 1
                reports[key] = report
            failed = [report for report in fresh if report.status in _AGAIN]
            again = {report.peer for report in failed if report.peer is not None}
            waiting = [(peer, "") for peer in again] + [each for each in waiting if each[0] is None and _has(failed)]
            if not waiting or self._clock.monotonic_s() >= until_s:
                break
        return list(reports.values())

    async def _learn_contested(self, reports: Sequence[SyncReport], until_s: float) -> None:
        """Fetch the heads that peers hold of contested records, after a push to them."""
        for report in reports:
            contexts = {part.context for part in report.conversations} - {IDENTITIES}
            if report.peer is None or report.status is not SyncStatus.VERIFIED:
                continue
            for context in sorted(contexts):
                try:
                    await self._fetch_contested(report.peer, context, until_s)
                except EchonodeError:
                    continue  # it went away: what it holds beside ours comes with the next sync

    async def _fetch_contested(self, peer: IdentityId, context: str, until_s: float) -> None:
        wanted = Filter(authors=frozenset({self.author}))
        left_s = until_s - self._clock.monotonic_s()
        pulled = await self._on_demand.pull(peer, context, wanted, after=0, limit=_LISTED_MAX, timeout_s=left_s)
        heads = Counter(one.name for one in pulled.ids)
        known = {head.id for each in await self.contested() for head in (each.local, each.remote)}
        keys = {
            leaf_key(self.author, one.name) for one in pulled.ids if heads[one.name] > 1 and one.version not in known
        }
        requests = [RecordRequest(key, None) for key in sorted(keys)][:BATCH_RECORDS_MAX]
        if requests:
            await self._on_demand.get(peer, context, requests, until_s - self._clock.monotonic_s())

    async def _tell(self, outcome: SyncOutcome, order: SyncOrder, until_s: float, counts: Counter[object]) -> None:
        """Bring the resolutions to the peers that were reached. Their reports stand for the earlier ones, joined."""
        reached = [report.peer for report in outcome.reports if report.peer and report.status not in _AGAIN]
        if not reached:
            return
        told = await self._tried([(peer, "") for peer in reached], order, until_s, counts)
        fresh = {report.peer: report for report in told}
        outcome.reports = [_joined(earlier, fresh.get(earlier.peer)) for earlier in outcome.reports]

    def _sides(self, heads: Sequence[Record]) -> Contested:
        device = self._records.identity.device.public
        local = next((head for head in heads if head.kid == device), heads[0])
        return Contested(local, next(head for head in heads if head.id != local.id))

    def _note(self, outcome: SyncOutcome, order: SyncOrder) -> None:
        """Enter one line for each peer into the history."""
        for report in outcome.reports:
            status = _HISTORY_STATUS[report.status]
            details = {
                "sync_id": outcome.sync_id,
                "sent": sum(part.sent for part in report.conversations),
                "received": sum(part.received for part in report.conversations),
                "bytes_sent": sum(part.bytes_sent for part in report.conversations),
                "bytes_received": sum(part.bytes_received for part in report.conversations),
                "conflicts": len(outcome.contested),
                "resolved": len(outcome.resolved),
                "attempts": outcome.attempts.get(report.peer or report.name, 1),
                "error": report.error,
            }
            self.history.add(
                HistoryEntry(
                    timestamp_ms=self._clock.now_ms(),
                    peer=report.peer or b"",
                    peer_name=report.name,
                    operation=order.operation,
                    status="conflict" if status == "success" and outcome.contested else status,
                    duration_s=outcome.duration_s,
                    details=details,
                )
            )


def _has(failed: Sequence[SyncReport]) -> bool:
    """Return whether a configured address that led to no peer is among the failures."""
    return any(report.peer is None for report in failed)


def _joined(earlier: SyncReport, later: SyncReport | None) -> SyncReport:
    if later is None:
        return earlier
    return SyncReport(
        peer=later.peer,
        name=later.name,
        status=later.status,
        conversations=earlier.conversations + later.conversations,
        error=later.error,
    )
