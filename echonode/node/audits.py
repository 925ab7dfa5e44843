"""Audits: a running node reads its whole store again, drops what is damaged, and has peers bring it back.

    store.audit ──all whole──────────────────────────────> StoreAudited
                ──leaves with damaged heads──> drop them ──> compare with all peers anew ──> StoreDamaged
                ──anything else──────────────────────────────────────────────────────────> StoreDamaged

Whole older versions of a dropped record stand in its place until a peer brings the head: Store.drop_damaged. Damage to
key statements, to the history or to the file's structure is told and stays; `echonode verify --repair` mends it.

An audit rests for three times as long as it worked, so that it takes a quarter of one core at most.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from echonode.clock import Clock
from echonode.model.record import LeafKey, VersionId
from echonode.node.event_bus import EventBus
from echonode.node.events import StoreAudited, StoreDamaged
from echonode.store.port import Audit, Store

_REST: Final = 3.0  # times the work


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The verdict of an audit that ended at `ended_ms`: `problems` contradictions among `checked` versions, of which
    `first` is one in words, and `dropped` records that peers are asked for again."""

    ended_ms: int
    checked: int
    problems: int = 0
    dropped: int = 0
    first: str = ""


class Audits:
    """The audits of one running node, one at a time.

    `fetch_again` compares with all peers as if they were new, once versions were dropped."""

    def __init__(
        self, store: Store, bus: EventBus, clock: Clock, fetch_again: Callable[[], None]
    ) -> None:
        self.last: AuditReport | None = None
        self._store = store
        self._bus = bus
        self._clock = clock
        self._fetch_again = fetch_again

    async def run(self) -> AuditReport:
        """Audit the store, drop what is damaged, and publish the verdict.

        Raises StoreError when the audit does not come to its end, as when very much is written meanwhile.
        """
        audit = await self._audit()
        damaged: dict[str, list[LeafKey]] = {}
        for context, key in audit.damaged:
            damaged.setdefault(context, []).append(key)
        dropped: list[VersionId] = []
        for context, keys in damaged.items():
            dropped += await self._store.drop_damaged(context, keys)
        if dropped:
            self._fetch_again()
        found, ended_ms = audit.problems, self._clock.now_ms()
        report = AuditReport(ended_ms, audit.checked, len(found), len(dropped), found[0] if found else "")
        self.last = report
        if report.problems:
            self._bus.publish(
                StoreDamaged(
                    checked=report.checked, problems=report.problems, dropped=report.dropped, first=report.first
                )
            )
        else:
            self._bus.publish(StoreAudited(checked=report.checked))
        return report

    async def _audit(self) -> Audit:
        audit, began_s = Audit(0), self._clock.monotonic_s()
        async with aclosing(self._store.audit()) as totals:  # a node may stop in the midst of it
            async for total in totals:
                audit = total  # the last one is the verdict
                await asyncio.sleep(_REST * (self._clock.monotonic_s() - began_s))
                began_s = self._clock.monotonic_s()
        return audit
