"""OnDemand: sessions that a person or a program asks for, beside those that the scheduler decides on.

    sync   make two nodes equal now, and report how it went
    pull   list the ids of records that one peer has
    get    fetch some records of one peer
    put    offer one peer some records of ours

Each has a session of its own, one at a time with a peer.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Final, TypeVar

from echonode.errors import EchonodeError, PeerRefused, Reason, TransportError
from echonode.limits import DIALS_MAX
from echonode.model.filter import Filter
from echonode.model.identity import IdentityId
from echonode.model.record import LeafKey
from echonode.node.connections import Connections, Work
from echonode.node.conversations import Conversations
from echonode.node.handshake import Session
from echonode.node.happy_eyeballs import reach
from echonode.node.mode_table import GET, PULL, PUT, ModeSpec
from echonode.node.refusals import DECLINED
from echonode.node.session_report import SessionReport
from echonode.node.views import SyncReport, SyncStatus
from echonode.sync.conversation import Conversation
from echonode.sync.modes import get, pull, put
from echonode.wire.messages import Direction, RecordRequest

Opening = TypeVar("Opening")
Answer = TypeVar("Answer")

_AGAIN_S: Final = (0.02, 0.2)  # before trying again when both sides dialled at once


class OnDemand:
    """Opens sessions on demand. pull, get and put raise PeerRefused when the peer declines, RemoteError when it breaks
    the protocol, and TransportError when it cannot be reached or `timeout_s` is over."""

    def __init__(self, connections: Connections, conversations: Conversations) -> None:
        self._connections = connections
        self._conversations = conversations

    async def sync(self, peers: Sequence[IdentityId], direction: Direction, timeout_s: float) -> list[SyncReport]:
        """Sync with `peers`, DIALS_MAX at once, all within `timeout_s`. Return one report for each, in order."""
        slots = asyncio.Semaphore(DIALS_MAX)
        known = self._connections.table.peers
        names = {peer: known[peer].name for peer in peers if peer in known}  # others may take its place meanwhile

        async def one(peer: IdentityId) -> SyncReport:
            report, name = SessionReport(), names.get(peer, "")
            try:
                async with asyncio.timeout(timeout_s), slots:
                    report = await self._session(peer, direction)
            except TimeoutError:
                return _report(peer, name, SyncStatus.TIMED_OUT, report, f"not done within {timeout_s:g} s")
            except TransportError as error:
                self._connections.table.missed(peer, str(error))
                return _report(peer, name, SyncStatus.UNREACHABLE, report, str(error))
            except EchonodeError as error:
                return _report(peer, name, SyncStatus.FAILED, report, str(error))
            if report.unequal:
                why = "; ".join(f"{context}: {reason}" for context, reason in report.unequal.items())
                return _report(peer, name, SyncStatus.PARTIAL, report, why)
            return _report(peer, name, SyncStatus.VERIFIED, report, "")

        return list(await asyncio.gather(*[one(peer) for peer in peers]))

    async def pull(
        self, peer: IdentityId, context: str, wanted: Filter, *, after: int, limit: int, timeout_s: float
    ) -> pull.Pulled:
        """Return the ids of the peer's records that `wanted` takes, from behind `after` in its log.

        They come by whole pages, at least `limit` of them where there are so many.
        """
        return await self._ask(peer, context, PULL, pull.IdQuery(wanted, after, limit), timeout_s)

    async def get(self, peer: IdentityId, context: str, wanted: Sequence[RecordRequest], timeout_s: float) -> get.Got:
        """Fetch these records and keep them, whether a subscription takes them or not."""
        return await self._ask(peer, context, GET, wanted, timeout_s)

    async def put(
        self, peer: IdentityId, context: str, keys: Sequence[LeafKey], timeout_s: float
    ) -> list[put.Answer]:
        """Offer these records of ours. Return the peer's answer to every head."""
        return await self._ask(peer, context, PUT, keys, timeout_s)

    async def _ask(
        self,
        peer: IdentityId,
        context: str,
        spec: ModeSpec[Opening, Any, Answer],
        opening: Opening,
        timeout_s: float,
    ) -> Answer:
        def question(conversation: Conversation) -> Awaitable[Answer]:
            return spec.executor.run_initiator(conversation, opening)

        answers: list[Answer] = []
        refusals: list[PeerRefused] = []

        async def work(session: Session, report: SessionReport) -> None:
            try:
                answers.append(await self._conversations.ask(session, report, context, spec.mode, question))
            except PeerRefused as refused:
                if refused.reason not in DECLINED:
                    raise
                refusals.append(refused)  # and the session ended as it should

        try:
            async with asyncio.timeout(timeout_s):
                await self._session(peer, Direction.BOTH, work)
        except TimeoutError:
            raise TransportError(f"not done within {timeout_s:g} s") from None
        if refusals:
            raise refusals[-1]
        return answers[-1]

    async def _session(self, peer: IdentityId, direction: Direction, instead: Work | None = None) -> SessionReport:
        """Run a session with `peer`, once any that is under way is over. Raises what ends it early."""
        connections = self._connections
        while True:
            while await connections.registry.wait_until_over(peer):
                pass
            addresses = [address for target in connections.table.targets_of(peer) for address in target.addresses]
            stream = await reach(connections.dial, addresses)
            try:
                return await connections.lead(stream, direction, instead)
            except PeerRefused as refused:
                if refused.reason not in (Reason.DUPLICATE_SESSION, Reason.BUSY):
                    raise
            await asyncio.sleep(connections.entropy.uniform(*_AGAIN_S))


def _report(peer: IdentityId, name: str, status: SyncStatus, report: SessionReport, error: str) -> SyncReport:
    return SyncReport(peer=peer, name=name, status=status, conversations=tuple(report.conversations), error=error)
