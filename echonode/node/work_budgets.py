"""WorkBudgets: each peer has a share of this node's work, and a peer that asks for more waits; others do not. So does a
peer that brings more records a second than the configuration allows.

A budget is a bucket of WORK_BURST_S seconds of one core, refilled by WORK_SHARE of a second each second. What a request
costs is known when it is done (sync/work.py), so a level may go below zero. Then the peer waits until it is refilled.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from echonode.clock import Clock
from echonode.limits import PEER_RATE_BURST_S, WORK_BURST_S, WORK_SHARE, WORK_WAIT_S_MAX
from echonode.model.identity import IdentityId
from echonode.node.remembered import remember


@dataclass(slots=True)
class WorkBudgets:
    """The budget of every peer that asked for something lately."""

    clock: Clock
    records_per_s: int = 0  # that one peer may bring, 0 for any number
    _brought: "OrderedDict[IdentityId, tuple[float, float]]" = field(default_factory=OrderedDict)
    _levels: "OrderedDict[IdentityId, tuple[float, float]]" = field(default_factory=OrderedDict)  # level, as of when

    async def charge(self, peer: IdentityId, cost_s: float) -> None:
        """Charge `cost_s` seconds of work to `peer`; wait while it has asked for more than its share."""
        remember(self._levels, peer, (self._level(peer) - cost_s, self.clock.monotonic_s()))
        if (wait_s := self.wait_s(peer)) > 0:
            await asyncio.sleep(min(wait_s, WORK_WAIT_S_MAX))

    async def receive(self, peer: IdentityId, records: int) -> None:
        """Count `records` that `peer` brings; wait while it brings more than it may."""
        if not self.records_per_s:
            return
        now_s, burst = self.clock.monotonic_s(), self.records_per_s * PEER_RATE_BURST_S
        level, at_s = self._brought.get(peer, (burst, now_s))
        level = min(burst, level + (now_s - at_s) * self.records_per_s) - records
        remember(self._brought, peer, (level, now_s))
        if level < 0:
            await asyncio.sleep(min(-level / self.records_per_s, WORK_WAIT_S_MAX))

    def wait_s(self, peer: IdentityId) -> float:
        """Return for how long `peer` has to wait, 0 while it is within its budget."""
        return max(0.0, -self._level(peer) / WORK_SHARE)

    def _level(self, peer: IdentityId) -> float:
        now_s = self.clock.monotonic_s()
        level, at_s = self._levels.get(peer, (WORK_BURST_S, now_s))
        return min(WORK_BURST_S, level + (now_s - at_s) * WORK_SHARE)
