"""OnDemand: sessions that a person or a program asks for, beside those that the scheduler decides on.

    sync   make two nodes equal now, and report how it went
    pull   list the ids of records that one peer has
    get    fetch some records of one peer
    put    offer one peer some records of ours

Each has a session of its own, one at a time with a peer.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from echonode.errors import EchonodeError, PeerRefused, Reason, TransportError
from echonode.limits import ROUNDS_MAX
from echonode.model.address import distinct_label
from echonode.model.filter import Filter
from echonode.model.identity import IdentityId
from echonode.model.record import LeafKey
from echonode.node.addresses import Addresses
from echonode.node.connections import Connections, Work
from echonode.node.conversations import Conversations
from echonode.node.events import SyncCompleted
from echonode.node.failures import in_words, is_self
from echonode.node.handshake import FoundSelf, Session
from echonode.node.mode_table import GET, PULL, PUT, ModeSpec
from echonode.node.refusals import DECLINED
from echonode.node.session_report import SessionReport
from echonode.node.sync_queue import SyncQueue
from echonode.node.views import SyncReport, SyncStatus
from echonode.sync.conversation import Conversation
from echonode.sync.modes import get, pull, put
from echonode.wire.messages import Direction, RecordRequest

Opening = TypeVar("Opening")
Answer = TypeVar("Answer")

_AGAIN_S: Final = (0.02, 0.2)  # before trying again when both sides dialled at once
_ASK_AGAIN_S: Final = (0.2, 0.6)  # before a context that was not made equal yet is asked for again


class OnDemand:
    """Opens sessions on demand. pull, get and put raise PeerRefused when the peer declines, RemoteError when it breaks
    the protocol, and TransportError when it cannot be reached or `timeout_s` is over."""

    def __init__(self, connections: Connections, conversations: Conversations, addresses: Addresses) -> None:
        self.connections = connections
        self._conversations = conversations
        self._addresses = addresses
        self.queue = SyncQueue()

    async def sync(
        self,
        peers: Sequence[IdentityId],
        direction: Direction,
        timeout_s: float,
        *,
        targets: Sequence[str] = (),
        priority: int = 0,
        total_s: float | None = None,
    ) -> list[SyncReport]:
        """Sync with `peers`, and with the node at each of `targets` (keys of the peer table), all within `timeout_s`.

        Sessions wait for a place in the queue, by `priority`. Return one report for each, in order; one for each peer,
        however it was reached. `total_s`: the time that a report names when it is up, if this is the rest of it.
        A context that another peer is filling, or that is written meanwhile, is asked for again until the time is up.
        Peers that gave us records are compared with once more after the others.
        """
        until_s = asyncio.get_running_loop().time() + timeout_s
        labels = self._addresses.node_labels()  # others may take a peer's place meanwhile
        said_s = total_s or timeout_s
        syncs = [_Sync(peer, distinct_label(peer, labels), direction, said_s) for peer in peers]
        syncs += [_Sync(None, self._address_of(key), direction, said_s, target=key) for key in targets]
        waiting = syncs
        for _ in range(ROUNDS_MAX):
            await asyncio.gather(*[self._make_equal(sync, priority, until_s) for sync in waiting])
            roots = self._roots()
            waiting = [sync for sync in syncs if sync.status is SyncStatus.VERIFIED and sync.roots != roots]
            if direction is not Direction.BOTH or not waiting:
                break
        return [sync.report() for sync in _one_each(syncs)]

    def labels(self) -> dict[IdentityId, str]:
        """Return every peer by the label under which its report has it."""
        labels = self._addresses.node_labels()
        return {peer: distinct_label(peer, labels) for peer in self.connections.table.peers}

    def _address_of(self, key: str) -> str:
        target = self.connections.table.targets.get(key)
        return ", ".join(target.addresses) if target is not None else ""

    def _roots(self) -> dict[str, bytes]:
        store = self._conversations.store
        return {context: store.tree(context).root for context in store.contexts()}

    async def _make_equal(self, sync: "_Sync", priority: int, until_s: float) -> None:
        """Hold sessions with one peer until all is equal, or there is a lasting reason why not. Note the outcome."""
        table, links = self.connections.table, self.connections.links
        has_answered = False
        try:
            async with asyncio.timeout_at(until_s):
                while True:
                    async with self.queue.place(sync.peer or sync.target, priority):
                        report = await self._session_of(sync, is_direct=has_answered)
                    has_answered = True
                    sync.add(report, self._roots())
                    if not report.passing:
                        return
                    await asyncio.sleep(self.connections.entropy.uniform(*_ASK_AGAIN_S))
        except TimeoutError:
            sync.end(SyncStatus.TIMED_OUT, f"not done within {sync.timeout_s:g} s")
        except TransportError as error:
            sync.end(SyncStatus.UNREACHABLE, str(error))
        except PeerRefused as refused:
            is_copy = isinstance(refused, FoundSelf) and refused.is_copy
            sync.end(SyncStatus.FAILED, in_words(refused), is_own=is_self(refused) and not is_copy)
        except EchonodeError as error:
            sync.end(SyncStatus.FAILED, str(error))
        is_silent = sync.status in (SyncStatus.TIMED_OUT, SyncStatus.UNREACHABLE)
        if sync.peer is not None and is_silent and not has_answered:
            table.missed(sync.peer, sync.error)
            links.doubt(sync.peer, sync.error)

    async def _session_of(self, sync: "_Sync", *, is_direct: bool) -> SessionReport:
        """Run one session of `sync`. Raises what ends it early."""
        if sync.peer is not None:
            return await self._session(sync.peer, sync.direction, is_direct=is_direct)
        assert sync.target is not None, "a sync is with a peer or with a target"
        peer, report = await self._session_at(sync.target, sync.direction, is_direct=is_direct)
        sync.meet(peer, distinct_label(peer, self._addresses.node_labels()))
        return report

    async def _session_at(
        self, key: str, direction: Direction, *, is_direct: bool
    ) -> tuple[IdentityId, SessionReport]:
        """Run a session with the node at the configured target `key`. Raises what ends it early."""
        while True:
            target = self.connections.table.targets.get(key)
            if target is None:
                raise TransportError("it is not dialled any more")
            if target.peer is not None:  # it was met meanwhile
                return target.peer, await self._session(target.peer, direction, is_direct=is_direct)
            try:
                session, report = await self.connections.lead(
                    target.addresses, direction, peer=None, target=key, is_direct=is_direct
                )
                return session.peer.id, report
            except PeerRefused as refused:
                if refused.reason not in (Reason.DUPLICATE_SESSION, Reason.BUSY):
                    raise
            await asyncio.sleep(self.connections.entropy.uniform(*_AGAIN_S))  # its own session tells which node it is

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

    async def _session(
        self, peer: IdentityId, direction: Direction, instead: Work | None = None, *, is_direct: bool = False
    ) -> SessionReport:
        """Run a session with `peer`, once any that is under way is over. Raises what ends it early."""
        connections = self.connections
        while True:
            while await connections.registry.wait_until_over(peer):
                pass
            addresses = [address for target in connections.table.targets_of(peer) for address in target.addresses]
            try:
                _, report = await connections.lead(
                    list(dict.fromkeys(addresses)), direction, instead, peer=peer, is_direct=is_direct
                )
                return report
            except PeerRefused as refused:
                if refused.reason not in (Reason.DUPLICATE_SESSION, Reason.BUSY):
                    raise
            await asyncio.sleep(connections.entropy.uniform(*_AGAIN_S))


@dataclass(slots=True)
class _Sync:
    """A sync with one peer, over one or more sessions. `roots`: ours at the end of the last one."""

    peer: IdentityId | None
    name: str
    direction: Direction
    timeout_s: float
    target: str | None = None
    status: SyncStatus = SyncStatus.FAILED
    error: str = ""
    is_own: bool = False  # this very node answers there
    roots: dict[str, bytes] = field(default_factory=dict)
    conversations: list[SyncCompleted] = field(default_factory=list)

    def add(self, report: SessionReport, roots: dict[str, bytes]) -> None:
        """Note a session that came to its end."""
        self.conversations += report.conversations
        self.roots = roots
        why = "; ".join(f"{context}: {reason}" for context, reason in report.unequal.items())
        if not why and not report.is_compared:
            why = "not every context was compared"
        self.status, self.error = SyncStatus.PARTIAL if why else SyncStatus.VERIFIED, why

    def meet(self, peer: IdentityId, name: str) -> None:
        """Note which peer answers at the target."""
        self.peer, self.name = peer, name

    def end(self, status: SyncStatus, error: str, *, is_own: bool = False) -> None:
        """Note that no more sessions come. What the last one found is part of the reason."""
        self.error = f"{error}; {self.error}" if self.error else error
        self.status, self.is_own = status, is_own

    def report(self) -> SyncReport:
        """Return the sync as people see it."""
        return SyncReport(
            peer=self.peer,
            name=self.name,
            status=self.status,
            conversations=tuple(self.conversations),
            error=self.error,
        )


def _one_each(syncs: Sequence[_Sync]) -> list[_Sync]:
    """Return the syncs with peers, and those with other peers that were met at targets; without this very node."""
    met = {sync.peer for sync in syncs if sync.target is None}
    shown = []
    for sync in syncs:
        if sync.target is not None and (sync.is_own or (sync.peer is not None and sync.peer in met)):
            continue
        met.add(sync.peer)
        shown.append(sync)
    return shown
