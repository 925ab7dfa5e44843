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
from echonode.model.address import distinct_label
from echonode.model.filter import Filter
from echonode.model.identity import IdentityId
from echonode.model.record import LeafKey
from echonode.node.addresses import Addresses
from echonode.node.connections import Connections, Work
from echonode.node.conversations import Conversations
from echonode.node.handshake import Session
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

    def __init__(self, connections: Connections, conversations: Conversations, addresses: Addresses) -> None:
        self._connections = connections
        self._conversations = conversations
        self._addresses = addresses

    async def sync(
        self, peers: Sequence[IdentityId], direction: Direction, timeout_s: float, *, targets: Sequence[str] = ()
    ) -> list[SyncReport]:
        """Sync with `peers`, and with the node at each of `targets` (keys of the peer table), within `timeout_s`.

        DIALS_MAX run at once. Return one report for each, in order; one for each peer, however it was reached.
        """
        slots = asyncio.Semaphore(DIALS_MAX)
        labels = self._addresses.node_labels()  # others may take a peer's place meanwhile

        async def one(peer: IdentityId | None, target: str) -> SyncReport:
            report = SessionReport()
            name = distinct_label(peer, labels) if peer else self._address_of(target)
            try:
                async with asyncio.timeout(timeout_s), slots:
                    if peer is not None:
                        report = await self._session(peer, direction)
                    else:
                        peer, report = await self._session_at(target, direction)
                        name = distinct_label(peer, self._addresses.node_labels())
            except TimeoutError:
                return _report(peer, name, SyncStatus.TIMED_OUT, report, f"not done within {timeout_s:g} s")
            except TransportError as error:
                if peer is not None:
                    self._connections.table.missed(peer, str(error))
                return _report(peer, name, SyncStatus.UNREACHABLE, report, str(error))
            except EchonodeError as error:
                return _report(peer, name, SyncStatus.FAILED, report, str(error))
            if report.unequal:
                why = "; ".join(f"{context}: {reason}" for context, reason in report.unequal.items())
                return _report(peer, name, SyncStatus.PARTIAL, report, why)
            return _report(peer, name, SyncStatus.VERIFIED, report, "")

        reports = await asyncio.gather(
            *[one(peer, "") for peer in peers], *[one(None, target) for target in targets]
        )
        synced = set(peers)
        return [report for at, report in enumerate(reports) if at < len(peers) or report.peer not in synced]

    def _address_of(self, key: str) -> str:
        target = self._connections.table.targets.get(key)
        return ", ".join(target.addresses) if target is not None else ""

    async def _session_at(self, key: str, direction: Direction) -> tuple[IdentityId, SessionReport]:
        """Run a session with the node at the configured target `key`. Raises what ends it early."""
        target = self._connections.table.targets.get(key)
        if target is None:
            raise TransportError("it has no address")
        if target.peer is not None:  # it was met meanwhile
            return target.peer, await self._session(target.peer, direction)
        try:
            session, log = await self._connections.lead(target.addresses, direction, peer=None, target=key)
            return session.peer.id, log
        except PeerRefused as refused:
            if refused.reason not in (Reason.DUPLICATE_SESSION, Reason.BUSY):
                raise
        await asyncio.sleep(self._connections.entropy.uniform(*_AGAIN_S))  # its own session tells which node that is
        return await self._session_at(key, direction)

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
            try:
                _, log = await connections.lead(list(dict.fromkeys(addresses)), direction, instead, peer=peer)
                return log
            except PeerRefused as refused:
                if refused.reason not in (Reason.DUPLICATE_SESSION, Reason.BUSY):
                    raise
            await asyncio.sleep(connections.entropy.uniform(*_AGAIN_S))


def _report(peer: IdentityId | None, name: str, status: SyncStatus, report: SessionReport, error: str) -> SyncReport:
    return SyncReport(peer=peer, name=name, status=status, conversations=tuple(report.conversations), error=error)
