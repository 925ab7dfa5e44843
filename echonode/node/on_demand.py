"""Syncs that somebody asked for: now, with these peers, and tell me how it went."""

import asyncio
from collections.abc import Sequence
from typing import Final

from echonode.errors import EchonodeError, PeerRefused, Reason, TransportError
from echonode.limits import DIALS_MAX
from echonode.model.identity import IdentityId
from echonode.node.connections import Connections, Work
from echonode.node.happy_eyeballs import reach
from echonode.node.session_report import SessionReport
from echonode.node.views import SyncReport, SyncStatus
from echonode.sync.streams import Dial
from echonode.wire.messages import Direction

_AGAIN_S: Final = (0.02, 0.2)  # before trying again when both sides dialled at once


class SyncRequests:
    """Runs sessions beside the scheduler's own, one with a peer at a time."""

    def __init__(self, connections: Connections, dial: Dial) -> None:
        self._connections = connections
        self._dial = dial

    async def run(self, peers: Sequence[IdentityId], direction: Direction, timeout_s: float) -> list[SyncReport]:
        """One report a peer, in order; at most DIALS_MAX at once, all within `timeout_s`."""
        slots = asyncio.Semaphore(DIALS_MAX)
        known = self._connections.table.peers
        names = {peer: known[peer].name for peer in peers if peer in known}  # others may take its place meanwhile

        async def one(peer: IdentityId) -> SyncReport:
            log, name = SessionReport(), names.get(peer, "")
            try:
                async with asyncio.timeout(timeout_s), slots:
                    log = await self._session(peer, direction)
            except TimeoutError:
                return _report(peer, name, SyncStatus.TIMED_OUT, log, f"not done within {timeout_s:g} s")
            except TransportError as error:
                self._connections.table.missed(peer, str(error))
                return _report(peer, name, SyncStatus.UNREACHABLE, log, str(error))
            except EchonodeError as error:
                return _report(peer, name, SyncStatus.FAILED, log, str(error))
            if log.unequal:
                why = "; ".join(f"{context}: {reason}" for context, reason in log.unequal.items())
                return _report(peer, name, SyncStatus.PARTIAL, log, why)
            return _report(peer, name, SyncStatus.VERIFIED, log, "")

        return list(await asyncio.gather(*[one(peer) for peer in peers]))

    async def _session(self, peer: IdentityId, direction: Direction, instead: Work | None = None) -> SessionReport:
        """A session with `peer`, once any that is under way is over."""
        table, live = self._connections.table, self._connections.live
        while True:
            while await live.wait_until_over(peer):
                pass
            addresses = [address for target in table.targets_of(peer) for address in target.addresses]
            stream = await reach(self._dial, addresses)
            try:
                return await self._connections.lead(stream, direction, instead)
            except PeerRefused as refused:
                if refused.reason not in (Reason.DUPLICATE_SESSION, Reason.BUSY):
                    raise
            await asyncio.sleep(self._connections.entropy.uniform(*_AGAIN_S))

    async def ask(self, peer: IdentityId, work: Work, timeout_s: float) -> None:
        """A session with `peer` for `work` alone, all within `timeout_s`. Raises what ends it early."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._session(peer, Direction.BOTH, work)
        except TimeoutError:
            raise TransportError(f"not done within {timeout_s:g} s") from None


def _report(peer: IdentityId, name: str, status: SyncStatus, log: SessionReport, error: str) -> SyncReport:
    return SyncReport(peer=peer, name=name, status=status, conversations=tuple(log.conversations), error=error)
