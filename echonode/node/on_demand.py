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
from echonode.limits import DIALS_MAX, ROUNDS_MAX
from echonode.model.filter import Filter
from echonode.model.identity import IdentityId
from echonode.model.record import LeafKey
from echonode.node.connections import Connections, Work
from echonode.node.conversations import Conversations
from echonode.node.events import SyncCompleted
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
_ASK_AGAIN_S: Final = (0.2, 0.6)  # before a context that was not made equal yet is asked for again


class OnDemand:
    """Opens sessions on demand. pull, get and put raise PeerRefused when the peer declines, RemoteError when it breaks
    the protocol, and TransportError when it cannot be reached or `timeout_s` is over."""

    def __init__(self, connections: Connections, conversations: Conversations) -> None:
        self._connections = connections
        self._conversations = conversations

    async def sync(
        self, peers: Sequence[IdentityId], direction: Direction, timeout_s: float, *, unmet: Sequence[str] = ()
    ) -> list[SyncReport]:
        """Sync with `peers`, and with the targets `unmet`, DIALS_MAX at once, all within `timeout_s`.

        Return one report for each, in order. A context that another peer is filling, or that is written meanwhile, is
        asked for again until the time is up. Peers that gave us records are compared with once more after the others.
        """
        until_s = asyncio.get_running_loop().time() + timeout_s
        slots = asyncio.Semaphore(DIALS_MAX)
        known = self._connections.table.peers
        syncs = [_Sync(peer, known[peer].name if peer in known else "", direction, timeout_s) for peer in peers]
        syncs += [_Sync(None, self._address_of(key), direction, timeout_s, target=key) for key in unmet]
        waiting = syncs
        for _ in range(ROUNDS_MAX):
            await asyncio.gather(*[self._make_equal(sync, slots, until_s) for sync in waiting])
            roots = self._roots()
            waiting = [sync for sync in syncs if sync.status is SyncStatus.VERIFIED and sync.roots != roots]
            if direction is not Direction.BOTH or not waiting:
                break
        met = {sync.peer for sync in syncs if sync.target is None}
        shown = [sync for sync in syncs if sync.target is None or (sync.peer not in met and not sync.is_own)]
        return [sync.report() for sync in shown]

    def _address_of(self, target: str) -> str:
        addresses = self._connections.table.targets[target].addresses
        return addresses[0] if addresses else target

    def _roots(self) -> dict[str, bytes]:
        store = self._conversations.store
        return {context: store.tree(context).root for context in store.contexts()}

    async def _make_equal(self, sync: "_Sync", slots: asyncio.Semaphore, until_s: float) -> None:
        """Hold sessions with one peer until all is equal, or there is a lasting reason why not. Note the outcome."""
        table, links = self._connections.table, self._connections.links
        has_answered = False
        try:
            async with asyncio.timeout_at(until_s):
                while True:
                    async with slots:
                        log = await self._session_of(sync, is_direct=has_answered)
                    has_answered = True
                    sync.add(log, self._roots())
                    if not log.passing:
                        return
                    await asyncio.sleep(self._connections.entropy.uniform(*_ASK_AGAIN_S))
        except TimeoutError:
            sync.end(SyncStatus.TIMED_OUT, f"not done within {sync.timeout_s:g} s")
        except TransportError as error:
            sync.end(SyncStatus.UNREACHABLE, str(error))
        except PeerRefused as refused:
            sync.end(SyncStatus.FAILED, str(refused), is_own=refused.reason is Reason.SELF)
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
        table, key = self._connections.table, sync.target
        assert key is not None, "a sync is with a peer or with a target"
        if key not in table.targets:
            raise TransportError("it is not dialled any more")
        if (peer := table.targets[key].peer) is None:
            stream = await reach(self._connections.dial, table.targets[key].addresses)
            log = await self._connections.lead(stream, sync.direction, target=key)
            peer = table.targets[key].peer if key in table.targets else None
        else:
            log = await self._session(peer, sync.direction, is_direct=is_direct)
        if peer is not None:
            sync.meet(peer, table.peers[peer].name)
        return log

    async def pull(
        self, peer: IdentityId, context: str, wanted: Filter, *, after: int, limit: int, timeout_s: float
    ) -> pull.Pulled:
        """Return the ids of the peer's records that `wanted` takes, from behind `after` in its log.

        They come by whole pages, at least `limit` of them where there are so many.
        """
        return await self._ask(peer, context, PULL, pull.Query(wanted, after, limit), timeout_s)

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

        async def work(session: Session, log: SessionReport) -> None:
            try:
                answers.append(await self._conversations.ask(session, log, context, spec.mode, question))
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
        connections = self._connections
        while True:
            while await connections.registry.wait_until_over(peer):
                pass
            addresses = [address for target in connections.table.targets_of(peer) for address in target.addresses]
            stream = await reach(connections.dial, addresses)
            try:
                return await connections.lead(stream, direction, instead, is_direct=is_direct)
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

    def add(self, log: SessionReport, roots: dict[str, bytes]) -> None:
        """Note a session that came to its end."""
        self.conversations += log.conversations
        self.roots = roots
        why = "; ".join(f"{context}: {reason}" for context, reason in log.unequal.items())
        if not why and not log.is_compared:
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
